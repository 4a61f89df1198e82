"""Layer normalisation between layers."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._checks import arguments as _check
from .._layers.params import Part
from . import _checks
from ._layer import OptionsLayer, Saved, flat_rows, read_only

__all__ = ["LayerNorm"]

Array = NDArray[Any]


class Normal(NamedTuple):
    """What `backward` needs, in float64."""

    rows: Array  # (N, n): (x - mean) / deviation
    scale: Array  # (N, 1): 1 / deviation


class LayerNorm(OptionsLayer):
    """Layer normalisation of the last axis: ``y = (x - mean) / deviation * weight + bias``.

    The parameters are ``weight`` and ``bias``, both (n,); they begin as ones and zeros.

    Parameters
    ----------
    normalized_size : int
        n, the length of the last axis, at least 1.
    eps : float
        A finite number above 0, which is added to the variance.
    bias : bool
        Whether the layer has a bias.
    dtype : dtype
        float32 or float64.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    The deviation is sqrt(variance + eps) with the variance of the n numbers (divided by n, not by
    n - 1). Source: Ba, Kiros and Hinton, "Layer normalization", 2016; torch.nn.LayerNorm of one
    axis. Everything is computed in float64 and rounded once. The bits of a row of y or dx depend
    neither on the other rows nor on the number of threads. For normalisation inside a recurrent
    layer use its option `layer_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer = nn.LayerNorm(4)
    >>> y, saved = layer.forward(np.array([[1.0, 2.0, 3.0, 6.0]]))
    >>> bool(abs(y.mean()) < 1e-6), round(float(y.std()), 3)
    (True, 1.0)
    >>> dx, gradients = layer.backward(saved, np.ones((1, 4)))
    >>> gradients["bias"]
    array([1., 1., 1., 1.], dtype=float32)
    """

    _kind = "nn.LayerNorm"
    _needed = ("normalized_size",)
    _usual: ClassVar = {"eps": 1e-5, "bias": True, "dtype": "float32"}

    def __init__(
        self,
        normalized_size: int,
        eps: float = 1e-5,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.dtype = _check.float_dtype(dtype)
        self.normalized_size = _check.integer(normalized_size, "normalized_size", 1)
        self.eps = _checks.epsilon(eps, "eps")
        self.bias = _check.flag(bias, "bias")
        if self.normalized_size > _check.MAX_BYTES // 8:
            _check.too_large("normalized_size", self.normalized_size)
        self._adopt(self._draw([0.0], None))

    def _parts(self) -> list[list[Part]]:
        names = ["weight", "bias"] if self.bias else ["weight"]
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(names, (self.normalized_size,))
        start = {"weight": 1.0, "bias": 0.0}
        return [[Part(None, shapes, {name: name for name in names}, constants=start)]]

    def __call__(self, x: ArrayLike) -> Array:
        """Apply the layer, for inference: nothing is saved.

        Parameters
        ----------
        x : array_like, shape (..., n)
            Floating point; converted to the layer's dtype.

        Returns
        -------
        ndarray, shape (..., n)

        Raises
        ------
        TypeError
            x is not floating point.
        ValueError
            The last axis is not n long.
        RuntimeError
            Called inside ``with layer.writable()``.
        """
        params, _ = self._views()
        a = self._x(x)
        return self._scaled(_normal(a, self.eps).rows, params).reshape(a.shape)

    def forward(self, x: ArrayLike) -> tuple[Array, Saved[Normal]]:
        """Apply the layer and save what `backward` needs.

        Parameters and errors are those of calling the layer.

        Returns
        -------
        y : ndarray, shape (..., n)
            Read-only.
        saved : Saved
            For `backward`.
        """
        params, version = self._views()
        a = self._x(x)
        kept = _normal(a, self.eps)
        y = self._scaled(kept.rows, params).reshape(a.shape)
        size = kept.rows.nbytes + kept.scale.nbytes
        return read_only(y), Saved(self, version, y.shape, kept, size)

    def backward(self, saved: Saved[Normal], dy: ArrayLike) -> tuple[Array, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : Saved
            From this layer's `forward`; may be used more than once.
        dy : array_like, shape (..., n)
            Gradient of y.

        Returns
        -------
        dx : ndarray, shape (..., n)
            Gradient of x.
        dparams : dict of str to ndarray
            Gradients of the parameters, by their names.

        Raises
        ------
        TypeError
            `saved` is something else, or dy is not floating point.
        ValueError
            The shape of dy does not fit, or `saved` is another layer's.
        RuntimeError
            Parameters have changed since the forward call, or are open for writing.
        """
        (rows, scale), params = self._recalled(saved)
        d = flat_rows(self._gradient(saved, dy)).astype(np.float64)
        with np.errstate(all="ignore"):
            gradients = {"weight": (d * rows).sum(axis=0)}
            if self.bias:
                gradients["bias"] = d.sum(axis=0)
            d *= params["weight"]
            slope = (d * rows).mean(axis=1, keepdims=True)
            dx = scale * (d - d.mean(axis=1, keepdims=True) - rows * slope)
            dparams = {name: g.astype(self.dtype) for name, g in gradients.items()}
            return dx.astype(self.dtype).reshape(saved._shape), dparams

    def _x(self, x: ArrayLike) -> Array:
        return _checks.last_axis(self._inputs(x), "x", self.normalized_size)

    def _scaled(self, rows: Array, params: dict[str, Array]) -> Array:
        with np.errstate(all="ignore"):
            y = rows * params["weight"]
            if self.bias:
                y += params["bias"]
            return y.astype(self.dtype)


def _normal(x: Array, eps: float) -> Normal:
    with np.errstate(all="ignore"):
        rows = flat_rows(x).astype(np.float64)
        rows -= rows.mean(axis=1, keepdims=True)
        scale = 1.0 / np.sqrt(np.square(rows).mean(axis=1, keepdims=True) + eps)
        rows *= scale
    return Normal(rows, scale)
