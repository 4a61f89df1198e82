"""One layer as an operation with gradients: tensors in, one call of `core`, tensors out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import _VF
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .. import core
from ._packs import Array, LayerPack, array

Tensor = Any  # the type checker does not read torch


class Call(NamedTuple):
    """The arguments of a call besides its tensors."""

    packed: core.Packed
    pack: LayerPack
    batch_first_x: bool = False  # x is (B, T, I), and so is its gradient
    batch_first_y: bool = False
    step: bool = False  # a cell's call: x (B, I), states (B, H); h is not returned besides y
    lengths: Array | None = None
    mask: Array | None = None
    reset: Array | None = None
    zoneout: tuple[float, float] | None = None
    cells: bool = False  # also return every c, (D, T, B, H)
    gates: bool = False  # also return every gate, (D, T, B, n, H)


class Noise(NamedTuple):
    """The masks that were drawn for a call."""

    drop: Tensor | None = None  # (D, B, P)
    keep_h: Tensor | None = None  # (D, T, B, P)
    keep_c: Tensor | None = None  # (D, T, B, H)

    def arguments(self) -> dict[str, Any]:
        """Return the masks as `core` takes them."""
        keep = None
        if self.keep_h is not None:
            kept = (self.keep_h,) if self.keep_c is None else (self.keep_h, self.keep_c)
            keep = tuple(array(t) for t in kept)
        return {"drop": None if self.drop is None else array(self.drop), "keep": keep}


QUIET = Noise()


def _states(call: Call, h0: Tensor | None, c0: Tensor | None) -> tuple[Array, ...] | None:
    if h0 is None:
        return None
    parts = (array(h0),) if c0 is None else (array(h0), array(c0))
    return tuple(part[None] for part in parts) if call.step else parts


def _time_major(call: Call, x: Tensor) -> Array:
    if call.step:
        return array(x)[None]
    return array(x).swapaxes(0, 1) if call.batch_first_x else array(x)


def _run(
    call: Call, x: Tensor, h0: Tensor | None, c0: Tensor | None, noise: Noise, save: bool
) -> core.Forward:
    packed, given = call.packed, _time_major(call, x)
    y = None
    if call.batch_first_y:
        steps, batch = given.shape[:2]
        width = packed.directions * packed.output_size
        y = np.empty((batch, steps, width), packed.dtype).swapaxes(0, 1)
    drawn = {} if noise is QUIET else noise.arguments()
    return core.forward(
        packed,
        given,
        states=_states(call, h0, c0),
        lengths=call.lengths,
        mask=call.mask,
        reset=call.reset,
        zoneout=call.zoneout,
        y=y,
        saved=save,
        at_most=torch.get_num_threads(),
        **drawn,
    )


def _outputs(call: Call, out: core.Forward, keep: Sequence[Array] | None) -> tuple[Tensor, ...]:
    """Return y, the last states, and what else was asked for, as tensors that share `out`."""
    tensor = torch.from_numpy
    if call.step:
        return tuple(tensor(a[0]) for a in (out.y, *out.states[1:]))
    y = tensor(out.y.swapaxes(0, 1) if call.batch_first_y else out.y)
    outputs = [y, *map(tensor, out.states)]
    if call.cells or call.gates:
        assert out.saved is not None
        inside = call.packed, out.plan, out.saved
        if call.cells:
            outputs.append(tensor(core.cells_of(*inside, keep=keep, zoneout=call.zoneout)))
        if call.gates:
            outputs.append(tensor(core.gates_of(*inside)))
    return tuple(outputs)


class Recurrence(torch.autograd.Function):
    """`core.forward` and `core.backward` as a node of the graph.

    Everything that backward reads goes through `save_for_backward`. So do the weights, although a
    backward call computes with the pack of its forward call: in this way torch notices changes in
    place, and nothing is kept longer than the graph.
    """

    @staticmethod
    def forward(
        ctx: Any,
        call: Call,
        noise: Noise,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run the layer, and save what backward needs."""
        out = _run(call, x, h0, c0, noise, True)
        assert out.saved is not None
        call.pack.watch(call.packed, out.saved)
        outputs = _outputs(call, out, noise.arguments()["keep"] if call.cells else None)
        ctx.call, ctx.plan = call, out.plan
        ctx.set_materialize_grads(False)
        drawn = () if noise is QUIET else noise
        ctx.drawn = len(drawn)
        ctx.save_for_backward(x, h0, c0, outputs[0], torch.from_numpy(out.saved), *drawn, *weights)
        return outputs

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the gradients that are needed, as new tensors."""
        call: Call = ctx.call
        x, h0, c0, y, saved, *rest = ctx.saved_tensors
        noise = Noise(*rest[:3]) if ctx.drawn else QUIET
        needed = ctx.needs_input_grad[2:]
        if not torch.is_grad_enabled():
            found = _gradients(call, ctx.plan, x, h0, c0, y, saved, noise, given, needed)
            return (None, None, *found)
        again = _again(call, noise, ctx.plan.batch)
        if again is None:
            with torch.no_grad():
                found = _gradients(call, ctx.plan, x, h0, c0, y, saved, noise, given, needed)
            return (None, None, *_once(found))
        tensors = (x, h0, c0, *rest[ctx.drawn :])
        return (None, None, *_composite(call, again, tensors, given, needed))


def _gradients(
    call: Call,
    plan: core.Plan,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    y: Tensor,
    saved: Tensor,
    noise: Noise,
    given: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Call `core.backward` once: gradients of x, h0, c0 and the weights; None if not needed."""
    packed, names, of_weights = call.packed, call.pack.names, needed[3:]
    want = _wanted(names, tuple(needed))
    ours, dx = array(y), None
    if call.step:
        ours = ours[None]
    elif call.batch_first_y:
        ours = ours.swapaxes(0, 1)
    if needed[0] and call.batch_first_x:
        dx = np.empty(x.shape, packed.dtype).swapaxes(0, 1)
    g = core.backward(
        packed,
        plan,
        _time_major(call, x),
        y=ours,
        saved=array(saved),
        states=_states(call, h0, c0),
        zoneout=call.zoneout,
        want=want,
        dx=dx,
        at_most=torch.get_num_threads(),
        **_arrived(call, given),
        **({} if noise is QUIET else noise.arguments()),
    )
    tensor = torch.from_numpy
    found: list[Tensor | None] = [None, None, None]
    # Each array is new and has no other reference, so torch keeps it as the gradient.
    if g.dx is not None:
        of_x = g.dx[0] if call.step else g.dx.swapaxes(0, 1) if call.batch_first_x else g.dx
        found[0] = tensor(of_x)
    for k, part in enumerate(g.dstates or (), 1):
        if needed[k]:
            found[k] = tensor(part[0] if call.step else part)
    asked = iter(of_weights)
    for of in g.dweights:
        found += [tensor(of[name]) if next(asked) else None for name in names]
    return found


@cache
def _wanted(names: tuple[str, ...], needed: tuple[bool, ...]) -> frozenset[str]:
    """Return the `want` of `core.backward`; `needed` is for x, h0, c0 and the weights."""
    count, of_weights = len(names), needed[3:]
    want = {name for k, name in enumerate(names) if any(of_weights[k::count])}
    want |= {"x"} if needed[0] else set()
    return frozenset(want | ({"states"} if needed[1] or needed[2] else set()))


def _arrived(call: Call, given: Sequence[Tensor | None]) -> dict[str, Any]:
    """Return gradients of the outputs, in `_outputs` order, as `core.backward` takes them."""
    arrays = [None if t is None else array(t) for t in given]
    dy, states = arrays[0], call.packed.spec.states
    if call.step:
        dc = arrays[1] if states > 1 else None
        return {
            "dy": None if dy is None else dy[None],
            "dstates": None if dc is None else (None, dc[None]),
        }
    if dy is not None and call.batch_first_y:
        dy = dy.swapaxes(0, 1)
    dstates, inside = arrays[1 : 1 + states], arrays[1 + states :]
    return {
        "dy": dy,
        "dstates": None if all(d is None for d in dstates) else dstates,
        "dcells": inside.pop(0) if call.cells else None,
        "dgates": inside.pop(0) if call.gates else None,
    }


# --- differentiating twice ------------------------------------------------------------------------

_PARENTS: dict[str, Any] = {
    "lstm": _VF.lstm,
    "gru": _VF.gru,
    "rnn_tanh": _VF.rnn_tanh,
    "rnn_relu": _VF.rnn_relu,
}
_ONCE = (
    b"fusedrnn.torch: gradients of gradients exist if torch's own layer can make the call: "
    b"without mask=, reset=, empty sequences, noise, inner outputs and options of ours"
)
Again = Callable[..., "tuple[Tensor, ...]"]


def _again(call: Call, noise: Noise, batch: int) -> Again | None:
    """Return torch's own operation that can make the call; None if there is none."""
    parent: Again | None = _PARENTS.get(call.packed.cell)
    odd = call.mask is not None or call.reset is not None or call.zoneout is not None
    if parent is None or odd or call.cells or call.gates or noise.drop is not None:
        return None
    if batch == 0 or (call.lengths is not None and call.lengths.min(initial=1) < 1):
        return None
    return parent


def _composite(
    call: Call,
    parent: Again,
    tensors: Sequence[Tensor | None],
    given: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Return gradients that can be differentiated again: those of torch's own operations."""
    outputs = _by_parent(call, parent, *tensors)
    used = [(out, g) for out, g in zip(outputs, given, strict=True) if g is not None]
    inputs = [t for t, wanted in zip(tensors, needed, strict=True) if wanted]
    found = iter(
        torch.autograd.grad(
            [out for out, _ in used],
            inputs,
            [g for _, g in used],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if wanted else None for wanted in needed]


def _by_parent(
    call: Call, parent: Again, x: Tensor, h0: Tensor | None, c0: Tensor | None, *weights: Tensor
) -> tuple[Tensor, ...]:
    """Return the outputs of a call, in the order and the layout of `_outputs`.

    The input is always a packed sequence, because torch does not use oneDNN for those: the LSTM of
    oneDNN has no second derivative.
    """
    packed = call.packed
    n = packed.directions
    if call.step:
        x = x.unsqueeze(0)
        h0, c0 = (None if s is None else s.unsqueeze(0) for s in (h0, c0))
    elif call.batch_first_x:
        x = x.transpose(0, 1)
    steps, batch = x.shape[:2]
    first = [x.new_zeros(n, batch, packed.output_size) if h0 is None else h0]
    if packed.spec.states > 1:
        first.append(x.new_zeros(n, batch, packed.hidden_size) if c0 is None else c0)
    lengths = np.full(batch, steps) if call.lengths is None else call.lengths
    sequence = pack_padded_sequence(x, torch.from_numpy(lengths), enforce_sorted=False)
    moved = [part.index_select(1, sequence.sorted_indices) for part in first]
    data, *last = parent(
        sequence.data,
        sequence.batch_sizes,
        moved if len(moved) > 1 else moved[0],
        list(weights),
        "b_ih" in packed.names,
        1,
        0.0,
        False,
        n > 1,
    )
    last = [part.index_select(1, sequence.unsorted_indices) for part in last]
    y, _ = pad_packed_sequence(sequence._replace(data=data), total_length=steps)
    if call.step:
        return (y[0], *(part[0] for part in last[1:]))
    return (y.transpose(0, 1) if call.batch_first_y else y, *last)


def _once(gradients: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Return the gradients; differentiating them raises an error."""
    there = [g for g in gradients if g is not None]
    marked = [g.detach().requires_grad_() for g in there]
    error = torch._C._functions.DelayedError(_ONCE, len(marked))
    outputs = error(*marked)
    found = iter(outputs if isinstance(outputs, tuple) else (outputs,))
    return tuple(None if g is None else next(found) for g in gradients)


# --- the call -------------------------------------------------------------------------------------


def recur(
    call: Call,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    noise: Noise = QUIET,
) -> tuple[Tensor, ...]:
    """Return y, the last states, and cells and gates if asked for; with a graph if needed."""
    if torch.is_grad_enabled():
        for t in (x, *weights, h0, c0):
            if t is not None and t.requires_grad:
                outputs: tuple[Tensor, ...] = Recurrence.apply(call, noise, x, h0, c0, *weights)
                return outputs
    out = _run(call, x, h0, c0, noise, call.cells or call.gates)
    return _outputs(call, out, noise.arguments()["keep"] if call.cells else None)
