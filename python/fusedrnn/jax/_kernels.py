"""The calls of `core` behind the operations: NumPy arrays in, results written to given arrays.

What does not depend on the arrays is prepared once for each operation of a compiled program,
because a call on small arrays takes as long as this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import core, runtime
from ._call import Call, residual_roles

Array = NDArray[Any]
Arrays = Sequence[Array]

# XLA hands over addresses, so a pack is found by the addresses of its weights.
PACKS = core.PackCache()

# A single step reads weights of so many bytes where they lie: to compare them with a packed copy
# takes longer than the step.
LARGE = 2**18

_lock = threading.Lock()
_running = 0


def _enter() -> int | None:
    """Begin a call; returns its share of the threads, None if it is alone.

    JAX runs one program on several devices of the CPU at once, and each takes a core.
    """
    global _running
    with _lock:
        _running += 1
        running = _running
    return None if running == 1 else max(1, runtime.num_threads() // running)


def _leave() -> None:
    global _running
    with _lock:
        _running -= 1


# What `core` takes by another name than the role, and whether it is one array or a tuple.
_OPTIONAL = {
    "states": True,
    "lengths": False,
    "mask": False,
    "reset": False,
    "initial": True,
    "drop": False,
    "keep": True,
}
_OF_PLAN = ("lengths", "mask", "reset")  # a backward call has the plan in their place


class _Operation:
    """A forward or backward operation with everything that is known before its arrays."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.batch_first = call.batch_first
        self.sides = self._weights()
        self.optional: list[tuple[str, list[int], bool, bool]] = []
        for role, several in _OPTIONAL.items():
            if places := call.at(role):
                turned = call.batch_first and role in ("mask", "reset")
                self.optional.append((role, places, several, turned))
        self.cell, self.options = call.cell, call.options

    def _weights(self) -> list[list[tuple[str, int]]]:
        places, n = self.call.at("weight"), len(self.call.names)
        return [
            list(zip(self.call.names, places[k : k + n], strict=True))
            for k in range(0, len(places), n)
        ]

    def weights(self, operands: Arrays) -> Any:
        """Return the weights as `core` takes them."""
        sides = [{name: operands[k] for name, k in side} for side in self.sides]
        return sides[0] if len(sides) == 1 else sides

    def packed(self, operands: Arrays) -> core.Packed:
        """Return the packed weights, from an earlier call if they are the same."""
        return PACKS.get(self.cell, self.weights(operands), options=self.options)

    def time_major(self, a: Array) -> Array:
        return a.swapaxes(0, 1) if self.batch_first else a

    def given(self, operands: Arrays) -> dict[str, Any]:
        """Return the optional arguments of `core`."""
        found: dict[str, Any] = {}
        for role, places, several, turned in self.optional:
            if several:
                found[role] = tuple([operands[k] for k in places])
            else:
                a = operands[places[0]]
                found[role] = a.T if turned else a
        if self.call.zoneout is not None:
            found["zoneout"] = self.call.zoneout
        return found

    def __call__(self, operands: Arrays, results: Arrays) -> None:
        """Compute the results, for each member."""
        threads = _enter()
        try:
            if self.call.members is None:
                self.compute(operands, results, threads)
                return
            for own, out in self._of_members(operands, results):
                self.compute(own, out, threads)
        finally:
            _leave()

    def _of_members(self, operands: Arrays, results: Arrays) -> Iterator[tuple[Arrays, Arrays]]:
        assert self.call.members is not None
        for k in range(self.call.members):
            own = [
                a[k] if mapped else a for a, mapped in zip(operands, self.call.mapped, strict=True)
            ]
            yield own, [a[k, ...] for a in results]

    def compute(self, operands: Arrays, results: Arrays, threads: int | None) -> None:
        raise NotImplementedError


class Forward(_Operation):
    """Writes y, the last states and, with `save`, the residuals."""

    def __init__(self, call: Call, save: bool) -> None:
        super().__init__(call)
        self.residuals = residual_roles(call) if save else ()
        self.places = call.at("weight")

    def compute(self, operands: Arrays, results: Arrays, threads: int | None) -> None:
        """Make one call."""
        x = self.time_major(operands[0])
        if len(x) == 1 and sum([operands[k].nbytes for k in self.places]) > LARGE:
            packed = core.pack(self.cell, self.weights(operands), options=self.options, copy=False)
        else:
            packed = self.packed(operands)
        count = 1 + packed.spec.states
        residuals = self.residuals
        out = core.forward(
            packed,
            x,
            y=self.time_major(results[0]),
            final=tuple(results[1:count]),
            saved=results[count] if residuals else False,
            at_most=threads,
            **self.given(operands),
        )
        if len(residuals) > 1:
            plan = out.plan
            values = {
                "plan lengths": plan.lengths,
                "plan times": plan.times,
                "plan cut": plan.cut,
            }
            for role, to in zip(residuals[1:], results[count + 1 :], strict=True):
                value = values[role]
                assert value is not None
                to[...] = value.view(np.int32).reshape(to.shape) if to.dtype.kind == "i" else value


class Backward(_Operation):
    """Writes the gradients of the operands `wrt`."""

    def __init__(self, call: Call, wrt: Sequence[int]) -> None:
        super().__init__(call)
        self.optional = [one for one in self.optional if one[0] not in _OF_PLAN]
        self.place = {role: k for k, role in enumerate(call.roles)}
        weights, self.states = call.at("weight"), call.at("states")
        names, n = call.names, len(call.names)
        # Where each gradient goes: the index of its result.
        self.to_x = next((k for k, at in enumerate(wrt) if call.roles[at] == "x"), None)
        self.to_weights: list[list[tuple[str, int]]] = [[] for _ in self.sides]
        self.to_states: dict[int, int] = {}
        for k, at in enumerate(wrt):
            if call.roles[at] == "weight":
                side, name = divmod(at - weights[0], n)
                self.to_weights[side].append((names[name], k))
            elif call.roles[at] == "states":
                self.to_states[at] = k
        want = {name for side in self.to_weights for name, _ in side}
        want |= {"x"} if self.to_x is not None else set()
        self.want = frozenset(want | {"states"} if self.to_states else want)

    def _one(self, operands: Arrays, role: str) -> Array | None:
        k = self.place.get(role)
        return None if k is None else operands[k]

    def _int64(self, operands: Arrays, role: str, *shape: int) -> Array | None:
        a = self._one(operands, role)
        return None if a is None else a.view(np.int64).reshape(shape)

    def _into(self, operands: Arrays, results: Arrays) -> dict[str, Any]:
        into: dict[str, Any] = {}
        if self.to_x is not None:
            into["dx"] = self.time_major(results[self.to_x])
        if self.to_states:  # `core` has them all or none
            into["dfirst"] = tuple(
                results[self.to_states[at]] if at in self.to_states else np.empty_like(operands[at])
                for at in self.states
            )
        if any(self.to_weights):
            sides = [{name: results[k] for name, k in side} for side in self.to_weights]
            into["dweights"] = sides[0] if len(sides) == 1 else sides
        return into

    def compute(self, operands: Arrays, results: Arrays, threads: int | None) -> None:
        """Make one call."""
        packed, x = self.packed(operands), self.time_major(operands[0])
        steps, batch = x.shape[:2]
        plan = core.Plan(
            steps,
            batch,
            self._int64(operands, "plan lengths", batch),
            self._int64(operands, "plan times", packed.directions, batch, steps),
            self._one(operands, "plan cut"),
            packed.generation,
        )
        dy = self._one(operands, "dy")
        dstates = tuple([self._one(operands, f"dstate {k}") for k in range(packed.spec.states)])
        core.backward(
            packed,
            plan,
            x,
            y=self.time_major(operands[self.place["y"]]),
            saved=operands[self.place["saved"]],
            dy=None if dy is None else self.time_major(dy),
            dstates=None if all(d is None for d in dstates) else dstates,
            want=self.want,
            at_most=threads,
            **self._into(operands, results),
            **self.given(operands),
        )


OPERATIONS: dict[str, Callable[[Call, Any], _Operation]] = {
    "fusedrnn_forward": Forward,
    "fusedrnn_backward": Backward,
}
