"""Layers and cells of fusedrnn.torch beside torch's: outputs, states, every gradient, bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fusedrnn.torch as ft
from fusedrnn import core
from torch_adapter.same import (
    CELLS,
    DOUBLE,
    LAYERS,
    SINGLE,
    H,
    I,
    call,
    close,
    flat,
    pair,
    parts,
    state_of,
)

T, B = 5, 3
Counted = Callable[[Callable[[], Any]], tuple[Any, int]]

OPTIONS = [
    {"num_layers": layers, "bidirectional": two, "bias": bias, "batch_first": first}
    for layers, two, bias, first in itertools.product((1, 2), *[(False, True)] * 3)
]


def kinds() -> list[tuple[str, dict[str, Any]]]:
    """Every class with every option of its constructor."""
    found: list[tuple[str, dict[str, Any]]] = []
    for options in OPTIONS:
        found += [(name, options) for name in LAYERS]
        found += [
            ("RNN", {**options, "nonlinearity": "relu"}),
            ("LSTM", {**options, "proj_size": 3}),
        ]
    return found


@pytest.mark.parametrize(("name", "options"), kinds(), ids=str)
def test_every_option_of_the_constructor(name: str, options: dict[str, Any], ours: Counted) -> None:
    """float64 with first states, float32 without; unbatched calls; the same repr and parameters."""
    for dtype, bound in ((torch.float64, DOUBLE), (torch.float32, SINGLE)):
        stock, mine = pair(name, I, H, dtype=dtype, **options)
        assert repr(stock) == repr(mine)
        assert {k: v.tolist() for k, v in stock.state_dict().items()} == {
            k: v.tolist() for k, v in mine.state_dict().items()
        }
        x = torch.randn((B, T, I) if options["batch_first"] else (T, B, I), dtype=dtype)
        hx = state_of(stock, B, dtype=dtype) if dtype is torch.float64 else None
        found, calls = ours(lambda: call(mine, x, hx))  # noqa: B023
        assert calls == 2 * options["num_layers"]
        close(found, call(stock, x, hx), bound)
        with torch.no_grad():
            for a, b in zip(flat(mine(x, hx)), found.values(), strict=False):
                assert torch.equal(a, b)  # [N1.4]
        one = torch.randn(T, I, dtype=dtype)
        close(call(mine, one), call(stock, one), bound)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("batched", [True, False])
def test_positional_arguments_and_keywords(name: str, batched: bool) -> None:
    args = (I, H, 2, "relu", False, True) if name == "RNN" else (I, H, 2, False, True)
    stock, mine = pair(name, *args)
    assert mine.batch_first is True
    assert mine.bias is False
    x = torch.randn(*((B,) if batched else ()), T, I)
    hx = state_of(stock, B)
    if not batched:
        hx = tuple(t[:, 0] for t in hx) if isinstance(hx, tuple) else hx[:, 0]
    close(call(mine, x, hx), call(stock, x, hx), SINGLE)
    for a, b in zip(flat(mine(input=x, hx=hx)), flat(stock(input=x, hx=hx)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_cells(name: str, bias: bool, batched: bool, ours: Counted) -> None:
    stock, mine = pair(name, I, H, bias=bias, dtype=torch.float64)
    assert repr(stock) == repr(mine)
    shape = (B, H) if batched else (H,)
    x = torch.randn(*shape[:-1], I, dtype=torch.float64)
    h, c = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    for hx in (None, (h, c) if name == "LSTMCell" else h):
        found, calls = ours(lambda: call(mine, x, hx))  # noqa: B023
        assert calls == 2
        close(found, call(stock, x, hx), DOUBLE)


def test_a_relu_cell_and_one_of_no_kernel(ours: Counted) -> None:
    stock, mine = pair("RNNCell", I, H, nonlinearity="relu")
    x = torch.randn(B, I)
    close(call(mine, x), call(stock, x), SINGLE)
    mine.nonlinearity = "tanhh"
    fresh = ft.RNNCell(I, H)
    fresh.nonlinearity = "tanhh"
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: tanhh"):
        fresh(x)


def test_a_loop_of_cells_is_the_layer() -> None:
    """[N1.3] Steps through a cell have the bits of the layer."""
    layer, cell = ft.LSTM(I, H), ft.LSTMCell(I, H)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x, state = torch.randn(T, B, I), None
    y, (_, c) = layer(x)
    for t in range(T):
        state = cell(x[t], state)
        assert torch.equal(state[0], y[t])
    assert torch.equal(state[1], c[0])


# --- packed sequences -----------------------------------------------------------------------------

LENGTHS = [[5, 4, 2], [2, 5, 4], [5, 5, 5], [1, 1, 1]]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("two", [False, True])
def test_packed_sequences(name: str, lengths: list[int], two: bool, ours: Counted) -> None:
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": two, "dtype": torch.float64}
    if name == "LSTM" and two:
        options["proj_size"] = 3
    stock, mine = pair(name, I, H, **options)
    x = torch.randn(max(lengths), B, I, dtype=torch.float64)
    sequence = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    for hx in (None, state_of(stock, B, dtype=torch.float64)):
        found, calls = ours(lambda: call(mine, sequence, hx))  # noqa: B023
        assert calls == 4
        close(found, call(stock, sequence, hx), DOUBLE)
    y, _ = mine(sequence)
    assert isinstance(y, PackedSequence)
    assert torch.equal(y.batch_sizes, sequence.batch_sizes)
    assert torch.equal(y.unsorted_indices, sequence.unsorted_indices)
    assert pad_packed_sequence(y)[1].tolist() == lengths


def test_sorted_packed_sequences_have_no_indices() -> None:
    stock, mine = pair("GRU", I, H)
    sequence = pack_padded_sequence(torch.randn(5, B, I), [5, 3, 1])
    close(call(mine, sequence), call(stock, sequence), SINGLE)
    assert mine(sequence)[0].sorted_indices is None
    with pytest.raises(RuntimeError, match=r"Expected hidden size \(1, 3, 6\), got \[1, 2, 6\]"):
        mine(sequence, torch.zeros(1, 2, H))


def test_packed_bits_are_those_of_lengths() -> None:
    """[L7] [N1.1] A packed call, a padded call with lengths and each sequence alone: equal bits."""
    mine = ft.LSTM(I, H, bidirectional=True)
    lengths, x = [2, 5, 4], torch.randn(5, 3, I)
    packed, _ = mine(pack_padded_sequence(x, lengths, enforce_sorted=False))
    padded, (h, _) = mine(x, lengths=lengths)
    assert torch.equal(pad_packed_sequence(packed)[0], padded)
    for b, length in enumerate(lengths):
        y, (last, _) = mine(x[:length, b])
        assert torch.equal(padded[:length, b], y)
        assert torch.equal(h[:, b], last)
        assert not padded[length:, b].any()


# --- dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("two", [False, True])
def test_dropout_is_drawn_as_torch_draws_it(name: str, packed: bool, two: bool) -> None:
    options = {"num_layers": 3, "dropout": 0.4, "bidirectional": two, "batch_first": not packed}
    stock, mine = pair(name, I, H, dtype=torch.float64, **options)
    x: Any = torch.randn(T, B, I, dtype=torch.float64)
    if packed:
        x = pack_padded_sequence(x, [5, 4, 2])
    results = []
    for module in (mine, stock):
        torch.manual_seed(3)
        results.append(call(module, x))
        results[-1]["next"] = torch.rand(1)  # the generator must be left in the same state
    close(*results, DOUBLE)
    for module in (mine, stock):
        module.eval()
    close(call(mine, x), call(stock, x), DOUBLE)
    everything, none = ft.GRU(I, H, 2, dropout=1.0), torch.randn(T, B, I)
    assert torch.isfinite(everything(none)[0]).all()


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_two_hundred_losses(name: str) -> None:
    """One seed, dropout, Adam: each of 200 losses is within 1e-3 of torch's, relative."""
    curves = []
    for home in (torch.nn, ft):
        torch.manual_seed(1)
        model = getattr(home, name)(8, 24, 2, dropout=0.3)
        head = torch.nn.Linear(24, 1)
        optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=3e-3)
        losses = []
        for _ in range(200):
            x = torch.randn(12, 16, 8)
            wanted = x.cumsum(0).tanh().mean(2, keepdim=True)
            loss = (head(model(x)[0]) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves.append(np.array(losses))
    assert curves[0][-1] < curves[0][0] / 2
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-3)


# --- gradcheck ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("first", [False, True])
def test_gradcheck(name: str, first: bool) -> None:
    options = {"proj_size": 2} if name == "LSTM" and first else {}
    module = getattr(ft, name)(2, 3, bidirectional=first, batch_first=first, **options).double()
    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    hx = [t.requires_grad_() for t in parts(state_of(module, 2 if first else 3, dtype=x.dtype))]
    names = [n for n, _ in module.named_parameters()]

    def run(x: Any, *rest: Any) -> Any:
        states, weights = rest[: len(hx)], rest[len(hx) :]
        y, last = torch.func.functional_call(
            module,
            dict(zip(names, weights, strict=True)),
            (x, states if len(hx) > 1 else states[0]),
        )
        return (y, *parts(last))

    weights = [p.detach().clone().requires_grad_() for p in module.parameters()]
    assert torch.autograd.gradcheck(run, (x, *hx, *weights))


# --- what torch's layers do not have --------------------------------------------------------------


def as_core(module: Any) -> core.Packed:
    """The weights of a layer with one direction, packed by fusedrnn.core."""
    names = {"weight_ih": "w_ih", "weight_hh": "w_hh", "bias_ih": "b_ih", "bias_hh": "b_hh"}
    names |= {"weight_p": "p", "weight_norm_ih": "norm_ih", "weight_norm_hh": "norm_hh"}
    names |= {"weight_norm_c": "norm_c", "bias_norm_c": "norm_c_bias"}
    cell, options = module._own.cell(module._kind)
    weights = {names[k.removesuffix("_l0")]: v.numpy() for k, v in module.state_dict().items()}
    return core.pack(cell, weights, options=options)


OWN: list[tuple[str, dict[str, Any], str]] = [
    ("RNN", {"nonlinearity": "sigmoid"}, "rnn_sigmoid"),
    ("RNN", {"nonlinearity": "identity"}, "rnn_identity"),
    ("RNN", {"nonlinearity": ("leaky_relu", 0.1)}, "rnn_chosen"),
    ("RNN", {"clip": 0.5}, "rnn_chosen"),
    ("LSTM", {"peepholes": True}, "lstm_peephole"),
    ("LSTM", {"layer_norm": True}, "lstm_norm"),
    ("LSTM", {"layer_norm": True, "bias": False}, "lstm_norm"),
    ("LSTM", {"coupled": True, "clip": 3.0, "peepholes": True}, "lstm_chosen"),
    ("LSTM", {"activations": ("hard_sigmoid", "tanh", "tanh")}, "lstm_chosen"),
    ("LSTM", {"forget_bias": 1.0}, "lstm"),
    ("GRU", {"reset_after": False}, "gru_reset_before"),
    ("GRU", {"reset_after": False, "clip": 2.0}, "gru_reset_before_chosen"),
    ("GRU", {"layer_norm": True}, "gru_norm"),
    ("GRU", {"activations": ("hard_sigmoid", "relu")}, "gru_chosen"),
]


@pytest.mark.parametrize(("name", "options", "cell"), OWN, ids=str)
def test_options_of_ours_have_the_bits_of_the_floor(
    name: str, options: dict[str, Any], cell: str
) -> None:
    module = getattr(ft, name)(I, H, **options)
    x = torch.randn(T, B, I)
    reset, lengths = torch.rand(T, B) > 0.6, torch.tensor([5, 2, 4])
    found = call(module, x, lengths=lengths, reset=reset)
    packed = as_core(module)
    assert packed.cell == cell
    assert core.last_path().kernel == f"{cell} float32"
    out = core.forward(packed, x.numpy(), lengths=lengths.numpy(), reset=reset.numpy(), saved=True)
    assert out.saved is not None
    assert np.array_equal(found["out 0"].numpy(), out.y)
    generator = torch.Generator().manual_seed(5)
    dy, *dstates = (torch.randn(s.shape, generator=generator).numpy() for s in (out.y, *out.states))
    g = core.backward(packed, out.plan, x.numpy(), y=out.y, saved=out.saved, dy=dy, dstates=dstates)
    assert np.array_equal(found["dx"].numpy(), g.dx)
    assert np.array_equal(found["weight_hh_l0"].numpy(), g.dweights[0]["w_hh"])
    for extra, mine in (("weight_p_l0", "p"), ("weight_norm_c_l0", "norm_c")):
        if extra in found:
            assert np.array_equal(found[extra].numpy(), g.dweights[0][mine])
    if options.get("forget_bias"):
        both = module.bias_ih_l0 + module.bias_hh_l0
        assert torch.equal(both[H : 2 * H], torch.ones(H))
    shown = [f"{k}={v!r}" for k, v in options.items() if k not in ("nonlinearity",)]
    assert all(text in repr(module) for text in shown)
    with pytest.raises(RuntimeError, match=r"input\.size"):
        module(x[..., 1:])


def test_options_travel_and_start_anew() -> None:
    import copy
    import pickle

    module = ft.LSTM(I, H, 2, layer_norm=True, bidirectional=True)
    assert {"weight_norm_ih_l1_reverse", "bias_norm_c_l0"} <= set(module.state_dict())
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1)
    x = torch.randn(T, B, I)
    y, _ = module(x)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(x)[0], y)
        assert repr(twin) == repr(module)
    module.reset_parameters()
    assert torch.equal(module.weight_norm_hh_l1, torch.ones(4 * H))
    assert not module.bias_norm_c_l1.any()


@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        ("LSTM", {"zoneout": 1.0}, ValueError, "zoneout: expected a number"),
        ("LSTM", {"input_dropout": True}, ValueError, "input_dropout: expected a number"),
        ("LSTM", {"layer_norm": True, "peepholes": True}, ValueError, "layer_norm: cannot"),
        ("LSTM", {"layer_norm": True, "proj_size": 2}, ValueError, "layer_norm: cannot"),
        ("LSTM", {"coupled": True, "forget_bias": 1.0}, ValueError, "forget_bias"),
        ("LSTM", {"bias": False, "forget_bias": 1.0}, ValueError, "forget_bias"),
        ("LSTM", {"clip": -1.0}, ValueError, "clip"),
        ("LSTM", {"activations": ("tanh",)}, TypeError, "activations: expected 3"),
        ("GRU", {"layer_norm": True, "reset_after": False}, ValueError, "layer_norm: cannot"),
        ("GRU", {"activations": ("tanh", "tangh")}, ValueError, "activations"),
        ("RNN", {"nonlinearity": "tangh"}, ValueError, "Unknown nonlinearity 'tangh'"),
        ("GRU", {"proj_size": 2}, ValueError, "only supported for LSTM"),
        ("GRU", {"peepholes": True}, TypeError, "peepholes"),
        ("LSTM", {"dropout": 2.0}, ValueError, "dropout should be a number in range"),
    ],
)
def test_wrong_options(
    name: str, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        getattr(ft, name)(I, H, **options)


@pytest.mark.parametrize("name", LAYERS)
def test_masks_and_resets(name: str) -> None:
    """[L3] [L6] They give what a loop over pieces gives, as in sb3-contrib's recurrent policies."""
    module = getattr(ft, name)(I, H, batch_first=True).double()
    x = torch.randn(B, T, I, dtype=torch.float64)
    done = torch.rand(B, T) > 0.6
    state = state_of(module, B, dtype=torch.float64)
    y, last = module(x, state, reset=done)
    carried = state
    for t in range(T):
        keep = (~done[:, t]).to(torch.float64)[None, :, None]
        zeroed = tuple(keep * s for s in parts(carried))
        one, carried = module(x[:, t : t + 1], zeroed if name == "LSTM" else zeroed[0])
        torch.testing.assert_close(y[:, t : t + 1], one)
    for a, b in zip(parts(last), parts(carried), strict=True):
        torch.testing.assert_close(a, b)

    mask = torch.rand(B, T) > 0.4
    y, _ = module(x, mask=mask)
    for b in range(B):
        alone, _ = module(x[b : b + 1, mask[b]]) if mask[b].any() else (y[b : b + 1, :0], None)
        assert torch.equal(y[b, mask[b]], alone[0])
        assert not y[b, ~mask[b]].any()
    alone, _ = module(x[0], mask=mask[0])
    assert torch.equal(alone, y[0])


def test_padding_may_hold_anything() -> None:
    """[L5] NaN past a length reaches no output and no gradient."""
    module, x = ft.GRU(I, H), torch.randn(T, B, I)
    lengths = torch.tensor([5, 0, 2])
    right = call(module, x, lengths=lengths)
    x[2:, 2], x[:, 1] = torch.nan, torch.inf
    found = call(module, x, lengths=lengths)
    for name, a in found.items():
        assert torch.equal(a, right[name]), name


@pytest.mark.parametrize("first", [False, True])
def test_cells_and_gates_inside(first: bool) -> None:
    """[O1] [O3] Cells and gates fit together, and gradients flow through them."""
    module = ft.LSTM(I, H, 2, bidirectional=True, batch_first=first).double()
    x = torch.randn((B, T, I) if first else (T, B, I), dtype=torch.float64, requires_grad=True)
    y, _, cells, gates = module(x, return_cell_states=True, return_gates=True)
    assert len(cells) == len(gates) == 2
    assert list(gates[1]) == ["i", "f", "g", "o"]
    assert cells[1].shape == y.shape
    torch.testing.assert_close(gates[1]["o"] * cells[1].tanh(), y)
    loss = cells[0].square().sum() + gates[0]["f"].sum() + gates[1]["i"].sum() + y.sum()
    (found,) = torch.autograd.grad(loss, x)

    def value(shift: Any) -> float:
        with torch.no_grad():
            y, _, cells, gates = module(x + shift, return_cell_states=True, return_gates=True)
        total = cells[0].square().sum() + gates[0]["f"].sum() + gates[1]["i"].sum() + y.sum()
        return float(total)

    way = torch.randn_like(x)
    slope = (value(1e-6 * way) - value(-1e-6 * way)) / 2e-6
    assert abs(slope - float((found * way).sum())) < 1e-6 * max(1, abs(slope))
    with pytest.raises(ValueError, match="return_cell_states: GRU has no cell states"):
        ft.GRU(I, H)(torch.zeros(T, B, I), return_cell_states=True)
    names = ft.GRU(I, H)(torch.zeros(T, I), return_gates=True)[2][0]
    assert {k: tuple(v.shape) for k, v in names.items()} == dict.fromkeys("rzn", (T, H))


def test_gates_of_a_packed_sequence() -> None:
    module = ft.LSTM(I, H)
    sequence = pack_padded_sequence(torch.randn(5, B, I), [5, 3, 1])
    y, _, cells, gates = module(sequence, return_cell_states=True, return_gates=True)
    torch.testing.assert_close(gates[0]["o"].data * cells[0].data.tanh(), y.data)
    with pytest.raises(ValueError, match="mask: not in torch's own layer, and a PackedSequence"):
        module(sequence, mask=torch.ones(5, B, dtype=torch.bool))


NOISE: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {"zoneout": (0.3, 0.2)}),
    ("GRU", {"zoneout": 0.3}),
    ("RNN", {"recurrent_dropout": 0.3}),
    ("LSTM", {"input_dropout": 0.3, "num_layers": 2}),
    ("GRU", {"drop_connect": 0.3, "batch_first": True}),
]


@pytest.mark.parametrize(("name", "options"), NOISE, ids=str)
def test_noise_acts_while_training(name: str, options: dict[str, Any]) -> None:
    """[D6] [D7] One seed gives one result, and the gradient is that of the masks drawn."""
    module = getattr(ft, name)(I, H, **options).double()
    x = torch.randn(T, B, I, dtype=torch.float64)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(module(x)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])

    def run(x: Any, w: Any) -> Any:
        torch.manual_seed(3)
        return torch.func.functional_call(module, {"weight_hh_l0": w}, (x,))[0]

    weight = module.weight_hh_l0.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(run, (x.requires_grad_(), weight))
    module.eval()
    assert torch.equal(module(x)[0], module(x)[0])
    if "zoneout" in options:  # its expectation [D4]
        rates = module._own.zoneout_rates(module._kind)
        packed = as_core(module)
        right = core.forward(packed, x.detach().numpy(), zoneout=rates).y
        assert np.array_equal(module(x)[0].detach().numpy(), right)


def test_masks_of_zoneout_reach_the_cells() -> None:
    module = ft.LSTM(I, H, zoneout=(0.0, 0.9))
    x = torch.randn(T, B, I)
    _, _, cells = module(x, return_cell_states=True)
    kept = (cells[0][1:] == cells[0][:-1]).float().mean()
    assert 0.7 < kept < 1
