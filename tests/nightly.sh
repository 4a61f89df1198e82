#!/usr/bin/env bash
# The checks that take too long for .ci/run, or need tools that it does not.
#
#     tests/nightly.sh               all of them
#     tests/nightly.sh clang mutants these
#
# Installs its compilers and emulators by apt-get. Each check works in a copy of the tree; its log is
# shown when it fails. The exit status is 0 when all passed.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset FUSEDRNN_BUILD FUSEDRNN_BACKEND FUSEDRNN_ISA FUSEDRNN_NUM_THREADS PYTHONPATH
export FUSEDRNN_REQUIRE_NATIVE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    ((${#missing[@]} == 0)) && return
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
}

# A copy of the tree with a virtual environment, in $work/NAME; installs when given pip arguments.
workplace() {
    local place=$work/$1
    shift
    mkdir -p "$place"
    (cd "$root" && git ls-files --cached --others --exclude-standard -z |
        while IFS= read -r -d '' file; do if [[ -f $file ]]; then printf '%s\0' "$file"; fi; done |
        tar --null --files-from=- --create) | tar --extract --directory="$place"
    cd "$place" || return
    python3 -m venv .venv || return
    if (($#)); then FUSEDRNN_BUILD=native .venv/bin/pip install -qq "$@"; fi
}

# Every float32 and the dense float64 sample through sigmoid and tanh of every instruction set.
exhaustive() {
    bash "$root/tests/cpp/run.sh" exhaustive
}

# The whole suite on a Clang build: among others the same hashes as with GCC.
clang() {
    packages clang libomp-dev || return
    CC=clang CXX=clang++ FUSEDRNN_WERROR=ON workplace clang '.[test]' || return
    .venv/bin/fusedrnn info || return
    .venv/bin/python -m pytest
}

# Address and undefined-behaviour sanitizers. The interpreter is not instrumented, so the runtime is
# preloaded; it never frees everything, so leaks are not looked for. Times and memory limits mean
# nothing here.
sanitizers() {
    CXXFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1" \
        workplace sanitizers '.[test]' || return
    LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
        PYTHONMALLOC=malloc .venv/bin/python -m pytest -k 'not ctrl_c and not out_of_memory' \
        --ignore=tests/test_codebase.py --ignore=tests/test_cpp.py
}

# Compiler flags that would change bits, were they obeyed.
hostile() {
    local flags
    for flags in "-march=native" "-Ofast -ffast-math -march=native -mfma -flto -ffp-contract=fast"; do
        rm -rf "$work/hostile"
        CXXFLAGS="$flags" workplace hostile . || return
        .venv/bin/fusedrnn selftest || return
    done
}

# The kernels under emulation of aarch64: the hashes of golden.json, without Python there.
aarch64() {
    packages g++-aarch64-linux-gnu qemu-user || return
    workplace aarch64 || return
    aarch64-linux-gnu-g++ -std=c++20 -O3 -Wall -Wextra -Wconversion -Werror -ffp-contract=off \
        -fno-math-errno -static -pthread -I csrc -o digest tests/cpp/digest.cpp \
        csrc/layout.cpp csrc/team.cpp csrc/dispatch.cpp csrc/isa/neon.cpp || return
    qemu-aarch64 ./digest tests/data/golden_cases.txt >hashes || return
    python3 tests/cpp/compare_digest.py hashes
}

# A build without OpenMP passes everything, serially.
serial() {
    workplace serial '.[test]' -C cmake.define.CMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON || return
    .venv/bin/python -m pytest
}

# Planted faults, each killed by a test that tests/mutants.py names.
mutants() {
    workplace mutants '.[test,dev]' || return
    .venv/bin/python tests/mutants.py
}

# Many more examples than a person waits for.
properties() {
    workplace properties '.[test]' || return
    HYPOTHESIS_PROFILE=nightly .venv/bin/python -m pytest
}

# The pages of docs/, links included.
pages() {
    workplace pages || return
    .venv/bin/pip install -qq 'mkdocs>=1.6' || return
    .venv/bin/mkdocs build --strict --site-dir "$work/site"
}

all=(exhaustive clang sanitizers hostile aarch64 serial mutants properties pages)
failed=() passed=0
for check in "${@:-${all[@]}}"; do
    if [[ ! " ${all[*]} " == *" $check "* ]]; then
        echo "no such check: $check (there are: ${all[*]})"
        exit 2
    fi
    start=$SECONDS
    if ("$check") >"$work/$check.log" 2>&1; then
        passed=$((passed + 1))
        tail -n 3 "$work/$check.log"
        printf '%s: passed (%d s)\n\n' "$check" $((SECONDS - start))
    else
        failed+=("$check")
        tail -n 200 "$work/$check.log"
        printf '%s: FAILED (%d s)\n\n' "$check" $((SECONDS - start))
    fi
done
((${#failed[@]} == 0)) || echo "failed: ${failed[*]}"
echo "$passed passed, ${#failed[@]} failed"
((${#failed[@]} == 0))
