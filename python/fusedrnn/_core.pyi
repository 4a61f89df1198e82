# The compiled module (csrc/bind/module.cpp). forward, backward and the packs are for _native.py
# alone.
from collections.abc import Sequence
from typing import Any

from ._spec import Array

def version() -> str: ...
def build() -> dict[str, Any]: ...
def cells() -> dict[str, dict[str, int]]: ...
def isas() -> list[tuple[str, bool, int]]: ...
def default_isa() -> str: ...
def default_threads() -> int: ...
def pack(
    isa: str,
    cell: str,
    w_ih: Array,
    w_hh: Array | None,
    b_ih: Array | None,
    b_hh: Array | None,
    p: Array | None,
    w_hr: Array | None,
    backward: bool,
) -> Array: ...
def forward(
    isa: str,
    cell: str,
    packs: Sequence[Array],
    sizes: tuple[int, int, int, bool],
    options: tuple[object, ...] | None,
    inputs: tuple[object, ...],
    save: bool,
    num_threads: int,
) -> Any: ...
def forward_unpacked(
    isa: str,
    cell: str,
    weights: Sequence[Sequence[Array | None]],
    sizes: tuple[int, int, int, bool],
    options: tuple[object, ...] | None,
    inputs: tuple[object, ...],
    save: bool,
    num_threads: int,
) -> Any: ...
def unpacked_pays(steps: int, batch: int) -> bool: ...
def backward(
    isa: str,
    cell: str,
    packs: Sequence[Array],
    sizes: tuple[int, int, int, bool],
    options: tuple[object, ...] | None,
    inputs: tuple[object, ...],
    y: Array,
    saved: Array,
    dy: Array | None,
    dstates: tuple[Array, ...] | None,
    dcells: Array | None,
    dgates: Array | None,
    want_dx: bool,
    num_threads: int,
) -> Any: ...

class Stepper:
    def step(self, x: Array, y: Array) -> int: ...
    def undo(self) -> None: ...
    def states(self) -> tuple[Array, ...]: ...
    def load(self, states: Sequence[Array]) -> None: ...

def stepper(
    isa: str,
    cell: str,
    packs: Sequence[Array],
    sizes: tuple[int, int, int, bool],
    options: tuple[object, ...] | None,
    inputs: tuple[object, ...],
    num_threads: int,
) -> Stepper: ...
def sigmoid(isa: str, x: Array) -> Array: ...
def tanh(isa: str, x: Array) -> Array: ...
def exp(isa: str, x: Array) -> Array: ...
def peak_gflops(isa: str, wide: bool) -> float: ...
def read_bandwidth(isa: str, size: int) -> float: ...
