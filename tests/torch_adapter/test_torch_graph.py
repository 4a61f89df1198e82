"""The graph: what backward computes, keeps and frees; hooks, checkpoints, second derivatives."""

from __future__ import annotations

import copy
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import fusedrnn.torch as ft
from fusedrnn import core
from fusedrnn.torch import _recurrence
from torch_adapter.same import CELLS, DOUBLE, LAYERS, H, I, call, close, flat, pair, state_of

T, B = 5, 3


@pytest.fixture
def gradients(monkeypatch: pytest.MonkeyPatch) -> list[core.Gradients]:
    """Records the gradients that calls of fusedrnn.core returned."""
    given: list[core.Gradients] = []
    real = core.backward

    def kept(*args: Any, **kwargs: Any) -> core.Gradients:
        given.append(real(*args, **kwargs))
        return given[-1]

    monkeypatch.setattr(_recurrence.core, "backward", kept)
    return given


def address(a: np.ndarray[Any, Any]) -> int:
    return int(a.__array_interface__["data"][0])


@pytest.mark.parametrize("first", [False, True])
def test_gradients_are_the_arrays_of_the_floor(
    first: bool, gradients: list[core.Gradients]
) -> None:
    mine = ft.LSTM(I, H, batch_first=first)
    x = torch.randn((B, T, I) if first else (T, B, I), requires_grad=True)
    mine(x)[0].sum().backward()
    (g,) = gradients
    assert x.grad is not None
    assert x.grad.data_ptr() == address(g.dx)
    assert x.grad.is_contiguous()
    names = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0"}
    for name, theirs in (names | {"b_hh": "bias_hh_l0"}).items():
        assert getattr(mine, theirs).grad.data_ptr() == address(g.dweights[0][name])
    places = {p.grad.data_ptr() for p in mine.parameters()}
    assert len(places) == 4


def test_nothing_is_copied_on_the_way_in_or_out(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    real = core.forward

    def kept(packed: Any, x: Any, **kwargs: Any) -> Any:
        out = real(packed, x, **kwargs)
        seen.update(kwargs, x=address(x), y=address(out.y), h=address(out.states[0]))
        return out

    monkeypatch.setattr(_recurrence.core, "forward", kept)
    for first in (False, True):
        mine, x = ft.GRU(I, H, batch_first=first), torch.randn(B, T, I)
        h0 = torch.randn(1, B if first else T, H)
        with torch.no_grad():
            y, h = mine(x, h0)
        assert (x.data_ptr(), y.data_ptr(), h.data_ptr()) == (seen["x"], seen["y"], seen["h"])
        assert address(seen["states"][0]) == h0.data_ptr()
        assert y.is_contiguous()
        torch.set_num_threads(2)
        mine(x)
        assert seen["at_most"] == 2
        torch.set_num_threads(1)


WANTED: dict[str, tuple[Callable[[Any], None], set[str]]] = {
    "only x": (lambda m: m.requires_grad_(False), {"x"}),
    "a frozen matrix": (
        lambda m: m.weight_hh_l0.requires_grad_(False),
        {"x", "w_ih", "b_ih", "b_hh"},
    ),
    "all": (lambda m: None, {"x", "w_ih", "w_hh", "b_ih", "b_hh"}),
}


@pytest.mark.parametrize("case", WANTED)
def test_what_needs_no_gradient_is_not_computed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    real = core.backward
    monkeypatch.setattr(
        _recurrence.core,
        "backward",
        lambda *a, **k: asked.append(set(k["want"])) or real(*a, **k),
    )
    change, wanted = WANTED[case]
    mine, x = ft.LSTM(I, H), torch.randn(T, B, I, requires_grad=True)
    change(mine)
    mine(x)[0].sum().backward()
    assert asked == [wanted]
    asked.clear()
    mine(x.detach(), (torch.zeros(1, B, H, requires_grad=True), torch.zeros(1, B, H)))[
        0
    ].sum().backward()
    assert asked == [(wanted | {"states"}) - {"x"}]
    assert (mine.weight_hh_l0.grad is None) == ("w_hh" not in wanted)


def test_no_gradients_no_graph() -> None:
    mine = ft.LSTM(I, H).requires_grad_(False)
    y, (h, c) = mine(torch.randn(T, B, I))
    assert not any(t.requires_grad for t in (y, h, c))
    with torch.inference_mode():
        assert mine(torch.randn(T, B, I))[0].is_inference()
    learning = ft.LSTM(I, H)
    with torch.inference_mode():
        x = torch.randn(T, B, I)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        learning(x)


def test_memory_is_freed_after_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """backward frees what a call saved, although y and the loss are still alive."""
    kept: list[Any] = []
    real = core.forward

    def watched(*args: Any, **kwargs: Any) -> Any:
        out = real(*args, **kwargs)
        kept.append(weakref.ref(out.saved))
        return out

    monkeypatch.setattr(_recurrence.core, "forward", watched)
    mine = ft.LSTM(I, H)
    y, _ = mine(torch.randn(T, B, I))
    loss = y.sum()
    assert kept[0]() is not None
    loss.backward(retain_graph=True)
    assert kept[0]() is not None
    loss.backward()
    assert kept[0]() is None
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()
    y, _ = mine(torch.randn(T, B, I))
    del y, _
    assert kept[1]() is None


def test_retained_graphs_give_the_same_gradient() -> None:
    mine, x = ft.GRU(I, H), torch.randn(T, B, I)
    loss = mine(x)[0].square().sum()
    loss.backward(retain_graph=True)
    once = mine.weight_hh_l0.grad.clone()
    loss.backward()
    assert torch.equal(mine.weight_hh_l0.grad, 2 * once)


def test_hooks_of_every_kind() -> None:
    mine, x = ft.LSTM(I, H), torch.randn(T, B, I, requires_grad=True)
    seen: list[str] = []
    mine.weight_hh_l0.register_hook(lambda g: seen.append("tensor") or g * 0)
    mine.register_forward_pre_hook(lambda m, args: seen.append("before"))
    mine.register_forward_hook(lambda m, args, out: seen.append("after"))
    mine.register_full_backward_hook(lambda m, gi, go: seen.append("backward"))
    mine.bias_ih_l0.register_post_accumulate_grad_hook(lambda p: seen.append("accumulated"))
    mine(x)[0].sum().backward()
    assert seen[:2] == ["before", "after"]
    assert sorted(seen[2:]) == ["accumulated", "backward", "tensor"]
    assert not mine.weight_hh_l0.grad.any()


def test_grad_is_added_to_and_never_written() -> None:
    mine, x = ft.GRU(I, H), torch.randn(T, B, I)
    mine(x)[0].sum().backward()
    first = mine.weight_ih_l0.grad
    value = first.clone()
    mine(x)[0].sum().backward()
    assert mine.weight_ih_l0.grad is first
    assert torch.equal(first, 2 * value)
    (alone,) = torch.autograd.grad(mine(x)[0].sum(), mine.weight_ih_l0)
    assert torch.equal(alone, value)
    assert torch.equal(first, 2 * value)


def test_a_layer_used_twice_in_a_graph() -> None:
    stock, mine = pair("GRU", H, H, dtype=torch.float64)

    def twice(module: Any) -> Any:
        def run(x: Any, hx: Any = None) -> Any:
            y, h = module(x, hx)
            return module(y + x, h)

        run.parameters = module.parameters  # type: ignore[attr-defined]
        run.named_parameters = module.named_parameters  # type: ignore[attr-defined]
        return run

    x = torch.randn(T, B, H, dtype=torch.float64)
    close(call(twice(mine), x), call(twice(stock), x), DOUBLE)


def test_only_a_state_is_used() -> None:
    for name in LAYERS:
        stock, mine = pair(name, I, H, 2, dtype=torch.float64)
        x = torch.randn(T, B, I, dtype=torch.float64)
        found = []
        for module in (mine, stock):
            last = module(x)[1]
            (last[1] if isinstance(last, tuple) else last)[0].sum().backward()
            found.append({k: p.grad for k, p in module.named_parameters()})
        assert {k: g is None for k, g in found[0].items()} == dict.fromkeys(found[0], False)
        for k, g in found[1].items():
            torch.testing.assert_close(found[0][k], torch.zeros_like(g) if g is None else g)


@pytest.mark.filterwarnings("ignore:Anomaly:UserWarning", "ignore:Error detected:UserWarning")
def test_anomaly_mode() -> None:
    mine, x = ft.LSTM(I, H), torch.randn(T, B, I)
    with torch.autograd.detect_anomaly():
        mine(x)[0].sum().backward()
        with pytest.raises(RuntimeError, match="returned nan values"):
            mine(x + torch.nan)[0].sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant: bool) -> None:
    mine, x = ft.LSTM(I, H, 2, dropout=0.5), torch.randn(T, B, I, requires_grad=True)
    found = []
    for wrapped in (False, True):
        torch.manual_seed(1)
        mine.zero_grad()
        x.grad = None
        y = checkpoint(lambda a: mine(a)[0], x, use_reentrant=reentrant) if wrapped else mine(x)[0]
        y.square().sum().backward()
        found.append([x.grad.clone(), *(p.grad.clone() for p in mine.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


# --- second derivatives ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_gradgradcheck(name: str) -> None:
    options: dict[str, Any] = {"bidirectional": True, "batch_first": True} if name in LAYERS else {}
    if name == "LSTM":
        options["proj_size"] = 2
    mine = getattr(ft, name)(2, 3, **options).double()
    x = torch.randn(*((1, 2, 2) if name in LAYERS else (2, 2)), dtype=torch.float64)

    def run(x: Any) -> Any:
        return flat(mine(x))[0]

    assert torch.autograd.gradgradcheck(run, (x.requires_grad_(),))
    (g,) = torch.autograd.grad(run(x).sum(), x, create_graph=True)
    (plain,) = torch.autograd.grad(run(x).sum(), x)
    torch.testing.assert_close(g, plain)
    g.square().sum().backward()
    assert all(p.grad is not None for p in mine.parameters())


def test_second_derivatives_of_packed_sequences_and_lengths() -> None:
    stock, mine = pair("GRU", 2, 3, dtype=torch.float64)
    x, h0 = torch.randn(4, 2, 2, dtype=torch.float64), state_of(mine, 2, dtype=torch.float64)
    found = []
    for module in (mine, stock):
        leaf = x.clone().requires_grad_()
        y, _ = module(pack_padded_sequence(leaf, [2, 4], enforce_sorted=False), h0)
        (g,) = torch.autograd.grad(y.data.square().sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(g.square().sum(), leaf)
        found.append((g.detach(), second))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(
        mine(leaf, h0, lengths=[2, 4])[0].square().sum(), leaf, create_graph=True
    )
    torch.testing.assert_close(g.detach(), found[0][0])
    (second,) = torch.autograd.grad(g.square().sum(), leaf)
    torch.testing.assert_close(second, found[0][1])


@pytest.mark.parametrize(
    "extra",
    [
        {"mask": torch.ones(T, B, dtype=torch.bool)},
        {"reset": torch.ones(T, B, dtype=torch.bool)},
        {"lengths": torch.tensor([5, 0, 1])},
        {"return_gates": True},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_what_cannot_be_differentiated_twice_says_so(extra: dict[str, Any]) -> None:
    """The first derivative is right even with create_graph; a second one is an error."""
    mine, x = ft.LSTM(I, H), torch.randn(T, B, I, requires_grad=True)
    (right,) = torch.autograd.grad(mine(x, **extra)[0].sum(), x)
    (g,) = torch.autograd.grad(mine(x, **extra)[0].sum(), x, create_graph=True)
    assert torch.equal(g, right)
    with pytest.raises(RuntimeError, match="gradients of gradients exist if torch's own layer"):
        g.sum().backward()


# --- copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_copies_pickles_and_files(name: str) -> None:
    stock, mine = pair(name, I, H)
    x = torch.randn(B, I) if name in CELLS else torch.randn(T, B, I)
    y = flat(mine(x))[0]
    size = len(pickle.dumps(mine))
    file = io.BytesIO()
    torch.save(mine, file)
    file.seek(0)
    twins = [copy.deepcopy(mine), copy.copy(mine), pickle.loads(pickle.dumps(mine))]
    for twin in (*twins, torch.load(file, weights_only=False)):
        assert type(twin) is type(mine)
        assert torch.equal(flat(twin(x))[0], y)
    assert size < len(pickle.dumps(stock)) + 500  # packs are not pickled
    assert twins[0]._packs() is not mine._packs()
    assert list(mine.state_dict()) == list(stock.state_dict())
    stock.load_state_dict(mine.state_dict())
    mine.load_state_dict(stock.state_dict())
