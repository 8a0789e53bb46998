#!/usr/bin/env bash
# Style and static checks: eslint and prettier for TypeScript, clang-format and cppcheck for C and C++.
#   npm run lint                  check
#   npm run lint -- --fix         format, and fix what eslint can fix
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

mapfile -t native < <(git ls-files --cached --others --exclude-standard '*.c' '*.cc' '*.h')
case "${1:-}" in
  '')
    eslint .
    prettier --check --log-level warn .
    clang-format --dry-run -Werror "${native[@]}"
    ;;
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
cppcheck --quiet --error-exitcode=1 --std=c++17 --language=c++ --inline-suppr --suppress=missingIncludeSystem \
  --enable=warning,performance,portability -I native -j 2 native --suppress=normalCheckLevelMaxBranches
