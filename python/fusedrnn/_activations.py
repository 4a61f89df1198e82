"""The eleven activations of ONNX's recurrent operators, with their parameters, and their slopes.

Source: ONNX operators RNN, GRU and LSTM (opset 22).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._cells import Array


class Activation(NamedTuple):
    """A name of NAMES with its parameters.

    Examples
    --------
    >>> from fusedrnn import core
    >>> core.Activation("leaky_relu", 0.1)
    Activation(name='leaky_relu', alpha=0.1, beta=0.0)
    """

    name: str
    alpha: float = 0.0
    beta: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}({self.alpha}, {self.beta})" if self[1:] != (0, 0) else self.name


class Options(NamedTuple):
    """The options of a cell with chosen activations: f for gates, g for the candidate, h for c'.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> relu = core.Activation("relu")
    >>> options = core.Options(relu, relu, relu, clip=2.0)
    >>> packed = core.pack("rnn_chosen", {"w_ih": np.eye(2), "w_hh": np.eye(2)}, options=options)
    >>> core.forward(packed, np.array([[[-3.0, 3.0]]])).y  # clipped, then relu
    array([[[0., 2.]]])
    """

    f: Activation
    g: Activation
    h: Activation
    clip: float = np.inf  # every activation's input is clipped to [-clip, clip]
    coupled: bool = False  # forget gate = 1 - input gate

    def __str__(self) -> str:
        said = [str(one) for one in self[:3]]
        said += [f"clip {self.clip}"] if self.clip != np.inf else []
        return f"({', '.join(said + ['coupled'] * self.coupled)})"


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow for any x."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)))


def relu(x: Array) -> Array:
    """max(x, 0); NaN stays NaN."""
    return np.asarray(np.maximum(x, 0))


def _elu(x: Array, a: float, b: float) -> Array:
    return np.asarray(np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x))


def _softplus(x: Array, a: float, b: float) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _one_where(condition: Array, x: Array, otherwise: float = 0.0) -> Array:
    return np.where(condition, 1, otherwise).astype(x.dtype)


Function = Callable[[Array, float, float], Array]

# Name: (default alpha, default beta, function, slope), in the order of `Activation` in
# csrc/kernels.hpp: `core_options` passes indices.
_TABLE: dict[str, tuple[float, float, Function, Function]] = {
    "relu": (0.0, 0.0, lambda x, a, b: relu(x), lambda x, a, b: _one_where(x > 0, x)),
    "tanh": (0.0, 0.0, lambda x, a, b: np.tanh(x), lambda x, a, b: 1 - np.tanh(x) ** 2),
    "sigmoid": (
        0.0,
        0.0,
        lambda x, a, b: sigmoid(x),
        lambda x, a, b: sigmoid(x) * (1 - sigmoid(x)),
    ),
    "affine": (1.0, 0.0, lambda x, a, b: a * x + b, lambda x, a, b: np.full_like(x, a)),
    "leaky_relu": (
        0.01,
        0.0,
        lambda x, a, b: np.where(x < 0, a * x, x),
        lambda x, a, b: _one_where(x > 0, x, a),
    ),
    "thresholded_relu": (
        1.0,
        0.0,
        lambda x, a, b: np.where(x < a, x.dtype.type(0), x),
        lambda x, a, b: _one_where(~(x < a), x),
    ),
    "scaled_tanh": (
        1.0,
        1.0,
        lambda x, a, b: a * np.tanh(b * x),
        lambda x, a, b: a * b * (1 - np.tanh(b * x) ** 2),
    ),
    "hard_sigmoid": (
        0.2,
        0.5,
        lambda x, a, b: np.minimum(np.maximum(a * x + b, 0), 1),
        lambda x, a, b: a * _one_where((a * x + b > 0) & (a * x + b < 1), x),
    ),
    "elu": (
        1.0,
        0.0,
        _elu,
        lambda x, a, b: np.where(x < 0, a * np.exp(np.minimum(x, 0)), 1).astype(x.dtype),
    ),
    "softsign": (
        0.0,
        0.0,
        lambda x, a, b: x / (1 + np.abs(x)),
        lambda x, a, b: 1 / (1 + np.abs(x)) ** 2,
    ),
    "softplus": (0.0, 0.0, _softplus, lambda x, a, b: sigmoid(x)),
}

NAMES = tuple(_TABLE)


def defaults(name: str) -> tuple[float, float]:
    """ONNX's default alpha and beta of an activation."""
    return _TABLE[name][:2]


def activate(x: Array, by: Activation, clip: float) -> Array:
    """Apply an activation to clipped `x`."""
    return np.asarray(_TABLE[by.name][2](np.clip(x, -clip, clip), by.alpha, by.beta), x.dtype)


def slope(x: Array, by: Activation, clip: float) -> Array:
    """Return the derivative of an activation; 0 where `x` was clipped."""
    d = _TABLE[by.name][3](np.clip(x, -clip, clip), by.alpha, by.beta)
    return np.asarray(np.where(np.abs(x) > clip, 0, d), x.dtype)


def core_options(by: Options | None) -> tuple[object, ...] | None:
    """Return the options as the compiled module takes them: (kind, alpha, beta), clip, coupled."""
    if by is None:
        return None
    chosen = [(NAMES.index(one.name), one.alpha, one.beta) for one in (by.f, by.g, by.h)]
    return (*chosen, by.clip, by.coupled)
