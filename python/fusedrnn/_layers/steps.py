"""Single steps of a stream, prepared once so that a step costs little more than its kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._backends.choice import current
from .._backends.settings import chosen_isa, chosen_threads
from .._backends.types import Inputs, Steps, Threads
from .._cells import Array
from .state import States

if TYPE_CHECKING:
    from .layer import Layer


def made_for(layer: Layer[Any, Any], num_threads: int | None, tokens: bool) -> tuple[object, ...]:
    """Return a key of everything that prepared steps depend on; they are invalid if it changes."""
    threads = chosen_threads.get() if num_threads is None else (num_threads, type(num_threads))
    return current(), chosen_isa.get(), threads, layer._now, tokens


class QuickSteps:
    """Prepared kernels of a layer, with its state; for plain arrays of the layer's dtype."""

    def __init__(
        self, layer: Layer[Any, Any], batch: int, steps: list[Steps], key: tuple[object, ...]
    ) -> None:
        self.key = key
        self._steps = steps
        self._dtype = layer.dtype
        tokens = key[-1]
        self._in: tuple[int, ...] = (batch,) if tokens else (batch, layer.input_size)
        self._out = (batch, layer._output_size)
        # With a batch of 1, x and y may come without the batch axis.
        self._row_in = self._in[1:] if batch == 1 else None
        self._row_out = self._out[1:]
        widths = [batch * part[0] for part in layer._form.widths[:-1]]
        self._between = [np.empty(width, layer.dtype) for width in widths]

    @staticmethod
    def suit(x: object, dtype: np.dtype[Any]) -> bool:
        """Whether an input suits: plain, contiguous, aligned, and of this dtype or of float64."""
        if x.__class__ is not np.ndarray or (x.dtype != dtype and x.dtype != np.float64):
            return False
        return x.flags.c_contiguous and x.flags.aligned

    @classmethod
    def of(
        cls,
        layer: Layer[Any, Any],
        batch: int,
        states: list[States],
        threads: Threads,
        key: tuple[object, ...],
    ) -> QuickSteps | None:
        """Prepare steps from `states`; None if the backend has no fast way.

        The caller made `key` before this call, so a change of the weights in between is noticed.
        Its last item says whether the steps get tokens in place of x.
        """
        now, run = layer._read(), current()
        found: list[Steps] = []
        starts = layer._first_states(batch) if layer.learn_initial_state else None
        for k, (packed, state) in enumerate(zip(now.packs, states, strict=True)):
            if key[-1] and k == 0:
                inputs = Inputs(None, np.zeros((1, batch), np.int64))
            else:
                inputs = Inputs(np.zeros((1, batch, packed.input_size), layer.dtype))
            inputs = inputs._replace(
                initial=None if starts is None else tuple(starts[k]), zoneout=layer._zoneout
            )
            steps = run.stepper(packed, inputs, threads)
            if steps is None:
                return None
            steps.load(state)
            found.append(steps)
        return cls(layer, batch, found, key)

    def states(self) -> list[States]:
        """Return the state, by layers."""
        return [steps.states() for steps in self._steps]

    def step(self, x: object, out: object, real: object = None, cut: object = None) -> Array | None:
        """Take one step; None if the arrays are not plain, and then nothing was done.

        `real` and `cut` are None or flags (B,), as `Steps.step` takes them.
        """
        if x.__class__ is not np.ndarray:
            return None
        shape: Any = x.shape
        if shape == self._in:
            like: Any = self._out
        elif shape == self._row_in:
            like = self._row_out
        else:
            return None
        if out is x:  # the caller feeds the output back as the next input
            return self._in_place(x, like, real, cut)
        y: Any = np.empty(like, self._dtype) if out is None else out
        if y.__class__ is not np.ndarray or y.shape != like:
            return None
        if len(self._steps) == 1:
            return y if self._steps[0].step(x, y, real, cut) else None
        # For one layer, its own step checks for overlap.
        if out is not None and np.may_share_memory(x, y):
            return None
        return self._through(x, y, real, cut)

    def _in_place(self, x: Any, like: tuple[int, ...], real: object, cut: object) -> Array | None:
        if x.shape != like or not x.flags.writeable:
            return None
        y = self.step(x, None, real, cut)
        if y is not None:
            x[...] = y
        return None if y is None else x

    def _through(self, x: Any, y: Array, real: object, cut: object) -> Array | None:
        """Run every layer; if one refuses or fails, undo the others."""
        done = 0
        try:
            for steps, h in zip(self._steps, (*self._between, y), strict=True):
                if not steps.step(x, h, real, cut):
                    break
                done += 1
                x = h
            else:
                return y
        except BaseException:
            self._back(done)
            raise
        self._back(done)
        return None

    def _back(self, done: int) -> None:
        for steps in self._steps[:done]:
            steps.undo()
