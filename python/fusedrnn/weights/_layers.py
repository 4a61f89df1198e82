"""Systems whose form has a whole layer, both directions, or more: PyTorch, Keras, ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from .. import _foreign
from .._cells import CELLS, Array
from .._checks import arguments as _check
from . import _text
from ._blocks import Blocks, fits, names, read, write
from ._formats import Layout
from ._stack import layer_of, layout_of, ours, restacked, same_cell

# --- PyTorch ----------------------------------------------------------------------------------


def from_torch(state_dict: Mapping[str, Any], cell: str, *, prefix: str = "") -> dict[str, Array]:
    """Check and copy weights of ``torch.nn.RNN``, ``LSTM``, ``GRU`` or one of their cells.

    PyTorch's names are fusedrnn's too. ``layer.load_state_dict`` takes such weights as well; this
    function also checks that they are a whole stack of this cell, without needing a layer.

    Parameters
    ----------
    state_dict : mapping of str to array_like
        ``weight_ih_l{k}`` (n*H, I), ``weight_hh_l{k}`` (n*H, H or P), with biases ``bias_ih_l{k}``
        and ``bias_hh_l{k}`` (n*H,), with a projection ``weight_hr_l{k}`` (P, H); for the reverse
        direction the same names with ``_reverse``. Gates i f g o; r z n. ``RNNCell``, ``LSTMCell``
        and ``GRUCell`` have the names without ``_l{k}``. Arrays or tensors on any device;
        ``dict(module.named_parameters())`` works as well.
    cell : str
        A cell that PyTorch has: "rnn_tanh" ..., "lstm", "gru".
    prefix : str
        Use only names that begin with it, and without it: "encoder.lstm.".

    Returns
    -------
    dict of str to ndarray
        fusedrnn's mapping.

    Raises
    ------
    TypeError
        An array is not floating point; `state_dict` is not a mapping.
    ValueError
        A name, shape or cell is none of those above: the text lists what was expected and found.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> gru = fr.GRU(3, 8, seed=0)  # stands for a model of PyTorch
    >>> checkpoint = {f"encoder.{name}": a for name, a in gru.params.items()}
    >>> params = weights.from_torch(checkpoint, "gru", prefix="encoder.")
    >>> fr.GRU(3, 8).load_state_dict(params)
    """
    if hasattr(state_dict, "state_dict"):
        expected = "a mapping of names to arrays, module.state_dict()"
        _check.weights_type("from_torch", expected, state_dict)
    given = _check.weights_mapping("from_torch", state_dict)
    inside = {name[len(prefix) :]: given[name] for name in given if name.startswith(prefix)}
    ours = {new: inside[name] for name, new in _foreign.stack_names(inside).items()}
    if not any(map(_foreign.is_recurrent, inside)):
        _no_module(given, prefix)
    same_cell("from_torch", state_dict, cell)
    what = f"from_torch: after {prefix!r}" if prefix else "from_torch"
    return restacked(what, ours, cell, "torch", "fusedrnn")


def _no_module(given: Mapping[str, Any], prefix: str) -> None:
    """Raise an error that says which prefix would find a recurrent module, if there is one."""
    known = [name for name in map(_foreign.ending, given) if _foreign.is_recurrent(name)]
    advice = _foreign.prefix_advice(given, known)
    expected = f"names that begin with {prefix!r}" if prefix else "names of one recurrent module"
    if advice:
        modules = _text.listed(map(repr, _foreign.prefixes(given, known)))
        _check.weights_differ("from_torch", expected, f"those of modules in {modules}{advice}")
    if prefix and not any(name.startswith(prefix) for name in given):
        _check.weights_differ("from_torch", expected, _text.found(given))


def to_torch(params: Mapping[str, Any], cell: str) -> dict[str, Array]:
    """Convert weights for ``torch.nn.RNN``, ``LSTM`` or ``GRU``: all layers and directions.

    Parameters
    ----------
    params : mapping of str to array_like
        fusedrnn's mapping.
    cell : str
        A cell that PyTorch has; it has no GRU that resets before the product.

    Returns
    -------
    dict of str to ndarray
        For ``module.load_state_dict({name: torch.from_numpy(a) for name, a in ....items()})``.

    Raises
    ------
    TypeError, ValueError
        As `from_torch`.

    Examples
    --------
    >>> import torch
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> lstm = fr.LSTM(3, 8, seed=0)
    >>> arrays = weights.to_torch(lstm.params, lstm.cell)
    >>> torchs = torch.nn.LSTM(3, 8)
    >>> torchs.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    <All keys matched successfully>
    """
    layout_of(cell, "torch")
    return restacked("to_torch", params, cell, "fusedrnn", "torch")


# --- Keras ------------------------------------------------------------------------------------


def from_keras(arrays: Sequence[Any], cell: str, *, layer: int = 0) -> dict[str, Array]:
    """Convert weights of a Keras 3 ``SimpleRNN``, ``LSTM`` or ``GRU``, or a ``Bidirectional`` one.

    Parameters
    ----------
    arrays : list of array_like
        What ``keras_layer.get_weights()`` returns, or one list of `keras_layers`: kernel (I, n*H),
        recurrent_kernel (H, n*H) and, unless ``use_bias=False``, bias (n*H,); that of a GRU with
        ``reset_after=True`` (Keras's default) is (2, 3*H). Bidirectional: the arrays of the
        forward layer, then those of the backward layer. Gates i f c o; z r h.
    cell : str
        "gru" is ``reset_after=True``, "gru_reset_before" is ``reset_after=False``.
    layer : int
        Number of the layer in the new mapping; join the mappings of layers with ``|``.

    Returns
    -------
    dict of str to ndarray
        fusedrnn's mapping. If Keras has one bias it is ``bias_ih``, and ``bias_hh`` is zeros.

    Raises
    ------
    TypeError
        An array is not floating point; `arrays` is not a list.
    ValueError
        A number of arrays, shape or cell is none of those above.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import weights
    >>> arrays = [np.ones((3, 32)), np.ones((8, 32)), np.zeros(32)]  # keras_layer.get_weights()
    >>> params = weights.from_keras(arrays, "lstm")
    >>> weights.layer(params, "lstm")
    LSTM(3, 8, dtype='float64')
    """
    layout = layout_of(cell, "keras")
    if not isinstance(arrays, (list, tuple)):
        _not_a_list(arrays)
    sides = 2 if len(arrays) in (4, 6) else 1
    each = len(arrays) // sides
    if len(arrays) not in (2, 3, 4, 6):
        expected = f"{names(layout)}, or these twice for Bidirectional"
        _check.weights_differ("from_keras", expected, _text.found(_numbered(arrays)))
    parts = [
        dict(zip((entry.name for entry in layout), arrays[i * each : (i + 1) * each], strict=False))
        for i in range(sides)
    ]
    return ours("from_keras", _read_all("from_keras", layout, parts), cell, layer)


def _not_a_list(value: object) -> NoReturn:
    expected = "the list of layer.get_weights()"
    if isinstance(value, Mapping):
        layers = dict.fromkeys(str(name).rpartition("/")[0] or str(name) for name in value)
        expected += f" of one layer, keras_layers(path)[name] with name one of {[*layers]}"
    _check.weights_type("from_keras", expected, value)


def _numbered(arrays: Sequence[Any]) -> dict[str, Any]:
    return {f"array {i}": a for i, a in enumerate(arrays)}


def _read_all(what: str, layout: Layout, parts: Sequence[Mapping[str, Any]]) -> list[Blocks]:
    if len(parts) == 1:
        return [read(what, layout, parts[0])]
    sides = ("forward", "reverse")
    return [read(f"{what}, {side}", layout, part) for side, part in zip(sides, parts, strict=True)]


def to_keras(params: Mapping[str, Any], cell: str, *, layer: int | None = None) -> list[Array]:
    """Convert weights for ``keras_layer.set_weights()``.

    Parameters
    ----------
    params : mapping of str to array_like
        fusedrnn's mapping. Without biases, the Keras layer must have ``use_bias=False``.
    cell : str
        "gru" is ``reset_after=True``, "gru_reset_before" is ``reset_after=False``.
    layer : int, optional
        Number of the layer; needed if there are several.

    Returns
    -------
    list of ndarray
        As `from_keras` takes it; twice as long if there is a reverse direction. If Keras has one
        bias it is the sum of fusedrnn's two.

    Raises
    ------
    TypeError, ValueError
        As `from_keras`; Keras has no projection and no peepholes.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> gru = fr.GRU(3, 8, seed=0)
    >>> [a.shape for a in weights.to_keras(gru.params, gru.cell)]
    [(3, 24), (8, 24), (2, 24)]
    """
    layout = layout_of(cell, "keras")
    directions = layer_of("to_keras", params, cell, layer)
    parts = [write("to_keras", layout, blocks, CELLS[cell]) for blocks in directions]
    return [a for part in parts for a in part.values()]


# --- ONNX -------------------------------------------------------------------------------------


def from_onnx(arrays: Mapping[str, Any], cell: str, *, layer: int = 0) -> dict[str, Array]:
    """Convert weights of an ONNX ``RNN``, ``LSTM`` or ``GRU`` node.

    Parameters
    ----------
    arrays : mapping of str to array_like
        The node's inputs by their names in the specification: W (D, n*H, I), R (D, n*H, H) and, if
        the node has them, B (D, 2*n*H) and P (D, 3*H); D is 2 for ``direction="bidirectional"``.
        `onnx_layers` finds them in a file. Gates i o f c; z r h; P is i o f.
    cell : str
        "lstm_peephole" has P. A GRU node with ``linear_before_reset=1`` is "gru", one with 0, the
        default, is "gru_reset_before".
    layer : int
        Number of the layer in the new mapping; join the mappings of layers with ``|``.

    Returns
    -------
    dict of str to ndarray
        fusedrnn's mapping. A node with ``direction="reverse"`` becomes a forward layer, to be run
        on the reversed sequence.

    Raises
    ------
    TypeError
        An array is not floating point; `arrays` is not a mapping.
    ValueError
        A name, shape or cell is none of those above.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import weights
    >>> node = {"W": np.ones((1, 32, 3)), "R": np.ones((1, 32, 8))}
    >>> params = weights.from_onnx(node, "lstm")
    >>> weights.layer(params, "lstm")
    LSTM(3, 8, bias=False, dtype='float64')
    """
    layout = layout_of(cell, "onnx")
    given = _check.weights_mapping("from_onnx", arrays)
    if not fits(layout, given):
        _check.weights_differ("from_onnx", f"{names(layout)}, a D before each", _text.found(given))
    parts = {name: _check.weights_array("from_onnx", name, a) for name, a in given.items()}
    counts = {a.shape[0] if a.ndim else 0 for a in parts.values()}
    if counts not in ({1}, {2}):
        _check.weights_differ("from_onnx", "D, 1 or 2, as first axis of all", _text.found(parts))
    sides = [{name: a[d] for name, a in parts.items()} for d in range(counts.pop())]
    return ours("from_onnx", _read_all("from_onnx", layout, sides), cell, layer)


def to_onnx(params: Mapping[str, Any], cell: str, *, layer: int | None = None) -> dict[str, Array]:
    """Convert weights for an ONNX ``RNN``, ``LSTM`` or ``GRU`` node.

    Parameters
    ----------
    params : mapping of str to array_like
        fusedrnn's mapping.
    cell : str
        Give the node of a "gru" the attribute ``linear_before_reset=1``.
    layer : int, optional
        Number of the layer; needed if there are several.

    Returns
    -------
    dict of str to ndarray
        W, R and, if there are biases or peepholes, B and P, as `from_onnx` takes them; nothing is
        summed.

    Raises
    ------
    TypeError, ValueError
        As `from_onnx`; ONNX has no projection.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> lstm = fr.LSTM(3, 8, bidirectional=True, seed=0)
    >>> {name: a.shape for name, a in weights.to_onnx(lstm.params, lstm.cell).items()}
    {'W': (2, 32, 3), 'R': (2, 32, 8), 'B': (2, 64)}
    """
    layout = layout_of(cell, "onnx")
    directions = layer_of("to_onnx", params, cell, layer)
    parts = [write("to_onnx", layout, blocks, CELLS[cell]) for blocks in directions]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}
