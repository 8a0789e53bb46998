#!/usr/bin/env bash
# Builds the native addon and the TypeScript; does only what has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

die() { printf 'build: %s\n' "$*" >&2; exit 1; }
command -v tsc >/dev/null || die "node_modules is missing: run scripts/setup.sh first"

# node-gyp's own makefile knows which sources have changed; configuring is needed once, and when binding.gyp or Node has changed.
configured="$(sha256sum binding.gyp) node $(node -p 'process.versions.node')"
stamp=build/.leap-configured
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() { "$@" >"$log" 2>&1 || { cat "$log" >&2; die "failed: $*"; }; }
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$configured" ]; then
  run node-gyp configure
  printf '%s\n' "$configured" >"$stamp"
fi
run node-gyp build

tsc
chmod +x dist/daemon/leapd.js dist/daemon/leapctl.js
