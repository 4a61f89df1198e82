"""A character-level language model: tokens into recurrent layers, their output into Dense."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import GRU, LSTM, RNN
from ..nn import Dense, softmax_cross_entropy
from ..nn._model_params import ModelParameters
from ._names import prefixed, without_prefix
from .corpus import Alphabet

__all__ = ["CELLS", "CharLM", "Gradients", "State"]

Array = NDArray[Any]
# A state of the recurrent layers: h, or for LSTM a pair (h, c).
State = Any

KIND = "charlm.CharLM"
# The classes of layers, by the name of their cell.
LAYERS = {"rnn_tanh": RNN, "lstm": LSTM, "gru": GRU}
CELLS = tuple(LAYERS)

# Rows of y that pass through the dense layer at once in `bits`; this limits its memory.
EVALUATED_ROWS = 16_384

# Tokens of a piece of text that are read before its first prediction counts, in `bits`.
WARM_UP = 512


class Gradients(NamedTuple):
    """The results of one chunk of text, forward and backward.

    Attributes
    ----------
    loss : float
        Mean cross-entropy in nats.
    grads : dict of str to ndarray
        By the names of `CharLM.params`.
    state : ndarray, or for LSTM a pair (h, c)
        The state after the chunk.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import charlm
    >>> model = charlm.CharLM(charlm.Alphabet("abc"), 8, seed=0)
    >>> tokens = np.array([[0], [1], [2], [0]])  # (T, B)
    >>> loss, gradients, (h, c) = model.gradients(tokens[:-1], tokens[1:])
    >>> sorted(gradients) == sorted(model.params), h.shape
    (True, (1, 1, 8))
    """

    loss: float
    grads: dict[str, Array]
    state: State


class CharLM:
    """Predict the next character: recurrent layers over one-hot characters, then Dense.

    Parameters
    ----------
    alphabet : Alphabet
        The V characters, at least one.
    hidden_size : int
        H, the size of the recurrent layers' state, at least 1.
    cell : str
        "lstm", "gru" or "rnn_tanh".
    num_layers : int
        Number of recurrent layers in the stack, at least 1.
    dtype : dtype
        float32 or float64.
    seed : int, Generator or None
        A seed for `numpy.random.default_rng`.

    Attributes
    ----------
    recurrent : LSTM, GRU or RNN
        Maps tokens to (T, B, H).
    dense : Dense
        Maps that to the logits (T, B, V).

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    One initial value differs from the layers' defaults: ``weight_ih_l0`` is uniform in +-2. A
    one-hot input selects one column of it, like an embedding. Its entries should have the size at
    which the gates work, and not that of 1/sqrt(H).

    Examples
    --------
    >>> from fusedrnn import charlm
    >>> text = "to be or not to be, that is the question. " * 20
    >>> corpus = charlm.Corpus.of(text)
    >>> model = charlm.CharLM(charlm.Alphabet(text), 32, cell="gru", seed=0)
    >>> tokens = model.alphabet.encode(text[: corpus.split])
    >>> trainer = charlm.Trainer(model, tokens, batch=8, chunk=16, seed=0)
    >>> trainer.run(steps=120)
    >>> model.bits(model.alphabet.encode(text[corpus.split :]), context=tokens) < 0.2
    True
    >>> "".join(charlm.generate(model, "to be ", 6, temperature=0))
    'or not'
    """

    def __init__(
        self,
        alphabet: Alphabet,
        hidden_size: int,
        *,
        cell: str = "lstm",
        num_layers: int = 1,
        dtype: DTypeLike = np.float32,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        if not isinstance(alphabet, Alphabet):
            raise TypeError(f"alphabet: expected an Alphabet, got {type(alphabet).__name__}")
        if not len(alphabet):
            raise ValueError("alphabet: expected at least one character, got none")
        if cell not in CELLS:  # a tuple: an unhashable `cell` would be a TypeError in a dict
            raise ValueError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
        rng = np.random.default_rng(seed)
        self.alphabet = alphabet
        self.cell = cell
        self.recurrent: Any = LAYERS[cell](
            len(alphabet), hidden_size, num_layers, dtype=dtype, seed=rng
        )
        self.dense = Dense(hidden_size, len(alphabet), dtype=dtype, seed=rng)
        with self.recurrent.writable() as p:
            p["weight_ih_l0"] = rng.uniform(-2.0, 2.0, p["weight_ih_l0"].shape)

    def __repr__(self) -> str:
        return (
            f"<CharLM: {len(self.alphabet)} characters, {self.cell}, {self.num_layers} x "
            f"{self.hidden_size} units, {self.dtype.name}>"
        )

    @property
    def hidden_size(self) -> int:
        """H."""
        return int(self.recurrent.hidden_size)

    @property
    def num_layers(self) -> int:
        """Number of recurrent layers."""
        return int(self.recurrent.num_layers)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.dense.dtype

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states that are carried from chunk to chunk: h, or h and c."""
        return ("h", "c") if isinstance(self.recurrent, LSTM) else ("h",)

    @property
    def params(self) -> ModelParameters[CharLM]:
        """The parameters; names of the recurrent layers begin with "recurrent.", else "dense."."""
        return ModelParameters(
            self, {"recurrent.": self.recurrent.params, "dense.": self.dense.params}
        )

    @property
    def parameter_count(self) -> int:
        """Number of learned numbers."""
        return sum(array.size for array in self.params.values())

    @contextmanager
    def writable(self) -> Iterator[ModelParameters[CharLM]]:
        """Open the parameters for changes in place, by the names of `params`."""
        with ExitStack() as stack:
            recurrent = stack.enter_context(self.recurrent.writable())
            dense = stack.enter_context(self.dense.writable())
            yield ModelParameters(self, {"recurrent.": recurrent, "dense.": dense})

    def gradients(self, tokens: Array, targets: Array, state: State | None = None) -> Gradients:
        """Run a chunk forward and backward; the gradient stops at the start of the chunk.

        Parameters
        ----------
        tokens, targets : ndarray of int, shape (T, B)
            Each target is the token that follows.
        state : ndarray, or for LSTM a pair, shapes (L, B, H)
            The state after the chunk before; None is zeros.

        Returns
        -------
        Gradients
        """
        y, after, of_recurrent = self.recurrent.forward(None, state, tokens=tokens)
        logits, of_dense = self.dense.forward(y)
        loss = softmax_cross_entropy(logits, targets)
        dy, dense = self.dense.backward(of_dense, loss.gradient)
        _, _, recurrent = self.recurrent.backward(of_recurrent, dy)
        grads = {**prefixed("recurrent.", recurrent), **prefixed("dense.", dense)}
        return Gradients(loss.value, grads, after)

    def loss(self, tokens: Array, targets: Array, state: State | None = None) -> float:
        """Return the mean cross-entropy of a chunk in nats, as in `gradients`.

        Parameters
        ----------
        tokens, targets : ndarray of int, shape (T, B)
            Each target is the token that follows.
        state : ndarray, or for LSTM a pair, shapes (L, B, H)
            The state after the chunk before; None is zeros.

        Returns
        -------
        float
        """
        y, _ = self.recurrent(None, state, tokens=tokens)
        return softmax_cross_entropy(self.dense(y), targets).value

    def bits(self, tokens: Array, *, context: Array | None = None, streams: int = 32) -> float:
        """Return the bits per character of a text under the model.

        Parameters
        ----------
        tokens : ndarray of int, shape (n,)
            The text; every token of it is predicted once.
        context : ndarray of int, shape (m,), optional
            The text before it; without it the first token is given and not predicted.
        streams : int
            With 512 or more tokens of context the text is cut into up to this many pieces, which
            are read side by side. Each is read from 512 tokens before its start, so every
            prediction has its past.

        Returns
        -------
        float
            Mean of -log2 p; NaN if nothing is predicted.
        """
        tokens = _tokens(tokens, "tokens")
        before = tokens[:0] if context is None else _tokens(context, "context")[-WARM_UP:]
        text = np.concatenate([before, tokens])
        first = max(len(before), 1)  # the first predicted position
        count = len(text) - first
        if count < 1:
            return math.nan
        warm = min(WARM_UP, first)
        pieces = max(1, min(streams, count // (2 * WARM_UP))) if warm == WARM_UP else 1
        length = -(-count // pieces)
        # One column for each piece: the positions that it predicts, after its warm-up. The last
        # piece may end after the text.
        begins = first + length * np.arange(pieces)
        places = begins + np.arange(1 - warm, length)[:, None]
        padded = np.pad(text, (0, begins[-1] + length - len(text)))
        counted = (places >= begins) & (places < len(text))

        total, state = 0.0, None
        rows = max(1, EVALUATED_ROWS // pieces)
        for start in range(0, len(places), rows):
            chunk = places[start : start + rows]
            y, state = self.recurrent(None, state, tokens=padded[chunk - 1])
            keep = counted[start : start + rows]
            if keep.any():
                loss = softmax_cross_entropy(self.dense(y[keep]), padded[chunk[keep]])
                total += loss.value * int(keep.sum())
        return total / count / math.log(2.0)

    def config(self) -> dict[str, Any]:
        """Return every option of the model, as JSON can hold it, without the parameters.

        Returns
        -------
        dict of str to object
            "kind", which is "charlm.CharLM", the characters of the alphabet as "alphabet", and the
            keywords of the constructor except `seed`, with the dtype by name.
        """
        return {
            "kind": KIND,
            "alphabet": self.alphabet.characters,
            "hidden_size": self.hidden_size,
            "cell": self.cell,
            "num_layers": self.num_layers,
            "dtype": self.dtype.name,
        }

    def state_dict(self) -> dict[str, Array]:
        """Copy the parameters, by the names of `params`."""
        return {name: array.copy() for name, array in self.params.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set all parameters.

        Parameters
        ----------
        state : mapping of str to ndarray
            From `state_dict`.

        Raises
        ------
        ValueError
            Lists what is missing, unexpected or of the wrong shape or type; nothing was changed.
        """
        shapes = {name: array.shape for name, array in self.params.items()}
        given = {name: np.asarray(value) for name, value in state.items()}
        wrong = [f"missing {name!r}" for name in shapes if name not in given]
        wrong += [f"unexpected {name!r}" for name in given if name not in shapes]
        for name in shapes.keys() & given.keys():
            a = given[name]
            if a.shape != shapes[name] or a.dtype.kind != "f":
                wrong.append(
                    f"{name}: expected floating point of shape {shapes[name]}, got {a.dtype} "
                    f"of shape {a.shape}"
                )
        if wrong:
            raise ValueError(f"state: {'; '.join(wrong)}; nothing was changed")
        self.recurrent.load_state_dict(without_prefix("recurrent.", given))
        self.dense.load_state_dict(without_prefix("dense.", given))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], state: Mapping[str, Any]) -> CharLM:
        """Make the model that `config` and `state_dict` describe.

        Parameters
        ----------
        config : mapping
            From ``model.config()``; missing options have their defaults.
        state : mapping of str to array
            From ``model.state_dict()``.

        Returns
        -------
        CharLM

        Raises
        ------
        TypeError, ValueError
            `config` is of another kind of model, lacks the alphabet or the size or has an unknown
            option; an option or `state` is not as the constructor or `load_state_dict` take them.
        """
        options = dict(config)
        kind = options.pop("kind", None)
        if kind != KIND:
            raise ValueError(f"config: expected that of a model of kind {KIND!r}, got {kind!r}")
        known = ("alphabet", "hidden_size", "cell", "num_layers", "dtype")
        wrong = [f"missing {name!r}" for name in known[:2] if name not in options]
        wrong += [f"unknown {name!r}" for name in options if name not in known]
        if wrong:
            raise ValueError(f"config: expected the options of CharLM; {'; '.join(wrong)}")
        alphabet = _alphabet(options.pop("alphabet"))
        model = cls(alphabet, **options, seed=0)  # these parameters are replaced
        model.load_state_dict(state)
        return model


def _tokens(value: object, name: str) -> Array:
    tokens = np.asarray(value)
    if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
        raise TypeError(
            f"{name}: expected whole numbers of shape (n,), got {tokens.dtype} of shape "
            f"{tokens.shape}"
        )
    return tokens


def _alphabet(characters: object) -> Alphabet:
    """Return the alphabet of a config; its order gives the token of each character."""
    if not isinstance(characters, str):
        raise TypeError(f"alphabet: expected a text, got {type(characters).__name__}")
    alphabet = Alphabet(characters)
    if alphabet.characters != characters:
        raise ValueError("alphabet: expected distinct characters in the order of their code points")
    return alphabet
