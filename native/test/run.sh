#!/bin/sh
# Builds every native/test/*_test.cc and runs it, plainly and under the address and undefined-behaviour sanitizers.
#   native/test/run.sh [--plain | --sanitized] [--build | --built] [name ...]     names without _test.cc; all by default
# --build only builds, --built only runs what has been built (elsewhere: in a slow virtual machine).
# fabric_test and remote_test use the addresses of the Soft-RoCE VM. They run only there (LEAP_RXE=1, npm run test:rxe)
# or when they are named.
# Prints one line a case: ok, not ok, skip. Exit status 1 when anything failed.
set -u
cd "$(dirname "$0")/.." || exit 1
variants="plain sanitized"
case "${1:-}" in
  --plain) variants=plain; shift ;;
  --sanitized) variants=sanitized; shift ;;
esac
build=yes run=yes
case "${1:-}" in
  --build) run=no; shift ;;
  --built) build=no; shift ;;
esac
if [ $# -eq 0 ]; then
  for file in test/*_test.cc; do
    name=$(basename "$file" _test.cc)
    case $name in fabric | remote) [ "${LEAP_RXE:-}" = 1 ] || continue ;; esac
    set -- "$@" "$name"
  done
fi
cxx=${CXX:-g++}
common="-I. -std=c++17 -Wall -Wextra -Wformat -Wformat-security -Werror -D_GNU_SOURCE -g"
common="$common -fstack-protector-strong -fstack-clash-protection -fcf-protection -Wl,-z,relro,-z,now"
libraries="-luring -lxxhash -lpthread"
if [ "$(CXX=$cxx sh has_rdma.sh)" = 1 ]; then
  common="$common -DLEAP_RDMA"
  libraries="$libraries -lrdmacm -libverbs"
fi
failed=0

# Both variants are built side by side, and run one after the other.
if [ "$build $run $variants" = "yes yes plain sanitized" ]; then
  sh test/run.sh --plain --build "$@" &
  sh test/run.sh --sanitized --build "$@" || failed=1
  wait $! || failed=1
  [ $failed = 0 ] || exit 1
  build=no
fi

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
    plain) flags="-O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3" ;; # the address sanitizer has checks of its own
    sanitized) flags="-O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all" ;;
  esac
  out=../.cache/native-$variant
  mkdir -p "$out"
  objects=
  for source in */*.cc; do
    case $source in addon/* | test/*) continue ;; esac
    [ $build = yes ] || continue
    name=$(basename "$source" .cc)
    objects="$objects $out/$name.o"
    # shellcheck disable=SC2086
    compile "$source" "$out/$name.o" $flags || { echo "not ok build_$name does not compile ($variant)"; failed=1; }
  done
  for name in "$@"; do
    # shellcheck disable=SC2086
    if [ $build = no ] || { compile "test/${name}_test.cc" "$out/${name}_test.o" $flags &&
      $cxx $common $flags "$out/${name}_test.o" $objects $libraries -o "$out/${name}_test"; }; then
      [ $run = yes ] || continue
      echo "# $name ($variant)"
      ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1} timeout 300 "$out/${name}_test" ||
        { echo "# $name ($variant) failed, status $?"; failed=1; }
    else
      echo "not ok build_${name}_test does not compile ($variant)"
      failed=1
    fi
  done
done
exit $failed
