"""What the gates and states of a layer do along sequences."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import activation
from ..layers import LSTM, RNN
from . import _checks
from ._pieces import walk

Array = NDArray[Any]


class States(NamedTuple):
    """The states after every step, a list with the index layer * D + direction.

    Attributes
    ----------
    h : list of ndarray, shape (T, B, P)
        The hidden states; 0 at steps that are not real.
    c : list of ndarray, shape (T, B, H), or None
        The cell states of an LSTM.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> found = fr.inspect.states(fr.GRU(3, 8, bidirectional=True), np.zeros((20, 5, 3)))
    >>> len(found.h), found.h[1].shape, found.c  # the reverse direction is h[1]
    (2, (20, 5, 8), None)
    """

    h: list[Array]
    c: list[Array] | None


def states(
    layer: Any,
    x: ArrayLike | None = None,
    *,
    tokens: ArrayLike | None = None,
    state: Any = None,
    lengths: ArrayLike | None = None,
) -> States:
    """Return every hidden state and cell state of every layer of a stack.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Any stack, with one direction or two.
    x : array_like, shape (T, B, I) or (T, I)
        Input, as the layer takes it ((B, T, I) with ``batch_first``).
    tokens, state, lengths : optional
        As the layer takes them.

    Returns
    -------
    States
        Named tuple (h, c) of lists; arrays are (T, B, ...), or (T, ...) without a batch axis.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> lstm = fr.LSTM(3, 8, num_layers=2, seed=0)
    >>> h, c = fr.inspect.states(lstm, np.zeros((20, 5, 3)))
    >>> len(h), h[0].shape, c[1].shape
    (2, (20, 5, 8), (20, 5, 8))
    """
    run = walk(layer, x, tokens=tokens, state=state, lengths=lengths)
    h = [run.shown(one.over_time(one.y)) for one in run.walks]
    if not isinstance(layer, LSTM):
        return States(h, None)
    return States(h, [run.shown(one.over_time(one.saved.cells[0])) for one in run.walks])


def gate_trace(
    layer: Any,
    x: ArrayLike | None = None,
    *,
    tokens: ArrayLike | None = None,
    state: Any = None,
    lengths: ArrayLike | None = None,
    index: int = -1,
) -> dict[str, Array]:
    """Follow the gates and states of one layer along a text or a series.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Any stack, with one direction or two.
    x : array_like, shape (T, I) or (T, B, I)
        Input, as the layer takes it ((B, T, I) with ``batch_first``).
    tokens, state, lengths : optional
        As the layer takes them; a text is its tokens, (T,).
    index : int
        Which layer and direction: layer * D + direction, from -L*D to L*D - 1.

    Returns
    -------
    dict of str to ndarray, shape (T, H) or (T, B, H)
        The gates (LSTM: i f g o; GRU: r z n), then c for an LSTM, and h, which is (T, P). For an
        RNN, only h. 0 at steps that are not real.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    Source: A. Karpathy, J. Johnson and L. Fei-Fei, Visualizing and understanding recurrent
    networks, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> gru = fr.GRU(256, 8, seed=0)
    >>> trace = fr.inspect.gate_trace(gru, tokens=list(b"hello"))
    >>> {name: a.shape for name, a in trace.items()}
    {'r': (5, 8), 'z': (5, 8), 'n': (5, 8), 'h': (5, 8)}
    """
    _checks.layer(layer)
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    at = _checks.whole(index, "index", -count, count - 1)
    run = walk(layer, x, tokens=tokens, state=state, lengths=lengths)
    one = run.walks[at]
    found = {} if isinstance(layer, RNN) else one.gates()  # the gate of an RNN is h
    if isinstance(layer, LSTM):
        found["c"] = one.over_time(one.saved.cells[0])
    found["h"] = one.over_time(one.y)
    return {name: run.shown(a) for name, a in found.items()}


# --- saturation -------------------------------------------------------------------------------


class Saturation(NamedTuple):
    """How often a gate is near the ends of its range.

    Attributes
    ----------
    low, high : float
        The share of values near the lower and near the upper end, over real steps, sequences and
        units; NaN if there are no values.
    counts : ndarray of int64, shape (bins,)
        A histogram of the values.
    edges : ndarray of float64, shape (bins + 1,)
        The edges of its bins, from the lower to the upper end of the range.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> gru = fr.GRU(3, 8, seed=0)
    >>> found = fr.inspect.saturation(gru, np.zeros((20, 5, 3)))[0]["z"]
    >>> found.low, found.high, int(found.counts.sum()) == 20 * 5 * 8
    (0.0, 0.0, True)
    """

    low: float
    high: float
    counts: Array
    edges: Array


def saturation(
    layer: Any,
    x: ArrayLike | None = None,
    *,
    tokens: ArrayLike | None = None,
    state: Any = None,
    lengths: ArrayLike | None = None,
    near: float = 0.1,
    bins: int = 20,
) -> list[dict[str, Saturation]]:
    """Count the values of each gate that are near the ends of its range.

    A gate of a sigmoid has the range (0, 1), a candidate of tanh the range (-1, 1). Near an end the
    slope is small, so little gradient passes: a forget gate near 1 keeps its cell state, and a tanh
    near -1 or 1 learns slowly.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Any stack, with one direction or two.
    x : array_like, shape (T, B, I) or (T, I)
        Input, as the layer takes it ((B, T, I) with ``batch_first``).
    tokens, state, lengths : optional
        As the layer takes them.
    near : float
        What is near, as a share of the range: with 0.1 a sigmoid below 0.1 or above 0.9, a tanh
        below -0.8 or above 0.8. As tanh(a) = 2 sigmoid(2a) - 1, the slope is then the same share of
        its largest value in both, 36 %.
    bins : int
        Number of bins of the histogram.

    Returns
    -------
    list of dict of str to Saturation
        With the index layer * D + direction, by gate. The gate of an RNN, a, is h without zoneout.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above, or an activation does not lie between two bounds (relu).

    Notes
    -----
    Source: A. Karpathy, J. Johnson and L. Fei-Fei, Visualizing and understanding recurrent
    networks, 2015, section 4.2, for gates below 0.1 and above 0.9.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> lstm = fr.LSTM(3, 8, forget_bias=5.0, seed=0)
    >>> found = fr.inspect.saturation(lstm, np.zeros((20, 5, 3)))[0]
    >>> found["f"].low, found["f"].high
    (0.0, 1.0)
    """
    margin = _checks.share(near, "near")
    number = _checks.whole(bins, "bins", 1)
    _checks.layer(layer)
    ranges = {name: _checks.bounded(name, by, _range(by)) for name, by in _activations(layer)}
    run = walk(layer, x, tokens=tokens, state=state, lengths=lengths)
    return [
        {name: _saturation(a[one.real], ranges[name], margin, number) for name, a in gates.items()}
        for one, gates in ((one, one.gates()) for one in run.walks)
    ]


def _activations(layer: Any) -> list[tuple[str, Any]]:
    """Return each gate's name and activation."""
    if isinstance(layer, RNN):
        return [("a", activation(layer.nonlinearity, "nonlinearity"))]
    gate, candidate = (layer.activations or ("sigmoid", "tanh"))[:2]
    kinds = (
        {"ifo": gate, "g": candidate} if isinstance(layer, LSTM) else {"rz": gate, "n": candidate}
    )
    return [
        (name, activation(kind, "activations")) for names, kind in kinds.items() for name in names
    ]


def _range(by: Any) -> tuple[float, float] | None:
    """Return the bounds between which an activation lies; None if there are not two."""
    if by.name in ("sigmoid", "hard_sigmoid"):
        return 0.0, 1.0
    if by.name in ("tanh", "softsign"):
        return -1.0, 1.0
    return (-abs(by.alpha), abs(by.alpha)) if by.name == "scaled_tanh" else None


def _saturation(values: Array, ends: tuple[float, float], near: float, bins: int) -> Saturation:
    low, high = ends
    margin = near * (high - low)
    # A value at an end of the range, rounded, may lie outside it by one unit in the last place.
    counts, edges = np.histogram(np.clip(values.astype(np.float64), low, high), bins, ends)
    if not values.size:
        return Saturation(np.nan, np.nan, counts, edges)
    shares = float(np.mean(values < low + margin)), float(np.mean(values > high - margin))
    return Saturation(*shares, counts, edges)


# --- projection -------------------------------------------------------------------------------


class Projection(NamedTuple):
    """Points in the directions in which states differ most.

    Attributes
    ----------
    points : ndarray of float64, shape (T, B, k) or (T, k)
        The coordinates; NaN at steps that are not real.
    components : ndarray of float64, shape (k, H)
        The directions, orthonormal; of each the element of largest absolute value is positive.
    mean : ndarray of float64, shape (H,)
        The mean of the states; points are (states - mean) @ components.T.
    explained : ndarray of float64, shape (k,)
        The share of the total variance in each direction; zeros if all states are equal.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> line = np.outer(np.arange(5.0), [0.6, 0.8])
    >>> found = fr.inspect.project(line, k=1)
    >>> found.components.round(6), found.explained.round(6)
    (array([[0.6, 0.8]]), array([1.]))
    """

    points: Array
    components: Array
    mean: Array
    explained: Array


def project(states: ArrayLike, k: int = 2, *, lengths: ArrayLike | None = None) -> Projection:
    """Project states to k dimensions by principal component analysis.

    Parameters
    ----------
    states : array_like, shape (T, B, H) or (T, H)
        Hidden or cell states of one layer, with at least k of them and H at least k.
    k : int
        The number of dimensions.
    lengths : array_like of int, shape (B,), optional
        Number of real steps of each sequence; the others are not read.

    Returns
    -------
    Projection
        Named tuple (points, components, mean, explained).

    Raises
    ------
    TypeError, ValueError
        An argument is not as above, or there are fewer than k real steps.

    Notes
    -----
    From a singular value decomposition of the centred states. Singular vectors have no sign of
    their own; the rule of `components` gives them one, so equal states give equal pictures.

    Source: K. Pearson, On lines and planes of closest fit to systems of points in space,
    Philosophical Magazine 2, 1901.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> line = np.outer(np.arange(5.0), [0.6, 0.8])
    >>> found = fr.inspect.project(line, k=1)
    >>> found.points[:, 0].round(6)
    array([-2., -1.,  0.,  1.,  2.])
    """
    a = _checks.numbers(states, "states", "(T, B, H) or (T, H)", (2, 3))
    wide = a if a.ndim == 3 else a[:, None]
    real = _checks.real_steps(lengths, *wide.shape[:2])
    rows = _checks.finite(wide[real], "states")
    k = _checks.whole(k, "k", 1, min(rows.shape))
    mean = rows.mean(axis=0)
    centred = rows - mean
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    components = directions[:k]
    at = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(k), at])[:, None]
    points = np.full((*wide.shape[:2], k), np.nan)
    points[real] = centred @ components.T
    total = np.square(sizes).sum()
    explained = np.square(sizes[:k]) / (total if total else 1.0)
    return Projection(points if a.ndim == 3 else points[:, 0], components, mean, explained)
