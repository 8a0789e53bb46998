#!/bin/sh
# Compiles the targets to build/targets (or $1). Only what is older than its source is built again. CFLAGS is added,
# e.g. CFLAGS=-fsanitize=address.
set -eu
cd "$(dirname "$0")/../.."
out=${1:-build/targets}
mkdir -p "$out"
compile() { # target, flags...
  target=$1; shift
  source=test/targets/$target.c
  if [ "$out/$target" -nt "$source" ] && [ "$out/$target" -nt test/targets/target.h ] && [ "$out/$target" -nt test/targets/build.sh ]; then return; fi
  "${CC:-gcc}" -std=gnu11 -O2 -g -Wall -Wextra -Werror "$@" -o "$out/$target.new$$" "$source"
  mv "$out/$target.new$$" "$out/$target" # at once: another run may be starting it
}
for source in test/targets/*.c; do
  target=$(basename "$source" .c)
  case $target in
    narrow32) compile "$target" -m32 -ffreestanding -nostdlib -static -no-pie -fno-pic -fno-stack-protector -Wno-pointer-to-int-cast ;;
    *) compile "$target" -pthread ${CFLAGS:-} ;;
  esac
done
