"""Checks of the arguments of `core`, with the text of every error about them.

An array of numbers must be a NumPy array of the weights' dtype; no dtype is converted silently.
Arrays that the kernels cannot read in place (big-endian, unaligned, strided in the last axis) are
copied. Outputs are written in place, so they must fit exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .._activations import Options
from .._backends import choice
from .._backends.types import Given, Inputs, Threads, Wanted
from .._cells import CELLS, Array
from .._checks import arguments as _check
from .._checks import options as _check_options
from ._plan import Plan, plan

if TYPE_CHECKING:
    from ._packed import Packed

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
OPTIONAL = {"b_ih", "b_hh", "p", "norm_c_bias", "w_hr"}

# --- weights --------------------------------------------------------------------------------------


def cell_name(value: object) -> None:
    """Refuse a name that is not a key of CELLS."""
    if not isinstance(value, str) or value not in CELLS:
        raise ValueError(f"cell: expected one of {', '.join(CELLS)}; got {value!r}")


def options(cell: str, value: object) -> Options | None:
    """Check the options: cells that choose their activations need them, others take none."""
    chosen = cell.endswith("_chosen")
    if value is None and not chosen:
        return None
    if not chosen:
        raise ValueError(f"options: the activations of {cell} are fixed; expected None")
    if not isinstance(value, Options):
        raise TypeError(f"options: {cell} needs core.Options, got {_check.describe(value)}")
    return value


def isa(value: object) -> str | None:
    """Return an instruction set of this machine, or None."""
    if value is None:
        return None
    from .. import runtime

    return _check.choice(value, "isa", runtime.supported_isas())


def directions_of(weights: object) -> list[Mapping[str, Any]]:
    """Return one mapping for each direction."""
    # Most weights are dicts, and asking whether a class is a Mapping takes a microsecond.
    given = [weights] if type(weights) is dict or isinstance(weights, Mapping) else weights
    if not isinstance(given, Sequence) or not 1 <= len(given) <= 2:
        raise TypeError(
            "weights: expected a mapping of names to arrays, or a pair of them for two "
            f"directions, got {_check.describe(weights)}"
        )
    for one in given:
        if type(one) is not dict and not isinstance(one, Mapping):
            raise TypeError(f"weights: expected mappings, got {_check.describe(one)} among them")
    return list(given)


def new_weights(cell: str, weights: object, copy: bool) -> list[dict[str, Array]]:
    """Check the weights of a new pack against the shapes of the cell; copies only what it must."""
    spec = CELLS[cell]
    found: list[dict[str, Array]] = []
    given = directions_of(weights)
    first = given[0].get("w_ih")
    if (
        not isinstance(first, np.ndarray)
        or first.ndim != 2
        or first.shape[0] % spec.x_gates
        or not first.shape[0]
    ):
        raise ValueError(
            f"weights['w_ih']: expected an array ({spec.x_gates}*H, I), "
            f"got {_check.describe(first)}"
        )
    dtype = first.dtype.newbyteorder("=")
    if dtype not in FLOATS:
        raise TypeError(f"weights['w_ih']: expected float32 or float64, got {first.dtype}")
    inputs, hidden = first.shape[1], first.shape[0] // spec.x_gates
    _check.sizes(spec, inputs, hidden, dtype)
    w_hr = given[0].get("w_hr")
    proj = 0 if w_hr is None else len(w_hr)
    if proj and (spec.states < 2 or spec.norm):
        raise ValueError(f"weights['w_hr']: {cell} does not project")
    shapes = spec.shapes(inputs, hidden, proj)
    for d, one in enumerate(given):
        label = "weights" if len(given) == 1 else f"weights[{d}]"
        unknown = [name for name in one if name not in shapes]
        if unknown:
            raise ValueError(f"{label}: {cell} has {', '.join(shapes)}; got {', '.join(unknown)}")
        arrays = {}
        for name, shape in shapes.items():
            value = one.get(name)
            if value is None and (name in OPTIONAL and not (name == "p" and _needs_p(cell))):
                continue
            arrays[name] = weight(f"{label}[{name!r}]", value, dtype, shape, copy)
        if d and set(arrays) != set(found[0]):
            raise ValueError("weights: both directions must have the same names")
        found.append(arrays)
    return found


def _needs_p(cell: str) -> bool:
    return cell == "lstm_peephole"


def weight(
    label: str, value: object, dtype: np.dtype[Any], shape: tuple[int, ...], copy: bool
) -> Array:
    """Return one array of weights as the kernels read it."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{label}: expected an array {shape}, got {_check.describe(value)}")
    if value.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"{label}: expected {dtype} as w_ih is, got {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{label}: expected shape {shape}, got {value.shape}")
    if not copy and not (value.flags.c_contiguous and value.flags.aligned and value.dtype.isnative):
        raise ValueError(f"{label}: copy=False needs a C-contiguous, aligned array")
    return np.ascontiguousarray(value, dtype.newbyteorder("="))


def same_weights(packed: Packed, weights: object) -> list[Mapping[str, Array]]:
    """Check new values for every array of a pack."""
    given = directions_of(weights)
    if len(given) != packed.directions:
        raise ValueError(f"weights: expected {packed.directions} directions, got {len(given)}")
    for d, (mine, theirs) in enumerate(zip(packed.arrays, given, strict=True)):
        label = "weights" if len(given) == 1 else f"weights[{d}]"
        present = {name for name, value in theirs.items() if value is not None}
        if present != set(mine):
            raise ValueError(
                f"{label}: expected {', '.join(mine)}; got {', '.join(sorted(present))}"
            )
        for name, a in mine.items():
            weight(f"{label}[{name!r}]", theirs[name], packed.dtype, a.shape, True)
    return [
        {name: one[name] for name in mine} for mine, one in zip(packed.arrays, given, strict=True)
    ]


_CHUNK = 1 << 16


@cache
def _native_comparison() -> Callable[[tuple[object, ...], tuple[object, ...]], bool | None] | None:
    if choice.native() is None:
        return None
    from .. import _core

    return _core.same_arrays


def same_arrays(some: tuple[Array, ...], others: tuple[object, ...]) -> bool:
    """Whether `others` have the shapes, dtypes and bytes of `some`, which are contiguous."""
    compare = _native_comparison()
    found = None if compare is None else compare(some, others)
    return all(map(_same_array, some, others)) if found is None else found


def _same_array(a: Array, b: object) -> bool:
    if not isinstance(b, np.ndarray) or b.shape != a.shape or b.dtype != a.dtype:
        return False
    compare = _native_comparison()
    b = np.ascontiguousarray(b)
    if compare is not None and (found := compare((a,), (b,))) is not None:
        return found
    left, right = a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8)
    return all(
        np.array_equal(left[i : i + _CHUNK], right[i : i + _CHUNK])
        for i in range(0, len(left), _CHUNK)
    )


# --- the arguments of a call ----------------------------------------------------------------------


def sequences(packed: Packed, x: object, tokens: object) -> Inputs:
    """Return x or tokens as `Inputs`, whose shape gives T and B."""
    if tokens is not None:
        if x is not None:
            raise TypeError("x, tokens: expected exactly one of them, got both")
        return Inputs(None, _tokens(packed, tokens))
    if x is None:
        raise TypeError("x, tokens: expected exactly one of them, got neither")
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x: expected an array (T, B, I), got {_check.describe(x)}")
    if x.ndim != 3 or x.shape[2] != packed.input_size:
        raise ValueError(f"x: expected shape (T, B, {packed.input_size}), got {x.shape}")
    _addressable(packed, x, "x")
    return Inputs(_readable(x, "x", packed, x.shape))


def _addressable(packed: Packed, a: Array, name: str) -> None:
    """Refuse more rows than can be addressed; before the array is read, as it may be broadcast."""
    rows = a.shape[0] * a.shape[1]
    if rows > _check.max_rows(packed.spec, packed.hidden_size, packed.dtype):
        _check.too_large(name, a.shape)


def _tokens(packed: Packed, value: object) -> Array:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
        raise TypeError(f"tokens: expected integers (T, B), got {_check.describe(value)}")
    if value.ndim != 2:
        raise ValueError(f"tokens: expected shape (T, B), got {value.shape}")
    _addressable(packed, value, "tokens")
    if value.size and (int(value.min()) < 0 or int(value.max()) >= packed.input_size):
        raise ValueError(
            f"tokens: expected ids in [0, {packed.input_size}), got {value.min()} to {value.max()}"
        )
    return np.ascontiguousarray(value, np.int64)


def _readable(value: object, name: str, packed: Packed, shape: tuple[int, ...]) -> Array:
    """Return an array of steps: any strides, except for a contiguous last axis."""
    _of_dtype(value, name, packed, shape)
    assert isinstance(value, np.ndarray)
    flags = value.flags
    fits = value.dtype.isnative and flags.aligned
    if fits and flags.c_contiguous:
        return value
    item = packed.dtype.itemsize
    strides = value.strides
    fits = fits and (shape[-1] <= 1 or strides[-1] == item)
    fits = fits and all(stride % item == 0 for stride in strides[:-1])
    return value if fits else np.array(value, packed.dtype, order="C", copy=True)


def _of_dtype(value: object, name: str, packed: Packed, shape: tuple[int, ...]) -> None:
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected an array {shape}, got {_check.describe(value)}")
    if value.dtype != packed.dtype and value.dtype.newbyteorder("=") != packed.dtype:
        raise TypeError(f"{name}: expected {packed.dtype} as the weights are, got {value.dtype}")
    if value.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {value.shape}")


def _whole(value: object, name: str, packed: Packed, shape: tuple[int, ...]) -> Array:
    """Return a contiguous array."""
    _of_dtype(value, name, packed, shape)
    assert isinstance(value, np.ndarray)
    return _check.contiguous(value, packed.dtype)


def _whole_or_zeros(value: object, name: str, packed: Packed, shape: tuple[int, ...]) -> Array:
    return np.zeros(shape, packed.dtype) if value is None else _whole(value, name, packed, shape)


def _state_shapes(packed: Packed, batch: int) -> list[tuple[int, ...]]:
    widths = (packed.output_size, packed.hidden_size)[: packed.spec.states]
    return [(packed.directions, batch, width) for width in widths]


def _parts(value: object, name: str, count: int) -> Sequence[Any]:
    if isinstance(value, np.ndarray) or not isinstance(value, Sequence) or len(value) != count:
        raise TypeError(
            f"{name}: expected a sequence of {count} array{'s' * (count != 1)}, "
            f"one for each state, got {_check.describe(value)}"
        )
    return value


def _each(
    check: Callable[[object, str, Packed, tuple[int, ...]], Array],
    value: object,
    name: str,
    packed: Packed,
    shapes: Sequence[tuple[int, ...]],
) -> tuple[Array, ...]:
    """Check one array for each state."""
    parts = _parts(value, name, len(shapes))
    return tuple(
        check(part, f"{name}[{k}]", packed, shape)
        for k, (part, shape) in enumerate(zip(parts, shapes, strict=True))
    )


def _states(packed: Packed, value: object, name: str, batch: int) -> tuple[Array, ...] | None:
    if value is None:
        return None
    return _each(_whole, value, name, packed, _state_shapes(packed, batch))


def walk(
    packed: Packed, steps: int, batch: int, lengths: object, mask: object, reset: object
) -> Plan:
    """Make the plan of a call."""
    if lengths is mask is reset is None:
        return Plan(steps, batch, generation=packed.generation)
    rows = _check_options.Rows(steps, batch, True, False)
    _check_options.one_kind_of_padding(lengths, mask)
    found = plan(
        steps,
        batch,
        packed.directions,
        _check_options.lengths(lengths, rows, copy=True),
        _check_options.flags(mask, "mask", rows, copy=False),
        _check_options.flags(reset, "reset", rows, copy=False),
    )
    return found._replace(generation=packed.generation)


def rest_of_inputs(
    packed: Packed,
    found: Inputs,
    walk: Plan,
    states: object,
    initial: object,
    drop: object,
    keep: object,
    zoneout: object,
    cut: bool,
) -> Inputs:
    """Add to `found` everything else that a call reads."""
    nothing = states is initial is drop is keep is zoneout is None
    if nothing and walk.lengths is walk.times is walk.cut is None:
        return found
    steps, batch = walk.steps, walk.batch
    if initial is not None and not cut:
        raise ValueError("initial: what a cut link starts from needs reset")
    if drop is not None:
        drop = _whole(drop, "drop", packed, _state_shapes(packed, batch)[0])
    rates = None if zoneout is None else _rates(packed, zoneout)
    if keep is not None:
        if rates is None:
            raise ValueError("keep: what zoneout drew needs zoneout, its rates")
        shapes = [(d, steps, b, width) for d, b, width in _state_shapes(packed, batch)]
        keep = _each(_whole, keep, "keep", packed, shapes)
    return found._replace(
        states=_states(packed, states, "states", batch),
        lengths=walk.lengths,
        times=walk.times,
        cut=walk.cut,
        initial=_states(packed, initial, "initial", batch),
        drop=drop,
        keep=keep,
        zoneout=rates,
    )


def _rates(packed: Packed, value: object) -> tuple[float, float]:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"zoneout: expected the rates of h and c, got {_check.describe(value)}")
    h, c = (_check_options.rate(rate, "zoneout") for rate in value)
    if c and packed.spec.states < 2:
        raise ValueError(f"zoneout: {packed.cell} has no c; expected 0 as its rate, got {c}")
    return h, c


def threads(exactly: object, at_most: object) -> Threads:
    """Return the number of threads that this call asks for."""
    if exactly is not None and at_most is not None:
        raise ValueError("threads, at_most: expected one of them at the most, got both")
    if exactly is not None:
        return Threads(_check.integer(exactly, "threads", 1), 0)
    if at_most is not None:
        return Threads(0, _check.integer(at_most, "at_most", 1))
    return Threads()


# --- outputs --------------------------------------------------------------------------------------


def _writable(value: Array, name: str) -> None:
    if not value.flags.writeable:
        raise ValueError(f"{name}: expected a writable array")
    if not value.dtype.isnative or not value.flags.aligned:
        raise ValueError(f"{name}: expected an aligned array in the machine's byte order")


def output(value: object, name: str, packed: Packed, shape: tuple[int, ...]) -> Array | None:
    """Check an array of steps that is written in place."""
    if value is None:
        return None
    _of_dtype(value, name, packed, shape)
    assert isinstance(value, np.ndarray)
    _writable(value, name)
    if _readable(value, name, packed, shape) is not value:
        raise ValueError(f"{name}: expected an array whose last axis is contiguous")
    if value.size and 0 in [s for s, n in zip(value.strides, shape, strict=True) if n > 1]:
        raise ValueError(f"{name}: its elements share memory with each other")
    return value


def _whole_output(value: object, name: str, packed: Packed, shape: tuple[int, ...]) -> Array:
    _of_dtype(value, name, packed, shape)
    assert isinstance(value, np.ndarray)
    _writable(value, name)
    if not value.flags.c_contiguous:
        raise ValueError(f"{name}: expected a C-contiguous array")
    return value


def states_out(
    packed: Packed, value: object, name: str, batch: int, members: tuple[int, ...] = ()
) -> tuple[Array, ...] | None:
    """Check arrays that receive states. `members`: the first axis of an ensemble, if it is one."""
    if value is None:
        return None
    shapes = [(*members, *shape) for shape in _state_shapes(packed, batch)]
    return _each(_whole_output, value, name, packed, shapes)


def saved_target(value: object, packed: Packed, shape: tuple[int, ...] | None) -> bool | Array:
    """Return whether a forward call saves, or the array that it saves to."""
    if shape is not None:
        return _whole_output(value, "saved", packed, shape)
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"saved: expected True, False or an array, got {_check.describe(value)}")
    return bool(value)


# --- backward -------------------------------------------------------------------------------------


def same_generation(walk: object, generation: int | tuple[int, ...]) -> None:
    """Refuse a plan of other weights: a backward call reads those of its forward call."""
    if not isinstance(walk, Plan):
        raise TypeError(
            f"plan: expected the plan that forward returned, got {_check.describe(walk)}"
        )
    if walk.generation != generation:
        raise RuntimeError(
            "plan: the forward call had other weights (another pack, or this one before an "
            "update); gradients would belong to neither"
        )


def same_sizes(walk: Plan, shape: tuple[int, ...]) -> None:
    """Refuse an x of another size than the forward call's."""
    if tuple(shape[:2]) != (walk.steps, walk.batch):
        raise ValueError(
            f"x, tokens: expected the forward call's {walk.steps} steps of {walk.batch} rows, "
            f"got {tuple(shape[:2])}"
        )


def steps_array(value: object, name: str, packed: Packed, walk: Plan, width: int) -> Array:
    """Return an array (T, B, width) that is read."""
    return _readable(value, name, packed, (walk.steps, walk.batch, width))


def saved_array(value: object, packed: Packed, shape: tuple[int, ...]) -> Array:
    """Return what a forward call of the backend in force saved."""
    return _whole(value, "saved", packed, shape)


def given_gradients(
    packed: Packed, walk: Plan, dy: object, dstates: object, dcells: object, dgates: object
) -> Given:
    """Return the gradients of the outputs."""
    steps, batch, n = walk.steps, walk.batch, packed.directions
    if dy is not None:
        dy = steps_array(dy, "dy", packed, walk, n * packed.output_size)
    parts: tuple[Array, ...] | None = None
    if dstates is not None:
        parts = _each(_whole_or_zeros, dstates, "dstates", packed, _state_shapes(packed, batch))
    shape = (n, steps, batch, packed.hidden_size)
    if dcells is not None:
        if packed.spec.states < 2:
            raise ValueError(f"dcells: {packed.cell} has no cell state")
        dcells = _whole(dcells, "dcells", packed, shape)
    if dgates is not None:
        gates = (*shape[:3], packed.spec.x_gates, packed.hidden_size)
        dgates = _whole(dgates, "dgates", packed, gates)
    return Given(dy, parts, dcells, dgates)


def wanted(
    packed: Packed,
    walk: Plan,
    want: Collection[str] | None,
    dx: object,
    dfirst: object,
    dweights: Any,
    add: object,
    group: object,
    members: tuple[int, ...] = (),
) -> Wanted:
    """Return which gradients are computed, and the arrays that receive them.

    `members`: the first axis of these arrays, in a call of an ensemble.
    """
    add = _check.flag(add, "add")
    rows = 0 if group is None else _check.integer(group, "group", 1)
    if rows and walk.batch % rows:
        raise ValueError(f"group: expected a divisor of the batch of {walk.batch}, got {rows}")
    first = (*members, walk.batch // rows) if rows else members
    names = packed.names
    chosen = _chosen(want, names)
    none: list[Mapping[str, Any]] = [{} for _ in range(packed.directions)]
    each = []
    for d, of in enumerate(none if dweights is None else directions_of(dweights)):
        label = "dweights" if packed.directions == 1 else f"dweights[{d}]"
        unknown = [name for name in of if name not in chosen]
        if unknown:
            raise ValueError(f"{label}: {', '.join(unknown)}: not a weight that is wanted")
        found: dict[str, bool | Array] = {name: name in chosen for name in names}
        for name, target in of.items():
            shape = (*first, *packed.arrays[0][name].shape)
            found[name] = _whole_output(target, f"{label}[{name!r}]", packed, shape)
        each.append(found)
    if len(each) != packed.directions:
        raise ValueError(f"dweights: expected {packed.directions} directions, got {len(each)}")
    if add and dweights is None:
        raise ValueError("add: nothing to add to; dweights was not given")
    return Wanted(
        _dx(packed, walk, "x" in chosen, dx, members),
        tuple(each),
        _dfirst(packed, walk, "states" in chosen, dfirst, members),
        "initial" in chosen and (want is not None or walk.cut is not None),
        add,
        rows,
    )


@lru_cache(maxsize=256)
def wanted_anew(names: tuple[str, ...], directions: int, want: frozenset[str] | None) -> Wanted:
    """Return which gradients are computed, all of them as new arrays."""
    chosen = _chosen(want, names)
    each = {name: name in chosen for name in names}
    explicit = want is not None and "initial" in chosen
    return Wanted("x" in chosen, (each,) * directions, "states" in chosen, explicit)


def _chosen(want: object, names: tuple[str, ...]) -> set[str]:
    everything = {"x", "states", "initial", *names}
    if want is None:
        return everything
    if isinstance(want, str) or not isinstance(want, Collection):
        raise TypeError(f"want: expected a collection of names, got {_check.describe(want)}")
    unknown = [name for name in want if name not in everything]
    if unknown:
        raise ValueError(
            f"want: expected names among {', '.join(sorted(everything))}; got {unknown[0]!r}"
        )
    return set(want)


def _dx(
    packed: Packed, walk: Plan, wanted: bool, target: object, members: tuple[int, ...]
) -> bool | Array:
    if target is None:
        return wanted
    if not wanted:
        raise ValueError("dx: given, but 'x' is not in want")
    found = output(target, "dx", packed, (*members, walk.steps, walk.batch, packed.input_size))
    assert found is not None
    return found


def dx_or_tokens(dx: object, tokens: object) -> None:
    """Refuse an array for the gradient of x where there is no x."""
    if dx is not None and tokens is not None:
        raise ValueError("dx: tokens have no gradient; expected None")


def _dfirst(
    packed: Packed, walk: Plan, wanted: bool, target: object, members: tuple[int, ...]
) -> bool | tuple[Array, ...]:
    found = states_out(packed, target, "dfirst", walk.batch, members)
    if found is None:
        return wanted
    if not wanted:
        raise ValueError("dfirst: given, but 'states' is not in want")
    return found
