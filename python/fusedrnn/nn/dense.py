"""A dense layer on the kernels' own product."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import _check
from .._backend import Inputs, Saved, by_name, current
from .._params import Closed, Parameterised, Part, Restored
from .._spec import CELLS
from .losses import Loss

__all__ = ["Dense"]

Array = NDArray[Any]

# What `config` calls the class, and what it cannot do without.
KIND = "nn.Dense"
SIZES = ("in_features", "out_features")


@dataclass(frozen=True, eq=False)
class SavedDense:
    """What ``Dense.forward`` kept for ``Dense.backward``, which may use it more than once."""

    _saved: Saved
    _layer: Dense
    _version: int
    _shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes kept beyond x and y."""
        return self._saved.nbytes


class Dense(Parameterised):
    """Affine map of the last axis: ``y = x W^T + b``, torch's Linear; parameters weight, bias.

    The rows of x are the batch of one step of a cell without recurrence, so that y and dx of a
    row have the same bits whatever the other rows and the number of threads.

    Parameters
    ----------
    in_features, out_features : int
        I, at least 0, and O, at least 1.
    bias : bool
        Whether there is b.
    dtype : dtype
        float32 or float64.
    seed : optional
        What ``numpy.random.default_rng`` takes; weight, then bias, are drawn uniformly from
        +-1/sqrt(in_features).

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.
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
        """Every option of this layer, as JSON can hold it; the parameters are not in it.

        Returns
        -------
        dict of str to object
            "kind", which is "nn.Dense", and the keywords of the constructor but `seed`, the dtype
            by name.
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
        return self._run(self._read(), x, False, num_threads)[0]

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
        y, saved = self._run(now, x, True, num_threads)
        return y, SavedDense(cast("Saved", saved), self, now.version, y.shape)

    def backward(
        self, saved: SavedDense, dy: ArrayLike, *, num_threads: int | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : SavedDense
            From this layer's `forward`; may be used again.
        dy : array_like, shape (..., O)
            Gradient of y; of a loss that is ``loss.gradient``.
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
        if num_threads is not None:
            num_threads = _check.num_threads(num_threads)
        if isinstance(dy, Loss):
            raise TypeError("dy: got a Loss; pass loss.gradient")
        call = saved._saved
        d = _check.shaped(_check.as_float(dy, self.dtype, "dy"), "dy", saved._shape)
        dx, (of,), _ = by_name(call.backend).backward(
            call, d.reshape(call.y.shape), None, num_threads=num_threads
        )
        gradients = {"weight": of.dw_ih, "bias": of.db_ih}
        return (
            cast("Array", dx).reshape(*saved._shape[:-1], self.in_features),
            {name: gradients[name] for name in self._arrays},
        )

    def _run(
        self, now: Closed, x: ArrayLike, save: bool, num_threads: int | None
    ) -> tuple[Array, Saved | None]:
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
        if num_threads is not None:
            num_threads = _check.num_threads(num_threads)
        y, _, saved = current().forward(
            now.weights[0],
            Inputs(a.reshape(1, count, self.in_features)),
            save=save,
            num_threads=num_threads,
        )
        return y.reshape(*outer, self.out_features), saved


def _whole_numbers(x: object) -> bool:
    """Whether x is of integers or bools, which the layers' own text would call tokens."""
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "iub"
    try:
        return np.asarray(x).dtype.kind in "iub"
    except (TypeError, ValueError, RuntimeError):
        return False  # as_float says what it is
