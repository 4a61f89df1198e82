"""The calls of `core` behind the operations: NumPy arrays in, results written to given arrays."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import core, runtime
from ._call import Call, residual_roles

Array = NDArray[Any]

# XLA hands over addresses, so a pack is found by the addresses of its weights.
PACKS = core.PackCache()

_lock = threading.Lock()
_running = 0


@contextmanager
def _share() -> Iterator[int]:
    """Give each of the calls that run at the same time its share of the threads.

    JAX runs one program on several devices of the CPU at once; each takes a core.
    """
    global _running
    with _lock:
        _running += 1
        running = _running
    try:
        yield max(1, runtime.num_threads() // running)
    finally:
        with _lock:
            _running -= 1


def _members(call: Call, operands: Sequence[Array], results: Sequence[Array]) -> Iterator[Any]:
    if call.members is None:
        yield operands, results
        return
    for k in range(call.members):
        own = [a[k] if mapped else a for a, mapped in zip(operands, call.mapped, strict=True)]
        yield own, [a[k, ...] for a in results]


class _Arguments:
    """The operands of one call by role, as `core` takes them."""

    def __init__(self, call: Call, operands: Sequence[Array]) -> None:
        self.call = call
        self._of: dict[str, list[Array]] = {}
        for role, a in zip(call.roles, operands, strict=True):
            self._of.setdefault(role, []).append(a)
        weights, n = self._of["weight"], len(call.names)
        each = [
            dict(zip(call.names, weights[k : k + n], strict=True))
            for k in range(0, len(weights), n)
        ]
        self.packed = PACKS.get(
            call.cell, each[0] if len(each) == 1 else each, options=call.options
        )

    def one(self, role: str) -> Array | None:
        found = self._of.get(role)
        return None if found is None else found[0]

    def several(self, role: str) -> tuple[Array, ...] | None:
        found = self._of.get(role)
        return None if found is None else tuple(found)

    def time_major(self, a: Array | None) -> Any:
        return a if a is None or not self.call.batch_first else a.swapaxes(0, 1)

    def in_layout(self, role: str) -> Any:
        return self.time_major(self.one(role))

    def noise(self) -> dict[str, Any]:
        """Return what forward and backward take alike."""
        return {
            "states": self.several("states"),
            "initial": self.several("initial"),
            "drop": self.one("drop"),
            "keep": self.several("keep"),
            "zoneout": self.call.zoneout,
        }


def forward(call: Call, save: bool, operands: Sequence[Array], results: Sequence[Array]) -> None:
    """Write y, the last states and, with `save`, the residuals to `results`."""
    with _share() as threads:
        for own, out in _members(call, operands, results):
            _forward(call, save, own, out, threads)


def _forward(
    call: Call, save: bool, operands: Sequence[Array], results: Sequence[Array], threads: int
) -> None:
    given = _Arguments(call, operands)
    count = 1 + given.packed.spec.states
    y, *final = results[:count]
    kept = dict(zip(residual_roles(call), results[count:], strict=True)) if save else {}
    out = core.forward(
        given.packed,
        given.in_layout("x"),
        lengths=given.one("lengths"),
        mask=given.in_layout("mask"),
        reset=given.in_layout("reset"),
        y=given.time_major(y),
        final=tuple(final),
        saved=kept.get("saved", False),
        at_most=threads,
        **given.noise(),
    )
    plan = {
        "plan lengths": out.plan.lengths,
        "plan times": out.plan.times,
        "plan cut": out.plan.cut,
    }
    for role, a in kept.items():
        value = plan.get(role)
        if value is not None:
            a[...] = value.view(np.int32).reshape(a.shape) if a.dtype.kind == "i" else value


def backward(
    call: Call, wrt: Sequence[int], operands: Sequence[Array], results: Sequence[Array]
) -> None:
    """Write the gradients of the operands `wrt` to `results`."""
    with _share() as threads:
        for own, out in _members(call, operands, results):
            _backward(call, wrt, own, out, threads)


def _int64(a: Array | None, *shape: int) -> Array | None:
    return None if a is None else a.view(np.int64).reshape(shape)


def _backward(
    call: Call,
    wrt: Sequence[int],
    operands: Sequence[Array],
    results: Sequence[Array],
    threads: int,
) -> None:
    given = _Arguments(call, operands)
    packed, x = given.packed, given.in_layout("x")
    steps, batch = x.shape[:2]
    n = call.directions
    plan = core.Plan(
        steps,
        batch,
        _int64(given.one("plan lengths"), batch),
        _int64(given.one("plan times"), n, batch, steps),
        given.one("plan cut"),
        packed.generation,
    )
    into: dict[str, Any] = {}
    dweights: list[dict[str, Array]] = [{} for _ in range(n)]
    states = call.at("states")
    dfirst: list[Array | None] = [None] * len(states)
    first = call.at("weight")[0]
    for k, out in zip(wrt, results, strict=True):
        role = call.roles[k]
        if role == "x":
            into["dx"] = given.time_major(out)
        elif role == "weight":
            direction, name = divmod(k - first, len(call.names))
            dweights[direction][call.names[name]] = out
        else:
            dfirst[states.index(k)] = out
    want = {name for of in dweights for name in of}
    want |= {"x"} if "dx" in into else set()
    if any(a is not None for a in dfirst):
        want.add("states")
        into["dfirst"] = tuple(
            np.empty_like(operands[k]) if a is None else a
            for k, a in zip(states, dfirst, strict=True)
        )
    if any(dweights):
        into["dweights"] = dweights[0] if n == 1 else dweights
    y, saved = given.in_layout("y"), given.one("saved")
    assert saved is not None
    dstates = tuple(given.one(f"dstate {k}") for k in range(packed.spec.states))
    core.backward(
        packed,
        plan,
        x,
        y=y,
        saved=saved,
        dy=given.in_layout("dy"),
        dstates=None if all(d is None for d in dstates) else dstates,
        want=want,
        at_most=threads,
        **into,
        **given.noise(),
    )
