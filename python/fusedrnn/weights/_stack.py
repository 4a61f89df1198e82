"""The layers and directions in mappings with torch's names, fusedrnn's and torch's own."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .._cells import CELLS, Array
from .._checks import arguments as _check
from .._layers.params import StateDict
from . import _text
from ._blocks import Blocks, read, write
from ._formats import CHOSEN, Layout, R, W, cells, find

_NAME = re.compile(r"\w+?_l(\d+)(_reverse)?")
Place = tuple[int, bool]  # layer, and whether it is the reverse direction


def layouts_of(cell: object, *systems: str) -> list[Layout]:
    """Return the layouts of a cell in a system, or in the forms of one system."""
    name = _check.choice(cell, f"cell, for {systems[0].split()[0]}", cells(*systems))
    found = (find(system, CELLS[name]) for system in systems)
    return [layout for layout in found if layout is not None]


def layout_of(cell: object, system: str) -> Layout:
    """Return the layout of a cell in a system."""
    return layouts_of(cell, system)[0]


def _at(layout: Layout, place: Place) -> Layout:
    ending = f"_l{place[0]}" + "_reverse" * place[1]
    return tuple(replace(entry, name=entry.name + ending) for entry in layout)


def _split(what: str, layout: Layout, params: object) -> dict[Place, dict[str, Any]]:
    """Return the arrays of each layer and direction, by their full names."""
    places: dict[Place, dict[str, Any]] = {}
    strange = {}
    for name, value in _check.weights_mapping(what, params).items():
        match = _NAME.fullmatch(name)
        if match is None:
            strange[name] = value
        else:
            places.setdefault((int(match[1]), bool(match[2])), {})[name] = value
    if strange or not places:
        known = ", ".join(entry.name for entry in layout)
        expected = f"names of {known}, each with _l0, _l1 ..., and _reverse or nothing after it"
        _check.weights_differ(what, expected, _text.found(strange))
    return dict(sorted(places.items()))


def _pair(what: str, directions: Sequence[Mapping[str, Any]]) -> None:
    """Refuse directions of a layer whose arrays differ in name or shape."""
    shapes = [[np.shape(a[name]) for name in sorted(a)] for a in directions]
    if any(other != shapes[0] for other in shapes):
        both = {name: a for arrays in directions for name, a in arrays.items()}
        _check.weights_differ(what, "both directions of a layer to be alike", _text.found(both))


def same_cell(what: str, params: object, cell: str) -> None:
    """Refuse weights that are known to be another cell's."""
    known = getattr(params, "cell", None)
    if isinstance(known, str) and known.partition("(")[0] != cell:
        expected = f"weights of a {cell} cell"
        found = f"those of a {known} cell; dict(...) of them is converted whatever its cell"
        _check.weights_differ(what, expected, found)


def _of_cell(arrays: dict[str, Array], cell: str) -> StateDict:
    """Attach the cell to arrays, unless its activations are chosen: its name does not say which."""
    return StateDict(arrays, None if cell.endswith(CHOSEN) else cell)


def named(
    what: str, directions: Sequence[Blocks], cell: str, places: Sequence[Place], system: str
) -> dict[str, Array]:
    """Return blocks as arrays with torch's names."""
    layout = layout_of(cell, system)
    arrays = [
        write(what, _at(layout, place), blocks, CELLS[cell])
        for place, blocks in zip(places, directions, strict=True)
    ]
    return {name: a for part in arrays for name, a in part.items()}


def ours(
    what: str, directions: Sequence[Blocks], cell: str, layer: object, reverse: object = False
) -> dict[str, Array]:
    """Return one layer, both directions or one of them, as fusedrnn's mapping."""
    k = _check.integer(layer, "layer", 0)
    first = _check.flag(reverse, "reverse")
    places = [(k, first)] if len(directions) == 1 else [(k, False), (k, True)]
    arrays = named(what, directions, cell, places, "fusedrnn")
    if len(places) == 2:
        backward = {name: a for name, a in arrays.items() if name.endswith("_reverse")}
        _pair(what, [{name: arrays[name] for name in arrays if name not in backward}, backward])
    return _of_cell(arrays, cell)


def restacked(what: str, params: object, cell: str, source: str, target: str) -> dict[str, Array]:
    """Convert a whole stack from one system with torch's names to another."""
    layout = layout_of(cell, source)
    same_cell(what, params, cell)
    places = _split(what, layout, params)
    layers, sides = len({k for k, _ in places}), 1 + any(reverse for _, reverse in places)
    whole = [(k, side > 0) for k in range(layers) for side in range(sides)]
    if list(places) != whole:
        _check.weights_differ(what, _places(whole), _places(places))
    blocks = {place: read(what, _at(layout, place), places[place]) for place in whole}
    gate = CELLS[cell].gate_names[0]
    for k in range(layers):
        _pair(what, [places[k, side > 0] for side in range(sides)])
        width = blocks[k, False][W, gate].shape[1]
        wanted = sides * blocks[k - 1, False][R, gate].shape[1] if k else width
        if width != wanted:
            expected = f"{wanted} columns in weight_ih_l{k}, the width of layer {k - 1}'s output"
            _check.weights_differ(what, expected, str(width))
    arrays = named(what, list(blocks.values()), cell, whole, target)
    return _of_cell(arrays, cell) if target == "fusedrnn" else arrays


def _places(places: Collection[Place]) -> str:
    return _text.listed(f"layer {k}" + " reverse" * reverse for k, reverse in places)


def layer_of(what: str, params: object, cell: str, layer: int | None) -> list[Blocks]:
    """Return one layer of fusedrnn's mapping, by directions; others must be excluded by `layer`."""
    layout = layout_of(cell, "fusedrnn")
    same_cell(what, params, cell)
    places = _split(what, layout, params)
    layers = sorted({k for k, _ in places})
    if layer is None and len(layers) > 1:
        _check.weights_differ(what, "one layer, or layer= to choose one", _places(places))
    chosen = layers[0] if layer is None else _check.integer(layer, "layer", 0)
    if (chosen, False) not in places:
        _check.weights_differ(what, _places([(chosen, False)]), _places(places))
    here = [place for place in places if place[0] == chosen]
    blocks = [read(what, _at(layout, place), places[place]) for place in here]
    _pair(what, [places[place] for place in here])
    return blocks


def direction_of(
    what: str, params: object, cell: str, layer: int | None, reverse: bool | None
) -> Blocks:
    """Return one direction of one layer; if `reverse` is None, there must be only one."""
    directions = layer_of(what, params, cell, layer)
    if reverse is None and len(directions) > 1:
        _check.weights_differ(
            what, "one direction, or reverse= to choose one", "forward and reverse"
        )
    if reverse is not None and _check.flag(reverse, "reverse"):
        if len(directions) == 1:
            _check.weights_differ(what, "a reverse direction", "forward alone")
        return directions[1]
    return directions[0]
