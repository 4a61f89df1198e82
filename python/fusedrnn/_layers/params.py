"""Named parameters, shared by layers and Dense; long because it says who may see what, and when.

A layer owns its arrays. Outside `writable` nobody can write them: `params` gives read-only views.
Inside, one caller writes them in place, and everybody else is refused. What makes this hold, though
NumPy lets anybody keep a view, is that references to the arrays are counted, when a block begins
and when it ends: an array that somebody outside holds is left to him, and the layer goes on with a
copy. A view, a memoryview and another framework's tensor all hold the array that they look at.

Whoever reads takes hold of the arrays first and asks afterwards whether they are still those that
he began with; whoever opens them says so first and counts afterwards. One of the two always sees
the other.
"""

from __future__ import annotations

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

# Every layer that is alive, by id.
_ALIVE: weakref.WeakValueDictionary[int, Parameterised] = weakref.WeakValueDictionary()


def parameter_arrays() -> dict[int, tuple[Parameterised, str]]:
    """Whose parameter an array is, and its name there: of all layers' own arrays, by their ids.

    ``layer.params`` gives views of these arrays, ``layer.writable()`` the arrays themselves.
    """
    layers = [layer for reference in _ALIVE.valuerefs() if (layer := reference()) is not None]
    return {id(a): (layer, name) for layer in layers for name, a in layer._arrays.items()}


def _references(arrays: dict[str, Array], name: str) -> int:
    """How many references there are to an array of a dict, the dict's and this call's included."""
    return sys.getrefcount(arrays[name])


# Where references cannot be counted, every block begins and ends with a copy.
COUNTED = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
# Of an array that its dict alone holds.
ALONE = _references({"": np.empty(0)}, "") if COUNTED else 0


def _let_write(arrays: dict[str, Array], writable: bool) -> None:
    for array in arrays.values():
        array.flags.writeable = writable


def _leave_to_others(arrays: dict[str, Array]) -> None:
    """Put copies in the place of the arrays that somebody outside of this dict holds."""
    for name in arrays:
        if not COUNTED or _references(arrays, name) > ALONE:
            arrays[name] = arrays[name].copy()


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
    """The parameters by torch's names, in torch's order.

    Of ``layer.params``: read-only arrays, which keep the values of the moment they were taken at.
    Those of ``items()`` and ``values()`` are all of one moment. Assigning to a name copies the
    value in, converted to the layer's dtype.

    Of ``layer.writable()``: arrays that can be changed in place until the end of the block. After
    it, this mapping reads as ``layer.params`` does, and assigning to a name is refused.
    """

    def __init__(self, owner: Parameterised, arrays: dict[str, Array] | None = None) -> None:
        self._owner = owner
        self._arrays = arrays  # those that can be written, until the end of the block
        self._ended = False

    @property
    def owner(self) -> Parameterised:
        """The layer whose parameters these are."""
        return self._owner

    @property
    def cell(self) -> str:
        """What cell these are the parameters of, as a `StateDict` says it."""
        return self._owner._cell()

    def _end(self) -> None:
        """Let go of the writable arrays."""
        arrays, self._arrays, self._ended = self._arrays, None, True
        if arrays is not None:
            arrays.clear()  # somebody may have kept its items()

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
        if value is array:  # the end of `p[name] -= step`
            return
        value = _check.parameter(value, name, array.dtype, array.shape)
        if self._arrays is not None:
            array[...] = value
            return
        del array  # or the layer would leave it to us, and go on with a copy
        with self._owner.writable() as opened:
            opened[name][...] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._owner._shapes)

    def __len__(self) -> int:
        return len(self._owner._shapes)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._owner._shapes

    def items(self) -> ItemsView[str, Array]:
        """Names and arrays, all of one moment."""
        return self._all().items()

    def values(self) -> ValuesView[Array]:
        """The arrays, all of one moment."""
        return self._all().values()

    def __repr__(self) -> str:
        dtype, shapes = self._owner.dtype, self._owner._shapes
        return "{" + ", ".join(f"{name!r}: {dtype}{shapes[name]}" for name in shapes) + "}"


class Restored(NamedTuple):
    """Parameters in place of a seed: a layer is made of them, and nothing is drawn.

    They are checked before memory is asked for, so that sizes that somebody else wrote, in a file,
    cannot ask for more than comes with them.
    """

    state: Mapping[str, Any]


class Part(NamedTuple):
    """One layer and direction: what its arrays are called outside, and their shapes."""

    spec: CellSpec
    shapes: dict[str, tuple[int, ...]]  # by the fields of Weights
    names: dict[str, str]  # of those that are parameters; the others stay zeros
    options: Options | None = None
    constants: Mapping[str, float] | None = None  # what fields start at that are not drawn


def _shapes(layout: Sequence[Sequence[Part]]) -> dict[str, tuple[int, ...]]:
    """The parameters' names and shapes, in their order."""
    parts = [part for layer in layout for part in layer]
    return {name: part.shapes[field] for part in parts for field, name in part.names.items()}


@dataclass(frozen=True, eq=False)
class Closed:
    """The parameters between two changes, ready for calls; after a change, another one."""

    packs: tuple[Packed, ...]  # one for each layer
    version: int


class Parameterised(ABC):
    """What owns the arrays of some layers and directions.

    A subclass sets `dtype`, gives its `_parts`, and calls `_draw` or `_adopt`. Attributes that
    begin with "_" are made anew by `_adopt` when an object is copied or unpickled; the others
    travel.
    """

    dtype: np.dtype[Any]
    _now: Closed | None  # None: open for writing
    _writer: object  # who opened them; not there while they are closed

    @abstractmethod
    def _parts(self) -> list[list[Part]]:
        """Layers, each a list of directions."""

    def _draw(self, bounds: Sequence[float], seed: object) -> dict[str, Array]:
        """New parameters, uniform on +-bound of their layer, in their order; or `Restored` ones."""
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
        """Take parameters of the right names, shapes and dtype as one's own."""
        self._layout = self._parts()
        self._shapes = _shapes(self._layout)
        # This dict and the weights that calls read are the only ones to hold the arrays; each has
        # its own memory, because the references to another array's would not be counted.
        self._arrays = {n: a if a.flags.owndata else a.copy() for n, a in arrays.items()}
        _ALIVE[id(self)] = self
        self._version = version  # how many changes there were
        _let_write(self._arrays, False)
        self._packs = tuple(
            Packed(layer[0].spec.name, self._of_directions(layer), layer[0].options, None, False)
            for layer in self._layout
        )
        self._now = Closed(self._packs, version)

    def _of_directions(self, layer: list[Part]) -> list[dict[str, Array]]:
        """The arrays of each direction, by the names that the floor has for them."""
        return [{field: self._arrays[name] for field, name in part.names.items()} for part in layer]

    def _float(self, value: object, name: str) -> Array:
        """An argument as an array of this layer's dtype; TypeError if it is not floating point."""
        return _check.as_float(value, self.dtype, name)

    def _read(self) -> Closed:
        """What a call starts from."""
        return self._now or _check.parameters_open()

    def _view(self, name: str) -> Array:
        """One parameter."""
        while True:
            now = self._read()
            # A view of a read-only array cannot be made writable.
            view: Array = self._arrays[name].view()
            if self._now is now:  # and whoever opens the parameters from here on counts the view
                return view

    def _views(self) -> tuple[dict[str, Array], int]:
        """All parameters of one moment, and how many changes there were before."""
        while True:
            now = self._read()
            views = {name: array.view() for name, array in self._arrays.items()}
            if self._now is now:
                return views, now.version

    def __getstate__(self) -> dict[str, Any]:
        own = dict(vars(self))  # at once: another thread may be opening the parameters
        kept = {key: value for key, value in own.items() if not key.startswith("_")}
        views, version = self._views()
        copies = {name: view.copy() for name, view in views.items()}
        return {**kept, "params": copies, "version": version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays, version = state.pop("params"), state.pop("version")
        vars(self).update(state)
        self._adopt(arrays, version)  # what was saved before a copy stays as old as it was

    def __setattr__(self, name: str, value: object) -> None:
        own = vars(self)
        if name in own and "_now" in own and not name.startswith("_"):
            _check.fixed(name)
        super().__setattr__(name, value)

    @property
    def params(self) -> Parameters:
        """The parameters by torch's names: read-only arrays; assigning to a name copies in.

        An array keeps the values of the moment it was taken at, whatever happens to the layer
        afterwards. While the parameters are open for writing, here or in another thread, reading
        them is a RuntimeError: nobody sees half of a change.

        Rows are gate-major. Layers, n gates, layer k, P = H without projection:
        ``weight_ih_l{k}`` (n*H, I; D*P past the first layer), ``weight_hh_l{k}`` (n*H, P),
        ``bias_ih_l{k}`` and ``bias_hh_l{k}`` (n*H,), ``weight_p_l{k}`` (3, H) with rows i f o for
        peepholes, ``weight_hr_l{k}`` (P, H) for a projection, ``weight_norm_ih_l{k}`` and
        ``weight_norm_hh_l{k}`` (n*H,), ``weight_norm_c_l{k}`` and ``bias_norm_c_l{k}`` (H,) for
        layer normalisation; a reverse direction's with ``_reverse`` behind. Dense: ``weight``
        (O, I), ``bias`` (O,).
        """
        return Parameters(self)

    @contextmanager
    def writable(self) -> Iterator[Parameters]:
        """Open the parameters for changes in place, for the body of a `with`.

        Yields
        ------
        Mapping of str to ndarray
            Arrays that can be written until the end of the block. Whoever keeps one of them, or a
            view of it, has an array that is no longer the layer's afterwards: writing it changes
            nothing here.

        Raises
        ------
        RuntimeError
            They are open already. Inside the block, and in other threads while it lasts, the same
            error answers whoever calls the layer or reads ``layer.params``.

        Notes
        -----
        Nothing is copied where nobody outside holds an array of the layer, neither when the block
        begins nor when it ends; an array that somebody holds costs one copy.

        Examples
        --------
        >>> with layer.writable() as p:  # doctest: +SKIP
        ...     p["weight_ih_l0"] -= 0.1 * gradient
        """
        mine, opened = object(), Parameters(self)
        # Ctrl-C may come between any two lines, and the layer must be whole after it.
        try:
            try:
                # Of several threads one gets in: this is atomic.
                if vars(self).setdefault("_writer", mine) is not mine:
                    _check.parameters_open()
                opened._arrays = self._open()
                yield opened
            finally:
                self._close(mine, opened)
        finally:
            self._close(mine, opened)

    def _open(self) -> dict[str, Array]:
        """Arrays that nobody else reads."""
        now = self._read()
        self._now = None  # first: who reads from here on is refused, the others are counted
        for packed in now.packs:
            packed.close(wait=True)
        _leave_to_others(self._arrays)
        _let_write(self._arrays, True)
        return dict(self._arrays)

    def _close(self, writer: object, opened: Parameters) -> None:
        """Make the arrays the layer's alone; nothing where that was done."""
        if vars(self).get("_writer") is not writer:
            return
        opened._end()
        _let_write(self._arrays, False)  # an array that was kept of the block says so
        try:
            _leave_to_others(self._arrays)
        except MemoryError:  # the next block leaves them
            self._settle()
            raise
        self._settle()

    def _settle(self) -> None:
        self._version += 1
        _let_write(self._arrays, False)
        packs = []
        for packed, layer in zip(self._packs, self._layout, strict=True):
            packed.close(wait=True)  # Ctrl-C may have come before _open did
            packs.append(packed.heir(self._of_directions(layer)))
        self._packs = tuple(packs)
        self._now = Closed(self._packs, self._version)
        del self._writer

    def _cell(self) -> str:
        """What makes other numbers of equal parameters: the cell and its chosen activations."""
        part = self._layout[0][0]
        return part.spec.name if part.options is None else f"{part.spec.name}{part.options}"

    def state_dict(self) -> StateDict:
        """Copies of the parameters.

        Returns
        -------
        StateDict
            A dict of names to arrays, by torch's names, in torch's order. Its attribute `cell`
            says what they are the parameters of.
        """
        return StateDict({name: a.copy() for name, a in self._views()[0].items()}, self._cell())

    def load_state_dict(self, state_dict: Mapping[str, Any], prefix: str = "") -> None:
        """Set all parameters; torch's state_dict of the same module, or cell, fits as it is.

        Parameters
        ----------
        state_dict : Mapping
            Names to what NumPy reads as floating point, and to torch's tensors, which are
            detached; numbers of 16 bits are widened. ``dict(module.named_parameters())`` is one.
        prefix : str
            Only names that begin with it are looked at, without it: "encoder.lstm.".

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
