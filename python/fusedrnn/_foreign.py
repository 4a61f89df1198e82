"""What other libraries call an array, and how PyTorch names the weights of recurrent modules."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from ._cells import Array

__all__ = ["as_array", "ending", "is_recurrent", "prefix_advice", "prefixes", "stack_names"]

# ml_dtypes and what is built on it (JAX, TensorFlow, Keras, ONNX) call these so; NumPy has no type
# for them, and most report no floating-point kind.
_NARROW = re.compile(r"bfloat16|float\d+_\w+")
_RECURRENT = re.compile(r"(weight_(ih|hh|hr)|bias_(ih|hh))(_l\d+(_reverse)?)?")
_OF_A_CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def as_array(value: object) -> Array:
    """Read an array of whatever library as a NumPy array.

    A tensor of PyTorch is detached from its graph and fetched from its device. Floating point of
    16 bits and less becomes float32, which holds every such number exactly; other types stay as
    they are, and it is for the caller to refuse them.

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
    """A tensor of PyTorch as NumPy's array; anything else as it is."""
    torch = sys.modules.get("torch")  # not imported: then nothing is a tensor of it
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    if value.is_floating_point() and value.element_size() < 4:
        value = value.float()
    return value.numpy(force=True)


def is_recurrent(name: str) -> bool:
    """Whether PyTorch gives this name, without its prefix, to a weight of a recurrent module."""
    return _RECURRENT.fullmatch(name) is not None


def ending(name: str) -> str:
    """A name without the modules it is in: "weight_ih_l0" of "encoder.rnn.weight_ih_l0"."""
    return re.split(r"\W", name)[-1]


def stack_names(names: Collection[str]) -> dict[str, str]:
    """Names of PyTorch's cells (weight_ih) as those of a stack of one layer (weight_ih_l0).

    Returns
    -------
    dict of str to str
        From each of `names` to itself, or, if all of them are a cell's, to the stack's.
    """
    of_a_cell = bool(names) and all(name in _OF_A_CELL for name in names)
    return {name: f"{name}_l0" if of_a_cell else name for name in names}


def prefixes(names: Iterable[str], known: Collection[str]) -> list[str]:
    """What stands before `known` names: ["encoder.", "decoder."], in their order."""
    found = {name[: -len(ending(name))]: None for name in names if ending(name) in known}
    return [prefix for prefix in found if prefix]


def prefix_advice(names: Iterable[str], known: Collection[str]) -> str:
    """The end of an error text about names: what `prefix` would fit, or nothing."""
    found = [f'prefix="{prefix}"' for prefix in prefixes(names, known)]
    if not found:
        return ""
    more = f", one of {len(found)}" if len(found) > 4 else ""
    return f"; pass {' or '.join(found[:4])}{more}"
