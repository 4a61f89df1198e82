"""Weights of flax: the cells of linen and nnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._cells import CELLS, Array
from .._checks import arguments as _check
from . import _text
from ._blocks import fits, names, read, write
from ._stack import direction_of, layout_of, layouts_of, ours

FLAX = ("linen", "nnx", "nnx_optimized")


def from_flax(
    tree: Mapping[str, Any], cell: str, *, layer: int = 0, reverse: bool = False
) -> dict[str, Array]:
    """Convert weights of a flax ``SimpleCell``, ``LSTMCell``, ``OptimizedLSTMCell``, ``GRUCell``.

    Parameters
    ----------
    tree : mapping
        Parameters of one cell, nested, or flat with "/" in the names: ``variables["params"]`` of
        flax.linen, ``nnx.state(cell, nnx.Param)`` of flax.nnx; for an ``RNN`` around a cell, the
        part "cell". The names tell which cell of which interface it is. Kernels are (I, H) or
        (I, n*H), gates i f g o; r z n.
    cell : str
        A cell that flax has: "rnn_tanh" ..., "lstm", "gru".
    layer : int
        Number of the layer in the new mapping; join the mappings of layers with ``|``.
    reverse : bool
        Whether it becomes the reverse direction; join the directions with ``|``.

    Returns
    -------
    dict of str to ndarray
        fusedrnn's mapping, with zeros for biases that flax does not have: b_ih of the LSTM, b_hh of
        RNN and GRU, except for gate n in linen.

    Raises
    ------
    TypeError
        An array is not floating point; `tree` is not a mapping.
    ValueError
        A name, shape or cell is none of those above.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import weights
    >>> tree = {"i": {"kernel": np.ones((3, 8)), "bias": np.zeros(8)}, "h": {"kernel": np.eye(8)}}
    >>> params = weights.from_flax(tree, "rnn_tanh")
    >>> weights.layer(params, "rnn_tanh")
    RNN(3, 8, dtype='float64')
    """
    layouts = layouts_of(cell, *(f"flax {form}" for form in FLAX))
    flat = flattened("from_flax", tree)
    fitting = [layout for layout in layouts if fits(layout, flat)]
    if not fitting:
        expected = "; or ".join(map(names, layouts))
        _check.weights_differ("from_flax", expected, _text.found(flat))
    return ours("from_flax", [read("from_flax", fitting[0], flat)], cell, layer, reverse)


def flattened(what: str, tree: object, before: str = "") -> dict[str, Any]:
    """Flatten a nested mapping; names are joined by "/"."""
    flat: dict[str, Any] = {}
    for name, value in _check.weights_mapping(what, tree).items():
        whole = f"{before}{name}"
        nested = isinstance(value, Mapping)
        part = flattened(what, value, f"{whole}/") if nested else {whole: value}
        for twice in flat.keys() & part.keys():
            _check.weights_differ(what, "names that differ when joined by '/'", f"two {twice!r}")
        flat |= part
    return flat


def to_flax(
    params: Mapping[str, Any],
    cell: str,
    form: str = "linen",
    *,
    layer: int | None = None,
    reverse: bool | None = None,
) -> dict[str, Any]:
    """Convert weights for a flax cell.

    Parameters
    ----------
    params : mapping of str to array_like
        fusedrnn's mapping.
    cell : str
        A cell that flax has; it has no GRU that resets before the product.
    form : {"linen", "nnx", "nnx_optimized"}
        linen: all cells of flax.linen. nnx: those of flax.nnx, except ``nnx.OptimizedLSTMCell``,
        which is nnx_optimized.
    layer : int, optional
        Number of the layer; needed if there are several.
    reverse : bool, optional
        Which direction; needed if there are two.

    Returns
    -------
    dict
        Nested, as linen's ``{"params": ...}`` and ``nnx.update(cell, ...)`` take it. If flax has
        one bias it is the sum of both; zeros if `params` has none.

    Raises
    ------
    TypeError, ValueError
        As `from_flax`; there is no projection, and ``nnx.GRUCell`` has no place for a hidden bias
        of gate n other than zeros.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> lstm = fr.LSTM(3, 8, seed=0)
    >>> tree = weights.to_flax(lstm.params, lstm.cell)
    >>> sorted(tree), tree["if"]["kernel"].shape
    (['hf', 'hg', 'hi', 'ho', 'if', 'ig', 'ii', 'io'], (3, 8))
    """
    form = _check.choice(form, "form", FLAX)
    layout = layout_of(cell, f"flax {form}")
    blocks = direction_of("to_flax", params, cell, layer, reverse)
    tree: dict[str, Any] = {}
    for name, a in write("to_flax", layout, blocks, CELLS[cell]).items():
        module, leaf = name.split("/")
        tree.setdefault(module, {})[leaf] = a
    return tree
