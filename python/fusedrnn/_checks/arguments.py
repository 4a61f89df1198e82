"""Checks of arguments (arrays, sizes, states, parameters), with the text of every error about them.

Layers convert arrays to their dtype; the plain-array functions of `ops` accept only NumPy arrays of
one float dtype. Both pass on arrays that are native-endian, aligned and C-contiguous, and copy only
those that are not. An error text names the argument, what was expected and what was given.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from .._cells import Array, CellSpec
from .._foreign import as_array, prefix_advice, prefixes, stack_names

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# No array of a call may be larger: byte offsets then fit 64 bits, with room for padding.
MAX_BYTES = 2**59
MAX_THREADS = 1024
MAX_LAYERS = 65536
# Arguments that are sequences; where they are several, `lengths` may say how long each is.
SEQUENCES = ("x", "y", "tokens", "targets")
NONLINEARITIES = ("tanh", "relu", "sigmoid", "identity")


def describe(value: object) -> str:
    """Describe a value for an error text: arrays by dtype and shape, other values by type."""
    if isinstance(value, np.ndarray):
        return f"{type(value).__name__} {value.dtype} {value.shape}"
    return type(value).__name__


# --- arrays -----------------------------------------------------------------------------------


def _plain(a: Array) -> bool:
    flags = a.flags
    return flags.c_contiguous and flags.aligned and a.dtype.isnative


def contiguous(a: Array, dtype: np.dtype[Any], *, copy: bool = False) -> Array:
    """Return `a` as an aligned, native-endian, C-contiguous array of `dtype`; itself if it is."""
    if a.dtype == dtype and _plain(a) and not copy:
        return a
    return np.array(a, dtype, order="C", copy=True, subok=False)


def keep_apart(outputs: Iterable[tuple[str, object]], inputs: Iterable[object]) -> None:
    """Raise a ValueError if an output of the caller shares memory with another array of the call.

    Outputs are written while inputs are still being read. What is not an array is passed over; of
    tuples, lists and mappings, each item counts.
    """
    others = [a for given in inputs for a in _arrays(given)]
    for name, target in outputs:
        for out in _arrays(target):
            if any(np.may_share_memory(out, other) for other in others):
                raise ValueError(f"{name}: shares memory with another array of the call")
            others.append(out)


def _arrays(given: object) -> list[Array]:
    if isinstance(given, Mapping):
        given = list(given.values())
    if isinstance(given, (tuple, list)):
        return [a for item in given for a in _arrays(item)]
    return [given] if isinstance(given, np.ndarray) else []


def read(value: object, name: str) -> Array:
    """Return a value as a NumPy array; a TypeError if NumPy cannot read it."""
    if isinstance(value, (list, tuple)) or (
        isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.ndim
    ):
        _one_length(value, name)
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # torch raises RuntimeError
        raise TypeError(f"{name}: NumPy cannot read it: {error}") from None


def _one_length(value: Any, name: str) -> None:
    """Refuse sequences of different lengths in a list or an array of objects."""
    if name.split()[-1] not in SEQUENCES:
        return
    lengths = {_length(one) for one in value}
    if len(lengths) > 1 and -1 not in lengths:
        raise TypeError(
            f"{name}: expected sequences of one length, got lengths from {min(lengths)} to "
            f"{max(lengths)}; pad to one length, and pass lengths= where the call takes it"
        )


def _length(value: object) -> int:
    """Return the length of a sequence; -1 for anything else."""
    if isinstance(value, (list, tuple)):
        return len(value)
    return len(value) if isinstance(value, np.ndarray) and value.ndim else -1


def no_loss(value: object, name: str) -> None:
    """Refuse a loss given in place of its gradient; recognised without importing `nn`."""
    if hasattr(value, "gradient") and hasattr(value, "value"):
        raise TypeError(f"{name}: got a {type(value).__name__}; pass loss.gradient")


def floating(value: object, name: str) -> Array:
    """Return a floating-point array, in its own dtype and memory layout."""
    if type(value) is np.ndarray and value.dtype.kind == "f":
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array of floating point, got a masked array")
    if name.startswith("d"):  # a gradient, such as dy, dh_n or dcells[0]
        no_loss(value, name)
    a = read(value, name)
    if a.dtype.kind in "iub" and name == "x":
        raise TypeError(
            f"x: expected floating point, got {a.dtype}. Pass integer ids as layer(tokens=ids), "
            "or numbers as x.astype(np.float32)"
        )
    if a.dtype.kind != "f":
        came = describe(a) if a.ndim else describe(value)
        raise TypeError(f"{name}: expected an array of floating point, got {came}")
    return a


def as_float(value: object, dtype: np.dtype[Any], name: str) -> Array:
    """Return a floating-point array in the layer's dtype, contiguous."""
    return contiguous(floating(value, name), dtype)


def plain_x(function: str, x: object, axes: str) -> Array:
    """Check the x of a plain-array call, in its own memory layout; its dtype is the call's."""
    _plain_array(function, "x", x)
    assert isinstance(x, np.ndarray)
    if x.dtype.newbyteorder("=") not in FLOATS:
        raise TypeError(f"{function}: x: expected float32 or float64, got {describe(x)}")
    if x.ndim != axes.count(",") + 1:
        raise ValueError(f"{function}: x: expected shape ({axes}), got {x.shape}")
    return x


def _plain_array(function: str, name: str, value: object) -> None:
    if type(value) is not np.ndarray and not isinstance(value, np.memmap):
        if name.startswith("d"):
            no_loss(value, f"{function}: {name}")
        raise TypeError(
            f"{function}: {name}: expected a NumPy array of float32 or float64, "
            f"got {describe(value)}"
        )


def plain(
    function: str,
    name: str,
    value: object,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    *,
    copy: bool = False,
) -> Array:
    """Check one array argument of a plain-array function: its dtype and its shape."""
    _plain_array(function, name, value)
    assert isinstance(value, np.ndarray)
    if value.dtype.newbyteorder("=") != dtype:
        raise TypeError(
            f"{function}: {name}: expected {dtype}, as x is, got {describe(value)}; "
            "all arrays of a call have one dtype"
        )
    if value.shape != shape:
        raise ValueError(f"{function}: {name}: expected shape {shape}, got {value.shape}")
    return contiguous(value, dtype, copy=copy)


def plain_sizes(
    function: str, spec: CellSpec, x: Array, arrays: Mapping[str, object]
) -> tuple[int, int, int]:
    """Return input, hidden and projected (or 0) size of a plain-array call."""
    name, weight = [*arrays.items()][1 if spec.h_gates else 0]
    _plain_array(function, name, weight)
    assert isinstance(weight, np.ndarray)
    project = "w_hr" in arrays
    columns = ("P" if project else "H") if spec.h_gates else "I"
    rows, width = weight.shape if weight.ndim == 2 else (0, 0)
    hidden = width if spec.h_gates and not project else rows // spec.x_gates
    if hidden == 0 or (spec.h_gates and width == 0) or rows != spec.x_gates * hidden:
        gates = "" if spec.x_gates == 1 else f"{spec.x_gates}*"
        raise ValueError(
            f"{function}: {name}: expected shape ({gates}H, {columns}) with H >= 1, "
            f"got {weight.shape}"
        )
    if _too_many(x, max_rows(spec, hidden, x.dtype)):
        too_large(f"{function}: x", x.shape)
    return x.shape[2], hidden, width if project else 0


def shaped(a: Array, name: str, shape: tuple[int, ...]) -> Array:
    """Return `a` if its shape is `shape`."""
    if a.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {a.shape}")
    return a


def _too_many(x: Array, max_rows: int) -> bool:
    """Whether the arrays of a call would be too large; checked before x itself is copied."""
    return (x.shape[0] or 1) * (x.shape[1] or 1) > max_rows or x.size > MAX_BYTES // 8


def sequence(
    value: object, dtype: np.dtype[Any], input_size: int, max_rows: int, batch_first: bool
) -> tuple[Array, bool]:
    """Return a layer's x as (T, B, I), a view if batch-first, and whether it has a batch axis."""
    x = floating(value, "x")
    batched = x.ndim == 3
    if not (batched or x.ndim == 2) or x.shape[-1] != input_size:
        axes = "B, T" if batch_first else "T, B"
        raise ValueError(
            f"x: expected shape ({axes}, {input_size}) or (T, {input_size}), got {x.shape}"
        )
    if not batched:
        x = x[:, None]
    if _too_many(x, max_rows):
        too_large("x", x.shape)
    x = contiguous(x, dtype)
    return x.swapaxes(0, 1) if batched and batch_first else x, batched


def token_sequence(
    value: object, input_size: int, max_rows: int, batch_first: bool, *, copy: bool
) -> tuple[Array, bool]:
    """Return a layer's tokens as (T, B) int64, and whether they have a batch axis."""
    ids = _integers(value)
    if ids.ndim not in (1, 2):
        axes = "B, T" if batch_first else "T, B"
        raise ValueError(f"tokens: expected shape ({axes}) or (T,), got {ids.shape}")
    batched = ids.ndim == 2
    if ids.size > max_rows:
        too_large("tokens", ids.shape)
    given, ids = ids, _in_range(ids, input_size)
    if batched and batch_first:
        ids = np.ascontiguousarray(ids.T)
    if copy and np.may_share_memory(ids, given):
        ids = ids.copy()
    return ids if batched else ids[:, None], batched


def _integers(value: object) -> Array:
    ids = read(value, "tokens")
    if ids.dtype.kind not in "iu" or isinstance(value, np.ma.MaskedArray):
        came = "a masked array" if isinstance(value, np.ma.MaskedArray) else describe(ids)
        raise TypeError(f"tokens: expected an array of integers, got {came}")
    return ids


def _in_range(ids: Array, input_size: int) -> Array:
    """Return `ids` as int64, all in [0, input_size)."""
    if ids.size and (ids.min() < 0 or ids.max() >= input_size):
        at = tuple(np.argwhere((ids < 0) | (ids >= input_size))[0].tolist())
        raise ValueError(f"tokens: expected ids in [0, {input_size}), got {ids[at]} at {at}")
    return contiguous(ids, np.dtype(np.int64))


def step_input(value: object, dtype: np.dtype[Any], batch: int, input_size: int) -> Array:
    """Check a stream's x of one step: (B, I), or (I,) if B is 1."""
    x = as_float(value, dtype, "x")
    if x.shape != (batch, input_size) and not (batch == 1 and x.shape == (input_size,)):
        short = f" or ({input_size},)" if batch == 1 else ""
        raise ValueError(f"x: expected shape {(batch, input_size)}{short}, got {x.shape}")
    return x


def step_tokens(value: object, batch: int, input_size: int) -> Array:
    """Check a stream's tokens of one step: (B,), or () if B is 1."""
    ids = _integers(value)
    if ids.shape != (batch,) and not (batch == 1 and ids.shape == ()):
        short = " or ()" if batch == 1 else ""
        raise ValueError(f"tokens: expected shape {(batch,)}{short}, got {ids.shape}")
    return _in_range(ids, input_size)


def stream_batch(sequence: Array, batch: int) -> None:
    """Refuse a chunk whose batch size is not the stream's."""
    if sequence.shape[1] != batch:
        raise ValueError(f"stream: expected chunks of {batch} sequences, got {sequence.shape[1]}")


def one_of(x: object, tokens: object) -> None:
    """Refuse both x and tokens, and neither."""
    if (x is None) == (tokens is None):
        raise TypeError(f"expected either x or tokens, got {'neither' if x is None else 'both'}")


def parts(value: object, what: str, names: tuple[str, ...]) -> tuple[Any, ...]:
    """Return a state's parts: the value itself, or a tuple with one part for each name."""
    if what.startswith("d"):
        no_loss(value, what)
    if len(names) == 1:
        return (value,)
    if isinstance(value, (tuple, list)) and len(value) == len(names):
        return tuple(value)
    came = f"{len(value)} parts" if isinstance(value, (tuple, list)) else describe(value)
    raise TypeError(f"{what}: expected a tuple ({', '.join(names)}), got {came}")


def layer_list(value: object, name: str, layers: int) -> tuple[Any, ...]:
    """Check a list of one array for each layer, for layers of different sizes."""
    if isinstance(value, (tuple, list)) and len(value) == layers:
        return tuple(value)
    came = f"{len(value)} items" if isinstance(value, (tuple, list)) else describe(value)
    raise TypeError(f"{name}: expected a list of {layers} arrays, one for each layer, got {came}")


def out(value: object, like: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Check an output array, which is written in place: shape, dtype, writable, contiguous."""
    if type(value) is not np.ndarray or value.dtype != dtype:
        raise TypeError(f"out: expected a NumPy array of {dtype}, got {describe(value)}")
    if value.shape != like:
        raise ValueError(f"out: expected shape {like}, got {value.shape}")
    flags = value.flags
    if not (flags.writeable and flags.c_contiguous and flags.aligned):
        wrong = [
            text
            for ok, text in (
                (flags.writeable, "read-only"),
                (flags.c_contiguous, "not C-contiguous"),
                (flags.aligned, "not aligned"),
            )
            if not ok
        ]
        raise ValueError(
            f"out: expected a writable, C-contiguous, aligned array, got one that is "
            f"{' and '.join(wrong)}"
        )
    return value


# --- numbers and names ------------------------------------------------------------------------


def integer(value: object, name: str, low: int) -> int:
    """Check a whole number of at least `low`."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected a whole number, got {describe(value)}")
    try:
        number = operator.index(value)
    except TypeError:  # an array of several numbers has __index__ too
        raise TypeError(f"{name}: expected a whole number, got {describe(value)}") from None
    if number < low:
        raise ValueError(f"{name}: expected at least {low}, got {number}")
    return number


def too_large(name: str, value: object) -> NoReturn:
    """Refuse sizes whose arrays cannot be addressed."""
    raise ValueError(
        f"{name}: {value} is too large: an array of the call would pass {MAX_BYTES} bytes"
    )


def max_rows(spec: CellSpec, hidden_size: int, dtype: np.dtype[Any]) -> int:
    """Return the largest T * B, including both directions."""
    slots = spec.gates + spec.states
    return MAX_BYTES // (2 * slots * (hidden_size + 64) * dtype.itemsize)


def sizes(
    spec: CellSpec, input_size: object, hidden_size: object, dtype: np.dtype[Any]
) -> tuple[int, int]:
    """Check the sizes of a layer."""
    inputs, hidden = integer(input_size, "input_size", 0), integer(hidden_size, "hidden_size", 1)
    widest = 2 * spec.gates * (hidden + 64) * (max(inputs, hidden) + 64) * dtype.itemsize
    if widest > MAX_BYTES:
        too_large("sizes", f"(input_size, hidden_size) = {(inputs, hidden)}")
    return inputs, hidden


def float_dtype(value: object) -> np.dtype[Any]:
    """Return the dtype float32 or float64, native-endian."""
    try:
        dtype = np.dtype(value)  # type: ignore[call-overload]
    except TypeError:
        dtype = None
    if value is None or dtype is None or dtype.newbyteorder("=") not in FLOATS:
        raise TypeError(f"dtype: expected float32 or float64, got {value!r}")
    native: np.dtype[Any] = dtype.newbyteorder("=")
    return native


def generator(seed: object) -> np.random.Generator:
    """Return the generator that a seed gives."""
    try:
        return np.random.default_rng(seed)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"seed: expected what numpy.random.default_rng takes (None, a non-negative integer or "
            f"several, a SeedSequence, BitGenerator or Generator), got {seed!r}"
        ) from None


def flag(value: object, name: str) -> bool:
    """Check True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {describe(value)}")
    return bool(value)


def nonlinearity(value: object) -> str:
    """Check a name of NONLINEARITIES."""
    return choice(value, "nonlinearity", NONLINEARITIES)


def text(value: object, name: str) -> str:
    """Check that a name is a text."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a name, got {describe(value)}")
    return value


def path(value: object, name: str = "path") -> None:
    """Check the name of a file."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{name}: expected the path of a file, got {describe(value)}")


def choice(value: object, name: str, choices: tuple[str, ...], why: str = "") -> str:
    """Check that a name is one of `choices`."""
    value = text(value, name)
    if value not in choices:
        expected = f"one of {', '.join(map(repr, choices))}" if choices else "nothing to choose"
        raise ValueError(f"{name}: expected {expected}, got {value!r}{why}")
    return value


def num_threads(value: object) -> int:
    """Check a number of threads."""
    number = integer(value, "num_threads", 1)
    if number > MAX_THREADS:
        raise ValueError(f"num_threads: expected at most {MAX_THREADS}, got {number}")
    return number


def environment_threads(text: str) -> int:
    """Return FUSEDRNN_NUM_THREADS as a number; 0 if it is empty."""
    if text and not (text.isdecimal() and 1 <= int(text) <= MAX_THREADS):
        raise ValueError(
            f"FUSEDRNN_NUM_THREADS: expected a whole number from 1 to {MAX_THREADS}, got {text!r}"
        )
    return int(text or 0)


def rows(value: object, batch_size: int) -> Array:
    """Return the rows of a stream to reset, as a bool array (batch_size,)."""
    a = read(value, "rows")
    if a.dtype.kind == "b":
        if a.shape != (batch_size,):
            raise ValueError(f"rows: expected {batch_size} flags, got shape {a.shape}")
        return a
    if a.size and a.dtype.kind not in "iu":
        raise TypeError(f"rows: expected indices or flags, got {describe(a)}")
    if a.size and (a.min() < 0 or a.max() >= batch_size):
        raise ValueError(f"rows: expected indices in [0, {batch_size}), got {value!r}")
    chosen = np.zeros(batch_size, bool)
    chosen[a.astype(np.intp)] = True
    return chosen


# --- parameters and saved calls ---------------------------------------------------------------


def parameter(value: object, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Return a new value of a parameter, from an array of any library."""
    try:
        a = as_array(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    return shaped(as_float(a if a.ndim else value, dtype, name), name, shape)


def parameter_name(name: object, names: Iterable[str]) -> NoReturn:
    """Refuse a name that is not a parameter's."""
    came = repr(name) if isinstance(name, str) else f"of type {type(name).__name__}"
    raise KeyError(f"no parameter {came}; this layer has {', '.join(names)}")


def same_cell(given: object, cell: str) -> None:
    """Refuse parameters of another cell, if that is known: the names alone may be equal."""
    if isinstance(given, str) and given != cell:
        raise ValueError(
            f"load_state_dict changed nothing: weights of a {given} cell; this layer's cell is "
            f"{cell}. Make a layer of that cell; dict(state_dict) is loaded whatever its cell"
        )


def loaded(
    mapping: Mapping[str, Any],
    prefix: str,
    parameters: Mapping[str, tuple[int, ...]],
    dtype: np.dtype[Any],
) -> dict[str, Array]:
    """Return new values of all parameters from a state_dict; one ValueError lists all faults."""
    _names_and_arrays(mapping, prefix)
    given = {key[len(prefix) :]: mapping[key] for key in mapping if key.startswith(prefix)}
    if not any(name in parameters for name in given):
        # torch's LSTMCell has the names of a stack of one layer, without the layer's number.
        given = {name: given[key] for key, name in stack_names(given).items()}
    wrong = [f"missing {prefix + name!r}" for name in parameters if name not in given]
    wrong += [f"unexpected {prefix + name!r}" for name in given if name not in parameters]
    values: dict[str, Array] = {}
    for name, shape in parameters.items():
        if name in given:
            try:
                values[name] = parameter(given[name], prefix + name, dtype, shape)
            except (TypeError, ValueError, RuntimeError) as error:  # torch raises RuntimeError
                text = str(error)
                wrong.append(text if text.startswith(prefix + name) else f"{prefix + name}: {text}")
    if wrong:
        full = [
            p for p in prefixes(mapping, parameters) if all(p + n in mapping for n in parameters)
        ]
        advice = prefix_advice([p + n for p in full for n in parameters], parameters)
        if advice and not any(name in given for name in parameters):
            behind = "another prefix" if prefix else "a prefix"
            wrong = [f"expected {', '.join(parameters)}, got these names behind {behind}"]
        raise ValueError("load_state_dict changed nothing: " + "; ".join(wrong) + advice)
    return values


def _names_and_arrays(mapping: object, prefix: object) -> None:
    if not isinstance(mapping, Mapping):
        lists = isinstance(mapping, (list, tuple)) and all(hasattr(a, "shape") for a in mapping)
        hint = "; a list of arrays, as Keras has it, is for fusedrnn.weights.from_keras"
        raise TypeError(
            f"state_dict: expected a mapping of names to arrays, got {describe(mapping)}"
            f"{hint if lists else ''}"
        )
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected a text, got {describe(prefix)}")
    for key in mapping:
        if not isinstance(key, str):
            raise TypeError(f"state_dict: expected names of type str, got {key!r}")


NOISE = ("dropout", "input_dropout", "recurrent_dropout", "zoneout", "drop_connect")


def fixed(name: str) -> NoReturn:
    """Refuse to change an option of a layer: it determined the kernels and the parameters."""
    without = "forward(noise=False) trains without noise; else " if name in NOISE else ""
    raise AttributeError(
        f"{name}: a layer's options are fixed when it is made; {without}make another layer"
    )


def parameters_open() -> NoReturn:
    """Refuse a call, or reading parameters, while `layer.writable()` is open in any thread."""
    raise RuntimeError(
        "the layer's parameters are open for writing, here or in another thread; leave "
        "`with layer.writable()` first"
    )


def block_ended(name: str) -> NoReturn:
    """Refuse to write through the mapping of a `writable` block that has ended."""
    raise ValueError(
        f"{name}: read-only: the `with layer.writable()` block that gave this mapping has ended"
    )


def same_layer(same: bool) -> None:
    """Refuse what another layer's forward saved."""
    if not same:
        raise ValueError(
            "saved: expected what this layer's forward() returned, got another layer's"
        )


def unchanged(same: bool) -> None:
    """Refuse `saved` if the parameters have changed: gradients are those of the forward call."""
    if not same:
        raise RuntimeError(
            "saved: the layer's parameters have changed since this forward(); run it again"
        )


def saved_type(saved: object, kind: type, source: str) -> None:
    """Refuse a `saved` that is not what a forward call returned."""
    if not isinstance(saved, kind):
        raise TypeError(f"saved: expected what {source} returned, got {describe(saved)}")


def saved_cell(function: str, cell: str, cells: Iterable[str]) -> None:
    """Refuse a `saved` from a forward call of another kind of layer."""
    if cell not in cells:
        raise ValueError(
            f"{function}: saved: expected what {function.replace('backward', 'forward')}(..., "
            f"save=True) returned, got that of a {cell} call"
        )


# --- weights of other systems (fusedrnn.weights) ----------------------------------------------


def weights_differ(what: str, expected: str, found: str) -> NoReturn:
    """Refuse names, shapes, numbers of arrays or sizes that do not fit."""
    raise ValueError(f"{what}: expected {expected}; found {found}")


def weights_type(what: str, expected: str, value: object) -> NoReturn:
    """Refuse a container or an array of the wrong kind."""
    raise TypeError(f"{what}: expected {expected}, got {describe(value)}")


def weights_mapping(what: str, value: object) -> Mapping[str, Any]:
    """Check a mapping of names to arrays."""
    if not isinstance(value, Mapping) or any(not isinstance(name, str) for name in value):
        weights_type(what, "a mapping of names to arrays", value)
    return value


def weights_array(what: str, name: str, value: object) -> Array:
    """Return an array of floating point, of any library; 16 bits or less become float32."""
    a = _weights_read(what, name, value)
    if a.dtype.kind != "f":
        weights_type(what, f"{name} as an array of floating point", a if a.ndim else value)
    return a


def weights_numbers(what: str, name: str, value: object) -> Array:
    """Return an array of numbers, of any kind: weights, or the counts of an optimiser."""
    a = _weights_read(what, name, value)
    if a.dtype.kind not in "fiub":
        weights_type(what, f"{name} as an array of numbers", a if a.ndim else value)
    return a


def _weights_read(what: str, name: str, value: object) -> Array:
    try:
        return as_array(value)
    except TypeError as error:
        raise TypeError(f"{what}: {name}: {error}") from None


def weights_package(extra: str, package: str, error: ImportError, advice: str = "") -> NoReturn:
    """Raise an ImportError for a file format whose package is an extra."""
    text = f"this file format needs the package {package}: pip install 'fusedrnn[{extra}]'"
    raise ImportError(text + advice) from error
