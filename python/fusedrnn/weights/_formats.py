"""Weight layouts as data: one table for every conversion, in both directions.

A layout is a tuple of entries, one for each array that a system keeps for one layer and direction.
An entry says which blocks are in the array, and how. A block is one gate's part of one of
fusedrnn's arrays. To add a system, add rows to the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .._cells import CELLS, CellSpec

# fusedrnn's arrays, by their names in a mapping without _l{k} and _reverse.
W, R = "weight_ih", "weight_hh"
B_IH, B_HH = "bias_ih", "bias_hh"
PEEPHOLES, PROJECTION = "weight_p", "weight_hr"

# Shape of one gate's block. A dimension is a string of sizes that add up: "HI" is H + I.
BLOCKS: dict[str, tuple[str, ...]] = {
    W: ("H", "I"),
    R: ("H", "P"),
    B_IH: ("H",),
    B_HH: ("H",),
    PROJECTION: ("P", "H"),
    PEEPHOLES: ("H",),
}


@dataclass(frozen=True)
class Entry:
    """One array of a system: for each of `kinds`, the blocks of `gates`, in that order.

    The gates are stacked, and then the kinds are joined side by side: matrices become wider
    ([h, x]), vectors longer (Wb, then Rb). Gates have fusedrnn's letters; "" if there are none.
    """

    name: str
    kinds: tuple[str, ...]
    gates: tuple[str, ...]
    transposed: bool = False
    rows: int = 0  # number of rows of a vector that is kept as a matrix
    optional: str = ""  # entries with the same word are all present or all absent

    @property
    def stacked(self) -> tuple[str, ...]:
        """The shape before transposing and reshaping."""
        height, *width = BLOCKS[self.kinds[0]]
        if not width:
            return (height * len(self.gates) * len(self.kinds),)
        return height * len(self.gates), "".join(BLOCKS[kind][1] for kind in self.kinds)

    @property
    def shape(self) -> tuple[str, ...]:
        """The shape as the system keeps it."""
        if self.transposed:
            return self.stacked[::-1]
        if self.rows:
            (length,) = self.stacked
            return "1" * self.rows, length[: len(length) // self.rows]
        return self.stacked


Layout = tuple[Entry, ...]


def numbers(shape: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return a shape as numbers, given the sizes of its letters."""
    return tuple(sum(1 if size == "1" else sizes[size] for size in sum_) for sum_ in shape)


def letters(shape: tuple[str, ...]) -> str:
    """Return a shape as text: ("HHH", "HI") is (3*H, H + I)."""
    parts = []
    for sum_ in shape:
        terms = []
        for size, n in Counter(sum_).items():
            terms.append(str(n) if size == "1" else f"{n}*{size}" if n > 1 else size)
        parts.append(" + ".join(terms))
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


# --- the table --------------------------------------------------------------------------------


def _gate_major(names: Iterable[str], gates: str, *more: Entry, transposed: bool = False) -> Layout:
    """Return a layout with one array for W, one for R, each with all gates, and other entries."""
    kinds = ((W,), (R,))
    pair = zip(names, kinds, strict=True)
    return (*(Entry(name, kind, tuple(gates), transposed) for name, kind in pair), *more)


def _vector(name: str, gates: str, *kinds: str, rows: int = 0, optional: str = "") -> Entry:
    return Entry(name, kinds, tuple(gates), rows=rows, optional=optional)


def _torch(gates: str, *more: Entry) -> Layout:
    biases = (_vector(kind, gates, kind, optional="bias") for kind in (B_IH, B_HH))
    return _gate_major((W, R), gates, *biases, *more)


_TORCH_PROJECTION = Entry(PROJECTION, (PROJECTION,), ("",), optional="projection")
_OUR_PEEPHOLES = _vector(PEEPHOLES, "ifo", PEEPHOLES, rows=3)


def _keras(gates: str, *kinds: str) -> Layout:
    """Return a Keras layout; `kinds` is one bias, or two that are the rows of one array."""
    rows = len(kinds) if len(kinds) > 1 else 0
    bias = _vector("bias", gates, *kinds, rows=rows, optional="bias")
    return _gate_major(("kernel", "recurrent_kernel"), gates, bias, transposed=True)


def _onnx(gates: str, *more: Entry) -> Layout:
    """Return an ONNX layout of one direction."""
    return _gate_major("WR", gates, _vector("B", gates, B_IH, B_HH, optional="bias"), *more)


def _haste(gates: str, **biases: str) -> Layout:
    entries = (_vector(name, gates, kind) for name, kind in biases.items())
    return _gate_major(("kernel", "recurrent_kernel"), gates, *entries, transposed=True)


def _flax_joined(gates: str, bias: str, kind: str) -> Layout:
    """Return the layout of nnx cells that keep all gates in two Linear layers."""
    names = ("dense_i/kernel", "dense_h/kernel")
    return _gate_major(names, gates, _vector(bias, gates, kind), transposed=True)


def _flax_gates(inputs: Mapping[str, str], b_ih: str, b_hh: str) -> Layout:
    """Return the layout of cells with two Linear layers for each gate.

    `inputs` maps a gate to the name of its input layer; its hidden layer is h{gate}. `b_ih` and
    `b_hh` name the gates whose input or hidden layer has a bias.
    """
    entries: list[Entry] = []
    for gate, name in inputs.items():
        hidden = "h" + ("" if gate == "a" else gate)
        entries.append(Entry(f"{name}/kernel", (W,), (gate,), transposed=True))
        entries += [_vector(f"{name}/bias", gate, B_IH)] * (gate in b_ih)
        entries.append(Entry(f"{hidden}/kernel", (R,), (gate,), transposed=True))
        entries += [_vector(f"{hidden}/bias", gate, B_HH)] * (gate in b_hh)
    return tuple(entries)


def _lecture(**gates: str) -> Layout:
    """Return a layout with one matrix for each gate, acting on [h, x]; `gates`: theirs=ours."""
    matrices = (Entry(f"W_{letter}", (R, W), (gate,)) for letter, gate in gates.items())
    biases = (_vector(f"b_{letter}", g, B_IH, optional="bias") for letter, g in gates.items())
    return (*matrices, *biases)


def _gates(gates: str, peepholes: str = "") -> Layout:
    """Return a layout with two matrices and a bias for each gate, and peepholes for some."""
    entries: list[Entry] = []
    for gate in gates:
        end = "" if gates == "a" else f"_{gate}"
        entries += [Entry(f"W{end}", (W,), (gate,)), Entry(f"R{end}", (R,), (gate,))]
        entries.append(_vector(f"b{end}", gate, B_IH, optional="bias"))
    return (*entries, *(_vector(f"p_{gate}", gate, PEEPHOLES) for gate in peepholes))


# gates of a cell -> layout. A GRU that resets before the product is separate ("rzn before"),
# because its two biases of n can be added.
TABLE: dict[str, dict[str, Layout]] = {
    "fusedrnn": {
        "a": _torch("a"),
        "ifgo": _torch("ifgo", _TORCH_PROJECTION, _OUR_PEEPHOLES),
        "rzn": _torch("rzn"),
        "rzn before": _torch("rzn"),
    },
    "torch": {"a": _torch("a"), "ifgo": _torch("ifgo", _TORCH_PROJECTION), "rzn": _torch("rzn")},
    "keras": {
        "a": _keras("a", B_IH),
        "ifgo": _keras("ifgo", B_IH),
        "rzn": _keras("zrn", B_IH, B_HH),
        "rzn before": _keras("zrn", B_IH),
    },
    "onnx": {
        "a": _onnx("a"),
        "ifgo": _onnx("iofg", _vector("P", "iof", PEEPHOLES)),
        "rzn": _onnx("zrn"),
        "rzn before": _onnx("zrn"),
    },
    "flax linen": {
        "a": _flax_gates({"a": "i"}, "a", ""),
        "ifgo": _flax_gates({g: f"i{g}" for g in "ifgo"}, "", "ifgo"),
        "rzn": _flax_gates({g: f"i{g}" for g in "rzn"}, "rzn", "n"),
    },
    "flax nnx": {
        "a": _flax_joined("a", "dense_i/bias", B_IH),
        "ifgo": _flax_gates({"i": "ii", "f": "if_", "g": "ig", "o": "io"}, "", "ifgo"),
        "rzn": _flax_joined("rzn", "dense_i/bias", B_IH),
    },
    "flax nnx_optimized": {"ifgo": _flax_joined("ifgo", "dense_h/bias", B_HH)},
    "haste": {
        "ifgo": _haste("igfo", bias=B_IH),
        "rzn": _haste("zrn", bias=B_IH, recurrent_bias=B_HH),
    },
    "lecture": {
        "a": (
            Entry("W_h", (R,), ("a",)),
            Entry("W_x", (W,), ("a",)),
            _vector("b", "a", B_IH, optional="bias"),
        ),
        "ifgo": _lecture(f="f", i="i", c="g", o="o"),
        "rzn before": _lecture(z="z", r="r", h="n"),
    },
    "gates": {
        "a": _gates("a"),
        "ifgo": _gates("ifgo", "ifo"),
        "rzn": _gates("rzn"),
        "rzn before": _gates("rzn"),
    },
}

# Cells of a family that a system does not have, because it lacks the activation.
LACKS: dict[str, tuple[str, ...]] = {"torch": ("rnn_sigmoid", "rnn_identity")}
FIXED = ("torch", "haste")  # systems with the default activations only
# Names of cells whose activations are chosen at run time end so; these can have peepholes.
CHOSEN = "_chosen"


def find(system: str, spec: CellSpec) -> Layout | None:
    """Return the layout of a cell in a system; None if the system does not have the cell."""
    family = "".join(spec.gate_names) + (" before" if spec.late else "")
    layout = TABLE[system].get(family)
    if layout is None or spec.h_gates == 0 or spec.norm or spec.name in LACKS.get(system, ()):
        return None
    chosen = spec.name.endswith(CHOSEN)
    if chosen and system in FIXED:
        return None
    plain = tuple(entry for entry in layout if PEEPHOLES not in entry.kinds)
    if spec.vectors == 0 or (chosen and plain == layout):
        return plain
    if plain == layout:
        return None
    peepholes = (entry for entry in layout if entry not in plain)
    optional = "peepholes" if chosen else ""
    return (*plain, *(replace(entry, optional=optional) for entry in peepholes))


def cells(*systems: str) -> tuple[str, ...]:
    """Return the cells that at least one of the systems has."""
    return tuple(name for name, spec in CELLS.items() if any(find(s, spec) for s in systems))


def apart(spec: CellSpec) -> tuple[str, ...]:
    """Return the gates whose two products, and so whose two biases, are not simply added."""
    slots = (s for s in range(spec.gates) if not spec.h_first <= s < spec.x_gates)
    return tuple({spec.gate_names[spec.block(s)]: None for s in slots})
