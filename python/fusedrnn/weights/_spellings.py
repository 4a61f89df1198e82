"""The names that notes and textbooks give to the weights of one layer, as layouts.

Every spelling has the blocks of the layout "lecture" or, with two matrices for each gate, of
"gates". Only the names of the arrays differ, so a spelling is a layout with other names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .._cells import CELLS
from .._checks import arguments as _check
from . import _text
from ._blocks import fits, names
from ._formats import B_IH, Entry, Layout, R, W

__all__ = ["spelled"]

# A name as text (Whh, W_hh) or as in a formula (W_{hh}): a letter, and an index or nothing.
NAME = re.compile(r"([A-Za-z])_?\{?(\w*)\}?")
# What notes call the output layer.
OUTPUT = {"V", "c", "C", "d", "W_y", "b_y", "W_hy", "W_hq", "b_q"}
# Who reads x and who reads h where the matrices are called W and U.
READERS = {"x": "U x + W h", "h": "W x + U h"}


class Spelling(NamedTuple):
    """A layout, and what U reads in it, "x" or "h"; None if there is no U."""

    layout: Layout
    u_reads: str | None = None


def _pair(of_x: str, of_h: str, bias: str, gate: str) -> Layout:
    """Return a gate with two matrices."""
    return (
        Entry(of_h, (R,), (gate,)),
        Entry(of_x, (W,), (gate,)),
        Entry(bias, (B_IH,), (gate,), optional="bias"),
    )


def _u_and_w(gates: Mapping[str, str], biases: Mapping[str, str]) -> list[Spelling]:
    """Return both readings of U and W; `gates` are indices: ours, `biases` indices: names."""
    found = []
    for u_reads in READERS:
        layout: Layout = ()
        for index, gate in gates.items():
            u, w = _indexed("U", index), _indexed("W", index)
            of_x, of_h = (u, w) if u_reads == "x" else (w, u)
            layout += _pair(of_x, of_h, biases[index], gate)
        found.append(Spelling(layout, u_reads))
    return found


def _indexed(letter: str, index: str) -> str:
    return f"{letter}_{index}" if index else letter


def _elman() -> list[Spelling]:
    found = []
    for bias in ("b", "b_h"):
        found += [Spelling(_pair("W_x", "W_h", bias, "a"))]
        found += [Spelling(_pair("W_xh", "W_hh", bias, "a"))]
        found += _u_and_w({"": "a"}, {"": bias})
    return [*found, Spelling(_pair("B", "A", "b", "a"))]  # the state-space model


def _gated(gates: Mapping[str, str]) -> list[Spelling]:
    """Return the spellings of a cell with gates; `gates` are indices: ours."""
    joined: Layout = tuple(Entry(_indexed("W", k), (R, W), (g,)) for k, g in gates.items())
    joined += tuple(
        Entry(_indexed("b", k), (B_IH,), (g,), optional="bias") for k, g in gates.items()
    )
    apart: Layout = ()
    for k, g in gates.items():
        apart += _pair(f"W_x{k}", f"W_h{k}", _indexed("b", k), g)
    biases = {k: _indexed("b", k) for k in gates}
    found = [Spelling(joined), *_u_and_w(gates, biases)]
    return found if "" in gates else [*found, Spelling(apart)]


def _spellings(family: str) -> list[Spelling]:
    """Return all spellings of a cell with these gates; the first of each kind comes first."""
    if family == "a":
        return _elman()
    if family == "ifgo":
        return [one for g in "cg" for one in _gated({"f": "f", "i": "i", g: "g", "o": "o"})]
    candidates = ("h", "", "c", "g", "n")
    return [one for z in "zu" for n in candidates for one in _gated({z: "z", "r": "r", n: "n"})]


def _plain(name: str) -> str:
    """Return a name as the layouts have it: Whh and W_{hh} are W_hh, W_C is W_c."""
    match = NAME.fullmatch(name)
    return name if match is None else _indexed(match[1], match[2].lower())


def spelled(
    what: str, given: Mapping[str, Any], cell: str, usual: Layout, u_reads: object
) -> Layout:
    """Return the layout in which these arrays are spelled, with the names as they are given."""
    if u_reads is not None:
        _check.choice(u_reads, "u_reads", tuple(READERS))
    plain = {_plain(name): name for name in given}
    if len(plain) < len(given):
        twice = {name: given[name] for name in given if name not in plain.values()}
        _check.weights_differ(what, "every array once", f"once more {_text.found(twice)}")
    family = "".join(CELLS[cell].gate_names)
    every = _spellings(family)
    known = dict.fromkeys(plain)
    fitting = [one for one in every if fits(one.layout, known)]
    if not fitting:
        _unknown(what, given, plain, usual, every)
    if fitting[0].u_reads is not None:
        wanted = u_reads or _told_by_shapes(what, given, plain, fitting)
        fitting = [one for one in fitting if one.u_reads == wanted]
    return tuple(
        replace(entry, name=plain.get(entry.name, entry.name)) for entry in fitting[0].layout
    )


def _told_by_shapes(
    what: str, given: Mapping[str, Any], plain: Mapping[str, str], fitting: list[Spelling]
) -> str:
    """Return what U reads, if only one of U and W is square."""
    square: dict[str, bool] = {}
    for entry in fitting[0].layout:
        if W in entry.kinds or R in entry.kinds:
            shape = np.shape(given[plain[entry.name]])
            letter = entry.name[0]
            square[letter] = square.get(letter, True) and len(shape) == 2 and len(set(shape)) == 1
    if square["U"] and square["W"]:
        _check.weights_type(
            what,
            f"u_reads='x' for {READERS['x']}, u_reads='h' for {READERS['h']}, because U and W have "
            "one shape",
            None,
        )
    return "h" if square["U"] else "x"


def _unknown(
    what: str,
    given: Mapping[str, Any],
    plain: Mapping[str, str],
    usual: Layout,
    every: list[Spelling],
) -> None:
    """Say what is expected; name an output layer as such."""
    output = [name for short, name in plain.items() if short in OUTPUT]
    rest = {short: None for short in plain if short not in OUTPUT}
    if output and any(fits(one.layout, rest) for one in every):
        weight = next((name for name in output if name[0] in "VCW"), "...")
        bias = next((name for name in output if name[0] in "cdb"), "...")
        _check.weights_differ(
            what,
            "the arrays of the recurrent layer alone",
            f"{_text.listed(output)} too, which are an output layer: "
            f"dense.load_state_dict({{'weight': {weight}, 'bias': {bias}}})",
        )
    others = [one.layout for one in every if one.u_reads != "h"]
    shown = dict.fromkeys(" ".join(entry.name for entry in layout) for layout in others[1:])
    text = "; ".join(shown)
    _check.weights_differ(what, f"{names(usual)}; or by the names {text}", _text.found(given))
