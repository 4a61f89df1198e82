"""Arrays by name in files: .npz, .safetensors, .onnx. Reading one never runs code that is in it."""

from __future__ import annotations

import importlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import _check
from .._spec import Array
from . import _text
from ._flax import flattened

SUFFIXES = (".npz", ".safetensors", ".onnx")
# ONNX's names of a node's weights, and their places among its inputs.
INPUTS = {"W": 1, "R": 2, "B": 3, "P": 7}


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        _check.weights_package(extra, name.split(".")[0], error)


def _suffix(what: str, path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        expected = f"a file name that ends in {', '.join(SUFFIXES)}; pickles are never read"
        _check.weights_differ(what, expected, str(path))
    return suffix


def load(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read all arrays of a file; nothing is unpickled.

    Parameters
    ----------
    path : str or path
        A .npz; a .safetensors (extra ``weights``); a .onnx (extra ``onnx``), of which these are the
        initializers and constants of the graph.

    Returns
    -------
    dict of str to ndarray
        By the names in the file, for one of the ``from_`` functions.

    Raises
    ------
    ValueError
        Another kind of file, or one with Python objects in it.
    ImportError
        The extra is not installed.
    """
    suffix = _suffix("load", path)
    if suffix == ".npz":
        with open(path, "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                _check.weights_differ(
                    "load", "a .npz of several arrays", f"one, of a .npy, in {path}"
                )
            return {name: arrays[name] for name in arrays.files}
    if suffix == ".safetensors":
        return dict(_package("safetensors.numpy", "weights").load_file(path))
    return _initializers(_package("onnx", "onnx").load(os.fspath(path)).graph)


def save(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write arrays to a file, which `load` reads.

    Parameters
    ----------
    path : str or path
        A .npz, .safetensors or .onnx; the latter becomes a graph of initializers and no nodes.
    arrays : mapping of str to array_like
        Floating point. A nested mapping is flattened, its names joined by "/".

    Raises
    ------
    TypeError
        `arrays` is not a mapping, or what is in it not floating point.
    ValueError
        Another kind of file name.
    ImportError
        The extra is not installed.
    """
    suffix = _suffix("save", path)
    flat = {
        name: np.ascontiguousarray(_check.weights_array("save", name, value))
        for name, value in flattened("save", arrays).items()
    }
    if suffix == ".npz":
        # np.savez has argument names of its own, which an array cannot have.
        with zipfile.ZipFile(path, "w") as archive:
            for name, a in flat.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, a, allow_pickle=False)
    elif suffix == ".safetensors":
        _package("safetensors.numpy", "weights").save_file(flat, path)
    else:
        onnx = _package("onnx", "onnx")
        tensors = [onnx.numpy_helper.from_array(a, name) for name, a in flat.items()]
        graph = onnx.helper.make_graph([], "weights", [], [], tensors)
        onnx.save(onnx.helper.make_model(graph), os.fspath(path))


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
    onnx = _package("onnx", "onnx")
    graph = onnx.load(os.fspath(path)).graph
    constants = _initializers(graph)
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


def _initializers(graph: Any) -> dict[str, Array]:
    to_array = _package("onnx.numpy_helper", "onnx").to_array
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
