"""Recurrent matrices and the Jacobians of a layer's step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._pieces import Walk, as_state, pieces_of, walk

Array = NDArray[Any]


def spectral_radius(layer: Any) -> dict[str, dict[str, float]]:
    """Return the largest absolute eigenvalue of every recurrent matrix of a layer.

    In a linear RNN, gradients over long sequences vanish if the radius is below 1 and explode if it
    is above 1. With an activation whose slope is at most s they vanish for certain if the largest
    singular value is below 1 / s; the radius is never above that value and shows the trend. In an
    LSTM or GRU the radius of a gate's matrix tells less, because the cell state and the gate z
    carry gradients past the matrices: see `jacobian_products`.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        The layer.

    Returns
    -------
    dict of str to dict of str to float
        For each parameter ``weight_hh_l{k}`` the radius of the matrix of each gate. With a
        projection the matrix is ``R W_hr``, (H, H), which takes o tanh(c) to the gate.

    Raises
    ------
    TypeError
        `layer` is something else.

    Notes
    -----
    Source: R. Pascanu, T. Mikolov and Y. Bengio, On the difficulty of training recurrent neural
    networks, ICML 2013, section 2.1. Layer normalisation rescales what these matrices give.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> rnn = fr.RNN(3, 2)
    >>> rnn.params["weight_hh_l0"] = [[0.5, 1.0], [0.0, -0.25]]
    >>> fr.inspect.spectral_radius(rnn)
    {'weight_hh_l0': {'a': 0.5}}
    """
    found: dict[str, dict[str, float]] = {}
    for k, directions in enumerate(pieces_of(layer)):
        for piece, end in zip(directions, ("", "_reverse"), strict=False):
            names = _gate_names(piece)
            matrices = piece.params["weight_hh_l0"].astype(np.float64)
            matrices = matrices.reshape(len(names), piece.hidden_size, -1)
            if getattr(piece, "proj_size", 0):
                matrices = matrices @ piece.params["weight_hr_l0"].astype(np.float64)
            radii = np.abs(np.linalg.eigvals(matrices)).max(axis=1)
            found[f"weight_hh_l{k}{end}"] = dict(zip(names, radii.tolist(), strict=True))
    return found


def _gate_names(piece: Any) -> list[str]:
    """Return the names of the gates in the order of the weights' rows, from an empty call."""
    empty = np.zeros((0, 1, piece.input_size), piece.dtype)
    return list(piece.forward(empty, noise=False)[2].gates[0])


def jacobian_products(
    layer: Any,
    x: ArrayLike | None = None,
    *,
    tokens: ArrayLike | None = None,
    state: Any = None,
    lengths: ArrayLike | None = None,
) -> Array:
    """Measure the product of the Jacobians from every step to the last one.

    Let u be the state: h, or for an LSTM h and c together. The gradient that reaches step s from
    the last step T is the loss's gradient at T times du_T/du_s = J_T J_(T-1) ... J_(s+1), with J_t
    = du_t/du_(t-1). This returns the largest singular value of that product: the largest factor by
    which the gradient can grow or shrink. For an RNN, J_t = diag(f'(a_t)) R.

    Parameters
    ----------
    layer : RNN, LSTM or GRU
        Any stack, with one direction or two. Each layer is taken for itself: the Jacobians hold its
        inputs, which the layer below computes, fixed.
    x : array_like, shape (T, B, I) or (T, I)
        Input, as the layer takes it ((B, T, I) with ``batch_first``).
    tokens, state, lengths : optional
        As the layer takes them.

    Returns
    -------
    ndarray of float64, shape (L*D, T, B) or (L*D, T)
        The norm from each step to the last real step in the order of the walk, where it is 1; in a
        reverse direction that is step 0. NaN at steps that are not real.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    Exact: row k of J_t is the gradient of the state's element k, from `backward` of one step.
    Jacobians have the layer's dtype; products and norms are in float64. With S numbers in the state
    (H, or P + H for an LSTM) a sequence takes T calls of S rows and T products S x S.

    Sources: S. Hochreiter, Untersuchungen zu dynamischen neuronalen Netzen, diploma thesis, TU
    Munich 1991; R. Pascanu, T. Mikolov and Y. Bengio, On the difficulty of training recurrent
    neural networks, ICML 2013, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> linear = fr.RNN(1, 1, nonlinearity="identity")
    >>> linear.params["weight_hh_l0"] = [[0.5]]
    >>> fr.inspect.jacobian_products(linear, np.zeros((4, 1)))
    array([[0.125, 0.25 , 0.5  , 1.   ]])
    """
    run = walk(layer, x, tokens=tokens, state=state, lengths=lengths)
    return run.stacked([_products(one) for one in run.walks])


def _products(one: Walk) -> Array:
    """Return the norms of the products from each step to the last, (T, B), over time."""
    steps, batch = one.y.shape[:2]
    size = sum(a.shape[2] for a in one.before)
    product = np.broadcast_to(np.eye(size), (batch, size, size))
    norms = np.full((steps, batch), np.nan)
    with np.errstate(all="ignore"):  # products may overflow
        for t in reversed(range(steps)):
            norms[t] = _largest_singular_value(product)
            if t:
                product = product @ step_jacobian(one, t)
    return one.over_time(np.where(one.real, norms, np.nan))


def _largest_singular_value(product: Array) -> Array:
    """Return the 2-norm of each matrix; infinity or NaN if it has such elements."""
    found = np.abs(product).max(axis=(1, 2))
    usable = np.isfinite(found)
    found[usable] = np.linalg.norm(product[usable], 2, axis=(1, 2))
    return np.asarray(found)


def step_jacobian(one: Walk, t: int) -> Array:
    """Return du_t/du_(t-1) for each sequence, (B, S, S); the identity if the step is not real."""
    widths = [a.shape[2] for a in one.before]
    size, batch = sum(widths), one.y.shape[1]
    rows = np.tile(np.eye(size, dtype=one.y.dtype), (batch, 1))[None]
    ends = np.cumsum(widths)
    gradients = tuple(
        np.ascontiguousarray(rows[..., end - width : end])
        for end, width in zip(ends, widths, strict=True)
    )
    saved = one.step(t, size)[1]
    _, found, _ = one.piece.backward(saved, None, as_state(gradients))
    parts = found if isinstance(found, tuple) else (found,)
    joined = np.concatenate([a[0] for a in parts], axis=1)
    return joined.reshape(batch, size, size).astype(np.float64)
