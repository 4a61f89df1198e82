"""The mean or the maximum over the steps of a sequence."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options
from ._layer import OptionsLayer, Saved, read_only

__all__ = ["Pool"]

Array = NDArray[Any]

MODES = ("mean", "max")


class Kept(NamedTuple):
    """What `backward` needs."""

    shape: tuple[int, ...]  # of x
    real: Array  # the number of real steps of each sequence
    steps: Array | None  # (B, I): the step of each maximum; None for a mean


class Pool(OptionsLayer):
    """Pool the real steps of each sequence into one vector: their mean, or their largest numbers.

    (T, B, I) becomes (B, I). The layer has no parameters.

    Parameters
    ----------
    mode : {"mean", "max"}
        What to take of each of the I numbers over the steps.
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
    Keras's GlobalAveragePooling1D and GlobalMaxPooling1D. After a recurrent layer it reads all
    outputs where `Last` reads one, so what came early need not be kept until the end. Source:
    Collobert, Weston, Bottou, Karlen, Kavukcuoglu and Kuksa, "Natural language processing (almost)
    from scratch", JMLR 2011.

    A mean is a sum in the order of the steps, in float64. The gradient of a maximum goes to the
    first step that has it. A NaN in a real step gives NaN. No number of a sequence depends on the
    others or on what its padding holds.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer, x = nn.Pool("mean"), np.arange(6.0).reshape(3, 2, 1)  # (T, B, I)
    >>> layer(x).tolist()
    [[2.0], [3.0]]
    >>> y, saved = layer.forward(x, lengths=[3, 2])
    >>> y.tolist()
    [[2.0], [2.0]]
    >>> layer.backward(saved, np.ones((2, 1)))[0][:, 1, 0].tolist()
    [0.5, 0.5, 0.0]
    >>> nn.Pool("max")(x, lengths=[3, 1]).tolist()
    [[4.0], [1.0]]
    """

    _kind = "nn.Pool"
    _needed = ("mode",)
    _usual: ClassVar = {"batch_first": False, "dtype": "float32"}

    def __init__(
        self, mode: str, *, batch_first: bool = False, dtype: DTypeLike = np.float32
    ) -> None:
        self.dtype = _check.float_dtype(dtype)
        self.mode = _check.choice(mode, "mode", MODES)
        self.batch_first = _check.flag(batch_first, "batch_first")
        self._adopt({})

    def __call__(self, x: ArrayLike, *, lengths: ArrayLike | None = None) -> Array:
        """Pool, for inference: nothing is saved.

        Parameters
        ----------
        x : array_like, shape (T, B, I), or (B, T, I) with ``batch_first``
            Floating point; converted to the layer's dtype.
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
        return self._pooled(x, lengths)[0]

    def forward(
        self, x: ArrayLike, *, lengths: ArrayLike | None = None
    ) -> tuple[Array, Saved[Kept]]:
        """Pool and save what `backward` needs.

        Parameters and errors are those of calling the layer.

        Returns
        -------
        y : ndarray, shape (B, I)
            Read-only.
        saved : Saved
            For `backward`: the shape of x, the lengths, and the steps of the maxima.
        """
        version = self._read().version
        y, kept = self._pooled(x, lengths)
        size = kept.real.nbytes + (0 if kept.steps is None else kept.steps.nbytes)
        return read_only(y), Saved(self, version, y.shape, kept, size)

    def backward(self, saved: Saved[Kept], dy: ArrayLike) -> tuple[Array, dict[str, Array]]:
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
            Gradient of x; zeros at steps that `lengths` leaves out.
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
        dx = np.zeros(kept.shape, self.dtype)
        into = dx.swapaxes(0, 1) if self.batch_first else dx
        rows = np.flatnonzero(kept.real)
        if kept.steps is None:
            share = d[rows] / kept.real[rows, None].astype(self.dtype)
            for row, n, one in zip(rows, kept.real[rows], share, strict=True):
                into[:n, row] = one
        else:
            columns = np.arange(d.shape[1])
            into[kept.steps[rows], rows[:, None], columns] = d[rows]
        return dx, {}

    def _pooled(self, x: ArrayLike, lengths: ArrayLike | None) -> tuple[Array, Kept]:
        a = self._inputs(x)
        axes = "B, T" if self.batch_first else "T, B"
        if a.ndim != 3:
            raise ValueError(f"x: expected shape ({axes}, I), got {a.shape}")
        steps = a.swapaxes(0, 1) if self.batch_first else a
        count, batch, width = steps.shape
        rule = _check_options.Rows(count, batch, True, self.batch_first)
        given = _check_options.lengths(lengths, rule, copy=True)
        real = np.full(batch, count) if given is None else given
        if self.mode == "mean":
            return self._mean(steps, real), Kept(a.shape, real, None)
        y, places = np.zeros((batch, width), self.dtype), np.zeros((batch, width), np.int64)
        for row, n in enumerate(real):
            if n:
                places[row] = steps[:n, row].argmax(axis=0)  # of NaN, if there is one
                y[row] = steps[places[row], row, np.arange(width)]
        return y, Kept(a.shape, real, places)

    def _mean(self, steps: Array, real: Array) -> Array:
        sums = np.zeros(steps.shape[1:])
        with np.errstate(all="ignore"):
            for t in range(int(real.max(initial=0))):
                np.add(sums, steps[t], out=sums, where=(real > t)[:, None])
            return (sums / np.maximum(real, 1)[:, None]).astype(self.dtype)
