#!/bin/bash
# A snapshot of a PostgreSQL whose data and WAL lie on two volumes of one directory, and a second
# server that is started from it. One request cuts both volumes at the same instant, so that
# PostgreSQL recovers from the snapshot as from a power cut: no backup mode, no pause.
#
#   examples/postgres-snapshot.sh [take] MACHINE NAME       MACHINE: the directory with the volumes
#   examples/postgres-snapshot.sh open MACHINE NAME CLONE   clone it, and mount data.img and wal.img
#   examples/postgres-snapshot.sh close CLONE               take that down again
#   examples/postgres-snapshot.sh demo MACHINE              make such a machine, with a running server
#
# The volumes are data.img and wal.img, with a filesystem each; on them `pg` is the data directory
# and `pg` the directory that its pg_wal is a link to. Run as root. CAIRN is the cairn program.
set -euo pipefail

cairn=${CAIRN:-cairn}
user=postgres
programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)

die() {
  printf 'postgres-snapshot: %s\n' "$*" >&2
  exit 1
}
as_postgres() { setpriv --reuid="$user" --regid="$user" --init-groups "$@"; }

mount_both() { # DIRECTORY PLACE: mounts data.img and wal.img
  local name
  for name in data wal; do
    mkdir -p "$2/$name"
    # Direct I/O: what the filesystem in the volume has written is in the volume.
    mount "$(losetup --find --show --direct-io=on "$1/$name.img")" "$2/$name"
  done
}

unmount_both() { # PLACE
  local name device
  for name in data wal; do
    device=$(findmnt -n -o SOURCE "$1/$name") || continue
    umount "$1/$name"
    losetup --detach "$device"
  done
}

start_server() { # PLACE
  mkdir -p "$1/socket"
  chown "$user:" "$1/socket" "$1/data" "$1/wal"
  (cd "$1/socket" && as_postgres "$programs/pg_ctl" -D "$1/data/pg" -w -l "$1/socket/log" \
    -o "-c listen_addresses= -c unix_socket_directories=$1/socket" start)
}

stop_server() { # PLACE
  (cd "$1/socket" && as_postgres "$programs/pg_ctl" -D "$1/data/pg" -m fast stop) || true
}

take() { # MACHINE NAME
  # Both volumes of the machine, and nothing else: one instant for data and WAL is what counts.
  "$cairn" snapshot create "$1" --name "$2" --tag application=postgresql
}

open_copy() { # MACHINE NAME CLONE
  local root machine place
  root=$(findmnt -n -o TARGET --target "$1")
  machine=$(realpath --relative-to="$root" "$1")
  [[ -d $root/.snapshots/$2/$machine ]] || die "snapshot $2 has no $machine"
  "$cairn" clone "$root/.snapshots/$2/$machine" "$3"
  place=/run/cairn-postgres/$(basename "$3")
  mount_both "$3" "$place"
  # The copy's WAL is beside it, not where its parent's is mounted.
  ln -sfn "$place/wal/pg" "$place/data/pg/pg_wal"
  rm -f "$place/data/pg/postmaster.pid"
  start_server "$place"
  printf 'psql -h %s postgres\n' "$place/socket"
}

close_copy() { # CLONE
  local place
  place=/run/cairn-postgres/$(basename "$1")
  stop_server "$place"
  unmount_both "$place"
  rm -r "$1" "$place"
}

demo() { # MACHINE
  local place
  mkdir "$1"
  truncate -s 4G "$1/data.img"
  truncate -s 2G "$1/wal.img"
  mkfs.ext4 -q "$1/data.img"
  mkfs.ext4 -q "$1/wal.img"
  place=/run/cairn-postgres/$(basename "$1")
  mount_both "$1" "$place"
  chown "$user:" "$place/data" "$place/wal"
  (cd / && as_postgres "$programs/initdb" -D "$place/data/pg" --waldir "$place/wal/pg" >/dev/null)
  start_server "$place"
  printf 'psql -h %s postgres; %s close %s takes it down\n' "$place/socket" "$0" "$1"
}

[[ $# -gt 0 ]] || set -- help
case $1 in
  take | open | close | demo)
    verb=$1
    shift
    ;;
  *) verb=take ;;
esac
case $verb/$# in
  take/2) take "$@" ;;
  open/3) open_copy "$@" ;;
  close/1) close_copy "$@" ;;
  demo/1) demo "$@" ;;
  *) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac
