"""A character-level language model: tokens into an LSTM, its output through a dense layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..layers import LSTM, Dense
from .corpus import Alphabet
from .losses import softmax_cross_entropy
from .persist import prefixed, without_prefix

__all__ = ["CharLM", "Gradients"]

Array = NDArray[Any]
State = tuple[Array, Array]

# Rows of y that pass through the dense layer at once in `bits`: bounds its memory.
EVALUATED_ROWS = 16_384

# Tokens that a piece of text is read before its first prediction counts, in `bits`.
WARM_UP = 512


class Gradients(NamedTuple):
    """One chunk of text, forward and backward.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats.
    grads : dict of str to ndarray
        By the names of `CharLM.params`.
    state : pair of ndarray
        ``(h_n, c_n)`` after the chunk.
    """

    loss: float
    grads: dict[str, Array]
    state: State


class CharLM:
    """Predict the next character: LSTM over one-hot characters, then Dense to the alphabet.

    Parameters
    ----------
    alphabet : Alphabet
        The characters; V of them.
    hidden_size : int
        H, the size of the LSTM's state.
    dtype : dtype
        float32 or float64.
    seed : int, Generator or None
        What `numpy.random.default_rng` takes.

    Notes
    -----
    One initial value differs from the layers' defaults: ``weight_ih_l0`` is uniform in +-2. A
    one-hot input reads one column of it, as an embedding whose entries ought to be of the size
    that the gates work at, and not of 1/sqrt(H).
    """

    def __init__(
        self,
        alphabet: Alphabet,
        hidden_size: int,
        *,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.alphabet = alphabet
        self.lstm = LSTM(len(alphabet), hidden_size, dtype=dtype, seed=rng)
        self.dense = Dense(hidden_size, len(alphabet), dtype=dtype, seed=rng)
        with self.lstm.writable() as p:
            p["weight_ih_l0"] = rng.uniform(-2.0, 2.0, p["weight_ih_l0"].shape)

    @property
    def params(self) -> dict[str, Array]:
        """Read-only arrays by name: the LSTM's after "lstm.", the dense layer's after "dense."."""
        return {**prefixed("lstm.", self.lstm.params), **prefixed("dense.", self.dense.params)}

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned."""
        return sum(array.size for array in self.params.values())

    @contextmanager
    def writable(self) -> Iterator[dict[str, Array]]:
        """Open the parameters for change in place, by the names of `params`."""
        with ExitStack() as stack:
            lstm = stack.enter_context(self.lstm.writable())
            dense = stack.enter_context(self.dense.writable())
            yield {**prefixed("lstm.", lstm), **prefixed("dense.", dense)}

    def gradients(self, tokens: Array, targets: Array, state: State | None = None) -> Gradients:
        """Run a chunk forward and backward; the gradient stops at the chunk's beginning.

        Parameters
        ----------
        tokens, targets : ndarray of int, shape (T, B)
            Each target is the token that follows.
        state : pair of ndarray, shapes (1, B, H)
            Carried from the chunk before; None is zeros.

        Returns
        -------
        Gradients
        """
        y, after, of_lstm = self.lstm.forward(None, state, tokens=tokens)
        logits, of_dense = self.dense.forward(y)
        loss = softmax_cross_entropy(logits, targets)
        dy, dense = self.dense.backward(of_dense, loss.gradient)
        _, _, lstm = self.lstm.backward(of_lstm, dy)
        grads = {**prefixed("lstm.", lstm), **prefixed("dense.", dense)}
        return Gradients(loss.value, grads, after)

    def bits(self, tokens: Array, *, context: Array | None = None, streams: int = 32) -> float:
        """Bits per character of a text under the model.

        Parameters
        ----------
        tokens : ndarray of int, shape (n,)
            The text; every token of it is predicted once.
        context : ndarray of int, shape (m,), optional
            What came before; without it the first token is not predicted but given.
        streams : int
            With 512 tokens of context or more the text is cut into up to this many pieces, read
            side by side, each from 512 tokens before its beginning: no prediction lacks its past.

        Returns
        -------
        float
            Mean of -log2 p; NaN where nothing is predicted.
        """
        before = tokens[:0] if context is None else context[-WARM_UP:]
        text = np.concatenate([before, tokens])
        first = max(len(before), 1)  # the first predicted place
        count = len(text) - first
        if count < 1:
            return math.nan
        warm = min(WARM_UP, first)
        pieces = max(1, min(streams, count // (2 * WARM_UP))) if warm == WARM_UP else 1
        length = -(-count // pieces)
        # One column for each piece: the places it predicts, warm-up first. The last piece may end
        # after the text.
        begins = first + length * np.arange(pieces)
        places = begins + np.arange(1 - warm, length)[:, None]
        padded = np.pad(text, (0, begins[-1] + length - len(text)))
        counted = (places >= begins) & (places < len(text))

        total, state = 0.0, None
        rows = max(1, EVALUATED_ROWS // pieces)
        for start in range(0, len(places), rows):
            chunk = places[start : start + rows]
            y, state = self.lstm(None, state, tokens=padded[chunk - 1])
            keep = counted[start : start + rows]
            if keep.any():
                loss = softmax_cross_entropy(self.dense(y[keep]), padded[chunk[keep]])
                total += loss.value * int(keep.sum())
        return total / count / math.log(2.0)

    def config(self) -> dict[str, Any]:
        """Return what JSON needs to hold to build the model again, without its parameters."""
        return {
            "kind": "CharLM",
            "alphabet": self.alphabet.characters,
            "hidden_size": self.lstm.hidden_size,
            "dtype": np.dtype(self.lstm.dtype).name,
        }

    def state_dict(self) -> dict[str, Array]:
        """Copy the parameters, by the names of `params`."""
        return {name: array.copy() for name, array in self.params.items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take parameters from a `state_dict`."""
        self.lstm.load_state_dict(without_prefix("lstm.", state))
        self.dense.load_state_dict(without_prefix("dense.", state))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], state: Mapping[str, Array]) -> CharLM:
        """Build the model of a `config` and a `state_dict`.

        Raises
        ------
        ValueError
            If the configuration describes another kind of model.
        """
        if config.get("kind") != "CharLM":
            raise ValueError(f"kind: expected 'CharLM', got {config.get('kind')!r}")
        model = cls(Alphabet(config["alphabet"]), config["hidden_size"], dtype=config["dtype"])
        model.load_state_dict(state)
        return model
