"""Kernels and reference agree on any options of a layer and of its calls, drawn by hypothesis."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedrnn as fr
from conftest import ISAS
from fusedrnn._activations import NAMES
from fusedrnn._cells import Array
from layer_cases import arguments, arrays_of, given_of, kernel, like, named, state_of

RATES = st.sampled_from((0.0, 0.0, 0.3))
ACTIVATION = st.one_of(
    st.sampled_from(NAMES),
    st.tuples(st.sampled_from(("leaky_relu", "elu", "scaled_tanh", "affine")), st.just(0.7)),
)


def layer_of(draw: Any, dtype: str) -> Any:
    """Draw a layer of any kind with any options."""
    kind = draw(st.sampled_from((fr.RNN, fr.LSTM, fr.GRU)), "kind")
    flag = lambda name: draw(st.booleans(), name)  # noqa: E731
    sizes = draw(st.lists(st.sampled_from((3, 4, 9, 17)), min_size=1, max_size=3), "H")
    hidden: Any = sizes if flag("listed") else sizes[0]
    options: dict[str, Any] = {
        "num_layers": len(sizes),
        "bias": draw(st.sampled_from((True, False, "input", "hidden")), "bias"),
        "clip": draw(st.sampled_from((None, 0.6)), "clip"),
        "zoneout": draw(RATES, "zoneout"),
        **{name: flag(name) for name in ("batch_first", "bidirectional")},
        **{
            name: draw(RATES, name)
            for name in ("dropout", "input_dropout", "recurrent_dropout", "drop_connect")
        },
    }
    if kind is fr.RNN:
        options["nonlinearity"] = draw(ACTIVATION, "nonlinearity")
    elif flag("chosen"):
        groups = 3 if kind is fr.LSTM else 2
        options["activations"] = [draw(ACTIVATION, "activation") for _ in range(groups)]
    if kind is fr.LSTM:
        options |= {name: flag(name) for name in ("peepholes", "coupled")}
        options["proj_size"] = draw(st.sampled_from((0, 2)), "P")
        options["zoneout"] = (options["zoneout"], draw(RATES, "zoneout of c"))
    if kind is fr.GRU:
        options["reset_after"] = flag("reset_after")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warns of dropout with one layer
        return kind(
            draw(st.sampled_from((0, 1, 3, 16)), "I"), hidden, dtype=dtype, seed=0, **options
        )


def outcome(layer: Any, call: dict[str, Any], back: dict[str, Any], seed: int) -> dict[str, Array]:
    """All results of a plain call, a training call and its backward call."""
    how = {name: call.pop(name) for name in ("masked_output", "padding_value")}
    plain, plain_last = layer(**call, **how)
    y, last, saved = layer.forward(**call, **how, rng=np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    dy, dlast = like(y, rng), like(last, rng)
    cells = [None if a is None else like(a, rng) for a in saved.cells]
    gates = [{name: like(a, rng) for name, a in one.items()} for one in saved.gates]
    incoming = {
        "dcells": cells if back["inside"] and cells[0] is not None else None,
        "dgates": gates if back["inside"] else None,
    }
    found = {"plain": plain, "y": y}
    found |= {f"plain last {k}": a for k, a in enumerate(arrays_of(plain_last))}
    found |= {f"last {k}": a for k, a in enumerate(arrays_of(last))}
    found |= {f"cells {k}": a for k, a in enumerate(saved.cells) if a is not None}
    found |= {f"{name} {k}": a for k, one in enumerate(saved.gates) for name, a in one.items()}
    found |= named(layer.backward(saved, dy, dlast if back["last"] else None, **incoming))
    each = layer.backward(saved, dy, None, per_sample=True, **incoming)[2]
    call |= how
    return found | {f"each {name}": a for name, a in each.items()}


@pytest.mark.skipif(not ISAS, reason="this installation has no compiled kernels")
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@settings(max_examples=80)
@given(data=st.data())
def test_native_is_the_reference(isa: str, dtype: str, data: st.DataObject) -> None:
    """[S8] [S9] [S10] [L8] [D7] [O1] [O3] [O4] Bound: 1e-11 (float32: 1e-4) of the largest."""
    draw = data.draw
    layer = layer_of(draw, dtype)
    steps, batch = draw(st.integers(0, 6), "T"), draw(st.sampled_from((0, 1, 2, 5)), "B")
    seed = draw(st.integers(0, 2**32), "seed")
    rng = np.random.default_rng(seed)
    reset = draw(st.booleans(), "reset")
    g = given_of(
        layer,
        steps,
        batch,
        rng,
        rows=draw(st.sampled_from(("whole", "lengths", "mask")), "rows"),
        state=draw(st.booleans(), "state"),
        reset=reset,
        initial=reset and draw(st.booleans(), "initial"),
    )
    call = arguments(layer, g) | {
        "masked_output": draw(st.sampled_from(("zero", "repeat")), "masked_output"),
        "padding_value": draw(st.sampled_from((0.0, 1.5)), "padding_value"),
    }
    if layer.input_size and draw(st.booleans(), "tokens"):
        call["tokens"] = rng.integers(0, layer.input_size, call.pop("x").shape[:2])
    if batch == 1 and draw(st.booleans(), "unbatched"):
        flat = state_of(layer, None, rng)
        axis = 0 if layer.batch_first else 1
        for name in ("x", "tokens", "mask", "reset"):
            if call.get(name) is not None:
                call[name] = np.take(call[name], 0, axis)
        if g.lengths is not None:
            call["lengths"] = g.lengths[0]
        call["state"] = None if g.state is None else flat
        call["initial"] = None if g.initial is None else state_of(layer, None, rng)
    back = {"last": draw(st.booleans(), "dlast"), "inside": draw(st.booleans(), "inside")}
    with fr.use_backend("reference"):
        right = outcome(layer, call, back, seed)
    with fr.use_backend("native"), fr.use_isa(isa):
        found = outcome(layer, call, back, seed)
        assert fr.last_path()[:3] == ("native", isa, kernel(layer))
    assert found.keys() == right.keys()
    assert ("x" in found) == ("x" in call)
    bound = 1e-11 if dtype == "float64" else 1e-4
    for name, a in right.items():
        assert (found[name].shape, found[name].dtype) == (a.shape, a.dtype), name
        scale = max(1.0, float(np.abs(a).max(initial=0)))
        assert np.abs(found[name] - a).max(initial=0) <= bound * scale, name
