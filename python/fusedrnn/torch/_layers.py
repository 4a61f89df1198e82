"""RNN, LSTM and GRU: torch's modules whose forward runs the fused kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from .. import core
from . import _table
from ._module import Fused
from ._options import KINDS, OWN_RNN, Kind, Options, factors, start
from ._packs import Array, LayerPack, Packs
from ._padding import Layout, layout, padded, unpadded
from ._recurrence import QUIET, Call, Noise, recur
from ._route import any_autocast, autocast_dtype, observed, of_inputs, of_tensors

Tensor = Any
_WRONG = "torch refuses the arguments"
_NAMES = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
_NAMES["weight_hr"] = "w_hr"


class _Extra(NamedTuple):
    """Arguments of a call that torch's layers do not have."""

    lengths: Any = None
    mask: Any = None
    reset: Any = None
    return_cell_states: bool = False
    return_gates: bool = False


_PLAIN = _Extra()
_TORCHS = Fused._own
_STRIDED = torch.strided


class _Layer(NamedTuple):
    """One layer's weights in a call."""

    pack: LayerPack
    tensors: list[Tensor]
    known: bool  # whether the held pack was made from these tensors (`LayerPack.knows`)


class _Sequences(NamedTuple):
    """A call's input as the kernels take it."""

    x: Tensor  # (T, B, I), or (B, T, I) if batch_first
    states: tuple[Tensor, ...] | None  # each (L*D, B, width)
    batch_first: bool
    lengths: Array | None = None
    mask: Array | None = None
    reset: Array | None = None


class _Layers(Fused):
    """What the three layers share; the parent's forward makes calls that the kernels cannot."""

    _states = 1
    _flat_weights_names: list[str]
    register_parameter: Any
    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int

    @property
    def _kind(self) -> Kind:
        return KINDS[self.mode]

    # --- weights ----------------------------------------------------------------------------------

    def _make_packs(self) -> Packs:
        cell, options = self._own.cell(self._kind)
        layers = []
        for k in range(self.num_layers):
            attributes: list[str] = []
            names: list[str] = []
            for suffix in self._suffixes(k):
                there = [n for n in _NAMES if f"{n}{suffix}" in self._flat_weights_names]
                extras = self._own.extras(self._kind, self.hidden_size, self.bias)
                names = [_NAMES[n] for n in there] + [name for name, _ in extras.values()]
                attributes += [f"{n}{suffix}" for n in (*there, *extras)]
            layers.append(LayerPack(cell, options, tuple(names), tuple(attributes)))
        return Packs(layers)

    def _suffixes(self, k: int) -> list[str]:
        return [f"_l{k}", f"_l{k}_reverse"][: 2 if self.bidirectional else 1]

    def _create(self, options: Options) -> None:
        """Set the options after the parent's constructor, and add their parameters."""
        if options == Options():
            return
        kind = self._kind
        self._own = options.checked(kind)
        first = self._tensor("weight_ih_l0")
        for k in range(self.num_layers):
            for suffix in self._suffixes(k):
                extras = options.extras(kind, self.hidden_size, self.bias)
                for name, (_, shape) in extras.items():
                    tensor = torch.empty(shape, dtype=first.dtype, device=first.device)
                    bound = self.hidden_size**-0.5
                    torch.nn.init.uniform_(tensor, -bound, bound)
                    self.register_parameter(name + suffix, torch.nn.Parameter(tensor))
        if options.forget_bias is not None and not self.bias:
            raise ValueError("forget_bias: expected None where there is no bias")
        self._start()

    def _start(self) -> None:
        extra = [n for n in self.__dict__["_parameters"] if n not in self._flat_weights_names]
        start(self, extra, self._own, self.hidden_size)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, as the constructor does."""
        super().reset_parameters()  # type: ignore[misc]
        if self._own is not _TORCHS:
            self._start()

    def extra_repr(self) -> str:
        """Return the parent's text, and the options."""
        return super().extra_repr() + self._own.shown()  # type: ignore[misc,no-any-return]

    # --- calls ------------------------------------------------------------------------------------

    def forward(
        self,
        input: Any,  # noqa: A002
        hx: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        return_cell_states: bool = False,
        return_gates: bool = False,
    ) -> Any:
        """Run the layers on a batch of sequences.

        Parameters
        ----------
        input : Tensor or PackedSequence
            As the parent takes it.
        hx : Tensor, or tuple of two
            As the parent takes it.
        lengths : Tensor or sequence of int, shape (B,), optional
            Number of real steps of each sequence, in any order; y is 0 after them.
        mask : bool Tensor, shape (T, B), or (B, T) with batch_first, optional
            True at real steps; the others pass the state through, and y is 0 there. Not with
            `lengths`.
        reset : bool Tensor, shaped as `mask`, optional
            True at t: step t starts from zeros, whatever step t-1 left.
        return_cell_states : bool
            Also return every cell state: a list with one tensor for each layer, laid out as y.
        return_gates : bool
            Also return every gate after its activation: a list with one dict for each layer, from
            the gate's letter to a tensor laid out as y.

        Returns
        -------
        tuple
            As the parent's; then, if asked for, the cell states, and the gates.

        Raises
        ------
        RuntimeError, ValueError
            The parent's, for what it refuses; or a keyword that the parent does not have is given
            in a call that the kernels cannot make.
        """
        why = observed()
        extra = _PLAIN
        if not (
            lengths is mask is reset is None
            and return_cell_states is False
            and return_gates is False
        ):
            extra = _Extra(lengths, mask, reset, return_cell_states, return_gates)
        elif why:
            return self._by_parent(input, hx, extra, why)
        elif self._own is _TORCHS and type(input) is torch.Tensor:
            result = self._plain(input, hx)
            if result is not None:
                return result
        packs = self._packs()
        layers = []
        for pack in packs.layers:
            tensors = [self._tensor(name) for name in pack.attributes]
            layers.append(_Layer(pack, tensors, pack.knows(tensors)))
        packed = isinstance(input, PackedSequence)
        data = input.data if packed else input
        why = why or self._unfit(data, hx, layers, packed, extra)
        if why:
            return self._by_parent(input, hx, extra, why)
        cast = None
        if any_autocast():
            low = autocast_dtype()
            cast = self._cast(low, data, hx, packed)
            data, hx = data.float(), _each(hx, lambda t: t.float())
        if packed:
            result = self._packed_call(input, data, hx, layers, extra)
        else:
            result = self._padded_call(data, hx, layers, extra)
        return result if cast is None else _casted(result, *cast)

    def _plain(self, x: Tensor, hx: Any) -> Any:
        """Make a call in which nothing is unusual; None if something is.

        The result is that of the general way, whose checks would cost a single step much of its
        time. This method has only the checks that nearly every call passes, and makes nothing that
        such a call does not need.
        """
        if any_autocast() or (self.dropout and self.training):
            return None
        packs = self._packs()
        parameters = self.__dict__["_parameters"]
        dtype, shape = x.dtype, x.shape
        if (
            len(shape) != 3
            or shape[2] != self.input_size
            or 0 in shape
            or not x.is_cpu
            or x.layout is not _STRIDED
        ):
            return None
        layers: list[list[Any]] = []
        for pack in packs.layers:
            tensors: list[Any] = [parameters.get(name) for name in pack.attributes]
            if not pack.knows(tensors) or tensors[0].dtype is not dtype:
                return None
            layers.append(tensors)
        h0 = c0 = None
        n = 2 if self.bidirectional else 1
        if hx is not None:
            if self._states == 1:
                h0 = hx
            elif isinstance(hx, tuple) and len(hx) == 2:
                h0, c0 = hx
            else:
                return None
            states: tuple[Any, ...] = (h0, c0)[: self._states]
            size = n * len(layers), shape[0] if self.batch_first else shape[1]
            widths = (self.proj_size or self.hidden_size, self.hidden_size)
            for t, width in zip(states, widths, strict=False):
                if (
                    type(t) is not torch.Tensor
                    or t.dtype is not dtype
                    or t.shape != (*size, width)
                    or not t.is_cpu
                    or t.layout is not _STRIDED
                ):
                    return None
        if _table.SLOWER and self._loses(x, packs):
            return None
        if len(layers) == 1:
            y, *last = recur(self._plain_call(packs, layers, 0), x, h0, c0, layers[0])
        else:
            y, lasts = x, []
            for k, tensors in enumerate(layers):
                call = self._plain_call(packs, layers, k)
                h = None if h0 is None else h0.narrow(0, k * n, n)
                c = None if c0 is None else c0.narrow(0, k * n, n)
                y, *one = recur(call, y, h, c, tensors)
                lasts.append(one)
            last = [torch.cat(of) for of in zip(*lasts, strict=True)]
        return (y, last[0]) if self._states == 1 else (y, (last[0], last[1]))

    def _plain_call(self, packs: Packs, layers: list[list[Any]], k: int) -> Call:
        """Return layer k's call; the last one is used again if the pack is the same."""
        pack = packs.layers[k]
        packed, call = pack.get(layers[k], True), packs.plain.get(k)
        x_first = self.batch_first and k == 0
        y_first = self.batch_first and k == len(layers) - 1
        if (
            call is None
            or call.packed is not packed
            or (call.batch_first_x, call.batch_first_y) != (x_first, y_first)
        ):
            call = packs.plain[k] = Call(packed, pack, x_first, y_first)
        return call

    def _loses(self, x: Tensor, packs: Packs) -> bool:
        if x.dim() != 3:
            return False
        steps, batch = x.shape[1::-1] if self.batch_first else x.shape[:2]
        kind = _table.kind_of(packs.layers[0].frozen)
        return _table.loses(self.mode, kind, steps, batch, self.hidden_size)

    def _by_parent(self, given: Any, hx: Any, extra: _Extra, why: str) -> Any:
        if (extra is _PLAIN and self._own is _TORCHS) or why == _WRONG:
            result = super().forward(given, hx)  # type: ignore[misc]
            if extra is _PLAIN and self._own is _TORCHS:
                return result
        named = [
            name
            for name, value in extra._asdict().items()
            if value is not None and value is not False
        ]
        named += [self._own.shown()[2:]] if self._own is not _TORCHS else []
        raise ValueError(f"{', '.join(named)}: not in torch's own layer, and {why}")

    def _unfit(self, data: Any, hx: Any, layers: list[_Layer], packed: bool, extra: _Extra) -> str:
        """Say why the parent makes this call; empty if the kernels do."""
        dtype = layers[0].tensors[0].dtype
        for layer in layers:
            why = "" if layer.known else of_tensors(layer.tensors, dtype)
            if why:
                return why
        states = () if hx is None else (hx if isinstance(hx, tuple | list) else (hx,))
        why = of_inputs((data, *states), dtype)
        if why:
            return why
        if not self._fits(data, hx, states, packed):
            return _WRONG
        if packed and extra._replace(return_cell_states=False, return_gates=False) != _PLAIN:
            return "a PackedSequence has lengths of its own"
        if extra is _PLAIN and self._own is _TORCHS:
            if not packed and data.numel() == 0 and self._no_steps(data):
                return _WRONG
            if _table.SLOWER and not packed and self._loses(data, self._packs()):
                return "torch is faster at this size"
        return ""

    def _no_steps(self, data: Tensor) -> bool:
        """Whether T is 0, which the parent refuses."""
        time = 1 if self.batch_first and data.dim() == 3 else 0
        return bool(data.shape[time] == 0)

    def _fits(self, data: Tensor, hx: Any, states: Sequence[Tensor], packed: bool) -> bool:
        """Whether the shapes are those that the parent takes."""
        dims = data.dim()
        if dims != 2 and (packed or dims != 3):
            return False
        if data.shape[-1] != self.input_size:
            return False
        if hx is None:
            return True
        count = self._states
        if len(states) != count or (count == 1) != isinstance(hx, torch.Tensor):
            return False
        n = self.num_layers * (2 if self.bidirectional else 1)
        sizes = (self.proj_size or self.hidden_size, self.hidden_size)
        if packed:
            return all(
                t.dim() == 3 and t.shape[0] == n and t.shape[2] == size
                for t, size in zip(states, sizes, strict=False)
            )
        if dims == 2:
            return all(t.shape == (n, size) for t, size in zip(states, sizes, strict=False))
        batch = data.shape[0 if self.batch_first else 1]
        return all(t.shape == (n, batch, size) for t, size in zip(states, sizes, strict=False))

    def _cast(self, low: Any, data: Tensor, hx: Any, packed: bool) -> tuple[Any, Any, Any]:
        """Return the dtypes of y, h and c under autocast: those of the parent (docs/torch.md)."""
        state = data if hx is None else (hx[0] if isinstance(hx, tuple | list) else hx)
        if self.mode.startswith("RNN"):
            return low, low, low
        if self._states == 1:
            return state.dtype, state.dtype, state.dtype
        if self.proj_size:
            return low, low, state.dtype
        return (state.dtype,) * 3 if packed else (low,) * 3

    def _padded_call(
        self,
        x: Tensor,
        hx: Any,
        layers: list[_Layer],
        extra: _Extra,
    ) -> Any:
        batched = x.dim() == 3
        states = _as_tuple(hx)
        if not batched:
            x = x.unsqueeze(1)
            states = None if states is None else tuple(t.unsqueeze(1) for t in states)
        first = self.batch_first and batched
        given = _Sequences(x, states, first)
        if extra is not _PLAIN:
            given = given._replace(
                lengths=_lengths(extra.lengths, batched),
                mask=_flags(extra.mask, batched, first),
                reset=_flags(extra.reset, batched, first),
            )
        y, last, cells, gates = self._run(given, layers, extra, None)
        if not batched:
            y, last = y.squeeze(1), tuple(t.squeeze(1) for t in last)
            cells = [c.squeeze(1) for c in cells]
            gates = [{name: t.squeeze(1) for name, t in of.items()} for of in gates]
        return self._result(y, last, cells, gates, extra)

    def _packed_call(
        self,
        sequence: PackedSequence,
        data: Tensor,
        hx: Any,
        layers: list[_Layer],
        extra: _Extra,
    ) -> Any:
        _, batch_sizes, there, back = sequence
        how = layout(batch_sizes)
        states = _as_tuple(hx)
        if states is not None and any(t.shape[1] != how.batch for t in states):
            return self._by_parent(sequence, hx, extra, _WRONG)
        if states is not None and there is not None:
            states = tuple(t.index_select(1, there) for t in states)
        given = _Sequences(padded(data, how), states, False, how.lengths)
        y, last, cells, gates = self._run(given, layers, extra, how)
        if back is not None:
            last = tuple(t.index_select(1, back) for t in last)

        def again(t: Tensor) -> Any:
            return PackedSequence(unpadded(t, how), batch_sizes, there, back)

        cells = [again(c) for c in cells]
        gates = [{name: again(t) for name, t in of.items()} for of in gates]
        return self._result(again(y), last, cells, gates, extra)

    def _result(
        self, y: Any, last: tuple[Tensor, ...], cells: list[Any], gates: list[Any], extra: _Extra
    ) -> Any:
        result: tuple[Any, ...] = (y, last if self._states > 1 else last[0])
        if extra.return_cell_states:
            result = (*result, cells)
        if extra.return_gates:
            result = (*result, gates)
        return result

    def _run(
        self,
        given: _Sequences,
        layers: list[_Layer],
        extra: _Extra,
        how: Layout | None,
    ) -> tuple[Tensor, tuple[Tensor, ...], list[Tensor], list[dict[str, Tensor]]]:
        """Make one call of `core` for each layer, with dropout between them."""
        if extra.return_cell_states and self._states < 2:
            raise ValueError(f"return_cell_states: {type(self).__name__} has no cell states")
        n, count, states_of = 2 if self.bidirectional else 1, len(layers), self._states
        own, x, zoneout = self._own, given.x, None
        if own is not _TORCHS:
            zoneout = own.zoneout_rates(self._kind)
        lasts: list[tuple[Tensor, ...]] = []
        cells: list[Tensor] = []
        gates: list[dict[str, Tensor]] = []
        for k, (pack, tensors, known) in enumerate(layers):
            batch_first = given.batch_first and k == count - 1
            states = given.states
            if states is not None and count > 1:
                states = tuple(t[k * n : (k + 1) * n] for t in states)
            noise = QUIET
            if own is not _TORCHS and self.training:
                x, tensors, noise = self._noisy(x, tensors, pack, given.batch_first and k == 0)
                known = known and not own.drop_connect
            call = Call(
                pack.get(tensors, known),
                pack,
                given.batch_first and k == 0,
                batch_first,
                False,
                given.lengths,
                given.mask,
                given.reset,
                zoneout,
                extra.return_cell_states,
                extra.return_gates,
            )
            h0, c0 = (None, None) if states is None else (*states, None)[:2]
            y, *rest = recur(call, x, h0, c0, tensors, noise)
            lasts.append(tuple(rest[:states_of]))
            inside = rest[states_of:]
            if extra.return_cell_states:
                cells.append(_beside(inside.pop(0), given.batch_first))
            if extra.return_gates:
                whole = inside.pop(0)
                gates.append(
                    {
                        name: _beside(whole[..., g, :], given.batch_first)
                        for g, name in enumerate(self._kind.gates)
                    }
                )
            if self.dropout and self.training and k < count - 1:
                y = self._dropped(y, how)
            x = y
        last = lasts[0] if count == 1 else tuple(map(torch.cat, zip(*lasts, strict=True)))
        return x, last, cells, gates

    def _dropped(self, y: Tensor, how: Layout | None) -> Tensor:
        """Apply dropout between layers, drawn as torch does; for packed data, in their order."""
        if how is None or how.rows is None:
            return dropout(y, self.dropout, True)
        return padded(dropout(unpadded(y, how), self.dropout, True), how)

    def _noisy(
        self, x: Tensor, tensors: list[Tensor], pack: LayerPack, batch_first: bool
    ) -> tuple[Tensor, list[Tensor], Noise]:
        """Draw what the options drop, from torch's generator, in this order."""
        own, kind, n = self._own, self._kind, 2 if self.bidirectional else 1
        steps, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
        widths = (self.proj_size or self.hidden_size, self.hidden_size)
        drop = keep = None
        if own.input_dropout:
            mask = factors(own.input_dropout, (batch, x.shape[2]), x)
            x = x * (mask[:, None] if batch_first else mask)
        if own.recurrent_dropout:
            drop = factors(own.recurrent_dropout, (n, batch, widths[0]), x)
        rates = own.zoneout_rates(kind)
        if rates is not None:
            keep = [
                torch.empty((n, steps, batch, width), dtype=x.dtype).bernoulli_(rate)
                for rate, width in zip(rates, widths, strict=True)
            ][: kind.states]
        if own.drop_connect:
            tensors = [
                t * factors(own.drop_connect, tuple(t.shape), t)
                if name.startswith("weight_hh")
                else t
                for t, name in zip(tensors, pack.attributes, strict=True)
            ]
        if drop is None and keep is None:
            return x, tensors, QUIET
        return x, tensors, Noise(drop, *(keep or ()))


def _as_tuple(hx: Any) -> tuple[Tensor, ...] | None:
    if hx is None:
        return None
    return tuple(hx) if isinstance(hx, tuple | list) else (hx,)


def _each(hx: Any, change: Any) -> Any:
    if hx is None:
        return None
    return tuple(map(change, hx)) if isinstance(hx, tuple | list) else change(hx)


def _casted(result: Any, y: Any, h: Any, c: Any) -> Any:
    """Return results in autocast's dtypes; cell states and gates stay float32."""
    out, state, *rest = result
    packed = isinstance(out, PackedSequence)
    out = out._replace(data=out.data.to(y)) if packed else out.to(y)
    state = (state[0].to(h), state[1].to(c)) if isinstance(state, tuple) else state.to(h)
    return (out, state, *rest)


def _beside(a: Tensor, batch_first: bool) -> Tensor:
    """Return (D, T, B, H) laid out as y: (T, B, D*H)."""
    whole = torch.cat(tuple(a), dim=-1)
    return whole.transpose(0, 1) if batch_first else whole


def _lengths(value: Any, batched: bool) -> Array | None:
    if value is None:
        return None
    found = np.asarray(value.cpu() if isinstance(value, torch.Tensor) else value)
    return found if batched else found.reshape(-1)


def _flags(value: Any, batched: bool, batch_first: bool) -> Array | None:
    if value is None:
        return None
    found = np.asarray(value.cpu() if isinstance(value, torch.Tensor) else value)
    if not batched:
        return found[:, None]
    return found.T if batch_first else found


class RNN(_Layers, torch.nn.RNN):
    """`torch.nn.RNN` on fused kernels; same arguments, parameters and results.

    Parameters
    ----------
    *args, **kwargs
        As the parent takes them; `nonlinearity` may also be "sigmoid", "identity" or any of ONNX's
        activations (docs/cells.md).
    clip, input_dropout, recurrent_dropout, zoneout, drop_connect
        As `fusedrnn.RNN` takes them; noise is drawn while ``training``, from torch's generator.

    Raises
    ------
    TypeError, ValueError
        The parent's; or an option is not as described there.

    Examples
    --------
    >>> import torch
    >>> from fusedrnn.torch import RNN
    >>> y, h_n = RNN(3, 5)(torch.zeros(7, 2, 3))
    >>> tuple(y.shape), tuple(h_n.shape)
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        *args: Any,
        clip: float | None = None,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        drop_connect: float = 0.0,
        **kwargs: Any,
    ) -> None:
        given = args[3] if len(args) > 3 else kwargs.get("nonlinearity", "tanh")
        own = None
        if given not in ("tanh", "relu") and _known(given):
            own = given
            args = (*args[:3], "tanh", *args[4:]) if len(args) > 3 else args
            kwargs = {**kwargs, **({} if len(args) > 3 else {"nonlinearity": "tanh"})}
        super().__init__(*args, **kwargs)
        if own is not None:
            self.nonlinearity = own
        self._create(
            Options(
                nonlinearity=own,
                clip=clip,
                input_dropout=input_dropout,
                recurrent_dropout=recurrent_dropout,
                zoneout=zoneout,
                drop_connect=drop_connect,
            )
        )


def _known(nonlinearity: Any) -> bool:
    if nonlinearity in OWN_RNN:
        return True
    try:
        core.activation(nonlinearity, "nonlinearity")
    except (TypeError, ValueError):
        return False  # the parent raises the error
    return True


class LSTM(_Layers, torch.nn.LSTM):
    """`torch.nn.LSTM` on fused kernels; same arguments, parameters and results.

    Parameters
    ----------
    *args, **kwargs
        As the parent takes them.
    peepholes, layer_norm, activations, clip, coupled, forget_bias
        As `fusedrnn.LSTM` takes them (docs/cells.md).
    input_dropout, recurrent_dropout, zoneout, drop_connect
        As `fusedrnn.LSTM` takes them (docs/noise.md); drawn while ``training``, from torch's
        generator.

    Raises
    ------
    TypeError, ValueError
        The parent's; or an option is not as described there.

    Examples
    --------
    >>> import torch
    >>> from fusedrnn.torch import LSTM
    >>> y, (h_n, c_n) = LSTM(3, 5, batch_first=True)(torch.zeros(2, 7, 3))
    >>> tuple(y.shape), tuple(c_n.shape)
    ((2, 7, 5), (1, 2, 5))
    """

    _states = 2

    def __init__(
        self,
        *args: Any,
        peepholes: bool = False,
        layer_norm: bool = False,
        activations: tuple[Any, ...] | None = None,
        clip: float | None = None,
        coupled: bool = False,
        forget_bias: float | None = None,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        drop_connect: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if layer_norm and self.proj_size:
            raise ValueError("layer_norm: cannot be combined with proj_size")
        self._create(
            Options(
                peepholes=peepholes,
                layer_norm=layer_norm,
                activations=activations,
                clip=clip,
                coupled=coupled,
                forget_bias=forget_bias,
                input_dropout=input_dropout,
                recurrent_dropout=recurrent_dropout,
                zoneout=zoneout,
                drop_connect=drop_connect,
            )
        )


class GRU(_Layers, torch.nn.GRU):
    """`torch.nn.GRU` on fused kernels; same arguments, parameters and results.

    Parameters
    ----------
    *args, **kwargs
        As the parent takes them.
    reset_after, layer_norm, activations, clip
        As `fusedrnn.GRU` takes them (docs/cells.md); ``reset_after=True`` is torch's.
    input_dropout, recurrent_dropout, zoneout, drop_connect
        As `fusedrnn.GRU` takes them (docs/noise.md); drawn while ``training``, from torch's
        generator.

    Raises
    ------
    TypeError, ValueError
        The parent's; or an option is not as described there.

    Examples
    --------
    >>> import torch
    >>> from fusedrnn.torch import GRU
    >>> y, h_n = GRU(3, 5)(torch.zeros(7, 2, 3), lengths=[7, 4])
    >>> bool((y[4:, 1] == 0).all())
    True
    """

    def __init__(
        self,
        *args: Any,
        reset_after: bool = True,
        layer_norm: bool = False,
        activations: tuple[Any, ...] | None = None,
        clip: float | None = None,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        drop_connect: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._create(
            Options(
                reset_after=reset_after,
                layer_norm=layer_norm,
                activations=activations,
                clip=clip,
                input_dropout=input_dropout,
                recurrent_dropout=recurrent_dropout,
                zoneout=zoneout,
                drop_connect=drop_connect,
            )
        )


for _one in (RNN, LSTM, GRU):
    _one.__module__ = "fusedrnn.torch"  # the module under which it is pickled
