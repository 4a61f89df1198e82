"""Packed weights of a module's layers, and the check that they can be used again.

A tensor's version counter is no help here: fused optimisers, `.data` and NumPy views write without
increasing it. So a pack is used again only if it `matches` what the tensors hold, a check that runs
at the speed of memory, or if the module is frozen.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from .. import core

Array = np.ndarray[Any, np.dtype[Any]]
Place = tuple[int, Any, Any]
FLOATS = (torch.float32, torch.float64)
_PLAIN = (torch.Tensor, torch.nn.Parameter)


class _Held(NamedTuple):
    """A pack, the places of the tensors that it was made from, and views of them.

    The views keep that memory alive, so a tensor found at the same place is the same memory.
    """

    places: tuple[Place, ...]
    arrays: list[dict[str, Array]]
    packed: core.Packed


def array(tensor: Any) -> Array:
    """Return a CPU tensor as an array that shares its memory (a copy for a lazy negation)."""
    found: Array = tensor.numpy(force=True)
    return found


def _places(tensors: Sequence[Any]) -> tuple[Place, ...]:
    return tuple((t.data_ptr(), t.shape, t.dtype) for t in tensors)


def _lie_there(tensors: Sequence[Any], places: tuple[Place, ...]) -> bool:
    for t, (address, shape, dtype) in zip(tensors, places, strict=True):
        if (
            type(t) not in _PLAIN
            or t.layout is not torch.strided
            or t.data_ptr() != address
            or t.shape != shape
            or t.dtype is not dtype
            or not t.is_contiguous()
        ):
            return False
    return True


def _learning(tensors: Sequence[Any]) -> bool:
    """Whether a call on these weights is part of a training step."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


class LayerPack:
    """The packed weights of one layer of one module."""

    def __init__(
        self,
        cell: str,
        options: core.Options | None,
        names: tuple[str, ...],
        attributes: tuple[str, ...],
    ) -> None:
        self.cell, self.options = cell, options
        self.names = names  # the names in `core`, for one direction
        self.attributes = attributes  # the module's names, for all directions
        self.frozen = False
        self._held: _Held | None = None
        # Arrays that calls with the held pack saved for a backward call, while a graph keeps them.
        self._saved: dict[int, weakref.ref[Array]] = {}

    def knows(self, tensors: Sequence[Any]) -> bool:
        """Whether these are the tensors of the held pack: the same places, shapes and dtypes."""
        held = self._held
        return held is not None and _lie_there(tensors, held.places)

    def get(self, tensors: Sequence[Any], known: bool) -> core.Packed:
        """Return a pack of what `tensors` hold, the weights by direction in the order of `names`.

        `known` is the result of `knows` for these tensors.
        """
        held = self._held
        if known and held is not None:
            if (self.frozen and not _learning(tensors)) or held.packed.matches(held.arrays):
                return held.packed
            arrays = held.arrays
        else:
            n = len(self.names)
            values = [np.ascontiguousarray(array(t)) for t in tensors]
            arrays = [
                dict(zip(self.names, values[k : k + n], strict=True))
                for k in range(0, len(values), n)
            ]
        places = _places(tensors)
        packed = self._of(held, arrays, places)
        self._held = _Held(places, arrays, packed)
        return packed

    def _of(
        self, held: _Held | None, arrays: list[dict[str, Array]], places: tuple[Place, ...]
    ) -> core.Packed:
        if held is not None and [p[1:] for p in held.places] == [p[1:] for p in places]:
            if held.packed.matches(arrays):
                return held.packed
            if not self._saved:  # if there is one, a backward call will need the old values
                try:
                    held.packed.update(arrays)
                except RuntimeError:  # another thread computes with the old values
                    pass
                else:
                    return held.packed
        self._saved = {}
        return core.pack(self.cell, arrays, options=self.options)

    def watch(self, packed: core.Packed, saved: Array) -> None:
        """Keep `packed` as it is until `saved` is gone: until then there may be a backward call."""
        held, living = self._held, self._saved
        if held is None or held.packed is not packed:
            return
        key = id(saved)
        living[key] = weakref.ref(saved, lambda _: living.pop(key, None))

    def forget(self) -> None:
        """Let go of the pack, and of the memory of its tensors."""
        self._held = None
        self._saved = {}


class Packs:
    """The packs of a module, one for each of its layers. They are not part of its state."""

    def __init__(self, layers: Sequence[LayerPack]) -> None:
        self.layers = tuple(layers)
        self.plain: dict[int, Any] = {}  # the last plain call of each layer, to be used again

    def freeze(self, frozen: bool) -> None:
        """Set whether calls trust the packs without comparing the weights."""
        for layer in self.layers:
            layer.frozen = frozen
            if frozen:
                layer.forget()

    def forget(self) -> None:
        """Make the next call pack anew, frozen or not, because the weights were replaced."""
        self.plain = {}
        for layer in self.layers:
            layer.forget()


def eligible(tensor: Any) -> bool:
    """Whether a tensor is a plain one in CPU memory, of a dtype that the kernels have."""
    return (
        type(tensor) in _PLAIN
        and tensor.layout is torch.strided
        and tensor.is_cpu
        and tensor.dtype in FLOATS
    )
