"""Every example in a docstring of the package runs, and every public name has one."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "fusedrnn"
# Packages that an example may need beside NumPy.
EXTRAS = ("h5py", "jax", "keras", "matplotlib", "onnx", "torch")
# Adapters, whose examples need the package without naming it.
NEEDS = {
    "fusedrnn.forecasting.plot": "matplotlib",
    "fusedrnn.inspect.plot": "matplotlib",
    "fusedrnn.jax": "jax",
    "fusedrnn.keras": "keras",
    "fusedrnn.onnx": "onnx",
    "fusedrnn.torch": "torch",
}
# Packages whose modules are a program and not an interface: nobody imports them.
PROGRAMS = ("fusedrnn.cli",)


@pytest.fixture(autouse=True)
def keras_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras' own default is TensorFlow, which is not installed here."""
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))


# --- the examples -----------------------------------------------------------------------------


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def examples() -> Iterator[doctest.DocTest]:
    """Find the docstrings with examples without importing a module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = module_name(path)
        waiting: list[tuple[str, ast.AST]] = [(module, ast.parse(path.read_text()))]
        while waiting:
            name, node = waiting.pop()
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if ">>>" in text:
                    line = getattr(node, "lineno", 1)
                    yield doctest.DocTestParser().get_doctest(text, {}, name, str(path), line)
                parts = [n for n in node.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
                waiting += [(f"{name}.{part.name}", part) for part in parts]


def adapted(module: str) -> set[str]:
    """The package that a module adapts to."""
    return {extra for name, extra in NEEDS.items() if f"{module}.".startswith(f"{name}.")}


def installed(module: str) -> bool:
    return all(map(find_spec, adapted(module)))


EXAMPLES = list(examples())


def needed(test: doctest.DocTest) -> set[str]:
    code = "".join(example.source for example in test.examples)
    needs = {extra for extra in EXTRAS if re.search(rf"(?<![\w\"]){extra}\b", code)}
    return needs | adapted(test.name)


@pytest.mark.filterwarnings("default::DeprecationWarning")  # Keras warns
@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name.removeprefix("fusedrnn."))
def test_the_example_runs(
    test: doctest.DocTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    for extra in sorted(needed(test)):
        if find_spec(extra) is None:
            pytest.skip(f"{extra} is not installed")
    said: list[str] = []
    with np.printoptions():  # restores what an example sets
        found = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert found.failed == 0, "".join(said)


def test_no_example_is_passed_over() -> None:
    """An example that does not run may be wrong; it writes to the directory it runs in."""
    skipped = [
        test.name
        for test in EXAMPLES
        if any(doctest.SKIP in example.options for example in test.examples)
    ]
    assert not skipped


# --- every public name ------------------------------------------------------------------------


def public_modules() -> list[str]:
    """The modules without an underscore in their path."""
    names = [module_name(path) for path in sorted(PACKAGE.rglob("*.py"))]
    return [
        name
        for name in names
        if not any(part.startswith("_") for part in name.split("."))
        and not any(f"{name}.".startswith(f"{program}.") for program in PROGRAMS)
    ]


def public_names(module: str) -> dict[str, object]:
    """What a module exports: `__all__`, or else the classes and functions that it defines.

    Constants are left out, because they have no docstring.
    """
    home = importlib.import_module(module)
    names = getattr(home, "__all__", None)
    if names is None:
        own = {k: v for k, v in vars(home).items() if getattr(v, "__module__", "") == module}
        names = [name for name in own if not name.startswith("_")]
    found = {name: getattr(home, name) for name in names}
    return {
        name: value
        for name, value in found.items()
        if inspect.isclass(value) or inspect.isroutine(value)
        if value.__module__.startswith("fusedrnn.")
    }


@pytest.mark.parametrize("module", public_modules())
def test_every_public_name_has_an_example(module: str) -> None:
    if not installed(module):
        pytest.skip(f"{adapted(module)} is not installed")
    lacking = [
        name
        for name, value in public_names(module).items()
        if not re.search(r"^Examples\n-{8}\n(?:.*\n)*?>>> ", inspect.getdoc(value) or "", re.M)
    ]
    assert not lacking, f"{module}: no section Examples with >>>"


def test_the_public_names_are_found() -> None:
    assert {"GRU", "Stream", "gru_forward", "use_isa"} <= set(public_names("fusedrnn"))
    assert {"pack", "Packed", "last_path"} <= set(public_names("fusedrnn.core"))
    assert "Stream" in public_names("fusedrnn.stream")
    modules = public_modules()
    assert {"fusedrnn.nn.metrics", "fusedrnn.onnx.backend", "fusedrnn.weights"} <= set(modules)
    assert "fusedrnn.cli.train" not in modules


# --- the reference pages ----------------------------------------------------------------------

REFERENCE = ROOT / "docs" / "reference"
# An object of the package, and its members if the page names them.
LISTED = re.compile(r"^::: (fusedrnn[\w.]*)\n(?:    .*\n)*?(?:      members: \[(.*)\])?", re.M)


def test_every_public_name_is_on_a_reference_page() -> None:
    listed: list[object] = []
    for page in sorted(REFERENCE.glob("*.md")):
        for name, members in LISTED.findall(page.read_text()):
            if not installed(name):
                continue
            if name not in public_modules():
                home, _, member = name.rpartition(".")
                listed.append(public_names(home)[member])
            else:
                found = public_names(name)
                listed += [found[k.strip()] for k in members.split(",")] if members else []
                listed += [] if members else list(found.values())
    for module in public_modules():
        if installed(module):
            missing = [k for k, value in public_names(module).items() if value not in listed]
            assert not missing, f"{module}: on no page of docs/reference"
