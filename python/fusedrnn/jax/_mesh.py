"""Inside shard_map: over which axes of the mesh values vary. JAX changes these names often.

An operation asks that all its operands vary over the same axes, and its results vary over them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

Array = Any  # the type checker does not read jax


def axes_of(aval: Any) -> frozenset[str]:
    """Return the axes of the mesh over which a value varies."""
    manual = getattr(aval, "manual_axis_type", None)  # JAX 0.10
    found: frozenset[str] = getattr(aval, "vma", frozenset()) if manual is None else manual.varying
    return found


def same_axes(operands: Sequence[Array]) -> list[Array]:
    """Let all operands vary over the same axes.

    The transpose of this sums the gradients of weights that all devices share.
    """
    axes = [axes_of(jax.typeof(a)) for a in operands]
    every = frozenset[str]().union(*axes)
    return [
        _varying(a, tuple(every - own)) if every - own else a
        for a, own in zip(operands, axes, strict=True)
    ]


def _varying(a: Array, axes: tuple[str, ...]) -> Array:
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(a, axes, to="varying")
    return jax.lax.pvary(a, axes)  # JAX before 0.9


def varying_over_mesh(shape: Sequence[int], dtype: Any, avals: Sequence[Any]) -> Any:
    """Return the type of a result of an operation on values of these types."""
    mesh = avals[0].sharding.mesh
    if mesh.empty:
        return jax.core.ShapedArray(shape, dtype)
    every = frozenset[str]().union(*map(axes_of, avals))
    whole = NamedSharding(mesh, PartitionSpec(*[None] * len(shape)))
    if hasattr(jax.sharding, "ManualAxisType"):
        manual = jax.sharding.ManualAxisType(varying=every)
        return jax.core.ShapedArray(shape, dtype, sharding=whole, manual_axis_type=manual)
    more = {"vma": every} if every else {}
    return jax.core.ShapedArray(shape, dtype, sharding=whole, **more)
