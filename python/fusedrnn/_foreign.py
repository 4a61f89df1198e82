"""Arrays of other libraries, and PyTorch's names for the weights of recurrent modules."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from ._cells import Array

__all__ = ["as_array", "ending", "is_recurrent", "prefix_advice", "prefixes", "stack_names"]

# Names of types of ml_dtypes, which JAX, TensorFlow, Keras and ONNX use. NumPy has no such types,
# and most of them do not report the kind of floating point.
_NARROW = re.compile(r"bfloat16|float\d+_\w+")
_RECURRENT = re.compile(r"(weight_(ih|hh|hr)|bias_(ih|hh))(_l\d+(_reverse)?)?")
_OF_A_CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def as_array(value: object) -> Array:
    """Read an array of any library as a NumPy array.

    A tensor of PyTorch is detached from its graph and copied from its device. Floating point of 16
    bits or less becomes float32, which holds every such number exactly. Other types stay as they
    are; the caller refuses those that it cannot use.

    Parameters
    ----------
    value : array_like
        A NumPy array, a tensor, numbers.

    Returns
    -------
    ndarray
        In native byte order; memory may be shared with `value`.

    Raises
    ------
    TypeError
        NumPy cannot read it, or would lose the mask of a masked array.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("expected an array, got a masked array; use filled() to choose its numbers")
    try:
        a = np.asarray(_fetched(value))
    except (TypeError, ValueError, RuntimeError) as error:  # PyTorch raises RuntimeError
        raise TypeError(f"NumPy cannot read it: {error}") from None
    narrow = a.dtype.kind == "f" and a.dtype.itemsize < 4
    if narrow or _NARROW.fullmatch(a.dtype.name):
        return a.astype(np.float32)
    return a.astype(a.dtype.newbyteorder("="), copy=False)


def _fetched(value: Any) -> Any:
    """Return a tensor of PyTorch as a NumPy array, anything else unchanged."""
    torch = sys.modules.get("torch")  # if PyTorch was not imported, `value` is not its tensor
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    if value.is_floating_point() and value.element_size() < 4:
        value = value.float()
    return value.numpy(force=True)


def is_recurrent(name: str) -> bool:
    """Whether PyTorch gives this name, without its prefix, to a weight of a recurrent module."""
    return _RECURRENT.fullmatch(name) is not None


def ending(name: str) -> str:
    """The last part of a name: "weight_ih_l0" of "encoder.rnn.weight_ih_l0"."""
    return re.split(r"\W", name)[-1]


def stack_names(names: Collection[str]) -> dict[str, str]:
    """Map the names of PyTorch's cells (weight_ih) to those of a one-layer stack (weight_ih_l0).

    Returns
    -------
    dict of str to str
        From each of `names` to itself or, if all are names of a cell, to the name in the stack.
    """
    of_a_cell = bool(names) and all(name in _OF_A_CELL for name in names)
    return {name: f"{name}_l0" if of_a_cell else name for name in names}


def prefixes(names: Iterable[str], known: Collection[str]) -> list[str]:
    """Return the prefixes of `known` names, such as ["encoder.", "decoder."], in order."""
    found = {name[: -len(ending(name))]: None for name in names if ending(name) in known}
    return [prefix for prefix in found if prefix]


def prefix_advice(names: Iterable[str], known: Collection[str]) -> str:
    """Return the end of an error text about names: which `prefix` would fit, or ""."""
    found = [f'prefix="{prefix}"' for prefix in prefixes(names, known)]
    if not found:
        return ""
    more = f", one of {len(found)}" if len(found) > 4 else ""
    return f"; pass {' or '.join(found[:4])}{more}"
