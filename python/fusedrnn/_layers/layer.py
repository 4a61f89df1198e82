"""`Layer`, the base of RNN, LSTM and GRU: options, calls, backpropagation and streams.

Each of the three classes adds its cell and its own options.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .._activations import Options
from .._backends.choice import caller_level
from .._backends.types import ANY_NUMBER, Inputs, Threads
from .._cells import CELLS, Array
from .._checks import arguments as _check
from .._checks import options as _check_options
from .._checks.options import Outside, Rows
from ..core._plan import plan
from ..stream import Stream
from . import inside as _inside
from . import outside as _outside
from . import stack as _stack
from .noise import Rates
from .outside import Padding
from .params import Closed, Parameterised, Part, Restored
from .stack import Incoming, Kept, Noise
from .state import StateForm, States

State = TypeVar("State")  # a state as a layer returns it
Given = TypeVar("Given")  # a state as a layer takes it
Dx = TypeVar("Dx")  # the gradient of x: an array, or None for tokens
Kind = TypeVar("Kind", bound="Layer[Any, Any]")  # typing.Self came with Python 3.11
REAL = Padding()  # every step is real

# torch's names, in torch's order; those of peepholes and of layer normalisation are this library's.
NAMES = {
    "w_ih": "weight_ih",
    "w_hh": "weight_hh",
    "b_ih": "bias_ih",
    "b_hh": "bias_hh",
    "p": "weight_p",
    "w_hr": "weight_hr",
    "norm_ih": "weight_norm_ih",
    "norm_hh": "weight_norm_hh",
    "norm_c": "weight_norm_c",
    "norm_c_bias": "bias_norm_c",
}
# Start values of layer normalisation: gains 1, bias 0. The other parameters are drawn.
CONSTANTS = {"norm_ih": 1.0, "norm_hh": 1.0, "norm_c": 1.0, "norm_c_bias": 0.0}


@dataclass(frozen=True, eq=False)
class SavedCall(Generic[Dx]):
    """What ``layer.forward`` saved for ``layer.backward``, which may use it more than once.

    Holds references to x and y: x must not be written before the backward call, and y is read-only.
    """

    _kept: tuple[Kept, ...]
    _layer: Layer[Any, Any]
    _version: int
    _rows: Rows
    _padding: Padding
    _outside: Outside
    _of_tokens: bool
    _learned: tuple[bool, bool]  # whether `state` and `initial` were the layer's parameters

    @property
    def nbytes(self) -> int:
        """Bytes kept besides x and y."""
        return _stack.nbytes(self._kept)

    @cached_property
    def cells(self) -> list[Array | None]:
        """Every cell state: for each layer (T, B, D*H), laid out as y, or None without cell states.

        0 at steps that were not executed. ``layer.backward(dcells=...)`` takes their gradients.
        """
        found = (_inside.cells(kept, self._padding) for kept in self._kept)
        return [None if a is None else self._laid_out(a) for a in found]

    @cached_property
    def gates(self) -> list[dict[str, Array]]:
        """Every gate's activation: for each layer a dict of gate names to (T, B, D*H), as y.

        0 at steps that were not executed. ``layer.backward(dgates=...)`` takes their gradients.
        """
        if self._layer._spec.norm:  # computed again from the saved products, with today's gains
            _check.unchanged(self._version == self._layer._read().version)
        found = (_inside.gates(kept, self._padding) for kept in self._kept)
        return [{name: self._laid_out(a) for name, a in gates.items()} for gates in found]

    def _laid_out(self, a: Array) -> Array:
        shown = self._rows.shown(a)
        return np.ascontiguousarray(shown) if self._rows.batched else shown


class Layer(Parameterised, Generic[State, Given]):
    """Sizes: T steps, B sequences, I inputs, H units, P outputs, L layers, D directions."""

    cell: str
    options: Options | None  # of a cell whose activations are chosen
    peepholes: bool = False
    _kind: ClassVar[str]  # the "kind" in `config`
    _own: ClassVar[dict[str, Any]]  # the options that only this class has, and their defaults

    def _create(
        self,
        cell: str,
        options: Options | None,
        *,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int,
        bias: bool | str,
        batch_first: bool,
        bidirectional: bool,
        dtype: DTypeLike,
        seed: object,
        dropout: float,
        input_dropout: float,
        recurrent_dropout: float,
        zoneout: float | Sequence[float],
        drop_connect: float,
        learn_initial_state: bool,
        proj_size: int = 0,
        forget_bias: float | None = None,
    ) -> None:
        spec = CELLS[cell]
        self.cell, self.options = cell, options
        self.dtype: np.dtype[Any] = _check.float_dtype(dtype)
        self.hidden_size, self.num_layers = _check_options.hidden_sizes(hidden_size, num_layers)
        self.input_size = _check.integer(input_size, "input_size", 0)
        self.bias = _check_options.bias(bias)
        self.batch_first = _check.flag(batch_first, "batch_first")
        self.bidirectional = _check.flag(bidirectional, "bidirectional")
        self.proj_size = _check_options.projection(proj_size, self.hidden_size)
        self.dropout = _check_options.rate(dropout, "dropout")
        self.input_dropout = _check_options.rate(input_dropout, "input_dropout")
        self.recurrent_dropout = _check_options.rate(recurrent_dropout, "recurrent_dropout")
        self.zoneout = _check_options.rates(zoneout, "zoneout", spec.states)
        self.drop_connect = _check_options.rate(drop_connect, "drop_connect")
        self.learn_initial_state = _check.flag(learn_initial_state, "learn_initial_state")
        missing = "coupled=True" if options is not None and options.coupled else ""
        missing = missing or ("" if self.bias else "bias=False")
        self.forget_bias = _check_options.forget_bias(forget_bias, missing, self.dtype)
        for inputs, hidden in self._sizes():
            _check.sizes(spec, inputs, hidden, self.dtype)
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                "dropout acts between layers, and there is one: it does nothing",
                UserWarning,
                stacklevel=caller_level(),
            )
        bounds = [1 / np.sqrt(hidden) for _, hidden in self._sizes()]
        arrays = self._draw(bounds + [0.0] * self.learn_initial_state, seed)
        if self.forget_bias is not None and not isinstance(seed, Restored):
            self._start_forget_gates(arrays, self.forget_bias)
        self._adopt(arrays)

    def _start_forget_gates(self, arrays: dict[str, Array], value: float) -> None:
        """Set the forget gate's biases so that their sum is `value`."""
        block = CELLS[self.cell].gate_names.index("f")
        for parts in self._parts():
            for part in parts:
                names = [part.names[b] for b in ("b_ih", "b_hh") if b in part.names]
                for k, name in enumerate(names):
                    gate = arrays[name].reshape(len(CELLS[self.cell].gate_names), -1)[block]
                    gate[:] = value if k == 0 else 0

    def _sizes(self) -> list[tuple[int, int]]:
        """Return the input and hidden size of each layer."""
        given = self.hidden_size
        hidden = [given] * self.num_layers if isinstance(given, int) else list(given)
        outputs = [self._directions * (self.proj_size or size) for size in hidden]
        return list(zip([self.input_size, *outputs[:-1]], hidden, strict=True))

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _parts(self) -> list[list[Part]]:
        spec = CELLS[self.cell]
        absent = {"p"} if not self.peepholes else set()
        absent |= {
            False: {"b_ih", "b_hh", "norm_c_bias"},
            "input": {"b_hh"},
            "hidden": {"b_ih"},
        }.get(self.bias, set())
        parts = []
        for k, (inputs, hidden) in enumerate(self._sizes()):
            shapes = spec.shapes(inputs, hidden, self.proj_size)
            parts.append(
                [
                    Part(
                        spec,
                        shapes,
                        {f: f"{NAMES[f]}_l{k}{end}" for f in shapes if f not in absent},
                        self.options,
                        CONSTANTS,
                    )
                    for end in ("", "_reverse")[: self._directions]
                ]
            )
        if self.learn_initial_state:
            shapes = self._state_form().parameter_shapes()
            names, zeros = {name: name for name in shapes}, dict.fromkeys(shapes, 0.0)
            parts.append([Part(None, shapes, names, None, zeros)])
        return parts

    def _state_form(self) -> StateForm:
        spec = CELLS[self.cell]
        return StateForm(
            spec.state_names,
            tuple((self.proj_size or h, h)[: spec.states] for _, h in self._sizes()),
            self._directions,
            not isinstance(self.hidden_size, int),
            self.dtype,
        )

    def _adopt(self, arrays: dict[str, Array], version: int = 0) -> None:
        super()._adopt(arrays, version)
        self._spec = CELLS[self.cell]
        widest = max(hidden for _, hidden in self._sizes())
        self._max_rows = _check.max_rows(self._spec, widest, self.dtype)
        self._form = self._state_form()
        self._names = [[part.names for part in parts] for parts in self._layout[: self.num_layers]]
        rates = self.dropout, self.input_dropout, self.recurrent_dropout
        self._rates = Rates(*rates, self.zoneout, self.drop_connect)
        self._noisy = any([*rates, *self.zoneout, self.drop_connect])
        zone = self.zoneout if len(self.zoneout) > 1 else (*self.zoneout, 0.0)
        self._zoneout = cast("tuple[float, float]", zone) if any(zone) else None

    @property
    def _output_size(self) -> int:
        """The width of y: D * P of the last layer."""
        return self._directions * self._form.widths[-1][0]

    # --- options ------------------------------------------------------------------------------

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        """Return every option of the constructor except sizes and seed, with its default."""
        return {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "bidirectional": False,
            **cls._own,
            "dropout": 0.0,
            "input_dropout": 0.0,
            "recurrent_dropout": 0.0,
            "drop_connect": 0.0,
            "zoneout": 0.0,
            "learn_initial_state": False,
            "dtype": "float32",
        }

    def _options(self) -> dict[str, Any]:
        """Return the options that make this layer again, in the order of repr."""
        given = {name: getattr(self, name) for name in self._defaults()}
        zoneout = self.zoneout if len(set(self.zoneout)) > 1 else self.zoneout[0]
        return given | {"zoneout": zoneout, "dtype": self.dtype.name}

    def __repr__(self) -> str:
        usual = self._defaults()
        given = self._options().items()
        shown = [f"{name}={value!r}" for name, value in given if value != usual[name]]
        sizes = f"{self.input_size}, {self.hidden_size}"
        return f"{type(self).__name__}({', '.join([sizes, *shown])})"

    def config(self) -> dict[str, Any]:
        """Return every option of this layer, as JSON can hold it, without the parameters.

        Returns
        -------
        dict of str to object
            "kind", the name of the class, and the keywords of its constructor except `seed`, with
            the dtype by name and tuples as lists.

        Examples
        --------
        >>> import fusedrnn as fr
        >>> fr.GRU(3, 5, reset_after=False).config()["reset_after"]
        False
        """
        sizes = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        options = sizes | self._options()
        return {"kind": self._kind} | {name: _listed(value) for name, value in options.items()}

    @classmethod
    def from_config(cls: type[Kind], config: Mapping[str, Any], state: Mapping[str, Any]) -> Kind:  # noqa: PYI019
        """Make the layer that `config` and `state_dict` describe; it computes the same bits.

        Parameters
        ----------
        config : Mapping
            From ``layer.config()``. A missing option has its default.
        state : Mapping
            From ``layer.state_dict()``.

        Returns
        -------
        A layer of this class.

        Raises
        ------
        TypeError, ValueError
            `config` is of another kind of layer, lacks a size or has an unknown option; an option
            or `state` is not as the constructor or `load_state_dict` take them.
        """
        known = ("input_size", "hidden_size", *cls._defaults())
        options = _check_options.config(config, cls._kind, known)
        layer: Kind = cast("Any", cls)(**options, seed=Restored(state))
        _check.same_cell(getattr(state, "cell", None), layer._cell())
        return layer

    # --- calls --------------------------------------------------------------------------------

    def __call__(
        self,
        x: ArrayLike | None = None,
        state: Given | None = None,
        *,
        tokens: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        initial: Given | None = None,
        masked_output: str = "zero",
        padding_value: float = 0.0,
        num_threads: int | None = None,
    ) -> tuple[Array, State]:
        """Run sequences, for inference: nothing is saved and nothing is dropped.

        With ``batch_first`` every (T, B, ...) below is (B, T, ...). Without a batch axis B is
        missing everywhere.

        Parameters
        ----------
        x : array_like, shape (T, B, I) or (T, I)
            Input, floating point; converted to the layer's dtype.
        state : ndarray, or for LSTM a tuple (h0, c0), shape (L*D, B, P) and (L*D, B, H)
            First state, index layer * D + direction; zeros if not given. If the layers have sizes
            of their own, lists of L arrays (D, B, P) and (D, B, H).
        tokens : array_like of int, shape (T, B) or (T,)
            Input as ids in [0, I), in place of x; the result is that of one-hot rows.
        lengths : array_like of int, shape (B,)
            Number of real steps of each sequence, in any order; the rest is not executed.
        mask : array_like of bool, shape (T, B)
            True at real steps; a masked step passes the state through. Not with `lengths`.
        reset : array_like of bool, shape (T, B)
            True at t cuts the link between steps t-1 and t, in both directions.
        initial : as `state`
            The state after a cut link; zeros if not given. It gets no gradient.
        masked_output : {"zero", "repeat"}
            y at masked steps: `padding_value`, or the last output (0 before the first).
        padding_value : float
            y at steps that are not real, unless they repeat an output.
        num_threads : int, optional
            Threads of this call; no result depends on it.

        Returns
        -------
        y : ndarray, shape (T, B, D*P)
            h of the last layer after each step, forward and reverse direction side by side.
        state : as `state`
            The state after each sequence's last real step.

        Raises
        ------
        TypeError
            x is not floating point, tokens are not integers, both or neither are given.
        ValueError
            A shape does not fit, an id or a length is out of range, lengths and mask are given, or
            initial without reset.
        RuntimeError
            Called inside ``with layer.writable()``.
        """
        inputs, rows, padding = self._inputs(x, tokens, lengths, mask, reset)
        how = _check_options.outside(masked_output, padding_value, self.dtype)
        now, first, cut = self._start(state, initial, reset, rows)
        y, states, _ = _stack.forward(
            now.packs,
            inputs,
            first,
            cut,
            save=False,
            threads=_threads(num_threads),
            y=self._new_y(rows),
        )
        return self._shown_y(y, padding, rows, how), self._form.outside(states, rows.batched)

    @overload
    def forward(
        self,
        x: ArrayLike,
        state: Given | None = None,
        *,
        tokens: None = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        initial: Given | None = None,
        masked_output: str = "zero",
        padding_value: float = 0.0,
        rng: np.random.Generator | None = None,
        noise: bool = True,
        num_threads: int | None = None,
    ) -> tuple[Array, State, SavedCall[Array]]: ...

    @overload
    def forward(
        self,
        x: None = None,
        state: Given | None = None,
        *,
        tokens: ArrayLike,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        initial: Given | None = None,
        masked_output: str = "zero",
        padding_value: float = 0.0,
        rng: np.random.Generator | None = None,
        noise: bool = True,
        num_threads: int | None = None,
    ) -> tuple[Array, State, SavedCall[None]]: ...

    def forward(
        self,
        x: ArrayLike | None = None,
        state: Given | None = None,
        *,
        tokens: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        initial: Given | None = None,
        masked_output: str = "zero",
        padding_value: float = 0.0,
        rng: np.random.Generator | None = None,
        noise: bool = True,
        num_threads: int | None = None,
    ) -> tuple[Array, State, SavedCall[Any]]:
        """Run sequences for training: saves what `backward` needs, draws dropout and noise.

        The other parameters, and errors, are those of calling the layer. x must not be written
        before the backward call.

        Parameters
        ----------
        rng : numpy.random.Generator, optional
            Generator of the masks; if not given a new one, whose masks cannot be repeated.
        noise : bool
            If False, nothing is dropped and nothing is drawn from `rng`. y, the state and the
            gradients are then those of calling the layer: zoneout uses its expectation.

        Returns
        -------
        y : ndarray, shape (T, B, D*P)
            Read-only, because `saved` may share it.
        state : as `state`
            The state after each sequence's last real step.
        saved : SavedCall
            Needed by `backward`. ``saved.nbytes`` is its size besides x and y; ``saved.cells`` and
            ``saved.gates`` are every cell state and gate of every layer.
        """
        inputs, rows, padding = self._inputs(x, tokens, lengths, mask, reset, copy=True)
        how = _check_options.outside(masked_output, padding_value, self.dtype)
        now, first, cut = self._start(state, initial, reset, rows, copy=True)
        learned = self.learn_initial_state
        of_parameters = learned and state is None, learned and initial is None
        noisy = _check.flag(noise, "noise") and self._noisy
        generator = _check_options.rng(rng, noisy)
        y, states, kept = _stack.forward(
            now.packs,
            inputs,
            first,
            cut,
            save=True,
            threads=_threads(num_threads),
            noise=None if generator is None else Noise(self._rates, generator),
            y=self._new_y(rows),
        )
        shown = self._shown_y(y, padding, rows, how)
        shown.flags.writeable = False
        of_tokens = inputs.tokens is not None
        saved: SavedCall[Any] = SavedCall(
            tuple(kept), self, now.version, rows, padding, how, of_tokens, of_parameters
        )
        # A view of a read-only array cannot be made writable.
        return shown.view(), self._form.outside(states, rows.batched), saved

    def backward(
        self,
        saved: SavedCall[Dx],
        dy: ArrayLike | None = None,
        dstate: Given | None = None,
        *,
        dcells: Sequence[ArrayLike | None] | None = None,
        dgates: Sequence[Mapping[str, ArrayLike] | None] | None = None,
        per_sample: bool = False,
        num_threads: int | None = None,
    ) -> tuple[Dx, State, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : SavedCall
            From this layer's `forward`; may be used more than once.
        dy : array_like, shaped as y
            Gradient of y; zeros if not given.
        dstate : shaped as the state
            Gradient of the last state; zeros if not given, or for a part that is None.
        dcells, dgates : list with an entry for each layer, optional
            Gradients of ``saved.cells`` and ``saved.gates``; zeros for None or a missing gate.
        per_sample : bool
            Return the weight gradients of every sequence separately, along a new first axis (B).
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
        _check.same_layer(saved._layer is self)
        _check.unchanged(saved._version == self._read().version)
        rows = saved._rows
        each = _check.flag(per_sample, "per_sample")
        if dy is not None:
            a = _check.as_float(dy, self.dtype, "dy")
            a = _check.shaped(a, "dy", (*rows.outside, self._output_size))
            dy = self._filled_back(rows.inside(a), saved._padding, saved._outside)
        incoming = self._incoming(saved, dstate, dcells, dgates)
        target = None
        if rows.batch_first and not saved._of_tokens:
            target = np.empty((*rows.outside, self.input_size), self.dtype).swapaxes(0, 1)
        dx, dfirst, directions, dinitial = _stack.backward(
            saved._kept, dy, incoming, per_sample=each, threads=_threads(num_threads), dx=target
        )
        if saved._of_tokens:  # dx exists if input dropout made rows of them; not returned
            dx = None
        elif dx is not None:
            dx = rows.shown(dx)
        dparams = {
            name: of[field]
            for layer, names in zip(directions, self._names, strict=True)
            for of, part in zip(layer, names, strict=True)
            for field, name in part.items()
        }
        if self.learn_initial_state:
            learned = zip((dfirst, dinitial), saved._learned, strict=True)
            used = [states for states, by in learned if by and states is not None]
            dparams |= self._form.parameter_gradients(used, rows.batch, each)
        return cast("Dx", dx), self._form.outside(dfirst, rows.batched), dparams

    def stream(self, batch_size: int = 1) -> Stream[State, Given]:
        """Make a stream, to run this layer over data that arrives piece by piece.

        Parameters
        ----------
        batch_size : int
            Number of sequences, B.

        Returns
        -------
        Stream
            It has ``step(x)``, ``stream(x)``, ``state`` and ``reset()``; its state is zeros.

        Raises
        ------
        TypeError, ValueError
            `batch_size` is not a whole number of at least 1, or the layer is bidirectional.
        """
        return Stream(self, batch_size)

    # --- between outside and inside -----------------------------------------------------------

    def _inputs(
        self,
        x: ArrayLike | None,
        tokens: ArrayLike | None,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        *,
        copy: bool = False,
    ) -> tuple[Inputs, Rows, Padding]:
        """Return a call's sequences, time-major, without its states."""
        dense, ids = None, None
        if tokens is None and x is not None:
            dense, batched = _check.sequence(
                x, self.dtype, self.input_size, self._max_rows, self.batch_first
            )
            steps, batch = dense.shape[:2]
        else:
            _check.one_of(x, tokens)
            ids, batched = _check.token_sequence(
                tokens, self.input_size, self._max_rows, self.batch_first, copy=copy
            )
            steps, batch = ids.shape
        rows = Rows(steps, batch, batched, batched and self.batch_first)
        plain = Inputs(dense, ids, zoneout=self._zoneout)
        if lengths is mask is reset is None:
            return plain, rows, REAL
        _check_options.one_kind_of_padding(lengths, mask)
        padding = Padding(
            _check_options.lengths(lengths, rows, copy=copy),
            _check_options.flags(mask, "mask", rows, copy=copy),
        )
        cut = _check_options.flags(reset, "reset", rows, copy=False)
        walk = plan(steps, batch, self._directions, *padding, cut)
        inputs = plain._replace(lengths=walk.lengths, times=walk.times, cut=walk.cut)
        return inputs, rows, padding

    def _start(
        self,
        state: Given | None,
        initial: Given | None,
        reset: object,
        rows: Rows,
        copy: bool = False,
    ) -> tuple[Closed, list[States] | None, list[States] | None]:
        """Return the parameters and, of the same moment, the first state and that after a cut."""
        while True:
            now = self._read()
            first, cut = self._states(state, initial, reset, rows, copy)
            if not self.learn_initial_state or self._now is now:
                return now, first, cut

    def _states(
        self,
        state: Given | None,
        initial: Given | None,
        reset: object,
        rows: Rows,
        copy: bool = False,
    ) -> tuple[list[States] | None, list[States] | None]:
        learned = self.learn_initial_state
        if state is None and initial is None and not learned:
            return None, None
        batch = rows.batch if rows.batched else None
        cut = self._initial(initial, reset, batch, copy)
        if learned and state is None:
            return self._first_states(rows.batch), cut
        return self._form.inside(state, "state", batch, copy=copy), cut

    def _initial(
        self, value: Given | None, reset: object, batch: int | None, copy: bool = False
    ) -> list[States] | None:
        """Return the state after a cut link."""
        _check_options.needs_reset(value, reset)
        if self.learn_initial_state and value is None and reset is not None:
            return self._first_states(1 if batch is None else batch)
        return self._form.inside(value, "initial", batch, copy=copy)

    def _first_states(self, batch: int) -> list[States]:
        """Return the state that a call starts from if it is given none."""
        if not self.learn_initial_state:
            return self._form.zeros(batch)
        return self._form.from_parameters(self._views()[0], batch)

    def _new_y(self, rows: Rows) -> Array | None:
        """Make a batch-major y, as a time-major view; None: a new time-major array will do."""
        if not rows.batch_first:
            return None
        y: Array = np.empty((*rows.outside, self._output_size), self.dtype).swapaxes(0, 1)
        return y

    def _shown_y(self, y: Array, padding: Padding, rows: Rows, how: Outside) -> Array:
        """Return y in the caller's layout, with steps that are not real filled in."""
        other: Array | None = None
        if padding.mask is not None or how.value != 0:
            other = _outside.filled(y, padding, self._directions, how)
        if other is None:
            return rows.shown(y)
        return np.ascontiguousarray(rows.shown(other))

    def _filled_back(self, dy: Array, padding: Padding, how: Outside) -> Array:
        if padding.mask is None or not how.repeat:
            return dy
        return _outside.filled_back(dy, padding, self._directions, how)

    def _incoming(
        self, saved: SavedCall[Any], dstate: Any, dcells: object, dgates: object
    ) -> list[Incoming]:
        """Return the gradients of all outputs except y, by layers."""
        rows, layers = saved._rows, self.num_layers
        states = self._form.inside(dstate, "dstate", rows.batch if rows.batched else None)
        cells = _check_options.per_layer(dcells, "dcells", layers)
        gates = _check_options.per_layer(dgates, "dgates", layers)
        found = []
        for k, (_, hidden) in enumerate(self._sizes()):
            width = self._directions * hidden
            of_cells, of_gates = None, None
            if cells[k] is not None:
                _check_options.has_cells(self._spec.states > 1, self.cell)
                of_cells = _inside.split(
                    self._steps(cells[k], f"dcells[{k}]", rows, width), self._directions
                )
            if gates[k] is not None:
                names = self._spec.gate_names
                given = _check_options.gate_gradients(gates[k], f"dgates[{k}]", names)
                of_gates = _inside.stacked(
                    [
                        self._steps(given[name], f"dgates[{k}][{name!r}]", rows, width)
                        if name in given
                        else np.zeros((rows.steps, rows.batch, width), self.dtype)
                        for name in names
                    ],
                    self._directions,
                )
            found.append(Incoming(None if states is None else states[k], of_cells, of_gates))
        return found

    def _steps(self, value: object, name: str, rows: Rows, width: int) -> Array:
        """Return an array laid out as y, time-major."""
        a = _check.as_float(value, self.dtype, name)
        return rows.inside(_check.shaped(a, name, (*rows.outside, width)))


def _listed(value: Any) -> Any:
    """Return an option as JSON holds it: tuples as lists."""
    return [_listed(one) for one in value] if isinstance(value, tuple) else value


def _threads(value: int | None) -> Threads:
    return ANY_NUMBER if value is None else Threads(_check.num_threads(value))
