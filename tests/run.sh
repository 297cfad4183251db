#!/usr/bin/env bash
# Builds Cairn and runs its tests, on a fresh Debian 12 as root or wherever the packages are.
#
#   tests/run.sh            Release build, every test but those labelled soak
#   tests/run.sh LABEL      the same build, the tests with that label (CAIRN_LABELS in CMakeLists.txt)
#   tests/run.sh asan       AddressSanitizer and UBSan build: unit, contract, fault and model tests
#   tests/run.sh tsan       ThreadSanitizer build: the same tests
#   tests/run.sh clang      compiles everything under clang's thread-safety analysis; runs nothing
#
# CAIRN_BUILD_DIR: the build folder ("build"); the variants append -asan, -tsan and -clang.
# CAIRN_JOBS: compilers and tests at a time (2). Tests that mount lock each other out by themselves.
# The last line is ctest's summary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly build=${CAIRN_BUILD_DIR:-build}
readonly jobs=${CAIRN_JOBS:-2}
readonly sanitizer_tiers='^(unit|contract|fault|model)$'

usage() {
  sed -n '2,/^set /{/^# \{0,1\}/s///p}' "${BASH_SOURCE[0]}"
}

install_packages() {
  local missing=() package _
  if ! command -v dpkg-query >/dev/null; then
    echo "no dpkg-query: the packages of tests/packages.txt are taken to be there" >&2
    return
  fi
  while read -r package _; do
    [[ -z $package || $package == '#'* ]] && continue
    if [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true) != *' installed' ]]; then
      missing+=("$package")
    fi
  done <tests/packages.txt
  if ((${#missing[@]} == 0)); then return; fi
  if ((EUID != 0)); then
    echo "missing, and only root can install: ${missing[*]}" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  # A download may fail once, and the machine's own upgrades may hold the locks.
  local tries=0 options=(-o Acquire::Retries=5 -o DPkg::Lock::Timeout=600)
  until apt-get "${options[@]}" -q update; do
    if ((++tries == 10)); then
      echo "apt-get update failed" >&2
      exit 1
    fi
    sleep 15
  done
  apt-get "${options[@]}" -q -y install --no-install-recommends "${missing[@]}"
}

# compile FOLDER [CMAKE-ARGUMENT ...]
compile() {
  local folder=$1
  shift
  cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCAIRN_TESTS=ON "$@"
  ninja -C "$folder" -j "$jobs"
}

# run_tests FOLDER [CTEST-ARGUMENT ...]
run_tests() {
  local folder=$1 log status=0
  shift
  log=$folder/ctest.log
  "${launcher[@]}" ctest --test-dir "$folder" --output-on-failure --no-tests=error -j "$jobs" "$@" \
    2>&1 | tee "$log" || status=$?
  # ctest prints times, and the names of what failed, after its summary.
  grep -E '^[0-9]+% tests passed' "$log" || status=1
  return "$status"
}

launcher=(env)
if (($# > 1)); then
  usage >&2
  exit 2
fi
case ${1:-} in
  -h | --help)
    usage
    ;;
  '')
    install_packages
    compile "$build"
    run_tests "$build" -LE '^soak$'
    ;;
  asan)
    install_packages
    compile "$build-asan" -DCAIRN_SANITIZE=address
    run_tests "$build-asan" -L "$sanitizer_tiers"
    ;;
  tsan)
    install_packages
    compile "$build-tsan" -DCAIRN_SANITIZE=thread
    # g++ 12's ThreadSanitizer does not start where the kernel randomises addresses with more bits
    # than it knows of.
    if setarch "$(uname -m)" -R true 2>/dev/null; then launcher=(setarch "$(uname -m)" -R); fi
    export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp ${TSAN_OPTIONS:-}"
    run_tests "$build-tsan" -L "$sanitizer_tiers"
    ;;
  clang)
    install_packages
    compile "$build-clang" -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
    echo "clang: no warning from the thread-safety analysis"
    ;;
  *)
    if ! grep -Eq "set\(CAIRN_LABELS \"([a-z]+;)*$1(;[a-z]+)*\"\)" CMakeLists.txt; then
      echo "$1 is neither a label nor a variant" >&2
      usage >&2
      exit 2
    fi
    install_packages
    compile "$build"
    run_tests "$build" -L "^$1\$"
    ;;
esac
