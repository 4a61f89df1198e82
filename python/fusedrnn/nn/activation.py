"""Activations as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._checks import arguments as _check
from ._layer import OptionsLayer, Saved, read_only

__all__ = ["Activation", "softmax", "softmax_back"]

Array = NDArray[Any]


# --- functions of one number, and their slopes ------------------------------------------------


def _sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)); the exponential of -|x| cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, e) / (1 + e))


def _sigmoid_slope(x: Array) -> Array:
    """s(x) s(-x), without the difference 1 - s(x), which would lose digits."""
    e = np.exp(-np.abs(x))
    return np.asarray(e / np.square(1 + e))


def _tanh_slope(x: Array) -> Array:
    """1 / cosh(x)^2, without the difference 1 - tanh(x)^2, which would lose digits."""
    return 4 * _sigmoid_slope(2 * x)


class _Function(NamedTuple):
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


FUNCTIONS = {
    "tanh": _Function(np.tanh, _tanh_slope),
    "sigmoid": _Function(_sigmoid, _sigmoid_slope),
    "relu": _Function(lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(x.dtype)),
    "identity": _Function(np.copy, np.ones_like),
}
SOFTMAX = "softmax"


# --- a function of a row ----------------------------------------------------------------------


def softmax(x: Array) -> Array:
    """Return exp(x) / sum(exp(x)) over the last axis, which must not be empty.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.nn.activation import softmax
    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    e: Array = x - x.max(axis=-1, keepdims=True)
    np.exp(e, out=e)
    e /= e.sum(axis=-1, keepdims=True)
    return e


def softmax_back(y: Array, dy: Array) -> Array:
    """Return the gradient of x from that of y = softmax(x).

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.nn.activation import softmax_back
    >>> softmax_back(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    array([ 0.25, -0.25])
    """
    return np.asarray(y * (dy - (dy * y).sum(axis=-1, keepdims=True)))


class Activation(OptionsLayer):
    """An activation as a layer without parameters: ``y = f(x)``.

    Parameters
    ----------
    name : str
        "tanh", "sigmoid", "relu", "identity", each of them of every element by itself, or
        "softmax", over the last axis.
    dtype : dtype
        float32 or float64.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    No formula overflows for finite x: sigmoid is computed from exp(-|x|), and softmax subtracts the
    largest element of its row. The slopes of tanh and sigmoid keep their digits where y is close to
    1. The slope of relu at 0 is 0, as in torch. For a classifier use `softmax_cross_entropy`, which
    takes what comes before the softmax.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer = nn.Activation("relu")
    >>> y, saved = layer.forward([-1.0, 0.0, 2.0])
    >>> y
    array([0., 0., 2.], dtype=float32)
    >>> layer.backward(saved, np.ones(3))[0]
    array([0., 0., 1.], dtype=float32)
    >>> nn.Activation("softmax")([1000.0, 1000.0])
    array([0.5, 0.5], dtype=float32)
    """

    _kind = "nn.Activation"
    _needed = ("name",)

    def __init__(self, name: str, *, dtype: DTypeLike = np.float32) -> None:
        self.dtype = _check.float_dtype(dtype)
        self.name = _check.choice(name, "name", (*FUNCTIONS, SOFTMAX))
        self._adopt({})

    def __call__(self, x: ArrayLike) -> Array:
        """Apply the activation, for inference: nothing is saved.

        Parameters
        ----------
        x : array_like, any shape; for "softmax" (..., n) with n of at least 1
            Floating point; converted to the layer's dtype.

        Returns
        -------
        ndarray, shaped as x

        Raises
        ------
        TypeError
            x is not floating point.
        ValueError
            x has no last axis, or an empty one, for a softmax.
        """
        return self._value(self._x(x))

    def forward(self, x: ArrayLike) -> tuple[Array, Saved[Array]]:
        """Apply the activation and save what `backward` needs.

        Parameters and errors are those of calling the layer.

        Returns
        -------
        y : ndarray, shaped as x
            Read-only.
        saved : Saved
            For `backward`: the slope of every element, or y of a softmax.
        """
        version = self._read().version
        a = self._x(x)
        y = self._value(a)
        if self.name == SOFTMAX:
            return read_only(y), Saved(self, version, y.shape, y, 0)
        with np.errstate(all="ignore"):
            slope = np.asarray(FUNCTIONS[self.name].slope(a))
        return read_only(y), Saved(self, version, y.shape, slope, slope.nbytes)

    def backward(self, saved: Saved[Array], dy: ArrayLike) -> tuple[Array, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : Saved
            From this layer's `forward`; may be used more than once.
        dy : array_like, shaped as y
            Gradient of y.

        Returns
        -------
        dx : ndarray, shaped as x
            Gradient of x.
        dparams : dict
            Empty.

        Raises
        ------
        TypeError
            `saved` is something else, or dy is not floating point.
        ValueError
            The shape of dy does not fit, or `saved` is another layer's.
        """
        kept, _ = self._recalled(saved)
        d = self._gradient(saved, dy)
        with np.errstate(all="ignore"):
            dx = softmax_back(kept, d) if self.name == SOFTMAX else np.asarray(d * kept)
        return dx, {}

    def _x(self, x: ArrayLike) -> Array:
        a = self._inputs(x)
        if self.name == SOFTMAX and (a.ndim == 0 or a.shape[-1] == 0):
            raise ValueError(f"x: expected shape (..., n) with n of at least 1, got {a.shape}")
        return a

    def _value(self, x: Array) -> Array:
        """Return y; values that are not finite give what arithmetic gives, without a warning."""
        with np.errstate(all="ignore"):
            return softmax(x) if self.name == SOFTMAX else np.asarray(FUNCTIONS[self.name].value(x))
