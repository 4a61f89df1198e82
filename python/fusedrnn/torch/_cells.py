"""RNNCell, LSTMCell and GRUCell: one step each, on the same kernels."""

from __future__ import annotations

from typing import Any

import torch

from . import _table
from ._module import Fused
from ._packs import LayerPack, Packs
from ._recurrence import Call, recur
from ._route import any_autocast, autocast_dtype, observed, of_inputs, of_tensors

Tensor = Any
_NAMES = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
_CELLS = {"tanh": "rnn_tanh", "relu": "rnn_relu"}


class _Cell(Fused):
    """What the three cells share; the parent's forward makes calls that the kernels cannot."""

    _states = 1
    _mode: str  # in the table of calls that torch makes faster
    input_size: int
    hidden_size: int
    bias: bool

    def _cell(self) -> str | None:
        """Return the name of the kernel's cell; None if there is none."""
        raise NotImplementedError

    def _make_packs(self) -> Packs:
        names = tuple(_NAMES)[: 4 if self.bias else 2]
        cell = self._cell()
        if cell is None:
            return Packs(())
        return Packs((LayerPack(cell, None, tuple(_NAMES[n] for n in names), names),))

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002
        """Take one step; arguments and results are the parent's."""
        packs = self._packs()
        if observed() or not packs.layers or self._loses(input, packs):
            return super().forward(input, hx)  # type: ignore[misc]
        result = self._plain(input, hx, packs)
        if result is not None:
            return result
        (pack,) = packs.layers
        weights = [self._tensor(name) for name in pack.attributes]
        states = () if hx is None else (hx if isinstance(hx, tuple | list) else (hx,))
        known = pack.knows(weights)
        if not self._fits(input, hx, states, weights, known):
            return super().forward(input, hx)  # type: ignore[misc]
        x, cast = input, None
        if any_autocast():
            low = autocast_dtype()
            cast = low if self._cell() in _CELLS.values() else (*states, x)[0].dtype
            x, states = x.float(), tuple(t.float() for t in states)
        batched = x.dim() == 2
        if not batched:
            x, states = x.unsqueeze(0), tuple(t.unsqueeze(0) for t in states)
        call = Call(pack.get(weights, known), pack, step=True)
        h0, c0 = (*states, None, None)[:2]
        result = recur(call, x, h0, c0, weights)
        if not batched:
            result = tuple(t.squeeze(0) for t in result)
        if cast is not None:
            result = tuple(t.to(cast) for t in result)
        return result if self._states > 1 else result[0]

    def _loses(self, x: Any, packs: Packs) -> bool:
        """Whether torch's own cell makes this call faster; if it is invalid, it does not matter."""
        if not _table.SLOWER or type(x) is not torch.Tensor:
            return False
        shape, kind = x.shape, _table.kind_of(packs.layers[0].frozen)
        batch = shape[0] if len(shape) == 2 else 1
        return _table.loses(self._mode, kind, 1, batch, self.hidden_size)

    def _plain(self, x: Any, hx: Any, packs: Packs) -> Any:
        """Make a call in which nothing is unusual; None if something is.

        The result is that of the general way, as in the layers.
        """
        if type(x) is not torch.Tensor or any_autocast():
            return None
        shape, dtype = x.shape, x.dtype
        fits = len(shape) == 2 and shape[1] == self.input_size and 0 not in shape
        if not (fits and x.is_cpu and x.layout is torch.strided):
            return None
        (pack,) = packs.layers
        parameters = self.__dict__["_parameters"]
        weights: list[Any] = [parameters.get(name) for name in pack.attributes]
        if not pack.knows(weights) or weights[0].dtype is not dtype:
            return None
        states: tuple[Any, ...] = ()
        if hx is not None:
            states = hx if isinstance(hx, tuple) else (hx,)
            if len(states) != self._states or (self._states == 1) == isinstance(hx, tuple):
                return None
            for t in states:
                if (
                    type(t) is not torch.Tensor
                    or t.dtype is not dtype
                    or t.shape != (shape[0], self.hidden_size)
                    or not t.is_cpu
                    or t.layout is not torch.strided
                ):
                    return None
        packed, call = pack.get(weights, True), packs.plain.get(0)
        if call is None or call.packed is not packed:
            call = packs.plain[0] = Call(packed, pack, step=True)
        h0, c0 = (*states, None, None)[:2]
        result = recur(call, x, h0, c0, weights)
        return result if self._states > 1 else result[0]

    def _fits(self, x: Any, hx: Any, states: Any, weights: list[Tensor], known: bool) -> bool:
        dtype = weights[0].dtype
        if not known and of_tensors(weights, dtype):
            return False
        if of_inputs((x, *states), dtype):
            return False
        if x.dim() not in (1, 2) or x.shape[-1] != self.input_size:
            return False
        if hx is None:
            return True
        if len(states) != self._states or (self._states == 1) != isinstance(hx, torch.Tensor):
            return False
        shape = (*x.shape[:-1], self.hidden_size)
        return all(t.shape == shape and t.dtype is states[0].dtype for t in states)


class RNNCell(_Cell, torch.nn.RNNCell):
    """`torch.nn.RNNCell` on fused kernels; same arguments, parameters and results.

    Examples
    --------
    >>> import torch
    >>> from fusedrnn.torch import RNNCell
    >>> tuple(RNNCell(3, 5)(torch.zeros(2, 3)).shape)
    (2, 5)
    """

    _mode = "RNNCell"
    nonlinearity: str

    def _cell(self) -> str | None:
        return _CELLS.get(self.nonlinearity)


class LSTMCell(_Cell, torch.nn.LSTMCell):
    """`torch.nn.LSTMCell` on fused kernels; same arguments, parameters and results.

    Examples
    --------
    >>> import torch
    >>> from fusedrnn.torch import LSTMCell
    >>> h, c = LSTMCell(3, 5)(torch.zeros(2, 3))
    >>> tuple(h.shape), tuple(c.shape)
    ((2, 5), (2, 5))
    """

    _states, _mode = 2, "LSTMCell"

    def _cell(self) -> str | None:
        return "lstm"


class GRUCell(_Cell, torch.nn.GRUCell):
    """`torch.nn.GRUCell` on fused kernels; same arguments, parameters and results.

    Examples
    --------
    >>> import torch
    >>> from fusedrnn.torch import GRUCell
    >>> tuple(GRUCell(3, 5)(torch.zeros(3)).shape)
    (5,)
    """

    _mode = "GRUCell"

    def _cell(self) -> str | None:
        return "gru"


for _one in (RNNCell, LSTMCell, GRUCell):
    _one.__module__ = "fusedrnn.torch"  # the module under which it is pickled
