"""Functions that the tests run in other processes; the spawn method needs an importable module."""

from __future__ import annotations

from typing import Any

import torch

import fusedrnn.torch as ft


class Encoded(torch.utils.data.Dataset):  # type: ignore[misc]
    """A dataset that runs a layer in the worker."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        with torch.no_grad():
            return self.layer(torch.full((3, 1, 4), float(index)))[0]


def trained(model: Any, queue: Any) -> None:
    """Hogwild: add to the shared weights, then return the layer's output."""
    with torch.no_grad():
        model.weight_hh_l0.add_(0.5)
    queue.put(model(torch.ones(3, 1, 4))[0].detach().numpy().tolist())


def rank_gradients(x: Any, dy: Any, wrap: Any, unused: bool, quiet: int) -> dict[str, Any]:
    """Gradients of a small model on this rank's rows, averaged by `wrap`."""
    torch.manual_seed(0)
    model = Model(unused)
    wrapped = wrap(model)
    for k in range(quiet + 1):
        if k < quiet and hasattr(wrapped, "no_sync"):
            with wrapped.no_sync():
                (wrapped(x) * dy).sum().backward()
        else:
            (wrapped(x) * dy).sum().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


class Model(torch.nn.Module):
    """A stack with a frozen bias, and a cell that may stay unused."""

    def __init__(self, unused: bool) -> None:
        super().__init__()
        self.layers = ft.LSTM(4, 8, 2, bidirectional=True)
        self.layers.bias_hh_l0.requires_grad_(False)
        self.cell = ft.GRUCell(16, 4)
        self.unused = unused

    def forward(self, x: Any) -> Any:
        y = self.layers(x)[0][-1]
        return y[:, :4] if self.unused else self.cell(y)
