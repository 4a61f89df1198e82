"""Forward and backward calls on packed weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np

from .._backends import choice
from .._backends.types import Given, Gradients, Inputs, Wanted
from .._cells import Array
from . import _checks
from ._packed import Packed
from ._plan import Plan


class Forward(NamedTuple):
    """The results of `forward`.

    Attributes
    ----------
    y : ndarray, shape (T, B, D*P)
        h after each step, the directions side by side; 0 at steps that were not executed.
    states : tuple of ndarray, shapes (D, B, P) and (D, B, H)
        h, and c if the cell has one, after each row's last step.
    saved : ndarray or None
        Needed by `backward`: one array of the shape `saved_shape`.
    plan : Plan
        Needed by `backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> packed = core.pack("rnn_identity", {"w_ih": np.eye(2), "w_hh": np.eye(2)})
    >>> found = core.forward(packed, np.ones((3, 1, 2)), saved=True)
    >>> found.y[:, 0, 0], found.states[0].shape
    (array([1., 2., 3.]), (1, 1, 2))
    >>> found.saved.shape == core.saved_shape(packed, 3, 1)
    True
    """

    y: Array
    states: tuple[Array, ...]
    saved: Array | None
    plan: Plan


def _absent(*arguments: object) -> bool:
    for argument in arguments:  # noqa: SIM110 - all(...) takes twice as long
        if argument is not None:
            return False
    return True


def _plain(a: object, parts: object) -> bool:
    """Whether a call need not check these itself: an array (T, B, n), and states or None.

    A backend that verifies its arrays sees every other fault. Here are those that it would take for
    something else: empty or broadcast arrays, whose sizes may be too large for any memory, and
    subclasses of arrays and of sequences.
    """
    if a.__class__ is not np.ndarray or not a.flags.c_contiguous or a.size == 0:
        return False
    if parts is None:
        return True
    return parts.__class__ is tuple and all(part.__class__ is np.ndarray for part in parts)


def _whole(a: object) -> bool:
    """Whether a call need not check an array that it writes to.

    A backend that verifies its arrays sees also if one overlaps another or is not writable.
    """
    return a.__class__ is np.ndarray and cast("Array", a).flags.c_contiguous


def _whole_parts(parts: object) -> bool:
    return parts.__class__ is tuple and all(map(_whole, cast("Sequence[object]", parts)))


def _plain_targets(
    packed: Packed, anew: Wanted, dx: Array | None, dfirst: object, dweights: object
) -> Wanted | None:
    """Return what is wanted and the arrays that receive it; None if they must be checked."""
    if dx is dfirst is dweights is None:
        return anew
    each = list(anew.dweights)
    if dweights is not None:
        sides = dweights if dweights.__class__ is list else [dweights]
        # The gradients of gains do not go through the backend as they are.
        if packed.spec.norm or len(cast("list[object]", sides)) != len(each):
            return None
        for d, of in enumerate(cast("list[object]", sides)):
            if of.__class__ is not dict:
                return None
            known = each[d]
            for name, a in of.items():
                if known.get(name) is not True or not _whole(a):
                    return None
            each[d] = {**known, **of}
    if dx is not None and not (anew.dx is True and _whole(dx)):
        return None
    if dfirst is not None and not (anew.dstates is True and _whole_parts(dfirst)):
        return None
    return anew._replace(
        dx=anew.dx if dx is None else dx,
        dweights=tuple(each),
        dstates=anew.dstates if dfirst is None else cast("tuple[Array, ...]", dfirst),
    )


def saved_shape(packed: Packed, steps: int, batch: int) -> tuple[int, ...]:
    """Return the shape of what a forward call saves for `backward`.

    Parameters
    ----------
    packed : Packed
        The weights.
    steps, batch : int
        T and B.

    Returns
    -------
    tuple of int
        The shape of an array of the weights' dtype. It depends on the backend in force: (D, T, B,
        blocks, slots, units of a block of 64 bytes) for "native", on every instruction set.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> packed = core.pack("rnn_tanh", {"w_ih": np.eye(2), "w_hh": np.eye(2)})
    >>> memory = np.empty(core.saved_shape(packed, 3, 1))  # made once, and used by every call
    >>> y, states, saved, plan = core.forward(packed, np.ones((3, 1, 2)), saved=memory)
    >>> saved is memory
    True
    """
    return choice.current().saved_shape(packed, steps, batch)


def forward(
    packed: Packed,
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
    """Run sequences through one layer.

    Sizes: T steps, B sequences, I inputs, H units, P outputs (H without a projection), D
    directions. Arrays have the dtype of the weights. For batch-major data pass views, for
    example ``x.swapaxes(0, 1)``, and pass `y` as such a view.

    Parameters
    ----------
    packed : Packed
        The weights.
    x : ndarray, shape (T, B, I)
        Input; read in place if its last axis is contiguous, else copied.
    tokens : ndarray of int, shape (T, B)
        Input as ids in [0, I), in place of x; the result is that of one-hot rows.
    states : sequence of ndarray, shapes (D, B, P) and (D, B, H), optional
        The first h, and c if the cell has one; zeros if not given.
    lengths : ndarray of int, shape (B,), optional
        Number of real steps of each sequence, in any order; the others are not executed.
    mask : ndarray of bool, shape (T, B), optional
        True at real steps; a masked step passes the state through. Not with `lengths`.
    reset : ndarray of bool, shape (T, B), optional
        True at t cuts the link between the steps t-1 and t, in both directions.
    initial : as `states`, optional
        The state after a cut link; zeros if not given. Needs `reset`.
    drop : ndarray, shape (D, B, P), optional
        Recurrent dropout: factors on what w_hh multiplies, the same at all steps.
    zoneout : (float, float), optional
        Rates at which units of h and of c keep their old value.
    keep : sequence of ndarray, shapes (D, T, B, P) and (D, T, B, H), optional
        The masks of zoneout: 1 keeps the old value. Without it a call uses the expectation. Needs
        `zoneout`.
    y : ndarray, shape (T, B, D*P), optional
        Array to receive the output: writable, its last axis contiguous; a new array if not given.
    final : sequence of ndarray, as `states`, optional
        Arrays to receive the last states: writable and contiguous.
    saved : bool or ndarray
        Whether to save what `backward` needs, or a contiguous array to save it in.
    threads : int, optional
        Exact number of threads, even on a busy machine. No result depends on it.
    at_most : int, optional
        Upper limit; the call uses fewer threads on a busy machine. Not with `threads`.

    Returns
    -------
    Forward
        Named tuple (y, states, saved, plan).

    Raises
    ------
    TypeError, ValueError
        An argument is not as above, or an output shares memory with another array; the text names
        the argument, and nothing was written.
    RuntimeError
        Another thread is updating `packed`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> rng = np.random.default_rng(0)
    >>> weights = {"w_ih": rng.standard_normal((16, 3)), "w_hh": rng.standard_normal((16, 4))}
    >>> packed = core.pack("lstm", weights)
    >>> x = rng.standard_normal((5, 2, 3))  # (T, B, I)
    >>> y, (h, c), saved, plan = core.forward(packed, x, lengths=np.array([5, 3]), saved=True)
    >>> y.shape, c.shape, np.array_equal(h[0, 1], y[2, 1])
    ((5, 2, 4), (1, 2, 4), True)
    """
    run = choice.current()
    if (
        run.verifies
        and _absent(tokens, lengths, mask, reset, initial, drop, keep, zoneout)
        and _plain(x, states)
        and (saved.__class__ is bool or _whole(saved))
        and (y is None or _whole(y))
        and (final is None or _whole_parts(final))
    ):
        try:
            out = run.forward(
                packed,
                Inputs(x, None, cast("tuple[Array, ...] | None", states)),
                y=y,
                final=cast("tuple[Array, ...] | None", final),
                saved=saved,
                threads=_checks.threads(threads, at_most),
            )
        except ValueError:  # the checks below convert what does not fit, or say what it is
            pass
        else:
            steps, batch = out.y.shape[:2]
            return Forward(*out, Plan(steps, batch, generation=packed.generation))
    checked = _checks.sequences(packed, x, tokens)
    steps, batch = checked.sequence.shape[:2]
    walk = _checks.walk(packed, steps, batch, lengths, mask, reset)
    inputs = _checks.rest_of_inputs(
        packed, checked, walk, states, initial, drop, keep, zoneout, reset is not None
    )
    shape = run.saved_shape(packed, steps, batch) if isinstance(saved, np.ndarray) else None
    out = run.forward(
        packed,
        inputs,
        y=_checks.output(y, "y", packed, (steps, batch, packed.directions * packed.output_size)),
        final=_checks.states_out(packed, final, "final", batch),
        saved=_checks.saved_target(saved, packed, shape),
        threads=_checks.threads(threads, at_most),
    )
    return Forward(*out, walk)


def plan_of(
    packed: Packed,
    steps: int,
    batch: int,
    *,
    lengths: Array | None = None,
    mask: Array | None = None,
    reset: Array | None = None,
) -> Plan:
    """Return the plan that `forward` would return for such a call.

    Parameters
    ----------
    packed : Packed
        The weights.
    steps, batch : int
        T and B.
    lengths, mask, reset
        As `forward` takes them.

    Returns
    -------
    Plan
        Plain data; its arrays are never written.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import core
    >>> packed = core.pack("rnn_tanh", {"w_ih": np.eye(2), "w_hh": np.eye(2)})
    >>> plan = core.plan_of(packed, 4, 2, mask=np.array([[1, 1], [1, 0], [1, 1], [1, 0]], bool))
    >>> plan.lengths, plan.times[0, 1, :2]  # the second sequence takes the steps 0 and 2
    (array([4, 2]), array([0, 2]))
    """
    return _checks.walk(packed, steps, batch, lengths, mask, reset)


def backward(
    packed: Packed,
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
    add: bool = False,
    group: int | None = None,
    threads: int | None = None,
    at_most: int | None = None,
) -> Gradients:
    """Backpropagate through a `forward` call, from plain arrays; may be called more than once.

    Parameters
    ----------
    packed : Packed
        The weights of the forward call.
    plan, y, saved
        What the forward call returned.
    x, tokens, states, initial, drop, keep, zoneout
        What the forward call was given, unchanged.
    dy : ndarray, shape (T, B, D*P), optional
        Gradient of y, any strides; zeros if not given.
    dstates : sequence of ndarray, shapes (D, B, P) and (D, B, H), optional
        Gradients of the last states; zeros if not given, or for a part that is None.
    dcells : ndarray, shape (D, T, B, H), optional
        Gradient of every cell state.
    dgates : ndarray, shape (D, T, B, n, H), optional
        Gradient of every gate activation, gates in the order of the weights' rows.
    want : collection of str, optional
        What to compute: "x", "states", "initial", and names of weights. Everything if not given
        ("initial" only after a reset); the compiled kernels skip the rest.
    dx : ndarray, shape (T, B, I), optional
        Array to receive the gradient of x; not with `tokens`.
    dfirst : sequence of ndarray, as `states`, optional
        Arrays to receive the gradients of the first states.
    dweights : mapping of str to ndarray, or a pair of them, optional
        Arrays to receive the gradients of weights, for each direction by the names of the weights;
        weights that are not in it get new arrays.
    add : bool
        Whether to add to the arrays of `dweights`: one addition for each element, after the last
        partial sum of the gradient.
    group : int, optional
        Number of consecutive sequences that share a weight gradient, a divisor of B: weight
        gradients, `dweights` included, get a first axis of B / group. 1 gives the gradients of
        every sequence. Each has the bits of a call on the sequences of its group alone. If not
        given, all sequences share one gradient and there is no such axis.
    threads, at_most : int, optional
        As for `forward`.

    Returns
    -------
    Gradients
        Named tuple (dx, dweights, dstates, dinitial); dweights has one dict for each direction,
        dinitial has the gradients of `initial`, a sum over the resets of each sequence. Gradients
        that were not wanted are None, or missing in the dicts; dx is None for tokens.

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
    >>> packed = core.pack("rnn_identity", {"w_ih": np.eye(2), "w_hh": np.eye(2)})
    >>> x = np.ones((3, 1, 2))
    >>> y, states, saved, plan = core.forward(packed, x, saved=True)
    >>> found = core.backward(packed, plan, x, y=y, saved=saved, dy=np.ones_like(y), want=("x",))
    >>> found.dx[:, 0, 0]  # x_0 is in three outputs
    array([3., 2., 1.])
    """
    _checks.same_generation(plan, packed.generation)
    run = choice.current()
    if (
        run.verifies
        and _absent(tokens, initial, drop, keep, zoneout, dcells, dgates)
        and _absent(plan.lengths, plan.cut, group)
        and add is False
        and (want is None or want.__class__ is frozenset)
        and _plain(x, states)
        and _plain(y, dstates)
        and saved.__class__ is np.ndarray
        and (dy is None or (dy.__class__ is np.ndarray and dy.ndim == 3))
    ):
        if dy is not None and dy.strides[2] != dy.itemsize:
            dy = np.ascontiguousarray(dy)  # the gradient of a sum is one number, broadcast
        try:
            anew = _checks.wanted_anew(packed.names, packed.directions, want)
            to = _plain_targets(packed, anew, dx, dfirst, dweights)
            if to is not None:
                return run.backward(
                    packed,
                    Inputs(x, None, cast("tuple[Array, ...] | None", states)),
                    y,
                    saved,
                    Given(dy, cast("tuple[Array, ...] | None", dstates)),
                    to,
                    threads=_checks.threads(threads, at_most),
                )
        except (TypeError, ValueError):  # as in `forward`
            pass
    checked = _checks.sequences(packed, x, tokens)
    _checks.dx_or_tokens(dx, tokens)
    _checks.same_sizes(plan, checked.sequence.shape)
    cut = plan.cut is not None
    inputs = _checks.rest_of_inputs(
        packed, checked, plan, states, initial, drop, keep, zoneout, cut
    )
    given = _checks.given_gradients(packed, plan, dy, dstates, dcells, dgates)
    wanted = _checks.wanted(packed, plan, want, dx, dfirst, dweights, add, group)
    return run.backward(
        packed,
        inputs,
        _checks.steps_array(y, "y", packed, plan, packed.directions * packed.output_size),
        _checks.saved_array(saved, packed, run.saved_shape(packed, plan.steps, plan.batch)),
        given,
        wanted,
        threads=_checks.threads(threads, at_most),
    )
