"""The rules of docs/design.md as tests.

The rules of each section are data above the tests that check them. A failure names the file that
breaks a rule.
"""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest

import fusedrnn
from fusedrnn._cells import CELLS

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
PACKAGE = ROOT / "python" / "fusedrnn"
IN_CI = bool(os.environ.get("FUSEDRNN_CI"))

CPP_FILES = sorted(p for p in CSRC.rglob("*") if p.suffix in {".hpp", ".cpp"})
PYTHON_FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "_build.py")  # generated


def relative(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def first_match(name: str, rules: dict[str, set[str]]) -> set[str] | None:
    return next((allowed for pattern, allowed in rules.items() if fnmatch(name, pattern)), None)


def find_cycle(edges: dict[str, set[str]]) -> list[str]:
    """A path of edges that returns to its start; empty if there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(edges.get(node, ())):
            if cycle := walk(target, [*path, node]):
                return cycle
        done.add(node)
        return []

    return next((cycle for node in sorted(edges) if (cycle := walk(node, []))), [])


# --- what C++ files may include ----------------------------------------------------------------

# Which files a file of csrc/ may include: the first pattern that fits the file decides. In inner/
# the order of the layers is a rule too: a file may include files of its own layer and of earlier
# ones.
CPP_ARROWS: dict[str, set[str]] = {
    "kernels.hpp": set(),
    "inner/isa/*.cpp": {"inner/isa/table.hpp"},
    "inner/*": {"kernels.hpp", "inner/*"},
    "outer/*": {"kernels.hpp", "outer/*"},
    "bind/*": {"kernels.hpp", "outer/*", "bind/*"},
}
INNER_LAYERS = (
    ("inner/simd.hpp",),
    ("inner/twin.hpp", "inner/math.hpp"),
    ("inner/activation.hpp",),
    ("inner/cells/*", "inner/norm.hpp"),
    ("inner/pack.hpp", "inner/tile.hpp"),
    ("inner/weights.hpp",),
    ("inner/scan/*", "inner/probe.hpp"),
    ("inner/isa/*",),
)
INNER_STANDARD_HEADERS = {"cstddef", "cstdint", "type_traits", "bit", "concepts"}
INTRINSIC_HEADERS = {"immintrin.h", "arm_neon.h"}


def is_outer(name: str) -> bool:
    return name.startswith(("outer/", "bind/"))


def layer_of(name: str) -> int:
    """The index of an inner file's layer in INNER_LAYERS; kernels.hpp comes before all of them."""
    if name == "kernels.hpp":
        return -1
    found = [
        i for i, layer in enumerate(INNER_LAYERS) if any(fnmatch(name, part) for part in layer)
    ]
    assert found, f"{name} has no place in INNER_LAYERS"
    return found[0]


def includes(path: Path) -> Iterator[tuple[str, bool]]:
    """Yields each included name, relative to csrc/ if the file is ours, and whether it is ours."""
    for bracket, target in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', path.read_text(), re.M):
        if bracket == "<":
            yield target, False
        else:
            beside = (path.parent / target).resolve()
            yield relative(beside if beside.exists() else CSRC / target, CSRC), True


@pytest.mark.parametrize("path", CPP_FILES, ids=lambda p: relative(p, CSRC))
def test_includes_follow_the_arrows(path: Path) -> None:
    name = relative(path, CSRC)
    allowed = first_match(name, CPP_ARROWS)
    assert allowed is not None, f"{name} has no place in CPP_ARROWS"
    for target, ours in includes(path):
        if ours:
            assert any(fnmatch(target, pattern) for pattern in allowed), f"{name} -> {target}"
            if name.startswith("inner/"):
                assert layer_of(target) <= layer_of(name), f"{name} -> {target}"
        elif not is_outer(name):
            intrinsics = INTRINSIC_HEADERS if name == "inner/simd.hpp" else set()
            assert target in INNER_STANDARD_HEADERS | intrinsics, f"{name} includes <{target}>"


def test_includes_have_no_cycle() -> None:
    edges = {
        relative(path, CSRC): {target for target, ours in includes(path) if ours}
        for path in CPP_FILES
    }
    assert not find_cycle(edges)


# --- what Python modules may import ------------------------------------------------------------

# Which modules a module of the package may import: the first pattern that fits the module decides.
# The pattern "name.*" stands for all modules in the package `name`, "name" for its __init__.py.
FOUNDATION = {"_activations", "_cells", "_checks.*", "_foreign", "_interrupts", "_npz", "_protos"}
FOUNDATION |= {"_storage"}
PUBLIC = {"__init__", "core", "files", "layers", "ops", "runtime", "stream"}
PYTHON_ARROWS: dict[str, set[str]] = {
    "_version": set(),
    "_activations": {"_cells"},
    "_checks*": FOUNDATION,
    "_cells": set(),
    "_foreign": FOUNDATION,
    "_interrupts": set(),
    "_npz": FOUNDATION,
    "_protos": set(),
    "_storage": set(),
    # The API that adapters use. `_core` is the compiled module; `_build` says whether it was built.
    "_backends*": {*FOUNDATION, "_backends*", "_build", "_core"},
    "core*": {*FOUNDATION, "_backends*", "_core", "core*", "runtime"},
    "runtime": {*FOUNDATION, "_backends*", "_core", "_version"},
    # Modules on top of that API.
    "ops": {*FOUNDATION, "_backends*", "core*"},
    "_layers*": {*FOUNDATION, "_backends*", "_layers*", "core*", "stream"},
    "layers": {*FOUNDATION, "_layers.*"},
    "stream": {*FOUNDATION, "_backends*", "_layers.*", "core*"},
    "files": {*FOUNDATION, "_version"},
    "__init__": {"_backends.choice", "_version", *PUBLIC},
    "_golden": {*FOUNDATION, "_backends*", "core*"},
    "selftest": {*FOUNDATION, "_backends*", "_golden", "cli", "runtime"},
    # Users of the public names. Those that take lengths and masks also use the argument checks of
    # the layers.
    "nn._checkpoint": {*FOUNDATION, "nn._optimizer"},
    "nn*": {*PUBLIC, "_cells", "_checks.*", "_interrupts", "_layers.params", "nn*"},
    "charlm*": {*PUBLIC, "_interrupts", "_npz", "_storage", "_version", "charlm*", "nn", "nn.*"},
    "weights*": {*FOUNDATION, *PUBLIC, "_layers.params", "onnx._plain", "weights*"},
    "onnx*": {*PUBLIC, "_protos", "_storage", "nn", "onnx*", "weights"},
    "torch*": {*PUBLIC, "torch*"},
    "jax*": {*PUBLIC, "_core", "jax*"},  # XLA calls the compiled module
    "keras*": {*PUBLIC, "jax", "keras*"},  # Keras on JAX stands on `fusedrnn.jax`
    "inspect*": {*PUBLIC, "inspect*"},
    "forecasting*": {*PUBLIC, "_checks.*", "forecasting*", "nn"},
    "cli*": {
        *PUBLIC,
        *FOUNDATION,
        "_backends*",
        "_core",
        "_version",
        "charlm*",
        "cli*",
        "forecasting",
        "forecasting.plot",
        "nn*",
        "selftest",
    },
    "__main__": {"cli", "cli.*"},
}
# Imports inside a function, which run when they are first needed.
LAZY_ARROWS = {
    ("core._checks", "runtime"),
    ("selftest", "cli"),
    ("weights._onnx", "onnx._plain"),  # to evaluate computed weights
}


def module_name(path: Path) -> str:
    name = relative(path.with_suffix(""), PACKAGE).replace("/", ".")
    return name.removesuffix(".__init__") if name != "__init__" else name


MODULES = {module_name(path) for path in PYTHON_FILES} | {"_core", "_build"}


def without_type_checking(tree: ast.Module) -> Iterator[ast.AST]:
    """Yields all nodes except those under `if TYPE_CHECKING:`, which never run."""
    queue: list[ast.AST] = [tree]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            queue.extend(node.orelse)
        else:
            yield node
            queue.extend(ast.iter_child_nodes(node))


def imports(path: Path) -> set[str]:
    """The modules of the package that this one imports, inside functions too."""
    here = module_name(path).split(".")
    folder = here if path.name == "__init__.py" else here[:-1]
    if here == ["__init__"]:
        folder = []
    found: set[str] = set()

    def add(parts: list[str]) -> None:
        name = ".".join(parts)
        found.add(name if name in MODULES else ".".join(parts[:-1]) or "__init__")

    for node in without_type_checking(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder[: len(folder) - (node.level - 1)]
            base = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                add([*base, alias.name])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fusedrnn":
            for alias in node.names:
                add([*(node.module or "").split(".")[1:], alias.name])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "fusedrnn":
                    add(alias.name.split(".")[1:])
    return found - {module_name(path)}


@pytest.mark.parametrize("path", PYTHON_FILES, ids=module_name)
def test_imports_follow_the_arrows(path: Path) -> None:
    name = module_name(path)
    allowed = first_match(name, PYTHON_ARROWS)
    assert allowed is not None, f"{name} has no place in PYTHON_ARROWS"
    for target in imports(path):
        assert any(fnmatch(target, pattern) for pattern in allowed), f"{name} -> {target}"


def test_imports_have_no_cycle() -> None:
    edges = {module_name(path): imports(path) for path in PYTHON_FILES}
    for source, target in LAZY_ARROWS:
        edges[source].discard(target)
    assert not find_cycle(edges)


# An adapter may import the package that it adapts to, and plots what they draw with.
ADAPTERS = {
    "forecasting": {"matplotlib"},
    "inspect": {"matplotlib"},
    "jax": {"jax"},
    "onnx": {"onnx"},
    "keras": {"jax", "keras", "tensorflow", "torch"},
    "torch": {"torch"},
}


def test_numpy_is_the_only_dependency() -> None:
    for path in PYTHON_FILES:
        adapted = ADAPTERS.get(module_name(path).split(".")[0], set())
        known = set(sys.stdlib_module_names) | {"numpy", "fusedrnn"} | adapted
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in known, f"{relative(path, PACKAGE)} imports {name}"


# The modules that may write files themselves; all others use `_storage.replacing`.
WRITERS = {"_storage"}
WRITING = {"write_bytes", "write_text", "savefig", "savez", "savez_compressed", "tofile"}


def writes(call: ast.Call) -> bool:
    """Whether a call writes a file that it names itself."""
    if isinstance(call.func, ast.Attribute):
        whole = ast.unparse(call.func)
        return call.func.attr in WRITING or whole in {"np.save", "os.replace", "os.rename"}
    modes = [
        a.value
        for a in [*call.args, *(k.value for k in call.keywords)]
        if isinstance(a, ast.Constant) and isinstance(a.value, str)
    ]
    return ast.unparse(call.func) == "open" and any(
        re.fullmatch("[wxa]b?|r\\+b?", m) for m in modes
    )


def test_one_writer() -> None:
    """One function writes all files, so every file is written whole or not at all."""
    for path in PYTHON_FILES:
        if module_name(path) not in WRITERS:
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            wrong = [f"line {call.lineno}: {ast.unparse(call)}" for call in calls if writes(call)]
            assert not wrong, f"{relative(path, PACKAGE)} writes by itself: {wrong}"


# --- words that may stand in one place only ----------------------------------------------------

# A pattern, and the files of csrc/ that may contain it.
CPP_WORDS = {
    r"pybind11|\bpy::": ["bind/*"],
    r"#\s*pragma omp|\bomp_\w+\(|\bomp\.h\b|\b_OPENMP\b": ["outer/team.cpp"],
    r"\bgetenv\b": ["outer/dispatch.cpp"],
    r"\b_mm\d*_\w+|\b__m\d{3}\w*|immintrin|arm_neon|\bv\w+q_[fsu]\d\d\b": ["inner/simd.hpp"],
    r"\bcpuid\b|__builtin_cpu_|xgetbv|getauxval": ["outer/dispatch.cpp"],
    # Only team.cpp changes flush-to-zero: GCC moves arithmetic across the change, so no kernel may
    # be in the same file.
    r"MXCSR|_mm_[gs]etcsr|ldmxcsr|stmxcsr|\bfpcr\b": ["outer/team.cpp"],
}
# What a kernel must not contain.
INNER_FORBIDDEN = r"\bthrow\b|\bnew\b|\bdelete\b|\bmalloc\b|\bprintf\b|\bcout\b|\bstd::(?!("
INNER_FORBIDDEN += r"byte|u?int\d+_t|size_t|ptrdiff_t|conditional_t|same_as|convertible_to|is_\w+|"
INNER_FORBIDDEN += r"remove_\w+|bit_\w+|integral|floating_point|type_identity_t|integral_constant"
INNER_FORBIDDEN += r")\b)\w+"


def code_of(path: Path) -> str:
    """C++ source without comments; string literals stay."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(), flags=re.S)


@pytest.mark.parametrize("word", CPP_WORDS)
def test_words_have_one_home(word: str) -> None:
    for path in CPP_FILES:
        name = relative(path, CSRC)
        if not any(fnmatch(name, home) for home in CPP_WORDS[word]):
            match = re.search(word, code_of(path))
            assert match is None, f"{name} has {match and match.group()!r}"


def test_the_inner_house_stays_plain() -> None:
    for path in CPP_FILES:
        name = relative(path, CSRC)
        if not is_outer(name):
            match = re.search(INNER_FORBIDDEN, code_of(path))
            assert match is None, f"{name} has {match and match.group()!r}"
            if name != "kernels.hpp" and path.suffix == ".hpp":
                spaces = re.findall(r"^namespace ([\w:]+)", code_of(path), re.M)
                assert spaces, f"{name} has no namespace"
                assert set(spaces) == {"fusedrnn::FUSEDRNN_ISA"}, f"{name} opens {spaces}"


def test_no_cell_is_named_outside_its_homes() -> None:
    names = "|".join(map(re.escape, CELLS))
    for path in PYTHON_FILES:
        if module_name(path) != "_golden":
            match = re.search(rf"\b(el)?if .*[=!]= ?[\"']({names})[\"']", path.read_text())
            assert match is None, f"{relative(path, PACKAGE)}: {match and match.group()}"
    for path in CPP_FILES:
        name = relative(path, CSRC)
        if not name.startswith(("inner/cells/", "inner/isa/table")):
            match = re.search(rf"\"({names})\"", code_of(path))
            assert match is None, f"{name}: {match and match.group()}"


def test_no_fast_math() -> None:
    """[N2.2] Compiling a kernel by hand with -ffast-math is an error."""
    text = (CSRC / "inner/simd.hpp").read_text()
    assert re.search(r"#if[^\n]*__FAST_MATH__(.*\\\n)*.*\n\s*#error", text)
    guarded = sorted((CSRC / "inner/isa").glob("*.cpp"))
    assert guarded
    for path in guarded:
        assert "#error" in path.read_text(), f"{path.name} does not guard its flags"


# --- names of files -------------------------------------------------------------------


def test_no_drawer_for_everything() -> None:
    for path in [*CPP_FILES, *PYTHON_FILES]:
        assert not re.search(r"util|common|helper|misc", path.stem), relative(path, ROOT)


# --- object files ------------------------------------------------------------------------------

# The functions that GCC and Clang may call on their own, and the symbol that the dynamic linker
# needs.
MAY_BE_CALLED = {"memcpy", "memset", "memmove", "_GLOBAL_OFFSET_TABLE_"}
WIDE = r"%[yz]mm|\bvfn?m(add|sub)|%k[0-7]"


def built_object(pattern: str) -> Path:
    """The newest object file that a plain CMake build or pip left under build/."""
    if shutil.which("nm") is None or shutil.which("objdump") is None:
        pytest.skip("codebase: no binutils here")
    found = sorted((ROOT / "build").glob(f"**/{pattern}"), key=lambda p: p.stat().st_mtime)
    if not found:
        assert not IN_CI, "CI builds in build/, and there are no object files"
        pytest.skip("codebase: no object files under build/; `pip install .` makes them")
    return found[-1]


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


ON_ARM = platform.machine() in {"aarch64", "arm64"}
ISAS = sorted(p.stem for p in (CSRC / "inner/isa").glob("*.cpp") if (p.stem == "neon") == ON_ARM)


def isa_object(isa: str, dtype_bytes: int) -> Path:
    return built_object(f"isa_{isa}_{dtype_bytes}.dir/csrc/inner/isa/{isa}.cpp.o")


objects_of_kernels = pytest.mark.parametrize(
    ("isa", "dtype_bytes"), [(isa, dtype_bytes) for isa in ISAS for dtype_bytes in (4, 8)]
)


@objects_of_kernels
def test_every_symbol_is_in_its_namespace(isa: str, dtype_bytes: int) -> None:
    inside = re.compile(rf"^_Z\w*?8fusedrnn{len(isa)}{isa}")
    for line in run("nm", "--defined-only", isa_object(isa, dtype_bytes)).splitlines():
        kind, symbol = line.split()[-2:]
        if kind.isupper() or kind == "u":
            assert inside.match(symbol), run("c++filt", symbol)


@objects_of_kernels
def test_kernels_call_nobody(isa: str, dtype_bytes: int) -> None:
    table_of_float64 = f"_ZN8fusedrnn{len(isa)}{isa}8kFloat64E"
    for line in run("nm", "--undefined-only", isa_object(isa, dtype_bytes)).splitlines():
        assert line.split()[-1] in {*MAY_BE_CALLED, table_of_float64}, line


@objects_of_kernels
def test_kernels_run_nothing_at_load_time(isa: str, dtype_bytes: int) -> None:
    headers = run("objdump", "--section-headers", isa_object(isa, dtype_bytes))
    assert not re.search(r"\.(init_array|ctors|preinit_array)\b", headers)


@pytest.mark.parametrize("source", ["caches", "layout", "team", "dispatch"])
def test_the_outer_house_runs_anywhere(source: str) -> None:
    code = run("objdump", "--disassemble", built_object(f"outer.dir/csrc/outer/{source}.cpp.o"))
    assert not re.search(WIDE, code)


@pytest.mark.skipif(ON_ARM, reason="x86-64 only: the floor of aarch64 is neon")
@pytest.mark.parametrize("dtype_bytes", [4, 8])
def test_the_floor_runs_anywhere(dtype_bytes: int) -> None:
    code = run("objdump", "--disassemble", isa_object("baseline", dtype_bytes))
    assert not re.search(WIDE, code)


# A cell costs its own functions, 20 to 80 KB, and not another copy of the walk over time. A new
# cell raises the limit by no more than that.
MOST_BYTES = 2_000_000


def test_the_module_is_small(tmp_path: Path) -> None:
    """Without symbols: debug information and names are not part of what runs."""
    if shutil.which("strip") is None:
        pytest.skip("codebase: no binutils here")
    path = Path(str(core().__file__))  # type: ignore[attr-defined]
    stripped = tmp_path / path.name
    run("strip", "--strip-all", "-o", stripped, path)
    assert stripped.stat().st_size < MOST_BYTES


# --- the same in C++ and in Python -------------------------------------------------------------


def core() -> object:
    return pytest.importorskip("fusedrnn._core", reason="codebase: the NumPy-only package")


def test_cells_are_the_same_in_both_languages() -> None:
    fields = ("gates", "x_gates", "h_first", "late", "states", "vectors", "norm")
    here = {name: {f: getattr(spec, f) for f in fields} for name, spec in CELLS.items()}
    there = core().cells()  # type: ignore[attr-defined]
    assert there == here
    assert all(name == spec.name for name, spec in CELLS.items())


def test_version_is_the_same_everywhere() -> None:
    assert core().version() == fusedrnn.__version__  # type: ignore[attr-defined]
    try:
        assert metadata.version("fusedrnn") == fusedrnn.__version__
    except metadata.PackageNotFoundError:  # a plain CMake build, nothing installed
        assert not IN_CI


def stub_names(path: Path) -> dict[str, ast.stmt]:
    names: dict[str, ast.stmt] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = node
    return {name: node for name, node in names.items() if not name.startswith("_")}


def test_the_stub_is_complete() -> None:
    module = core()
    stubs = stub_names(PACKAGE / "_core.pyi")
    real = {name for name in dir(module) if not name.startswith("_")}
    assert set(stubs) == real
    for name, node in stubs.items():
        # pybind11's docstring starts with the signature; arguments without a name are arg0, arg1.
        signature = (getattr(module, name).__doc__ or "").split("\n")[0]
        if isinstance(node, ast.FunctionDef) and "Overloaded" not in signature:
            listed = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            found = re.findall(r"[(,] ?(?:\*, )?(\w+): ", signature)
            assert len(found) == len(listed), signature
            for real_name, stub in zip(found, listed, strict=True):
                assert real_name in {stub.arg, f"arg{listed.index(stub)}"}, signature


def test_public_names_are_listed() -> None:
    assert sorted(fusedrnn.__all__) == sorted(set(fusedrnn.__all__))
    for name in fusedrnn.__all__:
        assert hasattr(fusedrnn, name), name
        if name != "__version__":
            assert getattr(fusedrnn, name).__doc__, f"{name} has no docstring"


# --- the specification and the tests -----------------------------------------------------------


def sentence_ids() -> list[str]:
    return re.findall(
        r"\*\*\[([A-Z]\d+(?:\.\d+)?)\]\*\*", (ROOT / "docs/conventions.md").read_text()
    )


def test_sentence_ids_are_unique() -> None:
    ids = sentence_ids()
    assert len(ids) > 40
    assert len(set(ids)) == len(ids)


def test_every_sentence_is_named_by_a_test() -> None:
    tests = [p for p in (ROOT / "tests").rglob("*") if p.suffix in {".py", ".cpp", ".sh"}]
    text = "".join(p.read_text() for p in tests)
    unnamed = [sentence for sentence in sentence_ids() if f"[{sentence}]" not in text]
    assert not unnamed, f"docs/conventions.md: no test names {unnamed}"
