"""torch.nn stacks beside ours: layers, directions, layouts, projection, packed sequences.

The bound for every element is 128 units of rounding (2^-53 for float64, 2^-24 for float32) of the
larger of 1 and the array's largest element. [S1] [S8] [S9] [W1] [W2] [W4] [L1] [L2] [L7]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from fusedrnn._cells import Array
from layer_cases import arrays_of, kernel, like, named, state_of
from layer_oracle import parts

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]
torch.set_num_threads(1)  # torch's idle threads would occupy the cores that ours need

T, B, I, H = 6, 5, 4, 9  # noqa: E741
CELLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "rnn_tanh": (torch.nn.RNN, fr.RNN, {}),
    "rnn_relu": (torch.nn.RNN, fr.RNN, {"nonlinearity": "relu"}),
    "lstm": (torch.nn.LSTM, fr.LSTM, {}),
    "lstm_projected": (torch.nn.LSTM, fr.LSTM, {"proj_size": 4}),
    "gru": (torch.nn.GRU, fr.GRU, {}),
}
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def twins(cell: str, layers: int, dtype: str, **options: Any) -> tuple[Any, Any]:
    """torch's module, and our layer, which loaded its state_dict unchanged."""
    torchs, ours, own = CELLS[cell]
    torch.manual_seed(0)
    module = torchs(I, H, layers, dtype=DTYPES[dtype], **own, **options)
    layer = ours(I, H, layers, dtype=dtype, **own, **options)
    layer.load_state_dict(module.state_dict())
    assert list(layer.params) == list(dict(module.named_parameters()))
    return module, layer


def one(arrays: Any) -> Any:
    return arrays if len(arrays) > 1 else arrays[0]


def torchs_outcome(
    module: Any, x: Array, state: Any, dy: Array, dlast: Any, lengths: Array | None = None
) -> dict[str, Array]:
    tx = torch.tensor(x, requires_grad=True)
    first = tuple(torch.tensor(a, requires_grad=True) for a in parts(state))
    if lengths is None:
        y, last = module(tx, one(first))
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            tx, lengths.tolist(), batch_first=module.batch_first, enforce_sorted=False
        )
        out, last = module(packed, one(first))
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(out, module.batch_first, total_length=T)
    torch.autograd.backward((y, *parts(last)), [torch.tensor(a) for a in (dy, *parts(dlast))])
    found = {"y": y.detach(), "x": tx.grad}
    found |= {f"last {k}": a.detach() for k, a in enumerate(parts(last))}
    found |= {f"state {k}": a.grad for k, a in enumerate(first)}
    found |= {name: p.grad for name, p in module.named_parameters()}
    return {name: a.numpy() for name, a in found.items()}


def our_outcome(
    layer: Any, x: Array, state: Any, dy: Array, dlast: Any, lengths: Array | None = None
) -> dict[str, Array]:
    y, last, saved = layer.forward(x, state, lengths=lengths)
    found = named(layer.backward(saved, dy, dlast))
    return found | {"y": y} | {f"last {k}": a for k, a in enumerate(arrays_of(last))}


def compare(found: dict[str, Array], right: dict[str, Array]) -> None:
    assert found.keys() == right.keys()
    for name, b in right.items():
        a = found[name]
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        unit = 2.0**-53 if a.dtype == np.float64 else 2.0**-24
        bound = 128 * unit * max(1.0, float(np.abs(b).max(initial=0)))
        assert np.abs(a.astype(np.float64) - b).max(initial=0) <= bound, name


@pytest.mark.parametrize("form", ["time-major", "batch-first", "unbatched"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_stacks(backend: Chosen, cell: str, layers: int, bidirectional: bool, form: str) -> None:
    """Outputs, h_n, c_n, and gradients of x, of the first state and of every parameter agree."""
    for dtype in DTYPES:
        for bias in (True, False):
            rng = np.random.default_rng(1)
            options = {"bidirectional": bidirectional, "batch_first": form == "batch-first"}
            module, layer = twins(cell, layers, dtype, bias=bias, **options)
            lead = {"time-major": (T, B), "batch-first": (B, T), "unbatched": (T,)}[form]
            x = rng.standard_normal((*lead, I)).astype(dtype)
            state = state_of(layer, None if form == "unbatched" else B, rng)
            y, last = layer(x, state)
            call = (x, state, like(y, rng), like(last, rng))
            found = our_outcome(layer, *call)
            backend.ran(kernel(layer))
            compare(found, torchs_outcome(module, *call))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_packed(
    backend: Chosen, cell: str, layers: int, bidirectional: bool, batch_first: bool
) -> None:
    """Unsorted lengths give what torch gives for a packed sequence with enforce_sorted=False."""
    lengths = np.array([4, T, 1, 3, 4])
    for dtype in DTYPES:
        rng = np.random.default_rng(2)
        module, layer = twins(
            cell, layers, dtype, bidirectional=bidirectional, batch_first=batch_first
        )
        x = rng.standard_normal((B, T, I) if batch_first else (T, B, I)).astype(dtype)
        state = state_of(layer, B, rng)
        y, last = layer(x, state, lengths=lengths)
        call = (x, state, like(y, rng), like(last, rng), lengths)
        found = our_outcome(layer, *call)
        backend.ran(kernel(layer))
        compare(found, torchs_outcome(module, *call))


def test_state_dicts_go_both_ways() -> None:
    """[W4] Our state_dict also loads into torch's module."""
    for cell in CELLS:
        module, layer = twins(cell, 2, "float32", bidirectional=True)
        values = {name: torch.from_numpy(a * 2) for name, a in layer.state_dict().items()}
        module.load_state_dict(values)
        assert all(torch.equal(p, values[name]) for name, p in module.named_parameters())
