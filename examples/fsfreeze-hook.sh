#!/bin/bash
# A hook for `cairn snapshot create` that freezes guest filesystems for the instant of the snapshot:
# what programs wrote to files in them is then in the snapshot, and a clone mounts without recovery.
#
#   cairn snapshot create /mnt/cairn/vm1 --name monday \
#     --pre  "examples/fsfreeze-hook.sh /mnt/guest [MORE...]" \
#     --post "examples/fsfreeze-hook.sh /mnt/guest [MORE...]"
#
# The arguments are where filesystems on volumes are mounted (through a loop device, for example).
# CAIRN_STAGE, which cairn sets, says which half is wanted. Without this hook a snapshot is what a
# power cut would leave: the guest's journal brings it in order at the next mount.
set -uo pipefail

stage=${CAIRN_STAGE:-}
if [[ $# -eq 0 || ( $stage != pre && $stage != post ) ]]; then
  echo "usage: as --pre and --post of 'cairn snapshot create'; arguments: mounted filesystems" >&2
  exit 2
fi

thaw_all() {
  local code=0
  local place
  for place in "$@"; do
    # One that is not frozen is no failure: --post runs after a --pre that got half way, too.
    if ! fsfreeze --unfreeze "$place" 2>/dev/null && is_frozen "$place"; then
      echo "fsfreeze-hook: $place is still frozen: fsfreeze --unfreeze $place" >&2
      code=1
    fi
  done
  return $code
}

# Whether a write waits for more than 5 seconds. One that fails does not wait: the filesystem is full
# or read-only. In a frozen one it sleeps where no signal reaches it, so that nobody may wait for it;
# it cleans up behind itself after the thaw.
is_frozen() {
  (probe=$(mktemp -p "$1" .fsfreeze-hook.XXXXXX) && rm -f "$probe") >/dev/null 2>&1 &
  for _ in {1..50}; do
    kill -0 $! 2>/dev/null || return 1
    sleep 0.1
  done
}

if [[ $stage = post ]]; then
  thaw_all "$@"
  exit
fi

frozen=()
for place in "$@"; do
  if ! fsfreeze --freeze "$place"; then
    echo "fsfreeze-hook: $place cannot be frozen" >&2
    thaw_all "${frozen[@]}"
    exit 1
  fi
  frozen=("$place" "${frozen[@]}")
done
