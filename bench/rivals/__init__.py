"""The rivals: one small module each, with the same three functions.

`prepare(case, weights)` builds the layer and returns a call and a way to read its result;
`refuses(case)` says why it cannot do a case, or ""; `versions()` names what ran. A module with
`kept(case, weights)` also measures what a training forward call keeps. Only a rival's module
imports its packages, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol, cast

from bench.cases import Array, Case

OURS = "ours"


class Prepared(NamedTuple):
    """A call that does the work once, and its result as arrays by name.

    Names: "y" (T, B, H) always; "h" and "c" (B, H); in training "dx", "dweight_ih_l0" and
    "dweight_hh_l0". Arrays that both sides of a comparison have are compared.
    """

    call: Callable[[], Any]
    read: Callable[[Any], dict[str, Array]]


class Module(Protocol):
    """What a module of this folder has."""

    def prepare(self, case: Case, weights: Mapping[str, Array]) -> Prepared: ...
    def refuses(self, case: Case) -> str: ...
    def versions(self) -> dict[str, str]: ...


@dataclass(frozen=True)
class Rival:
    """A module of this folder, the packages that it needs, and its process's environment."""

    module: str
    needs: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


RIVALS = {
    # Without kernels it is an error: the reference would be timed as if it were the kernels.
    OURS: Rival("ours", ("fusedrnn",), {"FUSEDRNN_BACKEND": "native"}),
    "reference": Rival("reference", ("fusedrnn",)),
    "torch": Rival("pytorch", ("torch",)),
    "onnxruntime": Rival("ort", ("onnxruntime", "onnx", "fusedrnn")),
    "openvino": Rival("vino", ("openvino", "onnx", "fusedrnn")),
    "jax": Rival("jax_scan", ("jax",), {"JAX_PLATFORMS": "cpu"}),
    "keras torch": Rival(
        "keras_layers", ("keras", "torch", "fusedrnn"), {"KERAS_BACKEND": "torch"}
    ),
    "keras jax": Rival(
        "keras_layers",
        ("keras", "jax", "fusedrnn"),
        {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
    ),
    "onnx": Rival("onnx_reference", ("onnx", "fusedrnn")),
}


def missing(name: str) -> tuple[str, ...]:
    """Packages that this rival needs and this environment lacks; nothing is imported."""
    return tuple(package for package in RIVALS[name].needs if find_spec(package) is None)


def load(name: str) -> Module:
    """Import the module of a rival."""
    from importlib import import_module

    return cast("Module", import_module(f"bench.rivals.{RIVALS[name].module}"))
