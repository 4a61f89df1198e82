"""A dense layer that uses the kernels' matrix product."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._backends.choice import by_name, current
from .._backends.types import ANY_NUMBER, Given, Inputs, Threads, Wanted
from .._cells import CELLS
from .._checks import arguments as _check
from ..core._packed import Packed
from .params import Parameterised, Part, Restored

__all__ = ["Dense"]

Array = NDArray[Any]

# The kind in `config`, and the options that it must contain.
KIND = "nn.Dense"
SIZES = ("in_features", "out_features")


@dataclass(frozen=True, eq=False)
class SavedDense:
    """What ``Dense.forward`` kept for ``Dense.backward``, which may use it more than once."""

    _packed: Packed
    _inputs: Inputs
    _y: Array
    _saved: Array
    _backend: str
    _layer: Dense
    _version: int
    _shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes kept besides x and y."""
        return self._saved.nbytes


class Dense(Parameterised):
    """Affine map of the last axis: ``y = x W^T + b``, torch's Linear; parameters weight, bias.

    The rows of x are passed as the batch of one step of a cell without recurrence. So the bits of
    y and dx of a row do not depend on the other rows or on the number of threads.

    Parameters
    ----------
    in_features, out_features : int
        I, at least 0, and O, at least 1.
    bias : bool
        Whether the layer has b.
    dtype : dtype
        float32 or float64.
    seed : optional
        A seed for ``numpy.random.default_rng``; weight, then bias, are drawn uniformly from
        +-1/sqrt(in_features).

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer = nn.Dense(2, 1, bias=False, dtype="float64")
    >>> layer.params["weight"] = [[3.0, 4.0]]
    >>> y, saved = layer.forward([1.0, 2.0])
    >>> y
    array([11.])
    >>> dx, gradients = layer.backward(saved, [1.0])
    >>> dx, gradients["weight"]
    (array([3., 4.]), array([[1., 2.]]))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: object = None,
    ) -> None:
        self.dtype = _check.float_dtype(dtype)
        self.in_features = _check.integer(in_features, "in_features", 0)
        self.out_features = _check.integer(out_features, "out_features", 1)
        self.bias = _check.flag(bias, "bias")
        _check.sizes(CELLS["dense"], self.in_features, self.out_features, self.dtype)
        bound = 1.0 / math.sqrt(max(self.in_features, 1))
        self._adopt(self._draw([bound], seed))

    def _parts(self) -> list[list[Part]]:
        spec = CELLS["dense"]
        names = {"w_ih": "weight"} | ({"b_ih": "bias"} if self.bias else {})
        return [[Part(spec, spec.shapes(self.in_features, self.out_features), names)]]

    def __repr__(self) -> str:
        usual = {"bias": True, "dtype": "float32"}
        given = {"bias": self.bias, "dtype": self.dtype.name}
        shown = [f"{name}={given[name]!r}" for name in usual if given[name] != usual[name]]
        return f"Dense({', '.join([str(self.in_features), str(self.out_features), *shown])})"

    def config(self) -> dict[str, Any]:
        """Return every option of this layer, as JSON can hold it, without the parameters.

        Returns
        -------
        dict of str to object
            "kind", which is "nn.Dense", and the keywords of the constructor except `seed`, with the
            dtype by name.
        """
        return {
            "kind": KIND,
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "dtype": self.dtype.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], state: Mapping[str, Any]) -> Dense:
        """Make the layer that `config` and `state_dict` describe.

        Parameters
        ----------
        config : mapping
            From ``layer.config()``. `bias` and `dtype` have their defaults if they are not in it.
        state : mapping of str to array
            From ``layer.state_dict()``.

        Returns
        -------
        Dense

        Raises
        ------
        TypeError, ValueError
            `config` is of another kind of layer, lacks a size or has an unknown option; an option
            or `state` is not as the constructor or `load_state_dict` take them.
        """
        if not isinstance(config, Mapping):
            raise TypeError(
                f"config: expected what Dense.config() returned, got {_check.describe(config)}"
            )
        options = dict(config)
        kind = options.pop("kind", None)
        if kind != KIND:
            raise ValueError(f"config: expected that of a layer of kind {KIND!r}, got {kind!r}")
        wrong = [f"missing {name!r}" for name in SIZES if name not in options]
        wrong += [f"unknown {name!r}" for name in options if name not in (*SIZES, "bias", "dtype")]
        if wrong:
            raise ValueError(f"config: expected the options of Dense; {'; '.join(wrong)}")
        layer = cls(**options, seed=Restored(state))
        _check.same_cell(getattr(state, "cell", None), layer._cell())
        return layer

    def __call__(self, x: ArrayLike, *, num_threads: int | None = None) -> Array:
        """Apply the layer, for inference: nothing is saved.

        Parameters
        ----------
        x : array_like, shape (..., I)
            Floating point; converted to the layer's dtype.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        ndarray, shape (..., O)

        Raises
        ------
        TypeError
            x is not floating point.
        ValueError
            The last axis is not I long.
        RuntimeError
            Called inside ``with layer.writable()``.
        """
        now = self._read()
        a, outer = self._rows_of(x)
        y, _, _ = current().forward(now.packs[0], Inputs(a), threads=_threads(num_threads))
        return y.reshape(*outer, self.out_features)

    def forward(self, x: ArrayLike, *, num_threads: int | None = None) -> tuple[Array, SavedDense]:
        """Apply the layer and save what `backward` needs.

        Parameters and errors are those of calling the layer. x must not be written before the
        backward call.

        Returns
        -------
        y : ndarray, shape (..., O)
            Read-only.
        saved : SavedDense
            For `backward`.
        """
        now = self._read()
        a, outer = self._rows_of(x)
        inputs, run, packed = Inputs(a), current(), now.packs[0]
        y, _, saved = run.forward(packed, inputs, saved=True, threads=_threads(num_threads))
        y.flags.writeable = False
        shown = y.reshape(*outer, self.out_features)
        kept = SavedDense(
            packed, inputs, y, cast("Array", saved), run.name, self, now.version, shown.shape
        )
        return shown, kept

    def backward(
        self, saved: SavedDense, dy: ArrayLike, *, num_threads: int | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : SavedDense
            From this layer's `forward`; may be used more than once.
        dy : array_like, shape (..., O)
            Gradient of y; for a loss of `fusedrnn.nn`, ``loss.gradient``.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        dx : ndarray, shape (..., I)
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
        _check.saved_type(saved, SavedDense, "forward()")
        _check.same_layer(saved._layer is self)
        _check.unchanged(saved._version == self._read().version)
        d = _check.shaped(_check.as_float(dy, self.dtype, "dy"), "dy", saved._shape)
        (names,) = self._parts()[0]
        found = by_name(saved._backend).backward(
            saved._packed,
            saved._inputs,
            saved._y,
            saved._saved,
            Given(d.reshape(saved._y.shape)),
            Wanted(True, (dict.fromkeys(names.names, True),), False),
            threads=_threads(num_threads),
        )
        return (
            cast("Array", found.dx).reshape(*saved._shape[:-1], self.in_features),
            {name: found.dweights[0][field] for field, name in names.names.items()},
        )

    def _rows_of(self, x: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        """Return x as the batch of one step (1, N, I), and its outer axes."""
        if _whole_numbers(x):
            raise TypeError(
                f"x: expected floating point, got {np.asarray(x).dtype}; Dense multiplies its "
                "input, so pass x.astype(np.float32)"
            )
        a = _check.as_float(x, self.dtype, "x")
        if a.ndim == 0 or a.shape[-1] != self.in_features:
            raise ValueError(f"x: expected shape (..., {self.in_features}), got {a.shape}")
        outer = a.shape[:-1]
        count = math.prod(outer)
        if count > _check.max_rows(CELLS["dense"], self.out_features, self.dtype):
            _check.too_large("x", a.shape)
        return a.reshape(1, count, self.in_features), outer


def _threads(num_threads: int | None) -> Threads:
    return ANY_NUMBER if num_threads is None else Threads(_check.num_threads(num_threads))


def _whole_numbers(x: object) -> bool:
    """Whether x holds integers or bools, for which the layers' error text suggests tokens."""
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "iub"
    try:
        return np.asarray(x).dtype.kind in "iub"
    except (TypeError, ValueError, RuntimeError):
        return False  # as_float raises the error
