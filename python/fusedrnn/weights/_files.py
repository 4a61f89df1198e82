"""Arrays by name in files of many kinds. Reading a file never runs code that is in it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .. import _foreign, _npz
from .._cells import CELLS, Array
from .._checks import arguments as _check
from .._layers.params import StateDict
from .._storage import replacing
from . import _keras, _onnx_files, _safetensors, _torch_files
from ._flax import flattened

# The key under which a file names the cell of its weights.
CELL = "fusedrnn.cell"


def load(path: str | os.PathLike[str]) -> StateDict:
    """Read all arrays of a file; nothing in it is run, nothing is unpickled.

    Parameters
    ----------
    path : str or path
        .npz and .safetensors: all arrays. .onnx (extra ``onnx``): the initializers and constants of
        the graph. .keras, .weights.h5 and .h5 of Keras (extra ``weights``): the weights of the
        layers, as `LAYER/0`, `LAYER/1` ... Any other .h5: the datasets. .pt and .pth of PyTorch, if
        it is installed: the tensors, and nothing else of a checkpoint; names of nested dicts are
        joined by "/".

    Returns
    -------
    StateDict
        A dict of names to arrays, for one of the ``from_`` functions or for
        ``layer.load_state_dict``. Its attribute `cell` is the cell of the weights if the file
        names it, and None if not. Floating point of 16 bits is widened to float32.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The kind of file is another one, or the file is damaged or has Python objects in it.
    ImportError
        The package that this kind of file needs is not installed.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> gru = fr.GRU(3, 8, seed=0)
    >>> weights.save("gru.safetensors", gru)
    >>> found = weights.load("gru.safetensors")
    >>> found.cell, found["weight_ih_l0"].shape
    ('gru', (24, 3))
    >>> fr.GRU(3, 8).load_state_dict(found)
    """
    arrays, cell = _reader(path)(path)
    return StateDict({name: _foreign.as_array(a) for name, a in arrays.items()}, cell)


def save(path: str | os.PathLike[str], arrays: Any, *, cell: str | None = None) -> None:
    """Write arrays to a file that `load` and other programs read.

    The file is written completely or not at all: if this is stopped, `path` holds what it held
    before.

    Parameters
    ----------
    path : str or path
        A .npz, .safetensors or .onnx; an .onnx is a graph of initializers without nodes.
    arrays : mapping of str to array_like, or a layer
        Numbers. For a layer, its ``state_dict()`` is written. A nested mapping is flattened, with
        names joined by "/". bfloat16 is widened to float32.
    cell : str, optional
        The cell of these weights, as in ``layer.cell``; not needed for a layer or its
        ``state_dict()``. It is written too: ``load_state_dict`` of a layer of another cell refuses
        what `load` returns.

    Raises
    ------
    OSError
        The file cannot be written.
    TypeError
        `arrays` is not a mapping, or something in it is not numbers.
    ValueError
        The kind of file is another one, two names become one, a name cannot be kept, `cell` is not
        a cell, or it is not that of `arrays`.
    ImportError
        The package that this kind of file needs is not installed.

    See Also
    --------
    fusedrnn.save : a layer with its options.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import weights
    >>> weights.save("model.npz", {"encoder": {"w": np.ones((2, 3))}, "step": np.array(7)})
    >>> sorted(weights.load("model.npz"))
    ['encoder/w', 'step']
    """
    write = _writer(path)
    if not isinstance(arrays, Mapping) and callable(getattr(arrays, "state_dict", None)):
        arrays = arrays.state_dict()
    known = _cell("save", cell, arrays)
    flat = {
        name: np.asarray(_check.weights_numbers("save", name, value), order="C")
        for name, value in flattened("save", arrays).items()
    }
    _npz.checked_names(flat)
    with replacing(path) as file:
        write(file, flat, known)


def _cell(what: str, cell: object, arrays: object) -> str | None:
    """Return the cell of weights, from the caller or from the weights themselves."""
    known = getattr(arrays, "cell", None)
    if cell is None:
        return known if isinstance(known, str) else None
    if not isinstance(cell, str):
        _check.weights_type(what, "cell as a name", cell)
    name, _, options = cell.partition("(")
    if name not in CELLS or name.endswith("_chosen") != bool(options):
        expected = "cell as layer.state_dict().cell has it, with the activations if these are "
        _check.weights_differ(what, f"{expected}chosen", repr(cell))
    if isinstance(known, str) and known != cell:
        _check.weights_differ(what, f"weights of a {cell} cell", f"those of a {known} cell")
    return cell


# --- kinds of files -----------------------------------------------------------------------------

Reader = Callable[[str | os.PathLike[str]], tuple[Mapping[str, Array], str | None]]
Writer = Callable[[BinaryIO, Mapping[str, Array], str | None], None]


def _read_npz(path: str | os.PathLike[str]) -> tuple[dict[str, Array], str | None]:
    with open(path, "rb") as file:
        if file.read(6) == b"\x93NUMPY":
            _check.weights_differ("load", "a .npz of several arrays", f"one, of a .npy, in {path}")
    with _npz.opened(path) as archive:
        if _is_layer(archive):
            _check.weights_differ("load", "arrays", f"a layer in {path}: fusedrnn.load reads it")
        try:
            said = json.loads(archive.comment or b"{}")
        except ValueError:  # a comment of another program
            said = {}
        cell = said.get(CELL) if isinstance(said, dict) else None
        cell = cell if isinstance(cell, str) else None
        return {name: archive[name] for name in archive.names}, cell


def _is_layer(archive: _npz.Archive) -> bool:
    """Whether fusedrnn.save wrote this file."""
    if archive.names[:1] != ["header"]:
        return False
    text = archive["header"]
    return text.dtype.kind == "U" and re.match(r'\{"format": "fusedrnn"', str(text)) is not None


def _write_npz(file: BinaryIO, arrays: Mapping[str, Array], cell: str | None) -> None:
    _npz.write(file, arrays, b"" if cell is None else json.dumps({CELL: cell}).encode())


def _read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Array], str | None]:
    arrays, metadata = _safetensors.read(path)
    return arrays, metadata.get(CELL)


def _write_safetensors(file: BinaryIO, arrays: Mapping[str, Array], cell: str | None) -> None:
    _safetensors.write(file, arrays, {} if cell is None else {CELL: cell})


def _read_onnx(path: str | os.PathLike[str]) -> tuple[dict[str, Array], str | None]:
    arrays, metadata = _onnx_files.read(path)
    return arrays, metadata.get(CELL)


def _write_onnx(file: BinaryIO, arrays: Mapping[str, Array], cell: str | None) -> None:
    _onnx_files.write(file, arrays, {} if cell is None else {CELL: cell})


READERS: dict[str, Reader] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".onnx": _read_onnx,
    **dict.fromkeys((".keras", ".h5", ".hdf5"), lambda path: (_keras.read(path), None)),
    **dict.fromkeys((".pt", ".pth"), lambda path: (_torch_files.read(path), None)),
}
WRITERS: dict[str, Writer] = {
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
    ".onnx": _write_onnx,
}


def _reader(path: str | os.PathLike[str]) -> Reader:
    _check.path(path)
    suffix = Path(os.fsdecode(path)).suffix.lower()
    if suffix not in READERS:
        expected = f"a file name that ends in {', '.join(READERS)}; other pickles are never read"
        _check.weights_differ("load", expected, str(path))
    return READERS[suffix]


def _writer(path: str | os.PathLike[str]) -> Writer:
    _check.path(path)
    suffix = Path(os.fsdecode(path)).suffix.lower()
    if suffix not in WRITERS:
        expected = f"a file name that ends in {', '.join(WRITERS)}"
        _check.weights_differ("save", expected, str(path))
    return WRITERS[suffix]
