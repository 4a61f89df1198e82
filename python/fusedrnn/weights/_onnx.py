"""The recurrent nodes of an ONNX file, with their weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from .. import _check
from .._spec import Array
from . import _text
from ._packages import package

# ONNX's names of a node's weights, and their places among its inputs.
INPUTS = {"W": 1, "R": 2, "B": 3, "P": 7}


class OnnxLayer(NamedTuple):
    """One recurrent node of an ONNX graph."""

    cell: str
    """Cell by our name: what the node's type, W, P and linear_before_reset say."""
    attributes: dict[str, Any]
    """The node's attributes: direction, hidden_size, activations, clip ..."""
    arrays: dict[str, Array]
    """For `from_onnx`."""


def onnx_layers(path: str | os.PathLike[str]) -> dict[str, OnnxLayer]:
    """Find the RNN, LSTM and GRU nodes of a .onnx file (extra ``onnx``).

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    dict of str to OnnxLayer
        By the nodes' names, or the names of their first outputs where they have none; in the order
        of the graph. ``from_onnx(found.arrays, found.cell)`` converts one.

    Raises
    ------
    ValueError
        Weights of a node are computed in the graph, or there is no such node.
    ImportError
        The extra is not installed.
    """
    onnx = package("onnx", "onnx")
    graph = onnx.load(os.fspath(path)).graph
    constants = initializers(graph)
    layers: dict[str, OnnxLayer] = {}
    for node in graph.node:
        if node.op_type in ("RNN", "LSTM", "GRU"):
            name = node.name or next(filter(None, node.output), "")
            arrays = _weights(name, node, constants)
            attributes = {a.name: _attribute(onnx, a) for a in node.attribute}
            layers[name] = OnnxLayer(_cell(node.op_type, attributes, arrays), attributes, arrays)
    if not layers:
        _check.weights_differ("onnx_layers", "RNN, LSTM or GRU nodes", f"none in {path}")
    return layers


def _weights(name: str, node: Any, constants: Mapping[str, Array]) -> dict[str, Array]:
    inputs = {key: node.input[i] for key, i in INPUTS.items() if i < len(node.input)}
    given = {key: source for key, source in inputs.items() if source}
    computed = [f"{key} = {source}" for key, source in given.items() if source not in constants]
    if computed:
        expected = "weights that are initializers or constants"
        _check.weights_differ(f"onnx_layers: node {name!r}", expected, _text.listed(computed))
    return {key: constants[source] for key, source in given.items()}


def initializers(graph: Any) -> dict[str, Array]:
    """The initializers and constants of a graph, by their names."""
    to_array = package("onnx.numpy_helper", "onnx").to_array
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    return {name: to_array(tensor) for name, tensor in tensors.items()}


def _attribute(onnx: Any, attribute: Any) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [part.decode() if isinstance(part, bytes) else part for part in value]
    return value


def _cell(kind: str, attributes: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """The cell of a node; one whose activations are chosen where the usual one would not do."""
    names = [name.lower() for name in attributes.get("activations", ())]
    usual = {"RNN": ["tanh"], "GRU": ["sigmoid", "tanh"], "LSTM": ["sigmoid", "tanh", "tanh"]}[kind]
    plain = not (attributes.get("clip") or attributes.get("input_forget"))
    if kind == "RNN":
        same = len({*names}) < 2 and {*names} <= {"tanh", "relu", "sigmoid"}
        return f"rnn_{(names or usual)[0]}" if plain and same else "rnn_chosen"
    plain = plain and names in ([], usual, usual * 2)
    if kind == "GRU":
        base = "gru" if attributes.get("linear_before_reset") else "gru_reset_before"
        return base if plain else f"{base}_chosen"
    if not plain:
        return "lstm_chosen"
    return "lstm_peephole" if "P" in arrays else "lstm"
