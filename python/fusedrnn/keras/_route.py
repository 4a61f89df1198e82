"""Which calls the kernels make; the parent makes the others.

docs/keras.md has a table with the same rows, which tests/keras_adapter checks.
"""

from __future__ import annotations

from typing import Any

import keras

SUPPORTED = ("numpy", "tensorflow", "torch")
_FLOATS = ("float32", "float64")
_RNN = {"tanh": "rnn_tanh", "relu": "rnn_relu", "sigmoid": "rnn_sigmoid", "linear": "rnn_identity"}


def backend() -> str:
    """Return the name of Keras's backend."""
    return str(keras.backend.backend())


def cell_of(layer: Any) -> str | None:
    """Return the kernels' name of a layer's cell; None if its activations are not theirs."""
    cell = layer.cell
    activation = _name(cell.activation)
    if isinstance(layer, keras.layers.SimpleRNN):
        return _RNN.get(activation)
    if (activation, _name(cell.recurrent_activation)) != ("tanh", "sigmoid"):
        return None
    if isinstance(layer, keras.layers.GRU):
        return "gru" if cell.reset_after else "gru_reset_before"
    return "lstm"


def _name(activation: Any) -> str:
    for name in ("tanh", "relu", "sigmoid", "linear"):
        if activation is getattr(keras.activations, name):
            return name
    return ""


def of_layer(layer: Any) -> str:
    """Say why no call of a layer is the kernels'; empty if they make calls of it."""
    if backend() not in SUPPORTED:
        return f"the backend {backend()}"
    if cell_of(layer) is None:
        return "activations that the kernels do not have"
    if layer.unroll:
        return "unroll=True"
    if getattr(layer, "use_cudnn", False) is True:
        return "use_cudnn=True"
    if layer.compute_dtype not in _FLOATS or layer.variable_dtype != layer.compute_dtype:
        return f"dtype {layer.compute_dtype}, weights {layer.variable_dtype}"
    return ""


def of_dropout(layer: Any, training: bool) -> str:
    """Say why the dropout of a call is not the kernels'; empty if it is, or if there is none."""
    cell = layer.cell
    simple = isinstance(layer, keras.layers.SimpleRNN)
    if cell.recurrent_dropout and (training or simple):
        return "recurrent_dropout"
    if cell.dropout and training and not simple and cell.implementation == 1:
        return "dropout with implementation=1, which has a mask for each gate"
    return ""
