"""What the layers of this room share: options, config, and what `forward` keeps for `backward`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options
from .._layers.params import Parameterised, Part, Restored
from . import _checks

__all__ = ["OptionsLayer", "Saved", "flat_rows", "read_only"]

Array = NDArray[Any]
L = TypeVar("L", bound="OptionsLayer")  # typing.Self came with Python 3.11
K = TypeVar("K")


@dataclass(frozen=True, eq=False)
class Saved(Generic[K]):
    """What ``forward`` kept for ``backward``, which may use it more than once."""

    _layer: OptionsLayer
    _version: int
    _shape: tuple[int, ...]  # of y
    _kept: K
    nbytes: int  # bytes kept besides x and y


class OptionsLayer(Parameterised):
    """A layer that is described by its parameters and by keywords of its constructor.

    A subclass lists these keywords in `_needed` and `_usual`, and keeps each of them in an
    attribute of the same name. A subclass with parameters also defines `_parts`.
    """

    _kind: ClassVar[str]  # in `config`, and the cell that `state_dict` names
    _needed: ClassVar[tuple[str, ...]] = ()  # options without a default, in their order
    _usual: ClassVar[Mapping[str, Any]] = {"dtype": "float32"}  # the others, with their defaults
    _in_config: ClassVar[Mapping[str, str]] = {}  # options whose name in `config` is another one
    _drawn: ClassVar[bool] = False  # whether the constructor takes a seed

    def _parts(self) -> list[list[Part]]:
        return []

    def _cell(self) -> str:
        return self._kind

    def _options(self) -> dict[str, Any]:
        """Return every option by name, the dtype by its name."""
        options = {name: getattr(self, name) for name in (*self._needed, *self._usual)}
        return options | {"dtype": self.dtype.name}

    def __repr__(self) -> str:
        options = self._options()
        shown = [repr(options[name]) for name in self._needed]
        shown += [f"{n}={options[n]!r}" for n in self._usual if options[n] != self._usual[n]]
        return f"{type(self).__name__}({', '.join(shown)})"

    def config(self) -> dict[str, Any]:
        """Return every option of this layer, as JSON can hold it, without the parameters.

        Returns
        -------
        dict of str to object
            "kind", which is "nn." and the name of the class, and the keywords of the constructor
            except `seed`, with the dtype by name.
        """
        options = self._options()
        return {"kind": self._kind, **{self._in_config.get(n, n): options[n] for n in options}}

    @classmethod
    def from_config(cls: type[L], config: Mapping[str, Any], state: Mapping[str, Any]) -> L:  # noqa: PYI019
        """Make the layer that `config` and `state_dict` describe.

        Parameters
        ----------
        config : mapping
            From ``layer.config()``. Options that are not in it have their defaults.
        state : mapping of str to array
            From ``layer.state_dict()``.

        Returns
        -------
        layer
            Of the class that this is called on.

        Raises
        ------
        TypeError, ValueError
            `config` is of another kind of layer, lacks an option or has an unknown one; an option
            or `state` is not as the constructor or `load_state_dict` take them.
        """
        names = {cls._in_config.get(name, name): name for name in (*cls._needed, *cls._usual)}
        needed = [shown for shown, name in names.items() if name in cls._needed]
        given = _check_options.config(config, cls._kind, names, needed)
        options: dict[str, Any] = {names[shown]: value for shown, value in given.items()}
        if cls._drawn:
            options["seed"] = Restored(state)
            layer = cls(**options)
            _check.same_cell(getattr(state, "cell", None), layer._cell())
        else:
            layer = cls(**options)
            layer.load_state_dict(state)
        return layer

    def _inputs(self, value: ArrayLike, name: str = "x") -> Array:
        """Return an argument as an array of this layer's dtype."""
        return _checks.inputs(value, self.dtype, name)

    def _recalled(self, saved: object) -> tuple[Any, dict[str, Array]]:
        """Return what a forward call of this layer kept, and the parameters, which are the same."""
        _check.saved_type(saved, Saved, "forward()")
        assert isinstance(saved, Saved)
        _check.same_layer(saved._layer is self)
        params, version = self._views()
        _check.unchanged(saved._version == version)
        return saved._kept, params

    def _gradient(self, saved: Saved[Any], dy: ArrayLike) -> Array:
        """Return dy, of the shape of y."""
        return _check.shaped(_check.as_float(dy, self.dtype, "dy"), "dy", saved._shape)


def read_only(y: Array) -> Array:
    """Return y for a caller who must not write it, because `saved` may share it."""
    y.flags.writeable = False
    view: Array = y.view()  # a view of a read-only array cannot be made writable
    return view


def flat_rows(a: Array) -> Array:
    """Return an array (..., n) as (N, n)."""
    return a.reshape(int(np.prod(a.shape[:-1])), a.shape[-1])
