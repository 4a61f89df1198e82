"""Named parameters of layers and Dense: reading them, and changing them in `writable` blocks.

A layer owns its arrays. Outside `writable` they cannot be written: `params` gives read-only views.
Inside, the block that opened them writes them in place, and every other reader or writer gets an
error. NumPy lets a caller keep a view of an array, so references to the arrays are counted when a
block begins and when it ends: an array that is referenced from outside is given up, and the layer
goes on with a copy. A view, a memoryview and another framework's tensor all hold a reference.

Readers and writers of several threads need no lock. A reader takes its references first, and then
checks that the arrays are still those it began with. A writer first marks the parameters as open,
and then counts references. So at least one of the two notices the other.
"""

from __future__ import annotations

import functools
import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._activations import Options
from .._cells import Array, CellSpec
from .._checks import arguments as _check
from ..core._packed import Packed

__all__ = ["Parameterised", "Parameters", "Part", "Restored", "StateDict", "parameter_arrays"]

# All layers that exist, by id. The end of a layer takes its entry away, and runs no line of Python
# for that: what a signal's handler raises in a callback of a weak reference is lost.
_ALIVE: dict[int, weakref.ref[Parameterised]] = {}


def parameter_arrays() -> dict[int, tuple[Parameterised, str]]:
    """Map the id of every layer's own arrays to the layer and the name of the parameter.

    ``layer.params`` gives views of these arrays, ``layer.writable()`` the arrays themselves.
    """
    layers = [layer for reference in list(_ALIVE.values()) if (layer := reference()) is not None]
    return {id(a): (layer, name) for layer in layers for name, a in layer._arrays.items()}


def _references(arrays: dict[str, Array], name: str) -> int:
    """Number of references to an array of a dict, including those of the dict and of this call."""
    return sys.getrefcount(arrays[name])


# If references cannot be counted, every block begins and ends with a copy.
COUNTED = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
# The count of an array that only its dict holds.
ALONE = _references({"": np.empty(0)}, "") if COUNTED else 0


def _let_write(arrays: dict[str, Array], writable: bool) -> None:
    for array in arrays.values():
        array.flags.writeable = writable


def _leave_to_others(arrays: dict[str, Array]) -> None:
    """Replace arrays that are referenced outside this dict by copies."""
    for name in arrays:
        if not COUNTED or _references(arrays, name) > ALONE:
            arrays[name] = arrays[name].copy()


class StateDict(dict[str, Array]):
    """A `state_dict`: copies of parameters by name, and the name of their cell.

    A plain dict made of it (``dict(state)``) does not know the cell, and fits any layer with these
    names and shapes.

    Attributes
    ----------
    cell : str or None
        The cell, with its activations and clip if they are chosen; None: not known.
    """

    cell: str | None

    def __init__(self, values: Mapping[str, Array], cell: str | None = None) -> None:
        super().__init__(values)
        self.cell = cell

    def __or__(self, other: Any) -> Any:
        """Join both; if their cells differ, the joined name is no layer's, so loading fails."""
        joined = super().__or__(other)
        if joined is NotImplemented:
            return joined
        cells = dict.fromkeys((self.cell, getattr(other, "cell", None)))
        known = [cell for cell in cells if cell is not None]
        return StateDict(joined, " and ".join(known) if known else None)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self), self.cell)


class Parameters(Mapping[str, Array]):
    """The parameters by torch's names, in torch's order.

    From ``layer.params``: read-only arrays, which keep the values that they had when they were
    taken. All arrays of one ``items()`` or ``values()`` belong to the same moment. Assigning to a
    name copies the value in, converted to the layer's dtype.

    From ``layer.writable()``: arrays that can be changed in place until the end of the block. After
    it, this mapping reads as ``layer.params`` does, and assigning to a name is refused.
    """

    def __init__(self, owner: Parameterised, arrays: dict[str, Array] | None = None) -> None:
        self._owner = owner
        self._arrays = arrays  # the writable ones, until the end of the block
        self._ended = False

    @property
    def owner(self) -> Parameterised:
        """The layer whose parameters these are."""
        return self._owner

    @property
    def cell(self) -> str:
        """The cell of these parameters, as a `StateDict` names it."""
        return self._owner._cell()

    def _end(self) -> None:
        """Let go of the writable arrays."""
        arrays, self._arrays, self._ended = self._arrays, None, True
        if arrays is not None:
            arrays.clear()  # the caller may have kept items(), which would keep the arrays

    def _all(self) -> dict[str, Array]:
        arrays = self._arrays
        return self._owner._views()[0] if arrays is None else arrays

    def __getitem__(self, name: str) -> Array:
        if name not in self:
            _check.parameter_name(name, self)
        arrays = self._arrays
        return self._owner._view(name) if arrays is None else arrays[name]

    def __setitem__(self, name: str, value: ArrayLike) -> None:
        if self._ended:
            _check.block_ended(name)
        array = self[name]
        if value is array:  # `p[name] -= step` assigns the array to itself at its end
            return
        value = _check.parameter(value, name, array.dtype, array.shape)
        if self._arrays is not None:
            array[...] = value
            return
        del array  # its reference would make the layer go on with a copy
        with self._owner.writable() as opened:
            opened[name][...] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._owner._shapes)

    def __len__(self) -> int:
        return len(self._owner._shapes)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._owner._shapes

    def items(self) -> ItemsView[str, Array]:
        """Names and arrays, all of the same moment."""
        return self._all().items()

    def values(self) -> ValuesView[Array]:
        """The arrays, all of the same moment."""
        return self._all().values()

    def __repr__(self) -> str:
        dtype, shapes = self._owner.dtype, self._owner._shapes
        return "{" + ", ".join(f"{name!r}: {dtype}{shapes[name]}" for name in shapes) + "}"


class Restored(NamedTuple):
    """Parameters in place of a seed: a layer is made with these, and nothing is drawn.

    They are checked before memory is allocated, so that sizes in a file of unknown origin cannot
    ask for more than the file holds.
    """

    state: Mapping[str, Any]


class Part(NamedTuple):
    """One layer and direction: the names of its arrays for users, and their shapes."""

    spec: CellSpec | None  # None: arrays that no kernel reads
    shapes: dict[str, tuple[int, ...]]  # by the names of CellSpec.shapes
    names: dict[str, str]  # of those that are parameters; the others stay zeros
    options: Options | None = None
    constants: Mapping[str, float] | None = None  # start values of arrays that are not drawn


def _shapes(layout: Sequence[Sequence[Part]]) -> dict[str, tuple[int, ...]]:
    """Return the parameters' names and shapes, in their order."""
    parts = [part for layer in layout for part in layer]
    return {name: part.shapes[field] for part in parts for field, name in part.names.items()}


@dataclass(frozen=True, eq=False)
class Closed:
    """The parameters between two changes, ready for calls; each change makes a new object."""

    packs: tuple[Packed, ...]  # one for each layer that a kernel reads
    version: int


class Parameterised(ABC):
    """The owner of the arrays of some layers and directions.

    A subclass sets `dtype`, defines `_parts`, and calls `_draw` and `_adopt`. When an object is
    copied or unpickled, attributes that begin with "_" are not copied: `_adopt` makes them again.
    """

    dtype: np.dtype[Any]
    _now: Closed | None  # None while the parameters are open for writing
    _writer: object  # identifies the block that opened them; absent while they are closed

    @abstractmethod
    def _parts(self) -> list[list[Part]]:
        """Return the layers, each a list of directions."""

    def _draw(self, bounds: Sequence[float], seed: object) -> dict[str, Array]:
        """Draw parameters in order, uniform on +-bound of their layer; or take `Restored` ones."""
        if isinstance(seed, Restored):
            shapes = _shapes(self._parts())
            values = _check.loaded(seed.state, "", shapes, self.dtype)
            return {name: np.array(values[name]) for name in shapes}
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

    def _adopt(self, arrays: dict[str, Array], version: int = 0) -> None:
        """Take ownership of parameters of the right names, shapes and dtype."""
        self._layout = self._parts()
        self._shapes = _shapes(self._layout)
        # Only this dict and the packs hold the arrays. Each owns its memory: if it were a view,
        # references to its base would not be counted.
        self._arrays = {n: a if a.flags.owndata else a.copy() for n, a in arrays.items()}
        _ALIVE[id(self)] = weakref.ref(self, functools.partial(_ALIVE.pop, id(self)))
        self._version = version  # number of changes so far
        _let_write(self._arrays, False)
        self._packs = tuple(
            Packed(spec.name, self._of_directions(layer), layer[0].options, None, False)
            for layer in self._layout
            if (spec := layer[0].spec) is not None
        )
        self._now = Closed(self._packs, version)

    def _of_directions(self, layer: list[Part]) -> list[dict[str, Array]]:
        """Return the arrays of each direction, by the names that `core` uses."""
        return [{field: self._arrays[name] for field, name in part.names.items()} for part in layer]

    def _float(self, value: object, name: str) -> Array:
        """Return an argument as an array of this layer's dtype; a TypeError if it is not float."""
        return _check.as_float(value, self.dtype, name)

    def _read(self) -> Closed:
        """Return what a call starts from; RuntimeError while the parameters are open."""
        return self._now or _check.parameters_open()

    def _view(self, name: str) -> Array:
        """Return a read-only view of one parameter."""
        while True:
            now = self._read()
            # A view of a read-only array cannot be made writable.
            view: Array = self._arrays[name].view()
            if self._now is now:  # a block that opens from here on counts the view
                return view

    def _views(self) -> tuple[dict[str, Array], int]:
        """Return views of all parameters at one moment, and the number of changes before it."""
        while True:
            now = self._read()
            views = {name: array.view() for name, array in self._arrays.items()}
            if self._now is now:
                return views, now.version

    def __getstate__(self) -> dict[str, Any]:
        own = dict(vars(self))  # one snapshot: another thread may be opening the parameters
        kept = {key: value for key, value in own.items() if not key.startswith("_")}
        views, version = self._views()
        copies = {name: view.copy() for name, view in views.items()}
        return {**kept, "params": copies, "version": version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays, version = state.pop("params"), state.pop("version")
        vars(self).update(state)
        self._adopt(arrays, version)  # the version too: a stale `saved` must stay refused

    def __setattr__(self, name: str, value: object) -> None:
        own = vars(self)
        if name in own and "_now" in own and not name.startswith("_"):
            _check.fixed(name)
        super().__setattr__(name, value)

    @property
    def params(self) -> Parameters:
        """The parameters by torch's names: read-only arrays; assigning to a name copies in.

        An array keeps the values that it had when it was taken, whatever happens to the layer
        afterwards. While the parameters are open for writing, here or in another thread, reading
        them is a RuntimeError, so that no reader gets half of a change.

        Rows are gate-major. For layer k, with n gates and P = H without a projection:
        ``weight_ih_l{k}`` (n*H, I; D*P past the first layer), ``weight_hh_l{k}`` (n*H, P),
        ``bias_ih_l{k}`` and ``bias_hh_l{k}`` (n*H,), ``weight_p_l{k}`` (3, H) with rows i f o for
        peepholes, ``weight_hr_l{k}`` (P, H) for a projection, ``weight_norm_ih_l{k}`` and
        ``weight_norm_hh_l{k}`` (n*H,), ``weight_norm_c_l{k}`` and ``bias_norm_c_l{k}`` (H,) for
        layer normalisation. Names of the reverse direction end in ``_reverse``. Dense has
        ``weight`` (O, I) and ``bias`` (O,). The other layers of `fusedrnn.nn` name theirs in the
        docstrings of their classes.
        """
        return Parameters(self)

    @contextmanager
    def writable(self) -> Iterator[Parameters]:
        """Open the parameters for changes in place, for the body of a `with`.

        Yields
        ------
        Mapping of str to ndarray
            Arrays that can be written until the end of the block. If the caller keeps one of them,
            or a view of it, it is no longer the layer's after the block: writing to it has no
            effect on the layer.

        Raises
        ------
        RuntimeError
            They are open already. Calling the layer or reading ``layer.params`` raises the same
            error inside the block, and in other threads while it lasts.

        Notes
        -----
        Nothing is copied if no array of the layer is referenced elsewhere, neither when the block
        begins nor when it ends; each array that is referenced costs one copy.

        Examples
        --------
        >>> import fusedrnn as fr
        >>> gru = fr.GRU(3, 5, seed=0)
        >>> with gru.writable() as params:
        ...     params["weight_hh_l0"] *= 0.5
        """
        mine, opened = object(), Parameters(self)
        # Ctrl-C may come between any two lines: if it stops one _close, the other completes it.
        try:
            try:
                # `setdefault` is atomic, so only one of several threads gets in.
                if vars(self).setdefault("_writer", mine) is not mine:
                    _check.parameters_open()
                opened._arrays = self._open()
                yield opened
            finally:
                self._close(mine, opened)
        finally:
            self._close(mine, opened)

    def _open(self) -> dict[str, Array]:
        """Open the parameters; return arrays that nothing else reads."""
        now = self._read()
        self._now = None  # first: later readers are refused, and earlier ones are counted below
        for packed in now.packs:
            packed.close(wait=True)
        _leave_to_others(self._arrays)
        _let_write(self._arrays, True)
        return dict(self._arrays)

    def _close(self, writer: object, opened: Parameters) -> None:
        """Make the arrays the layer's alone again; does nothing if that was done."""
        if vars(self).get("_writer") is not writer:
            return
        opened._end()
        _let_write(self._arrays, False)  # arrays kept from the block become read-only as well
        try:
            _leave_to_others(self._arrays)
        except MemoryError:  # the next block tries again to replace the arrays
            self._settle()
            raise
        self._settle()

    def _settle(self) -> None:
        self._version += 1
        _let_write(self._arrays, False)
        packs = []
        read = [layer for layer in self._layout if layer[0].spec is not None]
        for packed, layer in zip(self._packs, read, strict=True):
            packed.close(wait=True)  # Ctrl-C may have stopped _open before it did this
            packs.append(packed.heir(self._of_directions(layer)))
        self._packs = tuple(packs)
        self._now = Closed(self._packs, self._version)
        del self._writer

    def _cell(self) -> str:
        """Name the cell and its chosen activations: what results depend on besides parameters."""
        part = self._layout[0][0]
        assert part.spec is not None  # a layer without a cell overrides this
        return part.spec.name if part.options is None else f"{part.spec.name}{part.options}"

    def state_dict(self) -> StateDict:
        """Return copies of the parameters.

        Returns
        -------
        StateDict
            A dict of names to arrays, by torch's names, in torch's order. Its attribute `cell`
            names the cell that they are the parameters of.
        """
        return StateDict({name: a.copy() for name, a in self._views()[0].items()}, self._cell())

    def load_state_dict(self, state_dict: Mapping[str, Any], prefix: str = "") -> None:
        """Set all parameters; a state_dict of the same torch module, or cell, can be loaded as is.

        Parameters
        ----------
        state_dict : Mapping
            Names to arrays of floating point, or to torch's tensors, which are detached; numbers of
            16 bits are widened. ``dict(module.named_parameters())`` works as well.
        prefix : str
            Use only names that begin with it, and without it: "encoder.lstm.".

        Raises
        ------
        TypeError
            Not a mapping of names.
        ValueError
            Lists what is missing, unexpected or of the wrong shape or type, or says that these are
            the parameters of another cell; nothing was changed.
        RuntimeError
            Called inside ``with layer.writable()``.
        """
        _check.same_cell(getattr(state_dict, "cell", None), self._cell())
        values = _check.loaded(state_dict, prefix, self._shapes, self.dtype)
        with self.writable() as p:
            for name, value in values.items():
                p[name][...] = value
