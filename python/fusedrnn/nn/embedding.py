"""A table of vectors by id, and which vectors are alike."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._cells import CELLS
from .._checks import arguments as _check
from .._layers.params import Part, Restored
from . import _checks
from ._layer import OptionsLayer, Saved, flat_rows, read_only
from ._product import times

__all__ = ["Embedding", "Nearest", "RowGradients"]

Array = NDArray[Any]


class RowGradients(NamedTuple):
    """The gradient of a table, without the rows that nothing was read from.

    Attributes
    ----------
    ids : ndarray of int64, shape (N,)
        The rows that were read, each once, in rising order, without the padding row.
    rows : ndarray, shape (N, E)
        Their gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer = nn.Embedding(1000, 2, seed=0)
    >>> y, saved = layer.forward([7, 3, 7])
    >>> ids, rows = layer.row_gradients(saved, np.ones_like(y))
    >>> ids, rows[:, 0]
    (array([3, 7]), array([1., 2.], dtype=float32))
    """

    ids: Array
    rows: Array


class Nearest(NamedTuple):
    """The ids whose vectors are most alike to a vector.

    Attributes
    ----------
    ids : ndarray of int64, shape (k,)
        The most similar one first; of equal similarities the smaller id first.
    similarities : ndarray, shape (k,)
        Their cosine similarities.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer = nn.Embedding(3, 2, dtype="float64")
    >>> layer.params["weight"] = [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    >>> ids, similarities = layer.nearest(0, k=2)
    >>> ids, similarities.round(3)
    (array([1, 2]), array([0.707, 0.   ]))
    """

    ids: Array
    similarities: Array


class Embedding(OptionsLayer):
    """A table of vectors: ``y = weight[ids]``, torch's Embedding.

    The parameter is ``weight`` (V, E).

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        V and E, each at least 1.
    padding_idx : int, optional
        The id of padding, in [-V, V); a negative one counts from the end. Its row begins as zeros,
        and its gradient is always zero.
    dtype : dtype
        float32 or float64.
    seed : optional
        A seed for ``numpy.random.default_rng``; the weights are drawn from the standard normal
        distribution.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    Source: Bengio, Ducharme, Vincent and Jauvin, "A neural probabilistic language model", JMLR
    2003. Semantics and initialisation are those of torch.nn.Embedding: the padding row is zero at
    first only, and `load_state_dict` or an assignment may give it other numbers. No bit depends on
    the number of threads.

    Keras draws uniformly from +-0.05. Neither is better in general: in three runs of the LSTM of
    the course's page on topics, the standard normal distribution gave 71.6 % right answers after 15
    to 19 epochs, the same times 0.1 gave 70.9 % after 6 to 8, and +-0.05 gave 68.8 % after 4 or 5,
    with a standard error of 1.6 %. A table that shall learn sooner, or whose `nearest` words shall
    not depend on what was drawn, can begin smaller: ``layer.params["weight"] = 0.1 *
    layer.params["weight"]``.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer = nn.Embedding(5, 3, padding_idx=0, seed=0)
    >>> y, saved = layer.forward([[1, 2], [2, 0]])  # (T, B)
    >>> y.shape
    (2, 2, 3)
    >>> _, gradients = layer.backward(saved, np.ones((2, 2, 3), np.float32))
    >>> gradients["weight"][:, 0]  # id 2 was read twice
    array([0., 1., 2., 0., 0.], dtype=float32)
    """

    _kind = "nn.Embedding"
    _needed = ("num_embeddings", "embedding_dim")
    _usual: ClassVar = {"padding_idx": None, "dtype": "float32"}
    _drawn = True

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        dtype: DTypeLike = np.float32,
        seed: object = None,
    ) -> None:
        self.dtype = _check.float_dtype(dtype)
        self.num_embeddings = count = _check.integer(num_embeddings, "num_embeddings", 1)
        self.embedding_dim = width = _check.integer(embedding_dim, "embedding_dim", 1)
        _checks.matrix(self.dtype, num_embeddings=count, embedding_dim=width)
        self.padding_idx = None
        if padding_idx is not None:
            self.padding_idx = _checks.row(padding_idx, "padding_idx", count, -count) % count
        self._adopt(self._draw([0.0], seed) if isinstance(seed, Restored) else self._normal(seed))

    def _parts(self) -> list[list[Part]]:
        shape = self.num_embeddings, self.embedding_dim
        # The kernels read the table as a matrix, for `similarity`.
        return [[Part(CELLS["dense"], {"w_ih": shape}, {"w_ih": "weight"})]]

    def _normal(self, seed: object) -> dict[str, Array]:
        rng = _check.generator(seed)
        shape = self.num_embeddings, self.embedding_dim
        weight = rng.standard_normal(shape).astype(self.dtype)
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0
        return {"weight": weight}

    def __call__(self, ids: ArrayLike) -> Array:
        """Look vectors up, for inference: nothing is saved.

        Parameters
        ----------
        ids : array_like of int, shape (...)
            Each in [0, V).

        Returns
        -------
        ndarray, shape (..., E)

        Raises
        ------
        TypeError
            `ids` are not integers.
        ValueError
            An id is out of range; the text names the id and its position.
        RuntimeError
            Called inside ``with layer.writable()``.
        """
        weight = self._view("weight")
        y: Array = np.take(weight, _checks.ids(ids, self.num_embeddings), axis=0)
        return y

    def forward(self, ids: ArrayLike) -> tuple[Array, Saved[Array]]:
        """Look vectors up and save what `backward` needs.

        Parameters and errors are those of calling the layer.

        Returns
        -------
        y : ndarray, shape (..., E)
            Read-only.
        saved : Saved
            For `backward`: a copy of `ids`.
        """
        views, version = self._views()
        kept = _checks.ids(ids, self.num_embeddings)
        y = np.take(views["weight"], kept, axis=0)
        return read_only(y), Saved(self, version, y.shape, kept, kept.nbytes)

    def backward(self, saved: Saved[Array], dy: ArrayLike) -> tuple[None, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : Saved
            From this layer's `forward`; may be used more than once.
        dy : array_like, shape (..., E)
            Gradient of y.

        Returns
        -------
        dx : None
            Ids have no gradient.
        dparams : dict of str to ndarray
            "weight": the gradient of the table, (V, E).

        Raises
        ------
        TypeError
            `saved` is something else, or dy is not floating point.
        ValueError
            The shape of dy does not fit, or `saved` is another layer's.
        RuntimeError
            Parameters have changed since the forward call, or are open for writing.
        """
        of = self.row_gradients(saved, dy)
        whole = np.zeros((self.num_embeddings, self.embedding_dim), self.dtype)
        whole[of.ids] = of.rows
        return None, {"weight": whole}

    def row_gradients(self, saved: Saved[Array], dy: ArrayLike) -> RowGradients:
        """Backpropagate as `backward` does, without the rows that are zero.

        For a large table of which a call reads few rows. Parameters and errors are those of
        `backward`.

        Returns
        -------
        RowGradients
            ``(ids, rows)``; the rows have the bits of the gradient of `backward`.

        Examples
        --------
        >>> import numpy as np
        >>> from fusedrnn import nn
        >>> layer = nn.Embedding(10000, 2, seed=0)
        >>> y, saved = layer.forward([7, 3, 7])
        >>> ids, rows = layer.row_gradients(saved, np.ones((3, 2)))
        >>> ids
        array([3, 7])
        >>> with layer.writable() as params:
        ...     params["weight"][ids] -= 0.1 * rows
        """
        ids, _ = self._recalled(saved)
        kept, d = ids.reshape(-1), flat_rows(self._gradient(saved, dy))
        if self.padding_idx is not None:
            real = kept != self.padding_idx
            kept, d = kept[real], d[real]
        # A stable sort keeps the rows of one id in the order of the call.
        order = np.argsort(kept, kind="stable")
        found, first = np.unique(kept[order], return_index=True)
        if not found.size:
            return RowGradients(found, np.zeros((0, self.embedding_dim), self.dtype))
        with np.errstate(all="ignore"):
            return RowGradients(found, np.add.reduceat(d[order], first, axis=0))

    def similarity(self, of: ArrayLike, *, num_threads: int | None = None) -> Array:
        """Cosine similarity of some vectors with every row of the table.

        Parameters
        ----------
        of : array_like of int, shape (...), or of floating point, shape (..., E)
            Ids, or the vectors themselves.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        ndarray, shape (..., V)
            ``u . w / (|u| |w|)`` in [-1, 1]; 0 if one of the two is zero, as the padding row is.

        Raises
        ------
        TypeError
            `of` is neither integers nor floating point.
        ValueError
            An id is out of range, or the last axis is not E long.
        RuntimeError
            Called inside ``with layer.writable()``.

        Examples
        --------
        >>> from fusedrnn import nn
        >>> layer = nn.Embedding(3, 2, seed=0)
        >>> layer.params["weight"] = [[1.0, 0.0], [2.0, 2.0], [0.0, 0.0]]
        >>> [round(float(s), 3) for s in layer.similarity(0)]
        [1.0, 0.707, 0.0]
        """
        threads = None if num_threads is None else _check.num_threads(num_threads)
        packed = self._read().packs[0]
        weight = packed.held()[0]["w_ih"]
        if _check.read(of, "of").dtype.kind in "iu":
            queries = np.take(weight, _checks.ids(of, self.num_embeddings, "of"), axis=0)
        else:
            queries = _checks.last_axis(self._inputs(of, "of"), "of", self.embedding_dim)
        rows = flat_rows(queries)
        with np.errstate(all="ignore"):
            unit = (rows * _inverse(rows)[:, None]).astype(self.dtype)
            found = times(unit, packed, threads) * _inverse(weight).astype(self.dtype)
        np.clip(found, -1, 1, out=found)
        return np.asarray(found.reshape(*queries.shape[:-1], self.num_embeddings))

    def nearest(self, index: int, k: int = 10, *, num_threads: int | None = None) -> Nearest:
        """Find the ids whose vectors have the largest cosine similarity with that of an id.

        Parameters
        ----------
        index : int
            The id, in [0, V).
        k : int
            How many to return, at least 1. At most V - 1, because neither `index` itself nor the
            padding row is among them.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        Nearest
            ``(ids, similarities)``, the most similar one first.

        Raises
        ------
        TypeError, ValueError
            An argument is not as above.
        RuntimeError
            Called inside ``with layer.writable()``.

        Examples
        --------
        >>> from fusedrnn import nn
        >>> layer = nn.Embedding(3, 2, seed=0)
        >>> layer.params["weight"] = [[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]
        >>> ids, similarities = layer.nearest(0, k=2)
        >>> ids
        array([2, 1])
        """
        own = _checks.row(index, "index", self.num_embeddings)
        others = np.setdiff1d(np.arange(self.num_embeddings), [own, self._padding_row(own)])
        most = _check.integer(k, "k", 1)
        if most > len(others):
            raise ValueError(f"k: expected at most {len(others)}, the number of others, got {k}")
        similarities = self.similarity(own, num_threads=num_threads)[others]
        order = np.argsort(-similarities, kind="stable")[:most]
        return Nearest(others[order], similarities[order])

    def _padding_row(self, otherwise: int) -> int:
        return otherwise if self.padding_idx is None else self.padding_idx


def _inverse(rows: Array) -> Array:
    """Return 1 / |row| of each row (N, E), in float64; 0 for a row of zeros."""
    norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=-1))
    return np.asarray(np.divide(1.0, norms, out=np.zeros_like(norms), where=norms != 0))
