#!/usr/bin/env bash
# The kernels without Python: builds digest and compares its hashes with golden.json, on every
# instruction set with fma, for one thread and for teams.
#   tests/cpp/emulate.sh [host] [aarch64]        both unless named; CXX and CXXFLAGS hold for the host
# aarch64 is cross-compiled and emulated; what that needs is installed by apt-get where it is missing.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}

packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    if ((${#missing[@]})); then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
    fi
}

# build DIRECTORY CMAKE_ARGUMENTS...
build() {
    local to=$work/$1
    shift
    cmake -S "$root" -B "$to" -DFUSEDRNN_MODULE=OFF -DFUSEDRNN_CPP_TESTS=ON "$@" >"$work/log" 2>&1 &&
        cmake --build "$to" --target digest >>"$work/log" 2>&1 || {
        cat "$work/log"
        return 1
    }
    grep -i 'warning' "$work/log" || true
}

# check NAME COMMAND...: each instruction set with fma, teams of three with every split, and calls
# without packed weights.
check() {
    local name=$1 isa team
    shift
    for isa in $("$@" --isas); do
        [[ $isa == baseline ]] && continue
        for team in "" "--threads 3" "--threads 3 --split units" "--threads 3 --split directions" \
            --unpacked "--unpacked --threads 3 --split units"; do
            # shellcheck disable=SC2086
            "$@" "$root/tests/data/golden_cases.txt" --isa "$isa" $team >"$work/$name-$isa$team"
        done
        (cd "$work" && python3 "$root/tests/cpp/compare_digest.py" "$name-$isa"*)
    done
}

host() {
    build host
    check "$(uname -m)" "$work/host/digest"
}

aarch64() {
    packages g++-aarch64-linux-gnu qemu-user
    CXXFLAGS='' build aarch64 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
        -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DFUSEDRNN_WERROR=ON
    check aarch64 qemu-aarch64 -L /usr/aarch64-linux-gnu "$work/aarch64/digest"
}

cmake --version >/dev/null 2>&1 || packages cmake make
for place in "${@:-host}"; do "$place"; done
((${#@})) || aarch64
