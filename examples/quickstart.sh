#!/bin/bash
# Shows Cairn's main job on a fresh Debian 12, as root: builds it, mounts a demo store, puts a real
# filesystem on a volume, takes a snapshot, clones it and rolls back, and checks what it shows. Everything it makes lies in one temporary
# folder and is removed at the end, also after a failure.
#
#   examples/quickstart.sh [--keep]     --keep leaves the demo mounted and says how to use it
#
# CAIRN_BUILD_DIR is the build folder (default: build in the checkout).
set -euo pipefail

project=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
build=${CAIRN_BUILD_DIR:-build}
[[ $build = /* ]] || build=$project/$build
keep=no
demo=""
loop=""

packages=(g++ cmake ninja-build pkg-config libfmt-dev libspdlog-dev libleveldb-dev libsnappy-dev
  libisal-dev libcli11-dev nlohmann-json3-dev libfuse3-dev fuse3 attr e2fsprogs util-linux mount)

step() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }
show() {
  printf '   $ %s\n' "$*"
  "$@" 2>&1 | sed 's/^/     /'
}
die() {
  printf 'quickstart: %s\n' "$*" >&2
  exit 1
}

guest_is_mounted() { mountpoint -q "$demo/guest" 2>/dev/null; }
copy_is_mounted() { mountpoint -q "$demo/copy" 2>/dev/null; }
cairn_is_mounted() { mountpoint -q "$demo/mnt" 2>/dev/null; }

release_guest() {
  if guest_is_mounted; then umount "$demo/guest"; fi
  if [[ -n $loop ]]; then
    losetup --detach "$loop"
    loop=""
  fi
}

clean_up() {
  local code=$?
  trap - EXIT
  set +e
  [[ -n $demo ]] || exit "$code"
  if [[ $keep = yes && $code -eq 0 ]]; then exit 0; fi
  if guest_is_mounted; then umount "$demo/guest" || umount -l "$demo/guest"; fi
  if copy_is_mounted; then umount "$demo/copy" || umount -l "$demo/copy"; fi
  [[ -z $loop ]] || losetup --detach "$loop"
  if cairn_is_mounted; then
    "$build/bin/cairn" unmount "$demo/mnt" >/dev/null 2>&1 || umount -l "$demo/mnt"
  fi
  if ! cairn_is_mounted; then rm -rf --one-file-system "$demo"; fi
  if [[ $code -ne 0 ]]; then
    printf '\nquickstart: stopped at the step above; its files are removed.\n' >&2
  fi
  exit "$code"
}

explain_keep() {
  cat <<END

The demo stays:
   store        $demo/store
   mountpoint   $demo/mnt
   a volume     $demo/mnt/vm1/data.img (ext4)
Try, for example:
   truncate -s 1T $demo/mnt/vm1/second.img
   $build/bin/cairn status $demo/mnt
   $build/bin/cairn snapshot create $demo/mnt/vm1 --name tuesday
   mount -o loop $demo/mnt/vm1/data.img /mnt
To remove it, once nothing uses a volume of it:
   $build/bin/cairn unmount $demo/mnt && rm -r $demo
END
}

parse() {
  case ${1:-} in
    "") ;;
    --keep) keep=yes ;;
    -h | --help)
      sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      printf 'usage: examples/quickstart.sh [--keep]\n' >&2
      exit 2
      ;;
  esac
}

check_machine() {
  [[ $(id -u) -eq 0 ]] || die "run me as root: mounting and loop devices need it"
  [[ -e /dev/fuse ]] || modprobe fuse 2>/dev/null || true
  [[ -c /dev/fuse ]] || die "there is no /dev/fuse: the kernel lacks FUSE, or a container hides it"
}

install_packages() {
  step "Installing what is needed"
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  if [[ ${#missing[@]} -eq 0 ]]; then
    say "all packages are here"
    return
  fi
  say "apt-get install ${missing[*]}"
  # A download may fail once, and the machine's own upgrades may hold the locks.
  local tries=0 options=(-o Acquire::Retries=5 -o DPkg::Lock::Timeout=600)
  until apt-get "${options[@]}" update -qq; do
    ((++tries < 10)) || die "apt-get update failed"
    sleep 15
  done
  DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y -qq \
    --no-install-recommends "${missing[@]}" >"$demo/apt.log" 2>&1 ||
    { tail -n 20 "$demo/apt.log" >&2; die "apt-get install failed"; }
}

build_cairn() {
  step "Building Cairn in $build"
  # A build folder that is configured already keeps its settings.
  if [[ ! -e $build/CMakeCache.txt ]]; then
    cmake -S "$project" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCAIRN_TESTS=OFF \
      >"$demo/build.log" 2>&1 || { tail -n 30 "$demo/build.log" >&2; die "cmake failed"; }
  fi
  cmake --build "$build" --parallel "$(nproc)" --target cairnfs cairn >"$demo/build.log" 2>&1 ||
    { tail -n 30 "$demo/build.log" >&2; die "the build failed"; }
  say "bin/cairnfs and bin/cairn are built"
}

# What the volume really holds, in MiB.
held() { echo $(($(stat -c '%b' "$1") * 512 / 1048576)); }

show_held() {
  say "$1: apparent size $(($(stat -c '%s' "$2") / 1048576)) MiB, held $(held "$2") MiB"
}

make_volume() {
  step "Mounting a store; a regular file in the mount is a volume, a directory is a machine"
  mkdir "$demo/mnt" "$demo/guest"
  show "$build/bin/cairnfs" "$demo/store" "$demo/mnt"
  show mkdir "$demo/mnt/vm1"
  show truncate -s 4G "$demo/mnt/vm1/data.img"
  show_held "a fresh volume" "$demo/mnt/vm1/data.img"
  [[ $(held "$demo/mnt/vm1/data.img") -eq 0 ]] || die "a sparse volume holds space"
}

attach_guest() {
  loop=$(losetup --find --show --direct-io=on "$demo/mnt/vm1/data.img")
  say "the volume is the block device $loop"
}

fill_guest() {
  step "ext4 on a loop device over the volume"
  attach_guest
  show mkfs.ext4 -q -F "$loop"
  mount "$loop" "$demo/guest"
  mkdir "$demo/guest/documents"
  head -c 64M /dev/urandom >"$demo/guest/documents/kept"
  head -c 512M /dev/urandom >"$demo/guest/large"
  sync -f "$demo/guest"
  show du -sh "$demo/guest"
  kept_hash=$(sha256sum <"$demo/guest/documents/kept")
  filled=$(held "$demo/mnt/vm1/data.img")
  show_held "after writing 576 MiB" "$demo/mnt/vm1/data.img"
  [[ $filled -ge 512 ]] || die "the volume should hold 576 MiB and more"
}

trim_guest() {
  step "Deleting in the guest and fstrim give the space back on the host"
  rm "$demo/guest/large"
  sync -f "$demo/guest"
  show fstrim -v "$demo/guest"
  local after=0
  # The loop driver punches in the background: the volume shrinks a moment later.
  for _ in {1..300}; do
    after=$(held "$demo/mnt/vm1/data.img")
    [[ $((filled - after)) -ge 500 ]] && break
    sleep 0.2
  done
  show_held "after fstrim" "$demo/mnt/vm1/data.img"
  [[ $((filled - after)) -ge 500 ]] || die "fstrim gave back $((filled - after)) of 512 MiB"
  show du -sh "$demo/store"
}

expect_kept() { # DIRECTORY WHAT
  [[ $(sha256sum <"$1/documents/kept") = "$kept_hash" ]] || die "the file differs in $2"
  say "documents/kept in $2 is the same, by hash"
}

snapshot_clone_and_roll_back() {
  step "A snapshot of all volumes of vm1, at one instant; then the guest loses a file"
  sync -f "$demo/guest"
  show "$build/bin/cairn" snapshot create "$demo/mnt/vm1" --name monday
  rm "$demo/guest/documents/kept"
  sync -f "$demo/guest"
  say "documents/kept is removed"

  step "A writable clone of the snapshot copies nothing"
  mkdir "$demo/copy"
  show "$build/bin/cairn" clone "$demo/mnt/.snapshots/monday/vm1" "$demo/mnt/vm2"
  # The loop device goes with the mount.
  mount -o loop "$demo/mnt/vm2/data.img" "$demo/copy"
  expect_kept "$demo/copy" "the clone"
  umount "$demo/copy"

  step "Rolling back: vm1 as it was; what it was until now is kept as another snapshot"
  release_guest
  show "$build/bin/cairn" snapshot rollback "$demo/mnt/.snapshots/monday"
  attach_guest
  mount "$loop" "$demo/guest"
  expect_kept "$demo/guest" "the guest"
  show "$build/bin/cairn" snapshot list "$demo/mnt"
  show "$build/bin/cairn" snapshot delete "$demo/mnt/.snapshots/monday"
}

show_policies() {
  step "Policies are extended attributes; a volume inherits what its directory says"
  show setfattr -n user.cairn.role -v data "$demo/mnt/vm1"
  local role
  role=$(getfattr --only-values -n user.cairn.role "$demo/mnt/vm1/data.img")
  say "user.cairn.role of vm1/data.img, which has none of its own: $role"
  [[ $role = data ]] || die "the role is not inherited"
  if setfattr -n user.cairn.tiering -v nonsense "$demo/mnt/vm1" 2>/dev/null; then
    die "a wrong policy was accepted"
  fi
  say "a wrong value is refused: $(getfattr --only-values -n user.cairn.error "$demo/mnt/vm1")"
}

show_status() {
  step "What the mount says about itself"
  show "$build/bin/cairn" status --json "$demo/mnt"
  show "$build/bin/cairn" du "$demo/mnt/vm1"
}

remount_and_check() {
  step "Unmounting (all data is durable when it returns), checking, mounting again"
  release_guest
  show "$build/bin/cairn" unmount "$demo/mnt"
  show "$build/bin/cairn" fsck "$demo/store"
  show "$build/bin/cairnfs" "$demo/store" "$demo/mnt"
  attach_guest
  show e2fsck -fn "$loop"
  mount -o ro "$loop" "$demo/guest"
  expect_kept "$demo/guest" "the guest after the remount"
  release_guest
}

finish() {
  if [[ $keep = yes ]]; then
    explain_keep
    step "All is well: everything shown was checked, and the demo stays mounted."
    return
  fi
  show "$build/bin/cairn" unmount "$demo/mnt"
  step "All is well: everything shown was checked, and nothing is left behind."
}

parse "$@"
check_machine
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
demo=$(mktemp -d /var/tmp/cairn-quickstart.XXXXXX)
install_packages
build_cairn
make_volume
fill_guest
trim_guest
snapshot_clone_and_roll_back
show_policies
show_status
remount_and_check
finish
