"""Truncated backpropagation through time over one long text; the state is carried on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._interrupts import uninterrupted
from ..nn import Adam, clip_global_norm
from ._names import prefixed, without_prefix
from .lm import CharLM, State

__all__ = ["DIVERGED", "Trainer"]

Array = NDArray[Any]

# The learning rate rises over these first updates, because Adam's second moment is a poor estimate
# while it comes from few gradients.
WARMUP_UPDATES = 20

# A loss in nats from which no run recovers. A uniform prediction has a loss of ln V: 5 for a
# hundred characters, 9 for ten thousand. A rate that is too high, but that a run can survive, costs
# about 15 for a while.
DIVERGED = 100.0


class Trainer:
    """A model, its optimiser, and a position in the text.

    The text is cut into `batch` streams that are read side by side, `chunk` characters an update.
    Each chunk starts from the state at the end of the chunk before it, and gradients stop at its
    start. Each pass over the text (an epoch) starts at another position, so that streams and chunks
    are cut differently.

    An update is complete or has no effect: after KeyboardInterrupt, or any other error in the
    computation of gradients, the trainer is as it was before the update.

    Parameters
    ----------
    model : CharLM
        The model; it is trained in place.
    tokens : ndarray of int, shape (n,)
        The training text, at least two tokens for each stream.
    batch : int
        Number of streams.
    chunk : int
        Characters of each stream in an update.
    lr : float
        Highest learning rate of Adam.
    final_lr : float
        Share of `lr` at the end of the run; the rate falls to it along a half cosine.
    max_norm : float
        Bound of the global norm of the gradients.
    seed : int, Generator or None
        A seed for the position at which each epoch starts.

    Raises
    ------
    TypeError
        `batch` or `chunk` is not a whole number, or the tokens are not.
    ValueError
        A setting is out of range, a token is not in the alphabet, or the text is too short for the
        batch.

    Examples
    --------
    >>> from fusedrnn import charlm
    >>> text = "to be or not to be " * 10
    >>> model = charlm.CharLM(charlm.Alphabet(text), 8, seed=0)
    >>> trainer = charlm.Trainer(model, model.alphabet.encode(text), batch=2, chunk=8)
    >>> trainer.run(steps=5)
    >>> trainer.updates
    5
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
        for name, number in (("batch", batch), ("chunk", chunk)):
            if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
                raise TypeError(f"{name}: expected a whole number, got {number!r}")
            if number < 1:
                raise ValueError(f"{name}: expected 1 or more, got {number}")
        if not 0 <= final_lr <= 1:
            raise ValueError(f"final_lr: expected a share in [0, 1], got {final_lr}")
        if not max_norm > 0:
            raise ValueError(f"max_norm: expected a number above 0, got {max_norm}")
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
            raise TypeError(
                f"tokens: expected whole numbers of shape (n,), got {tokens.dtype} of shape "
                f"{tokens.shape}"
            )
        if len(tokens) < 2 * batch:
            most = f"; at most {len(tokens) // 2} fit" if len(tokens) >= 2 else ""
            raise ValueError(
                f"batch: {len(tokens):,} characters are too few for {batch:,} streams of two or "
                f"more{most}"
            )
        if tokens.min() < 0 or tokens.max() >= len(model.alphabet):
            raise ValueError(
                f"tokens: expected places in the model's alphabet, [0, {len(model.alphabet)}), got "
                f"{tokens.min()} to {tokens.max()}"
            )
        self.model = model
        self.tokens = tokens
        self.batch = int(batch)
        self.chunk = int(chunk)
        self.lr = float(lr)
        self.final_lr = float(final_lr)
        self.max_norm = float(max_norm)
        self.optimizer = Adam(self.lr)
        self.losses: list[float] = []  # of each update so far, in nats
        self.characters = 0  # read in all updates so far
        self.seconds = 0.0  # spent in all updates so far
        # Always a PCG64, whose state JSON can hold; a PCG64 Generator given as seed is used itself.
        self._rng = np.random.default_rng(seed)
        if not isinstance(self._rng.bit_generator, np.random.PCG64):
            self._rng = np.random.default_rng(int(self._rng.integers(2**63)))
        self._position = 0  # in each stream
        self._state: State | None = None
        self._start(int(self._rng.integers(len(tokens))))

    @property
    def updates(self) -> int:
        """Number of updates so far."""
        return len(self.losses)

    def update(self, done: float) -> float:
        """Learn from the next chunk.

        Parameters
        ----------
        done : float
            Share of the run that is done, in [0, 1]; it sets the learning rate.

        Returns
        -------
        float
            Mean cross-entropy of the chunk in nats, before the update.

        Raises
        ------
        FloatingPointError
            The loss or the gradients are not finite, or the loss is above `DIVERGED`: the run has
            diverged. This update changed nothing.
        """
        began = time.perf_counter()
        tokens, targets = self._next()
        loss, grads, state = self.model.gradients(tokens, targets, self._state)
        norm = clip_global_norm(grads, max_norm=self.max_norm)
        self._refuse_divergence(loss, norm)
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

    def check(self) -> None:
        """Compute the loss of the next chunk without an update, to see the effect of the last one.

        Raises
        ------
        FloatingPointError
            The run has diverged.
        """
        loss = self.model.loss(*self._next(), self._state)
        self._refuse_divergence(loss)

    def run(
        self,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        progress: Callable[[Trainer, float], None] | None = None,
    ) -> None:
        """Make updates until there are `steps`, or until they took `seconds`, over all runs.

        Parameters
        ----------
        steps : int, optional
            Number of updates. The learning rate follows it, so the run is deterministic.
        seconds : float, optional
            Time in updates. The learning rate follows the clock. Give exactly one of the two.
        progress : callable, optional
            Called after each update, with the trainer and the share of the run that is done. It may
            save the trainer.

        Raises
        ------
        KeyboardInterrupt
            At Ctrl-C, at once; the trainer can be saved and continued.
        FloatingPointError
            The run has diverged.
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
        """Copy what a trainer of the same settings, model and text needs to continue exactly."""
        place = {
            "position": self._position,
            "offset": self._offset,
            "characters": self.characters,
            "seconds": self.seconds,
            "rng": self._rng.bit_generator.state,
        }
        arrays = {"place": np.array(json.dumps(place)), "losses": np.array(self.losses, float)}
        if self._state is not None:
            parts = self._state if isinstance(self._state, tuple) else (self._state,)
            for name, part in zip(self.model.state_names, parts, strict=True):
                arrays[name] = part.copy()
        return {**arrays, **prefixed("adam.", self.optimizer.state_dict(self.model))}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Continue from a `state_dict`; the model's parameters are loaded separately.

        Parameters
        ----------
        state : mapping of str to ndarray
            From the `state_dict` of a trainer of the same settings, model and text.

        Raises
        ------
        ValueError
            Names what is missing or not as `state_dict` wrote it; nothing was changed.
        """
        place = _place(state, len(self.tokens), len(self._inputs))
        carried = self._carried(state)
        losses = _array(state, "losses")
        if losses.ndim != 1 or losses.dtype.kind != "f":
            raise ValueError(f"losses: expected floating point of shape (n,), got {losses.dtype}")
        generator = np.random.PCG64()
        try:
            generator.state = place["rng"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"place: rng: not the state of a PCG64 generator: {error}") from error
        self.optimizer.load_state_dict(self.model, without_prefix("adam.", state))
        # Nothing below fails.
        self._rng = np.random.Generator(generator)
        self._start(place["offset"])
        self._position, self._state = place["position"], carried
        self.losses = [float(loss) for loss in losses]
        self.characters, self.seconds = place["characters"], float(place["seconds"])

    def _carried(self, state: Mapping[str, Array]) -> State | None:
        """Return the recurrent state in a `state_dict`; None at the start of an epoch."""
        names = self.model.state_names
        if not any(name in state for name in names):
            return None
        wanted = self.model.dtype, (self.model.num_layers, self.batch, self.model.hidden_size)
        parts = []
        for name in names:
            part = _array(state, name)
            if (part.dtype, part.shape) != wanted:
                raise ValueError(
                    f"{name}: expected {wanted[0]} of shape {wanted[1]}, got {part.dtype} of shape "
                    f"{part.shape}"
                )
            parts.append(part.copy())
        return tuple(parts) if len(parts) > 1 else parts[0]

    def _next(self) -> tuple[Array, Array]:
        """Return tokens and targets of the next chunk."""
        chunk = slice(self._position, self._position + self.chunk)
        return self._inputs[chunk], self._targets[chunk]

    def _refuse_divergence(self, loss: float, norm: float = 0.0) -> None:
        if math.isfinite(loss) and math.isfinite(norm) and loss <= DIVERGED:
            return
        gradient = f", gradient norm {norm:.3g}" if norm else ""
        raise FloatingPointError(
            f"update {self.updates + 1:,}: loss {loss:.3g} nats{gradient}: the run diverged; a "
            "lower learning rate may help"
        )

    def _start(self, offset: int) -> None:
        """Cut the text, read in a circle from `offset`, into streams; start from zero states."""
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


def _array(state: Mapping[str, Any], name: str) -> Array:
    if name not in state:
        raise ValueError(f"{name}: missing")
    return np.asarray(state[name])


def _place(state: Mapping[str, Any], length: int, rows: int) -> dict[str, Any]:
    """Return the position in the text, with each number checked."""
    text = _array(state, "place")
    try:
        place = json.loads(str(text[()]))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"place: expected JSON: {error}") from error
    if not isinstance(place, dict):
        raise ValueError("place: expected a JSON object")
    bounds = {"position": rows, "offset": length, "characters": math.inf, "seconds": math.inf}
    for name, bound in bounds.items():
        value = place.get(name)
        kinds = (int, float) if name == "seconds" else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value < bound:
            kind = "number" if name == "seconds" else "whole number"
            below = "" if bound == math.inf else f" and below {bound:,}"
            raise ValueError(
                f"place: {name}: expected a {kind} of at least 0{below}, got {value!r}"
            )
    if not isinstance(place.get("rng"), dict):
        raise ValueError(f"place: rng: expected a JSON object, got {place.get('rng')!r}")
    return place
