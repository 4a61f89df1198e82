#!/usr/bin/env bash
# Builds test_simd, test_weights and ulp once per ISA, runs those this machine (or qemu) can run, and asserts that
# every ISA with fma gives the same bits.
#   tests/cpp/run.sh [sampled|exhaustive] [compiler]        CXXFLAGS are added in front
set -euo pipefail
cd "$(dirname "$0")"
mode=${1:-sampled}
cxx=${2:-${CXX:-g++}}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

# shellcheck disable=SC2206 # CXXFLAGS holds words
flags=(${CXXFLAGS:-} -std=c++20 -O3 -ffp-contract=off -fno-math-errno
    -Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror -I ../../csrc)

declare -A sweeps=()
# run_isa NAME VECTOR_BYTES RUNNER COMPILER FLAGS...
run_isa() {
    local isa=$1 bytes=$2 runner=$3 program sweep=$mode
    shift 3
    echo "== $isa ($*)"
    for program in test_simd test_weights ulp; do
        "$@" "${flags[@]}" "-DFUSEDRNN_ISA=$isa" "-DFUSEDRNN_VECTOR_BYTES=$bytes" \
            -o "$build/$program-$isa" "$program.cpp"
    done
    [[ -z $runner ]] || sweep=sampled # every float takes hours under emulation
    $runner "$build/test_simd-$isa"
    $runner "$build/test_weights-$isa"
    if [[ $sweep == exhaustive ]]; then # minutes each, so side by side
        "$build/ulp-$isa" "$sweep" >"$build/sweep-$isa" &
        sweeps[$isa]=$!
    else
        $runner "$build/ulp-$isa" "$sweep"
    fi
    $runner "$build/ulp-$isa" hash >"$build/hash-$isa"
}

has() { grep -qw -- "$1" /proc/cpuinfo; }

machine=$(uname -m)
if [[ $machine == x86_64 ]]; then
    if has avx512f && has avx512bw && has avx512dq && has avx512vl; then
        run_isa avx512 64 "" "$cxx" -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
    else
        echo "== avx512: not on this machine"
    fi
    if has avx2 && has fma; then
        run_isa avx2 32 "" "$cxx" -mavx2 -mfma
    else
        echo "== avx2: not on this machine"
    fi
    run_isa baseline 16 "" "$cxx"
    mv "$build/hash-baseline" "$build/baseline" # no fma, bits of its own
    if ! { command -v qemu-aarch64 && command -v aarch64-linux-gnu-g++; } >/dev/null; then
        echo "== neon: needs qemu-user and g++-aarch64-linux-gnu"
    elif [[ $cxx == *clang* ]]; then
        run_isa neon 16 qemu-aarch64 "$cxx" --target=aarch64-linux-gnu -static
    else
        run_isa neon 16 qemu-aarch64 aarch64-linux-gnu-g++ -static
    fi
elif [[ $machine == aarch64 ]]; then
    run_isa neon 16 "" "$cxx"
fi

good=1
for isa in "${!sweeps[@]}"; do
    wait "${sweeps[$isa]}" || good=0
    echo "== $isa, exhaustive"
    cat "$build/sweep-$isa"
done
((good))

hashes=("$build"/hash-*)
for other in "${hashes[@]:1}"; do
    cmp "${hashes[0]}" "$other" || { echo "results differ between ISAs"; exit 1; }
done
cat "${hashes[0]}"
echo "equal bits: ${hashes[*]##*hash-}"
