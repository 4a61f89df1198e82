"""A walk as an operation of PyTorch with a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from . import _walks
from ._job import Job, Weights

Tensor = Any


def refuses(*tensors: Tensor) -> str:
    """Return why these tensors take Keras' loop; empty if the kernels read them."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return "it is being compiled or traced"
    for one in tensors:
        if one is None:
            continue
        if one.device.type != "cpu":
            return f"its tensors are on {one.device.type}"
        if torch._C._functorch.is_functorch_wrapped_tensor(one):
            return "it runs inside a function transform"
    return ""


def _numpy(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().numpy()


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, job: Job, save: bool, mask: Any, drop: Any, *tensors: Any) -> Any:
        x, kernel, recurrent, bias, *states = map(_numpy, tensors)
        given = _walks.Arrays(x, tuple(states), kernel, recurrent, bias, _numpy(mask), _numpy(drop))
        out = _walks.forward(job, given, save)
        if save:
            # Through save_for_backward torch notices if weights or x are written before backward.
            ctx.job, ctx.rest = job, (given.mask, given.drop, out.plain_y, out.saved)
            ctx.save_for_backward(*tensors)
        return tuple(torch.from_numpy(a) for a in (out.y, *out.states))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dy: Any, *dstates: Any) -> Any:
        x, kernel, recurrent, bias, *states = map(_numpy, ctx.saved_tensors)
        mask, drop, plain_y, saved = ctx.rest
        given = _walks.Arrays(x, tuple(states), kernel, recurrent, bias, mask, drop)
        found = _walks.backward(
            ctx.job, given, plain_y, saved, _numpy(dy), tuple(map(_numpy, dstates))
        )
        arrays = (found.x, found.kernel, found.recurrent, found.bias, *found.states)
        gradients = (
            None if a is None else torch.from_numpy(np.ascontiguousarray(a)) for a in arrays
        )
        return (None, None, None, None, *gradients)


def walk(
    job: Job,
    x: Tensor,
    states: list[Tensor],
    weights: Weights,
    mask: Tensor | None,
    drop: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:
    """Return y (B, T, H) and the last states (B, H)."""
    tensors = (x, *weights, *states)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if save:
        # Copies, because Keras writes the states of a stateful layer in place before backward.
        tensors = (x, *weights, *(state.clone() for state in states))
    y, *last = _Walk.apply(job, save, mask, drop, *tensors)
    return y, last
