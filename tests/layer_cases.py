"""Layers with every option, calls for them, their gradients by name, and central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fusedrnn as fr
from conftest import fastest
from fusedrnn._cells import Array
from layer_oracle import Given, parts

# Every cell with its options; some activations are smooth, others have kinks.
CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn_tanh": (fr.RNN, {}),
    "rnn_relu": (fr.RNN, {"nonlinearity": "relu"}),
    "rnn_sigmoid": (fr.RNN, {"nonlinearity": "sigmoid"}),
    "rnn_identity": (fr.RNN, {"nonlinearity": "identity"}),
    "rnn_chosen": (fr.RNN, {"nonlinearity": ("scaled_tanh", 1.2, 0.8)}),
    "lstm": (fr.LSTM, {}),
    "lstm_projected": (fr.LSTM, {"proj_size": 3}),
    "lstm_peephole": (fr.LSTM, {"peepholes": True}),
    "lstm_coupled": (fr.LSTM, {"coupled": True, "peepholes": True, "proj_size": 2}),
    "lstm_chosen": (fr.LSTM, {"activations": ("sigmoid", "softsign", ("scaled_tanh", 1.1, 0.9))}),
    "gru": (fr.GRU, {}),
    "gru_reset_before": (fr.GRU, {"reset_after": False}),
    "gru_chosen": (fr.GRU, {"activations": ("sigmoid", "softsign")}),
    "lstm_norm": (fr.LSTM, {"layer_norm": True}),
    "gru_norm": (fr.GRU, {"layer_norm": True}),
    "gru_before_chosen": (fr.GRU, {"reset_after": False, "activations": ("sigmoid", "softplus")}),
}
STEP = 2e-5  # step of the central differences, which are of fourth order


def make(cell: str, hidden: Any = 5, layers: int = 1, *, inputs: int = 3, **options: Any) -> Any:
    """A layer of this cell, by default float64 and with seed 0."""
    kind, own = CELLS[cell]
    layer = kind(inputs, hidden, layers, **({"dtype": np.float64, "seed": 0} | own | options))
    with layer.writable() as p:  # distinct gains and biases, so that a mix-up shows
        for k, name in enumerate(name for name in p if "norm" in name):
            p[name] += 0.3 * np.random.default_rng(k).standard_normal(p[name].shape)
    return layer


def kernel(layer: Any) -> str:
    """The name that last_path() gives to this layer's kernel."""
    return f"{layer.cell} {layer.dtype}"


def state_of(layer: Any, batch: int | None, rng: np.random.Generator) -> Any:
    """A random state in the form that a caller passes; without a batch axis if `batch` is None."""
    sizes = layer.hidden_size
    listed = not isinstance(sizes, int)
    hidden = list(sizes) if listed else [sizes] * layer.num_layers
    n, lead = 2 if layer.bidirectional else 1, () if batch is None else (batch,)
    found: list[Any] = []
    for part in range(2 if isinstance(layer, fr.LSTM) else 1):
        arrays = []
        for h in hidden:
            width = (layer.proj_size or h) if part == 0 else h
            arrays.append((rng.standard_normal((n, *lead, width)) / 2).astype(layer.dtype))
        found.append(arrays if listed else np.concatenate(arrays))
    return tuple(found) if len(found) > 1 else found[0]


def given_of(
    layer: Any,
    steps: int,
    batch: int,
    rng: np.random.Generator,
    *,
    rows: str = "whole",
    state: bool = True,
    reset: bool = False,
    initial: bool = False,
) -> Given:
    """The arguments of a random call, time-major; `rows` is "whole", "lengths" or "mask"."""
    shape = steps, batch
    return Given(
        rng.standard_normal((*shape, layer.input_size)).astype(layer.dtype),
        state_of(layer, batch, rng) if state else None,
        rng.integers(0, steps + 1, batch) if rows == "lengths" else None,
        rng.random(shape) < 0.6 if rows == "mask" else None,
        rng.random(shape) < 0.35 if reset else None,
        state_of(layer, batch, rng) if initial else None,
    )


def one_layer(layer: Any, k: int, ends: tuple[str, ...] | None = None) -> Any:
    """Layer k of a stack as a layer of its own.

    `ends` are the suffixes of the directions to take.
    """
    sizes = layer.hidden_size
    values = layer.state_dict()
    ends = ends or (("", "_reverse") if layer.bidirectional else ("",))
    own = {}
    for new, end in zip(("", "_reverse"), ends, strict=False):
        for name, a in values.items():
            if name.endswith(f"_l{k}{end}"):
                own[name.removesuffix(f"_l{k}{end}") + f"_l0{new}"] = a
    inputs = own["weight_ih_l0"].shape[1]
    options = {
        name: getattr(layer, name)
        for name in ("bias", "batch_first", "dtype", "clip", "nonlinearity", "peepholes")
        if name in ("bias", "batch_first", "dtype") or name in type(layer)._own
    }
    options |= {
        name: getattr(layer, name)
        for name in ("activations", "coupled", "reset_after", "layer_norm")
        if name in type(layer)._own
    }
    if isinstance(layer, fr.LSTM):
        options["proj_size"] = layer.proj_size
    one = type(layer)(
        inputs,
        sizes if isinstance(sizes, int) else sizes[k],
        bidirectional=len(ends) > 1,
        **options,
    )
    one.load_state_dict(own)
    return one


def layer_state(layer: Any, state: Any, k: int) -> Any:
    """The part of a state that belongs to layer k."""
    n = 2 if layer.bidirectional else 1
    cut = tuple(p[k] if isinstance(p, list) else p[k * n : k * n + n] for p in parts(state))
    return cut if len(cut) > 1 else cut[0]


def turned(layer: Any, a: Any) -> Any:
    """An array of steps converted between the oracle's layout (time-major) and the layer's."""
    return None if a is None else np.swapaxes(a, 0, 1) if layer.batch_first else a


def arguments(layer: Any, given: Given) -> dict[str, Any]:
    """The keywords of a layer's call."""
    return {
        "x": turned(layer, given.x),
        "state": given.state,
        "lengths": given.lengths,
        "mask": turned(layer, given.mask),
        "reset": turned(layer, given.reset),
        "initial": given.initial,
    }


def arrays_of(state: Any) -> list[Array]:
    """Every array of a state."""
    return [a for part in parts(state) for a in (part if isinstance(part, list) else [part])]


def same(a: Any, b: Any) -> bool:
    """Whether the bits are equal; all NaN count as equal."""
    a, b = np.asarray(a), np.asarray(b)
    return bool(a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=True))


def same_states(a: Any, b: Any) -> bool:
    return all(map(same, arrays_of(a), arrays_of(b))) and len(arrays_of(a)) == len(arrays_of(b))


def agree(a: Any, b: Any) -> bool:
    """Whether the bits are equal, if the last call of this thread ran on the kernels.

    For the reference it is 1e-6, because NumPy rounds a product differently if it has other rows.
    """
    if fr.last_path().backend == "native":
        return same_states(a, b)
    pairs = zip(arrays_of(a), arrays_of(b), strict=True)
    return all(p.shape == q.shape and np.abs(p - q).max(initial=0) <= 1e-6 for p, q in pairs)


def named(found: tuple[Any, Any, dict[str, Array]]) -> dict[str, Array]:
    """The results of a layer's backward by name."""
    dx, dstate, dparams = found
    result = {} if dx is None else {"x": dx}
    return result | {f"state {k}": a for k, a in enumerate(arrays_of(dstate))} | dparams


def check_differences(
    layer: Any,
    loss: Callable[[], float],
    arrays: dict[str, Array],
    gradients: dict[str, Array],
    *,
    elements: int = 8,
) -> None:
    """[N3.4] Assert that every element of a gradient is a central difference of `loss` within 1e-8.

    `arrays` (x and states) are changed in place, the layer's parameters by their names. Of each
    array at most `elements` elements, drawn at random, are judged. The bound is relative for
    gradients above 1.
    """
    rng = np.random.default_rng(5)
    assert set(gradients) == set(arrays) | set(layer.params)
    for name, d in gradients.items():
        inside = name in arrays
        array = arrays[name] if inside else layer.params[name]
        assert (d.shape, d.dtype) == (array.shape, np.float64), name
        for at in rng.permutation(array.size)[:elements]:
            index = np.unravel_index(at, array.shape)
            old, values = float(array[index]), []
            for new in (*(old + k * STEP for k in (-2, -1, 1, 2)), old):
                if inside:
                    array[index] = new
                else:
                    with layer.writable() as p:
                        p[name][index] = new
                if new != old:
                    with fastest():
                        values.append(loss())
            central = (values[0] - values[3] + 8 * (values[2] - values[1])) / (12 * STEP)
            bound = 1e-8 * max(1.0, abs(central))
            assert abs(d[index] - central) <= bound, (name, index, d[index], central)


def weighted(outputs: list[Any], weights: list[Any]) -> float:
    """A loss: the sum of outputs times weights."""
    return sum(float((a * w).sum()) for a, w in zip(outputs, weights, strict=True))


def like(a: Any, rng: np.random.Generator) -> Any:
    """Random weights with the shapes of a state or an array."""
    if isinstance(a, tuple):
        return tuple(like(one, rng) for one in a)
    if isinstance(a, list):
        return [like(one, rng) for one in a]
    return rng.standard_normal(a.shape).astype(a.dtype)
