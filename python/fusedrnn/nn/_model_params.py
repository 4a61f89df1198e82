"""The parameters of all layers of a model as one mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from numpy.typing import ArrayLike, NDArray

__all__ = ["ModelParameters"]

Array = NDArray[Any]
Model = TypeVar("Model")


class ModelParameters(Mapping[str, Array], Generic[Model]):
    """The parameters of a model's layers, with the name of its layer before each name.

    The arrays are looked up in the layers each time, and no reference is kept: a layer copies an
    array that is referenced elsewhere when it is opened or closed for writing.
    """

    def __init__(self, owner: Model, parts: Mapping[str, Any]) -> None:
        self._owner = owner
        self._parts = parts

    @property
    def owner(self) -> Model:
        """The model whose parameters these are."""
        return self._owner

    def _find(self, name: str) -> tuple[Any, str]:
        for prefix, part in self._parts.items():
            rest = name.removeprefix(prefix)
            if rest != name and rest in part:
                return part, rest
        raise KeyError(f"{name!r}: the model has the parameters {', '.join(self)}")

    def __getitem__(self, name: str) -> Array:
        part, rest = self._find(name)
        found: Array = part[rest]
        return found

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        part, rest = self._find(name)
        part[rest] = value

    def __iter__(self) -> Iterator[str]:
        for prefix, part in self._parts.items():
            yield from (prefix + name for name in part)

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts.values())

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {a.dtype}{a.shape}" for name, a in self.items()) + "}"
