"""torch.nn.RNN, LSTM and GRU beside ours: outputs, states and every gradient.

The bound for every element of an array is 8 times the largest error that the plain float32 NumPy
reference makes in that array, measured against float64. Ours may make 4 times that error ([N3.3]),
and torch is granted as much. For float64 the bound is scaled by 2^-29, the ratio of the two units
of rounding. [W1] [W2] [W4] [E1] [E2] [E4] [L1] [L2]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from conftest import Chosen
from floor import Inputs, Weights, reference
from fusedrnn._cells import CELLS, Array

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch
torch.set_num_threads(1)  # torch's idle threads would occupy the cores that ours need

T, B, I, H = 12, 5, 17, 33  # noqa: E741
PAIRS: dict[str, tuple[Any, Any]] = {
    "rnn_tanh": (
        lambda **k: torch.nn.RNN(I, H, **k),
        lambda **k: fr.RNN(I, H, **k),
    ),
    "rnn_relu": (
        lambda **k: torch.nn.RNN(I, H, nonlinearity="relu", **k),
        lambda **k: fr.RNN(I, H, nonlinearity="relu", **k),
    ),
    "lstm": (lambda **k: torch.nn.LSTM(I, H, **k), lambda **k: fr.LSTM(I, H, **k)),
    "gru": (lambda **k: torch.nn.GRU(I, H, **k), lambda **k: fr.GRU(I, H, **k)),
}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def random(seed: int, *shape: int, dtype: str) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


def one_or_all(states: tuple[Any, ...]) -> Any:
    return states if len(states) > 1 else states[0]


def ours(layer: Any, x: Array, states: tuple[Array, ...], dy: Array, d: Any) -> dict[str, Array]:
    y, last, saved = layer.forward(x, one_or_all(states))
    dx, dfirst, dparams = layer.backward(saved, dy, one_or_all(d))
    named = {"y": y, "dx": dx}
    named |= {f"state {k}": a for k, a in enumerate(parts(last))}
    named |= {f"dstate {k}": a for k, a in enumerate(parts(dfirst))}
    return named | dparams


def torchs(module: Any, x: Array, states: tuple[Array, ...], dy: Array, d: Any) -> dict[str, Array]:
    tx = torch.tensor(x, requires_grad=True)
    first = tuple(torch.tensor(a, requires_grad=True) for a in states)
    y, last = module(tx, one_or_all(first))
    outputs, gradients = (y, *parts(last)), (dy, *d)
    torch.autograd.backward(outputs, [torch.tensor(a) for a in gradients])
    named = {"y": y.detach().numpy(), "dx": tx.grad.numpy()}
    named |= {f"state {k}": a.detach().numpy() for k, a in enumerate(parts(last))}
    named |= {f"dstate {k}": a.grad.numpy() for k, a in enumerate(first)}
    return named | {name: p.grad.numpy() for name, p in module.named_parameters()}


def compare(found: dict[str, Array], right: dict[str, Array], errors: dict[str, float]) -> None:
    assert found.keys() == right.keys()
    for name, a in found.items():
        assert a.dtype == right[name].dtype
        assert a.shape == right[name].shape
        unit = 1 if a.dtype == np.float32 else 2.0**-29
        worst = float(np.abs(a.astype(np.float64) - right[name]).max())
        assert worst <= 8 * errors[name] * unit, (name, worst, errors[name] * unit)


def numpy_errors(layer: Any, *call: Any) -> dict[str, float]:
    """The largest float32 error of the reference in each array of this call."""
    values = layer.state_dict()
    outcomes = {}
    for dtype in DTYPES:
        twin = PAIRS[layer.cell][1](bias=layer.bias, dtype=dtype)
        twin.load_state_dict({k: v.astype(np.float32) for k, v in values.items()})
        with fr.use_backend("reference"):
            x, states, dy, d = call
            single = np.float32  # the same numbers in both dtypes
            outcomes[dtype] = ours(
                twin,
                x.astype(single),
                tuple(a.astype(single) for a in states),
                dy.astype(single),
                tuple(a.astype(single) for a in d),
            )
    single, double = outcomes["float32"], outcomes["float64"]
    return {name: float(np.abs(single[name] - double[name]).max()) for name in single}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", PAIRS)
def test_every_gradient(backend: Chosen, cell: str, dtype: str, bias: bool) -> None:
    torch.manual_seed(0)
    module = PAIRS[cell][0](bias=bias, dtype=DTYPES[dtype])
    layer = PAIRS[cell][1](bias=bias, dtype=dtype)
    layer.load_state_dict(module.state_dict())
    n = CELLS[cell].states
    states = tuple(random(k, 1, B, H, dtype=dtype) for k in range(n))
    d = tuple(random(10 + k, 1, B, H, dtype=dtype) for k in range(n))
    call = (random(20, T, B, I, dtype=dtype), states, random(21, T, B, H, dtype=dtype), d)
    found = ours(layer, *call)
    backend.ran(f"{cell} {dtype}")
    compare(found, torchs(module, *call), numpy_errors(layer, *call))


@pytest.mark.parametrize("cell", PAIRS)
def test_unbatched(backend: Chosen, cell: str) -> None:
    """[S1] A call without a batch axis gives torch's numbers and shapes."""
    torch.manual_seed(1)
    module = PAIRS[cell][0]()
    layer = PAIRS[cell][1]()
    layer.load_state_dict(module.state_dict())
    n = CELLS[cell].states
    states = tuple(random(k, 1, H, dtype="float32") for k in range(n))
    d = tuple(random(10 + k, 1, H, dtype="float32") for k in range(n))
    call = (random(20, T, I, dtype="float32"), states, random(21, T, H, dtype="float32"), d)
    found = ours(layer, *call)
    backend.ran(f"{cell} float32")
    compare(found, torchs(module, *call), numpy_errors(layer, *call))


def test_a_part_of_a_bigger_model() -> None:
    """[W4] `prefix` loads a module from the state_dict of a whole model, and writes it back."""
    torch.manual_seed(2)
    model = torch.nn.ModuleDict({"lstm": torch.nn.LSTM(I, H), "head": torch.nn.Linear(H, 2)})
    layer = fr.LSTM(I, H)
    layer.load_state_dict(model.state_dict(), prefix="lstm.")
    for name, value in model["lstm"].state_dict().items():
        assert np.array_equal(layer.params[name], value.numpy())
    back = torch.nn.LSTM(I, H)
    back.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state_dict().items()})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", PAIRS)
def test_packed_sequences(backend: Chosen, cell: str, dtype: str) -> None:
    """[L1] [L2] Lengths in both directions give what torch gives for packed, unsorted sequences."""
    torch.manual_seed(3)
    module = PAIRS[cell][0](bidirectional=True, dtype=DTYPES[dtype])
    spec, p = CELLS[cell], {k: v.numpy() for k, v in module.state_dict().items()}
    lengths = np.array([7, T, 1, 4, 7])
    kinds = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    x = random(20, T, B, I, dtype=dtype)
    states = tuple(random(k, 2, B, H, dtype=dtype) for k in range(spec.states))
    dy = random(21, T, B, 2 * H, dtype=dtype)
    d = tuple(random(10 + k, 2, B, H, dtype=dtype) for k in range(spec.states))

    def results(run: Any, real: str) -> dict[str, Array]:
        weights = tuple(
            Weights(spec, *(p[kind + end].astype(real) for kind in kinds))
            for end in ("", "_reverse")
        )
        inputs = Inputs(x.astype(real), None, tuple(s.astype(real) for s in states), lengths)
        y, last, saved = run.forward(weights, inputs, save=True, num_threads=None)
        assert saved is not None
        g = run.backward(saved, dy.astype(real), tuple(a.astype(real) for a in d), num_threads=None)
        named = {"y": y, "dx": g.dx}
        named |= {f"state {k}": a for k, a in enumerate(last)}
        named |= {f"dstate {k}": a for k, a in enumerate(g.states)}
        for end, direction in zip(("", "_reverse"), g.directions, strict=True):
            named |= {kind + end: a for kind, a in zip(kinds, direction, strict=False)}
        return named

    found = results(backend.run, dtype)
    backend.ran(f"{cell} {dtype}")
    tx = torch.tensor(x, requires_grad=True)
    first = tuple(torch.tensor(a, requires_grad=True) for a in states)
    packed = torch.nn.utils.rnn.pack_padded_sequence(tx, lengths.tolist(), enforce_sorted=False)
    out, last = module(packed, one_or_all(first))
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(out, total_length=T)
    torch.autograd.backward((y, *parts(last)), [torch.tensor(a) for a in (dy, *d)])
    right = {"y": y.detach().numpy(), "dx": tx.grad.numpy()}
    right |= {f"state {k}": a.detach().numpy() for k, a in enumerate(parts(last))}
    right |= {f"dstate {k}": a.grad.numpy() for k, a in enumerate(first)}
    right |= {name: q.grad.numpy() for name, q in module.named_parameters()}
    single, double = results(reference(), "float32"), results(reference(), "float64")
    errors = {k: float(np.abs(single[k] - double[k]).max()) for k in single}
    compare(found, right, errors)
