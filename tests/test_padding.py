"""Lengths, masks and resets through the public layers, against loops over single sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import PATHS, Chosen, choose
from layer_cases import (
    CELLS,
    arguments,
    arrays_of,
    check_differences,
    given_of,
    kernel,
    like,
    make,
    named,
    same,
    same_states,
    turned,
    weighted,
)
from layer_oracle import Given, parts, run, valid_steps

ROWS = ("whole", "lengths", "mask")
SMOOTH = [name for name in CELLS if name != "rnn_relu"]


def compare(layer: Any, given: Given, how: dict[str, Any], bound: float = 1e-13) -> None:
    """Assert that y and the states of every layer are within `bound`, and y's padding exact."""
    y, last = layer(**arguments(layer, given), **how)
    right = run(layer, given, **how)
    y = turned(layer, y)
    assert y.shape == right.y.shape
    assert np.abs(y - right.y).max(initial=0) <= bound
    if how.get("masked_output") != "repeat" and given.x.size:
        outside = y[~valid_steps(given)]
        assert np.array_equal(outside, np.full_like(outside, how.get("padding_value", 0)))
    n = 2 if layer.bidirectional else 1
    for k, part in enumerate(parts(last)):
        for layer_k, states in enumerate(right.states):
            a = part[layer_k] if isinstance(part, list) else part[layer_k * n : (layer_k + 1) * n]
            assert np.abs(a - states[k]).max(initial=0) <= bound


@settings(max_examples=150)
@given(data=st.data())
def test_forward(data: st.DataObject) -> None:
    """[L1] [L2] [L3] [L4] [L6] [L7] [L8] [S6] [S8] Every cell, option and layout is drawn."""
    name, isa = data.draw(st.sampled_from(PATHS), "path")
    flag = lambda what: data.draw(st.booleans(), what)  # noqa: E731
    cell = data.draw(st.sampled_from(list(CELLS)), "cell")
    steps, batch = data.draw(st.integers(0, 8), "T"), data.draw(st.sampled_from((0, 1, 2, 5)), "B")
    hidden: Any = data.draw(st.sampled_from((4, [4, 3], [3, 9, 4])), "H")
    layer = make(
        cell,
        hidden,
        data.draw(st.integers(1, 3), "L") if isinstance(hidden, int) else len(hidden),
        bidirectional=flag("bidirectional"),
        batch_first=flag("batch_first"),
        zoneout=0.2 if flag("zoneout") else 0.0,
        clip=0.7 if not cell.endswith("_norm") and flag("clip") else None,
        bias=data.draw(st.sampled_from((True, False, "input", "hidden")), "bias"),
        **({"proj_size": 2} if "proj_size" in CELLS[cell][1] else {}),
    )
    how = {
        "masked_output": data.draw(st.sampled_from(("zero", "repeat")), "masked_output"),
        "padding_value": data.draw(st.sampled_from((0.0, 1.0, -2.5)), "padding_value"),
    }
    reset = flag("reset")
    g = given_of(
        layer,
        steps,
        batch,
        np.random.default_rng(data.draw(st.integers(0, 2**32), "seed")),
        rows=data.draw(st.sampled_from(ROWS), "rows"),
        state=flag("state"),
        reset=reset,
        initial=reset and flag("initial"),
    )
    for chosen in choose(name, isa):
        compare(layer, g, how)
        chosen.ran(kernel(layer))


@pytest.mark.parametrize(
    ("rows", "masked_output", "batch_first"),
    [
        ("whole", "zero", False),
        ("lengths", "zero", True),
        ("mask", "zero", False),
        ("mask", "repeat", True),
    ],
)
@pytest.mark.parametrize("cell", SMOOTH)
def test_gradients(
    backend: Chosen, cell: str, rows: str, masked_output: str, batch_first: bool
) -> None:
    """[L3] [L4] [L6] [L8] A bidirectional stack with resets, initial and repeated masked output."""
    layer = make(cell, 3, 2, bidirectional=True, batch_first=batch_first, **small(cell))
    rng = np.random.default_rng(6)
    g = given_of(layer, 5, 3, rng, rows=rows, reset=True, initial=True)
    call = arguments(layer, g) | {"masked_output": masked_output}
    y, last, saved = layer.forward(**call)
    dy, dlast = like(y, rng), like(last, rng)
    gradients = named(layer.backward(saved, dy, dlast))
    backend.ran(kernel(layer))

    def loss() -> float:
        y, last = layer(**call)
        return weighted([y, *arrays_of(last)], [dy, *arrays_of(dlast)])

    arrays = {"x": call["x"]}
    arrays |= {f"state {k}": a for k, a in enumerate(arrays_of(g.state))}
    check_differences(layer, loss, arrays, gradients, elements=3)


def small(cell: str) -> dict[str, Any]:
    return {"proj_size": 2} if "proj_size" in CELLS[cell][1] else {}


@pytest.mark.parametrize("rows", ["lengths", "mask"])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_is_never_read(backend: Chosen, cell: str, rows: str) -> None:
    """[L5] NaN and Inf in padding reach nothing; neither do zeros in their place."""
    layer = make(cell, 5, 2, bidirectional=True, input_dropout=0.3, dropout=0.3)
    rng = np.random.default_rng(7)
    g = given_of(layer, 6, 4, rng, rows=rows, reset=True)
    dy = like(np.empty((6, 4, 2 * (layer.proj_size or 5))), rng)
    outcomes = []
    for poison in (0.0, np.nan, np.inf, -np.inf):
        bad = ~valid_steps(g)
        assert bad.any()
        g.x[bad], dy[bad] = poison, poison
        y, last, saved = layer.forward(**arguments(layer, g), rng=np.random.default_rng(1))
        plain, _ = layer(**arguments(layer, g))
        backend.ran(kernel(layer))
        back = named(layer.backward(saved, dy, like(last, np.random.default_rng(2))))
        each = layer.backward(saved, dy, per_sample=True)[2]
        outcomes.append([plain, y, *arrays_of(last), *back.values(), *each.values()])
        outcomes[-1] += [a for a in saved.cells if a is not None]
        outcomes[-1] += [a for gates in saved.gates for a in gates.values()]
    for other in outcomes:
        for a, b in zip(other, outcomes[0], strict=True):
            assert np.isfinite(a).all()
            assert same(a, b)


@pytest.mark.parametrize("cell", CELLS)
def test_nan_stays_in_its_row(backend: Chosen, cell: str) -> None:
    """[N5] NaN in a bidirectional stack stays in its row, also in dx, dh0, per-sample gradients."""
    layer = make(cell, 5, 2, bidirectional=True)
    rng = np.random.default_rng(8)
    g = given_of(layer, 5, 4, rng, rows="mask")
    assert g.mask is not None
    g.mask[2] = True
    y, last, saved = layer.forward(**arguments(layer, g))
    dy, dlast = like(y, rng), like(last, rng)
    right = named(layer.backward(saved, dy, dlast))
    each = layer.backward(saved, dy, dlast, per_sample=True)[2]
    g.x[2, 1] = np.nan
    y2, last2, saved2 = layer.forward(**arguments(layer, g))
    found = named(layer.backward(saved2, dy, dlast))
    each2 = layer.backward(saved2, dy, dlast, per_sample=True)[2]
    backend.ran(kernel(layer))
    others = [0, 2, 3]
    assert same(y2[:, others], y[:, others])
    assert np.isnan(y2[2, 1]).all()
    for a, b in zip(arrays_of(last2), arrays_of(last), strict=True):
        assert same(a[:, others], b[:, others])
    for name, a in right.items():
        if name == "x" or name.startswith("state"):
            assert same(found[name][:, others], a[:, others]), name
    for name, a in each.items():
        assert same(each2[name][others], a[others]), name
    if cell != "rnn_relu":  # its slope at NaN is 0
        assert np.isnan(each2["weight_hh_l0"][1]).any()


@pytest.mark.parametrize("rows", ["lengths", "mask"])
@pytest.mark.parametrize("cell", CELLS)
def test_each_sequence_alone(native: Chosen, cell: str, rows: str) -> None:
    """[N1.1] [L1] [L6] A padded batch has the bits of its sequences cut to their real steps."""
    for dtype in (np.float32, np.float64):
        layer = make(cell, 17, 2, bidirectional=True, dtype=dtype)
        rng = np.random.default_rng(9)
        g = given_of(layer, 7, 6, rng, rows=rows)
        y, last, saved = layer.forward(**arguments(layer, g), num_threads=3)
        native.ran(kernel(layer))
        dy, dlast = like(y, rng), like(last, rng)
        found = named(layer.backward(saved, dy, dlast, num_threads=2))
        for b in range(6):
            mine = valid_steps(g)[:, b]
            pick = lambda s, b=b: one(tuple(p[:, b] for p in parts(s)))  # noqa: E731
            y_b, last_b, saved_b = layer.forward(g.x[mine, b], pick(g.state))
            assert same(y_b, y[mine, b])
            assert not y[~mine, b].any()
            assert same_states(last_b, pick(last))
            dx, dfirst, _ = layer.backward(saved_b, dy[mine, b], pick(dlast))
            assert same(dx, found["x"][mine, b])
            assert not found["x"][~mine, b].any()
            for k, a in enumerate(arrays_of(dfirst)):
                assert same(a, found[f"state {k}"][:, b])


def one(arrays: Any) -> Any:
    return arrays if len(arrays) > 1 else arrays[0]
