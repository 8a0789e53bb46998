#!/usr/bin/env bash
# Builds the image and runs it on a real Docker without pulling an image: base images are made from Debian's packages
# and this machine's Node. The Docker daemon has its own socket and store, and runs without bridge and iptables.
#   scripts/docker-try.sh             build; leapd in a container pages a process of this machine to a swap file
#   scripts/docker-try.sh --rdma      the same, then donor and leapd in containers in the Soft-RoCE VM (compose.yaml)
# Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'docker-try: %s\n' "$*"; }
die() { printf 'docker-try: %s\n' "$*" >&2; exit 1; }
. scripts/packages.sh
[ "$(id -u)" -eq 0 ] || die "this runs a Docker daemon of its own: run it as root"

store=${XDG_CACHE_HOME:-$HOME/.cache}/leap-docker
work=$(mktemp -d)
export DOCKER_HOST=unix://$work/docker.sock
children=()
finish() {
  local child
  for child in "${children[@]}"; do kill "$child" 2>/dev/null && wait "$child" 2>/dev/null || true; done
  umount "$work/exec/netns/default" 2>/dev/null || true # dockerd leaves it mounted
  rm -rf "$work"
}
trap finish EXIT

# await SECONDS WHAT COMMAND...: waits until the command succeeds; fails after SECONDS. Under emulation the command
# itself takes seconds.
await() {
  local what=$2 seconds=$1 until=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || { say "$what: not within $seconds s" >&2; return 1; }
    sleep 0.5
  done
}

start_docker() { # STORE
  mkdir -p "$1"
  dockerd --iptables=false --bridge=none --data-root "$1" --exec-root "$work/exec" --host "$DOCKER_HOST" \
    --pidfile "$work/docker.pid" \
    >"$work/dockerd.log" 2>&1 &
  children+=($!)
  await 120 "dockerd answers" docker version || { tail -n 20 "$work/dockerd.log" >&2; exit 1; }
}
has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# An image like debian:12-slim.
make_base() {
  say "making a base image from Debian's packages"
  debootstrap --variant=minbase bookworm "$work/base" >"$work/debootstrap.log" 2>&1 ||
    { tail -n 5 "$work/debootstrap.log" >&2; die "debootstrap failed"; }
  rm -rf "$work"/base/var/cache/apt/* "$work"/base/var/lib/apt/lists/* "$work"/base/usr/share/{doc,man,locale}/*
  cp /etc/apt/sources.list "$work/base/etc/apt/" 2>/dev/null || true
  tar -C "$work/base" -c . | docker import - leap-base:local >/dev/null
  rm -rf "$work/base"
}

# An image like node:20-bookworm-slim, of this machine's node, npm, headers, and the certificates that npm trusts here.
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
  DOCKER_BUILDKIT=0 docker build --network host --build-arg BASE=leap-base:local --build-arg NODE=leap-node:local \
    -t leap . >"$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log" >&2; die "docker build failed"; }
  say "the image has $(docker image inspect -f '{{.Size}}' leap | awk '{printf "%.0f MB", $1 / 1e6}'), of them $(
    docker image inspect -f '{{.Size}}' leap-base:local | awk '{printf "%.0f MB", $1 / 1e6}') base and $(
    stat -c %s "$(node -p process.execPath)" | awk '{printf "%.0f MB", $1 / 1e6}') Node"
}

# start_program MEBIBYTES: starts the demo program. A line to descriptor 3 lets it go on; its output is in
# $work/program.
start_program() { # MEBIBYTES
  alone=$(printf '\n\n\n' | build/demo-program "$1" 1 | grep checksum)
  mkfifo "$work/go"
  build/demo-program "$1" 1 <"$work/go" >"$work/program" &
  program=$!
  children+=("$program")
  exec 3>"$work/go"
  await 120 "the program has filled its memory" grep -q ready "$work/program"
}

# Lets the program work under leapd, ends leapd, and checks that counters moved and that every byte is right.
work_under() { # CONTAINER COUNTER...: which must not be 0
  local container=$1 stats counter moved figures=
  shift
  echo >&3
  await 600 "the program has worked" grep -q worked "$work/program"
  stats=$(docker exec "$container" leapctl stats "$program" --json)
  docker stop -t 120 "$container" >/dev/null
  [ "$(docker inspect -f '{{.State.ExitCode}}' "$container")" = 0 ] ||
    { docker logs "$container" >&2; die "leapd in its container failed, see its log above"; }
  docker rm "$container" >/dev/null
  echo >&3
  await 300 "the program has checked its memory" grep -q checksum "$work/program"
  exec 3>&-
  rm "$work/go"
  grep -qxF "$alone" "$work/program" || die "the program's memory has changed"
  for counter in "$@"; do
    moved=$(grep -o "\"$counter\":[0-9]*" <<<"$stats" | cut -d : -f 2 || true)
    [ "${moved:-0}" -gt 0 ] || die "$counter is ${moved:-missing}: no page was moved"
    figures+="$counter $moved, "
  done
  say "${figures}the program took $(awk '/worked/ {print $2}' "$work/program") s, and its memory is unchanged"
}

# Containers get their devices and capabilities from compose.yaml.
compose() {
  if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}
# True also when the container has ended or was restarted: waiting longer is useless then.
said() { docker logs "$1" 2>&1 | grep -q "$2"; }
said_or_ended() {
  said "$1" "$2" || [ "$(docker inspect -f '{{.State.Status}} {{.RestartCount}}' "$1")" != "running 0" ]
}
await_log() { # SECONDS CONTAINER TEXT
  await "$1" "$2 says \"$3\"" said_or_ended "$2" "$3" && said "$2" "$3" ||
    { docker logs "$2" >&2; die "$2 did not say: $3"; }
}

# On this machine, without RDMA: the swap file.
try_here() {
  say "leapd in a container, a process of this machine, a swap file"
  mkdir -p build /run/leap
  gcc -O2 -o build/demo-program scripts/demo-program.c
  start_program 64
  docker run -d --name leap-try --pid host --network host --cap-drop ALL --cap-add SYS_PTRACE \
    --security-opt seccomp=unconfined --security-opt apparmor=unconfined --device /dev/userfaultfd \
    -v /run/leap:/run/leap -v /var/tmp:/var/tmp \
    leap leapd --pid "$program" --local-memory 50% >/dev/null
  await_log 30 leap-try "paging process"
  work_under leap-try evictions
}

# borrow_images STORE FROM: makes a store in memory that uses the images of the read-only store FROM. Their files stay
# where they are, because copying or loading them takes minutes under emulation; only metadata is copied. Files that a
# layer deletes from the one below reappear; our Dockerfile deletes none.
borrow_images() { # STORE FROM
  local committed layer own
  mkdir -p "$1/overlay2"
  cp -r "$2/image" "$1/"
  cp -r "$2/overlay2/l" "$1/overlay2/"
  for committed in "$2"/overlay2/*/committed; do
    layer=$(dirname "$committed")
    own=$1/overlay2/$(basename "$layer")
    mkdir -p "$own/work"
    ln -s "$layer/diff" "$own/diff"
    find "$layer" -maxdepth 1 -type f -exec cp {} "$own/" ';'
  done
}

# In the VM, over RDMA, with the settings of compose.yaml.
try_in_vm() { # STORE: of the host
  borrow_images /run/leap-docker "$1"
  start_docker /run/leap-docker
  say "RDMA as the donor's user with the donor's devices and limits: rping between two containers"
  verbs=(--network host --device /dev/infiniband --ulimit memlock=-1 --user leap --cap-drop ALL --read-only
    -v /usr/bin/rping:/usr/bin/rping:ro)
  docker run -d --name leap-rping "${verbs[@]}" leap rping -s -a 10.9.0.2 -C 5 >/dev/null
  await 60 "rping between containers" docker run --rm "${verbs[@]}" leap rping -c -a 10.9.0.2 -C 5
  docker rm -f leap-rping >/dev/null

  say "docker compose up: a donor"
  mkdir -p /run/leap
  printf '1\n10.9.0.2:9400\n' >"$work/portal.txt"
  export LEAP_LISTEN=10.9.0.2:9400 LEAP_MEMORY=256M LEAP_CHUNK=64M LEAP_RESERVE=128M LEAP_PORTAL=$work/portal.txt
  compose up -d donor
  donor=$(docker ps -aq --filter label=com.docker.compose.service=donor)
  await_log 180 "$donor" "lending memory"
  say "docker compose run: leapd"
  start_program 32
  # The service's command, with few frames: most pages of so small a program would otherwise stay in leapd's frames.
  compose run -d --name leap-try leapd \
    leapd --portal /portal.txt --pid "$program" --local-memory 25% --prefetch-buffer 500
  await_log 180 leap-try "paging process"
  await_log 180 leap-try "holds pages now"
  docker exec "$donor" leap-memserver status
  work_under leap-try remoteReads remoteWrites
}

case "${1:-}" in
  --in-vm) try_in_vm "$2" ;;
  --rdma | '')
    build
    try_here
    [ -n "${1:-}" ] || exit 0
    install_packages docker-compose
    node dist/scripts/rxe/run.js --timeout 1200 bash scripts/docker-try.sh --in-vm "$store"
    ;;
  *) die "unknown option $1; the only option is --rdma" ;;
esac
