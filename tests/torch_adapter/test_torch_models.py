"""accelerate, restore and report: what changes in a model, what is left alone, and why."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.utils.prune

import fusedrnn.torch as ft
from fusedrnn.torch import _models
from torch_adapter.same import CELLS, LAYERS, SINGLE, H, I, call, close, flat

T, B = 5, 3


class Own(torch.nn.LSTM):
    """A subclass by a user."""


class Twice(torch.nn.Module):
    """One layer under two names, and a layer of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.LSTM(I, H)
        self.again = self.first
        self.inner = torch.nn.Sequential(torch.nn.Linear(H, I), torch.nn.Dropout(0.0))
        self.cells = torch.nn.ModuleList([torch.nn.LSTMCell(I, H), torch.nn.GRUCell(I, H)])
        self.rest = torch.nn.ModuleDict({"g": torch.nn.GRU(I, H), "r": torch.nn.RNN(I, H)})
        self.own = Own(I, H)

    def forward(self, x: Any) -> Any:
        y, _ = self.first(x)
        y, _ = self.again(self.inner(y))
        y, _ = self.rest["g"](self.inner(y))
        return self.own(self.rest["r"](self.inner(y))[0][..., :I])[0]


def test_a_model_keeps_everything() -> None:
    torch.manual_seed(0)
    model = Twice()
    stock = copy.deepcopy(model)
    seen: list[str] = []
    model.first.register_forward_hook(lambda m, a, o: seen.append(type(m).__name__))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: id(m) for name, m in model.named_modules(remove_duplicate=False)}
    parameters = [id(p) for p in model.parameters()]
    assert ft.accelerate(model) is model
    assert {n: id(m) for n, m in model.named_modules(remove_duplicate=False)} == before
    assert [id(p) for p in model.parameters()] == parameters
    assert model.again is model.first
    assert type(model.first) is ft.LSTM
    assert isinstance(model.first, torch.nn.LSTM)
    assert [type(m) for m in model.cells] == [ft.LSTMCell, ft.GRUCell]
    assert type(model.own) is Own
    assert repr(model) == repr(stock)
    assert list(model.state_dict()) == list(stock.state_dict())
    x = torch.randn(T, B, I)
    torch.testing.assert_close(model(x), stock(x), atol=SINGLE, rtol=0)
    assert seen == ["LSTM", "LSTM"]
    model(x).sum().backward()
    optimizer.step()
    assert not torch.equal(model.first.weight_hh_l0, stock.first.weight_hh_l0)
    assert ft.accelerate(model) is model  # a second call changes nothing
    assert ft.restore(model) is model
    assert type(model.first) is torch.nn.LSTM
    assert not any(key.startswith("_fusedrnn") for key in model.first.__dict__)
    torch.testing.assert_close(
        model(x), ft.accelerate(copy.deepcopy(model))(x), atol=SINGLE, rtol=0
    )


@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_a_model_that_is_a_layer(name: str) -> None:
    model = getattr(torch.nn, name)(I, H)
    twin = copy.deepcopy(model)
    assert ft.accelerate(model) is model
    assert type(model) is getattr(ft, name)
    x = torch.randn(B, I) if name in CELLS else torch.randn(T, B, I)
    close(call(model, x), call(twin, x), SINGLE)
    assert ft.report(model)[0].name == ""
    assert type(ft.restore(model)) is getattr(torch.nn, name)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`:FutureWarning")
def test_what_is_left_alone_and_why() -> None:
    model = torch.nn.ModuleDict(
        {
            "subclass": Own(I, H),
            "parametrized": torch.nn.GRU(I, H),
            "weight_norm": torch.nn.GRU(I, H),
            "pruned": torch.nn.LSTMCell(I, H),
            "bf16": torch.nn.RNN(I, H).bfloat16(),
            "plain": torch.nn.RNN(I, H),
        }
    )
    torch.nn.utils.parametrizations.orthogonal(model["parametrized"], "weight_hh_l0")
    torch.nn.utils.weight_norm(model["weight_norm"], "weight_hh_l0")
    torch.nn.utils.prune.random_unstructured(model["pruned"], "weight_hh", amount=0.5)
    kinds = {name: type(m) for name, m in model.items()}
    before = ft.report(model)
    assert not any(line.fused for line in before)
    assert before[-1].why == "not accelerated"
    ft.accelerate(model)
    lines = {line.name: line for line in ft.report(model)}
    assert {name for name, line in lines.items() if line.fused} == {"plain"}
    for name in ("subclass", "parametrized", "weight_norm", "pruned"):
        assert type(model[name]) is kinds[name]
    assert lines["subclass"].why.endswith("Own is a class of its own")
    assert "ParametrizedGRU is a class of its own" in lines["parametrized"].why
    assert lines["weight_norm"].why == "weight_hh_l0 is made by weight_norm, prune or the like"
    assert lines["pruned"].why == "weight_hh is made by weight_norm, prune or the like"
    assert lines["bf16"].why == "torch's forward: the kernels have no torch.bfloat16"
    text = str(ft.report(model))
    assert "plain         fusedrnn.torch.RNN" in text
    assert text.count("\n") == 5
    assert str(ft.report(torch.nn.Linear(1, 1))) == "no recurrent layers"
    for name, module in model.items():
        if name not in ("pruned", "bf16"):
            assert torch.isfinite(flat(module(torch.randn(T, B, I)))[0]).all()


def test_refusals() -> None:
    for function in (ft.accelerate, ft.restore, ft.report, ft.freeze, ft.unfreeze):
        with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got list"):
            function([])
    model = torch.nn.ModuleList([ft.GRU(I, H), ft.LSTM(I, H, peepholes=True)])
    with pytest.raises(ValueError, match="restore: torch's LSTM has no peepholes=True"):
        ft.restore(model)
    assert type(model[0]) is ft.GRU  # the layer was left alone


@pytest.mark.filterwarnings("ignore:torch.ao.quantization:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_quantization_names_restore() -> None:
    model = torch.nn.Sequential(torch.nn.LSTM(I, H))
    ft.accelerate(model)
    with pytest.raises(RuntimeError, match=r"fusedrnn\.torch\.restore\(model\)"):
        torch.ao.quantization.quantize_dynamic(model, {torch.nn.LSTM}, dtype=torch.qint8)
    with pytest.raises(RuntimeError, match=r"fusedrnn\.torch\.restore\(model\)"):
        model[0].qconfig = None
    quantized = torch.ao.quantization.quantize_dynamic(
        ft.restore(model), {torch.nn.LSTM}, dtype=torch.qint8
    )
    assert "Dynamic" in type(quantized[0]).__name__ or "quantized" in type(quantized[0]).__module__


def test_every_class_has_its_pair() -> None:
    assert {stock.__name__: mine.__name__ for stock, mine in _models._OURS.items()} == {
        name: name for name in (*LAYERS, *CELLS)
    }
    for stock, mine in _models._OURS.items():
        assert issubclass(mine, stock)
        assert mine.__module__ == "fusedrnn.torch"
        assert mine.__doc__
