"""The last step of a sequence."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options
from ._layer import OptionsLayer, Saved, read_only

__all__ = ["Last"]

Array = NDArray[Any]


class Last(OptionsLayer):
    """Take the last real step of each sequence: many steps in, one vector out.

    (T, B, I) becomes (B, I). The layer has no parameters.

    Parameters
    ----------
    bidirectional : bool
        Whether x is the output of a bidirectional layer. The reverse direction reads a sequence
        from its end, so the second half of the numbers is taken from the first step.
    batch_first : bool
        Whether x is (B, T, I).
    dtype : dtype
        float32 or float64.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    Keras's return_sequences=False. A recurrent layer here always returns the whole output, and this
    layer takes the part of it that has seen the whole sequence.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer, x = nn.Last(), np.arange(6.0).reshape(3, 2, 1)  # (T, B, I)
    >>> layer(x).tolist()
    [[4.0], [5.0]]
    >>> y, saved = layer.forward(x, lengths=[3, 1])
    >>> y.tolist()
    [[4.0], [1.0]]
    >>> layer.backward(saved, np.ones((2, 1)))[0][..., 0].tolist()
    [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    """

    _kind = "nn.Last"
    _usual: ClassVar = {"bidirectional": False, "batch_first": False, "dtype": "float32"}

    def __init__(
        self,
        *,
        bidirectional: bool = False,
        batch_first: bool = False,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.dtype = _check.float_dtype(dtype)
        self.bidirectional = _check.flag(bidirectional, "bidirectional")
        self.batch_first = _check.flag(batch_first, "batch_first")
        self._adopt({})

    def __call__(self, x: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
        """Take the last real step, for inference: nothing is saved.

        Parameters
        ----------
        x : array_like, shape (T, B, I), or (B, T, I) with ``batch_first``
            Floating point; converted to the layer's dtype. With ``bidirectional`` I is even.
        lengths : array_like of int, shape (B,), optional
            Number of real steps of each sequence; T if not given.

        Returns
        -------
        ndarray, shape (B, I)
            Zeros for a sequence without steps.

        Raises
        ------
        TypeError
            x is not floating point, or the lengths are not integers.
        ValueError
            The shape of x does not fit, or a length is out of range.
        """
        return self._taken(x, lengths)[0]

    def forward(
        self, x: ArrayLike, *, lengths: ArrayLike | None = None
    ) -> tuple[Array, Saved[tuple[tuple[int, ...], Array]]]:
        """Take the last real step and save what `backward` needs.

        Parameters and errors are those of calling the layer.

        Returns
        -------
        y : ndarray, shape (B, I)
            Read-only.
        saved : Saved
            For `backward`: the shape of x and the lengths.
        """
        version = self._read().version
        y, shape, real = self._taken(x, lengths)
        return read_only(y), Saved(self, version, y.shape, (shape, real), real.nbytes)

    def backward(
        self, saved: Saved[tuple[tuple[int, ...], Array]], dy: ArrayLike
    ) -> tuple[Array, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : Saved
            From this layer's `forward`; may be used more than once.
        dy : array_like, shape (B, I)
            Gradient of y.

        Returns
        -------
        dx : ndarray, shaped as x
            Gradient of x: zeros but for the steps that were taken.
        dparams : dict
            Empty.

        Raises
        ------
        TypeError
            `saved` is something else, or dy is not floating point.
        ValueError
            The shape of dy does not fit, or `saved` is another layer's.
        """
        (shape, real), _ = self._recalled(saved)
        d = self._gradient(saved, dy)
        dx = np.zeros(shape, self.dtype)
        steps = dx.swapaxes(0, 1) if self.batch_first else dx
        rows = np.flatnonzero(real)
        for half, step in self._halves(shape[-1], real[rows]):
            steps[step, rows, half] = d[rows, half]
        return dx, {}

    def _taken(self, x: ArrayLike, lengths: ArrayLike | None) -> tuple[Array, Any, Array]:
        """Return y, the shape of x and the lengths."""
        a = self._inputs(x)
        axes = "B, T" if self.batch_first else "T, B"
        if a.ndim != 3:
            raise ValueError(f"x: expected shape ({axes}, I), got {a.shape}")
        if self.bidirectional and a.shape[-1] % 2:
            raise ValueError(
                f"x: expected an even number of units of two directions, got {a.shape}"
            )
        steps = a.swapaxes(0, 1) if self.batch_first else a
        count, batch, width = steps.shape
        rule = _check_options.Rows(count, batch, True, self.batch_first)
        given = _check_options.lengths(lengths, rule, copy=True)
        real = np.full(batch, count) if given is None else given
        y = np.zeros((batch, width), self.dtype)
        rows = np.flatnonzero(real)
        for half, step in self._halves(width, real[rows]):
            y[rows, half] = steps[step, rows, half]
        return y, a.shape, real

    def _halves(self, width: int, real: Array) -> list[tuple[slice, Array]]:
        """Return the parts of the last axis, and the step that each is taken from."""
        if not self.bidirectional:
            return [(slice(None), real - 1)]
        middle = width // 2
        return [(slice(middle), real - 1), (slice(middle, None), np.zeros_like(real))]
