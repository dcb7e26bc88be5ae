#!/bin/bash
# The leanest way to what `vmctl up` does: a disk on top of the image, a seed, QEMU, and asking for the banner of the SSH
# server every 20 ms. Ends when it came; prints QEMU's pid.
#
#     boot.sh FOLDER IMAGE SEED-FILES PORT QEMU ARGUMENTS…
set -eu
folder=$1 image=$2 files=$3 port=$4
shift 4
mkdir -p "$folder"
cd "$folder"
qemu-img create -q -f qcow2 -b "$image" -F qcow2 overlay.qcow2
xorriso -as mkisofs -quiet -V cidata -J -r -o seed.iso "$files" 2>/dev/null
"$@" </dev/null >/dev/null 2>qemu.log &
qemu=$!
echo "$qemu"

# QEMU accepts a connection before the guest does, and then keeps it waiting or closes it: one that waits is left to wait,
# because the server behind it may be slow, and another one is tried beside it after 250 ms.
ask() {
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return 0
  IFS= read -r -t 3 line <&3 || return 0
  case $line in SSH-2.0-*) : >banner ;; esac
}
while [ ! -e banner ]; do
  ask 2>/dev/null &
  asked=$!
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
    sleep 0.02
    if [ -e banner ] || ! kill -0 "$asked" 2>/dev/null; then break; fi
  done
  kill -0 "$qemu"
done
