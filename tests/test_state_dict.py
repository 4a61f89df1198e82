"""load_state_dict and the weights that people have: PyTorch's tensors, cells and prefixes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedrnn as fr

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.torch

X = np.random.default_rng(0).standard_normal((4, 2, 3), dtype=np.float32)


def theirs(kind: Any = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return (kind or torch.nn.LSTM)(3, 5, **options)


def assert_loaded(layer: Any, module: Any, dtype: Any = np.float32) -> None:
    for name, tensor in module.named_parameters():
        own = name if name in layer.params else f"{name}_l0"
        expected = tensor.detach().float().numpy().astype(dtype)
        assert np.array_equal(layer.params[own], expected), name


def test_named_parameters_are_detached() -> None:
    """PyTorch's error `Can't call numpy() on Tensor that requires grad` must not come."""
    module, layer = theirs(), fr.LSTM(3, 5)
    layer.load_state_dict(dict(module.named_parameters()))
    assert_loaded(layer, module)
    layer.load_state_dict(dict(theirs(torch.nn.LSTM).named_parameters()))
    layer.params["bias_ih_l0"] = module.bias_ih_l0 * 2  # a tensor with a graph
    assert np.array_equal(layer.params["bias_ih_l0"], 2 * module.bias_ih_l0.detach().numpy())
    with layer.writable() as p:
        p["bias_hh_l0"] = module.bias_hh_l0
    assert np.array_equal(layer.params["bias_hh_l0"], module.bias_hh_l0.detach().numpy())


@pytest.mark.parametrize("narrow", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_precisions_are_converted(narrow: str, dtype: Any) -> None:
    """NumPy refuses bfloat16 tensors with an unsupported ScalarType; here both are widened."""
    module, layer = theirs().to(getattr(torch, narrow)), fr.LSTM(3, 5, dtype=dtype)
    layer.load_state_dict(module.state_dict())
    for name, tensor in module.state_dict().items():
        assert np.array_equal(layer.params[name], tensor.double().numpy().astype(dtype))
    layer.load_state_dict(dict(module.named_parameters()))


def test_arrays_of_bfloat16_are_widened() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    layer = fr.GRU(3, 5, seed=0)
    narrow = {name: a.astype(ml_dtypes.bfloat16) for name, a in layer.params.items()}
    layer.load_state_dict(narrow)
    for name, a in narrow.items():
        assert np.array_equal(layer.params[name], a.astype(np.float32))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_cells_names_are_those_of_a_stack_of_one(kind: str) -> None:
    module, layer = theirs(getattr(torch.nn, f"{kind}Cell")), getattr(fr, kind)(3, 5)
    layer.load_state_dict(module.state_dict())
    assert_loaded(layer, module)
    layer.load_state_dict({f"cell.{k}": v for k, v in module.state_dict().items()}, "cell.")
    h = module(torch.from_numpy(X[0]))
    found = layer(X[:1])[0][0]
    assert np.allclose(found, (h[0] if kind == "LSTM" else h).detach().numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="missing 'weight_ih_l1'"):
        getattr(fr, kind)(3, 5, 2).load_state_dict(module.state_dict())


def test_a_prefix_that_would_fit_is_told() -> None:
    """The error suggests a prefix instead of a long list of missing and unexpected names."""

    class Model(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(7, 3)
            self.encoder = torch.nn.ModuleDict({"rnn": theirs()})
            self.decoder = theirs()
            self.head = torch.nn.Linear(5, 2)

    module, layer = Model(), fr.LSTM(3, 5)
    before = layer.state_dict()
    with pytest.raises(ValueError) as error:
        layer.load_state_dict(module.state_dict())
    assert str(error.value) == (
        "load_state_dict changed nothing: expected weight_ih_l0, weight_hh_l0, bias_ih_l0, "
        'bias_hh_l0, got these names behind a prefix; pass prefix="encoder.rnn." or '
        'prefix="decoder."'
    )
    layer.load_state_dict(module.state_dict(), prefix="encoder.rnn.")
    assert_loaded(layer, module.encoder["rnn"])
    with pytest.raises(ValueError, match='names behind another prefix; pass prefix="enc'):
        layer.load_state_dict(dict(module.state_dict()) | {"weight_x": 1}, prefix="head.")
    # If no prefix makes all names fit, the error lists the names.
    part = {"rnn.weight_ih_l0": before["weight_ih_l0"]}
    with pytest.raises(ValueError) as error:
        layer.load_state_dict(part)
    assert str(error.value) == (
        "load_state_dict changed nothing: missing 'weight_ih_l0'; missing 'weight_hh_l0'; missing "
        "'bias_ih_l0'; missing 'bias_hh_l0'; unexpected 'rnn.weight_ih_l0'"
    )


def test_what_is_wrong_is_told_in_one_line_for_each_name() -> None:
    layer = fr.GRU(3, 5, seed=0)
    before = layer.state_dict()
    bad = dict(before) | {
        "weight_ih_l0": torch.ones((15, 3), dtype=torch.int64),
        "weight_hh_l0": torch.ones((15, 6)),
        "bias_ih_l0": np.ma.masked_array(np.ones(15)),
        "bias_hh_l0": object(),
    }
    with pytest.raises(ValueError) as error:
        layer.load_state_dict(bad)
    assert str(error.value) == (
        "load_state_dict changed nothing: weight_ih_l0: expected an array of floating point, got "
        "ndarray int64 (15, 3); weight_hh_l0: expected shape (15, 5), got (15, 6); bias_ih_l0: "
        "expected an array, got a masked array; use filled() to choose its numbers; bias_hh_l0: "
        "expected an array of floating point, got object"
    )
    assert all(np.array_equal(a, before[name]) for name, a in layer.params.items())
