#!/bin/sh
# Installs what the benchmark needs (Debian), builds Cairn unless --build DIR is given, and runs
# bench.py with the given options (run.sh --help lists them).
set -eu

project=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
packages="fio qemu-system-common qemu-utils libfuse3-dev fuse3 gcc pkg-config python3 btrfs-progs
  mount"
build_packages="g++ cmake ninja-build libfmt-dev libspdlog-dev libleveldb-dev libsnappy-dev
  libisal-dev libcli11-dev nlohmann-json3-dev"

build=""
wants_build=yes
previous=""
for word in "$@"; do
  [ "$previous" = "--build" ] && build=$word
  case $word in
    --build=*) build=${word#--build=} ;;
    -h | --help) wants_build=no ;;
  esac
  previous=$word
done
[ -n "$build" ] && wants_build=no

[ "$wants_build" = yes ] && packages="$packages $build_packages"
missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
    missing="$missing $package"
done
if [ -n "$missing" ]; then
  echo "installing:$missing" >&2
  apt-get update -qq >&2
  # shellcheck disable=SC2086  # A list of names.
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
fi

if [ "$wants_build" = yes ]; then
  # A folder of its own: a build with tests or sanitizers keeps its settings.
  build=${CAIRN_BUILD_DIR:-$project/build-bench}
  cmake -S "$project" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCAIRN_TESTS=OFF >&2
  cmake --build "$build" --target cairnfs cairn >&2
  set -- --build "$build" "$@"
fi

# Its own byte code would only litter the checkout.
PYTHONDONTWRITEBYTECODE=1 exec python3 "$project/tools/bench/bench.py" "$@"
