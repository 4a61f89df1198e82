"""Attention: each query reads a mean of values, weighted by how well their keys fit it.

Every sequence of a batch is computed by itself and up to its length, so no number of a sequence
depends on the others or on what its padding holds. Inside, arrays are batch-major.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import core
from .._cells import CELLS
from .._checks import arguments as _check
from .._checks import options as _check_options
from .._layers.params import Part
from . import _checks
from ._layer import OptionsLayer, Saved, flat_rows, read_only
from ._product import of_weights, summed, times
from .activation import softmax, softmax_back

__all__ = ["Attention", "AttentionGradients"]

Array = NDArray[Any]
Rows = _check_options.Rows

# The kinds, and the sizes that the constructor takes for each.
KINDS: dict[str, tuple[str, ...]] = {
    "dot": (),
    "scaled_dot": (),
    "general": ("query_size", "key_size"),
    "additive": ("query_size", "key_size", "hidden_size"),
}


class AttentionGradients(NamedTuple):
    """The results of `Attention.backward`.

    Attributes
    ----------
    dqueries, dkeys, dvalues : ndarray
        Gradients of the arguments of `forward`, of their shapes; exactly 0 at keys and values that
        `lengths` leaves out.
    dparams : dict of str to ndarray
        Gradients of the parameters, by their names; empty if the layer has none.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> attention = nn.Attention("dot")
    >>> keys = np.ones((6, 2, 3), np.float32)  # (Tk, B, K)
    >>> context, weights, saved = attention.forward(keys[:1], keys, keys, lengths=[6, 2])
    >>> gradients = attention.backward(saved, np.ones_like(context))
    >>> gradients.dvalues.shape, float(gradients.dvalues[2:, 1].max()), gradients.dparams
    ((6, 2, 3), 0.0, {})
    """

    dqueries: Array
    dkeys: Array
    dvalues: Array
    dparams: dict[str, Array]


class Given(NamedTuple):
    """The arguments of a call, batch-major and contiguous; padding of keys and values is zeros."""

    queries: Array  # (B, Tq, Q)
    keys: Array  # (B, Tk, K)
    values: Array  # (B, Tk, V)
    lengths: list[int]  # of the keys
    asked: Rows  # the layout of what has Tq steps
    read: Rows  # the layout of what has Tk steps


class Kept(NamedTuple):
    """What `backward` needs."""

    given: Given
    queries: Array  # what the scores are made of: (B, Tq, n)
    keys: Array  # (B, Tk, n)
    weights: Array  # (B, Tq, Tk)


class Attention(OptionsLayer):
    """Attention: ``context = sum_k weights_k values_k`` for each query, with softmax weights.

    ============  =================================  =======================================
    kind          score of query q and key k         parameters
    ============  =================================  =======================================
    "dot"         q . k                              none; Q = K
    "scaled_dot"  q . k / sqrt(Q)                    none; Q = K
    "general"     q . (W k)                          ``weight`` W (Q, K)
    "additive"    v . tanh(W q + U k)                ``weight_query`` W (A, Q), ``weight_key``
                                                     U (A, K), ``weight_score`` v (1, A)
    ============  =================================  =======================================

    Parameters
    ----------
    kind : str
        The score, as above.
    query_size, key_size : int, optional
        Q and K, each at least 1; for "general" and "additive", and only for these.
    hidden_size : int, optional
        A, at least 1; for "additive", and only for this.
    batch_first : bool
        Whether queries, keys, values, context and weights are (B, T, ...).
    dtype : dtype
        float32 or float64.
    seed : optional
        A seed for ``numpy.random.default_rng``; each matrix is drawn uniformly from
        +-1/sqrt(its number of columns).

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    Sources: "additive": Bahdanau, Cho and Bengio, "Neural machine translation by jointly learning
    to align and translate", ICLR 2015. "dot", "general": Luong, Pham and Manning, "Effective
    approaches to attention-based neural machine translation", EMNLP 2015. "scaled_dot": Vaswani et
    al., "Attention is all you need", NeurIPS 2017.

    The products run on the kernels. The bits of a sequence depend neither on the number of threads,
    nor on the other sequences of the batch, nor on padding. "additive" holds Tq * Tk * A numbers of
    one sequence at a time, and computes them again in `backward`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> attention = nn.Attention("additive", query_size=3, key_size=4, hidden_size=5, seed=0)
    >>> rng = np.random.default_rng(0)
    >>> queries, keys = rng.standard_normal((2, 2, 3)), rng.standard_normal((6, 2, 4))
    >>> context, weights, saved = attention.forward(queries, keys, keys, lengths=[6, 2])
    >>> context.shape, weights.shape  # (Tq, B, V), (Tq, B, Tk)
    ((2, 2, 4), (2, 2, 6))
    >>> bool(np.allclose(weights.sum(axis=-1), 1)), weights[0, 1, 2:]  # the second has two keys
    (True, array([0., 0., 0., 0.], dtype=float32))
    >>> gradients = attention.backward(saved, np.ones((2, 2, 4)))
    >>> sorted(gradients.dparams)
    ['weight_key', 'weight_query', 'weight_score']
    """

    _kind = "nn.Attention"
    _needed = ("kind",)
    _usual: ClassVar = {
        "query_size": None,
        "key_size": None,
        "hidden_size": None,
        "batch_first": False,
        "dtype": "float32",
    }
    _in_config: ClassVar = {"kind": "score"}  # "kind" is the class there
    _drawn = True

    def __init__(
        self,
        kind: str,
        query_size: int | None = None,
        key_size: int | None = None,
        hidden_size: int | None = None,
        *,
        batch_first: bool = False,
        dtype: DTypeLike = np.float32,
        seed: object = None,
    ) -> None:
        self.dtype = _check.float_dtype(dtype)
        self.kind = _check.choice(kind, "kind", tuple(KINDS))
        self.query_size = _size(query_size, "query_size", self.kind)
        self.key_size = _size(key_size, "key_size", self.kind)
        self.hidden_size = _size(hidden_size, "hidden_size", self.kind)
        self.batch_first = _check.flag(batch_first, "batch_first")
        q, k, a = self.query_size or 0, self.key_size or 0, self.hidden_size or 0
        _checks.matrix(self.dtype, query_size=q, key_size=k)
        _checks.matrix(self.dtype, hidden_size=a, query_size=q)
        _checks.matrix(self.dtype, hidden_size=a, key_size=k)
        columns = [shape[1] for shape in self._matrices().values()]
        self._adopt(self._draw([1 / math.sqrt(n) for n in columns], seed))

    def _matrices(self) -> dict[str, tuple[int, int]]:
        """Return the shape of each parameter by name."""
        q, k, a = self.query_size or 0, self.key_size or 0, self.hidden_size or 0
        if self.kind == "general":
            return {"weight": (q, k)}
        if self.kind == "additive":
            return {"weight_query": (a, q), "weight_key": (a, k), "weight_score": (1, a)}
        return {}

    def _parts(self) -> list[list[Part]]:
        spec = CELLS["dense"]
        return [
            [Part(spec, {"w_ih": shape}, {"w_ih": name})]
            for name, shape in self._matrices().items()
        ]

    def __call__(
        self,
        queries: ArrayLike,
        keys: ArrayLike,
        values: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, Array]:
        """Attend, for inference: nothing is saved.

        Parameters
        ----------
        queries : array_like, shape (Tq, B, Q)
            Floating point, as keys and values; converted to the layer's dtype. None of the three
            has a batch axis, or all have one, which is the first one with ``batch_first``.
        keys : array_like, shape (Tk, B, K)
            What the queries are compared with.
        values : array_like, shape (Tk, B, V)
            What is read; for an encoder's outputs the same array as `keys`.
        lengths : array_like of int, shape (B,), optional
            The number of keys of each sequence; the others are not read. A single number without a
            batch axis.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        context : ndarray, shape (Tq, B, V)
            Zeros for a sequence without keys.
        weights : ndarray, shape (Tq, B, Tk)
            At least 0; their sum over the keys is 1, or 0 without keys.

        Raises
        ------
        TypeError
            Queries, keys or values are not floating point, or `lengths` are not integers.
        ValueError
            A shape does not fit, or a length is out of range.
        RuntimeError
            Called inside ``with layer.writable()``.
        """
        packs = self._read().packs
        threads = _threads(num_threads)
        given = self._given(queries, keys, values, lengths)
        context, weights, _ = self._attend(packs, given, threads)
        return context, weights

    def forward(
        self,
        queries: ArrayLike,
        keys: ArrayLike,
        values: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, Array, Saved[Kept]]:
        """Attend and save what `backward` needs.

        Parameters and errors are those of calling the layer. Queries, keys and values must not be
        written before the backward call.

        Returns
        -------
        context : ndarray, shape (Tq, B, V)
            Read-only.
        weights : ndarray, shape (Tq, B, Tk)
            Read-only.
        saved : Saved
            For `backward`.
        """
        now = self._read()
        threads = _threads(num_threads)
        given = self._given(queries, keys, values, lengths)
        context, weights, kept = self._attend(now.packs, given, threads)
        arrays = given.queries, given.keys, given.values, kept.queries, kept.keys
        size = sum({id(a): a.nbytes for a in arrays}.values())
        saved = Saved(self, now.version, context.shape, kept, size)
        return read_only(context), read_only(weights), saved

    def backward(
        self,
        saved: Saved[Kept],
        dcontext: ArrayLike | None = None,
        dweights: ArrayLike | None = None,
        *,
        num_threads: int | None = None,
    ) -> AttentionGradients:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : Saved
            From this layer's `forward`; may be used more than once.
        dcontext : array_like, shape (Tq, B, V), optional
            Gradient of the context; zeros if not given.
        dweights : array_like, shape (Tq, B, Tk), optional
            Gradient of the weights, for a loss that looks at them; zeros if not given.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        AttentionGradients
            ``(dqueries, dkeys, dvalues, dparams)``. If keys and values were the same array, its
            gradient is ``dkeys + dvalues``.

        Raises
        ------
        TypeError
            `saved` is something else, or a gradient is not floating point.
        ValueError
            A shape does not fit, or `saved` is another layer's.
        RuntimeError
            Parameters have changed since the forward call, or are open for writing.
        """
        kept, params = self._recalled(saved)
        threads = _threads(num_threads)
        given: Given = kept.given
        outside = given.asked.outside
        dc = self._incoming(dcontext, "dcontext", (*outside, given.values.shape[2]), given)
        dw = self._incoming(dweights, "dweights", (*outside, kept.weights.shape[2]), given)
        dq, dk = np.zeros_like(kept.queries), np.zeros_like(kept.keys)
        dv = np.zeros_like(given.values)
        dscore = np.zeros((1, self.hidden_size or 0), self.dtype)
        of_scores = np.zeros_like(kept.weights)  # (B, Tq, Tk)
        with np.errstate(all="ignore"):
            for b, n in enumerate(given.lengths):
                if n == 0:
                    continue
                w, values = kept.weights[b, :, :n], given.values[b, :n]
                of_weights = times(dc[b], values, threads) + dw[b, :, :n]
                ds = softmax_back(w, of_weights)
                if self.kind == "additive":
                    q, k = kept.queries[b], kept.keys[b, :n]
                    score = params["weight_score"]
                    dq[b], dk[b, :n], own = _additive_back(q, k, score, ds)
                    dscore += own
                else:
                    of_scores[b, :, :n] = ds * self._scale(kept.queries)
            over_queries = [(dv, kept.weights, dc)]
            if self.kind != "additive":
                dq = _over_keys(of_scores, kept.keys, threads)
                over_queries.append((dk, of_scores, kept.queries))
            for into, weighted, queried in over_queries:
                found = summed(weighted.swapaxes(0, 1), queried.swapaxes(0, 1), threads)
                for b, n in enumerate(given.lengths):
                    into[b, :n] = found[b, :n]  # padding stays 0, also if a query has a NaN
        dparams: dict[str, Array] = {}
        if self.kind == "general":
            dk, dparams["weight"] = _projected_back(given.keys, params["weight"], dk, threads)
        elif self.kind == "additive":
            wq, wk = params["weight_query"], params["weight_key"]
            dq, dparams["weight_query"] = _projected_back(given.queries, wq, dq, threads)
            dk, dparams["weight_key"] = _projected_back(given.keys, wk, dk, threads)
            dparams["weight_score"] = dscore
        return AttentionGradients(
            _outside(dq, given.asked), _outside(dk, given.read), _outside(dv, given.read), dparams
        )

    # --- arguments --------------------------------------------------------------------------------

    def _given(
        self, queries: ArrayLike, keys: ArrayLike, values: ArrayLike, lengths: ArrayLike | None
    ) -> Given:
        q = self._inputs(queries, "queries")
        batched = q.ndim == 3
        axes = "B, Tq" if self.batch_first else "Tq, B"
        width = "Q" if self.query_size is None else str(self.query_size)
        if not (batched or q.ndim == 2) or self.query_size not in (None, q.shape[-1]):
            expected = f"({axes}, {width}) or (Tq, {width})"
            raise ValueError(f"queries: expected shape {expected}, got {q.shape}")
        if q.shape[-1] == 0:
            raise ValueError(f"queries: expected a last axis of at least 1, got {q.shape}")
        first = self.batch_first and batched
        asked = Rows(
            q.shape[1 if first else 0],
            q.shape[0 if first else 1] if batched else 1,
            batched,
            self.batch_first,
        )
        k, v = self._inputs(keys, "keys"), self._inputs(values, "values")
        key_size = q.shape[-1] if self.key_size is None else self.key_size
        self._fits(k, "keys", asked, "Tk", key_size)
        read = asked._replace(steps=k.shape[1 if first else 0])
        self._fits(v, "values", asked, read.steps, "V")
        real = _check_options.lengths(lengths, read, copy=True)
        counts = [read.steps] * read.batch if real is None else real.tolist()
        given = (_inside(q, asked), _inside(k, read), _inside(v, read))
        if any(n < read.steps for n in counts):
            given = (given[0], given[1].copy(), given[2].copy())
            for b, n in enumerate(counts):
                given[1][b, n:] = 0
                given[2][b, n:] = 0
        return Given(*given, counts, asked, read)

    def _fits(self, a: Array, name: str, asked: Rows, steps: int | str, width: int | str) -> None:
        """Refuse keys or values that do not fit; a text stands for an axis of any length."""
        expected: list[int | str] = [steps, width]
        if asked.batched:
            expected.insert(0 if self.batch_first else 1, asked.batch)
        fits = a.ndim == len(expected) and a.shape[-1] > 0
        if not fits or any(
            e != n for e, n in zip(expected, a.shape, strict=True) if isinstance(e, int)
        ):
            text = ", ".join(map(str, expected))
            raise ValueError(f"{name}: expected shape ({text}), got {a.shape}")

    def _incoming(
        self, d: ArrayLike | None, name: str, shape: tuple[int, ...], given: Given
    ) -> Array:
        """Return the gradient of an output, batch-major; zeros if there is none."""
        if d is None:
            return np.zeros((*given.queries.shape[:2], shape[-1]), self.dtype)
        return _inside(_check.shaped(self._float(d, name), name, shape), given.asked)

    def _reader(
        self, keys: Array, values: Array, lengths: Array | None
    ) -> Callable[[Array], tuple[Array, Array]]:
        """Return a call of this layer for many queries, one after the other, of the same keys.

        For inference, such as the steps of a decoder: the keys are projected once.
        """
        packs, ready = self._read().packs, None

        def read(queries: Array) -> tuple[Array, Array]:
            nonlocal ready
            given = self._given(queries, keys, values, lengths)
            if ready is None:
                ready = self._ready_keys(packs, given, None)
            context, weights, _ = self._attend(packs, given, None, ready)
            return context, weights

        return read

    # --- arithmetic -------------------------------------------------------------------------------

    def _ready_keys(
        self, packs: tuple[core.Packed, ...], given: Given, threads: int | None
    ) -> Array:
        """Return the keys as the scores take them, (B, Tk, n)."""
        if self.kind == "general":
            return _projected(given.keys, packs[0], threads)
        if self.kind == "additive":
            return _projected(given.keys, packs[1], threads)
        return given.keys

    def _attend(
        self,
        packs: tuple[core.Packed, ...],
        given: Given,
        threads: int | None,
        ready: Array | None = None,
    ) -> tuple[Array, Array, Kept]:
        """Return context and weights in the caller's layout, and what to keep.

        `ready` are the keys from `_ready_keys`.
        """
        k = self._ready_keys(packs, given, threads) if ready is None else ready
        q = given.queries
        if self.kind == "additive":
            q = _projected(q, packs[0], threads)
        weights = np.zeros((*given.asked.outside, given.read.steps), self.dtype)
        context = np.zeros((*given.asked.outside, given.values.shape[2]), self.dtype)
        of_batch = given.asked.inside(weights).swapaxes(0, 1)
        into = given.asked.inside(context).swapaxes(0, 1)
        with np.errstate(all="ignore"):
            for b, n in enumerate(given.lengths):
                if n == 0:
                    continue
                if self.kind == "additive":
                    hidden = flat_rows(_hidden(q[b], k[b, :n]))
                    scores = times(hidden, packs[2], threads).reshape(len(q[b]), n)
                else:
                    scores = times(q[b], k[b, :n], threads) * self._scale(q)
                of_batch[b, :, :n] = softmax(scores)
            into[...] = _over_keys(of_batch, given.values, threads)
        return context, weights, Kept(given, q, k, of_batch)

    def _scale(self, queries: Array) -> Any:
        """Return the factor of a product of query and key."""
        size = queries.shape[-1] if self.kind == "scaled_dot" else 1
        return self.dtype.type(1 / math.sqrt(size))


def _size(value: object, name: str, kind: str) -> int | None:
    """Check a size that some kinds need and the others do not take."""
    if name in KINDS[kind]:
        if value is None:
            raise ValueError(f"{name}: expected a number for kind {kind!r}, got None")
        return _check.integer(value, name, 1)
    if value is not None:
        raise ValueError(f"{name}: expected None for kind {kind!r}, got {value!r}")
    return None


def _threads(num_threads: int | None) -> int | None:
    return None if num_threads is None else _check.num_threads(num_threads)


def _inside(a: Array, rows: Rows) -> Array:
    """Return an array of the caller's layout batch-major and contiguous."""
    return np.ascontiguousarray(rows.inside(a).swapaxes(0, 1))


def _outside(a: Array, rows: Rows) -> Array:
    """Return a batch-major array in the caller's layout, contiguous."""
    return np.ascontiguousarray(rows.shown(a.swapaxes(0, 1)))


def _over_keys(a: Array, b: Array, threads: int | None) -> Array:
    """Return ``a @ b`` of each sequence, for a (B, Tq, Tk) and b (B, Tk, n)."""
    return summed(np.ascontiguousarray(a.transpose(2, 0, 1)), b.swapaxes(0, 1), threads)


def _projected(x: Array, packed: core.Packed, threads: int | None) -> Array:
    """Return x (B, T, n) times a matrix of the layer."""
    return times(flat_rows(x), packed, threads).reshape(*x.shape[:2], packed.hidden_size)


def _projected_back(x: Array, weight: Array, dy: Array, threads: int | None) -> tuple[Array, Array]:
    """Return the gradients of x and of the matrix."""
    rows = flat_rows(dy)
    dx = times(rows, weight.T, threads).reshape(x.shape)
    return dx, of_weights(rows, flat_rows(x), threads)


def _hidden(q: Array, k: Array) -> Array:
    """Return the hidden units of the additive score, (Tq, n, A)."""
    return np.asarray(np.tanh(q[:, None] + k))


def _additive_back(q: Array, k: Array, score: Array, ds: Array) -> tuple[Array, Array, Array]:
    """Return the gradients of projected queries and keys and of the score's vector."""
    hidden = _hidden(q, k)
    # Sums in the order of keys and queries; without optimize= no BLAS has a part in them.
    own = np.einsum("qk,qka->qa", ds, hidden, optimize=False).sum(axis=0)
    d = np.square(hidden, out=hidden)
    np.subtract(1, d, out=d)
    d *= score[0]
    d *= ds[..., None]
    return d.sum(axis=1), d.sum(axis=0), own
