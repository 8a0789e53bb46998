# Installs Debian packages. To be sourced by a script that defines say() and die().

installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

# as_root COMMAND...: runs it as root, through sudo for other users.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# install_packages PACKAGE...: installs those that are missing, or dies. In a subshell, for the trap.
install_packages() (
  need=()
  for package in "$@"; do installed "$package" || need+=("$package"); done
  [ ${#need[@]} -gt 0 ] || exit 0
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
    die "missing Debian packages: ${need[*]}. Install them as root: apt-get install ${need[*]}"
  fi
  say "installing ${need[*]}"
  log=$(mktemp)
  policy=/usr/sbin/policy-rc.d
  made_policy=no
  clean_up() {
    rm -f "$log"
    [ "$made_policy" = no ] || as_root rm -f "$policy"
  }
  trap clean_up EXIT
  # The services of the packages (redis, docker) are not started, now or at the next boot: our scripts start their own.
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"
    made_policy=yes
  fi
  apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y \
      --no-install-recommends "${need[@]}" >"$log" 2>&1
  }
  # The package lists of a fresh machine are empty or old; they are fetched only when the first attempt fails.
  apt_install || { as_root apt-get update >/dev/null 2>&1 && apt_install; } || {
    tail -n 15 "$log" >&2
    die "apt could not install: ${need[*]}. Install them by hand, then run this again"
  }
  case " ${need[*]} " in
    *" redis-server "*)
      as_root systemctl disable redis-server >/dev/null 2>&1 || say "there is no redis-server service to switch off"
      ;;
  esac
)
