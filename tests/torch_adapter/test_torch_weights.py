"""Calls never use stale weights, whoever wrote them and however; freeze() is a promise."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.prune

import fusedrnn.torch as ft
from fusedrnn import core
from torch_adapter.same import CELLS, LAYERS, SINGLE, H, I, call, close, flat, pair

T, B = 5, 3


def fused_step(module: Any, other: Any) -> None:
    for m in (module, other):
        torch.optim.AdamW(m.parameters(), lr=0.1, fused=True).step()


def both(change: Callable[[Any], None]) -> Callable[[Any, Any], None]:
    def changed(module: Any, other: Any) -> None:
        change(module)
        change(other)

    return changed


def new_data(module: Any) -> None:
    module.weight_hh_l0.data = module.weight_hh_l0.data + 0.3


def turned(module: Any) -> None:
    """The same memory with other strides; shape and address stay."""
    square = module.weight_hh_l0.data[:H].clone()
    module.weight_hh_l0.data[:H] = square.t()
    module.weight_ih_l0.data = module.weight_ih_l0.data.t().contiguous().t()


def by_numpy(module: Any) -> None:
    module.weight_ih_l0.detach().numpy()[...] += 0.2


def averaged(module: Any) -> None:
    for p in module.parameters():
        p.data.lerp_(torch.ones_like(p), 0.1)


def loaded(module: Any) -> None:
    state = {k: v + 0.1 for k, v in module.state_dict().items()}
    module.load_state_dict(state)


def assigned(module: Any) -> None:
    state = {k: v + 0.1 for k, v in module.state_dict().items()}
    module.load_state_dict(state, assign=True)


def replaced(module: Any) -> None:
    module.weight_hh_l0 = torch.nn.Parameter(module.weight_hh_l0.detach() * 2)


def part_of_bias(module: Any) -> None:
    module.bias_hh_l0.data[-H:] = 3.0


CHANGES: dict[str, Callable[[Any, Any], None]] = {
    "AdamW(fused=True)": fused_step,
    ".data =": both(new_data),
    "transposed in place": both(turned),
    ".numpy()": both(by_numpy),
    "averages by .data": both(averaged),
    "load_state_dict": both(loaded),
    "load_state_dict(assign=True)": both(assigned),
    "a new Parameter": both(replaced),
    "a part of a bias by .data": both(part_of_bias),
    "shared memory": both(lambda m: m.share_memory()),
    "float64 and back": both(lambda m: m.double().float()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", LAYERS)
def test_no_change_is_missed(name: str, change: str) -> None:
    stock, mine = pair(name, I, H)
    x = torch.randn(T, B, I)
    for module in (stock, mine):
        flat(module(x))[0].sum().backward()
    before = mine(x)[0]
    CHANGES[change](stock, mine)
    close(call(mine, x), call(stock, x), SINGLE)
    with torch.no_grad():
        torch.testing.assert_close(mine(x)[0], stock(x)[0], atol=2e-5, rtol=0)
    if change not in ("shared memory", "float64 and back", "transposed in place"):
        assert not torch.equal(mine(x)[0], before)


@pytest.mark.parametrize("name", CELLS)
def test_no_change_of_a_cell_is_missed(name: str) -> None:
    stock, mine = pair(name, I, H)
    x = torch.randn(B, I)
    mine(x)
    for module in (stock, mine):
        module.weight_hh.data.add_(0.4)
        module.bias_ih.detach().numpy()[...] -= 0.3
    close(call(mine, x), call(stock, x), SINGLE)


def test_functional_call_and_averaged_models() -> None:
    mine, x = ft.GRU(I, H), torch.randn(T, B, I)
    y = mine(x)[0]
    average = torch.optim.swa_utils.AveragedModel(mine)
    average.update_parameters(mine)
    assert torch.equal(average(x)[0], y)
    with torch.no_grad():
        for p in mine.parameters():
            p.mul_(0.5)
    halved = mine(x)[0]
    average.update_parameters(mine)
    between = average(x)[0]
    assert not torch.equal(y, halved)
    assert torch.equal(average.module.weight_hh_l0, mine.weight_hh_l0 * 1.5)
    whole = {k: v * 2 for k, v in mine.state_dict().items()}
    assert torch.equal(torch.func.functional_call(mine, whole, (x,))[0], y)
    assert torch.equal(mine(x)[0], halved)
    assert not torch.equal(between, y)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`:FutureWarning")
def test_weight_norm_and_prune_on_ours() -> None:
    stock, mine = pair("GRU", I, H)
    x = torch.randn(T, B, I)
    for module in (stock, mine):
        torch.nn.utils.weight_norm(module, "weight_hh_l0")
        torch.nn.utils.prune.l1_unstructured(module, "weight_ih_l0", amount=0.5)
    close(call(mine, x), call(stock, x), SINGLE)
    for module in (stock, mine):
        module.weight_hh_l0_g.data.mul_(1.5)
    close(call(mine, x), call(stock, x), SINGLE)


def test_backward_has_the_weights_of_its_forward() -> None:
    """If `.data` changes between forward and backward, the gradient is still the forward call's."""
    mine, x = ft.LSTM(I, H), torch.randn(T, B, I, requires_grad=True)
    (right,) = torch.autograd.grad(mine(x)[0].sum(), x)
    y = mine(x)[0]
    mine.weight_hh_l0.data.add_(1)
    later = mine(x)[0]  # packs the new values; y's graph keeps the old ones
    (found,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(found, right)
    (other,) = torch.autograd.grad(later.sum(), x)
    assert not torch.equal(other, right)


def test_in_place_changes_are_noticed() -> None:
    """As in torch's layers, x, y, the states and the weights must not change before backward."""
    for spoil in ("x", "y", "h0", "weight"):
        mine = ft.GRU(I, H)
        x, h0 = torch.randn(T, B, I), torch.randn(1, B, H)
        y, _ = mine(x, h0)
        with torch.no_grad():
            {"x": x, "y": y, "h0": h0, "weight": mine.weight_hh_l0}[spoil].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_one_pack_is_renewed_in_place() -> None:
    """A training loop makes one pack, not one for each step."""
    mine, x = ft.LSTM(I, H), torch.randn(T, B, I)
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.1)
    seen = set()
    for _ in range(5):
        loss = mine(x)[0].square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.add(id(mine._packs().layers[0]._held.packed))
    assert len(seen) == 1


def test_many_threads_one_module() -> None:
    """Several threads run inference while a writer switches all weights between two values."""
    mine, x = ft.LSTM(I, 32), torch.randn(30, 4, I)
    rights = []
    for factor in (1.0, 2.0):
        with torch.no_grad():
            twin = copy.deepcopy(mine)
            for p in twin.parameters():
                p.mul_(factor)
            rights.append(twin(x)[0])
    wrong: list[str] = []

    def read() -> None:
        for _ in range(50):
            with torch.no_grad():
                if not any(torch.equal(mine(x)[0], right) for right in rights[:1]):
                    wrong.append("another result")

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert not wrong


# --- freeze ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_frozen_calls_do_not_look(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, x = pair(name, I, H)[1], torch.randn(1, 1, I)
    looked = []
    matches = core.Packed.matches
    monkeypatch.setattr(
        core.Packed, "matches", lambda self, w: looked.append(1) or matches(self, w)
    )
    with torch.no_grad():
        y = mine(x)[0]
        mine.freeze()
        for _ in range(3):
            assert torch.equal(mine(x)[0], y)
        assert not looked
        mine.weight_ih_l0.data.add_(1)
        assert torch.equal(mine(x)[0], y)  # the promise was broken
        mine.unfreeze()
        changed = mine(x)[0]
    assert not torch.equal(changed, y)
    assert looked


def test_frozen_layers_see_new_tensors_and_train() -> None:
    stock, mine = pair("LSTM", I, H)
    x = torch.randn(T, B, I)
    mine.freeze()
    mine(x)
    for module in (stock, mine):
        loaded(module)
    with torch.no_grad():
        torch.testing.assert_close(mine(x)[0], stock(x)[0], atol=2e-5, rtol=0)
    for module in (stock, mine):
        module.weight_hh_l0.data.mul_(0.5)
    close(call(mine, x), call(stock, x), SINGLE)  # a training step compares the weights
    double = mine.double()
    assert double(x.double())[0].dtype is torch.float64


def test_freeze_of_a_model_and_of_copies() -> None:
    model = torch.nn.ModuleDict(
        {"a": ft.GRU(I, H), "b": ft.LSTMCell(I, H), "c": torch.nn.Linear(1, 1)}
    )
    x = torch.randn(T, B, I)
    with torch.no_grad():
        assert ft.freeze(model) is model
        y = model["a"](x)[0]
        twin = copy.deepcopy(model)
        for m in (twin, model):
            m["a"].bias_ih_l0.data.add_(1)
        assert torch.equal(model["a"](x)[0], y)
        assert not torch.equal(twin["a"](x)[0], y)  # the copy is not frozen
        assert ft.unfreeze(model) is model
        assert torch.equal(model["a"](x)[0], twin["a"](x)[0])


def test_nothing_is_kept_of_a_dead_module() -> None:
    mine, x = ft.LSTM(I, H), torch.randn(T, B, I)
    y = mine(x)[0]
    watched = weakref.ref(mine._packs().layers[0]._held.packed)
    y.sum().backward()
    del mine, y
    gc.collect()
    assert watched() is None
