"""Keras's masks and ours: "repeat" is Keras's default, "zero" its zero_output_for_mask=True.

Left, gappy and right masks; outputs, last states and, on Keras's torch backend, every gradient. The
bound of every element is 2^-20 times the larger of 1 and the array's largest element, because Keras
computes in float32 in some places, whatever its dtype. A wrong rule would change results by about
0.1. [L6] [L8]
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
import fusedrnn.weights as fw
from conftest import Chosen
from fusedrnn._cells import Array
from layer_cases import arrays_of, kernel, like, named

os.environ.setdefault("KERAS_BACKEND", "torch")
torch = pytest.importorskip("torch", reason="torch is not installed")
keras: Any = pytest.importorskip("keras", reason="keras is not installed")
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't:DeprecationWarning"
)

T, B, I, H = 6, 5, 3, 4  # noqa: E741
CELLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn_tanh": (keras.layers.SimpleRNN, {}),
    "lstm": (keras.layers.LSTM, {}),
    "gru": (keras.layers.GRU, {"reset_after": True}),
    "gru_reset_before": (keras.layers.GRU, {"reset_after": False}),
}

MASKS = {
    "right": [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0]],
    "left": [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]],
    "gappy": [[0, 1, 0, 0, 1, 0], [1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 1]],
}


def twins(cell: str, bidirectional: bool, zero: bool) -> tuple[Any, Any]:
    """A Keras layer, batch-first, and ours with its weights; the biases are not zeros."""
    kind, options = CELLS[cell]
    theirs = kind(
        H,
        return_sequences=True,
        return_state=True,
        zero_output_for_mask=zero,
        dtype="float64",
        unroll=False,
        **options,
    )
    if bidirectional:
        theirs = keras.layers.Bidirectional(theirs, dtype="float64")
        for one in (theirs.forward_layer, theirs.backward_layer):  # Bidirectional sets it to True
            one.zero_output_for_mask = zero
    theirs.build((None, T, I))
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(a.shape) / 2 for a in theirs.get_weights()]
    theirs.set_weights(values)
    more: dict[str, Any] = {"batch_first": True, "bidirectional": bidirectional}
    own = {"gru_reset_before": {"reset_after": False}}.get(cell, {})
    ours = {"rnn_tanh": fr.RNN, "lstm": fr.LSTM}.get(cell, fr.GRU)
    layer = ours(I, H, dtype=np.float64, **more, **own)  # type: ignore[operator]
    layer.load_state_dict(fw.from_keras(values, cell))
    return theirs, layer


def close(found: Array, right: Array) -> bool:
    bound = 2.0**-20 * max(1.0, float(np.abs(right).max()))
    return found.shape == right.shape and bool(np.abs(found - right).max() <= bound)


@pytest.mark.parametrize("zero", [False, True], ids=["repeat", "zero"])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_masks(backend: Chosen, cell: str, bidirectional: bool, kind: str, zero: bool) -> None:
    """Outputs, last states, and gradients of x and of every weight agree."""
    theirs, layer = twins(cell, bidirectional, zero)
    rng = np.random.default_rng(1)
    mask = np.array(MASKS[kind], bool)
    x = rng.standard_normal((*mask.shape, I))
    y, last, saved = layer.forward(x, mask=mask, masked_output="zero" if zero else "repeat")
    backend.ran(kernel(layer))
    dy, dlast = like(y, rng), like(last, rng)
    found = named(layer.backward(saved, dy, dlast))

    on_torch = keras.backend.backend() == "torch"
    tx = torch.tensor(x, requires_grad=True) if on_torch else x
    out, *states = theirs(tx, mask=torch.tensor(mask) if on_torch else mask)
    assert close(y, keras.ops.convert_to_numpy(out))
    # Keras returns h (and c) of the forward direction, then of the backward one.
    ours = [(n, d) for d in range(2 if bidirectional else 1) for n in range(len(arrays_of(last)))]
    for state, (n, d) in zip(states, ours, strict=True):
        assert close(arrays_of(last)[n][d], keras.ops.convert_to_numpy(state))
    if not on_torch:
        return
    loss = (out * torch.tensor(dy)).sum()
    for state, (n, d) in zip(states, ours, strict=True):
        loss = loss + (state * torch.tensor(arrays_of(dlast)[n][d])).sum()
    loss.backward()
    assert close(found["x"], tx.grad.numpy())
    gradients = [w.value.grad.numpy() for w in theirs.trainable_weights]
    for name, right in fw.from_keras(gradients, cell).items():
        if not name.startswith("bias_hh") or cell == "gru":  # Keras's other cells have one bias
            assert close(found[name], right), name
