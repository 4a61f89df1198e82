"""What is fixed when a call is traced: its operands by role, its sizes, the shapes of its results.

A call is an operation of JAX: arrays in, arrays out, and a `Call` that says what the arrays are.
XLA's compiled program carries the `Call` as text, because a program may be compiled in one process
and run in another one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import core

Shape = tuple[int, ...]

# The axis of the batch in operands and results of each role; in x and what has its layout it
# depends on the call. Weights have none.
_BATCH_AXIS = {
    "states": 1,  # (D, B, P or H)
    "initial": 1,
    "drop": 1,
    "lengths": 0,
    "keep": 2,  # (D, T, B, P or H)
    "saved": 2,  # (D, T, B, ...)
    "plan lengths": 0,  # (B, 2): int64, each as two int32, because JAX may have no int64
    "plan times": 1,  # (D, B, T, 2): int64 as above
    "plan cut": 2,  # (D, T + 1, B)
    "dstate 0": 1,
    "dstate 1": 1,
}
_AS_X = ("x", "mask", "reset", "y", "dy")
# Of these `core.backward` gives gradients.
DIFFERENTIABLE = ("x", "weight", "states")


class Call(NamedTuple):
    """The arguments of an operation besides its arrays."""

    cell: str
    options: core.Options | None
    names: tuple[str, ...]  # of the weights of one direction
    directions: int
    batch_first: bool  # x is (B, T, I), and y, masks and resets are alike
    zoneout: tuple[float, float] | None
    roles: tuple[str, ...]  # of the operands, in order
    # If vmap maps the weights, the operation makes one call for each member of an ensemble. Its
    # results then have an axis of members in front, and so have the operands that are `mapped`.
    members: int | None = None
    mapped: tuple[bool, ...] = ()

    def encoded(self, *extra: object) -> str:
        """Return the call, and `extra`, as text for XLA."""
        return json.dumps([self, *extra])

    def with_roles(self, *roles: str) -> Call:
        """Return the call with more operands; they have the axis of members if there is one."""
        mapped = self.mapped and (*self.mapped, *[True] * len(roles))
        return self._replace(roles=(*self.roles, *roles), mapped=mapped)

    def batch_axis(self, role: str) -> int | None:
        """Return the axis of the batch, without an axis of members; None for weights."""
        if role in _AS_X:
            return 0 if self.batch_first else 1
        return _BATCH_AXIS.get(role)

    def at(self, role: str) -> list[int]:
        """Return the places of the operands of this role."""
        return [k for k, own in enumerate(self.roles) if own == role]


def decoded(text: str | bytes) -> tuple[Call, list[Any]]:
    """Return what `Call.encoded` was given."""
    fields, *extra = json.loads(text)
    cell, options, names, directions, batch_first, zoneout, roles, members, mapped = fields
    if options is not None:
        f, g, h = (core.Activation(*one) for one in options[:3])
        options = core.Options(f, g, h, *options[3:])
    rates = None if zoneout is None else (zoneout[0], zoneout[1])
    call = Call(
        cell,
        options,
        tuple(names),
        directions,
        batch_first,
        rates,
        tuple(roles),
        members,
        tuple(mapped),
    )
    return call, extra


class Array(NamedTuple):
    """The shape and dtype of an operand or a result."""

    shape: Shape
    dtype: Any


@lru_cache(maxsize=256)
def shapes_only(
    cell: str,
    options: core.Options | None,
    names: tuple[str, ...],
    shapes: tuple[Shape, ...],
    dtype: str,
) -> core.Packed:
    """Return a pack of arrays that nobody has written, for their sizes.

    In this way `core` checks the weights while JAX traces, when they have no values. The system
    gives memory to an array only when it is written, and nobody writes these.
    """
    made = [np.empty(shape, dtype) for shape in shapes]
    n = len(names)
    each = [dict(zip(names, made[k : k + n], strict=True)) for k in range(0, len(made), n)]
    return core.pack(cell, each[0] if len(each) == 1 else each, options=options, copy=False)


def packed_of(call: Call, operands: Sequence[Any]) -> core.Packed:
    """Return the sizes of a call as a pack without values."""
    shapes = tuple(own_shape(call, operands, k) for k in call.at("weight"))
    dtype = np.dtype(operands[0].dtype).name
    return shapes_only(call.cell, call.options, call.names, shapes, dtype)


def own_shape(call: Call, operands: Sequence[Any], k: int) -> Shape:
    """Return the shape of an operand without the axis of members."""
    shape = tuple(operands[k].shape)
    return shape[1:] if call.members is not None and call.mapped[k] else shape


def sizes(call: Call, operands: Sequence[Any]) -> tuple[int, int]:
    """Return T and B."""
    first, second = own_shape(call, operands, 0)[:2]
    return (second, first) if call.batch_first else (first, second)


def forward_results(call: Call, operands: Sequence[Any]) -> list[Array]:
    """Return the shapes of y and of the last states."""
    packed, (steps, batch) = packed_of(call, operands), sizes(call, operands)
    width = packed.directions * packed.output_size
    y = (batch, steps, width) if call.batch_first else (steps, batch, width)
    widths = (packed.output_size, packed.hidden_size)[: packed.spec.states]
    found = [Array(y, packed.dtype)]
    found += [Array((packed.directions, batch, width), packed.dtype) for width in widths]
    return _of_members(call, found)


def residual_roles(call: Call) -> tuple[str, ...]:
    """Return the roles of what a forward call keeps for the backward call, besides its operands."""
    roles = ["saved"]
    masked, cut = "mask" in call.roles, "reset" in call.roles
    roles += ["plan lengths"] if masked or "lengths" in call.roles else []
    roles += ["plan times"] if masked else []
    roles += ["plan cut"] if cut else []
    return tuple(roles)


def residuals(call: Call, operands: Sequence[Any]) -> list[Array]:
    """Return the shapes of what a forward call keeps, in the order of `residual_roles`."""
    packed, (steps, batch) = packed_of(call, operands), sizes(call, operands)
    n = packed.directions
    shapes = {
        "saved": Array(core.saved_shape(packed, steps, batch), packed.dtype),
        "plan lengths": Array((batch, 2), np.dtype(np.int32)),
        "plan times": Array((n, batch, steps, 2), np.dtype(np.int32)),
        "plan cut": Array((n, steps + 1, batch), np.dtype(np.uint8)),
    }
    return _of_members(call, [shapes[role] for role in residual_roles(call)])


def gradients(call: Call, wrt: Sequence[int], operands: Sequence[Any]) -> list[Array]:
    """Return the shapes of the gradients of these operands."""
    found = [Array(own_shape(call, operands, k), operands[k].dtype) for k in wrt]
    return _of_members(call, found)


def _of_members(call: Call, found: list[Array]) -> list[Array]:
    if call.members is None:
        return found
    return [Array((call.members, *one.shape), one.dtype) for one in found]
