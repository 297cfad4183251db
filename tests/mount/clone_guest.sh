#!/bin/busybox sh
# The /init of the guests of clone_boots.py, in an initramfs with busybox. The kernel's command line
# has cairn=writer or cairn=visitor. Both mount the ext4 of their disk.
#
# The writer replaces files and syncs until a line comes over the console. "synced N": round N is
# durable. The visitor compares the files that never change with /known.sha256 of the initramfs,
# looks through those of the writer, and leaves a file. "count N": the last round that is there;
# "wrote HASH": of that file. At the end both say "end", or "bad ..." of what was wrong, and switch
# the machine off.
/bin/busybox mkdir -p /proc /sys /mnt
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc

SLOTS=8

bad() {
  echo "bad $*"
  sync
  poweroff -f
  sleep 1000
}

while read -r name; do insmod "/$name.ko" || bad "module $name"; done </modules
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] || sleep 1; done

write() {
  # What comes in would else be shown in the middle of what is said.
  stty -F /dev/console -echo || bad "stty"
  { read -r _ </dev/console; : >/stop; } &
  number=0
  while [ ! -e /stop ]; do
    number=$((number + 1))
    slot=/mnt/busy/$((number % SLOTS))
    dd if=/dev/urandom of="$slot" bs=64k count=4 2>/dev/null || bad "write of $slot"
    sha256sum "$slot" >"$slot.sha256" || bad "sum of $slot"
    echo "$number" >/mnt/busy/count.new || bad "write of the count"
    mv /mnt/busy/count.new /mnt/busy/count
    sync
    echo "synced $number"
  done
}

visit() {
  (cd /mnt/known && sha256sum -c -s /known.sha256) || bad "a file that never changes has changed"
  number=$(cat /mnt/busy/count)
  # The next round may have begun to overwrite its slot.
  round=$((number - SLOTS + 2))
  [ "$round" -lt 1 ] && round=1
  while [ "$round" -le "$number" ]; do
    sha256sum -c -s "/mnt/busy/$((round % SLOTS)).sha256" || bad "round $round of $number"
    round=$((round + 1))
  done
  echo "count $number"
  dd if=/dev/urandom of=/mnt/written bs=64k count=32 2>/dev/null || bad "write"
  sync
  echo "wrote $(sha256sum </mnt/written | cut -d' ' -f1)"
}

mount -t ext4 -o errors=remount-ro /dev/vda /mnt || bad "mount of the disk"
case $(cat /proc/cmdline) in
  *cairn=writer*) write ;;
  *cairn=visitor*) visit ;;
  *) bad "part to play" ;;
esac
umount /mnt || bad "umount"
sync
echo end
poweroff -f
sleep 1000
