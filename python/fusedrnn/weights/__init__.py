"""Conversion of weights from and to PyTorch, Keras 3, ONNX, flax, Haste and lecture notes.

Weights of any other system that keeps each gate separately are read by `from_gates`. fusedrnn's own
form is a mapping with PyTorch's names, as ``layer.params``, ``layer.state_dict()`` and
``layer.load_state_dict`` use it: ``weight_ih_l{k}`` (n*H, I), ``weight_hh_l{k}`` (n*H, H),
``bias_ih_l{k}`` and ``bias_hh_l{k}`` (n*H,). With a projection there is ``weight_hr_l{k}`` (P, H),
and ``weight_hh_l{k}`` is (n*H, P); with peepholes there is ``weight_p_l{k}`` (3, H). Names of the
reverse direction end in ``_reverse``. Rows are gate-major: i f g o, r z n, peepholes i f o.
``from_X`` returns such a mapping and ``to_X`` takes one; ``to_Y(from_X(...))`` converts from X to
Y. A `cell` is a name as in ``layer.cell``.

Arrays keep their dtype and are always copies. Names, numbers, shapes and types of arrays are
checked, and an error lists what was expected and what was found; no array is ignored silently.
docs/weights.md has the table of all forms, and what cannot be converted back unchanged.
"""

from ._build import layer
from ._directions import (
    from_gates,
    from_haste,
    from_lecture,
    to_gates,
    to_haste,
    to_lecture,
)
from ._files import load, save
from ._flax import from_flax, to_flax
from ._keras import keras_layers
from ._layers import from_keras, from_onnx, from_torch, to_keras, to_onnx, to_torch
from ._onnx import OnnxLayer, onnx_layers

__all__ = [
    "OnnxLayer",
    "from_flax",
    "from_gates",
    "from_haste",
    "from_keras",
    "from_lecture",
    "from_onnx",
    "from_torch",
    "keras_layers",
    "layer",
    "load",
    "onnx_layers",
    "save",
    "to_flax",
    "to_gates",
    "to_haste",
    "to_keras",
    "to_lecture",
    "to_onnx",
    "to_torch",
]
