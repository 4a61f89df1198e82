"""Weights in .onnx files, as the initializers and constants of a graph."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from .. import _foreign
from .._cells import Array
from ._packages import package

# A file is one protobuf message, which cannot be larger.
LARGEST_FILE = 2**31 - 1


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Return the initializers and constants of a graph, and the model's metadata."""
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
    with open(path, "rb"):  # a missing file is an OSError, not an error of the package
        pass
    try:
        return onnx.load(os.fspath(path))
    except MemoryError:
        raise
    except Exception as error:  # of protobuf, of ONNX, or of a file that this one refers to
        raise ValueError(f"{os.fspath(path)}: no .onnx, or damaged: {error}") from error


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
        except Exception as error:  # errors of any class for damaged tensors
            raise ValueError(f"{os.fspath(path)}: {name!r} is damaged: {error}") from error
    return arrays
