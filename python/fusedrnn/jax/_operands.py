"""Checks of the functions' arguments, which see shapes and dtypes while JAX traces.

A value is checked here if it is known; what depends on unknown values, `core` checks when the call
runs, and the text of its error is in that of XLA's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import core
from ._call import Shape, shapes_only

Array = Any  # the type checker does not read jax
Weights = Mapping[str, Array]

_FLOATS = ("float32", "float64")


def describe(a: Any) -> str:
    """Describe a value for the text of an error."""
    if hasattr(a, "dtype") and hasattr(a, "shape"):
        return f"an array {a.dtype} {tuple(a.shape)}"
    return type(a).__name__


def array(value: Any, name: str) -> Array:
    """Return a value as an array of JAX."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: JAX cannot read it: {error}") from None


class Rows(NamedTuple):
    """The sequences of a call: x as a batch, and how the caller sees it."""

    x: Array
    batched: bool
    batch_first: bool
    steps: int
    batch: int

    @property
    def dtype(self) -> Any:
        """The dtype of all numbers of the call."""
        return self.x.dtype

    @property
    def layout(self) -> Shape:
        """The shape of a mask, as the caller gives it."""
        if not self.batched:
            return (self.steps,)
        return (self.batch, self.steps) if self.batch_first else (self.steps, self.batch)

    def numbers(self, value: Any, name: str, shape: Shape) -> Array:
        """Check an array of the call's dtype."""
        a = array(value, name)
        if a.dtype != self.dtype:
            raise TypeError(
                f"{name}: expected {self.dtype}, as x is, got {describe(a)}; "
                "all arrays of a call have one dtype"
            )
        return shaped(a, name, shape)

    def flags(self, value: Any, name: str) -> Array:
        """Check a mask or reset; returns it with an axis of the batch."""
        a = array(value, name)
        if a.dtype != bool:
            raise TypeError(f"{name}: expected an array of bool, got {describe(a)}")
        return shaped(a, name, self.layout).reshape(self.inside)

    @property
    def inside(self) -> Shape:
        """The shape of a mask with an axis of the batch."""
        return (self.batch, self.steps) if self.batch_first else (self.steps, self.batch)


def shaped(a: Array, name: str, shape: Shape) -> Array:
    """Check a shape."""
    if a.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(a.shape)}")
    return a


def rows(x: Any, batch_first: Any) -> Rows:
    """Check x, (T, B, I), (B, T, I) or (T, I)."""
    if not isinstance(batch_first, bool):
        raise TypeError(f"batch_first: expected True or False, got {describe(batch_first)}")
    a = array(x, "x")
    if str(a.dtype) not in _FLOATS:
        raise TypeError(f"x: expected float32 or float64, got {describe(a)}")
    if a.ndim == 2:  # as a batch of one, in the layout that costs nothing to be mapped
        return Rows(a[None], False, True, a.shape[0], 1)
    if a.ndim != 3:
        axes = "(B, T, I)" if batch_first else "(T, B, I)"
        raise ValueError(f"x: expected shape {axes} or (T, I), got {tuple(a.shape)}")
    first, second = a.shape[:2]
    return Rows(a, True, batch_first, *((second, first) if batch_first else (first, second)))


def weights(given: Any, cell: str, options: core.Options | None, of: Rows) -> tuple[Any, ...]:
    """Return the weights by direction in the order of their names, and their sizes as a pack."""
    if isinstance(given, Mapping):
        sides = [given]
    elif isinstance(given, Sequence) and len(given) == 2:
        sides = list(given)
    else:
        sides = []
    if not sides or not all(isinstance(one, Mapping) for one in sides):
        raise TypeError(
            "weights: expected a mapping of names to arrays, or a pair of them for two "
            f"directions, got {describe(given)}"
        )
    arrays = []
    for d, one in enumerate(sides):
        label = "weights" if len(sides) == 1 else f"weights[{d}]"
        arrays.append(
            {
                name: array(value, f"{label}[{name!r}]")
                for name, value in one.items()
                if value is not None
            }
        )
        for name, a in arrays[-1].items():
            if a.dtype != of.dtype:
                raise TypeError(
                    f"{label}[{name!r}]: expected {of.dtype}, as x is, got {describe(a)}; "
                    "all arrays of a call have one dtype"
                )
    packed = _packed(cell, options, arrays, of.dtype)
    if packed.input_size != of.x.shape[-1]:
        raise ValueError(
            f"x: expected {packed.input_size} inputs, the columns of w_ih, in its last axis; "
            f"got shape {tuple(of.x.shape if of.batched else of.x.shape[1:])}"
        )
    return [one[name] for one in arrays for name in packed.names], packed


def _packed(
    cell: str, options: core.Options | None, arrays: list[dict[str, Array]], dtype: Any
) -> core.Packed:
    names = tuple(arrays[0])
    if all(tuple(sorted(one)) == tuple(sorted(names)) for one in arrays):
        shapes = tuple(tuple(one[name].shape) for one in arrays for name in names)
        return shapes_only(cell, options, names, shapes, str(dtype))
    # `core` says what is wrong.
    made = [{name: np.empty(a.shape, str(dtype)) for name, a in one.items()} for one in arrays]
    return core.pack(cell, made, options=options, copy=False)


def state(value: Any, name: str, packed: core.Packed, of: Rows) -> tuple[Array, ...]:
    """Check h, or (h, c): (B, n), or (2, B, n) for two directions; without B if x has none."""
    outside = _outside(packed, (of.batch,) if of.batched else ())
    return tuple(
        of.numbers(part, label, (*outside, width)).reshape(packed.directions, of.batch, width)
        for part, label, width in _parts(value, name, packed, "(h, c)")
    )


def _parts(value: Any, name: str, packed: core.Packed, pair: str) -> list[tuple[Any, str, int]]:
    """Return what belongs to each state of the cell, with a label and the state's width."""
    widths = (packed.output_size, packed.hidden_size)[: packed.spec.states]
    if len(widths) == 1:
        return [(value, name, widths[0])]
    if not isinstance(value, tuple | list) or len(value) != len(widths):
        raise TypeError(f"{name}: expected a pair {pair}, got {describe(value)}")
    return [
        (part, f"{name}[{k}]", width)
        for k, (part, width) in enumerate(zip(value, widths, strict=True))
    ]


def _outside(packed: core.Packed, shape: Shape) -> Shape:
    """Return a shape with an axis of directions in front if there are two."""
    return (2, *shape) if packed.directions > 1 else shape


def lengths(value: Any, packed: core.Packed, of: Rows) -> Array:
    """Check the number of real steps of each sequence."""
    a = array(value, "lengths")
    if a.dtype.kind not in "iu":
        raise TypeError(f"lengths: expected integers, got {describe(a)}")
    a = shaped(a, "lengths", (of.batch,) if of.batched else ()).reshape(of.batch)
    if not isinstance(value, jax.core.Tracer):  # inside jit, `a` is one even if `value` is known
        known = np.asarray(value).reshape(of.batch)
        core.plan_of(packed, of.steps, of.batch, lengths=known)
    return a


def factors(value: Any, packed: core.Packed, of: Rows) -> Array:
    """Check recurrent dropout: factors on h, of the shape of a state."""
    outside = _outside(packed, (of.batch,) if of.batched else ())
    a = of.numbers(value, "drop", (*outside, packed.output_size))
    return a.reshape(packed.directions, of.batch, packed.output_size)


def keep(value: Any, packed: core.Packed, of: Rows) -> tuple[Array, ...]:
    """Check the masks of zoneout, of the shape of y and, for c, alike; (2, ...) for two directions.

    Returns them as (D, T, B, n).
    """
    outside = _outside(packed, of.layout)
    found = []
    for part, label, width in _parts(value, "keep", packed, "(of h, of c)"):
        a = of.numbers(part, label, (*outside, width))
        a = a.reshape(packed.directions, *of.inside, width)
        found.append(a.swapaxes(1, 2) if of.batch_first else a)
    return tuple(found)


def rates(value: Any, packed: core.Packed) -> tuple[float, float]:
    """Check the rates of zoneout."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"zoneout: expected the rates of h and c, got {describe(value)}")
    for rate in value:
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise TypeError(f"zoneout: expected a number in [0, 1), got {describe(rate)}")
        if not 0 <= rate < 1:
            raise ValueError(f"zoneout: expected a number in [0, 1), got {rate}")
    if value[1] and packed.spec.states < 2:
        raise ValueError(f"zoneout: {packed.cell} has no c; expected 0 as its rate, got {value[1]}")
    return float(value[0]), float(value[1])
