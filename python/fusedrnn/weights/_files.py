"""Arrays by name in files: .npz, .safetensors, .onnx. Reading one never runs code that is in it."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import _check
from .._spec import Array
from ._flax import flattened
from ._onnx import initializers, read
from ._packages import package as _package

SUFFIXES = (".npz", ".safetensors", ".onnx")


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
    return initializers(read(path, "load").graph)


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
