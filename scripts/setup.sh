#!/usr/bin/env bash
# Prepares a checkout: Debian packages, npm packages, native addon, TypeScript. Quick when nothing has changed.
#   scripts/setup.sh          what the build and the programs need
#   scripts/setup.sh --tests  also the programs that the tests page
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
. scripts/packages.sh

# --- the machine --------------------------------------------------------------------------------------------
[ "$(uname -s)" = Linux ] || die "leap runs on Linux only, and this is $(uname -s)"
[ "$(uname -m)" = x86_64 ] || die "leap runs on x86_64 only, and this machine is $(uname -m)"
command -v node >/dev/null || die "node is missing: install Node.js 20 or newer with npm, then run this again"
node_major=$(node -p 'process.versions.node.split(".")[0]')
[ "$node_major" -ge 20 ] || die "node is version $(node -v); install Node.js 20 or newer, then run this again"
command -v npm >/dev/null || die "npm is missing: install it beside Node.js, then run this again"

# --- Debian packages ----------------------------------------------------------------------------------------
packages=(gcc g++ make python3 liburing-dev libxxhash-dev libibverbs-dev librdmacm-dev ibverbs-providers)
[ "${1:-}" = --tests ] &&
  packages+=(clang-format cppcheck gdb memtester rdma-core redis-server redis-tools stress-ng util-linux)

if command -v dpkg-query >/dev/null; then
  install_packages "${packages[@]}"
else
  # Not Debian: the compiler and the two libraries may be installed anyway.
  need=()
  for program in gcc g++ make python3; do command -v "$program" >/dev/null || need+=("$program"); done
  for header in liburing.h xxhash.h; do
    echo "#include <$header>" | gcc -E -x c - >/dev/null 2>&1 || need+=("$header")
  done
  [ ${#need[@]} -eq 0 ] ||
    die "missing: ${need[*]}. This is not a Debian system: install them with its package manager, then run this again"
fi

# --- npm packages -------------------------------------------------------------------------------------------
stamp=node_modules/.leap-stamp
wanted="$(sha256sum package-lock.json) node $node_major"
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
  say "installing npm packages"
  npm ci --ignore-scripts --no-audit --no-fund || die "npm ci failed, see above; check that npm reaches its registry"
  printf '%s\n' "$wanted" >"$stamp"
fi

exec scripts/build.sh
