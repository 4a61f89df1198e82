"""Who computes a call: call counts test each row of the table in docs/torch.md."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode

import fusedrnn as fr
import fusedrnn.torch as ft
from fusedrnn import core
from fusedrnn.torch import _table
from torch_adapter.same import CELLS, LAYERS, H, I, flat, pair

T, B = 5, 3
Counted = Callable[[Callable[[], Any]], tuple[Any, int]]


class Recorder(TorchDispatchMode):
    """Passes every operation on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Tagged(torch.Tensor):
    """A subclass of Tensor, as many libraries have one."""


class Model(torch.nn.Module):
    """Returns y of a layer."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def model() -> Any:
    torch.manual_seed(0)
    return Model(ft.GRU(I, H))


def x() -> Any:
    return torch.randn(T, B, I, generator=torch.Generator().manual_seed(1))


def with_dtype(dtype: Any) -> Any:
    return model().to(dtype)(x().to(dtype))


def on_meta() -> Any:
    return ft.LSTM(I, H, device="meta")(torch.empty(T, B, I, device="meta"))


def as_subclass() -> Any:
    return model()(x().as_subclass(Tagged))


def traced() -> Any:
    with torch.no_grad():
        return torch.jit.trace(model(), x(), check_trace=False)(x())


def scripted() -> Any:
    return torch.jit.script(model())(x())


def compiled() -> Any:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        whole = torch.compile(model(), backend="eager", fullgraph=True)
        if torch.__version__ >= (2, 5):
            return whole(x())
        # 2.4 knows torch's own modules only and does not look into their methods.
        with pytest.raises(torch._dynamo.exc.Unsupported):
            whole(x())
        return torch.compile(model(), backend="eager")(x())


def compiled_with_breaks() -> Any:
    torch._dynamo.reset()
    return torch.compile(model(), backend="eager")(x())


def exported() -> Any:
    return torch.export.export(model(), (x(),), strict=False).module()(x())


def differentiated_by_func() -> Any:
    return torch.func.grad(lambda a: model()(a).sum())(x())


def mapped() -> Any:
    with pytest.raises(RuntimeError, match="Batching rule not implemented"):  # torch's own error
        torch.func.vmap(model())(torch.stack([x(), x()]))


def dual() -> Any:
    with forward_ad.dual_level():
        return model()(forward_ad.make_dual(x(), x()))


def dispatched() -> Any:
    with Recorder():
        return model()(x())


def negated() -> Any:
    return model()(torch._neg_view(x()))


def quantized_weights() -> Any:
    made = model()
    made.layer.weight_hh_l0 = torch.nn.Parameter(made.layer.weight_hh_l0.as_subclass(Tagged))
    return made(x())


# The case, who computes it ("ours" or "torch's"), and the call.
ROWS: list[tuple[str, str, Callable[[], Any]]] = [
    ("float32 on the CPU", "ours", lambda: model()(x())),
    ("float64 on the CPU", "ours", lambda: with_dtype(torch.float64)),
    ("bfloat16", "torch's", lambda: with_dtype(torch.bfloat16)),
    ("another device", "torch's", on_meta),
    ("a subclass of Tensor", "torch's", as_subclass),
    ("weights of a subclass", "torch's", quantized_weights),
    ("a lazily negated view", "ours", negated),
    ("torch.jit.trace", "torch's", traced),
    ("torch.jit.script", "torch's", scripted),
    ("torch.compile", "torch's", compiled),
    ("torch.compile, graph breaks", "torch's", compiled_with_breaks),
    ("torch.export", "torch's", exported),
    ("torch.func.grad", "torch's", differentiated_by_func),
    ("torch.func.vmap", "torch's", mapped),
    ("forward-mode differentiation", "torch's", dual),
    ("a TorchDispatchMode", "torch's", dispatched),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch.jit and dynamo warn
@pytest.mark.filterwarnings("ignore:Converting a tensor::")  # torch.jit.TracerWarning
@pytest.mark.parametrize(("case", "who", "run"), ROWS, ids=[row[0] for row in ROWS])
def test_who_computes(case: str, who: str, run: Callable[[], Any], ours: Counted) -> None:
    """The kernels run or not, and any numbers are those of an eager call."""
    result, calls = ours(run)
    assert (calls > 0) == (who == "ours"), case
    tensors = [] if result is None else flat(result)
    if tensors and tensors[0].shape == (T, B, H) and tensors[0].device.type == "cpu":
        wanted = model()(torch._neg_view(x()) if case == "a lazily negated view" else x())
        found = torch.Tensor(tensors[0].detach()).to(torch.float32)
        torch.testing.assert_close(found, wanted.detach(), atol=2e-2, rtol=0)


def test_the_table_of_the_docs_has_these_rows() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/torch.md").read_text()
    for case, who, _ in ROWS:
        assert f"| {case} | {who} |" in page, case


@pytest.mark.parametrize("name", CELLS)
def test_cells_take_the_same_routes(name: str, ours: Counted) -> None:
    stock, mine = pair(name, I, H)
    row = torch.randn(B, I)
    assert ours(lambda: mine(row))[1] == 1
    for run in (
        lambda: mine(row.as_subclass(Tagged)),
        lambda: copy.deepcopy(mine).bfloat16()(row.bfloat16()),
        lambda: torch.func.grad(lambda a: flat(mine(a))[0].sum())(row),
    ):
        assert ours(run)[1] == 0
    with Recorder():
        assert ours(lambda: mine(row))[1] == 0
    for wrong in (row[:, :2], row.double(), row[None]):
        texts = []
        for module in (stock, mine):
            with pytest.raises((RuntimeError, ValueError)) as caught:
                module(wrong)
            texts.append((type(caught.value), str(caught.value)))
        assert texts[0] == texts[1]


def test_a_default_device_is_no_reason(ours: Counted) -> None:
    """`set_default_device` says where new tensors go; our results are where the input is."""
    with torch.device("cpu"):
        assert ours(lambda: model()(x()))[1] == 1


def wrong_calls() -> dict[str, Callable[[Any], Any]]:
    three = torch.zeros(T, B, I)
    return {
        "rank 1": lambda m: m(three[0, 0]),
        "rank 4": lambda m: m(three[None]),
        "width": lambda m: m(three[..., 1:]),
        "dtype": lambda m: m(three.double()),
        "whole numbers": lambda m: m(three.long()),
        "no steps": lambda m: m(three[:0]),
        "state of another batch": lambda m: m(three, state(m, 1, 2)),
        "state of two layers": lambda m: m(three, state(m, 2, B)),
        "state without a batch": lambda m: m(three, flatten(state(m, 1, B))),
        "state with a batch": lambda m: m(three[:, 0], state(m, 1, B)),
        "state of float64": lambda m: m(three, doubled(state(m, 1, B))),
        "one state of two": lambda m: m(three, (torch.zeros(1, B, H),)),
        "a packed sequence of another width": lambda m: m(
            pack_padded_sequence(three[..., 1:], [5] * 3), state(m, 1, B)
        ),
        "not a tensor": lambda m: m([1.0]),
    }


def state(module: Any, rows: int, batch: int) -> Any:
    h = torch.zeros(rows, batch, H)
    return (h, h) if module.mode == "LSTM" else h


def flatten(hx: Any) -> Any:
    return tuple(t[:, 0] for t in hx) if isinstance(hx, tuple) else hx[:, 0]


def doubled(hx: Any) -> Any:
    return tuple(t.double() for t in hx) if isinstance(hx, tuple) else hx.double()


INVALID = [
    (name, case)
    for name in LAYERS
    for case in wrong_calls()
    if (name, "packed" in case) != ("LSTM", True)  # torch 2.13 does not check this
]


@pytest.mark.parametrize(("name", "case"), INVALID, ids=str)
def test_invalid_calls_raise_the_parents_error(name: str, case: str) -> None:
    texts = []
    for module in pair(name, I, H):
        with pytest.raises(Exception) as caught:
            wrong_calls()[case](module)
        texts.append((type(caught.value), str(caught.value)))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_batch(name: str) -> None:
    stock, mine = pair(name, I, H)
    for a, b in zip(
        flat(mine(torch.zeros(T, 0, I))), flat(stock(torch.zeros(T, 0, I))), strict=True
    ):
        assert a.shape == b.shape


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")
def test_what_torch_lacks_needs_the_kernels() -> None:
    """If only torch can make a call, a keyword or option of ours is an error that says why."""
    module = ft.LSTM(I, H).bfloat16()
    with pytest.raises(ValueError, match="lengths: not in torch's own layer, and the kernels"):
        module(x().bfloat16(), lengths=[1, 2, 3])
    with pytest.raises(
        ValueError, match=r"peepholes=True: not in torch's own layer, and the kernels"
    ):
        ft.LSTM(I, H, peepholes=True).bfloat16()(x().bfloat16())
    with pytest.raises(ValueError, match=r"a torch\.func transform"), Recorder():
        torch.func.grad(lambda a: ft.GRU(I, H, layer_norm=True)(a)[0].sum())(x())
    with pytest.raises(RuntimeError, match=r"torch\.jit\.script cannot compile the options"):
        torch.jit.script(Model(ft.LSTM(I, H, peepholes=True)))
    with pytest.raises(ValueError, match="lengths: expected"):
        ft.LSTM(I, H)(x(), lengths=[1, 2, 9])
    with pytest.raises(ValueError, match="lengths or mask"):
        ft.LSTM(I, H)(x(), lengths=[1, 2, 3], mask=torch.ones(T, B, dtype=torch.bool))


def test_rows_that_lose_go_to_torch(ours: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls in the generated table go to torch, except those with an option of ours."""
    key = _table.key("GRU", "training", T, B, H)
    monkeypatch.setattr(_table, "SLOWER", frozenset({key}))
    module = ft.GRU(I, H)
    assert ours(lambda: module(x()))[1] == 0
    assert ours(lambda: module(x(), lengths=[1, 2, 3]))[1] == 1
    assert ours(lambda: module(torch.randn(T, 4 * B, I)))[1] == 1
    with torch.no_grad():
        assert ours(lambda: module(x()))[1] == 1
    first = ft.GRU(I, H, batch_first=True)
    assert ours(lambda: first(x().transpose(0, 1)))[1] == 0


def test_steps_of_cells_that_lose_go_to_torch(
    ours: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell without a batch axis is a batch of one."""
    keys = frozenset({_table.key("LSTMCell", "guarded", 1, 1, H)})
    monkeypatch.setattr(_table, "SLOWER", keys)
    cell = ft.LSTMCell(I, H)
    with torch.no_grad():
        assert ours(lambda: cell(torch.randn(1, I)))[1] == 0
        assert ours(lambda: cell(torch.randn(I)))[1] == 0
        assert ours(lambda: cell(torch.randn(64, I)))[1] == 1
        cell.freeze()
        assert ours(lambda: cell(torch.randn(1, I)))[1] == 1
        cell.unfreeze()
    assert ours(lambda: cell(torch.randn(1, I)))[1] == 1
    with torch.no_grad():
        assert ours(lambda: ft.GRUCell(I, H)(torch.randn(1, I)))[1] == 1


# --- autocast -------------------------------------------------------------------------------------

LOW = (torch.bfloat16, torch.float16)


def dtypes(module: Any, given: Any, hx: Any, low: Any, grad: bool) -> list[str]:
    with torch.autocast("cpu", dtype=low), torch.set_grad_enabled(grad):
        return [str(t.dtype) for t in flat(module(given, hx))]


# Name, options, whether the call is packed; these are rows of docs/torch.md.
CAST: list[tuple[str, dict[str, Any], bool]] = [
    ("RNN", {}, False),
    ("RNN", {"num_layers": 2, "bidirectional": True}, True),
    ("GRU", {}, False),
    ("GRU", {"num_layers": 2, "bidirectional": True}, True),
    ("LSTM", {}, False),
    ("LSTM", {"num_layers": 2, "bidirectional": True}, False),
    ("LSTM", {}, True),
    ("LSTM", {"proj_size": 3}, False),
    ("LSTM", {"proj_size": 3}, True),
    ("RNNCell", {}, False),
    ("GRUCell", {}, False),
    ("LSTMCell", {}, False),
]


@pytest.mark.parametrize("low", LOW, ids=str)
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(("name", "options", "packed"), CAST, ids=str)
def test_autocast_gives_the_dtypes_of_torch(
    name: str, options: dict[str, Any], packed: bool, grad: bool, low: Any, ours: Counted
) -> None:
    """Inside is float32, results have torch's dtypes; float16 LSTMs only if torch has a kernel."""
    stock, mine = pair(name, I, H, **options)
    for x_dtype in (torch.float32, low):
        for state_dtype in (None, torch.float32):
            given: Any = torch.randn((B, I) if name in CELLS else (T, B, I)).to(x_dtype)
            hx = None
            if state_dtype is not None:
                shape = (B,) if name in CELLS else (len(flat(list(stock.parameters()))) // 4, B)
                if options.get("proj_size"):
                    shape = (1, B)
                hx = torch.zeros(*shape, options.get("proj_size", H))
                if name.startswith("LSTM"):
                    hx = (hx, torch.zeros(*shape, H))
            if packed:
                given = pack_padded_sequence(given, [5, 4, 2])
            found, calls = ours(lambda: dtypes(mine, given, hx, low, grad))  # noqa: B023
            assert calls > 0
            odd = (
                low is torch.float16
                and name == "LSTM"
                and not packed
                and not options.get("proj_size")
            )
            if odd:  # oneDNN trains no float16 LSTM here: what torch gives elsewhere
                assert set(found) == {str(low)}
                continue
            assert found == dtypes(stock, given, hx, low, grad), (x_dtype, state_dtype)


def test_autocast_of_other_weights_is_torchs(ours: Counted) -> None:
    stock, mine = pair("GRU", I, H, dtype=torch.float64)
    double = x().double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, calls = ours(lambda: mine(double))
        assert calls == 0
        for a, b in zip(flat(found), flat(stock(double)), strict=True):
            assert a.dtype == b.dtype


def test_gradients_under_autocast(ours: Counted) -> None:
    _, mine = pair("LSTM", I, H)
    given = x().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = mine(given)
        y.float().sum().backward()
    assert mine.weight_hh_l0.grad.dtype is torch.float32
    assert given.grad is not None
    assert torch.equal(y, mine(given)[0].bfloat16())


def test_the_reference_backend_serves_too() -> None:
    module = ft.LSTM(I, H, 2)
    with fr.use_backend("reference"):
        y, _ = module(x())
        y.sum().backward()
        assert core.last_path().backend == "reference"
    torch.testing.assert_close(module(x())[0], y, atol=1e-5, rtol=0)
