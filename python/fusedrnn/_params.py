"""Named parameters of layers: read-only outside `writable`, shared by layers and Dense."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from . import _check
from ._activations import Options
from ._backend import Weights
from ._spec import Array, CellSpec

__all__ = ["Parameterised", "Parameters", "Part", "parameter_arrays"]

# Every layer that is alive, by id.
_ALIVE: weakref.WeakValueDictionary[int, Parameterised] = weakref.WeakValueDictionary()


def parameter_arrays() -> dict[int, tuple[Parameterised, str]]:
    """Whose parameter an array is, and its name there: of all layers' own arrays, by their ids.

    ``layer.params`` gives views of these arrays, ``layer.writable()`` the arrays themselves.
    """
    layers = [layer for reference in _ALIVE.valuerefs() if (layer := reference()) is not None]
    return {id(a): (layer, name) for layer in layers for name, a in layer._arrays.items()}


class Parameters(Mapping[str, Array]):
    """The parameters by torch's names, in torch's order: read-only arrays.

    Assigning to a name copies the value in, converted to the owner's dtype. Those that
    ``owner.writable()`` gives can also be changed in place.
    """

    def __init__(self, owner: Parameterised, open_: bool) -> None:
        self._owner = owner
        self._open = open_

    @property
    def owner(self) -> Parameterised:
        """The layer whose parameters these are."""
        return self._owner

    def __getitem__(self, name: str) -> Array:
        array = self._owner._arrays.get(name)
        if array is None:
            _check.parameter_name(name, self)
        # A view of a read-only array cannot be made writable.
        return array if self._open else array.view()

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        array = self[name]
        if value is array:  # the end of `p[name] -= step`
            return
        value = _check.parameter(value, name, array)
        if self._open:
            array[...] = value
        else:
            with self._owner.writable() as opened:
                opened[name][...] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._owner._arrays)

    def __len__(self) -> int:
        return len(self._owner._arrays)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {a.dtype}{a.shape}" for name, a in self.items()) + "}"


class Part(NamedTuple):
    """One layer and direction: what its arrays are called outside, and their shapes."""

    spec: CellSpec
    shapes: dict[str, tuple[int, ...]]  # by the fields of Weights
    names: dict[str, str]  # of those that are parameters; the others stay zeros
    options: Options | None = None
    constants: Mapping[str, float] | None = None  # what fields start at that are not drawn


class Parameterised(ABC):
    """What owns the arrays of some layers and directions.

    A subclass sets `dtype`, gives its `_parts`, and calls `_draw` or `_adopt`. Attributes that
    begin with "_" are made anew by `_adopt` when an object is copied or unpickled; the others
    travel.
    """

    dtype: np.dtype[Any]

    @abstractmethod
    def _parts(self) -> list[list[Part]]:
        """Layers, each a list of directions."""

    def _draw(self, bounds: Sequence[float], seed: object) -> dict[str, Array]:
        """New parameters, uniform on +-bound of their layer, in their order."""
        rng = _check.generator(seed)
        arrays = {}
        for layer, bound in zip(self._parts(), bounds, strict=True):
            for part in layer:
                constants = part.constants or {}
                for field, name in part.names.items():
                    shape = part.shapes[field]
                    if field in constants:
                        arrays[name] = np.full(shape, constants[field], self.dtype)
                    else:
                        arrays[name] = rng.uniform(-bound, bound, shape).astype(self.dtype)
        return arrays

    def _adopt(self, arrays: dict[str, Array]) -> None:
        """Take parameters of the right names, shapes and dtype as one's own."""
        for array in arrays.values():
            array.flags.writeable = False
        self._arrays = arrays
        _ALIVE[id(self)] = self
        # Layers, each a tuple of directions; () while open for writing.
        self._weights = tuple(
            tuple(self._weights_of(part) for part in layer) for layer in self._parts()
        )
        self._version = 0

    def _weights_of(self, part: Part) -> Weights:
        fields: dict[str, Any] = {field: self._arrays[name] for field, name in part.names.items()}
        if "p" in part.shapes and "p" not in fields:
            fields["p"] = np.zeros(part.shapes["p"], self.dtype)
        return Weights(part.spec, **fields, options=part.options)

    def __getstate__(self) -> dict[str, Any]:
        kept = {key: value for key, value in self.__dict__.items() if not key.startswith("_")}
        return {**kept, "params": self.state_dict(), "version": self._version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays, version = state.pop("params"), state.pop("version")
        self.__dict__.update(state)
        self._adopt(arrays)
        self._version = version  # what was saved before a copy stays as old as it was

    def __setattr__(self, name: str, value: object) -> None:
        own = self.__dict__
        if name in own and "_arrays" in own and not name.startswith("_"):
            _check.fixed(name)
        super().__setattr__(name, value)

    @property
    def params(self) -> Parameters:
        """The parameters by torch's names: read-only arrays; assigning to a name copies in.

        Rows are gate-major. Layers, n gates, layer k, P = H without projection:
        ``weight_ih_l{k}`` (n*H, I; D*P past the first layer), ``weight_hh_l{k}`` (n*H, P),
        ``bias_ih_l{k}`` and ``bias_hh_l{k}`` (n*H,), ``weight_p_l{k}`` (3, H) with rows i f o for
        peepholes, ``weight_hr_l{k}`` (P, H) for a projection, ``weight_norm_ih_l{k}`` and
        ``weight_norm_hh_l{k}`` (n*H,), ``weight_norm_c_l{k}`` and ``bias_norm_c_l{k}`` (H,) for
        layer normalisation; a reverse direction's with ``_reverse`` behind. Dense: ``weight``
        (O, I), ``bias`` (O,).
        """
        return Parameters(self, False)

    @contextmanager
    def writable(self) -> Iterator[Parameters]:
        """Open the parameters for changes in place, for the body of a `with`.

        Yields
        ------
        Mapping of str to ndarray
            Writable arrays, read-only again at the end. Inside, the layer cannot be called; views
            taken of the arrays must not be written after the end.

        Raises
        ------
        RuntimeError
            They are open already.

        Examples
        --------
        >>> with layer.writable() as p:  # doctest: +SKIP
        ...     p["weight_ih_l0"] -= 0.1 * gradient
        """
        weights = self._weights or _check.parameters_open()
        try:
            self._weights = ()
            for array in self._arrays.values():
                array.flags.writeable = True
            yield Parameters(self, True)
        finally:
            # Ctrl-C may come between any two lines, and the layer must be whole after it.
            try:
                for layer in weights:
                    for part in layer:
                        part.invalidate()
                for array in self._arrays.values():
                    array.flags.writeable = False
            finally:
                self._version += 1
                self._weights = weights

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters.

        Returns
        -------
        dict of str to ndarray
            By torch's names, in torch's order.
        """
        return {name: array.copy() for name, array in self._arrays.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], prefix: str = "") -> None:
        """Set all parameters; torch's state_dict of the same module fits as it is.

        Parameters
        ----------
        state_dict : Mapping
            Names to what NumPy reads as floating point, torch tensors too.
        prefix : str
            Only names that begin with it are looked at, without it: "encoder.lstm.".

        Raises
        ------
        ValueError
            Lists what is missing, unexpected or of the wrong shape or type; nothing was changed.
        RuntimeError
            Called inside ``with layer.writable()``.
        """
        values = _check.loaded(state_dict, prefix, self._arrays)
        with self.writable() as p:
            for name, value in values.items():
                p[name][...] = value
