"""Reading files of Keras with h5py.

Keras 3, and Keras 2 since 2.12, write the tree of a model's objects, with a group for each object.
`vars` in it has the object's own variables, and the other groups are its parts. A container of
several objects, such as `layers`, is a group without `vars`; its groups are named by class (lstm,
lstm_1). The name of an object is an attribute of `vars` or, in older files, only in config.json.

The older .h5 has a group for each layer, which lists its weights by name, in their order.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .. import _foreign
from .._cells import Array
from .._checks import arguments as _check
from . import _text
from ._packages import package

INSIDE, CONFIG = "model.weights.h5", "config.json"  # files in a .keras, which is a zip archive
CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # of a model; the second in Keras 2.12
SIDES = ("forward_layer", "backward_layer")
WRAPPED = ("cell", "layer")  # parts of a layer that has no weights of its own
# Groups of the tree that are not layers.
OTHERS = ("vars", "optimizer", "seed_generator")
# Data are refused if they unpack to more than LARGE bytes and more than LARGEST_GAIN times their
# stored size.
LARGE, LARGEST_GAIN = 2**26, 1032

Layers = dict[str, list[Array]]


class KerasLayers(Layers):
    """The layers of a file by name: a list for each, as ``layer.get_weights()`` returns it."""

    def __missing__(self, name: object) -> list[Array]:
        raise KeyError(f"no layer {name!r} in the file; it has {_text.listed(map(repr, self))}")


def keras_layers(path: str | os.PathLike[str]) -> Layers:
    """Read the weights of a Keras model, layer by layer, without Keras (extra ``weights``).

    Parameters
    ----------
    path : str or path
        A .keras, a .weights.h5, or the .h5 of Keras 2.

    Returns
    -------
    dict of str to list of ndarray
        By the layers' names. The list of a recurrent layer is what ``layer.get_weights()`` returns;
        for a ``Bidirectional`` one, forward, then backward. ``from_keras(found["lstm"], "lstm")``
        converts it. Layers of a nested model, cells of ``RNN([...])`` and parts of other layers
        that have weights are named "outer/inner". Looking up a missing name is a KeyError that
        lists all names. The order is that of the model if the file has it (.keras, .h5), else that
        of the names. Floating point of 16 bits is widened to float32.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file is damaged, or not a file of Keras.
    ImportError
        h5py is not installed.

    Examples
    --------
    >>> import keras
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> model = keras.Sequential([keras.Input((20, 3)), keras.layers.LSTM(8, name="lstm")])
    >>> model.save("model.keras")
    >>> found = weights.keras_layers("model.keras")
    >>> fr.LSTM(3, 8).load_state_dict(weights.from_keras(found["lstm"], "lstm"))
    """
    layers, others = _whole(path)
    if not layers:
        expected = f"layers of Keras with weights in {path}"
        _check.weights_differ("keras_layers", expected, _text.found(others))
    return KerasLayers(layers)


def read(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the weights of all layers as "layer/0", ...; all datasets if there are no layers."""
    layers, others = _whole(path)
    named = {f"{name}/{k}": a for name, arrays in layers.items() for k, a in enumerate(arrays)}
    return named or others


def _whole(path: str | os.PathLike[str]) -> tuple[Layers, dict[str, Array]]:
    """Return the layers of a file of Keras, or the datasets of another file."""
    h5py = package("h5py", "weights")
    with open(path, "rb") as source:
        try:
            zipped = Path(path).suffix.lower() == ".keras"
            file, config = _within(source) if zipped else (source, None)
            with h5py.File(file, "r") as root:
                reader = Reader(h5py)
                layers = reader.layers(root, config)
                return layers, {} if layers else dict(reader.datasets(root))
        except MemoryError:
            raise
        except Exception as error:  # h5py raises errors of many classes for damaged files
            reason = str(error) or type(error).__name__
            raise ValueError(
                f"{os.fspath(path)}: no file of Keras or HDF5, or damaged: {reason}"
            ) from error


def _within(source: BinaryIO) -> tuple[BinaryIO, Any]:
    """Return the HDF5 file inside a .keras, and the config of the model."""
    with zipfile.ZipFile(source) as archive:
        found = {name: archive.getinfo(name) for name in (INSIDE, CONFIG)}
        for name, info in found.items():
            if info.file_size > max(LARGE, LARGEST_GAIN * info.compress_size):
                raise ValueError(f"{name} would unpack to {info.file_size} bytes")
        return io.BytesIO(archive.read(INSIDE)), json.loads(archive.read(CONFIG))


# --- the tree of objects --------------------------------------------------------------------------


def _prefixed(name: str, layers: Layers) -> Layers:
    """Put `name` before the names of layers; the name "" becomes `name` itself."""
    return {"/".join(filter(None, (name, inner))): a for inner, a in layers.items()}


def _joined(parts: Iterable[Layers]) -> Layers:
    found: Layers = {}
    for part in parts:
        twice = found.keys() & part.keys()
        if twice:
            raise ValueError(f"two layers have the name {min(twice)!r}")
        found |= part
    return found


def _natural(name: str) -> list[Any]:
    """Return a sort key that puts lstm_2 before lstm_10."""
    return [int(t) if k % 2 else t for k, t in enumerate(re.split(r"(\d+)", name))]


def _declared(config: Any) -> dict[str, tuple[str, Any]]:
    """Map the groups in `layers` to (name, config) of their objects, in the order of the model."""
    inner = config.get("config") if isinstance(config, dict) else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    declared: dict[str, tuple[str, Any]] = {}
    used: Counter[str] = Counter()
    for layer in layers if isinstance(layers, list) else ():
        kind = re.sub(r"\W+", "", str(layer["class_name"]))
        kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()
        group = f"{kind}_{used[kind]}" if used[kind] else kind
        used[kind] += 1
        declared[group] = (str(layer["config"]["name"]), layer)
    return declared


class Reader:
    """Reads groups and datasets; refuses links, data in other files, and data read before."""

    def __init__(self, h5py: Any) -> None:
        self._h5py = h5py
        self._seen: set[Any] = set()

    def layers(self, root: Any, config: Any) -> Layers:
        """Return the layers of a file of any version of Keras; nothing if it has none."""
        for group in (root.get("model_weights"), root):
            if group is not None and _texts(group, "layer_names") is not None:
                return self._listed(group)
        if any(name in root for name in (*CONTAINERS, "vars")):
            return self._object(root, config)
        return {}

    def datasets(self, group: Any, before: str = "") -> Iterator[tuple[str, Array]]:
        """Yield all datasets of numbers, by their paths."""
        for name, part in self._parts(group):
            if isinstance(part, self._h5py.Group):
                yield from self.datasets(part, f"{before}{name}/")
            elif part.dtype.kind in "fiub" or _is_bfloat16(part.dtype):
                yield f"{before}{name}", self._array(part)

    def _object(self, group: Any, config: Any = None) -> Layers:
        """Return the layers in an object; its own weights have the name ""."""
        own = self._variables(group)
        parts = {
            name: part
            for name, part in self._parts(group)
            if name not in OTHERS and isinstance(part, self._h5py.Group)
        }
        if not own and set(parts) == set(SIDES):
            sides = [self._object(parts[side]) for side in SIDES]
            if all(list(side) == [""] for side in sides):
                return {"": [a for side in sides for a in side[""]]}
            return _joined(map(_prefixed, SIDES, sides))
        (only, *more) = parts or [""]
        if not own and not more and only in WRAPPED and "vars" in parts[only]:
            return self._object(parts[only])
        found = [{"": own} if own else {}]
        for name in sorted(parts, key=_natural):
            if "vars" in parts[name]:
                found.append(_prefixed(name, self._object(parts[name])))
            else:
                shown = "" if name in (*CONTAINERS, "cells") else name
                found.append(_prefixed(shown, self._container(parts[name], config)))
        return _joined(found)

    def _container(self, group: Any, config: Any = None) -> Layers:
        """Return the layers in a group of several objects."""
        declared = _declared(config)
        parts = dict(self._parts(group))
        order = [name for name in declared if name in parts]
        order += sorted(parts.keys() - declared.keys(), key=_natural)
        found = []
        for name in order:
            shown, inner = declared.get(name, (name, None))
            if "vars" in parts[name]:
                shown = parts[name]["vars"].attrs.get("name", shown)
                found.append(_prefixed(shown, self._object(parts[name], inner)))
            else:
                found.append(_prefixed(name, self._container(parts[name])))
        return _joined(found)

    def _variables(self, group: Any) -> list[Array]:
        """Return the variables in `vars`, in the order of their numbers."""
        if "vars" not in group:
            return []
        parts = dict(self._parts(self._child(group, "vars")))
        return [self._array(parts[name]) for name in sorted(parts, key=_natural)]

    # --- the older form ---------------------------------------------------------------------------

    def _listed(self, group: Any) -> Layers:
        """Return the layers of the older form, which lists their weights by name."""
        found = []
        for layer in [*(_texts(group, "layer_names") or ()), "top_level_model_weights"]:
            if layer in group:
                part = self._child(group, layer)
                names = _texts(part, "weight_names") or []
                arrays = [self._array(self._child(part, name)) for name in names]
                found.append(_prefixed(layer, _by_owner(layer, names, arrays)))
        return _joined(found)

    # --- what is in a file ------------------------------------------------------------------------

    def _parts(self, group: Any) -> Iterator[tuple[str, Any]]:
        for name in group:
            yield name, self._child(group, name)

    def _child(self, group: Any, path: str) -> Any:
        """Return a part of a group; refuse links, which may lead to other files."""
        for name in path.split("/"):
            if not isinstance(group.get(name, getlink=True), self._h5py.HardLink):
                raise ValueError(f"{group.name}/{name} is a link")
            group = group[name]
        return group

    def _array(self, dataset: Any) -> Array:
        """Return the numbers of a dataset."""
        if not isinstance(dataset, self._h5py.Dataset) or dataset in self._seen:
            raise ValueError(f"{dataset.name} is no dataset, or is there twice")
        self._seen.add(dataset)
        size = math.prod(dataset.shape or ()) * dataset.dtype.itemsize
        if size > max(LARGE, LARGEST_GAIN * dataset.id.get_storage_size()):
            raise ValueError(f"{dataset.name} would unpack to {size} bytes")
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{dataset.name} is in another file")
        a = np.asarray(dataset[()])
        if _is_bfloat16(a.dtype):
            return (a.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        if a.dtype.kind not in "fiub":
            raise ValueError(f"{dataset.name} is {a.dtype}")
        return _foreign.as_array(a)


def _is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether this is Keras's bfloat16: an opaque type of two bytes, as HDF5 has no such type."""
    return dtype.kind == "V" and dtype.names is None and dtype.itemsize == 2


def _texts(group: Any, name: str) -> list[str] | None:
    """Return names in one attribute or, for a long list, in several; None if there are none."""
    if name in group.attrs:
        found = list(group.attrs[name])
    elif f"{name}0" in group.attrs:
        parts = itertools.takewhile(
            group.attrs.__contains__, map(f"{name}{{}}".format, itertools.count())
        )
        found = [text for part in parts for text in group.attrs[part]]
    else:
        return None
    return [text.decode() if isinstance(text, bytes) else str(text) for text in found]


def _by_owner(layer: str, names: Sequence[str], arrays: Sequence[Array]) -> Layers:
    """Return the weights of one entry of the older form, by layer: it may be a nested model.

    A name is a path: the model, the layer, forward_lstm or backward_lstm if there are two, the
    cell, the weight; older versions leave out the first or the cell.
    """
    places = []
    for name in names:
        parts = name.split("/")[:-1]
        if layer in parts:
            parts = parts[parts.index(layer) + 1 :]
        cell = parts.pop() if parts and "cell" in parts[-1] else ""
        if parts and parts[-1].startswith("stacked_rnn_cells"):
            parts.pop()
        side = parts.pop() if parts and re.match("(for|back)ward_", parts[-1]) else ""
        places.append(("/".join(parts), side, cell))
    cells: dict[tuple[str, str], set[str]] = {}
    for owner, side, cell in places:
        cells.setdefault((owner, side), set()).add(cell)
    alone = len({owner for owner, _, _ in places}) == 1
    found: Layers = {}
    for (owner, side, cell), array in zip(places, arrays, strict=True):
        name = "" if alone else owner
        if len(cells[owner, side]) > 1:  # stacked cells
            name = "/".join(filter(None, (name, side, cell)))
        found.setdefault(name, []).append(array)
    return found
