"""Weights of other systems to ours and back: PyTorch, Keras 3, ONNX, flax, Haste, lecture notes.

Anything else that keeps each gate by itself is `from_gates`. Ours are a mapping with PyTorch's
names, as ``layer.params``, ``layer.state_dict()`` and ``layer.load_state_dict`` have it:
``weight_ih_l{k}`` (n*H, I), ``weight_hh_l{k}`` (n*H, H), ``bias_ih_l{k}`` and ``bias_hh_l{k}``
(n*H,); with a projection ``weight_hr_l{k}`` (P, H), and ``weight_hh_l{k}`` is (n*H, P); with
peepholes ``weight_p_l{k}`` (3, H); the reverse direction with ``_reverse`` at the end. Rows are
gate-major: i f g o, r z n, peepholes i f o. ``from_X`` gives such a mapping, ``to_X`` takes one;
from X to Y is ``to_Y(from_X(...))``. A `cell` is a name as ``layer.cell`` has it.

Arrays keep their dtype and are always copies. Names, numbers, shapes and types of arrays are
checked, and an error lists what was expected and what was found; nothing is left out in silence.
docs/weights.md has the table of all forms, and what cannot come back unchanged.
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
