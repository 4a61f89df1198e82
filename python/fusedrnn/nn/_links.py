"""How `Sequential` calls each kind of layer.

Between layers a sequence is (T, B, F), and a vector of each sample is (B, F), whatever the options
of the layers say. A layer with ``batch_first`` gets and returns views with the first two axes
swapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options
from ..layers import GRU, LSTM, RNN, Dense
from . import _checks
from .activation import Activation
from .dropout import Dropout
from .embedding import Embedding
from .last import Last
from .layer_norm import LayerNorm
from .pool import Pool
from .repeat_vector import RepeatVector

__all__ = ["KINDS", "Call", "Flow", "Link", "backward", "entered", "links", "outer_axes"]

Array = NDArray[Any]

# The steps of a sequence in a `Flow`: as many as the input has; or none, or some, unknown which.
INPUT_STEPS, UNKNOWN = "T", "..."


class Call(NamedTuple):
    """What a call of a model gives to its layers besides their input."""

    lengths: Array | None
    rng: np.random.Generator | None = None
    noise: bool = True
    state: Any = None  # the first state of a recurrent layer; None: zeros

    def after(self, link: Link) -> Call:
        """Return what the layers after this one get; new steps have no lengths."""
        return self if link.keeps_steps else self._replace(lengths=None)


class Flow(NamedTuple):
    """What passes from one layer to the next."""

    steps: str | int | None  # INPUT_STEPS, UNKNOWN, a number, or None for one vector of each sample
    width: int | None  # None: any

    def __str__(self) -> str:
        axes = ["B", *([] if self.steps is None else [self.steps]), self.width or "?"]
        return f"({', '.join(map(str, axes))})"


class Link:
    """One layer of a model, and how it is called."""

    sequences: ClassVar[bool | None] = None  # whether it reads sequences, or vectors; None: both
    integers: ClassVar[bool] = False  # whether it reads ids alone
    keeps_steps: ClassVar[bool] = True  # whether its output has the steps of its input

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    @property
    def reads(self) -> int | None:
        """The length of the last axis that it reads; None: any."""
        return None

    @property
    def ids(self) -> int | None:
        """The number of ids that it knows; None: it reads no ids."""
        return None

    def gives(self, flow: Flow) -> Flow:
        """Return what it makes of a flow that fits it."""
        return flow

    def call(self, a: Array, call: Call) -> tuple[Array, Any]:
        """Run it, for inference; return y and the last state, None if it has no state."""
        return self.layer(a), None

    def forward(self, a: Array, call: Call) -> tuple[Array, Any, Any]:
        """Run it; return y, the last state, and what `backward` needs."""
        y, saved = self.layer.forward(a)
        return y, None, saved

    def backward(self, saved: Any, dy: Array) -> tuple[Array | None, dict[str, Array]]:
        """Return the gradient of its input, and those of its parameters."""
        dx, gradients = self.layer.backward(saved, dy)
        return dx, gradients

    def _turned(self, a: Array) -> Array:
        """Return a view of a sequence in the layer's layout, or back."""
        return a.swapaxes(0, 1) if self.layer.batch_first else a


class Recurrent(Link):
    """RNN, LSTM or GRU: the whole output. Ids are read as tokens."""

    sequences = True

    @property
    def reads(self) -> int:
        width: int = self.layer.input_size
        return width

    @property
    def ids(self) -> int:
        return self.reads

    def gives(self, flow: Flow) -> Flow:
        sizes = self.layer.hidden_size
        hidden = sizes if isinstance(sizes, int) else sizes[-1]
        width = self.layer.proj_size or hidden
        return flow._replace(width=2 * width if self.layer.bidirectional else width)

    def call(self, a: Array, call: Call) -> tuple[Array, Any]:
        y, state = self.layer(**self._input(a), state=call.state, lengths=call.lengths)
        return self._turned(y), state

    def forward(self, a: Array, call: Call) -> tuple[Array, Any, Any]:
        y, state, saved = self.layer.forward(
            **self._input(a),
            state=call.state,
            lengths=call.lengths,
            rng=call.rng,
            noise=call.noise,
        )
        return self._turned(y), state, saved

    def backward(self, saved: Any, dy: Array) -> tuple[Array | None, dict[str, Array]]:
        dx, _, gradients = self.backward_all(saved, dy)
        return dx, gradients

    def backward_all(
        self, saved: Any, dy: Array | None, dstate: Any = None
    ) -> tuple[Array | None, Any, dict[str, Array]]:
        """Return the gradient of the first state too, and take that of the last one."""
        dy = None if dy is None else self._turned(dy)
        dx, dfirst, gradients = self.layer.backward(saved, dy, dstate)
        return None if dx is None else self._turned(dx), dfirst, gradients

    def _input(self, a: Array) -> dict[str, Array]:
        return {"tokens" if a.dtype.kind in "iu" else "x": self._turned(a)}


class Table(Link):
    """Embedding: ids of any shape."""

    integers = True

    @property
    def ids(self) -> int:
        count: int = self.layer.num_embeddings
        return count

    def gives(self, flow: Flow) -> Flow:
        return flow._replace(width=self.layer.embedding_dim)


class Map(Link):
    """Dense: a map of the last axis."""

    @property
    def reads(self) -> int:
        width: int = self.layer.in_features
        return width

    def gives(self, flow: Flow) -> Flow:
        return flow._replace(width=self.layer.out_features)


class Normal(Link):
    """LayerNorm."""

    @property
    def reads(self) -> int:
        width: int = self.layer.normalized_size
        return width


class Noisy(Link):
    """Dropout, which draws from the call's generator."""

    def forward(self, a: Array, call: Call) -> tuple[Array, Any, Any]:
        y, saved = self.layer.forward(a, rng=call.rng, noise=call.noise)
        return y, None, saved


class Elementwise(Link):
    """Activation."""


class Repeated(Link):
    """RepeatVector: a vector as a sequence."""

    sequences = False
    keeps_steps = False

    def gives(self, flow: Flow) -> Flow:
        return flow._replace(steps=self.layer.n)

    def call(self, a: Array, call: Call) -> tuple[Array, Any]:
        return self._turned(self.layer(a)), None

    def forward(self, a: Array, call: Call) -> tuple[Array, Any, Any]:
        y, saved = self.layer.forward(a)
        return self._turned(y), None, saved

    def backward(self, saved: Any, dy: Array) -> tuple[Array | None, dict[str, Array]]:
        return super().backward(saved, self._turned(dy))


class Pooled(Link):
    """Pool: a sequence as a vector."""

    sequences = True
    keeps_steps = False

    def gives(self, flow: Flow) -> Flow:
        return flow._replace(steps=None)

    def call(self, a: Array, call: Call) -> tuple[Array, Any]:
        return self.layer(self._turned(a), lengths=call.lengths), None

    def forward(self, a: Array, call: Call) -> tuple[Array, Any, Any]:
        y, saved = self.layer.forward(self._turned(a), lengths=call.lengths)
        return y, None, saved

    def backward(self, saved: Any, dy: Array) -> tuple[Array | None, dict[str, Array]]:
        dx, gradients = super().backward(saved, dy)
        return None if dx is None else self._turned(dx), gradients


class Final(Pooled):
    """Last: also a sequence as a vector, which depends on the directions of the layer before it."""


OF_CLASS: dict[type[Any], type[Link]] = {
    RNN: Recurrent,
    LSTM: Recurrent,
    GRU: Recurrent,
    Dense: Map,
    Embedding: Table,
    Dropout: Noisy,
    LayerNorm: Normal,
    RepeatVector: Repeated,
    Last: Final,
    Pool: Pooled,
    Activation: Elementwise,
}
# The classes by the kind in their `config`.
KINDS: dict[str, type[Any]] = {
    name if kind is Recurrent else f"nn.{name}": made
    for made, kind in OF_CLASS.items()
    for name in [made.__name__]
}


def _linked(layer: object, place: str) -> Link:
    """Return the link of a layer."""
    found = OF_CLASS.get(type(layer))
    if found is None:
        came = f"the class {layer.__name__}" if isinstance(layer, type) else _check.describe(layer)
        raise TypeError(f"{place}: expected a layer ({', '.join(KINDS)}), got {came}")
    return found(layer)


def links(layers: list[Any], places: list[str] | None = None) -> tuple[list[Link], list[Flow]]:
    """Return the links of a list of layers, and what flows into each and out of the last one.

    `places` are what error texts call the layers.
    """
    places = places or [f"layers[{k}]" for k in range(len(layers))]
    chain = [_linked(layer, place) for layer, place in zip(layers, places, strict=True)]
    if not chain:
        raise ValueError("layers: expected at least one layer, got an empty list")
    seen: dict[int, int] = {}
    for k, layer in enumerate(layers):
        first = seen.setdefault(id(layer), k)
        if first != k:
            raise ValueError(f"{places[k]}: is {places[first]} once more; make a layer for each")
        if layer.dtype != layers[0].dtype:
            raise TypeError(
                f"{places[k]}: is of {layer.dtype}, and {places[0]} of {layers[0].dtype}; give all "
                "layers the same dtype="
            )
    wanted = next((link.sequences for link in chain if link.sequences is not None), None)
    steps = {True: INPUT_STEPS, False: None, None: UNKNOWN}[wanted]
    reads = next((n for link in chain if (n := link.reads) is not None), None)
    flows = [Flow(steps, None if chain[0].integers else reads)]
    for k, link in enumerate(chain):
        _fits(chain, k, flows[-1], places[k])
        flows.append(link.gives(flows[-1]))
    return chain, flows


def _reads_ids(first: Link, a: Array) -> bool:
    """Whether the first layer reads this x as ids."""
    return first.ids is not None and (first.integers or (a.dtype.kind in "iu" and a.ndim < 3))


def outer_axes(first: Link, flow: Flow, a: Array, name: str) -> tuple[int, ...]:
    """Return (B,) or (B, T) of the x of a model; refuse an x of another shape."""
    width = flow.width
    inner = [] if _reads_ids(first, a) else ["F" if width is None else str(width)]
    outer = [["B", "T"]] if flow.steps == INPUT_STEPS else [["B"]]
    outer = [["B", "T"], ["B"]] if flow.steps == UNKNOWN else outer
    shapes = [[*axes, *inner] for axes in outer]
    if a.ndim not in map(len, shapes) or (inner and width not in (None, a.shape[-1])):
        texts = [f"({', '.join(axes)}{',' if len(axes) == 1 else ''})" for axes in shapes]
        raise ValueError(f"{name}: expected shape {' or '.join(texts)}, got {a.shape}")
    return a.shape[: a.ndim - len(inner)]


def entered(
    first: Link, flow: Flow, x: ArrayLike, lengths: ArrayLike | None
) -> tuple[Array, Array | None]:
    """Return the x of a model, batch-major, as the first layer reads it, and the lengths."""
    given = _check.read(x, "x")
    if _reads_ids(first, given):
        assert first.ids is not None
        a = _checks.ids(x, first.ids, "x")
    else:
        a = _checks.inputs(x, first.layer.dtype, "x")
    if len(outer_axes(first, flow, a, "x")) == 1:
        if lengths is not None:
            raise ValueError(f"lengths: expected None for x without steps, of shape {a.shape}")
        return a, None
    rows = _check_options.Rows(a.shape[1], a.shape[0], True, True)
    return a.swapaxes(0, 1), _check_options.lengths(lengths, rows, copy=True)


def backward(
    chain: Sequence[Link], saved: Sequence[Any], dy: Array
) -> tuple[Array | None, dict[str, Array]]:
    """Go back through layers in a row; return the gradient of x, and of the parameters by name."""
    d: Array | None = dy
    found: list[dict[str, Array]] = []
    for link, part in zip(reversed(chain), reversed(saved), strict=True):
        assert d is not None  # only the first layer may read ids
        d, gradients = link.backward(part, d)
        found.append(gradients)
    named = {f"{k}.{name}": g for k, of in enumerate(reversed(found)) for name, g in of.items()}
    return d, named


def _fits(chain: list[Link], k: int, flow: Flow, place: str) -> None:
    """Refuse a layer that cannot read what the layer before it gives."""
    link = chain[k]
    name = type(link.layer).__name__
    if link.integers and k:
        raise ValueError(f"{place}: {name} reads ids, so it can only be the first layer")
    if link.reads is not None and flow.width != link.reads:
        raise ValueError(
            f"{place}: {name} reads {link.reads} numbers, and the layer before it gives "
            f"{flow.width}"
        )
    if link.sequences is True and flow.steps is None:
        raise ValueError(
            f"{place}: {name} reads sequences, and the layer before it gives one vector for each "
            "sample; put nn.RepeatVector(n) before it"
        )
    if link.sequences is False and flow.steps is not None:
        raise ValueError(
            f"{place}: {name} reads one vector for each sample, and the layer before it gives "
            "sequences; put nn.Last() before it"
        )
    if isinstance(link, Final):
        readers = [one for one in chain[:k] if isinstance(one, (Recurrent, Map))]
        last = readers[-1] if readers else None
        both = isinstance(last, Recurrent) and last.layer.bidirectional
        if both and not link.layer.bidirectional:
            raise ValueError(
                f"{place}: Last follows a bidirectional layer, whose reverse direction has read "
                "the whole sequence at its first step; write nn.Last(bidirectional=True)"
            )
        if link.layer.bidirectional and not both:
            raise ValueError(f"{place}: Last follows no bidirectional layer; write nn.Last()")
