"""The calls of `core` behind the operations: NumPy arrays in, results written to given arrays.

What does not depend on the arrays is prepared once for each operation of a compiled program,
because a call on small arrays takes as long as this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
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
        self.same_steps = not any(
            call.mapped[k] for role in _OF_PLAN for k in call.at(role) if call.mapped
        )

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
        return a.swapaxes(-3, -2) if self.batch_first else a

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
        """Compute the results, of all members if there are any."""
        threads = _enter()
        try:
            if self.call.members is None:
                self.run(self.packed(operands), operands, operands, results, threads)
                return
            each = [self.of_member(operands, k) for k in range(self.call.members)]
            if self.together(each[0]):
                packs = [self.packed(own) for own in each]
                self.run(packs, each[0], operands, results, threads)
                return
            for k, own in enumerate(each):
                self.run(self.packed(own), own, own, [a[k, ...] for a in results], threads)
        finally:
            _leave()

    def of_member(self, operands: Arrays, k: int) -> Arrays:
        """Return what member k of an ensemble is given."""
        return [a[k] if mapped else a for a, mapped in zip(operands, self.call.mapped, strict=True)]

    def together(self, first: Arrays) -> bool:
        """Whether one call computes all members; `first` is what the first one is given.

        Members that have lengths, masks or resets of their own walk different steps.
        """
        return self.same_steps

    def run(
        self,
        packs: core.Packed | list[core.Packed],
        first: Arrays,
        operands: Arrays,
        results: Arrays,
        threads: int | None,
    ) -> None:
        """Make one call, of a list of members if there is one; `first` as for `together`."""
        raise NotImplementedError


class Forward(_Operation):
    """Writes y, the last states and, with `save`, the residuals."""

    def __init__(self, call: Call, save: bool) -> None:
        super().__init__(call)
        self.residuals = residual_roles(call) if save else ()
        self.places = call.at("weight")
        self.time = 1 if call.batch_first else 0

    def in_place(self, operands: Arrays) -> bool:
        """Whether a call reads the weights where they lie."""
        return (
            operands[0].shape[self.time] == 1
            and sum([operands[k].nbytes for k in self.places]) > LARGE
        )

    def packed(self, operands: Arrays) -> core.Packed:
        """Return packed weights, or what reads them where they lie."""
        if self.in_place(operands):
            return core.pack(self.cell, self.weights(operands), options=self.options, copy=False)
        return super().packed(operands)

    def together(self, first: Arrays) -> bool:
        """Whether one call computes all members; it would pack what is read where it lies."""
        return super().together(first) and not self.in_place(first)

    def run(
        self,
        packs: core.Packed | list[core.Packed],
        first: Arrays,
        operands: Arrays,
        results: Arrays,
        threads: int | None,
    ) -> None:
        """Make one call."""
        count, residuals = len(results) - len(self.residuals), self.residuals
        arguments = {
            "y": self.time_major(results[0]),
            "final": tuple(results[1:count]),
            "saved": results[count] if residuals else False,
            "at_most": threads,
            **self.given(operands),
        }
        x = self.time_major(operands[0])
        if isinstance(packs, list):
            plan = core.forward_ensemble(packs, x, **arguments).plan
        else:
            plan = core.forward(packs, x, **arguments).plan
        if len(residuals) > 1:
            values = {"plan lengths": plan.lengths, "plan times": plan.times, "plan cut": plan.cut}
            for role, to in zip(residuals[1:], results[count + 1 :], strict=True):
                value = values[role]
                assert value is not None
                if to.dtype.kind == "i":
                    value = value.view(np.int32).reshape(*value.shape, 2)
                to[...] = value  # for every member the same


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

    def _into(self, first: Arrays, results: Arrays, members: tuple[int, ...]) -> dict[str, Any]:
        into: dict[str, Any] = {}
        if self.to_x is not None:
            into["dx"] = self.time_major(results[self.to_x])
        if self.to_states:  # `core` has them all or none
            into["dfirst"] = tuple(
                results[self.to_states[at]]
                if at in self.to_states
                else np.empty((*members, *first[at].shape), first[at].dtype)
                for at in self.states
            )
        if any(self.to_weights):
            sides = [{name: results[k] for name, k in side} for side in self.to_weights]
            into["dweights"] = sides[0] if len(sides) == 1 else sides
        return into

    def run(
        self,
        packs: core.Packed | list[core.Packed],
        first: Arrays,
        operands: Arrays,
        results: Arrays,
        threads: int | None,
    ) -> None:
        """Make one call."""
        members = packs if isinstance(packs, list) else [packs]
        packed = members[0]
        steps, batch = self.time_major(first[0]).shape[:2]
        plan = core.Plan(
            steps,
            batch,
            self._int64(first, "plan lengths", batch),
            self._int64(first, "plan times", packed.directions, batch, steps),
            self._one(first, "plan cut"),
            packed.generation,
        )
        x, dy = self.time_major(operands[0]), self._one(operands, "dy")
        dstates = tuple([self._one(operands, f"dstate {k}") for k in range(packed.spec.states)])
        arguments = {
            "y": self.time_major(operands[self.place["y"]]),
            "saved": operands[self.place["saved"]],
            "dy": None if dy is None else self.time_major(dy),
            "dstates": None if all(d is None for d in dstates) else dstates,
            "want": self.want,
            "at_most": threads,
            **self.given(operands),
        }
        if isinstance(packs, list):
            arguments |= self._into(first, results, (len(packs),))
            plan = plan._replace(generation=tuple([one.generation for one in packs]))
            core.backward_ensemble(packs, plan, x, **arguments)
        else:
            arguments |= self._into(first, results, ())
            core.backward(packs, plan, x, **arguments)


OPERATIONS: dict[str, Callable[[Call, Any], _Operation]] = {
    "fusedrnn_forward": Forward,
    "fusedrnn_backward": Backward,
}
