"""An encoder and a decoder as one model: a sequence of tokens from another sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options
from ..layers import GRU, LSTM, RNN, Dense
from . import _checks
from ._batches import Batch, Data, Piece
from ._links import KINDS, Call, Flow, Link, Recurrent, backward, entered, links
from ._model import Model
from ._table import table
from ._training import in_batches
from .attention import Attention
from .embedding import Embedding
from .sampling import sample
from .sequential import KIND as CHAIN
from .sequential import Sequential

__all__ = ["Seq2Seq"]

Array = NDArray[Any]

# Attention: the context and the weights of queries.
Ask: TypeAlias = Callable[[Array], tuple[Array, Array]]

KIND = "nn.Seq2Seq"
PARTS = ("source", "encoder", "target", "decoder", "attention", "output")
OPTIONS = (*PARTS, "start", "end")
NEEDED = ("encoder", "decoder", "output", "start")


class Read(NamedTuple):
    """What the encoder has read, time-major."""

    y: Array  # (S, B, K)
    state: Any  # the first state of the decoder
    call: Call  # with the lengths of the source


@dataclass(frozen=True, eq=False)
class SavedSeq2Seq:
    """What ``Seq2Seq.forward`` kept for ``backward``, which may use it more than once."""

    _model: Seq2Seq
    _shape: tuple[int, ...]  # of y
    _parts: dict[str, list[Any]]  # what the layers of each part saved
    attention: Array | None
    """The attention weights, (B, T, S); None without attention. Read-only."""

    @property
    def nbytes(self) -> int:
        """Bytes kept besides the inputs and outputs of the layers."""
        return sum(one.nbytes for part in self._parts.values() for one in part)


class Seq2Seq(Model):
    """An encoder reads a source, and a decoder says a sequence of tokens of another length.

    The last state of the encoder, the context vector, is the first state of the decoder. In
    training the decoder reads the right tokens (teacher forcing); in `generate` and `predict` it
    reads what it said at the step before. With `attention`, each output of the decoder asks the
    outputs of the encoder, and `output` reads the decoder's and what was found side by side.

    Arrays are batch-major: a source is (B, S) of ids or (B, S, I), and targets are (B, T) of ids.
    Targets do not begin with `start`, which the decoder reads before them. A sequence of targets
    ends with its first `end`, or before its first negative id; what comes after that is padding,
    which may be any number, and neither loss nor metrics count it.

    Parameters
    ----------
    encoder : RNN, LSTM or GRU
        It may have several layers and two directions.
    decoder : RNN, LSTM or GRU
        With as many layers and states as the encoder, in one direction. Its ``hidden_size`` is that
        of the encoder, twice that for an encoder of two directions, whose states are passed side by
        side.
    output : Dense, or Sequential of layers that are not recurrent
        From the decoder's output, or with attention from (decoder's output, context), to a logit
        for each token.
    source : Embedding, optional
        The table of source ids. Without it the encoder reads numbers, or ids as one-hot rows.
    target : Embedding, optional
        The table of target ids. Without it the decoder reads one-hot rows.
    attention : Attention, optional
        Of any kind; queries are outputs of the decoder, keys and values those of the encoder.
    start : int
        The id that the decoder reads first.
    end : int, optional
        The id with which a sequence ends; `start` may serve for both. Without it, `generate` goes
        on up to ``max_length``.

    Raises
    ------
    TypeError
        A part is of another class or of another dtype than the others.
    ValueError
        The sizes of the parts do not fit together, a layer is there twice, or an id is out of
        range; the text names the part.

    Notes
    -----
    Sources: Sutskever, Vinyals and Le, "Sequence to sequence learning with neural networks",
    NeurIPS 2014; attention after the decoder's step as in Luong, Pham and Manning, "Effective
    approaches to attention-based neural machine translation", EMNLP 2015 (global, without input
    feeding), so training runs the decoder over all steps in one call. Their tanh layer is
    ``output=nn.Sequential([nn.Dense(2 * H, H), nn.Activation("tanh"), nn.Dense(H, V)])``.

    `compile`, `fit`, `evaluate`, checkpoints and files are those of `Sequential`. In `fit` the
    `lengths` are those of the source, and `accuracy` is the share of right tokens after right
    tokens. A parameter has the name of its part before its name: "encoder.weight_ih_l0". No bit
    depends on the number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> from fusedrnn import nn
    >>> model = nn.Seq2Seq(
    ...     fr.GRU(8, 16, bidirectional=True, seed=0),
    ...     fr.GRU(8, 32, seed=1),
    ...     nn.Dense(64, 10, seed=2),
    ...     source=nn.Embedding(12, 8, seed=3),
    ...     target=nn.Embedding(10, 8, seed=4),
    ...     attention=nn.Attention("scaled_dot"),
    ...     start=0,
    ...     end=1,
    ... )
    >>> x = np.array([[5, 3, 4, 0], [7, 2, 0, 0]])
    >>> y = np.array([[6, 2, 9, 1, 0, 0], [3, 1, 0, 0, 0, 0]])
    >>> model(x, y, lengths=[3, 2]).shape
    (2, 6, 10)
    >>> history = model.compile("adam", "softmax_cross_entropy").fit(x, y, lengths=[3, 2])
    >>> ids, weights = model.generate(x, [3, 2], max_length=5, return_attention=True)
    >>> ids.shape[0], weights.shape == (*ids.shape, 4)
    (2, True)
    """

    _kind = KIND

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        output: Any,
        *,
        source: Embedding | None = None,
        target: Embedding | None = None,
        attention: Attention | None = None,
        start: int,
        end: int | None = None,
    ) -> None:
        self._reader, self._reads = _side(source, "source", encoder, "encoder")
        self._writer, self._writes = _side(target, "target", decoder, "decoder")
        if decoder.bidirectional:
            raise ValueError(
                "decoder: expected one direction, because later tokens are not known yet, got "
                "bidirectional=True"
            )
        _bridged(encoder, decoder)
        if attention is not None and type(attention) is not Attention:
            raise TypeError(f"attention: expected an nn.Attention, got {_came(attention)}")
        parts = {
            "source": source,
            "encoder": encoder,
            "target": target,
            "decoder": decoder,
            "attention": attention,
            "output": output,
        }
        self._parts = {name: part for name, part in parts.items() if part is not None}
        query, key = self._writes[-1].width, self._reads[-1].width
        assert query is not None
        assert key is not None
        if attention is not None:
            _fits(attention, query, key)
        self._head, flows = _output(output)
        _alone(self._parts)
        width = query if attention is None else query + key
        tokens = target.num_embeddings if target is not None else decoder.input_size
        if (flows[0].width, flows[-1].width) != (width, tokens):
            of = "the decoder's output" if attention is None else "the decoder's and the context"
            raise ValueError(
                f"output: expected a map from {width} numbers ({of}) to {tokens} logits (a token "
                f"each), got one from {flows[0].width} to {flows[-1].width}"
            )
        self.start = _checks.row(start, "start", tokens)
        self.end = None if end is None else _checks.row(end, "end", tokens)
        self._tokens = tokens
        self._training = None

    @property
    def parts(self) -> dict[str, Any]:
        """The parts that there are, by name."""
        return dict(self._parts)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all layers."""
        dtype: np.dtype[Any] = self._parts["encoder"].dtype
        return dtype

    def _options(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {name: self._parts.get(name) for name in PARTS} | {
            "start": self.start,
            "end": self.end,
        }

    def __repr__(self) -> str:
        given = self._options()
        first = [repr(given.pop(name)) for name in ("encoder", "decoder", "output")]
        rest = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        return f"Seq2Seq({', '.join([*first, *rest])})"

    def __getstate__(self) -> dict[str, Any]:
        return self._options()

    def __setstate__(self, state: dict[str, Any]) -> None:
        Seq2Seq.__init__(self, **state)

    # --- calls ------------------------------------------------------------------------------------

    @overload
    def __call__(
        self,
        x: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        return_attention: Literal[False] = False,
    ) -> Array: ...

    @overload
    def __call__(
        self,
        x: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        return_attention: Literal[True],
    ) -> tuple[Array, Array]: ...

    def __call__(
        self,
        x: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        return_attention: bool = False,
    ) -> Array | tuple[Array, Array]:
        """Return the logits of every target, given the targets before it; nothing is saved.

        Parameters
        ----------
        x : array_like, shape (B, S) of int, or (B, S, I)
            The sources: ids, or numbers without a table of the source.
        targets : array_like of int, shape (B, T)
            The right tokens, each sequence up to its first `end` or before its first negative id.
        lengths : array_like of int, shape (B,), optional
            Number of real steps of each source.
        return_attention : bool
            Whether to return the weights too.

        Returns
        -------
        logits : ndarray, shape (B, T, V)
            ``logits[:, t]`` follows from the source, `start` and ``targets[:, :t]``.
        weights : ndarray, shape (B, T, S)
            Only with `return_attention`: how much each output reads of each step of the source;
            zeros at steps that are not real.

        Raises
        ------
        TypeError
            x or the targets are not as above.
        ValueError
            A shape does not fit, an id or a length is out of range, or weights are asked for
            without attention.
        RuntimeError
            Called inside ``with model.writable()``.
        """
        wanted = self._asked(return_attention)
        read = self._encoded(x, lengths)
        ids, real = self._targets(targets, len(_check.read(x, "x")))
        a, call = _steps(ids, self.start), Call(real, state=read.state)
        for link in self._writer:
            a, _ = link.call(a, call)
        a, weights = self._looked(a, self._asking(read))
        y = self._said(a)
        return (y, _mapped(weights, real)) if wanted else y

    def forward(
        self,
        x: ArrayLike,
        targets: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        rng: np.random.Generator | None = None,
        noise: bool = True,
    ) -> tuple[Array, SavedSeq2Seq]:
        """Run the model for training: saves what `backward` needs, draws dropout and noise.

        The other parameters, and errors, are those of calling the model. x must not be written
        before the backward call.

        Parameters
        ----------
        rng : numpy.random.Generator, optional
            Generator of all masks, in the order encoder, decoder, output; if not given, each layer
            that drops takes a new one, whose masks cannot be repeated.
        noise : bool
            If False, nothing is dropped and nothing is drawn from `rng`.

        Returns
        -------
        y : ndarray, shape (B, T, V)
            The logits. Read-only.
        saved : SavedSeq2Seq
            For `backward`; ``saved.attention`` are the attention weights.
        """
        generator = _check_options.rng(rng, rng is not None)
        quiet = Call(None, generator, _check.flag(noise, "noise"))
        parts: dict[str, list[Any]] = {"encoder": [], "decoder": [], "attention": [], "output": []}
        a, real = entered(self._reader[0], self._reads[0], x, lengths)
        batch, call, last = a.shape[1], quiet._replace(lengths=real), None
        for link in self._reader:
            a, last, saved = link.forward(a, call)
            parts["encoder"].append(saved)
        read = Read(a, _joined(last, self._parts["encoder"], self._parts["decoder"]), call)
        ids, ends = self._targets(targets, batch)
        a, call = _steps(ids, self.start), quiet._replace(lengths=ends, state=read.state)
        for link in self._writer:
            a, _, saved = link.forward(a, call)
            parts["decoder"].append(saved)
        a, weights = self._looked(a, self._asking(read, parts["attention"]))
        for link in self._head:
            a, _, saved = link.forward(a, quiet)
            parts["output"].append(saved)
        y, kept = a.swapaxes(0, 1), None
        if weights is not None:
            kept = _mapped(weights, ends)
            kept.flags.writeable = False
        return y, SavedSeq2Seq(self, y.shape, parts, kept)

    def backward(self, saved: SavedSeq2Seq, dy: ArrayLike) -> tuple[Array | None, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : SavedSeq2Seq
            From this model's `forward`; may be used more than once.
        dy : array_like, shape (B, T, V)
            Gradient of the logits, such as ``loss.gradient``.

        Returns
        -------
        dx : ndarray, shape (B, S, I), or None for ids
            Gradient of x.
        gradients : dict of str to ndarray
            Gradients of the parameters, by the names of `params`.

        Raises
        ------
        TypeError
            `saved` is something else, or dy is not floating point.
        ValueError
            The shape of dy does not fit, or `saved` is another model's.
        RuntimeError
            Parameters have changed since the forward call, or are open for writing.
        """
        _check.saved_type(saved, SavedSeq2Seq, "forward()")
        _check.same_layer(saved._model is self)
        d: Array | None = _check.shaped(_check.floating(dy, "dy"), "dy", saved._shape)
        assert d is not None
        found: dict[str, dict[str, Array]] = {}
        d, found["output"] = backward(self._head, saved._parts["output"], d.swapaxes(0, 1))
        assert d is not None
        dread: Array | None = None
        if "attention" in self._parts:
            layer, width = self._parts["attention"], self._writes[-1].width
            kept, dcontext = saved._parts["attention"][0], np.ascontiguousarray(d[..., width:])
            back = layer.backward(kept, _turned(dcontext, layer))
            d = d[..., :width] + _turned(back.dqueries, layer)
            dread = _turned(back.dkeys + back.dvalues, layer)
            found["attention"] = back.dparams
        decoder, encoder = self._writer[-1], self._reader[-1]
        assert isinstance(decoder, Recurrent)
        assert isinstance(encoder, Recurrent)
        of = saved._parts["decoder"]
        d, dstate, found["decoder"] = decoder.backward_all(of[-1], np.ascontiguousarray(d))
        if "target" in self._parts:
            assert d is not None
            _, found["target"] = self._writer[0].backward(of[0], d)
        of, dlast = saved._parts["encoder"], _parted(dstate, encoder.layer, decoder.layer)
        d, _, found["encoder"] = encoder.backward_all(of[-1], dread, dlast)
        if "source" in self._parts:
            assert d is not None
            d, found["source"] = self._reader[0].backward(of[0], d)
        if isinstance(self._parts["output"], Dense):  # not one of several
            found["output"] = {n.partition(".")[2]: g for n, g in found["output"].items()}
        named = {f"{p}.{name}": g for p in self._parts for name, g in found[p].items()}
        return None if d is None else d.swapaxes(0, 1), named

    @overload
    def generate(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        max_length: int = 100,
        temperature: float = 0.0,
        top_k: int | None = None,
        rng: np.random.Generator | None = None,
        return_attention: Literal[False] = False,
    ) -> Array: ...

    @overload
    def generate(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        max_length: int = 100,
        temperature: float = 0.0,
        top_k: int | None = None,
        rng: np.random.Generator | None = None,
        return_attention: Literal[True],
    ) -> tuple[Array, Array]: ...

    def generate(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        max_length: int = 100,
        temperature: float = 0.0,
        top_k: int | None = None,
        rng: np.random.Generator | None = None,
        return_attention: bool = False,
    ) -> Array | tuple[Array, Array]:
        """Say a sequence for each source: each token is chosen and read at the next step.

        Parameters
        ----------
        x, lengths
            As in calling the model.
        max_length : int
            The most tokens to say, at least 1.
        temperature : float
            0, the default, takes the most likely token (greedy decoding), the first of equals.
            Otherwise tokens are drawn from the softmax of logits / temperature.
        top_k : int, optional
            Draw among so many of the most likely tokens, at least 1, as `sample` does.
        rng : numpy.random.Generator, optional
            Generator of the tokens, one number for each sequence and step; if not given a new one.
            Nothing is drawn at temperature 0.
        return_attention : bool
            Whether to return the weights too.

        Returns
        -------
        ids : ndarray of int64, shape (B, T)
            T is the length of the longest sequence, at most `max_length`. Each ends with `end`,
            unless that did not come; shorter ones are filled with `end`.
        weights : ndarray, shape (B, T, S)
            Only with `return_attention`, as in calling the model; zeros after the end.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As calling the model, or a parameter is not as above.
        FloatingPointError
            The logits are not finite, because training diverged.
        """
        wanted = self._asked(return_attention)
        most = _check.integer(max_length, "max_length", 1)
        heat = _checks.not_negative(temperature, "temperature")
        most_likely = None if top_k is None else _check.integer(top_k, "top_k", 1)
        generator = _check_options.rng(rng, heat > 0)
        read = self._encoded(x, lengths)
        batch = read.y.shape[1]
        tokens, state, ask = np.full(batch, self.start), read.state, self._asking(read)
        said, maps, over = [], [], np.zeros(batch, bool)
        for _ in range(most):
            a, call = tokens[None], Call(None, state=state)
            for link in self._writer:
                a, state = link.call(a, call)
            a, weights = self._looked(a, ask)
            logits = self._said(a)[:, 0]
            tokens = sample(logits, temperature=heat, top_k=most_likely, rng=generator)
            if self.end is not None:
                tokens[over] = self.end
            said.append(tokens)
            if weights is not None:
                maps.append(np.where(over[:, None], 0, weights[0]))
            over = over | (tokens == self.end)
            if over.all():
                break
        ids = np.stack(said, axis=1)
        return (ids, np.stack(maps, axis=1)) if wanted else ids

    def predict(
        self,
        x: ArrayLike,
        batch_size: int = 32,
        *,
        lengths: ArrayLike | None = None,
        max_length: int = 100,
    ) -> Array:
        """Say the most likely tokens for each source, batch by batch.

        Parameters
        ----------
        x, lengths
            As in `fit`.
        batch_size : int
            Number of sources for each call.
        max_length : int
            As in `generate`.

        Returns
        -------
        ndarray of int64, shape (N, T)
            As `generate` returns them.

        Raises
        ------
        TypeError, ValueError, RuntimeError, FloatingPointError
            As in `generate`.
        """
        size = _check.integer(batch_size, "batch_size", 1)
        data = self._sources(x, None, lengths)
        found: dict[int, Array] = {}
        for rows in in_batches(data, size):
            part = data.taken(Piece(rows))
            ids = self.generate(part.x, part.lengths, max_length=max_length)
            found |= dict(zip(rows.tolist(), ids, strict=True))
        longest = max(map(len, found.values()))
        whole = np.full((len(data), longest), self.end or 0)
        for k, ids in found.items():
            whole[k, : len(ids)] = ids
        return whole

    # --- parts of a call --------------------------------------------------------------------------

    def _asked(self, return_attention: object) -> bool:
        wanted = _check.flag(return_attention, "return_attention")
        if wanted and "attention" not in self._parts:
            raise ValueError("return_attention: expected False for a model without attention")
        return wanted

    def _encoded(self, x: ArrayLike, lengths: ArrayLike | None) -> Read:
        """Read the sources, for inference."""
        a, real = entered(self._reader[0], self._reads[0], x, lengths)
        call, last = Call(real), None
        for link in self._reader:
            a, last = link.call(a, call)
        return Read(a, _joined(last, self._parts["encoder"], self._parts["decoder"]), call)

    def _targets(self, targets: ArrayLike, batch: int) -> tuple[Array, Array]:
        """Return targets (B, T), padded with `start`, and their lengths."""
        given = _check.read(targets, "targets")
        if given.ndim != 2 or len(given) != batch or not given.shape[1]:
            raise ValueError(
                f"targets: expected shape ({batch}, T), one sequence of ids for each source, got "
                f"{given.shape}"
            )
        real = self._lengths(given, "targets")
        counted = np.arange(given.shape[1]) < real[:, None]
        return _checks.ids(np.where(counted, given, self.start), self._tokens, "targets"), real

    def _lengths(self, targets: Array, name: str) -> Array:
        """Return the number of targets of each sequence."""
        if targets.dtype.kind not in "iu":
            raise TypeError(f"{name}: expected ids (integers), got {_check.describe(targets)}")
        over = targets < 0
        if self.end is not None:  # the end itself counts
            over[:, 1:] |= targets[:, :-1] == self.end
        return np.asarray(np.where(over.any(axis=1), over.argmax(axis=1), over.shape[1]))

    def _asking(self, read: Read, saved: list[Any] | None = None) -> Ask | None:
        """Return attention as a function of queries; `saved` gets what `backward` needs."""
        layer, lengths = self._parts.get("attention"), read.call.lengths
        if layer is None:
            return None
        keys = _turned(read.y, layer)
        if saved is None:
            reader: Ask = layer._reader(keys, keys, lengths)
            return reader

        def ask(queries: Array) -> tuple[Array, Array]:
            context, weights, kept = layer.forward(queries, keys, keys, lengths=lengths)
            saved.append(kept)
            return context, weights

        return ask

    def _looked(self, a: Array, ask: Ask | None) -> tuple[Array, Array | None]:
        """Return what `output` reads, and the weights of attention (T, B, S)."""
        if ask is None:
            return a, None
        layer = self._parts["attention"]
        context, weights = ask(_turned(a, layer))
        return np.concatenate([a, _turned(context, layer)], axis=-1), _turned(weights, layer)

    def _said(self, a: Array) -> Array:
        """Return logits (B, T, V), for inference."""
        for link in self._head:
            a, _ = link.call(a, Call(None))
        y: Array = a.swapaxes(0, 1)
        return y

    # --- training ---------------------------------------------------------------------------------

    def _sources(self, x: object, y: object, lengths: object, where: str = "") -> Data:
        data = Data.read(x, y, lengths, where=where)
        if "source" in self._parts and data.x.dtype.kind in "iu" and data.x.ndim == 2:
            _checks.ids(data.real(), self._parts["source"].num_embeddings, f"{where}x")
        return data

    def _read(self, x: object, y: object, lengths: object, where: str = "") -> Data:
        data = self._sources(x, y, lengths, where)
        assert data.y is not None
        if data.y.ndim != 2 or not data.y.shape[1]:
            raise ValueError(
                f"{where}y: expected shape (N, T), a sequence of ids for each sample, got "
                f"{data.y.shape}"
            )
        ends = self._lengths(data.y, f"{where}y")
        self._usual(data.y, f"{where}y")
        return Data(data.x, data.y, data.lengths, ends)

    def _output(self, data: Data) -> tuple[int, ...]:
        assert data.y is not None
        return (*data.y.shape, self._tokens)

    def _usual(self, y: Array, name: str) -> None:
        """Refuse targets that would teach something else than what their author wants."""
        if self.end is not None and not ((y == self.end) | (y < 0)).any():
            raise ValueError(
                f"{name}: expected sequences that end with end={self.end}, found it in none; "
                "append it to each, before the padding, or make the model with end=None"
            )
        if len(y) > 1 and self.start != self.end and (y[:, 0] == self.start).all():
            raise ValueError(
                f"{name}: expected sequences without start={self.start}, with which all of them "
                "begin; leave it out, because the model reads it before each"
            )

    def _batch(self, data: Data, piece: Piece) -> Batch:
        part = data.taken(piece)
        assert part.y is not None
        assert part.ends is not None
        inputs = {"x": part.x, "targets": part.y, "lengths": part.lengths}
        return Batch(inputs, part.y, part.ends, int(part.ends.sum()), part.weights)

    def _inferred(self, batch: Batch, state: Any) -> tuple[Array, Any]:
        return self(**batch.inputs), None

    def _learned(
        self, batch: Batch, state: Any, rng: np.random.Generator
    ) -> tuple[Array, Any, Any]:
        y, saved = self.forward(**batch.inputs, rng=rng)
        return y, saved, None

    def _gradients(self, saved: Any, dy: Array) -> dict[str, Array]:
        return self.backward(saved, dy)[1]

    # --- files and text ---------------------------------------------------------------------------

    def _named(self) -> dict[str, Any]:
        return {f"{name}.": part for name, part in self._parts.items()}

    def config(self) -> dict[str, Any]:
        """Return every option of the parts, as JSON can hold it, without the parameters.

        Returns
        -------
        dict of str to object
            "kind", which is "nn.Seq2Seq"; the config of each part by its name, None for a part that
            there is not; "start" and "end".
        """
        parts = {name: self._parts.get(name) for name in PARTS}
        return {
            "kind": KIND,
            **{name: None if one is None else one.config() for name, one in parts.items()},
            "start": self.start,
            "end": self.end,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], state: Mapping[str, Any]) -> Seq2Seq:
        """Make the model that `config` and `state_dict` describe.

        Parameters
        ----------
        config : mapping
            From ``model.config()``.
        state : mapping of str to array
            From ``model.state_dict()``.

        Returns
        -------
        Seq2Seq

        Raises
        ------
        TypeError, ValueError
            `config` is of another kind of model, a part cannot be made of it, or the parts do not
            fit together; the text names the part.
        """
        options = _check_options.config(config, KIND, OPTIONS, NEEDED)
        if not isinstance(state, Mapping):
            raise TypeError(
                f"state: expected a mapping of names to arrays, got {_check.describe(state)}"
            )
        states: dict[str, dict[str, Any]] = {name: {} for name in PARTS if options.get(name)}
        for name, value in state.items():
            part, dot, rest = str(name).partition(".")
            if not dot or part not in states:
                raise ValueError(f"state: unexpected {name!r}")
            states[part][rest] = value
        made: dict[str, Any] = {}
        for name, values in states.items():
            one = options[name]
            kind = one.get("kind") if isinstance(one, Mapping) else one
            if not isinstance(kind, str) or kind not in MADE:
                raise ValueError(
                    f"{name}: expected a kind of layer ({', '.join(MADE)}), got {kind!r}"
                )
            try:
                made[name] = MADE[kind].from_config(one, values)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{name}: {error}") from error
        model = cls(**{**options, **made})
        _check.same_cell(getattr(state, "cell", None), model._cell())
        return model

    def summary(self) -> str:
        """Return a table of the parts as text: their outputs and numbers of parameters.

        Returns
        -------
        str
            A row for each part, with the shape of its output for a batch of B sources of S steps
            and T targets, and the number of its parameters; then the sum of these.

        Examples
        --------
        >>> import fusedrnn as fr
        >>> from fusedrnn import nn
        >>> table, output = nn.Embedding(12, 4), nn.Dense(8, 9)
        >>> print(nn.Seq2Seq(fr.LSTM(4, 8), fr.LSTM(9, 8), output, source=table, start=0).summary())
        part                output     parameters
        source (Embedding)  (B, S, 4)          48
        encoder (LSTM)      (B, S, 8)         448
        decoder (LSTM)      (B, T, 8)         608
        output (Dense)      (B, T, 9)          81
        total                               1,185
        """
        widths = {
            "source": self._reads[1].width,
            "encoder": self._reads[-1].width,
            "target": self._writes[1].width,
            "decoder": self._writes[-1].width,
            "attention": self._reads[-1].width,
            "output": self._tokens,
        }
        rows = [
            (
                f"{name} ({type(part).__name__})",
                f"(B, {'S' if name in ('source', 'encoder') else 'T'}, {widths[name]})",
                sum(a.size for a in part.params.values()),
            )
            for name, part in self._parts.items()
        ]
        return table(("part", "output", "parameters"), rows)


# The classes of the parts by the kind in their `config`.
MADE: dict[str, type[Any]] = {**KINDS, "nn.Attention": Attention, CHAIN: Sequential}


# --- how parts fit together ---------------------------------------------------------------------


def _came(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else _check.describe(value)


def _side(
    table: object, of_table: str, layer: object, of_layer: str
) -> tuple[list[Link], list[Flow]]:
    """Return the links of a recurrent layer and the table before it, and what flows."""
    if table is not None and type(table) is not Embedding:
        raise TypeError(f"{of_table}: expected an nn.Embedding or None, got {_came(table)}")
    if type(layer) not in (RNN, LSTM, GRU):
        raise TypeError(f"{of_layer}: expected an RNN, LSTM or GRU, got {_came(layer)}")
    if table is None:
        return links([layer], [of_layer])
    return links([table, layer], [of_table, of_layer])


def _output(output: object) -> tuple[list[Link], list[Flow]]:
    """Return the links of the output layers, and what flows."""
    if type(output) not in (Dense, Sequential):
        raise TypeError(f"output: expected an nn.Dense or nn.Sequential, got {_came(output)}")
    layers = output.layers if isinstance(output, Sequential) else (output,)
    chain, flows = links(list(layers), [f"output.layers[{k}]" for k in range(len(layers))])
    for k, link in enumerate(chain):
        if link.sequences is not None or link.integers:
            raise ValueError(
                f"output.layers[{k}]: expected a layer that works on each step by itself, got "
                f"{type(link.layer).__name__}"
            )
    return chain, flows


def _alone(parts: Mapping[str, Any]) -> None:
    """Refuse layers of several dtypes, and a layer that is there twice."""
    seen: dict[int, str] = {}
    dtype = parts["encoder"].dtype
    for name, part in parts.items():
        for layer in part.layers if isinstance(part, Sequential) else (part,):
            first = seen.setdefault(id(layer), name)
            if first != name:
                raise ValueError(f"{name}: is {first} once more; make a layer for each")
        if part.dtype != dtype:
            raise TypeError(
                f"{name}: is of {part.dtype}, and encoder of {dtype}; give all layers the same "
                "dtype="
            )


def _state_sizes(layer: Any) -> list[tuple[int, ...]]:
    """Return the size of each state of each layer, both directions together."""
    hidden = layer.hidden_size
    sizes = [hidden] * layer.num_layers if isinstance(hidden, int) else list(hidden)
    both = 2 if layer.bidirectional else 1
    cells = isinstance(layer, LSTM)
    return [(both * (layer.proj_size or n), *([both * n] if cells else [])) for n in sizes]


def _bridged(encoder: Any, decoder: Any) -> None:
    """Refuse a decoder that cannot begin with the last state of the encoder."""
    gives, takes = _state_sizes(encoder), _state_sizes(decoder)
    if gives == takes:
        return
    both = ", both directions side by side" if encoder.bidirectional else ""
    if len(gives) != len(takes):
        raise ValueError(
            f"decoder: expected as many layers as the encoder has, {len(gives)}, got {len(takes)}"
        )
    if len(gives[0]) != len(takes[0]):
        raise ValueError(
            "decoder: expected the kind of states that the encoder has: an LSTM with an LSTM, RNN "
            f"and GRU with each other, got {type(encoder).__name__} and {type(decoder).__name__}"
        )
    raise ValueError(
        f"decoder: expected states of the sizes {_sizes(gives)}, which the encoder gives{both}, "
        f"got {_sizes(takes)}"
    )


def _sizes(layers: list[tuple[int, ...]]) -> list[Any]:
    return [one[0] if len(set(one)) == 1 else one for one in layers]


def _fits(attention: Attention, query: int, key: int) -> None:
    """Refuse attention of other sizes than the outputs of decoder and encoder."""
    expected = (attention.query_size, attention.key_size)
    if expected == (None, None):
        if query != key:
            raise ValueError(
                f"attention: kind {attention.kind!r} compares the decoder's {query} numbers with "
                f"the encoder's {key}; give both one size, or take kind 'general' or 'additive'"
            )
    elif expected != (query, key):
        raise ValueError(
            f"attention: expected query_size={query}, of the decoder's output, and key_size={key}, "
            f"of the encoder's, got {expected[0]} and {expected[1]}"
        )


# --- states and arrays ----------------------------------------------------------------------------


def _layered(state: Any, layer: Any) -> list[list[Array]]:
    """Return each state as a list with an array (D, B, P) for each layer."""
    both = 2 if layer.bidirectional else 1
    found = []
    for a in state if isinstance(layer, LSTM) else (state,):
        if isinstance(a, np.ndarray):
            a = list(a.reshape(layer.num_layers, both, *a.shape[1:]))
        found.append(list(a))
    return found


def _formed(states: list[list[Array]], layer: Any) -> Any:
    """Return what `_layered` took apart, as the layer takes it."""
    joined = isinstance(layer.hidden_size, int)
    formed = [np.concatenate(one) if joined else one for one in states]
    return tuple(formed) if isinstance(layer, LSTM) else formed[0]


def _joined(state: Any, encoder: Any, decoder: Any) -> Any:
    """Return the last state of the encoder as the first one of the decoder."""
    found = _layered(state, encoder)
    return _formed(
        [[np.concatenate(list(a), axis=-1)[None] for a in one] for one in found], decoder
    )


def _parted(dstate: Any, encoder: Any, decoder: Any) -> Any:
    """Return the gradient of the decoder's first state as that of the encoder's last one."""
    both = 2 if encoder.bidirectional else 1
    found = _layered(dstate, decoder)
    return _formed(
        [[np.stack(np.split(a[0], both, axis=-1)) for a in one] for one in found], encoder
    )


def _turned(a: Array, layer: Any) -> Array:
    """Return a view of a time-major array in the layer's layout, or back."""
    return a.swapaxes(0, 1) if layer.batch_first else a


def _steps(ids: Array, start: int) -> Array:
    """Return what the decoder reads (T, B): `start`, then each target but the last."""
    found = np.empty(ids.shape[::-1], ids.dtype)
    found[0], found[1:] = start, ids[:, :-1].T
    return found


def _mapped(weights: Array | None, real: Array) -> Array:
    """Return attention weights batch-major, with zeros at steps that do not count."""
    assert weights is not None
    counted = np.arange(len(weights)) < real[:, None]
    return np.asarray(np.where(counted[..., None], weights.swapaxes(0, 1), weights.dtype.type(0)))
