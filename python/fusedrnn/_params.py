"""Named parameters of layers: read-only outside `writable`, shared by layers and Dense."""

from __future__ import annotations

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

__all__ = ["Parameterised", "Parameters", "Part", "StateDict"]


class StateDict(dict[str, Array]):
    """A `state_dict`: copies of parameters by name, and the cell they are of.

    A plain dict made of it (``dict(state)``) does not know the cell, and fits any layer with these
    names and shapes.

    Attributes
    ----------
    cell : str or None
        The cell, with its activations and clip where they are chosen; None: not known.
    """

    cell: str | None

    def __init__(self, values: Mapping[str, Array], cell: str | None = None) -> None:
        super().__init__(values)
        self.cell = cell

    def __or__(self, other: Any) -> Any:
        """Both together; they know their cell, which is no layer's if the two differ."""
        joined = super().__or__(other)
        if joined is NotImplemented:
            return joined
        cells = dict.fromkeys((self.cell, getattr(other, "cell", None)))
        known = [cell for cell in cells if cell is not None]
        return StateDict(joined, " and ".join(known) if known else None)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.cell)


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

    def _cell(self) -> str:
        """What makes other numbers of equal parameters: the cell and its chosen activations."""
        part = self._parts()[0][0]
        return part.spec.name if part.options is None else f"{part.spec.name}{part.options}"

    def state_dict(self) -> StateDict:
        """Copies of the parameters.

        Returns
        -------
        StateDict
            A dict of names to arrays, by torch's names, in torch's order. Its attribute `cell`
            says what they are the parameters of.
        """
        return StateDict({name: a.copy() for name, a in self._arrays.items()}, self._cell())

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
            Lists what is missing, unexpected or of the wrong shape or type, or says that these are
            the parameters of another cell; nothing was changed.
        RuntimeError
            Called inside ``with layer.writable()``.
        """
        _check.same_cell(getattr(state_dict, "cell", None), self._cell())
        values = _check.loaded(state_dict, prefix, self._arrays)
        with self.writable() as p:
            for name, value in values.items():
                p[name][...] = value
