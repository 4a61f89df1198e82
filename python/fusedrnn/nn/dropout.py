"""Dropout between layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options
from ._layer import OptionsLayer, Saved, read_only

__all__ = ["Dropout"]

Array = NDArray[Any]


class Dropout(OptionsLayer):
    """Inverted dropout: each element of x becomes 0 with probability p, else x / (1 - p).

    It acts only in `forward`, and has no parameters. Calling the layer returns a copy of x.

    Parameters
    ----------
    p : float
        The probability, in [0, 1).
    dtype : dtype
        float32 or float64.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    Source: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way to
    prevent neural networks from overfitting", JMLR 2014; scaled in training, as torch.nn.Dropout
    does it. Masks are drawn as those of the recurrent layers, so both dtypes drop the same
    elements.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer, x = nn.Dropout(0.5), np.ones((2, 3), np.float32)
    >>> y, saved = layer.forward(x, rng=np.random.default_rng(0))
    >>> sorted(set(y.reshape(-1).tolist()))
    [0.0, 2.0]
    >>> dx, _ = layer.backward(saved, np.ones((2, 3)))
    >>> np.array_equal(dx, y)
    True
    >>> np.array_equal(layer(x), x)
    True
    """

    _kind = "nn.Dropout"
    _needed = ("p",)

    def __init__(self, p: float, *, dtype: DTypeLike = np.float32) -> None:
        self.dtype = _check.float_dtype(dtype)
        self.p = _check_options.rate(p, "p")
        self._adopt({})

    def __call__(self, x: ArrayLike) -> Array:
        """Return a copy of x, in the layer's dtype.

        Parameters
        ----------
        x : array_like, any shape
            Floating point.

        Returns
        -------
        ndarray, shaped as x

        Raises
        ------
        TypeError
            x is not floating point.
        """
        return np.array(self._inputs(x))

    def forward(
        self, x: ArrayLike, *, rng: np.random.Generator | None = None, noise: bool = True
    ) -> tuple[Array, Saved[Array | None]]:
        """Drop elements of x and save what `backward` needs.

        Parameters
        ----------
        x : array_like, any shape
            Floating point.
        rng : numpy.random.Generator, optional
            Generator of the mask; if not given a new one, whose mask cannot be repeated.
        noise : bool
            If False, nothing is dropped and nothing is drawn from `rng`; so it is if p is 0.

        Returns
        -------
        y : ndarray, shaped as x
            Read-only.
        saved : Saved
            For `backward`: the mask.

        Raises
        ------
        TypeError
            x is not floating point, `rng` is no generator, or `noise` is not True or False.
        """
        version = self._read().version
        a = self._inputs(x)
        generator = _check_options.rng(rng, _check.flag(noise, "noise") and self.p > 0)
        if generator is None:
            return read_only(a.copy()), Saved(self, version, a.shape, None, 0)
        real = generator.random(a.shape, dtype=np.float32) >= np.float32(self.p)
        mask = np.asarray(real, self.dtype) / self.dtype.type(1 - self.p)
        return read_only(_masked(a, mask)), Saved(self, version, a.shape, mask, mask.nbytes)

    def backward(self, saved: Saved[Array | None], dy: ArrayLike) -> tuple[Array, dict[str, Array]]:
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
            Gradient of x, exact for the mask that was drawn.
        dparams : dict
            Empty.

        Raises
        ------
        TypeError
            `saved` is something else, or dy is not floating point.
        ValueError
            The shape of dy does not fit, or `saved` is another layer's.
        """
        mask, _ = self._recalled(saved)
        d = self._gradient(saved, dy)
        return (d.copy() if mask is None else _masked(d, mask)), {}


def _masked(a: Array, mask: Array) -> Array:
    """Return the product, without a warning about values that are not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(a * mask)
