# The first process of the Soft-RoCE VM after init: a network interface with an rxe device on it, then one job, then the
# end. The job is a directory of the host with the files argv and environment (each entry ended by a NUL; without argv,
# a shell) and directory (where it runs). Its output leaves by two serial ports, its exit status by a third; the console
# is the kernel's.
job=$1

port() { # NAME: the device of a serial port; there is no udev to link it
  local entry
  for entry in /sys/class/virtio-ports/*; do
    [ "$(cat "$entry/name" 2>/dev/null)" = "$1" ] && echo "/dev/${entry##*/}"
  done
}
exec 9>"$(port leap.status)"
finish() { # STATUS
  echo "status $1" >&9
  echo b >/proc/sysrq-trigger
  sleep 10
}
broken() { echo "broken $*" >&9; finish 125; }

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
echo leap-rxe >/proc/sys/kernel/hostname
grep -q leap-rxe /etc/hosts || echo "127.0.1.1 leap-rxe" >>/etc/hosts

ip link set lo up || broken "no loopback"
ip link add rdma-net type dummy || broken "no dummy network"
ip link set rdma-net addrgenmode none up
for last in 1 2 3 4 5 6; do ip addr add "10.9.0.$last/24" dev rdma-net || broken "no address 10.9.0.$last"; done
for last in 1 2 3 4; do ip -6 addr add "fd00:9::$last/64" dev rdma-net nodad || broken "no address fd00:9::$last"; done
rdma link add rxe0 type rxe netdev rdma-net || broken "no rxe device"
chmod 666 /dev/infiniband/uverbs* /dev/infiniband/rdma_cm # as rdma-core's udev rules do
ulimit -l unlimited
ulimit -n 65536

mapfile -d '' -t environment <"$job/environment"
mapfile -d '' -t argv 2>/dev/null <"$job/argv" || argv=()
cd "$(cat "$job/directory")" || broken "no directory $(cat "$job/directory")"
echo "started $(cut -d ' ' -f 1 /proc/uptime)" >&9

if [ ${#argv[@]} -eq 0 ]; then
  env -i "${environment[@]}" LEAP_RXE=1 setsid --ctty --wait \
    bash --rcfile scripts/rxe/shell.rc -i </dev/hvc0 >/dev/hvc0 2>&1 9>&-
  finish $?
fi

# Through pipes: a program may open its own /dev/stdout again, and a serial port cannot be opened twice.
mkfifo /run/leap-rxe.out /run/leap-rxe.err
cat /run/leap-rxe.out >"$(port leap.out)" 9>&- & out=$!
cat /run/leap-rxe.err >"$(port leap.err)" 9>&- & err=$!
env -i "${environment[@]}" LEAP_RXE=1 setsid --wait "${argv[@]}" </dev/null >/run/leap-rxe.out 2>/run/leap-rxe.err 9>&-
status=$?
# Processes that the job left running may hold the pipes: wait for a bounded time only.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  kill -0 $out 2>/dev/null || kill -0 $err 2>/dev/null || break
  sleep 0.2
done
finish $status
