#!/usr/bin/env bash
# Builds the native addon and the TypeScript, if they have changed.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

die() { printf 'build: %s\n' "$*" >&2; exit 1; }
command -v tsc >/dev/null || die "node_modules is missing: run scripts/setup.sh first"

# node-gyp and tsc take seconds to find that nothing has changed; a checksum of their inputs is faster.
sum_of() { { cat "$@"; node -p 'process.versions.node'; } | sha256sum; }
is_current() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

native=$(sum_of binding.gyp native/*/*.cc native/*/*.h)
if [ ! -f build/Release/leap.node ] || ! is_current build/.leap-stamp "$native"; then
  echo "build: compiling the native addon"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  # Through npx, so that npm's settings reach node-gyp. A Node that is installed with its headers needs no download.
  prefix=$(dirname "$(dirname "$(node -p process.execPath)")")
  headers=()
  [ -f "$prefix/include/node/node_version.h" ] && headers=(--nodedir="$prefix")
  npx --no-install node-gyp configure build "${headers[@]}" >"$log" 2>&1 ||
    { cat "$log" >&2; die "the native addon does not compile, see above"; }
  printf '%s\n' "$native" >build/.leap-stamp
fi

sources() {
  find . \( -name node_modules -o -name dist -o -name build -o -name .git \) -prune -o -name '*.ts' -print0 | sort -z
}
script=$(sources | xargs -0 cat tsconfig.json package-lock.json | sum_of -)
if ! is_current dist/.leap-stamp "$script"; then
  tsc
  chmod +x dist/daemon/leapd.js dist/daemon/leapctl.js dist/server/leap-memserver.js dist/lab/leap-lab.js
  printf '%s\n' "$script" >dist/.leap-stamp
fi
