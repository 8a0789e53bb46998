#!/bin/sh
# Builds every native/test/*_test.cc and runs it, plainly and under the address and undefined-behaviour sanitizers.
#   native/test/run.sh [--plain | --sanitized] [--only-build | --only-run] [name ...]     names without _test.cc; all by default
# One line a case: ok, not ok, skip. Exit status 1 when anything failed.
set -u
cd "$(dirname "$0")/.." || exit 1
variants="plain sanitized"
case "${1:-}" in
  --plain) variants=plain; shift ;;
  --sanitized) variants=sanitized; shift ;;
esac
build=yes run=yes
case "${1:-}" in
  --only-build) run=no; shift ;;
  --only-run) build=no; shift ;;
esac
[ $# -gt 0 ] || set -- $(cd test && ls ./*_test.cc | sed 's|^\./||; s|_test\.cc$||')
cxx=${CXX:-g++}
common="-std=c++17 -Wall -Wextra -Werror -D_GNU_SOURCE -g"
failed=0

# An object is built again when its source or any header is newer.
compile() { # source object flags...
  source=$1; object=$2; shift 2
  if [ ! -e "$object" ] || [ "$source" -nt "$object" ] || [ -n "$(find . -name '*.h' -newer "$object")" ]; then
    # shellcheck disable=SC2086
    $cxx $common "$@" -c "$source" -o "$object"
  fi
}

for variant in $variants; do
  case $variant in
    plain) flags="-O2" ;;
    sanitized) flags="-O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all" ;;
  esac
  out=../.cache/native-$variant
  mkdir -p "$out"
  objects=
  for source in *.cc; do
    if [ "$source" = addon.cc ] || [ $build = no ]; then continue; fi
    objects="$objects $out/${source%.cc}.o"
    # shellcheck disable=SC2086
    compile "$source" "$out/${source%.cc}.o" $flags || { echo "not ok build_${source%.cc} does not compile ($variant)"; failed=1; }
  done
  for name in "$@"; do
    # shellcheck disable=SC2086
    if [ $build = no ] || { compile "test/${name}_test.cc" "$out/${name}_test.o" $flags &&
      $cxx $common $flags "$out/${name}_test.o" $objects -luring -lxxhash -lpthread -o "$out/${name}_test"; }; then
      [ $run = yes ] || continue
      echo "# $name ($variant)"
      ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1} timeout 300 "$out/${name}_test" || { echo "# $name ($variant) failed, status $?"; failed=1; }
    else
      echo "not ok build_${name}_test does not compile ($variant)"
      failed=1
    fi
  done
done
exit $failed
