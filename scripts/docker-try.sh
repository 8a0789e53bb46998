#!/usr/bin/env bash
# Builds the image and runs it for real, with nothing pulled: base images are made from Debian's packages and this machine's Node, and Docker runs
# apart from any other (own socket and store), without bridge and iptables.
#   scripts/docker-try.sh             build; leapd in a container pages a process of this machine to a swap file
#   scripts/docker-try.sh --rdma      the same, then donor and leapd in containers in the Soft-RoCE VM, with compose.yaml
# Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'docker-try: %s\n' "$*"; }
die() { printf 'docker-try: %s\n' "$*" >&2; exit 1; }
. scripts/packages.sh
[ "$(id -u)" -eq 0 ] || die "needs root: it runs a Docker of its own"

store=${XDG_CACHE_HOME:-$HOME/.cache}/leap-docker
work=$(mktemp -d)
export DOCKER_HOST=unix://$work/docker.sock
children=()
finish() {
  local child
  for child in "${children[@]}"; do kill "$child" 2>/dev/null && wait "$child" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

# await SECONDS WHAT COMMAND...: until the command is true.
await() {
  local seconds=$1 what=$2 left=$(($1 * 5))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $((left -= 1)) -gt 0 ] || die "$what: not within $seconds s"
    sleep 0.2
  done
}

start_docker() { # STORE
  mkdir -p "$1"
  dockerd --iptables=false --bridge=none --data-root "$1" --exec-root "$work/exec" --host "$DOCKER_HOST" --pidfile "$work/docker.pid" >"$work/dockerd.log" 2>&1 &
  children+=($!)
  await 120 "dockerd does not answer, see $work/dockerd.log" docker version || { tail -n 20 "$work/dockerd.log" >&2; exit 1; }
}
has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# What a pull of debian:12-slim would bring.
make_base() {
  say "making a base image from Debian's packages"
  debootstrap --variant=minbase bookworm "$work/base" >"$work/debootstrap.log" 2>&1 || { tail -n 5 "$work/debootstrap.log" >&2; die "debootstrap failed"; }
  rm -rf "$work"/base/var/cache/apt/* "$work"/base/var/lib/apt/lists/* "$work"/base/usr/share/{doc,man,locale}/*
  cp /etc/apt/sources.list "$work/base/etc/apt/" 2>/dev/null || true
  tar -C "$work/base" -c . | docker import - leap-base:local >/dev/null
  rm -rf "$work/base"
}

# What a pull of node:20-bookworm-slim would bring, of this machine: node, npm, headers, and the certificates that npm trusts here.
make_node() {
  say "making an image of this machine's Node"
  local at=$work/node/usr/local prefix modules cafile
  prefix=$(dirname "$(dirname "$(node -p process.execPath)")")
  modules=$(npm root -g)
  mkdir -p "$at"/{bin,lib/node_modules,include,etc}
  cp "$(node -p process.execPath)" "$at/bin/node"
  cp -r "$modules/npm" "$at/lib/node_modules/npm"
  cp -r "$prefix/include/node" "$at/include/node"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$at/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$at/bin/npx"
  cafile=$(npm config get cafile 2>/dev/null)
  if [ -f "$cafile" ]; then
    cp -L "$cafile" "$at/etc/npm-ca.crt"
    echo "cafile=/usr/local/etc/npm-ca.crt" >"$at/etc/npmrc"
  fi
  tar -C "$work/node" -c . | docker import - leap-node:local >/dev/null
  rm -rf "$work/node"
}

build() {
  install_packages docker.io debootstrap gcc
  start_docker "$store"
  has_image leap-base:local || make_base
  has_image leap-node:local || make_node
  say "docker build"
  DOCKER_BUILDKIT=0 docker build --network host --build-arg BASE=leap-base:local --build-arg NODE=leap-node:local -t leap . >"$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log" >&2; die "docker build failed"; }
  say "the image has $(docker image inspect -f '{{.Size}}' leap | awk '{printf "%.0f MB", $1 / 1e6}'), of them $(
    docker image inspect -f '{{.Size}}' leap-base:local | awk '{printf "%.0f MB", $1 / 1e6}') base and $(
    stat -c %s "$(node -p process.execPath)" | awk '{printf "%.0f MB", $1 / 1e6}') Node"
}
