"""Single steps of a stream without the work that is the same for all of them."""

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


def made_for(layer: Layer[Any, Any], num_threads: int | None) -> tuple[object, ...]:
    """What must not have changed for steps to go on."""
    threads = chosen_threads.get() if num_threads is None else (num_threads, type(num_threads))
    return current(), chosen_isa.get(), threads, layer._now


class QuickSteps:
    """A layer's kernels, ready, with the state reached; for plain arrays of the layer's dtype."""

    def __init__(
        self, layer: Layer[Any, Any], batch: int, steps: list[Steps], key: tuple[object, ...]
    ) -> None:
        self.key = key
        self._steps = steps
        self._dtype = layer.dtype
        self._in, self._out = (batch, layer.input_size), (batch, layer._output_size)
        # A batch of 1 may come without its axis.
        self._row_in = self._in[1:] if batch == 1 else None
        self._row_out = self._out[1:]
        widths = [batch * part[0] for part in layer._form.widths[:-1]]
        self._between = [np.empty(width, layer.dtype) for width in widths]

    @staticmethod
    def suit(x: object, dtype: np.dtype[Any]) -> bool:
        """Whether an input is worth making anything ready for."""
        if x.__class__ is not np.ndarray or x.dtype != dtype:
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
        """Ready to go on from `states`; None where the backend has no quick way.

        `key` was made before, so that a change of the weights in between shows.
        """
        now, run = layer._read(), current()
        found = []
        for packed, (inputs, _), state in zip(now.packs, layer._sizes(), states, strict=True):
            x = np.zeros((1, batch, inputs), layer.dtype)
            steps = run.stepper(packed, Inputs(x, zoneout=layer._zoneout), threads)
            if steps is None:
                return None
            steps.load(state)
            found.append(steps)
        return cls(layer, batch, found, key)

    def states(self) -> list[States]:
        """The state reached, by layers."""
        return [steps.states() for steps in self._steps]

    def step(self, x: object, out: object) -> Array | None:
        """One step; None, and nothing was done, where the arrays are not plain."""
        if x.__class__ is not np.ndarray:
            return None
        shape: Any = x.shape
        if shape == self._in:
            like: Any = self._out
        elif shape == self._row_in:
            like = self._row_out
        else:
            return None
        if out is x:  # the output becomes the next input
            return self._in_place(x, like)
        y: Any = np.empty(like, self._dtype) if out is None else out
        if y.__class__ is not np.ndarray or y.shape != like:
            return None
        if len(self._steps) == 1:
            return y if self._steps[0].step(x, y) else None
        # One layer's step sees to this itself.
        return None if out is not None and np.may_share_memory(x, y) else self._through(x, y)

    def _in_place(self, x: Any, like: tuple[int, ...]) -> Array | None:
        if x.shape != like or not x.flags.writeable:
            return None
        y = self.step(x, None)
        if y is not None:
            x[...] = y
        return None if y is None else x

    def _through(self, x: Any, y: Array) -> Array | None:
        """Every layer, or none of them."""
        done = 0
        try:
            for steps, h in zip(self._steps, (*self._between, y), strict=True):
                if not steps.step(x, h):
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
