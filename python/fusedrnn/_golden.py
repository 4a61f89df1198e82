"""Cases for the hashes of outputs and gradients in golden.json.

Every input is made of integers (FNV-1a, splitmix64) scaled by powers of two: no random numbers of a
library and no rounding. Any language can make the same bits; tests/cpp/digest.cpp does in C++.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._activations import Activation, Options, defaults
from ._backends.types import Backend, Given, Inputs, Wanted
from ._cells import CELLS, Array
from .core._packed import Packed
from .core._plan import plan

__all__ = ["CASES", "Case", "digests", "load_hashes", "results", "values"]


@dataclass(frozen=True)
class Case:
    """One call, forward and backward: a cell, a dtype, sizes, options."""

    name: str
    cell: str
    dtype: str
    steps: int
    batch: int
    input_size: int
    hidden_size: int
    directions: int = 1
    bias: bool = True
    tokens: bool = False
    lengths: bool = False
    reset: bool = False
    activations: str = "-"  # "f,g,h" of a cell that chooses them, with defaults and clip CLIP
    coupled: bool = False


CLIP = 1.5
# Nine of the eleven activations, three for each shape of `_cases`.
_CHOSEN = {
    "few": "hard_sigmoid,softsign,elu",
    "tails": "softplus,scaled_tanh,leaky_relu",
    "sums": "sigmoid,thresholded_relu,affine",
}


def _cases() -> Iterator[Case]:
    # few: fewer units than a float32 vector of AVX2, no bias, zero states. tails: K past a piece of
    # 128, and a tail in every block. sums: three partial sums of the weight gradients.
    shapes = {"few": (3, 2, 5, 7), "tails": (4, 7, 150, 133), "sums": (30, 40, 8, 16)}
    for cell in CELLS:
        chosen = cell.endswith("_chosen")
        for dtype in ("float32", "float64"):
            for shape, (steps, batch, inputs, hidden) in shapes.items():
                if cell == "dense":  # one step of many rows
                    steps, batch = 1, steps * batch
                name = f"{cell}-{dtype}-{shape}"
                case = Case(name, cell, dtype, steps, batch, inputs, hidden, bias=shape != "few")
                if chosen:
                    coupled = cell.startswith("lstm") and shape == "sums"
                    case = replace(case, activations=_CHOSEN[shape], coupled=coupled)
                yield case
    yield Case("lstm-float32-wide", "lstm", "float32", 2, 520, 2, 5)
    yield Case("gru-float64-wide", "gru", "float64", 2, 520, 2, 5)
    yield Case("lstm-float32-tokens", "lstm", "float32", 5, 6, 11, 20, tokens=True)
    yield Case("lstm-float32-both", "lstm", "float32", 7, 5, 9, 20, directions=2)
    yield Case("lstm-float32-lengths", "lstm", "float32", 9, 6, 9, 20, directions=2, lengths=True)
    yield Case("lstm-float64-reset", "lstm", "float64", 9, 6, 9, 20, directions=2, reset=True)


def integers(label: str, count: int) -> NDArray[np.uint64]:
    """Make 64-bit integers from a label: splitmix64, started at FNV-1a of its UTF-8 bytes.

    Parameters
    ----------
    label : str
        Name of the sequence.
    count : int
        Number of integers.

    Returns
    -------
    ndarray of uint64, shape (count,)
    """
    seed = 0xCBF29CE484222325
    for byte in label.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    step = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = step + np.full(count, seed, dtype=np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def values(label: str, shape: tuple[int, ...], dtype: str, exponent: int = 0) -> Array:
    """Make multiples of 2^-15 in [-1, 1), times 2^-exponent, from the high 16 bits of `integers`.

    Parameters
    ----------
    label : str
        Name of the array.
    shape : tuple of int
        Its shape, filled in C order.
    dtype : str
        "float32" or "float64"; both hold every value exactly.
    exponent : int
        The power of two to divide by.

    Returns
    -------
    ndarray
    """
    high = (integers(label, int(np.prod(shape))) >> np.uint64(48)).astype(np.int64)
    scaled: Array = ((high - 32768) * 2.0 ** -(15 + exponent)).astype(dtype)
    return scaled.reshape(shape)


def results(case: Case, backend: Backend, *, dtype: str | None = None) -> dict[str, Array]:
    """Run a case, forward and backward.

    Parameters
    ----------
    case : Case
        What to run.
    backend : Backend
        The backend to run it on.
    dtype : str, optional
        Another dtype for the same numbers: with "float64" the reference serves as an oracle.

    Returns
    -------
    dict of str to ndarray
        The outputs ``y``, ``state0``, ..., then the gradients, whose names begin with "d".
    """
    spec = CELLS[case.cell]
    kind = dtype or case.dtype
    size = (case.directions, case.batch, case.hidden_size)

    def make(part: str, shape: tuple[int, ...], exponent: int = 0) -> Array:
        return values(f"{case.name}/{part}", shape, kind, exponent)

    def weight(part: str, shape: tuple[int, ...]) -> Array:
        # Division by about the root of the columns keeps sums near 1 and states from vanishing or
        # growing.
        halvings = (shape[-1] - 1).bit_length() // 2 if part.startswith("w") else 0
        return make(part, shape, 1 if part.startswith("p") else halvings)

    shapes = spec.shapes(case.input_size, case.hidden_size)
    if not case.bias:
        shapes = {part: shape for part, shape in shapes.items() if not part.startswith("b")}

    def direction(d: int) -> dict[str, Array]:
        # Gains are drawn as one array of all vectors of a unit, as the kernels have them.
        norms = [part for part in shapes if part.startswith("norm")]
        own = {part: shape for part, shape in shapes.items() if part not in norms}
        arrays: dict[str, Any] = {part: weight(f"{part}{d}", shape) for part, shape in own.items()}
        if norms:
            p = make(f"p{d}", (spec.vectors * case.hidden_size,), 1)
            ends = np.cumsum([shapes[part][0] for part in norms])[:-1]
            arrays.update(zip(norms, np.split(p, ends), strict=True))
        return arrays

    weights = [direction(d) for d in range(case.directions)]
    packed = Packed(case.cell, weights, _options(case), None, False)
    x: Array | None = None
    tokens: Array | None = None
    if case.tokens:
        drawn = integers(f"{case.name}/tokens", case.steps * case.batch)
        tokens = (drawn % np.uint64(case.input_size)).astype(np.int64)
        tokens = tokens.reshape(case.steps, case.batch)
    else:
        x = make("x", (case.steps, case.batch, case.input_size))
    lengths = np.arange(case.batch, dtype=np.int64) * case.steps // max(case.batch - 1, 1)
    cut = integers(f"{case.name}/reset", case.steps * case.batch) >> np.uint64(62) == 0
    stateful = case.bias and spec.h_gates > 0
    walk = plan(
        case.steps,
        case.batch,
        case.directions,
        lengths if case.lengths else None,
        None,
        cut.reshape(case.steps, case.batch) if case.reset else None,
    )
    inputs = Inputs(
        x=x,
        tokens=tokens,
        states=tuple(make(f"state{k}", size) for k in range(spec.states)) if stateful else None,
        lengths=walk.lengths,
        times=walk.times,
        cut=walk.cut,
        initial=tuple(make(f"initial{k}", size) for k in range(spec.states))
        if case.reset
        else None,
    )

    y, states, saved = backend.forward(packed, inputs, saved=True)
    if saved is None:
        raise RuntimeError(f"{case.name}: nothing was saved for the backward pass")
    found: dict[str, Array | None] = {"y": y}
    found.update({f"state{k}": state for k, state in enumerate(states)})
    dy = make("dy", (case.steps, case.batch, case.directions * case.hidden_size))
    dstates = tuple(make(f"dstate{k}", size) for k in range(spec.states)) if stateful else None
    parts = spec.shapes(1, 1)
    everything = Wanted(True, (dict.fromkeys(parts, True),) * case.directions, True)
    gradients = backend.backward(packed, inputs, y, saved, Given(dy, dstates), everything)
    found["dx"] = gradients.dx
    for d, of in enumerate(gradients.dweights):
        found.update({f"d{part}{d}": of.get(part) for part in parts})
    found.update({f"dstate{k}": array for k, array in enumerate(gradients.dstates or ())})
    return {name: array for name, array in found.items() if array is not None}


def _options(case: Case) -> Options | None:
    if case.activations == "-":
        return None
    f, g, h = (Activation(name, *defaults(name)) for name in case.activations.split(","))
    return Options(f, g, h, CLIP, case.coupled)


def digests(found: Mapping[str, Array]) -> dict[str, str]:
    """Hash outputs and gradients.

    Parameters
    ----------
    found : mapping of str to ndarray
        From `results`.

    Returns
    -------
    dict
        "outputs" and "gradients": SHA-256 of the little-endian bytes of the arrays, in the order
        of `found`, every NaN written as the positive quiet NaN without payload.
    """

    def digest(arrays: Iterable[Array]) -> str:
        total = hashlib.sha256()
        for array in arrays:
            plain = array.astype(array.dtype.newbyteorder("<"))
            plain[np.isnan(plain)] = np.nan
            total.update(plain.tobytes())
        return total.hexdigest()

    return {
        "outputs": digest(a for name, a in found.items() if not name.startswith("d")),
        "gradients": digest(a for name, a in found.items() if name.startswith("d")),
    }


def load_hashes() -> dict[str, dict[str, str]]:
    """Read the packaged golden.json: digests by case name; empty if there is no such file."""
    file = resources.files("fusedrnn") / "golden.json"
    if not file.is_file():
        return {}
    loaded: dict[str, dict[str, str]] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


CASES = tuple(_cases())
