"""The walk on Keras's torch backend: a function of autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ._arrays import Call, Packs, gradients, run

Tensor = Any


def fits(tensors: list[Any], mask: Any) -> bool:
    """Whether the kernels can read these tensors, and no compiler or transform observes torch."""
    first = tensors[0]
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and all(
            type(t) in (torch.Tensor, torch.nn.Parameter)
            and t.device.type == "cpu"
            and t.layout is torch.strided
            and t.dtype is first.dtype
            for t in tensors
        )
        and 0 not in first.shape
        and (mask is None or (mask.ndim == 2 and mask.device.type == "cpu"))
    )


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, packs: Packs, call: Call, mask: Any, states: int, x: Tensor, *rest: Tensor
    ) -> Any:
        arrays = [t.detach().numpy() for t in rest]
        outputs, last, kept = run(
            packs, call, x.detach().numpy(), arrays[:states], arrays[states:], mask, saved=True
        )
        ctx.kept = kept
        ctx.set_materialize_grads(False)
        return (torch.from_numpy(outputs), *(torch.from_numpy(s) for s in last))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dy: Any, *dlast: Any) -> Any:
        arrays = [None if d is None else d.numpy() for d in (dy, *dlast)]
        dx, dfirst, dweights = gradients(ctx.kept, arrays[0], arrays[1:])
        return (None, None, None, None, *map(torch.from_numpy, (dx, *dfirst, *dweights)))


def walk(
    packs: Packs, call: Call, x: Tensor, states: list[Tensor], weights: list[Tensor], mask: Any
) -> tuple[Tensor, list[Tensor]]:
    """Return the outputs (B, T, H) and the last states (B, H)."""
    told = None if mask is None else mask.detach().numpy()
    tensors = (x, *states, *weights)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        outputs, *last = _Walk.apply(packs, call, told, len(states), *tensors)
        return outputs, last
    arrays = [t.detach().numpy() for t in tensors]
    cut = 1 + len(states)
    y, ends, _ = run(packs, call, arrays[0], arrays[1:cut], arrays[cut:], told, saved=False)
    return torch.from_numpy(y), [torch.from_numpy(s) for s in ends]
