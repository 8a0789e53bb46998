#!/usr/bin/env bash
# Runs in the Soft-RoCE VM (npm run rxe -- demo): two donors, a program that checks its own memory, and leapd.
#   scripts/rxe/demo.sh [MEBIBYTES]
# The VM is emulated where there is no KVM: each wait allows for a busy machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "${LEAP_RXE:-}" = 1 ] || { echo "demo: this runs in the VM: npm run rxe -- demo" >&2; exit 2; }
mebibytes=${1:-32}
work=$(mktemp -d)
children=()
finish() {
  for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

step() { printf '\n== %s\n' "$*"; }
# await SECONDS FILE PATTERN PROCESS: waits for a line in the output of the process.
await() {
  local left=$(($1 * 5))
  until grep -q "$3" "$2" 2>/dev/null; do
    if ! kill -0 "$4" 2>/dev/null || [ $((left -= 1)) -le 0 ]; then
      echo "demo: no $3 in $2:" >&2
      tail -n 20 "$2" >&2
      exit 1
    fi
    sleep 0.2
  done
}

step "two donors on one Soft-RoCE device, 256 MiB each"
for last in 2 3; do
  node dist/server/leap-memserver.js --listen "10.9.0.$last:9400" --memory 256M --chunk 64M --reserve 128M \
    --status "$work/status$last" >"$work/donor$last" 2>&1 &
  children+=($!)
  await 90 "$work/donor$last" "lending memory" $!
done
printf '2\n10.9.0.2:9400\n10.9.0.3:9400\n' | tee "$work/portal.txt"

step "a program with $mebibytes MiB"
mkfifo "$work/go"
build/demo-program "$mebibytes" 1 <"$work/go" >"$work/program" &
program=$!
children+=("$program")
exec 3>"$work/go"
await 120 "$work/program" ready "$program"

sums=$(printf '\n\n\n' | build/demo-program "$mebibytes" 1 | grep checksum)

said() { sed -E 's/.*"msg":"([^"]*)".*/leapd: \1/' "$work/leapd"; }
# Few frames and a short window: most pages of so small a program would otherwise stay in leapd's frames.
options=(--local-memory 25% --prefetch-buffer 500 --window-max 32)
step "leapd --portal portal.txt --pid $program ${options[*]}"
node dist/daemon/leapd.js --portal "$work/portal.txt" --pid "$program" "${options[@]}" --control "$work/control" \
  >"$work/leapd" 2>&1 &
leapd=$!
children+=("$leapd")
await 120 "$work/leapd" "paging process" "$leapd"
await 120 "$work/leapd" "holds pages now" "$leapd"
said | sed -n 1,5p

step "the program works over its memory, three quarters of which are on the donors (emulated: up to a minute)"
echo >&3
await 600 "$work/program" worked "$program"
grep worked "$work/program" | sed 's/$/ s/'

step "where the pages were: some lines of leapctl stats $program"
node dist/daemon/leapctl.js stats "$program" --control "$work/control" >"$work/stats"
lines='localLimitPages|storedPages|faults|faultLatencyNs\.p50|prefetchIssued|prefetchHits'
lines+='|remote(Reads|Writes)|swap(Reads|Writes)|chunksMapped'
grep -E " ($lines|donors\.[0-9]+\.(address|state|reads|writes)) " "$work/stats"
[ "$(awk '$2 == "remoteReads" {print $4}' "$work/stats")" -gt 0 ] ||
  { echo "demo: no page was read from a donor" >&2; exit 1; }

step "leapd gives all memory back and ends"
kill -TERM "$leapd"
wait "$leapd"
said | tail -n 1
echo >&3
await 120 "$work/program" checksum "$program"
grep -qxF "$sums" "$work/program" || { echo "demo: the checksum is not $sums, that of the program alone" >&2; exit 1; }
echo "same $sums as the program alone"
