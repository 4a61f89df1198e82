"""Which calls the kernels make; the parent's forward makes the others.

docs/torch.md has a table with the same rows, which tests/torch_adapter/test_torch_routes.py checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils._device import DeviceContext

from ._packs import FLOATS, eligible

Tensor = Any

_C = torch._C
_LOW = (torch.bfloat16, torch.float16)


any_autocast = _C._is_any_autocast_enabled
_is_compiling = torch.compiler.is_compiling
_is_tracing = _C._is_tracing
_peek = _C._functorch.peek_interpreter_stack
_dispatch_modes = _C._len_torch_dispatch_stack
_function_modes = _C._len_torch_function_stack


def observed() -> str:
    """Say what observes torch's operations, and would miss the kernels; empty if nothing does."""
    if _is_compiling():  # first: a compiler must not see the other checks
        return "torch.compile or torch.export is recording"
    if _is_tracing():
        return "torch.jit.trace is recording"
    if _peek() is not None:
        return "a torch.func transform is at work"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation is at work"
    if _dispatch_modes():
        return "a TorchDispatchMode is at work"
    if _function_modes() and not all(
        isinstance(mode, DeviceContext)  # of set_default_device: only sets where tensors are made
        for mode in torch.overrides._get_current_function_mode_stack()
    ):
        return "a TorchFunctionMode is at work"
    return ""


def of_tensors(tensors: Sequence[Tensor], dtype: Any) -> str:
    """Say why the kernels cannot read these tensors as they are; empty if they can."""
    for t in tensors:
        if not eligible(t) or t.dtype is not dtype:
            if not isinstance(t, torch.Tensor):
                return f"a {type(t).__name__} in place of a tensor"
            if t.dtype not in FLOATS:
                return f"the kernels have no {t.dtype}"
            if t.dtype is not dtype:
                return f"dtype {t.dtype} beside {dtype}"
            return f"a tensor of type {type(t).__name__}, {t.layout}, on {t.device}"
    return ""


def of_inputs(tensors: Sequence[Tensor], dtype: Any) -> str:
    """Say why inputs do not fit weights of this dtype, also under autocast; empty if they do."""
    if not any_autocast():
        return of_tensors(tensors, dtype)
    low = autocast_dtype()
    if low is None or dtype is not torch.float32:
        return "autocast of another device, or of float64"
    return "" if all(castable(t, low) for t in tensors) else "autocast of other tensors"


def autocast_dtype() -> Any:
    """Return the dtype to which autocast casts float32 on the CPU; None if it is off."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None


def castable(tensor: Tensor, low: Any) -> bool:
    """Whether autocast allows this tensor together with float32 weights."""
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.dtype in (torch.float32, low)
        and low in _LOW
        and eligible(tensor.float())
    )
