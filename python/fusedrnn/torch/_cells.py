"""RNNCell, LSTMCell and GRUCell: one step each, on the same kernels."""

from __future__ import annotations

from typing import Any

import torch

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
        if observed():
            return super().forward(input, hx)  # type: ignore[misc]
        packs = self._packs().layers
        if not packs:
            return super().forward(input, hx)  # type: ignore[misc]
        (pack,) = packs
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

    _states = 2

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

    def _cell(self) -> str | None:
        return "gru"


for _one in (RNNCell, LSTMCell, GRUCell):
    _one.__module__ = "fusedrnn.torch"  # the module under which it is pickled
