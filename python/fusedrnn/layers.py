"""RNN, LSTM and GRU, long because each documents itself.

The three differ in their cell and their options; all else is `Layer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import _check
from ._backend import Inputs, Saved, by_name, current
from ._params import Parameterised
from ._spec import CELLS, Array
from .stream import Stream

__all__ = ["GRU", "LSTM", "RNN"]

State = TypeVar("State")


@dataclass(frozen=True, eq=False)
class SavedCall:
    """What ``layer.forward`` kept for ``layer.backward``, which may use it more than once.

    Holds references to x and y: x must not be written before the backward call, y is read-only.
    """

    _saved: Saved
    _layer: Layer[Any]
    _version: int
    _batched: bool

    @property
    def nbytes(self) -> int:
        """Bytes kept beyond x and y."""
        return self._saved.nbytes


class Layer(Parameterised, Generic[State]):
    """What RNN, LSTM and GRU share. Sizes: T steps, B sequences, I inputs, H units."""

    # torch's names, in torch's order; peepholes are ours.
    _NAMES: ClassVar[dict[str, str]] = {
        "w_ih": "weight_ih_l0",
        "w_hh": "weight_hh_l0",
        "b_ih": "bias_ih_l0",
        "b_hh": "bias_hh_l0",
        "p": "weight_p_l0",
        "w_hr": "weight_hr_l0",
    }
    _options: tuple[str, ...] = ()

    def _create(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        bias: bool,
        dtype: DTypeLike,
        seed: object,
    ) -> None:
        self.cell = cell
        self.dtype: np.dtype[Any] = _check.float_dtype(dtype)
        self.input_size, self.hidden_size = _check.sizes(
            CELLS[cell], input_size, hidden_size, self.dtype
        )
        self.bias = _check.flag(bias, "bias")
        bound = 1 / np.sqrt(self.hidden_size)
        self._draw(self.input_size, self.hidden_size, bound, self.bias, seed)

    def _adopt(self, arrays: dict[str, Array]) -> None:
        super()._adopt(arrays)
        self._spec = CELLS[self.cell]
        self._max_rows = _check.max_rows(self._spec, self.hidden_size, self.dtype)

    def __repr__(self) -> str:
        options = "".join(f", {name}={getattr(self, name)!r}" for name in self._options)
        sizes = f"{self.input_size}, {self.hidden_size}"
        return f"{type(self).__name__}({sizes}, bias={self.bias}{options}, dtype={self.dtype})"

    # --- calls --------------------------------------------------------------------------------

    def __call__(
        self,
        x: ArrayLike | None = None,
        state: State | None = None,
        *,
        tokens: ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, State]:
        """Run sequences, for inference: nothing is saved.

        Parameters
        ----------
        x : array_like, shape (T, B, I) or (T, I)
            Input, floating point; converted to the layer's dtype.
        state : ndarray, or for LSTM a tuple (h0, c0), shape (1, B, H) each, (1, H) unbatched
            First state; zeros where not given.
        tokens : array_like of int, shape (T, B) or (T,)
            Input as ids in [0, I), in place of x: what one-hot rows would give.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        y : ndarray, shape (T, B, H) or (T, H)
            h after each step.
        state : as `state`
            After the last step.

        Raises
        ------
        TypeError
            x is not floating point, tokens are not integers, both or neither are given.
        ValueError
            A shape does not fit, or an id is out of range.
        RuntimeError
            Called inside ``with layer.writable()``.
        """
        weights = self._weights or _check.parameters_open()
        inputs, batched = self._inputs(x, tokens, state)
        if num_threads is not None:
            num_threads = _check.num_threads(num_threads)
        y, states, _ = current().forward(weights, inputs, save=False, num_threads=num_threads)
        if batched:
            return y, self._public(states)
        return y[:, 0], self._public(tuple(part[:, 0] for part in states))

    def forward(
        self,
        x: ArrayLike | None = None,
        state: State | None = None,
        *,
        tokens: ArrayLike | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, State, SavedCall]:
        """Run sequences and save what `backward` needs.

        Parameters and errors are those of calling the layer. x must not be written before the
        backward call.

        Returns
        -------
        y : ndarray, shape (T, B, H) or (T, H)
            h after each step; read-only, because `saved` shares it.
        state : ndarray, or for LSTM a tuple (h_n, c_n), shape (1, B, H) each, (1, H) unbatched
            After the last step.
        saved : SavedCall
            For `backward`; ``saved.nbytes`` is its size beyond x and y.
        """
        weights = self._weights or _check.parameters_open()
        inputs, batched = self._inputs(x, tokens, state, copy=True)
        if num_threads is not None:
            num_threads = _check.num_threads(num_threads)
        y, states, saved = current().forward(weights, inputs, save=True, num_threads=num_threads)
        kept = SavedCall(cast("Saved", saved), self, self._version, batched)
        if batched:
            return y, self._public(states), kept
        return y[:, 0], self._public(tuple(part[:, 0] for part in states)), kept

    def backward(
        self,
        saved: SavedCall,
        dy: ArrayLike | None = None,
        dstate: State | None = None,
        *,
        num_threads: int | None = None,
    ) -> tuple[Array | None, State, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : SavedCall
            From this layer's `forward`; may be used again.
        dy : array_like, shaped as y
            Gradient of y; zeros where not given.
        dstate : shaped as the state
            Gradient of the last state; zeros where not given, and where a part is None.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        dx : ndarray, shaped as x, or None for tokens
            Gradient of x.
        dstate : shaped as the state
            Gradient of the first state.
        dparams : dict of str to ndarray
            Gradients of the parameters, by their names.

        Raises
        ------
        TypeError
            `saved` is something else, or a gradient is not floating point.
        ValueError
            A shape does not fit, or `saved` is another layer's.
        RuntimeError
            Parameters have changed since the forward call, or are open for writing.
        """
        _check.saved_type(saved, SavedCall, "forward()")
        call = saved._saved
        _check.same_layer(saved._layer is self)
        if not self._weights:
            _check.parameters_open()
        _check.unchanged(saved._version == self._version)
        if num_threads is not None:
            num_threads = _check.num_threads(num_threads)
        steps, batch, width = call.y.shape
        batch_shape = (batch,) if saved._batched else ()
        if dy is not None:
            dy = _check.as_float(dy, self.dtype, "dy")
            dy = _check.shaped(dy, "dy", (steps, *batch_shape, width)).reshape(call.y.shape)
        dstates = self._states(dstate, "d{}_n", batch_shape, optional=True)
        dx, directions, dfirst = by_name(call.backend).backward(
            call, dy, dstates, num_threads=num_threads
        )
        if not saved._batched:
            dx = None if dx is None else dx[:, 0]
            dfirst = tuple(part[:, 0] for part in dfirst)
        gradients = directions[0]._asdict()
        dparams = {
            name: cast("Array", gradients[f"d{field}"])
            for field, name in self._NAMES.items()
            if name in self._arrays
        }
        return dx, self._public(dfirst), dparams

    def stream(self, batch_size: int = 1) -> Stream[State]:
        """Start a stream: this layer over data that arrives piece by piece.

        Parameters
        ----------
        batch_size : int
            Number of sequences, B.

        Returns
        -------
        Stream
            With ``step(x)``, ``stream(x)``, ``state`` and ``reset()``; its state is zeros.

        Raises
        ------
        TypeError, ValueError
            `batch_size` is not a whole number of at least 1.
        """
        return Stream(self, batch_size)

    def _inputs(
        self,
        x: ArrayLike | None,
        tokens: ArrayLike | None,
        state: State | None,
        *,
        copy: bool = False,
    ) -> tuple[Inputs, bool]:
        sequence: Array
        if tokens is None and x is not None:
            sequence, batched = _check.sequence(x, self.dtype, self.input_size, self._max_rows)
            inputs = Inputs(sequence)
        else:
            _check.one_of(x, tokens)
            sequence, batched = _check.token_sequence(tokens, self.input_size, self._max_rows)
            inputs = Inputs(None, sequence)
        if state is None:
            return inputs, batched
        batch_shape = sequence.shape[1:2] if batched else ()
        return inputs._replace(states=self._states(state, "{}0", batch_shape, copy)), batched

    def _states(
        self,
        value: State | None,
        names: str,
        batch_shape: tuple[int, ...],
        copy: bool = False,
        optional: bool = False,
    ) -> tuple[Array, ...] | None:
        """A state from outside as the backend takes it, (1, B, H) each."""
        shape = (1, *batch_shape, self.hidden_size)
        parts = tuple(names.format(name) for name in self._spec.state_names)
        states = _check.states(value, parts, self.dtype, shape, copy=copy, optional=optional)
        if states is None or batch_shape:
            return states
        return tuple(part[:, None] for part in states)

    def _public(self, states: tuple[Array, ...]) -> State:
        return cast("State", states if len(states) > 1 else states[0])


class RNN(Layer[Array]):
    """Elman network: ``h' = f(W x + b_ih + R h + b_hh)``; ``y, h_n = rnn(x, h0)``.

    Parameters
    ----------
    input_size, hidden_size : int
        I, at least 0, and H, at least 1.
    bias : bool
        Whether there are b_ih and b_hh.
    nonlinearity : {"tanh", "relu", "sigmoid", "identity"}
        f. "identity" is the linear state-space model.
    dtype : dtype
        float32 or float64.
    seed : optional
        What ``numpy.random.default_rng`` takes; parameters are drawn uniformly from
        +-1/sqrt(hidden_size), in their order.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    References
    ----------
    J. L. Elman, Finding structure in time, Cognitive Science 14, 1990.
    """

    _options = ("nonlinearity",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: DTypeLike = np.float32,
        seed: object = None,
    ) -> None:
        self.nonlinearity = _check.nonlinearity(nonlinearity)
        self._create(f"rnn_{nonlinearity}", input_size, hidden_size, bias, dtype, seed)


class LSTM(Layer[tuple[Array, Array]]):
    """LSTM: ``c' = f c + i g``, ``h' = o tanh(c')``; ``y, (h_n, c_n) = lstm(x, (h0, c0))``.

    Gates in the order i f g o. With peepholes, i and f also see ``p * c``, o sees ``p * c'``.

    Parameters
    ----------
    input_size, hidden_size : int
        I, at least 0, and H, at least 1.
    bias : bool
        Whether there are b_ih and b_hh.
    dtype : dtype
        float32 or float64.
    seed : optional
        What ``numpy.random.default_rng`` takes; parameters are drawn uniformly from
        +-1/sqrt(hidden_size), in their order.
    peepholes : bool
        Whether there is weight_p_l0, shape (3, H), rows i f o.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    References
    ----------
    S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9, 1997;
    F. A. Gers, J. Schmidhuber and F. Cummins, Learning to forget, Neural Computation 12, 2000;
    peepholes: F. A. Gers and J. Schmidhuber, Recurrent nets that time and count, IJCNN 2000.
    """

    _options = ("peepholes",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: object = None,
        peepholes: bool = False,
    ) -> None:
        self.peepholes = _check.flag(peepholes, "peepholes")
        cell = "lstm_peephole" if peepholes else "lstm"
        self._create(cell, input_size, hidden_size, bias, dtype, seed)


class GRU(Layer[Array]):
    """GRU: ``h' = (1 - z) n + z h``; ``y, h_n = gru(x, h0)``.

    Gates in the order r z n, with ``n = tanh(W_n x + b_in + r (R_n h + b_hn))`` or, with the
    reset gate before the product, ``n = tanh(W_n x + b_in + R_n (r h) + b_hn)``.

    Parameters
    ----------
    input_size, hidden_size : int
        I, at least 0, and H, at least 1.
    bias : bool
        Whether there are b_ih and b_hh.
    dtype : dtype
        float32 or float64.
    seed : optional
        What ``numpy.random.default_rng`` takes; parameters are drawn uniformly from
        +-1/sqrt(hidden_size), in their order.
    reset_after : bool
        True: PyTorch, cuDNN and Keras's default. False: ONNX's default and the paper.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    References
    ----------
    K. Cho et al., Learning phrase representations using RNN encoder-decoder for statistical
    machine translation, EMNLP 2014.
    """

    _options = ("reset_after",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: object = None,
        reset_after: bool = True,
    ) -> None:
        self.reset_after = _check.flag(reset_after, "reset_after")
        cell = "gru" if reset_after else "gru_reset_before"
        self._create(cell, input_size, hidden_size, bias, dtype, seed)
