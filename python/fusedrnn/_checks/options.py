"""Checks of the options of layers and of their calls, with the text of every error about them.

Sequence arguments are returned as the backends take them: time-major and contiguous, and copied if
the caller asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._activations import NAMES, Activation, defaults
from .._cells import Array
from . import arguments as _check

# --- options of a layer -----------------------------------------------------------------------


def hidden_sizes(hidden_size: object, num_layers: object) -> tuple[int | tuple[int, ...], int]:
    """Return the size of every layer, as one number or one for each, and the number of layers."""
    layers = _check.integer(num_layers, "num_layers", 1)
    if layers > _check.MAX_LAYERS:
        raise ValueError(f"num_layers: expected at most {_check.MAX_LAYERS}, got {layers}")
    if not isinstance(hidden_size, (list, tuple)):
        return _check.integer(hidden_size, "hidden_size", 1), layers
    sizes = tuple(_check.integer(size, "hidden_size", 1) for size in hidden_size)
    if not sizes or (layers != 1 and layers != len(sizes)):
        raise ValueError(
            f"hidden_size: expected one size for each of num_layers={layers} layers, "
            f"got {len(sizes)}"
        )
    return sizes, len(sizes)


def projection(value: object, hidden_size: int | tuple[int, ...]) -> int:
    """Check proj_size: 0, or less than every hidden size."""
    size = _check.integer(value, "proj_size", 0)
    smallest = hidden_size if isinstance(hidden_size, int) else min(hidden_size)
    if size >= smallest:
        raise ValueError(f"proj_size: expected less than hidden_size={hidden_size}, got {size}")
    return size


def bias(value: object) -> bool | str:
    """Check which bias vectors there are."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if not isinstance(value, str):
        raise TypeError(
            f"bias: expected True, False, 'input' or 'hidden', got {_check.describe(value)}"
        )
    if value not in ("input", "hidden"):
        raise ValueError(f"bias: expected True, False, 'input' or 'hidden', got {value!r}")
    return value


def rate(value: object, name: str) -> float:
    """Check the probability of dropping something: a number in [0, 1)."""
    return number(value, name, "a number in [0, 1)", lambda p: 0 <= p < 1)


def number(value: object, name: str, expected: str, fits: Any = math.isfinite) -> float:
    """Check a real number."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise TypeError(f"{name}: expected {expected}, got {_check.describe(value)}")
    try:
        real = float(value)
    except OverflowError:  # the whole number is too large for a float
        real = math.inf if value > 0 else -math.inf
    if not fits(real):
        raise ValueError(f"{name}: expected {expected}, got {real}")
    return real


def rates(value: object, name: str, states: int) -> tuple[float, ...]:
    """Return zoneout's rates, one for each state; `value` is a number for all, or one for each."""
    if states > 1 and isinstance(value, (tuple, list)):
        if len(value) != states:
            raise ValueError(f"{name}: expected a number or {states} of them, got {len(value)}")
        return tuple(rate(one, name) for one in value)
    return (rate(value, name),) * states


def clip(value: object) -> float:
    """Return the bound of every activation's input; infinity if `value` is None."""
    if value is None:
        return math.inf
    return number(value, "clip", "None or a number above 0", lambda t: t > 0)


def activation(value: object, name: str) -> Activation:
    """Check an activation: a name, (name, alpha) or (name, alpha, beta); "identity" is affine.

    Examples
    --------
    >>> from fusedrnn import core
    >>> core.activation("leaky_relu", "nonlinearity").alpha
    0.01
    >>> core.activation("swish", "nonlinearity")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: nonlinearity: ...
    """
    parts = (value,) if isinstance(value, str) else value
    if not isinstance(parts, (tuple, list)) or not 1 <= len(parts) <= 3:
        raise TypeError(
            f"{name}: expected a name, (name, alpha) or (name, alpha, beta), "
            f"got {_check.describe(value)}"
        )
    kind = _check.choice(parts[0], name, (*NAMES, "identity"))
    kind = "affine" if kind == "identity" else kind
    given = [number(one, f"{name}: {kind}", "a finite alpha or beta") for one in parts[1:]]
    return Activation(kind, *(*given, *defaults(kind)[len(given) :]))


def frozen(value: Any) -> Any:
    """Return an option as the layer shows it: lists as tuples, NumPy's numbers as Python's."""
    if isinstance(value, (list, tuple)):
        return tuple(map(frozen, value))
    if isinstance(value, str):
        return str(value)
    if isinstance(value, np.integer):
        return int(value)
    return float(value) if isinstance(value, np.floating) else value


def config(
    value: object,
    kind: str,
    known: Collection[str],
    needed: Collection[str] = ("input_size", "hidden_size"),
) -> dict[str, Any]:
    """Return the keywords in what ``layer.config()`` returned, for a layer of this kind."""
    if not isinstance(value, Mapping):
        raise TypeError(
            f"config: expected what {kind}.config() returned, got {_check.describe(value)}"
        )
    if value.get("kind") != kind:
        raise ValueError(
            f"config: expected that of a layer of kind {kind!r}, got {value.get('kind')!r}"
        )
    options = {name: value[name] for name in value if name != "kind"}
    wrong = [f"unknown option {name!r}" for name in options if name not in known]
    wrong += [f"missing {name!r}" for name in needed if name not in options]
    if wrong:
        raise ValueError(f"config: expected the options of {kind}; {', '.join(wrong)}")
    return options


def activations(value: object, usual: tuple[str, ...]) -> tuple[Activation, ...]:
    """Check one activation for each group; `usual` gives the default of each."""
    given = usual if value is None else value
    if not isinstance(given, (tuple, list)) or len(given) != len(usual):
        came = f"{len(given)}" if isinstance(given, (tuple, list)) else _check.describe(given)
        raise TypeError(
            f"activations: expected {len(usual)} activations, as {usual} by default, got {came}"
        )
    return tuple(activation(one, "activations") for one in given)


def layer_norm(value: object, others: dict[str, bool]) -> bool:
    """Return whether to normalise; refuse options that layer normalisation excludes."""
    norm = _check.flag(value, "layer_norm")
    wrong = [name for name, used in others.items() if used]
    if norm and wrong:
        raise ValueError(f"layer_norm: cannot be combined with {', '.join(wrong)}")
    return norm


def forget_bias(value: object, missing: str, dtype: np.dtype[Any]) -> float | None:
    """Check the start value of the forget gate's bias; `missing` names an option that rules it out.

    None: the bias is drawn as the others are.
    """
    if value is None:
        return None
    largest = float(np.finfo(dtype).max)
    expected = f"None or a finite number that fits {dtype}"
    start = number(value, "forget_bias", expected, lambda b: abs(b) <= largest)
    if missing:
        raise ValueError(f"forget_bias: expected None where {missing}, got {start}")
    return start


# --- sequences of a call ----------------------------------------------------------------------


class Rows(NamedTuple):
    """The shape of a call's sequences, from x or tokens."""

    steps: int
    batch: int
    batched: bool
    batch_first: bool

    @property
    def outside(self) -> tuple[int, ...]:
        """Shape of an array with one entry for each step, in the caller's layout."""
        if not self.batched:
            return (self.steps,)
        return (self.batch, self.steps) if self.batch_first else (self.steps, self.batch)

    def inside(self, a: Array) -> Array:
        """Return a view (T, B, ...) of such an array."""
        if not self.batched:
            return a[:, None]
        return a.swapaxes(0, 1) if self.batch_first else a

    def shown(self, a: Array) -> Array:
        """Return a view of an array (T, B, ...) in the caller's layout."""
        if not self.batched:
            return a[:, 0]
        return a.swapaxes(0, 1) if self.batch_first else a


def _of_kind(value: object, name: str, kinds: str, expected: str) -> Array:
    """Check the kind of an array's dtype; not of an empty array, because [] is of float64."""
    a, hidden = _check.read(value, name), isinstance(value, np.ma.MaskedArray)
    if hidden or (a.size and a.dtype.kind not in kinds):
        came = "a masked array" if hidden else _check.describe(a)
        raise TypeError(f"{name}: expected {expected}, got {came}")
    return a


def lengths(value: object, rows: Rows, *, copy: bool, name: str = "lengths") -> Array | None:
    """Check valid steps of each sequence: (B,) int64; without a batch axis a single number."""
    if value is None:
        return None
    a = _of_kind(value, name, "iu", "integers")
    expected = (rows.batch,) if rows.batched else ()
    if a.shape != expected and not (not rows.batched and a.shape == (1,)):
        raise ValueError(f"{name}: expected shape {expected}, got {a.shape}")
    a = a.reshape(rows.batch)
    if a.size and (a.min() < 0 or a.max() > rows.steps):
        at = int(np.argmax((a < 0) | (a > rows.steps)))
        raise ValueError(f"{name}: expected numbers in [0, {rows.steps}], got {a[at]} at {at}")
    return _check.contiguous(a, np.dtype(np.int64), copy=copy)


def flags(value: object, name: str, rows: Rows, *, copy: bool) -> Array | None:
    """Check a mask or reset: (T, B) bool."""
    if value is None:
        return None
    a = _of_kind(value, name, "b", "an array of bool")
    a = rows.inside(_check.shaped(a, name, rows.outside))
    return _check.contiguous(a, np.dtype(bool), copy=copy)


def step_flags(value: object, name: str, batch: int) -> Array | None:
    """Check one step's mask or reset: (1, B) bool."""
    if value is None:
        return None
    a = _of_kind(value, name, "b", "an array of bool")
    if a.shape != (batch,) and not (batch == 1 and a.shape == ()):
        raise ValueError(f"{name}: expected shape {(batch,)}, got {a.shape}")
    return _check.contiguous(a.reshape(1, batch), np.dtype(bool))


def one_kind_of_padding(lengths: object, mask: object, function: str = "") -> None:
    """Refuse lengths together with a mask: both say which steps are real."""
    if lengths is not None and mask is not None:
        raise ValueError(f"{function}expected lengths or mask, got both")


def needs_reset(initial: object, reset: object, function: str = "") -> None:
    """Refuse `initial` without `reset`: it is the state after a cut link."""
    if initial is not None and reset is None:
        raise ValueError(f"{function}initial: expected None where reset is not given")


class Outside(NamedTuple):
    """The values of y at steps that are not valid."""

    repeat: bool  # masked steps show the last output
    value: float


ZEROS = Outside(False, 0.0)


def outside(masked_output: object, padding_value: object, dtype: np.dtype[Any]) -> Outside:
    """Check the options about y at masked and padded steps."""
    plain = masked_output.__class__ is str and padding_value.__class__ is float
    if plain and padding_value == 0 and masked_output == "zero":
        return ZEROS  # the defaults, in almost every call: skip the checks
    repeat = _check.choice(masked_output, "masked_output", ("zero", "repeat")) == "repeat"
    largest = float(np.finfo(dtype).max)
    fits = lambda v: not math.isfinite(v) or abs(v) <= largest  # noqa: E731
    value = number(padding_value, "padding_value", f"a number that fits {dtype}", fits)
    return Outside(repeat, value)


def rng(value: object, needed: bool) -> np.random.Generator | None:
    """Return the generator of a call's noise; None without noise, a new one if none was given."""
    if value is not None and not isinstance(value, np.random.Generator):
        came = _check.describe(value)
        raise TypeError(f"rng: expected a numpy.random.Generator or None, got {came}")
    if not needed:
        return None
    return np.random.default_rng() if value is None else value


def per_layer(value: object, name: str, layers: int) -> Sequence[Any]:
    """Check a list with an entry, or None, for each layer."""
    if value is None:
        return (None,) * layers
    if not isinstance(value, (list, tuple)) or len(value) != layers:
        came = f"{len(value)}" if isinstance(value, (list, tuple)) else _check.describe(value)
        raise TypeError(
            f"{name}: expected a list with one entry for each of {layers} layers, got {came}"
        )
    return value


def gate_gradients(value: object, name: str, gates: tuple[str, ...]) -> dict[str, Any]:
    """Check the gradients of one layer's gates, by the gates' names."""
    if not isinstance(value, dict) or any(key not in gates for key in value):
        came = f"{list(value)}" if isinstance(value, dict) else _check.describe(value)
        raise ValueError(f"{name}: expected a dict with keys of {gates}, got {came}")
    return value


def not_streamed() -> None:
    """Refuse to stream a bidirectional layer: its reverse direction starts at the end."""
    raise ValueError(
        "stream: a bidirectional layer cannot run step by step: its reverse direction starts "
        "at the end of the sequence"
    )


def has_cells(there: bool, cell: str) -> None:
    """Refuse gradients of cell states for a cell without them."""
    if not there:
        raise ValueError(f"dcells: expected None: {cell} has no cell state")
