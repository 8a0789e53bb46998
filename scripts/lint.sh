#!/usr/bin/env bash
# Style and static checks: line widths, eslint and prettier for TypeScript, clang-format and cppcheck for C and C++.
#   npm run lint                  check: one line a check, `ok NAME` or `not ok NAME`; findings on standard error
#   npm run lint -- --fix         format, and fix what eslint can fix; then check
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
export PATH="$PWD/node_modules/.bin:$PATH"

sources() { git ls-files --cached --others --exclude-standard -- "$@"; }
mapfile -t native < <(sources '*.c' '*.cc' '*.h')
failed=0

check() { # name command...
  local name=$1 findings
  shift
  if findings=$("$@" 2>&1); then
    echo "ok $name"
  else
    failed=1
    echo "not ok $name"
    printf '%s\n' "$findings" >&2
  fi
}

# Lines of more than 120 columns. Rows of tables, lines with a URL, and lines of code that are too long only because of
# a string or a regular expression, which a formatter cannot break, do not count.
widths() {
  local wide
  wide=$(sources '*.ts' '*.cc' '*.h' '*.c' '*.sh' '*.md' |
    LC_ALL=C.UTF-8 xargs grep -nP '^(?!\s*\|)(?!.*https?://).{121,}$' /dev/null |
    grep -vP "^[^:]+\.(ts|sh):\d+:(?!\s*(//|#|\*|/\*)).*['\"\`/]")
  [ -z "$wide" ] || { printf '%s\n' "$wide"; return 1; }
}

case "${1:-}" in
  '') ;;
  --fix)
    eslint --fix .
    prettier --write --log-level warn .
    clang-format -i "${native[@]}"
    ;;
  *)
    echo "lint: unknown argument $1; the only argument is --fix" >&2
    exit 2
    ;;
esac
check widths widths
check eslint eslint .
check prettier prettier --check --log-level warn .
check clang-format clang-format --dry-run -Werror "${native[@]}"
check cppcheck cppcheck --quiet --error-exitcode=1 --std=c++17 --language=c++ --inline-suppr -I native -j 2 \
  --enable=warning,performance,portability --suppress=missingIncludeSystem \
  --suppress=normalCheckLevelMaxBranches native
exit $failed
