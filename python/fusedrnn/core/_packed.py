"""Packed weights: the arrays, the panels derived from them, and how both change."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._activations import Options
from .._backends.types import CHANGED, FLOAT_NAMES, Backend, Form, Sources, stacked_gains
from .._cells import CELLS, Array, CellSpec
from .._checks import arguments as _check
from . import _checks

# Numbers packs, and their states after each change, so that no two in a process are equal.
_generations = itertools.count(1)

Weights = Mapping[str, Array]


class Packed:
    """The weights of one layer, one direction or both, ready for `forward` and `backward`.

    Made by `pack`. The weights were copied, unless `pack` was called with ``copy=False``: writing
    to the caller's arrays afterwards has no effect until `update`. The panels that the kernels read
    are derived from the copy when a call first needs them, separately for each instruction set and
    for forward and backward calls. A `Packed` therefore takes two times the memory of its weights,
    and three times after a backward call (`nbytes` gives the number of bytes).

    Attributes
    ----------
    cell : str
        Name of the cell.
    input_size, hidden_size, output_size : int
        I, H and P; P is H without a projection.
    directions : int
        1 or 2.
    names : tuple of str
        Names of the weights of a direction.
    dtype : numpy.dtype
        float32 or float64.
    isa : str or None
        The instruction set of its calls; None follows the setting in force at each call.
    generation : int
        Changes with each `update`; no two packs of a process have the same.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> weights = {"w_ih": np.eye(2), "w_hh": np.eye(2)}
    >>> packed = core.pack("rnn_tanh", weights)
    >>> packed.hidden_size, packed.names
    (2, ('w_ih', 'w_hh'))
    >>> weights["w_ih"] *= 2  # the pack has copies
    >>> packed.matches(weights)
    False
    >>> packed.update(weights)
    >>> packed.matches(weights)
    True
    """

    def __init__(
        self,
        cell: str,
        weights: Sequence[Weights],
        options: Options | None,
        isa: str | None,
        copy: bool,
    ) -> None:
        self.spec: CellSpec = CELLS[cell]
        self.cell, self.options, self.isa = cell, options, isa
        self.arrays = [
            {name: a.copy() if copy else a for name, a in one.items()} for one in weights
        ]
        self._owned = copy
        first = self.arrays[0]
        self.dtype: np.dtype[Any] = first["w_ih"].dtype
        self.directions = len(self.arrays)
        self.names = tuple(first)  # only the weights that are given
        self.input_size = int(first["w_ih"].shape[1])
        self.hidden_size = int(first["w_ih"].shape[0]) // self.spec.x_gates
        self.output_size = int(first["w_hr"].shape[0]) if "w_hr" in first else self.hidden_size
        self.projects = "w_hr" in first
        self.kernel = f"{cell} {FLOAT_NAMES[self.dtype.itemsize]}"  # for last_path()
        self.generation = next(_generations)
        self._forms: dict[tuple[str, str], list[Any]] = {}
        self._take_sources()

    def __repr__(self) -> str:
        sizes = f"I={self.input_size}, H={self.hidden_size}"
        if self.output_size != self.hidden_size:
            sizes += f", P={self.output_size}"
        pinned = f", isa={self.isa!r}" if self.isa else ""
        return f"Packed({self.cell!r}, {sizes}, D={self.directions}, {self.dtype}{pinned})"

    def __getstate__(self) -> dict[str, Any]:
        # Forms are derived from the arrays, and sources may hold derived arrays too.
        return {**self.__dict__, "_forms": {}, "sources": [], "_owned": True}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.generation = next(_generations)
        if self.arrays:  # a closed pack has none, and stays closed
            self._take_sources()

    def _take_sources(self) -> None:
        """Collect the six arrays of each direction, in the order of WEIGHTS."""
        self.sources: list[Sources] = [
            (
                *(one.get(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh")),
                self.vectors(one),
                one.get("w_hr"),
            )
            for one in self.arrays
        ]

    def vectors(self, arrays: dict[str, Array]) -> Array | None:
        """Return the per-unit vectors (vectors, H) of a cell; None if it has none."""
        if self.spec.norm:
            return stacked_gains(arrays, (self.spec.vectors, self.hidden_size))
        if self.spec.vectors and "p" not in arrays:  # a cell that always takes peepholes
            return np.zeros((self.spec.vectors, self.hidden_size), self.dtype)
        return arrays.get("p")

    def forms(self, backend: Backend) -> list[Any]:
        """Return what `backend` reads in place of the weights, one form for each direction."""
        key, sources = (backend.name, backend.form_key(self)), self.sources
        found = self._forms.get(key)
        if found is None and sources:
            made = [backend.form(self, d, own) for d, own in enumerate(sources)]
            # If two threads come here at the same time, both use what the first one stored.
            found = self._forms.setdefault(key, made)
        # Checked last: a change of the arrays clears `sources` before it closes the forms.
        if found is None or self.sources is not sources or not sources:
            raise RuntimeError(CHANGED)
        return found

    def held(self) -> list[dict[str, Array]]:
        """Return the arrays of each direction, for a caller that reads them.

        A change of a layer's parameters in place leaves alone arrays that are referenced elsewhere:
        the layer goes on with copies (see `_layers/params.py`).

        Raises
        ------
        RuntimeError
            The arrays are being changed.
        """
        arrays = self.arrays
        if not arrays:
            raise RuntimeError(CHANGED)
        return [dict(one) for one in arrays]

    @property
    def nbytes(self) -> int:
        """Bytes of the copied weights and of everything derived from them so far."""
        copied = [a for one in self.arrays for a in one.values()] if self._owned else []
        derived = [form for forms in list(self._forms.values()) for form in forms]
        return int(sum(a.nbytes for a in copied) + sum(form.nbytes for form in derived))

    def update(self, weights: Weights | Sequence[Weights]) -> None:
        """Take new values of the weights, in the memory of the old ones.

        Parameters
        ----------
        weights : mapping or pair of mappings
            As `pack` took them: the same names, shapes and dtype.

        Raises
        ------
        TypeError, ValueError
            A name, a shape or the dtype differs; nothing was changed.
        RuntimeError
            Another thread computes with this pack or updates it; nothing was changed.
        """
        values = _checks.same_weights(self, weights)
        arrays = self.close()
        try:
            for mine, theirs in zip(arrays, values, strict=True):
                for name, value in theirs.items():
                    mine[name][...] = value
        finally:
            self.open(arrays)

    def matches(self, weights: Weights | Sequence[Weights]) -> bool:
        """Whether `weights` hold the same bits as the weights of this pack.

        Runs at the speed of memory and stops at the first difference; names, shapes and dtypes
        that differ are a difference too.
        """
        given = _checks.directions_of(weights)
        if len(given) != self.directions:
            return False
        for mine, theirs in zip(self.arrays, given, strict=True):
            if theirs.keys() != mine.keys():
                return False
            others = tuple([theirs[name] for name in mine])
            if not _checks.same_arrays(tuple(mine.values()), others):
                return False
        return True

    def close(self, wait: bool = False) -> list[dict[str, Array]]:
        """Let go of the arrays before they change; no call can begin until `open`.

        RuntimeError if a call computes with the pack, which then stays open. With `wait`, only
        calls that read the arrays themselves are waited for; calls with panels of their own go on.
        """
        arrays, sources = self.arrays, self.sources
        if not arrays and not wait:
            raise RuntimeError("weights: another thread is changing them")
        self.arrays, self.sources = [], []
        closed: list[tuple[Form, Sources]] = []
        try:
            for forms in list(self._forms.values()):
                for form, own in zip(forms, sources, strict=False):
                    form.close(wait)
                    closed.append((form, own))
        except RuntimeError:
            for form, own in closed:
                form.open(own, False)
            self.arrays, self.sources = arrays, sources
            raise
        return arrays

    def open(self, arrays: list[dict[str, Array]]) -> None:
        """Take the arrays, with new values and the same names, shapes and dtype as before."""
        self.generation = next(_generations)
        self.arrays = arrays
        self._take_sources()
        for forms in list(self._forms.values()):
            for form, sources in zip(forms, self.sources, strict=True):
                form.open(sources, True)

    def heir(self, arrays: list[dict[str, Array]]) -> Packed:
        """Return a pack of new values to follow this one, which stays closed.

        A call that began with this pack but has not read it yet is refused, so it never mixes old
        values with new ones.
        """
        made = Packed(self.cell, arrays, self.options, self.isa, False)
        for key, forms in list(self._forms.items()):
            for form in forms:
                form.close(True)  # another thread may have made it while `close` ran
            pairs = zip(forms, made.sources, strict=True)
            heirs = [form.heir(sources) for form, sources in pairs]
            if None not in heirs:
                made._forms[key] = heirs
        self._forms = {}
        return made


def pack(
    cell: str,
    weights: Weights | Sequence[Weights],
    *,
    options: Options | None = None,
    isa: str | None = None,
    copy: bool = True,
) -> Packed:
    """Make the weights of one layer ready for `forward` and `backward`.

    Parameters
    ----------
    cell : str
        "rnn_tanh", "rnn_relu", "rnn_sigmoid", "rnn_identity", "lstm", "lstm_peephole",
        "lstm_norm", "gru", "gru_reset_before", "gru_norm", "dense", or, with activations chosen by
        `options`, "rnn_chosen", "lstm_chosen", "gru_chosen", "gru_reset_before_chosen".
    weights : mapping of str to ndarray, or a pair of them
        One direction, or the forward and the reverse direction. All arrays are float32 or all
        float64: "w_ih" (n*H, I), "w_hh" (n*H, P), and, each optional, "b_ih" and "b_hh" (n*H,);
        for peepholes "p" (3, H) with rows i f o; for a projection "w_hr" (P, H); for layer
        normalisation "norm_ih" and "norm_hh" (n*H,), and with a cell state "norm_c" and, optional,
        "norm_c_bias" (H,). Rows are gate-major, gates in the order i f g o and r z n.
    options : Options, optional
        The activations of a cell whose name ends in "_chosen", and only of these.
    isa : str, optional
        One of ``fusedrnn.supported_isas()``, for every call; None follows the setting in force at
        each call.
    copy : bool
        False reads the caller's arrays themselves: they must be C-contiguous, and must not be
        written before the last call.

    Returns
    -------
    Packed

    Raises
    ------
    TypeError, ValueError
        An argument is not as above; the text names it.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> rng = np.random.default_rng(0)
    >>> weights = {"w_ih": rng.standard_normal((12, 2)), "w_hh": rng.standard_normal((12, 4))}
    >>> packed = core.pack("gru", weights)
    >>> y, (h_n,), _, _ = core.forward(packed, rng.standard_normal((5, 3, 2)))
    >>> y.shape, h_n.shape
    ((5, 3, 4), (1, 3, 4))
    """
    _checks.cell_name(cell)
    copy = _check.flag(copy, "copy")
    given = _checks.new_weights(cell, weights, copy)
    return Packed(cell, given, _checks.options(cell, options), _checks.isa(isa), copy)
