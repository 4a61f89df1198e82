"""The grid of test cases (cells, dtypes, shapes around vector widths, options) and their calls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from floor import Backend, Inputs, Weights
from fusedrnn._activations import Activation, Options
from fusedrnn._cells import CELLS, Array

CELL_NAMES = tuple(CELLS)
# Options of the cells with chosen activations. They are smooth, so that central differences can
# judge them, and differ from the cells' usual activations.
OPTIONS_CHOSEN = Options(
    Activation("sigmoid"), Activation("softsign"), Activation("scaled_tanh", 1.2, 0.8)
)
# Names of the arrays of one direction, in the order of their gradients.
ARRAYS = ("w_ih", "w_hh", "b_ih", "b_hh", "p", "w_hr")
ARRAYS += ("norm_ih", "norm_hh", "norm_c", "norm_c_bias")
RECURRENT = tuple(name for name, spec in CELLS.items() if spec.h_gates)
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Case:
    """One call, without its cell and dtype."""

    steps: int = 4
    batch: int = 3
    input_size: int = 3
    hidden_size: int = 5
    directions: int = 1
    bias: bool = True
    states: bool = True
    tokens: bool = False
    lengths: tuple[int, ...] | None = None
    reset: bool = False
    initial: bool = False

    def __str__(self) -> str:
        sizes = f"T{self.steps}B{self.batch}I{self.input_size}H{self.hidden_size}"
        flags = [f"D{self.directions}"] if self.directions > 1 else []
        flags += [] if self.bias else ["nobias"]
        flags += [] if self.states else ["nostates"]
        flags += [name for name in ("tokens", "lengths", "reset", "initial") if getattr(self, name)]
        return "-".join([sizes, *flags])


# Hidden sizes one below, at and above 4, 8 and 16 lanes and their multiples; numbers of rows around
# the height of a tile; and calls in which T, B or I is 0.
SHAPES = tuple(
    Case(*sizes)
    for sizes in (
        (1, 1, 1, 1),
        (5, 2, 3, 4),
        (3, 3, 7, 7),
        (3, 4, 8, 8),
        (4, 5, 9, 9),
        (2, 6, 15, 15),
        (3, 7, 16, 16),
        (3, 8, 17, 17),
        (2, 9, 31, 33),
        (2, 13, 5, 64),
        (3, 1, 130, 65),
        (33, 1, 2, 3),
        (0, 3, 2, 5),
        (4, 0, 2, 5),
        (0, 0, 2, 5),
        (3, 2, 0, 5),
    )
)

OPTIONS = (
    Case(bias=False),
    Case(states=False),
    Case(directions=2),
    Case(tokens=True),
    Case(tokens=True, directions=2, batch=1, input_size=1),
    Case(lengths=(4, 2, 1)),
    Case(lengths=(0, 3, 4)),
    Case(lengths=(1, 0, 4), directions=2, hidden_size=9),
    Case(lengths=(0, 0, 0), directions=2),
    Case(reset=True),
    Case(reset=True, initial=True),
    Case(steps=7, reset=True, initial=True, directions=2, hidden_size=17),
    Case(steps=7, lengths=(7, 0, 4), reset=True, directions=2),
    Case(steps=6, lengths=(3, 6, 5), reset=True, initial=True, directions=2, states=False),
    Case(steps=6, lengths=(3, 6, 5), tokens=True, directions=2),
)


def call(
    cell: str, case: Case, dtype: str = "float64", seed: int = 0
) -> tuple[tuple[Weights, ...], Inputs]:
    """Weights and inputs of a case.

    They are scaled so that pre-activations are of order 1 and the recurrence does not explode.
    """
    rng = np.random.default_rng([seed, *cell.encode()])
    spec = CELLS[cell]
    steps, batch, size = case.steps, case.batch, case.hidden_size

    def random(*shape: int, scale: float = 1.0) -> Array:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    weights = []
    for _ in range(case.directions):
        arrays: dict[str, Any] = {}
        for name, shape in spec.shapes(case.input_size, size).items():
            scale = {"w_ih": 1 / np.sqrt(max(shape[-1], 1)), "w_hh": 0.4 / np.sqrt(size)}.get(
                name, 0.5
            )
            if case.bias or name not in ("b_ih", "b_hh", "norm_c_bias"):
                arrays[name] = random(*shape, scale=scale)
        chosen = OPTIONS_CHOSEN if cell.endswith("_chosen") else None
        weights.append(Weights(spec, **arrays, options=chosen))
    state = (case.directions, batch, size)
    inputs = Inputs(
        x=None if case.tokens else random(steps, batch, case.input_size),
        tokens=rng.integers(0, case.input_size, (steps, batch)) if case.tokens else None,
        states=tuple(random(*state) for _ in range(spec.states)) if case.states else None,
        lengths=None if case.lengths is None else np.array(case.lengths, np.int64),
        reset=rng.random((steps, batch)) < 0.4 if case.reset else None,
        initial=tuple(random(*state) for _ in range(spec.states)) if case.initial else None,
    )
    return tuple(weights), inputs


def converted(
    weights: tuple[Weights, ...], inputs: Inputs, dtype: str
) -> tuple[tuple[Weights, ...], Inputs]:
    """The same values in another dtype."""

    def to(a: Array | None) -> Array | None:
        return None if a is None else a.astype(dtype)

    def all_to(arrays: tuple[Array, ...] | None) -> tuple[Array, ...] | None:
        return None if arrays is None else tuple(a.astype(dtype) for a in arrays)

    changed = tuple(
        replace(
            w,
            **{name: to(getattr(w, name)) for name in ARRAYS},  # type: ignore[arg-type]
        )
        for w in weights
    )
    return changed, inputs._replace(
        x=to(inputs.x), states=all_to(inputs.states), initial=all_to(inputs.initial)
    )


def out_gradients(
    weights: tuple[Weights, ...], inputs: Inputs, seed: int = 1
) -> tuple[Array, tuple[Array, ...]]:
    """Random gradients of y and of the final states."""
    rng = np.random.default_rng(seed)
    first = weights[0]
    sequence = inputs.tokens if inputs.x is None else inputs.x
    assert sequence is not None
    steps, batch = sequence.shape[:2]
    size, directions = first.hidden_size, len(weights)
    dy = rng.standard_normal((steps, batch, directions * size)).astype(first.dtype)
    dstates = tuple(
        rng.standard_normal((directions, batch, size)).astype(first.dtype)
        for _ in range(first.spec.states)
    )
    return dy, dstates


def outcome(
    run: Backend,
    weights: tuple[Weights, ...],
    inputs: Inputs,
    dy: Array | None = None,
    dstates: tuple[Array, ...] | None = None,
    *,
    threads: int | None = None,
) -> dict[str, Array]:
    """Outputs, final states and every gradient of a call, by name."""
    y, states, saved = run.forward(weights, inputs, save=True, num_threads=threads)
    assert saved is not None
    g = run.backward(saved, dy, dstates, num_threads=threads)
    named = {"y": y, "dx": g.dx}
    named |= {f"state {k}": state for k, state in enumerate(states)}
    named |= {f"dstate {k}": state for k, state in enumerate(g.states)}
    named |= {f"dinitial {k}": state for k, state in enumerate(g.initial)}
    for d, of in enumerate(g.directions):
        named |= {f"{name} {d}": array for name, array in of._asdict().items()}
    return {name: array for name, array in named.items() if array is not None}


def same_bits(a: Array, b: Array) -> bool:
    """Whether all bits are equal. All NaN count as equal; -0 and 0 differ."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    kind = f"u{a.dtype.itemsize}"
    left, right = np.ascontiguousarray(a), np.ascontiguousarray(b)
    nan = np.isnan(left) & np.isnan(right)
    return bool(np.all((left.view(kind) == right.view(kind)) | nan))


def assert_same_bits(found: dict[str, Array], right: dict[str, Array]) -> None:
    """Assert that two outcomes are equal to the bit."""
    assert found.keys() == right.keys()
    other = [name for name in right if not same_bits(found[name], right[name])]
    assert not other, f"other bits in {', '.join(other)}"


# Sizes one below, at and above the vector widths and the panels made of vectors.
EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 49, 63, 64, 65, 70)
SIZES = st.sampled_from(EDGES) | st.integers(1, 70)


def hidden_sizes(cell: str) -> st.SearchStrategy[int]:
    """Hidden sizes for tests that measure errors; at least 8 for normalised cells.

    With fewer units the sums of a row can lie so close together that LN enlarges their rounding
    errors by up to 1 / sqrt(1e-5).
    """
    return SIZES.filter(lambda size: size >= 8) if CELLS[cell].norm else SIZES


@st.composite
def any_case(draw: st.DrawFn, measured: bool = False) -> tuple[str, Case, int]:
    """Draw a cell, a case of it with any options, and a seed for `call`."""
    cell = draw(st.sampled_from(CELL_NAMES), "cell")
    flag = st.booleans() if cell != "dense" else st.just(False)
    batch = draw(st.just(0) | SIZES, "B")
    longest = 6 if measured and CELLS[cell].norm else 20
    steps = draw(st.integers(0, min(longest, 400 // max(batch, 1))), "T")
    tokens = draw(flag, "tokens")
    lengths = st.none() | st.tuples(*[st.integers(0, steps)] * batch)
    case = Case(
        steps,
        batch,
        draw(SIZES if tokens else st.just(0) | SIZES, "I"),
        draw(hidden_sizes(cell) if measured else SIZES, "H"),
        directions=2 if draw(flag, "two directions") else 1,
        bias=draw(st.booleans(), "bias"),
        states=draw(flag, "states"),
        tokens=tokens,
        lengths=draw(lengths, "lengths") if cell != "dense" else None,
        reset=draw(flag, "reset"),
        initial=draw(flag, "initial"),
    )
    return cell, case, draw(st.integers(0, 2**32), "seed")
