"""What an optimiser is given, and the keeping of its state: by owner, never by bare name."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

from numpy.typing import NDArray

from .._check import describe
from . import _checks

__all__ = ["Kept", "Place", "Resolved", "Target", "Trainable", "resolve"]

Array = NDArray[Any]
V = TypeVar("V")


class Trainable(Protocol):
    """A layer or model: parameters to look at, and the way to change them in place."""

    @property
    def params(self) -> Mapping[str, Array]:
        """The parameters by name."""

    def writable(self) -> AbstractContextManager[Mapping[str, Array]]:
        """Open the parameters for changes in place, by the names of `params`."""


# What `Adam.step` takes.
Target: TypeAlias = Trainable | Mapping[str, Array]
# Whose a parameter is, and which of his: a name, or a place in memory.
Place: TypeAlias = tuple[object, Hashable]


@dataclass(frozen=True)
class Resolved:
    """The parameters of a target."""

    arrays: Mapping[str, Array]  # to look at
    owner: object | None  # None: each array is its own
    _target: Trainable | None  # what opens them

    def place(self, name: str) -> Place:
        """Where the state of a parameter belongs."""
        if self.owner is not None:
            return self.owner, name
        return place_in_memory(self.arrays[name], f"target[{name!r}]")

    def open(self) -> AbstractContextManager[Mapping[str, Array]]:
        """The parameters, to be changed in place."""
        return nullcontext(self.arrays) if self._target is None else self._target.writable()


def resolve(target: object) -> Resolved:
    """Look at a layer, a model, what `writable()` yields, or a mapping of names to arrays."""
    if isinstance(target, Mapping):
        owner = getattr(target, "owner", None)
        if owner is None:
            for name, array in target.items():
                _is_parameter(name, array)
        else:
            _can_be_watched(owner, "target")
        return Resolved(target, owner, None)
    params = getattr(target, "params", None)
    if isinstance(params, Mapping) and callable(getattr(target, "writable", None)):
        _can_be_watched(target, "target")
        return Resolved(params, target, cast("Trainable", target))
    raise TypeError(
        "target: expected a layer or model (with params and writable()), what writable() yields, "
        f"or a mapping of names to arrays, got {describe(target)}"
    )


def _is_parameter(name: object, array: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"target: expected names of type str, got {name!r}")
    if hasattr(array, "writable"):
        raise TypeError(
            f"target[{name!r}]: expected an array, got {describe(array)}; step each layer by "
            "itself: step(layer, gradients)"
        )
    _checks.gradients({name: array}, "target")


def _can_be_watched(owner: object, what: str) -> None:
    """State is kept by weak references: an owner must tell when it goes."""
    try:
        weakref.ref(owner)
    except TypeError:
        raise TypeError(
            f"{what}: belongs to a {type(owner).__name__}, of which nobody can tell when it is "
            "gone, because it allows no weak references; expected an array that NumPy made, or an "
            "object of a class without __slots__"
        ) from None


def place_in_memory(array: Array, name: str) -> Place:
    """Whose memory an array is, and which part: the same for every view of the same numbers."""
    owner = _checks.memory_of(array)
    _can_be_watched(owner, f"{name}: its memory")
    address = array.__array_interface__["data"][0]
    return owner, (address, array.shape, array.strides, array.dtype.str)


class Kept(Generic[V]):
    """Values by place. An owner that is gone takes his values with him; ids are never mistaken."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], dict[Hashable, V]]] = {}

    def get(self, place: Place) -> V | None:
        """The value of a place."""
        owner, key = place
        return self.of(owner).get(key)

    def of(self, owner: object) -> Mapping[Hashable, V]:
        """All values of an owner."""
        reference, values = self._entries.get(id(owner), (None, {}))
        return values if reference is not None and reference() is owner else {}

    def put(self, values: Iterable[tuple[Place, V]]) -> None:
        """Keep values."""
        for (owner, key), value in values:
            if not self.of(owner):
                self._entries[id(owner)] = (self._watched(owner), {})
            self._entries[id(owner)][1][key] = value

    def owners(self) -> Iterator[Any]:
        """All owners that are still there."""
        for reference, _ in list(self._entries.values()):
            owner = reference()
            if owner is not None:
                yield owner

    def _watched(self, owner: object) -> weakref.ref[Any]:
        me, number = weakref.ref(self), id(owner)

        def gone(reference: weakref.ref[Any]) -> None:
            kept = me()
            if kept is not None and kept._entries.get(number, (None,))[0] is reference:
                del kept._entries[number]

        return weakref.ref(owner, gone)
