"""Streams: a layer with its state, for data that arrives step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from ._backends.types import ANY_NUMBER, Inputs, Threads
from ._cells import Array
from ._checks import arguments as _check
from ._checks import options as _check_options
from ._layers import stack as _stack
from ._layers.state import States
from ._layers.steps import QuickSteps, made_for
from .core._plan import plan

if TYPE_CHECKING:
    from ._layers.layer import Layer

_IDS = np.dtype(np.int64)

State = TypeVar("State")
Given = TypeVar("Given")


def _threads(num_threads: int | None) -> Threads:
    return ANY_NUMBER if num_threads is None else Threads(_check.num_threads(num_threads))


class Stream(Generic[State, Given]):
    """A layer's recurrence over data that arrives piece by piece; made by ``layer.stream()``.

    A stream follows the layer's parameters: after a change, the next step uses the new values. The
    outputs have the same bits as those of one call on the whole sequence. Only one thread may use a
    stream at a time. A refused or interrupted call leaves the state as it was.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> gru = fr.GRU(3, 8, seed=0)
    >>> x = np.ones((20, 1, 3), np.float32)
    >>> stream = gru.stream()
    >>> for t in range(20):
    ...     h = stream.step(x[t, 0])  # (I,) to (H,)
    >>> np.array_equal(h, gru(x)[0][-1, 0])
    True
    """

    def __init__(self, layer: Layer[State, Given], batch_size: int = 1) -> None:
        self.layer = layer
        if layer.bidirectional:
            _check_options.not_streamed()
        self.batch_size = _check.integer(batch_size, "batch_size", 1)
        if self.batch_size > layer._max_rows:
            _check.too_large("batch_size", self.batch_size)
        self._states = self._first()  # not used while _quick has the state
        self._quick: QuickSteps | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_states": self._reached(), "_quick": None}

    def __repr__(self) -> str:
        return f"{self.layer!r}.stream(batch_size={self.batch_size})"

    def _reached(self) -> list[States]:
        """Take the state back from the quick steps, for a call that is not one, and return it."""
        if self._quick is not None:
            self._states = self._quick.states()
            self._quick = None
        return self._states

    def _quickly(
        self,
        x: object,
        tokens: object,
        out: object,
        mask: object,
        reset: object,
        num_threads: int | None,
    ) -> Array | None:
        """Take one step with plain arrays on prepared kernels; None: that is not possible."""
        if x is None:
            x = tokens
        elif tokens is not None:
            return None
        layer, quick = self.layer, self._quick
        key = made_for(layer, num_threads, tokens is not None)
        if quick is None or quick.key != key:
            if not QuickSteps.suit(x, layer.dtype if tokens is None else _IDS):
                return None
            quick = QuickSteps.of(
                layer,
                self.batch_size,
                self._reached(),
                _threads(num_threads),
                key,
            )
            if quick is None:
                return None
            self._quick = quick
        return quick.step(x, out, mask, reset)

    def _first(self) -> list[States]:
        return self.layer._first_states(self.batch_size)

    def _advance(
        self,
        inputs: Inputs,
        initial: list[States] | None,
        num_threads: int | None,
        y: Array | None = None,
    ) -> Array:
        layer = self.layer
        out, self._states, _ = _stack.forward(
            layer._read().packs,
            inputs,
            self._reached(),
            initial,
            save=False,
            threads=_threads(num_threads),
            y=y,
        )
        return out

    def step(
        self,
        x: ArrayLike | None = None,
        out: Array | None = None,
        *,
        tokens: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        initial: Given | None = None,
        num_threads: int | None = None,
    ) -> Array:
        """Take one time step.

        A step costs about a microsecond besides its kernel, and some microseconds more if an
        argument must be converted from another dtype or layout. `initial` costs tens of
        microseconds: for a small layer, that is many times a plain step. If many steps are known at
        once, call the stream.

        Parameters
        ----------
        x : array_like, shape (B, I), or (I,) if the batch size is 1
            Input of this step; converted to the layer's dtype.
        out : ndarray, shape (B, P) or (P,), optional
            Array to receive the output: of the layer's dtype, writable, C-contiguous. It may be x,
            which is read before it is written.
        tokens : array_like of int, shape (B,), or () if the batch size is 1
            Input of this step as ids in [0, I), in place of x.
        mask : array_like of bool, shape (B,)
            True if the step is real; the other sequences keep their state, and their output is 0.
        reset : array_like of bool, shape (B,)
            True if the sequence starts anew before this step: in reinforcement learning, ``done``
            of the step before.
        initial : as the state
            The state after a reset; zeros if not given.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        ndarray, shape (B, P), or (P,) for input without a batch axis
            The new h of the last layer: a new array, or `out`.

        Raises
        ------
        TypeError
            x is not floating point, tokens are not integers, both or neither are given, `out` is of
            another dtype.
        ValueError
            A shape does not fit, an id is out of range, `out` does not fit exactly.
        """
        if initial is None:
            h = self._quickly(x, tokens, out, mask, reset, num_threads)
            if h is not None:
                return h
        layer, batch = self.layer, self.batch_size
        _check.one_of(x, tokens)
        a = ids = None
        if x is not None:
            a = _check.step_input(x, layer.dtype, batch, layer.input_size)
            batched = a.ndim == 2
            inputs = Inputs(a.reshape(1, batch, layer.input_size), zoneout=layer._zoneout)
        else:
            ids = _check.step_tokens(tokens, batch, layer.input_size)
            batched = ids.ndim == 1
            inputs = Inputs(None, ids.reshape(1, batch), zoneout=layer._zoneout)
        real = _check_options.step_flags(mask, "mask", batch)
        cut = _check_options.step_flags(reset, "reset", batch)
        if initial is None and not (a is x and ids is tokens and real is mask and cut is reset):
            live, anew = (None if one is None else one[0] for one in (real, cut))
            h = self._quickly(a, ids, out, live, anew, num_threads)  # converted, they may suit
            if h is not None:
                return h
        if real is not None or cut is not None:
            walk = plan(1, batch, 1, None, real, cut)
            inputs = inputs._replace(lengths=walk.lengths, times=walk.times, cut=walk.cut)
        width = layer._output_size
        shape = (batch, width) if batched else (width,)
        if out is not None:
            _check.out(out, shape, layer.dtype)
        first = layer._initial(initial, reset, batch if batched else None)
        h = self._advance(inputs, first, num_threads).reshape(shape)
        if out is None:
            return h
        out[...] = h
        return out

    def __call__(
        self,
        x: ArrayLike | None = None,
        *,
        tokens: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        initial: Given | None = None,
        num_threads: int | None = None,
    ) -> Array:
        """Take several time steps; with batch_first, (B, t, ...) in place of (t, B, ...).

        Parameters
        ----------
        x : array_like, shape (t, B, I), or (t, I) if the batch size is 1
            Input of these steps; converted to the layer's dtype.
        tokens : array_like of int, shape (t, B), or (t,) if the batch size is 1
            Input as ids in [0, I), in place of x.
        lengths, mask, reset, initial
            As for the layer; y is 0 at steps that are not real.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        ndarray, shape (t, B, P), or (t, P) for input without a batch axis
            h of the last layer after each of the steps.

        Raises
        ------
        TypeError, ValueError
            As `step`.
        """
        _check.one_of(x, tokens)
        layer = self.layer
        inputs, rows, _ = layer._inputs(x, tokens, lengths, mask, reset)
        _check.stream_batch(inputs.sequence, self.batch_size)
        cut = layer._initial(initial, reset, rows.batch if rows.batched else None)
        y = self._advance(inputs, cut, num_threads, layer._new_y(rows))
        return rows.shown(y)

    @property
    def state(self) -> State:
        """A copy of the state, as the layer returns it: h, or (h, c). It can be assigned."""
        copies = [tuple(part.copy() for part in parts) for parts in self._reached()]
        return cast("State", self.layer._form.outside(copies, True))

    @state.setter
    def state(self, value: Given | None) -> None:
        given = self.layer._form.inside(value, "state", self.batch_size, copy=True)
        self._quick = None
        self._states = self._first() if given is None else given

    def reset(self, rows: Any = None) -> None:
        """Set the state to zeros.

        Parameters
        ----------
        rows : array_like of int or of bool, optional
            Which sequences of the batch, as indices or as B flags; all if not given.

        Raises
        ------
        TypeError, ValueError
            Not indices in [0, B), nor B flags.
        """
        if rows is None:
            self._quick = None
            self._states = self._first()
            return
        chosen = _check.rows(rows, self.batch_size)
        for parts in self._reached():
            for part in parts:
                part[:, chosen] = 0
