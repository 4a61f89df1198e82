"""The recurrent layers as functions of plain NumPy arrays.

Every array of numbers in a call is a NumPy array of one dtype, float32 or float64; lengths are
integers, mask and reset bool; anything else is refused by name. Strided, unaligned,
read-only and big-endian arrays work, by copy. Weights are PyTorch's: rows gate-major, gates i f g o
(LSTM) and r z n (GRU). Sizes: T steps, B sequences, I inputs, H units.

With ``save=True`` a forward call also returns what backpropagation through time needs; it holds
copies of the weights and a reference to x, so x must not be written before the backward call. The
y of such a call is read-only. Each call reads the weights anew; whoever calls with the same weights
many times packs them once with `fusedrnn.core.pack`, or has a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ._backends import choice
from ._backends.types import ANY_NUMBER, Given, Inputs, Threads, Wanted
from ._cells import CELLS, Array, CellSpec
from ._checks import arguments as _check
from ._checks import options as _check_options
from .core._packed import Packed
from .core._plan import plan

__all__ = [
    "dense_backward",
    "dense_forward",
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
]


@dataclass(frozen=True, eq=False)
class Saved:
    """What a ``*_forward(..., save=True)`` call kept for its ``*_backward``."""

    _packed: Packed
    _inputs: Inputs
    _y: Array
    _data: Array
    _backend: str

    @property
    def nbytes(self) -> int:
        """Bytes kept beyond x and y."""
        return self._data.nbytes


class DenseGradients(NamedTuple):
    """Gradients of the arguments of `dense_forward`."""

    dx: Array
    dw: Array
    db: Array


class RNNGradients(NamedTuple):
    """Gradients of the arguments of `rnn_forward`."""

    dx: Array
    dw_ih: Array
    dw_hh: Array
    db_ih: Array
    db_hh: Array
    dh0: Array


class GRUGradients(NamedTuple):
    """Gradients of the arguments of `gru_forward`."""

    dx: Array
    dw_ih: Array
    dw_hh: Array
    db_ih: Array
    db_hh: Array
    dh0: Array


class LSTMGradients(NamedTuple):
    """Gradients of the arguments of `lstm_forward`; None for an array that was not given."""

    dx: Array
    dw_ih: Array
    dw_hh: Array
    db_ih: Array
    db_hh: Array
    dh0: Array
    dc0: Array
    dpeepholes: Array | None
    dw_hr: Array | None


class _Sequences(NamedTuple):
    """The arguments about steps that are not real, as the caller gave them."""

    lengths: Array | None
    mask: Array | None
    reset: Array | None
    initial: tuple[Array | None, ...] | None


_ALL_REAL = _Sequences(None, None, None, None)


def _plain(
    cell: str,
    x: Array,
    weights: tuple[Array | None, ...],
    states: tuple[Array | None, ...],
    sequences: _Sequences,
    save: bool,
    num_threads: int | None,
) -> tuple[Array, tuple[Array, ...]] | None:
    """Return y and the last states, if every argument is what the kernels read, else None.

    A call on small arrays takes a few microseconds, and the checks of `_forward`, which have a text
    for everything that can be wrong, take five times that.
    """
    lengths, mask, reset, initial = sequences
    if save is not False or lengths is not None or mask is not None:
        return None
    if reset is not None or initial is not None:
        return None
    run = choice.current()
    return run.forward_plain(cell, x, weights, states, _threads(num_threads))


def _forward(
    function: str,
    spec: CellSpec,
    x: Array,
    arrays: dict[str, Array | None],
    states: tuple[Array | None, ...],
    sequences: _Sequences,
    save: bool,
    num_threads: int | None,
) -> tuple[Array, tuple[Array, ...], Saved | None]:
    """Check, call, drop the axis of directions. `arrays` has the arguments as Weights has them."""
    save = _check.flag(save, "save")
    weights: dict[str, Any] = {}
    input_size, hidden_size, proj = _check.plain_sizes(function, spec, x, arrays)
    x = _check.contiguous(x, x.dtype.newbyteorder("="))
    shapes = spec.shapes(input_size, hidden_size, proj)
    for (name, shape), (argument, a) in zip(shapes.items(), arrays.items(), strict=True):
        if a is not None or name in ("w_ih", "w_hh"):
            weights[name] = _check.plain(function, argument, a, x.dtype, shape, copy=save)
    steps, batch = x.shape[:2]
    widths = (proj or hidden_size, hidden_size)

    def state_parts(label: str, given: tuple[Array | None, ...]) -> tuple[Array, ...] | None:
        if all(part is None for part in given):
            return None
        found: list[Array] = []
        for name, width, part in zip(spec.state_names, widths, given, strict=False):
            if part is None:
                found.append(np.zeros((1, batch, width), x.dtype))
            else:
                text, shape = label.format(name), (batch, width)
                found.append(_check.plain(function, text, part, x.dtype, shape, copy=save)[None])
        return tuple(found)

    s, rows, prefix = sequences, _check_options.Rows(steps, batch, True, False), f"{function}: "
    _check_options.one_kind_of_padding(s.lengths, s.mask, prefix)
    _check_options.needs_reset(s.initial, s.reset, prefix)
    initial = None
    if s.initial is not None:
        parts = _check.parts(
            s.initial if spec.states > 1 else s.initial[0], f"{prefix}initial", spec.state_names
        )
        initial = state_parts("initial of {}", parts)
    walk = plan(
        steps,
        batch,
        1,
        _check_options.lengths(s.lengths, rows, copy=save, name=f"{prefix}lengths"),
        _check_options.flags(s.mask, f"{prefix}mask", rows, copy=save),
        _check_options.flags(s.reset, f"{prefix}reset", rows, copy=save),
    )
    packed = Packed(spec.name, [weights], None, None, False)
    inputs = Inputs(
        x,
        states=state_parts("{}0", states),
        lengths=walk.lengths,
        times=walk.times,
        cut=walk.cut,
        initial=initial,
    )
    run = choice.current()
    y, final, data = run.forward(packed, inputs, saved=save, threads=_threads(num_threads))
    last = tuple(state[0] for state in final)
    if data is None:
        return y, last, None
    y.flags.writeable = False
    # A view of a read-only array cannot be made writable.
    return y.view(), last, Saved(packed, inputs, y, data, run.name)


def _threads(num_threads: object) -> Threads:
    return ANY_NUMBER if num_threads is None else Threads(_check.num_threads(num_threads))


def _saved_by(function: str, cells: tuple[str, ...], saved: Saved | None) -> Saved:
    """`saved`, checked."""
    forward = function.replace("backward", "forward")
    _check.saved_type(saved, Saved, f"{forward}(..., save=True)")
    assert saved is not None
    _check.saved_cell(function, saved._packed.cell, cells)
    return saved


def _backward(
    function: str,
    saved: Saved,
    dy: Array | None,
    dstates: tuple[Array | None, ...],
    num_threads: int | None,
) -> tuple[Any, dict[str, Array], tuple[Array, ...]]:
    """Check, call: dx, the weight gradients of the one direction, the state gradients."""
    packed, y = saved._packed, saved._y
    if dy is not None:
        dy = _check.plain(function, "dy", dy, packed.dtype, y.shape)
    last: list[Array] = []
    widths = (packed.output_size, packed.hidden_size)
    for name, width, dstate in zip(packed.spec.state_names, widths, dstates, strict=False):
        shape = (y.shape[1], width)
        if dstate is None:
            last.append(np.zeros((1, *shape), packed.dtype))
        else:
            last.append(_check.plain(function, f"d{name}_n", dstate, packed.dtype, shape)[None])
    given = any(dstate is not None for dstate in dstates)
    names = packed.spec.shapes(1, 1, 1 if packed.projects else 0)
    gradients = choice.by_name(saved._backend).backward(
        packed,
        saved._inputs,
        y,
        saved._data,
        Given(dy, tuple(last) if given else None),
        Wanted(True, (dict.fromkeys(names, True),), True),
        threads=_threads(num_threads),
    )
    assert gradients.dstates is not None
    dfirst = tuple(state[0] for state in gradients.dstates)
    return gradients.dx, gradients.dweights[0], dfirst


def rnn_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h0: Array | None = None,
    *,
    nonlinearity: str = "tanh",
    lengths: Array | None = None,
    mask: Array | None = None,
    reset: Array | None = None,
    initial: Array | None = None,
    save: bool = False,
    num_threads: int | None = None,
) -> tuple[Array, Array, Saved | None]:
    """Run an Elman network: ``h' = f(W x + b_ih + R h + b_hh)``.

    Parameters
    ----------
    x : ndarray, shape (T, B, I)
        Input, float32 or float64; every other array has its dtype.
    w_ih : ndarray, shape (H, I)
        W.
    w_hh : ndarray, shape (H, H)
        R.
    b_ih, b_hh : ndarray, shape (H,), optional
        Biases; zeros where not given.
    h0 : ndarray, shape (B, H), optional
        First state; zeros where not given.
    nonlinearity : {"tanh", "relu", "sigmoid", "identity"}
        f. "identity" is the linear state-space model.
    lengths : ndarray of int, shape (B,), optional
        Steps of each sequence that are real; the rest is not executed, and y is 0 there.
    mask : ndarray of bool, shape (T, B), optional
        True at real steps; a masked step passes the state through. Not with `lengths`.
    reset : ndarray of bool, shape (T, B), optional
        True at t cuts the link between steps t-1 and t.
    initial : ndarray, shape (B, H), optional
        The state that a cut link starts from; zeros where not given.
    save : bool
        Keep what `rnn_backward` needs.
    num_threads : int, optional
        Threads of this call; no result depends on it.

    Returns
    -------
    y : ndarray, shape (T, B, H)
        h after each step.
    h_n : ndarray, shape (B, H)
        h after the last step.
    saved : Saved or None
        For `rnn_backward`.

    Raises
    ------
    TypeError
        An array is not a NumPy array of the dtype of x, float32 or float64.
    ValueError
        A shape does not fit, the nonlinearity has another name, lengths and mask are both given, or
        initial without reset.

    References
    ----------
    J. L. Elman, Finding structure in time, Cognitive Science 14, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> x = np.ones((3, 1, 1))  # (T, B, I)
    >>> w_ih, w_hh = np.array([[1.0]]), np.array([[2.0]])
    >>> y, h_n, saved = fr.rnn_forward(x, w_ih, w_hh, nonlinearity="identity")
    >>> y[:, 0, 0]  # h' = x + 2 h
    array([1., 3., 7.])
    """
    spec = CELLS["rnn_" + _check.nonlinearity(nonlinearity)]
    given = None if initial is None else (initial,)
    sequences = _Sequences(lengths, mask, reset, given)
    weights = (w_ih, w_hh, b_ih, b_hh, None, None)
    if found := _plain(spec.name, x, weights, (h0,), sequences, save, num_threads):
        return found[0], found[1][0], None
    x = _check.plain_x("rnn_forward", x, "T, B, I")
    arrays: dict[str, Array | None] = {"w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh}
    y, (h_n,), saved = _forward("rnn_forward", spec, x, arrays, (h0,), sequences, save, num_threads)
    return y, h_n, saved


def rnn_backward(
    saved: Saved | None,
    dy: Array | None = None,
    dh_n: Array | None = None,
    *,
    num_threads: int | None = None,
) -> RNNGradients:
    """Backpropagate through an `rnn_forward` call.

    Parameters
    ----------
    saved : Saved
        From ``rnn_forward(..., save=True)``; may be used again.
    dy : ndarray, shape (T, B, H), optional
        Gradient of y; zeros where not given.
    dh_n : ndarray, shape (B, H), optional
        Gradient of h_n; zeros where not given.
    num_threads : int, optional
        Threads of this call; no result depends on it.

    Returns
    -------
    RNNGradients
        Named tuple (dx, dw_ih, dw_hh, db_ih, db_hh, dh0), each shaped as what it is the gradient
        of; the bias gradients also where there was no bias.

    Raises
    ------
    TypeError
        `saved` is something else, or an array is not a NumPy array of the dtype of x.
    ValueError
        A shape does not fit, or `saved` is that of another cell.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> x, w_ih, w_hh = np.ones((3, 1, 1)), np.array([[1.0]]), np.array([[2.0]])
    >>> y, h_n, saved = fr.rnn_forward(x, w_ih, w_hh, nonlinearity="identity", save=True)
    >>> gradients = fr.rnn_backward(saved, dh_n=np.ones((1, 1)))  # the loss is h_n
    >>> gradients.dx[:, 0, 0], gradients.dw_ih
    (array([4., 2., 1.]), array([[7.]]))
    """
    cells = tuple(f"rnn_{name}" for name in _check.NONLINEARITIES)
    saved = _saved_by("rnn_backward", cells, saved)
    dx, g, (dh0,) = _backward("rnn_backward", saved, dy, (dh_n,), num_threads)
    return RNNGradients(dx, g["w_ih"], g["w_hh"], g["b_ih"], g["b_hh"], dh0)


def gru_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h0: Array | None = None,
    *,
    reset_after: bool = True,
    lengths: Array | None = None,
    mask: Array | None = None,
    reset: Array | None = None,
    initial: Array | None = None,
    save: bool = False,
    num_threads: int | None = None,
) -> tuple[Array, Array, Saved | None]:
    """Run a GRU: ``h' = (1 - z) * n + z * h``.

    ``r`` and ``z`` are sigmoids of ``W x + b_ih + R h + b_hh``. With the reset gate after the
    product, ``n = tanh(W_n x + b_in + r * (R_n h + b_hn))``; before it,
    ``n = tanh(W_n x + b_in + R_n (r * h) + b_hn)``.

    Parameters
    ----------
    x : ndarray, shape (T, B, I)
        Input, float32 or float64; every other array has its dtype.
    w_ih : ndarray, shape (3*H, I)
        W, row blocks r z n.
    w_hh : ndarray, shape (3*H, H)
        R, row blocks r z n.
    b_ih, b_hh : ndarray, shape (3*H,), optional
        Biases; zeros where not given.
    h0 : ndarray, shape (B, H), optional
        First state; zeros where not given.
    reset_after : bool
        True: PyTorch, cuDNN and Keras's default. False: ONNX's default and the paper.
    lengths : ndarray of int, shape (B,), optional
        Steps of each sequence that are real; the rest is not executed, and y is 0 there.
    mask : ndarray of bool, shape (T, B), optional
        True at real steps; a masked step passes the state through. Not with `lengths`.
    reset : ndarray of bool, shape (T, B), optional
        True at t cuts the link between steps t-1 and t.
    initial : ndarray, shape (B, H), optional
        The state that a cut link starts from; zeros where not given.
    save : bool
        Keep what `gru_backward` needs.
    num_threads : int, optional
        Threads of this call; no result depends on it.

    Returns
    -------
    y : ndarray, shape (T, B, H)
        h after each step.
    h_n : ndarray, shape (B, H)
        h after the last step.
    saved : Saved or None
        For `gru_backward`.

    Raises
    ------
    TypeError
        An array is not a NumPy array of the dtype of x, float32 or float64; lengths are no
        integers, a mask or reset is not of bool.
    ValueError
        A shape does not fit, lengths and mask are both given, or initial without reset.

    References
    ----------
    K. Cho et al., Learning phrase representations using RNN encoder-decoder for statistical
    machine translation, EMNLP 2014.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> rng = np.random.default_rng(0)
    >>> x, w_ih, w_hh = (rng.standard_normal(s) for s in ((20, 4, 3), (3 * 8, 3), (3 * 8, 8)))
    >>> y, h_n, saved = fr.gru_forward(x, w_ih, w_hh, lengths=np.array([20, 5, 1, 7]))
    >>> y.shape, np.array_equal(h_n[1], y[4, 1])  # the state after five steps
    ((20, 4, 8), True)
    """
    spec = CELLS["gru" if _check.flag(reset_after, "reset_after") else "gru_reset_before"]
    given = None if initial is None else (initial,)
    sequences = _Sequences(lengths, mask, reset, given)
    weights = (w_ih, w_hh, b_ih, b_hh, None, None)
    if found := _plain(spec.name, x, weights, (h0,), sequences, save, num_threads):
        return found[0], found[1][0], None
    x = _check.plain_x("gru_forward", x, "T, B, I")
    arrays: dict[str, Array | None] = {"w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh}
    y, (h_n,), saved = _forward("gru_forward", spec, x, arrays, (h0,), sequences, save, num_threads)
    return y, h_n, saved


def gru_backward(
    saved: Saved | None,
    dy: Array | None = None,
    dh_n: Array | None = None,
    *,
    num_threads: int | None = None,
) -> GRUGradients:
    """Backpropagate through a `gru_forward` call.

    Parameters
    ----------
    saved : Saved
        From ``gru_forward(..., save=True)``; may be used again.
    dy : ndarray, shape (T, B, H), optional
        Gradient of y; zeros where not given.
    dh_n : ndarray, shape (B, H), optional
        Gradient of h_n; zeros where not given.
    num_threads : int, optional
        Threads of this call; no result depends on it.

    Returns
    -------
    GRUGradients
        Named tuple (dx, dw_ih, dw_hh, db_ih, db_hh, dh0), each shaped as what it is the gradient
        of; the bias gradients also where there was no bias.

    Raises
    ------
    TypeError
        `saved` is something else, or an array is not a NumPy array of the dtype of x.
    ValueError
        A shape does not fit, or `saved` is that of another cell.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> rng = np.random.default_rng(0)
    >>> x, w_ih, w_hh = (rng.standard_normal(s) for s in ((20, 4, 3), (3 * 8, 3), (3 * 8, 8)))
    >>> y, h_n, saved = fr.gru_forward(x, w_ih, w_hh, save=True)
    >>> gradients = fr.gru_backward(saved, dy=2 * y)  # of the loss sum(y**2)
    >>> gradients.dx.shape, gradients.dw_hh.shape
    ((20, 4, 3), (24, 8))
    """
    saved = _saved_by("gru_backward", ("gru", "gru_reset_before"), saved)
    dx, g, (dh0,) = _backward("gru_backward", saved, dy, (dh_n,), num_threads)
    return GRUGradients(dx, g["w_ih"], g["w_hh"], g["b_ih"], g["b_hh"], dh0)


def lstm_forward(
    x: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    *,
    peepholes: Array | None = None,
    w_hr: Array | None = None,
    lengths: Array | None = None,
    mask: Array | None = None,
    reset: Array | None = None,
    initial: tuple[Array, Array] | None = None,
    save: bool = False,
    num_threads: int | None = None,
) -> tuple[Array, Array, Array, Saved | None]:
    """Run an LSTM: ``c' = f * c + i * g``, ``h' = o * tanh(c')``.

    ``i``, ``f``, ``o`` are sigmoids and ``g`` the tanh of ``W x + b_ih + R h + b_hh``. With
    peepholes, ``i`` and ``f`` also see ``p_i * c`` and ``p_f * c``, and ``o`` sees ``p_o * c'``.

    Parameters
    ----------
    x : ndarray, shape (T, B, I)
        Input, float32 or float64; every other array has its dtype.
    w_ih : ndarray, shape (4*H, I)
        W, row blocks i f g o.
    w_hh : ndarray, shape (4*H, H), or (4*H, P) with a projection
        R, row blocks i f g o.
    b_ih, b_hh : ndarray, shape (4*H,), optional
        Biases; zeros where not given.
    h0, c0 : ndarray, shape (B, H), h0 (B, P) with a projection, optional
        First states; zeros where not given.
    peepholes : ndarray, shape (3, H), optional
        p_i, p_f, p_o.
    w_hr : ndarray, shape (P, H), optional
        Projection: ``h' = W_hr (o * tanh(c'))``, so that h0, h_n and y have P in place of H.
    lengths : ndarray of int, shape (B,), optional
        Steps of each sequence that are real; the rest is not executed, and y is 0 there.
    mask : ndarray of bool, shape (T, B), optional
        True at real steps; a masked step passes the state through. Not with `lengths`.
    reset : ndarray of bool, shape (T, B), optional
        True at t cuts the link between steps t-1 and t.
    initial : (ndarray, ndarray), shapes of h0 and c0, optional
        The state that a cut link starts from; zeros where not given.
    save : bool
        Keep what `lstm_backward` needs.
    num_threads : int, optional
        Threads of this call; no result depends on it.

    Returns
    -------
    y : ndarray, shape (T, B, H), (T, B, P) with a projection
        h after each step.
    h_n, c_n : ndarray, shape (B, H), h_n (B, P) with a projection
        h and c after each sequence's last real step.
    saved : Saved or None
        For `lstm_backward`.

    Raises
    ------
    TypeError
        An array is not a NumPy array of the dtype of x, float32 or float64; lengths are no
        integers, a mask or reset is not of bool.
    ValueError
        A shape does not fit, lengths and mask are both given, or initial without reset.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9, 1997;
    F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, Neural Computation 12, 2000;
    peepholes: F. A. Gers and J. Schmidhuber, Recurrent nets that time and count, IJCNN 2000.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> rng = np.random.default_rng(0)
    >>> x, w_ih, w_hh = (rng.standard_normal(s) for s in ((20, 4, 3), (4 * 8, 3), (4 * 8, 8)))
    >>> y, h_n, c_n, saved = fr.lstm_forward(x, w_ih, w_hh)
    >>> y.shape, c_n.shape, np.array_equal(h_n, y[-1])
    ((20, 4, 8), (4, 8), True)
    """
    spec = CELLS["lstm" if peepholes is None else "lstm_peephole"]
    sequences = _Sequences(lengths, mask, reset, initial)
    weights = (w_ih, w_hh, b_ih, b_hh, peepholes, w_hr)
    if found := _plain(spec.name, x, weights, (h0, c0), sequences, save, num_threads):
        y, (h, c) = found
        return y, h, c, None
    x = _check.plain_x("lstm_forward", x, "T, B, I")
    arrays: dict[str, Array | None] = {"w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh}
    if peepholes is not None:
        arrays["peepholes"] = peepholes
    if w_hr is not None:
        arrays["w_hr"] = w_hr
    y, (h, c), saved = _forward(
        "lstm_forward", spec, x, arrays, (h0, c0), sequences, save, num_threads
    )
    return y, h, c, saved


def lstm_backward(
    saved: Saved | None,
    dy: Array | None = None,
    dh_n: Array | None = None,
    dc_n: Array | None = None,
    *,
    num_threads: int | None = None,
) -> LSTMGradients:
    """Backpropagate through an `lstm_forward` call.

    Parameters
    ----------
    saved : Saved
        From ``lstm_forward(..., save=True)``; may be used again.
    dy : ndarray, shape (T, B, H), optional
        Gradient of y; zeros where not given.
    dh_n, dc_n : ndarray, shape (B, H), optional
        Gradients of h_n and c_n; zeros where not given.
    num_threads : int, optional
        Threads of this call; no result depends on it.

    Returns
    -------
    LSTMGradients
        Named tuple (dx, dw_ih, dw_hh, db_ih, db_hh, dh0, dc0, dpeepholes, dw_hr), each shaped as
        what it is the gradient of; the bias gradients also where there was no bias, dpeepholes and
        dw_hr None where there were none.

    Raises
    ------
    TypeError
        `saved` is something else, or an array is not a NumPy array of the dtype of x.
    ValueError
        A shape does not fit, or `saved` is that of another cell.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> rng = np.random.default_rng(0)
    >>> x, w_ih, w_hh = (rng.standard_normal(s) for s in ((20, 4, 3), (4 * 8, 3), (4 * 8, 8)))
    >>> y, h_n, c_n, saved = fr.lstm_forward(x, w_ih, w_hh, save=True)
    >>> gradients = fr.lstm_backward(saved, dh_n=2 * h_n)  # of the loss sum(h_n**2)
    >>> gradients.dw_ih.shape, gradients.dc0.shape, gradients.dpeepholes
    ((32, 3), (4, 8), None)
    """
    saved = _saved_by("lstm_backward", ("lstm", "lstm_peephole"), saved)
    dx, g, (dh0, dc0) = _backward("lstm_backward", saved, dy, (dh_n, dc_n), num_threads)
    biases = g["b_ih"], g["b_hh"]
    return LSTMGradients(dx, g["w_ih"], g["w_hh"], *biases, dh0, dc0, g.get("p"), g.get("w_hr"))


def dense_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    save: bool = False,
    num_threads: int | None = None,
) -> tuple[Array, Saved | None]:
    """Multiply by a matrix: ``y = W x + b`` for each row of x.

    Parameters
    ----------
    x : ndarray, shape (N, I)
        Input, float32 or float64; every other array has its dtype.
    w : ndarray, shape (O, I)
        W.
    b : ndarray, shape (O,), optional
        Bias; zeros where not given.
    save : bool
        Keep what `dense_backward` needs.
    num_threads : int, optional
        Threads of this call; no result depends on it.

    Returns
    -------
    y : ndarray, shape (N, O)
        The products.
    saved : Saved or None
        For `dense_backward`.

    Raises
    ------
    TypeError
        An array is not a NumPy array of the dtype of x, float32 or float64.
    ValueError
        A shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> y, saved = fr.dense_forward(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5]))
    >>> y
    array([[11.5]])
    """
    x = _check.plain_x("dense_forward", x, "N, I")[None]
    arrays: dict[str, Array | None] = {"w": w, "b": b}
    y, _, saved = _forward(
        "dense_forward", CELLS["dense"], x, arrays, (None,), _ALL_REAL, save, num_threads
    )
    return y[0], saved


def dense_backward(
    saved: Saved | None, dy: Array, *, num_threads: int | None = None
) -> DenseGradients:
    """Backpropagate through a `dense_forward` call.

    Parameters
    ----------
    saved : Saved
        From ``dense_forward(..., save=True)``; may be used again.
    dy : ndarray, shape (N, O)
        Gradient of y.
    num_threads : int, optional
        Threads of this call; no result depends on it.

    Returns
    -------
    DenseGradients
        Named tuple (dx, dw, db).

    Raises
    ------
    TypeError
        `saved` is something else, or dy is not a NumPy array of the dtype of x.
    ValueError
        The shape does not fit, or `saved` is that of another cell.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> x, w = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
    >>> y, saved = fr.dense_forward(x, w, save=True)
    >>> fr.dense_backward(saved, np.ones((1, 1)))
    DenseGradients(dx=array([[3., 4.]]), dw=array([[1., 2.]]), db=array([1.]))
    """
    saved = _saved_by("dense_backward", ("dense",), saved)
    dy = _check.plain("dense_backward", "dy", dy, saved._packed.dtype, saved._y.shape[1:])
    dx, g, _ = _backward("dense_backward", saved, dy[None], (None,), num_threads)
    return DenseGradients(dx[0], g["w_ih"], g["b_ih"])
