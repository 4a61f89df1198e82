"""Weights in .onnx files: the initializers of a graph, and its recurrent nodes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .. import _foreign
from .._cells import Array
from .._checks import arguments as _check
from . import _text
from ._packages import package

# ONNX's names of a node's weights, and their places among its inputs.
INPUTS = {"W": 1, "R": 2, "B": 3, "P": 7}
# A file is one message of protobuf, which ends there.
LARGEST_FILE = 2**31 - 1


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """The initializers and constants of a graph, and the model's metadata."""
    model = _model(path)
    return _initializers(path, model.graph), {p.key: p.value for p in model.metadata_props}


def write(file: BinaryIO, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a graph of initializers without nodes.

    Raises
    ------
    ValueError
        ONNX has no such type, or the file would be too large for it.
    """
    onnx = package("onnx", "onnx")
    total = sum(array.nbytes for array in arrays.values())
    if total > LARGEST_FILE:
        raise ValueError(f"a .onnx cannot hold {total} bytes; a .safetensors can")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            raise ValueError(f"a .onnx cannot hold {name!r}, {array.dtype}")
    tensors = [onnx.numpy_helper.from_array(a, name) for name, a in arrays.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "weights", [], [], tensors))
    onnx.helper.set_model_props(model, dict(metadata))
    file.write(model.SerializeToString(deterministic=True))


def _model(path: str | os.PathLike[str]) -> Any:
    onnx = package("onnx", "onnx")
    with open(path, "rb"):  # whether it is there, before the package's own words
        pass
    try:
        return onnx.load(os.fspath(path))
    except MemoryError:
        raise
    except Exception as error:  # of protobuf, of ONNX, of what lies beside the file
        raise ValueError(f"{os.fspath(path)}: no .onnx, or damaged: {error}") from error


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
    graph = _model(path).graph
    constants = _initializers(path, graph)
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


def _initializers(path: str | os.PathLike[str], graph: Any) -> dict[str, Array]:
    to_array = package("onnx.numpy_helper", "onnx").to_array
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[:1] and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    arrays = {}
    for name, tensor in tensors.items():
        try:
            arrays[name] = np.array(_foreign.as_array(to_array(tensor)))
        except Exception as error:  # whatever its numbers lead to
            raise ValueError(f"{os.fspath(path)}: {name!r} is damaged: {error}") from error
    return arrays


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
