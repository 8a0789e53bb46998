#!/usr/bin/env bash
# Makes the files that the Soft-RoCE VM boots: a stock Debian kernel, and an initial file system that hands over to this
# machine's own root. Prints the directory that holds them: vmlinux, initrd, and modules/ for modprobe in the guest.
# Cached in ${XDG_CACHE_HOME:-~/.cache}/leap-rxe.
#   LEAP_RXE_KERNEL=linux-image-...  another kernel package than linux-image-amd64
# Exit status 3: this machine cannot run the VM; the last line on standard error says why.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$PATH:/usr/sbin:/sbin"

say() { printf 'rxe: %s\n' "$*" >&2; }
die() { printf 'rxe: %s\n' "$*" >&2; exit 3; }
. "$here/../packages.sh"

command -v dpkg-query >/dev/null ||
  die "this is not a Debian system, and the VM's kernel, QEMU and busybox come from Debian packages"
install_packages qemu-system-x86 busybox-static cpio kmod xz-utils \
  rdma-core iproute2 perftest rdmacm-utils ibverbs-utils

# Loaded at boot, in this order, with their dependencies. rxe needs crc32_generic at run time, which modprobe does not
# know.
at_boot=(virtio_pci virtio_console 9pnet_virtio 9p overlay crc32_generic dummy rdma_rxe ib_uverbs rdma_ucm)
# Modules that modprobe may load in the guest.
on_demand=(loop ext4 zram)

# --- which kernel -------------------------------------------------------------------------------------------
meta=${LEAP_RXE_KERNEL:-linux-image-amd64}
find_kernel() {
  package=$(apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image-/ {print $2; exit}')
  package=${package:-$meta} # the name may be that of a kernel package itself
  version=$(apt-cache policy "$package" 2>/dev/null | awk '/Candidate:/ {print $2}')
  [ -n "$version" ] && [ "$version" != '(none)' ]
}
# The package lists of a fresh machine are empty or old.
find_kernel || { as_root apt-get update >/dev/null 2>&1 && find_kernel; } || die "apt knows no kernel package $meta"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/leap-rxe
key=$({ echo "$package $version"; cat "$here/build.sh" "$here/init"; } | sha256sum | cut -c1-12)
made=$cache/$package-$key
if [ -d "$made" ]; then
  touch "$made"
  echo "$made"
  exit 0
fi

# --- make it aside and rename it into place: two builds may run at once -------------------------------------
mkdir -p "$cache"
work=$(mktemp -d "$cache/.making-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
say "fetching $package $version"
fetch() { apt-get download "$package=$version" >fetch.log 2>&1; }
fetch || { as_root apt-get update >/dev/null 2>&1 && find_kernel && fetch; } ||
  { cat fetch.log >&2; die "apt could not download $package"; }
dpkg -x ./*.deb kernel
release=$(ls kernel/lib/modules)
depmod -b kernel "$release"

tree=initrd.d
mkdir -p out/modules/lib/modules "$tree"/{bin,modules,proc,sys,dev,lower,upper,root}
copy_module() { # FILE TARGET, unpacked
  mkdir -p "$(dirname "$2")"
  case $1 in
    *.xz) xz -dc "$1" >"${2%.xz}" ;;
    *) cp "$1" "$2" ;;
  esac
}
files_of() { modprobe -d kernel -S "$release" --show-depends "$1" | awk '$1 == "insmod" {print $2}'; }
order=()
for module in "${at_boot[@]}"; do
  for file in $(files_of "$module"); do
    name=$(basename "$file" .xz)
    case " ${order[*]:-} " in *" $name "*) continue ;; esac
    order+=("$name")
    copy_module "$file" "$tree/modules/$name"
  done
done
for module in "${at_boot[@]}" "${on_demand[@]}"; do
  for file in $(files_of "$module"); do
    copy_module "$file" "out/modules/lib/${file#*kernel/lib/}"
  done
done
cp kernel/lib/modules/"$release"/modules.{order,builtin,builtin.modinfo} "out/modules/lib/modules/$release/"
depmod -b out/modules "$release"

cp "$(command -v busybox)" "$tree/bin/busybox"
install -m 755 "$here/init" "$tree/init"
printf '%s\n' "${order[@]}" | sed 's/^dummy\.ko$/& numdummies=0/' >"$tree/modules/order"
(cd "$tree" && find . -print0 | cpio -o -0 -H newc --quiet) >out/initrd

# The unpacked kernel: under emulation unpacking takes seven seconds at every boot. If it is not found, the image as it
# is.
image=$(ls kernel/boot/vmlinuz-*)
offset=$(LC_ALL=C grep -abo -P -m 1 '\xFD7zXZ\x00' "$image" | head -n 1 | cut -d : -f 1 || true)
[ -z "$offset" ] || tail -c "+$((offset + 1))" "$image" | xz -dc --single-stream >out/vmlinux 2>/dev/null || true
head -c 4 out/vmlinux 2>/dev/null | grep -q ELF || cp "$image" out/vmlinux

mv -T out "$made" 2>/dev/null || [ -d "$made" ] # another build was quicker
find "$cache" -mindepth 1 -maxdepth 1 -mtime +14 -exec rm -rf {} +
echo "$made"
