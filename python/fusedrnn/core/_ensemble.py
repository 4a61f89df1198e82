"""Calls with several sets of weights: the members of an ensemble, side by side in one call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .._backends import choice
from .._backends.types import BackwardMember, ForwardMember, Gradients, Inputs
from .._cells import Array
from .._checks import arguments as _check
from . import _checks
from ._call import Forward
from ._packed import Packed
from ._plan import Plan


class _Share:
    """Gives each of `count` members its part of an array, or the array that all of them share."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.divided = False  # whether an array so far had an axis of members

    def of(self, e: int, name: str, value: Any, axes: int) -> Any:
        """The part of member e. `axes`: how many the array has for one member.

        What is no array passes unchanged: the checks of a single call say what is wrong with it.
        """
        if not isinstance(value, np.ndarray) or value.ndim != axes + 1:
            return value
        if len(value) != self.count:
            raise ValueError(
                f"{name}: expected a first axis of {self.count}, the members, got {value.shape}"
            )
        self.divided = True
        return value[e]

    def parts(self, e: int, name: str, value: Any, axes: int) -> Any:
        """The parts of a sequence of arrays, one for each state."""
        if isinstance(value, np.ndarray) or not isinstance(value, Sequence):
            return value
        return [self.of(e, f"{name}[{k}]", part, axes) for k, part in enumerate(value)]


def _members(packs: object) -> list[Packed]:
    if isinstance(packs, Packed) or not isinstance(packs, Sequence) or not packs:
        raise TypeError(
            f"packs: expected a sequence of packed weights, got {_check.describe(packs)}"
        )
    for e, one in enumerate(packs):
        if not isinstance(one, Packed):
            raise TypeError(f"packs[{e}]: expected packed weights, got {_check.describe(one)}")
        for what in ("cell", "options", "dtype", "directions", "isa"):
            mine, first = getattr(one, what), getattr(packs[0], what)
            if mine != first:
                raise ValueError(
                    f"packs[{e}]: expected the {what} of the first member, {first}; got {mine}"
                )
        mine, first = (_shapes(p) for p in (one, packs[0]))
        if mine != first:
            raise ValueError(
                f"packs[{e}]: expected weights as those of the first member, {first}; got {mine}"
            )
    return list(packs)


def _shapes(packed: Packed) -> dict[str, tuple[int, ...]]:
    return {name: a.shape for name, a in packed.held()[0].items()}


def _generations(packs: list[Packed]) -> tuple[int, ...]:
    return tuple(one.generation for one in packs)


def _inputs(
    packs: list[Packed],
    share: _Share,
    plan: Plan | None,
    x: Any,
    tokens: Any,
    states: Any,
    initial: Any,
    drop: Any,
    keep: Any,
    zoneout: Any,
    walks: tuple[Any, Any, Any] | None,
) -> tuple[list[Inputs], Plan]:
    """The inputs of each member, and the plan of all, made of `walks` if it is not given."""
    found: list[Inputs] = []
    for e, packed in enumerate(packs):
        checked = _checks.sequences(
            packed, share.of(e, "x", x, 3), share.of(e, "tokens", tokens, 2)
        )
        steps, batch = checked.sequence.shape[:2]
        if plan is None:
            assert walks is not None
            plan = _checks.walk(packed, steps, batch, *walks)
        _checks.same_sizes(plan, (steps, batch))
        found.append(
            _checks.rest_of_inputs(
                packed,
                checked,
                plan,
                share.parts(e, "states", states, 3),
                share.parts(e, "initial", initial, 3),
                share.of(e, "drop", drop, 3),
                share.parts(e, "keep", keep, 4),
                zoneout,
                plan.cut is not None,
            )
        )
        if not share.divided:  # all members read the same arrays, which are checked now
            found *= len(packs)
            break
    assert plan is not None
    return found, plan


def forward_ensemble(
    packs: Sequence[Packed],
    x: Array | None = None,
    *,
    tokens: Array | None = None,
    states: Sequence[Array] | None = None,
    lengths: Array | None = None,
    mask: Array | None = None,
    reset: Array | None = None,
    initial: Sequence[Array] | None = None,
    drop: Array | None = None,
    keep: Sequence[Array] | None = None,
    zoneout: tuple[float, float] | None = None,
    y: Array | None = None,
    final: Sequence[Array] | None = None,
    saved: bool | Array = False,
    threads: int | None = None,
    at_most: int | None = None,
) -> Forward:
    """Run sequences through E sets of weights of one layer.

    Each member has the bits of its own `forward`. If there are at least as many members as threads,
    each member is computed by one thread, which is faster than E calls that divide small products
    among threads.

    Parameters
    ----------
    packs : sequence of Packed
        The members: one cell, size and dtype, and the same names of weights.
    x : ndarray, shape (T, B, I) or (E, T, B, I)
        Input that all members share, or one for each.
    tokens, states, initial, drop, keep
        As `forward` takes them, shared by all members; or with a first axis of E.
    lengths, mask, reset, zoneout
        As `forward` takes them; all members share them.
    y, final, saved
        As `forward` takes them, each array with a first axis of E.
    threads, at_most : int, optional
        As for `forward`.

    Returns
    -------
    Forward
        Named tuple (y, states, saved, plan), whose arrays have a first axis of E: y is
        (E, T, B, D*P).

    Raises
    ------
    TypeError, ValueError
        An argument is not as above, or an output shares memory with another array; the text names
        the argument, and nothing was written.
    RuntimeError
        Another thread is updating a member.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> weights = [{"w_ih": k * np.eye(2), "w_hh": np.eye(2)} for k in (1, 2, 3)]
    >>> packs = [core.pack("rnn_identity", one) for one in weights]
    >>> y, (h,), saved, plan = core.forward_ensemble(packs, np.ones((4, 1, 2)))
    >>> y.shape, h[:, 0, 0, 0]
    ((3, 4, 1, 2), array([ 4.,  8., 12.]))
    """
    members, run = _members(packs), choice.current()
    share, first = _Share(len(members)), members[0]
    inputs, plan = _inputs(
        members,
        share,
        None,
        x,
        tokens,
        states,
        initial,
        drop,
        keep,
        zoneout,
        (lengths, mask, reset),
    )
    asked = _checks.threads(threads, at_most)
    steps, batch, count = plan.steps, plan.batch, len(members)
    shape = (count, steps, batch, first.directions * first.output_size)
    to_y = _checks.output(y, "y", first, shape)
    to_final = _checks.states_out(first, final, "final", batch, (count,))
    kept_shape = (count, *run.saved_shape(first, steps, batch))
    to_saved = _checks.saved_target(
        saved, first, kept_shape if isinstance(saved, np.ndarray) else None
    )
    _check.keep_apart(
        [("y", to_y), ("final", to_final), ("saved", to_saved)],
        [x, tokens, states, initial, drop, keep, *[one.arrays for one in members]],
    )
    if to_y is None:
        to_y = np.empty(shape, first.dtype)
    if to_final is None:
        to_final = _rooms_of_states(first, count, batch)
    if isinstance(to_saved, bool | np.bool_):
        kept = np.empty(kept_shape, first.dtype) if to_saved else None
    else:
        kept = to_saved
    run.forward_ensemble(
        [
            ForwardMember(
                members[e],
                inputs[e],
                to_y[e],
                tuple(part[e] for part in to_final),
                None if kept is None else kept[e],
            )
            for e in range(count)
        ],
        asked,
    )
    return Forward(to_y, to_final, kept, plan._replace(generation=_generations(members)))


def _rooms_of_states(packed: Packed, count: int, batch: int) -> tuple[Array, ...]:
    """New arrays for a state of each member."""
    widths = (packed.output_size, packed.hidden_size)[: packed.spec.states]
    return tuple(np.empty((count, packed.directions, batch, n), packed.dtype) for n in widths)


def backward_ensemble(
    packs: Sequence[Packed],
    plan: Plan,
    x: Array | None = None,
    *,
    y: Array,
    saved: Array,
    tokens: Array | None = None,
    states: Sequence[Array] | None = None,
    initial: Sequence[Array] | None = None,
    drop: Array | None = None,
    keep: Sequence[Array] | None = None,
    zoneout: tuple[float, float] | None = None,
    dy: Array | None = None,
    dstates: Sequence[Array | None] | None = None,
    dcells: Array | None = None,
    dgates: Array | None = None,
    want: Collection[str] | None = None,
    dx: Array | None = None,
    dfirst: Sequence[Array] | None = None,
    dweights: Mapping[str, Array] | Sequence[Mapping[str, Array]] | None = None,
    group: int | None = None,
    threads: int | None = None,
    at_most: int | None = None,
) -> Gradients:
    """Backpropagate through a `forward_ensemble` call, from plain arrays.

    Parameters
    ----------
    packs : sequence of Packed
        The members of the forward call.
    plan, y, saved
        What the forward call returned.
    x, tokens, states, initial, drop, keep, zoneout
        What the forward call was given, unchanged.
    dy, dstates, dcells, dgates
        As `backward` takes them, with a first axis of E; without one, all members share them.
    want, group, threads, at_most
        As for `backward`.
    dx, dfirst, dweights
        As `backward` takes them, each array with a first axis of E.

    Returns
    -------
    Gradients
        As `backward` returns them, each with a first axis of E. If all members share x and `dx` is
        not given, dx is (T, B, I), the sum of the members' dx in the order of the members.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above, or an output shares memory with another array; nothing was
        written.
    RuntimeError
        The weights are not those of the forward call, or another thread is updating them.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> weights = [{"w_ih": k * np.eye(2), "w_hh": np.eye(2)} for k in (1, 2, 3)]
    >>> packs = [core.pack("rnn_identity", one) for one in weights]
    >>> x = np.ones((4, 1, 2))
    >>> y, states, saved, plan = core.forward_ensemble(packs, x, saved=True)
    >>> g = core.backward_ensemble(packs, plan, x, y=y, saved=saved, dy=np.ones_like(y))
    >>> g.dx.shape, g.dx[0, 0], g.dweights[0]["w_ih"].shape  # x_0 is in four outputs
    ((4, 1, 2), array([24., 24.]), (3, 2, 2))
    """
    members, run = _members(packs), choice.current()
    share, first, count = _Share(len(members)), members[0], len(members)
    _checks.same_generation(plan, _generations(members))
    inputs, _ = _inputs(members, share, plan, x, tokens, states, initial, drop, keep, zoneout, None)
    steps, batch = plan.steps, plan.batch
    _checks.dx_or_tokens(dx, tokens)
    wanted = _checks.wanted(first, plan, want, dx, dfirst, dweights, False, group, (count,))
    _check.keep_apart(
        [("dx", dx), ("dfirst", dfirst), ("dweights", dweights)],
        [
            *[x, tokens, y, saved, states, initial, drop, keep, dy, dstates, dcells, dgates],
            *[one.arrays for one in members],
        ],
    )

    def place(target: bool | Array, *shape: int) -> Array:
        return np.empty((count, *shape), first.dtype) if isinstance(target, bool) else target

    groups = (batch // wanted.group,) if wanted.group else ()
    to_weights = [
        {
            name: place(wanted.dweights[d][name], *groups, *a.shape)
            for name, a in of.items()
            if wanted.dweights[d][name] is not False
        }
        for d, of in enumerate(first.held())
    ]
    to_x = None
    if wanted.dx is not False and tokens is None:
        to_x = place(wanted.dx, steps, batch, first.input_size)
    to_first = wanted.dstates
    if to_first is True:
        to_first = _rooms_of_states(first, count, batch)
    width = first.directions * first.output_size
    shape = run.saved_shape(first, steps, batch)
    of_members = []
    for e, packed in enumerate(members):
        given = _checks.given_gradients(
            packed,
            plan,
            share.of(e, "dy", dy, 3),
            share.parts(e, "dstates", dstates, 3),
            share.of(e, "dcells", dcells, 4),
            share.of(e, "dgates", dgates, 5),
        )
        targets = wanted._replace(
            dx=False if to_x is None else to_x[e],
            dweights=tuple({name: a[e] for name, a in of.items()} for of in to_weights),
            dstates=to_first and tuple(part[e] for part in to_first),
        )
        of_members.append(
            BackwardMember(
                packed,
                inputs[e],
                _checks.steps_array(share.of(e, "y", y, 3), "y", packed, plan, width),
                _checks.saved_array(share.of(e, "saved", saved, len(shape)), packed, shape),
                given,
                targets,
            )
        )
    found = run.backward_ensemble(of_members, _checks.threads(threads, at_most))
    dinitial = None
    if wanted.dinitial:
        each = [one.dinitial for one in found]
        dinitial = tuple(
            np.stack([parts[k] for parts in each if parts is not None])
            for k in range(first.spec.states)
        )
    if to_x is not None and dx is None and x is not None and x.ndim == 3:
        to_x = _sum_of_members(to_x)
    return Gradients(to_x, tuple(to_weights), to_first or None, dinitial)


def _sum_of_members(dx: Array) -> Array:
    """Add the members' gradients of a shared x in the order of the members."""
    total: Array = dx[0].copy()
    for one in dx[1:]:
        total += one
    return total
