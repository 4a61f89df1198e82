"""One vector as a sequence."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._checks import arguments as _check
from ._layer import OptionsLayer, Saved, read_only

__all__ = ["RepeatVector"]

Array = NDArray[Any]

# A larger number cannot be told from a damaged file: `fusedrnn.files` refuses sizes that the
# parameters of a file do not justify, and this layer has none.
MOST = 2**16


class RepeatVector(OptionsLayer):
    """Repeat a vector n times, as the input of a layer that makes a sequence of it.

    (B, I) becomes (n, B, I); a vector (I,) without a batch axis becomes (n, I). The layer has no
    parameters.

    Parameters
    ----------
    n : int
        The number of steps, in [0, 65536].
    batch_first : bool
        Whether y is (B, n, I).
    dtype : dtype
        float32 or float64.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    Keras's RepeatVector, in the layouts of the recurrent layers here.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer = nn.RepeatVector(3)
    >>> y, saved = layer.forward(np.ones((2, 4), np.float32))
    >>> y.shape
    (3, 2, 4)
    >>> dx, _ = layer.backward(saved, y)
    >>> dx[0]
    array([3., 3., 3., 3.], dtype=float32)
    """

    _kind = "nn.RepeatVector"
    _needed = ("n",)
    _usual: ClassVar = {"batch_first": False, "dtype": "float32"}

    def __init__(self, n: int, *, batch_first: bool = False, dtype: DTypeLike = np.float32) -> None:
        self.dtype = _check.float_dtype(dtype)
        self.n = _check.integer(n, "n", 0)
        if self.n > MOST:
            raise ValueError(f"n: expected at most {MOST}, got {self.n}")
        self.batch_first = _check.flag(batch_first, "batch_first")
        self._adopt({})

    def __call__(self, x: ArrayLike) -> Array:
        """Repeat x, for inference: nothing is saved.

        Parameters
        ----------
        x : array_like, shape (B, I) or (I,)
            Floating point; converted to the layer's dtype.

        Returns
        -------
        ndarray, shape (n, B, I), (B, n, I) with ``batch_first``, or (n, I)

        Raises
        ------
        TypeError
            x is not floating point.
        ValueError
            x has another number of axes.
        """
        a = self._inputs(x)
        if a.ndim not in (1, 2):
            raise ValueError(f"x: expected shape (B, I) or (I,), got {a.shape}")
        return np.repeat(np.expand_dims(a, self._axis(a.ndim)), self.n, self._axis(a.ndim))

    def forward(self, x: ArrayLike) -> tuple[Array, Saved[None]]:
        """Repeat x and save what `backward` needs.

        Parameters and errors are those of calling the layer.

        Returns
        -------
        y : ndarray, as from calling the layer
            Read-only.
        saved : Saved
            For `backward`: the shape of y.
        """
        version = self._read().version
        y = self(x)
        return read_only(y), Saved(self, version, y.shape, None, 0)

    def backward(self, saved: Saved[None], dy: ArrayLike) -> tuple[Array, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : Saved
            From this layer's `forward`; may be used more than once.
        dy : array_like, shaped as y
            Gradient of y.

        Returns
        -------
        dx : ndarray, shape (B, I) or (I,)
            Gradient of x: the sum over the steps, in their order.
        dparams : dict
            Empty.

        Raises
        ------
        TypeError
            `saved` is something else, or dy is not floating point.
        ValueError
            The shape of dy does not fit, or `saved` is another layer's.
        """
        self._recalled(saved)
        d = self._gradient(saved, dy)
        steps = np.moveaxis(d, self._axis(d.ndim - 1), 0)
        dx = np.zeros(steps.shape[1:], self.dtype)
        with np.errstate(all="ignore"):
            # The order of np.sum depends on the other axes.
            for step in steps:
                dx += step
        return dx, {}

    def _axis(self, axes: int) -> int:
        """The axis of the steps in y, for an x of so many axes."""
        return 1 if self.batch_first and axes == 2 else 0
