"""What an optimiser is given, and the keeping of its state: by owner, never by bare name."""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .._check import describe
from .._params import Parameterised, Parameters, parameter_arrays
from . import _checks

__all__ = ["Kept", "Parameter", "Resolved", "Target", "Trainable", "resolve"]

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


class Parameter(NamedTuple):
    """What a parameter is like, and whose it is; its array belongs to its owner alone.

    A layer copies an array that somebody holds when its parameters are opened, so none is here.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object
    key: Hashable  # the name in a layer or model, or a place in memory

    @property
    def place(self) -> tuple[object, Hashable]:
        """Where its state is kept."""
        return self.owner, self.key


class Resolved(NamedTuple):
    """The parameters of a target by name, and the target."""

    parameters: dict[str, Parameter]
    target: Target

    def open(self) -> AbstractContextManager[Mapping[str, Array]]:
        """The parameters, to be changed in place."""
        if isinstance(self.target, Mapping):
            return nullcontext(self.target)
        return self.target.writable()

    def opened(self, params: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        """Some of the parameters that `open` gave, which must be those that were looked at."""
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
    """Look at a layer, a model, what `writable()` yields, or a mapping of names to arrays.

    A parameter of a layer is the layer's, whether the layer is given, a model that has it, or its
    arrays in any mapping. What is of no layer belongs to the model, or to the mapping's `owner`;
    without either, to the memory that it lies in.
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
    if isinstance(arrays, Parameters):  # of one layer, which knows its own
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
    """Whose an array is. Every view of the same numbers has the same place."""
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
    """State is kept by weak references."""
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

    An owner that is gone takes its values with it, and another object that gets its id is never
    taken for it.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Any], dict[Hashable, V]]] = {}

    def of(self, owner: object) -> Mapping[Hashable, V]:
        """All values of an owner, by key."""
        reference, values = self._entries.get(id(owner), (None, {}))
        return values if reference is not None and reference() is owner else {}

    def put(self, owner: object, key: Hashable, value: V) -> None:
        """Keep a value."""
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
