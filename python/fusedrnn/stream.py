"""One step at a time: a layer with the state it has reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from . import _check
from ._backend import Inputs, current
from ._spec import Array

if TYPE_CHECKING:
    from .layers import Layer

State = TypeVar("State")


class Stream(Generic[State]):
    """A layer's recurrence over data that arrives piece by piece; made by ``layer.stream()``.

    It follows the layer's parameters: a change of them holds from the next step on. The outputs
    have the same bits as those of one call on the whole sequence. A stream belongs to one thread
    at a time. A refused or interrupted call leaves the state as it was.
    """

    def __init__(self, layer: Layer[State], batch_size: int = 1) -> None:
        self.layer = layer
        self.batch_size = _check.integer(batch_size, "batch_size", 1)
        if self.batch_size > layer._max_rows:
            _check.too_large("batch_size", self.batch_size)
        self._states = self._zeros()

    def __repr__(self) -> str:
        return f"{self.layer!r}.stream(batch_size={self.batch_size})"

    def _zeros(self) -> tuple[Array, ...]:
        shape = (1, self.batch_size, self.layer.hidden_size)
        return tuple(np.zeros(shape, self.layer.dtype) for _ in self.layer._spec.state_names)

    def _given(self, value: State) -> tuple[Array, ...]:
        states = self.layer._states(value, "{}0", (self.batch_size,), copy=True)
        return self._zeros() if states is None else states

    def _advance(self, inputs: Inputs, num_threads: int | None) -> Array:
        layer = self.layer
        y, self._states, _ = current().forward(
            layer._weights or _check.parameters_open(), inputs, save=False, num_threads=num_threads
        )
        return y

    def step(
        self,
        x: ArrayLike | None = None,
        out: Array | None = None,
        *,
        tokens: ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> Array:
        """Take one time step.

        Parameters
        ----------
        x : array_like, shape (B, I), or (I,) where the batch size is 1
            Input of this step; converted to the layer's dtype.
        out : ndarray, shape (B, H) or (H,), optional
            Where to write the output: of the layer's dtype, writable, C-contiguous.
        tokens : array_like of int, shape (B,), or () where the batch size is 1
            Input of this step as ids in [0, I), in place of x.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        ndarray, shape (B, H), or (H,) for input without a batch axis
            The new h: a new array, or `out`.

        Raises
        ------
        TypeError
            x is not floating point, tokens are not integers, both or neither are given.
        ValueError
            A shape does not fit, an id is out of range, `out` does not fit exactly.
        """
        layer, batch = self.layer, self.batch_size
        _check.one_of(x, tokens)
        if num_threads is not None:
            num_threads = _check.num_threads(num_threads)
        if x is not None:
            a = _check.step_input(x, layer.dtype, batch, layer.input_size)
            batched = a.ndim == 2
            inputs = Inputs(a.reshape(1, batch, layer.input_size), states=self._states)
        else:
            a = _check.step_tokens(tokens, batch, layer.input_size)
            batched = a.ndim == 1
            inputs = Inputs(None, a.reshape(1, batch), states=self._states)
        shape = (batch, layer.hidden_size) if batched else (layer.hidden_size,)
        if out is not None:
            _check.out(out, shape, layer.dtype, a)
        h = self._advance(inputs, num_threads).reshape(shape)
        if out is None:
            return h
        out[...] = h
        return out

    def __call__(
        self,
        x: ArrayLike | None = None,
        *,
        tokens: ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> Array:
        """Take several time steps.

        Parameters
        ----------
        x : array_like, shape (t, B, I), or (t, I) where the batch size is 1
            Input of these steps; converted to the layer's dtype.
        tokens : array_like of int, shape (t, B), or (t,) where the batch size is 1
            Input as ids in [0, I), in place of x.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        ndarray, shape (t, B, H), or (t, H) for input without a batch axis
            h after each of the steps.

        Raises
        ------
        TypeError, ValueError
            As `step`.
        """
        _check.one_of(x, tokens)
        if num_threads is not None:
            num_threads = _check.num_threads(num_threads)
        inputs, batched = self.layer._inputs(x, tokens, None)
        sequence = inputs.tokens if inputs.x is None else inputs.x
        _check.stream_batch(cast("Array", sequence), self.batch_size)
        y = self._advance(inputs._replace(states=self._states), num_threads)
        return y if batched else y[:, 0]

    @property
    def state(self) -> State:
        """The state reached, a copy: h, or (h, c), each (1, B, H). Can be assigned."""
        return self.layer._public(tuple(part.copy() for part in self._states))

    @state.setter
    def state(self, value: State) -> None:
        self._states = self._given(value)

    def reset(self, rows: Any = None) -> None:
        """Set the state to zeros.

        Parameters
        ----------
        rows : array_like of int or of bool, optional
            Which sequences of the batch, as indices or as B flags; all where not given.

        Raises
        ------
        TypeError, ValueError
            Not indices in [0, B), nor B flags.
        """
        if rows is None:
            self._states = self._zeros()
            return
        chosen = _check.rows(rows, self.batch_size)
        for part in self._states:
            part[:, chosen] = 0
