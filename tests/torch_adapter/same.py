"""What the tests of the adapter share: pairs of modules, calls with every gradient, comparisons."""

from __future__ import annotations

from typing import Any

import torch

import fusedrnn.torch as ft

LAYERS = ("RNN", "LSTM", "GRU")
CELLS = ("RNNCell", "LSTMCell", "GRUCell")
I, H = 4, 6  # noqa: E741


def pair(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """torch's module and ours, made from one seed."""
    made = []
    for home in (torch.nn, ft):
        torch.manual_seed(0)
        made.append(getattr(home, name)(*args, **kwargs))
    return made[0], made[1]


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def state_of(module: Any, batch: int, **like: Any) -> Any:
    """Random first states for a layer; (h, c) for an LSTM."""
    rows = module.num_layers * (2 if module.bidirectional else 1)
    h = torch.randn(rows, batch, module.proj_size or module.hidden_size, **like)
    if module.mode != "LSTM":
        return h
    return h, torch.randn(rows, batch, module.hidden_size, **like)


def flat(result: Any) -> list[Any]:
    """Every tensor of a result."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, torch.nn.utils.rnn.PackedSequence):
        return [result.data]
    if isinstance(result, dict):
        return flat(list(result.values()))
    return [t for part in result for t in flat(part)]


def call(module: Any, x: Any, hx: Any = None, **extra: Any) -> dict[str, Any]:
    """The outputs of a call, and the gradients of a random function of all outputs."""
    data = x.data if isinstance(x, torch.nn.utils.rnn.PackedSequence) else x
    leaf = data.detach().clone().requires_grad_()
    given = x._replace(data=leaf) if data is not x else leaf
    first = None if hx is None else [t.detach().clone().requires_grad_() for t in parts(hx)]
    states = None if first is None else tuple(first) if isinstance(hx, tuple) else first[0]
    outputs = flat(module(given, states, **extra))
    generator = torch.Generator().manual_seed(5)
    loss = sum(
        (t * torch.randn(t.shape, dtype=t.dtype, generator=generator)).sum() for t in outputs
    )
    leaves = [leaf, *(first or []), *module.parameters()]
    names = ["dx", *(f"d{k}" for k in "hc"[: len(first or [])])]
    names += [name for name, _ in module.named_parameters()]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    found = {f"out {k}": t.detach() for k, t in enumerate(outputs)}
    return found | dict(zip(names, gradients, strict=True))


def close(found: dict[str, Any], right: dict[str, Any], bound: float) -> None:
    """Assert that every array is within `bound` of the other, in units of its largest element."""
    assert found.keys() == right.keys()
    for name, a in found.items():
        b = right[name]
        if a is None or b is None:
            assert a is b, name
            continue
        assert a.dtype == b.dtype, name
        assert a.shape == b.shape, name
        if b.numel():
            worst = float((a.double() - b.double()).abs().max())
            assert worst <= bound * max(1.0, float(b.abs().max())), (name, worst)


# For float64: our error and torch's are each about 100 roundings of 1.1e-16.
DOUBLE = 1e-12
# For float32: each error is at most 4 times that of the plain float32 chain ([N3.3]), with K + T
# below 64 here.
SINGLE = 2e-5
