"""Named parameters of one cell: read-only outside `writable`, shared by layers and Dense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from . import _check
from ._backend import Weights
from ._spec import CELLS, Array

__all__ = ["Parameterised", "Parameters"]


class Parameters(Mapping[str, Array]):
    """The parameters by torch's names, in torch's order: read-only arrays.

    Assigning to a name copies the value in, converted to the owner's dtype. Those that
    ``owner.writable()`` gives can also be changed in place.
    """

    def __init__(self, owner: Parameterised, open_: bool) -> None:
        self._owner = owner
        self._open = open_

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


class Parameterised:
    """What owns the arrays of one cell and direction.

    A subclass sets `_NAMES`, the public name of each array of `Weights`, then `cell` and `dtype`,
    and calls `_draw` or `_adopt`. Attributes that begin with "_" are made anew by `_adopt` when an
    object is copied or unpickled; the others travel.
    """

    _NAMES: ClassVar[dict[str, str]]
    cell: str
    dtype: np.dtype[Any]

    def _draw(
        self, input_size: int, hidden_size: int, bound: float, bias: bool, seed: object
    ) -> None:
        """Draw new parameters uniformly from +-bound, in their order."""
        rng = _check.generator(seed)
        shapes = CELLS[self.cell].shapes(input_size, hidden_size)
        self._adopt(
            {
                self._NAMES[field]: rng.uniform(-bound, bound, shape).astype(self.dtype)
                for field, shape in shapes.items()
                if bias or field not in ("b_ih", "b_hh")
            }
        )

    def _adopt(self, arrays: dict[str, Array]) -> None:
        """Take parameters of the right names, shapes and dtype as one's own."""
        for array in arrays.values():
            array.flags.writeable = False
        self._arrays = arrays
        fields = {field: arrays.get(name) for field, name in self._NAMES.items()}
        weights = Weights(CELLS[self.cell], **fields)  # type: ignore[arg-type]
        self._weights: tuple[Weights, ...] = (weights,)  # () while open for writing
        self._version = 0

    def __getstate__(self) -> dict[str, Any]:
        kept = {key: value for key, value in self.__dict__.items() if not key.startswith("_")}
        return {**kept, "params": self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = state.pop("params")
        self.__dict__.update(state)
        self._adopt(arrays)

    @property
    def params(self) -> Parameters:
        """The parameters by torch's names: read-only arrays; assigning to a name copies in.

        Rows are gate-major. Layers, n gates: ``weight_ih_l0`` (n*H, I), ``weight_hh_l0`` (n*H, H),
        ``bias_ih_l0`` and ``bias_hh_l0`` (n*H,), ``weight_p_l0`` (3, H) with rows i f o for
        peepholes. Dense: ``weight`` (O, I), ``bias`` (O,).
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
        self._weights = ()
        try:
            for array in self._arrays.values():
                array.flags.writeable = True
            yield Parameters(self, True)
        finally:
            for array in self._arrays.values():
                array.flags.writeable = False
            for part in weights:
                part.invalidate()
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
        """Set all parameters; torch's state_dict of a one-layer module fits as it is.

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
