"""Targets of an optimiser, and its state for them, which is kept by owner and not by name."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .._checks.arguments import describe
from .._layers.params import Parameterised, Parameters, parameter_arrays
from . import _checks

__all__ = ["Kept", "Parameter", "Resolved", "Target", "Trainable", "resolve"]

Array = NDArray[Any]
V = TypeVar("V")


class Trainable(Protocol):
    """A layer or model: parameters to read, and a way to change them in place."""

    @property
    def params(self) -> Mapping[str, Array]:
        """The parameters, by name."""

    def writable(self) -> AbstractContextManager[Mapping[str, Array]]:
        """Open the parameters for changes in place, by the names of `params`."""


# What the `step` of an optimiser accepts.
Target: TypeAlias = Trainable | Mapping[str, Array]


class Parameter(NamedTuple):
    """Shape, dtype and owner of a parameter, without its array.

    Nothing here refers to the array: a layer copies every array that is referenced elsewhere when
    its parameters are opened.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object
    key: Hashable  # the name in a layer or model, or a location in memory

    @property
    def place(self) -> tuple[object, Hashable]:
        """The owner and key under which its state is kept."""
        return self.owner, self.key


class Resolved(NamedTuple):
    """The parameters of a target by name, and the target."""

    parameters: dict[str, Parameter]
    target: Target

    def open(self) -> AbstractContextManager[Mapping[str, Array]]:
        """Return the parameters, to be changed in place."""
        if isinstance(self.target, Mapping):
            return nullcontext(self.target)
        return self.target.writable()

    def opened(self, params: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        """Return some of the parameters that `open` gave; they must be those that were resolved."""
        given = isinstance(self.target, Mapping) or isinstance(params, Parameters)
        of_layers = {} if given else parameter_arrays()
        found = {}
        for name in names:
            array, like = params.get(name), self.parameters[name]
            if array is None:
                raise ValueError(
                    f"target[{name!r}]: params has it, and what writable() gives has not"
                )
            if (array.shape, array.dtype) != (like.shape, like.dtype):
                raise ValueError(
                    f"target[{name!r}]: params has {like.dtype} {like.shape}, and writable() gives "
                    f"{describe(array)}"
                )
            layer, key = of_layers.get(id(_checks.memory_of(array)), like.place)
            if layer is not like.owner or key != like.key:
                raise ValueError(
                    f"target[{name!r}]: params has another array than the layer's that writable() "
                    "gives; params must ask the layers each time it is read"
                )
            if not array.flags.writeable:
                raise ValueError(
                    f"target[{name!r}]: is read-only; pass the layer itself, step(layer, gradients)"
                )
            found[name] = array
        return found


def resolve(target: object) -> Resolved:
    """Find the parameters of a layer, a model, what `writable()` yields, or a mapping of arrays.

    A parameter of a layer belongs to the layer, whether the target is the layer, a model that
    contains it, or any mapping of its arrays. Other arrays belong to the model, or to the mapping's
    `owner`; without either, to the memory that they lie in.
    """
    owner: object
    arrays: Mapping[str, Array]
    if isinstance(target, Mapping):
        owner, arrays = getattr(target, "owner", None), target
    elif isinstance(params := getattr(target, "params", None), Mapping) and callable(
        getattr(target, "writable", None)
    ):
        owner, arrays = target, params
    else:
        raise TypeError(
            "target: expected a layer or model (with params and writable()), what writable() "
            f"yields, or a mapping of names to arrays, got {describe(target)}"
        )
    if isinstance(arrays, Parameters):  # all of one layer
        layer = arrays.owner
        found = {name: Parameter(a.shape, a.dtype, layer, name) for name, a in arrays.items()}
        return Resolved(found, cast("Target", target))
    for name, array in arrays.items():
        _is_parameter(name, array)
    _checks.distinct((f"target[{name!r}]", array) for name, array in arrays.items())
    of_layers = parameter_arrays()
    found = {
        name: Parameter(array.shape, array.dtype, *_place(array, name, owner, of_layers))
        for name, array in arrays.items()
    }
    for name, parameter in found.items():
        _can_be_watched(parameter.owner, name)
    return Resolved(found, cast("Target", target))


def _is_parameter(name: object, array: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"target: expected names of type str, got {name!r}")
    if isinstance(array, Parameterised) or hasattr(array, "writable"):
        raise TypeError(
            f"target[{name!r}]: expected an array, got {describe(array)}; step each layer by "
            "itself: step(layer, gradients)"
        )
    _checks.gradients({name: array}, "target")


def _place(
    array: Array,
    name: str,
    owner: object,
    of_layers: Mapping[int, tuple[Parameterised, str]],
) -> tuple[object, Hashable]:
    """Return the owner and key of an array. All views of the same numbers have the same."""
    memory = _checks.memory_of(array)
    layer = of_layers.get(id(memory))
    if layer is not None:
        assert isinstance(memory, np.ndarray)
        if (array.shape, array.strides) != (memory.shape, memory.strides):
            raise ValueError(
                f"target[{name!r}]: is a part or another shape of {layer[1]!r} of a layer, which "
                "has moments as a whole; pass the array that the layer's writable() gives"
            )
        return layer
    if owner is not None:
        return owner, name
    address = array.__array_interface__["data"][0]
    return memory, (address, array.shape, array.strides, array.dtype.str)


def _can_be_watched(owner: object, name: str) -> None:
    """Refuse an owner without weak references: state is kept by them."""
    try:
        weakref.ref(owner)
    except TypeError:
        raise TypeError(
            f"target[{name!r}]: belongs to a {type(owner).__name__}, of which nobody can tell when "
            "it is gone, because it allows no weak references; expected an array that NumPy made, "
            "or an object of a class without __slots__"
        ) from None


class Kept(Generic[V]):
    """Values by owner and key.

    When an owner is deleted its values are dropped, so another object that gets the same id is not
    mistaken for it.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], dict[Hashable, V]]] = {}

    def of(self, owner: object) -> Mapping[Hashable, V]:
        """Return all values of an owner, by key."""
        reference, values = self._entries.get(id(owner), (None, {}))
        return values if reference is not None and reference() is owner else {}

    def put(self, owner: object, key: Hashable, value: V) -> None:
        """Keep a value."""
        if not self.of(owner):
            self._entries[id(owner)] = (self._watched(owner), {})
        self._entries[id(owner)][1][key] = value

    def owners(self) -> Iterator[Any]:
        """Yield all owners that still exist."""
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
