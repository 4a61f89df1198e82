"""Truncated backpropagation through time over one long text, with the state carried."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._interrupts import uninterrupted
from .lm import CharLM, State
from .optim import Adam, clip_global_norm
from .persist import prefixed, without_prefix

__all__ = ["Trainer", "uninterrupted"]

Array = NDArray[Any]

# Updates over which the learning rate rises to its full height: Adam's second moment is a guess
# from few gradients there.
WARMUP_UPDATES = 20


class Trainer:
    """A model, its optimiser, and a place in the text.

    The text is cut into `batch` streams that are read side by side, `chunk` characters an update.
    Each chunk starts in the state where the chunk before it ended, and gradients stop at its
    beginning. Each pass over the text (an epoch) starts elsewhere, so that streams and chunks are
    cut at other places.

    An update happens whole or not at all: after KeyboardInterrupt, and after any other error in
    the computation of gradients, the trainer is as it was before the update.

    Parameters
    ----------
    model : CharLM
        Trained in place.
    tokens : ndarray of int, shape (n,)
        The training text, at least two tokens a stream.
    batch : int
        Streams.
    chunk : int
        Characters of each stream in an update.
    lr : float
        Learning rate of Adam at its height.
    final_lr : float
        Share of `lr` that is left at the end of the run; a half cosine leads there.
    max_norm : float
        Bound of the global norm of the gradients.
    seed : int, Generator or None
        For the place where each epoch starts.

    Raises
    ------
    ValueError
        If the text is too short for the batch.
    """

    def __init__(
        self,
        model: CharLM,
        tokens: Array,
        *,
        batch: int = 32,
        chunk: int = 64,
        lr: float = 1e-2,
        final_lr: float = 0.05,
        max_norm: float = 1.0,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if batch < 1 or chunk < 1:
            raise ValueError(f"batch, chunk: expected positive numbers, got {batch} and {chunk}")
        if len(tokens) < 2 * batch:
            raise ValueError(
                f"batch: {len(tokens)} characters are too few for {batch} streams of two or more"
            )
        self.model = model
        self.tokens = tokens
        self.batch = batch
        self.chunk = chunk
        self.lr = lr
        self.final_lr = final_lr
        self.max_norm = max_norm
        self.optimizer = Adam(lr)
        self.losses: list[float] = []  # of each update so far, in nats
        self.characters = 0  # read in all updates so far
        self.seconds = 0.0  # spent in all updates so far
        self._rng = np.random.default_rng(seed)
        self._position = 0  # in each stream
        self._state: State | None = None
        self._start(int(self._rng.integers(len(tokens))))

    @property
    def updates(self) -> int:
        """How many updates were made."""
        return len(self.losses)

    def update(self, done: float) -> float:
        """Learn from the next chunk.

        Parameters
        ----------
        done : float
            Share of the run that is over, in [0, 1]; sets the learning rate.

        Returns
        -------
        float
            Mean cross-entropy of the chunk in nats, before the update.

        Raises
        ------
        FloatingPointError
            If the loss or the gradients are not finite. Nothing was changed.
        """
        began = time.perf_counter()
        chunk = slice(self._position, self._position + self.chunk)
        tokens, targets = self._inputs[chunk], self._targets[chunk]
        loss, grads, state = self.model.gradients(tokens, targets, self._state)
        norm = clip_global_norm(grads, max_norm=self.max_norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(
                f"update {self.updates + 1}: loss {loss}, gradient norm {norm}: the run diverged; "
                "a lower learning rate may help"
            )
        with uninterrupted():
            self.optimizer.lr = self._rate(done)
            self.optimizer.step(self.model, grads)
            self._state = state
            self._position += self.chunk
            if self._position >= len(self._inputs):
                self._start(int(self._rng.integers(len(self.tokens))))
            self.losses.append(loss)
            self.characters += tokens.size
            self.seconds += time.perf_counter() - began
        return loss

    def run(
        self,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        progress: Callable[[Trainer, float], None] | None = None,
    ) -> None:
        """Make updates until `steps` of them or `seconds` in them, counted from the first run.

        Parameters
        ----------
        steps : int, optional
            With it the run is deterministic: the learning rate follows the count of updates.
        seconds : float, optional
            With it the learning rate follows the clock. Exactly one of the two is given.
        progress : callable, optional
            Called with the trainer and the share of the run that is over after each update.

        Raises
        ------
        KeyboardInterrupt
            At Ctrl-C, at once; the trainer can be saved, and goes on from there.
        """
        if (steps is None) == (seconds is None):
            raise ValueError("steps, seconds: expected exactly one of the two")

        def done() -> float:
            if steps is not None:
                return self.updates / steps if steps > 0 else 1.0
            return self.seconds / seconds if seconds else 1.0

        while (share := done()) < 1.0:
            self.update(share)
            if progress is not None:
                progress(self, min(1.0, done()))

    def config(self) -> dict[str, Any]:
        """Return the settings, as JSON can hold them."""
        names = ("batch", "chunk", "lr", "final_lr", "max_norm")
        return {name: getattr(self, name) for name in names}

    def state_dict(self) -> dict[str, Array]:
        """Copy what a trainer of the same settings, model and text needs to go on exactly."""
        place = {
            "position": self._position,
            "offset": self._offset,
            "characters": self.characters,
            "seconds": self.seconds,
            "rng": self._rng.bit_generator.state,
        }
        arrays = {"place": np.array(json.dumps(place)), "losses": np.array(self.losses, float)}
        if self._state is not None:
            arrays.update(h=self._state[0].copy(), c=self._state[1].copy())
        return {**arrays, **prefixed("adam.", self.optimizer.state_dict(self.model))}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Go on from a `state_dict`; the model's parameters are loaded on their own."""
        place = json.loads(str(state["place"][()]))
        self.optimizer.load_state_dict(self.model, without_prefix("adam.", state))
        self._rng.bit_generator.state = place["rng"]
        self._start(place["offset"])
        self._position = place["position"]
        self._state = (state["h"].copy(), state["c"].copy()) if "h" in state else None
        self.losses = [float(loss) for loss in state["losses"]]
        self.characters, self.seconds = place["characters"], place["seconds"]

    def _start(self, offset: int) -> None:
        """Cut the text, read in a circle from `offset`, into streams; begin with zero states."""
        rows = len(self.tokens) // self.batch
        kept = rows * self.batch
        text = np.roll(self.tokens, -offset)
        following = np.roll(text, -1)
        self._offset = offset
        self._inputs = np.ascontiguousarray(text[:kept].reshape(self.batch, rows).T)
        self._targets = np.ascontiguousarray(following[:kept].reshape(self.batch, rows).T)
        self._position, self._state = 0, None

    def _rate(self, done: float) -> float:
        rise = min(1.0, (self.updates + 1) / WARMUP_UPDATES)
        fall = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        return self.lr * rise * (self.final_lr + (1.0 - self.final_lr) * fall)
