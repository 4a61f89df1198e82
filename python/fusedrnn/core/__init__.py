"""The public floor of the package: fused kernels on plain arrays, without layers.

What belongs here: packed weights (`pack`), calls on them (`forward`, `backward`), and the `Plan`
that a backward call needs. Layers, functions, models and adapters to other frameworks are built on
this room. It checks its arguments and passes them to a backend; it knows cells and arrays, but no
layers.

    packed = core.pack("lstm", {"w_ih": w, "w_hh": r, "b_ih": b})
    y, (h, c), saved, plan = core.forward(packed, x, saved=True)
    g = core.backward(packed, plan, x, y=y, saved=saved, dy=dy, want=("x", "w_hh"))
    packed.update(new_weights)
"""

from .._activations import Activation, Options
from .._backends.settings import Path, last_path, path_counts
from .._backends.types import Gradients
from .._checks.options import activation
from ._cache import PackCache
from ._call import Forward, backward, forward, plan_of, saved_shape
from ._ensemble import backward_ensemble, forward_ensemble
from ._inside import cells_of, gates_of
from ._packed import Packed, pack
from ._plan import Plan

__all__ = [
    "Activation",
    "Forward",
    "Gradients",
    "Options",
    "PackCache",
    "Packed",
    "Path",
    "Plan",
    "activation",
    "backward",
    "backward_ensemble",
    "cells_of",
    "forward",
    "forward_ensemble",
    "gates_of",
    "last_path",
    "pack",
    "path_counts",
    "plan_of",
    "saved_shape",
]
