"""fusedrnn.onnx.export: what it writes runs in ONNX Runtime and here, and is read back exactly."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import weights
from fusedrnn.nn import Dense

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx")

from fusedrnn.onnx import Backend, _export, export  # noqa: E402
from test_onnx import runtime  # noqa: E402

INPUTS, H = 3, 6
BOUND = 1e-5
LAYERS = (fr.RNN, fr.GRU, fr.LSTM)


def flat(state: Any) -> list[Any]:
    """The arrays of a state in order: h, then c; one for each layer if their sizes differ."""
    if isinstance(state, (tuple, list)):
        return [a for part in state for a in flat(part)]
    return [state]


def drawn(layer: Any, batch: int, seed: int = 0) -> Any:
    """A random state in the layer's form."""
    rng = np.random.default_rng(seed)
    d = 2 if layer.bidirectional else 1

    def part() -> Any:
        if isinstance(layer.hidden_size, int):
            shape = (layer.num_layers * d, batch, layer.hidden_size)
            return rng.uniform(-1, 1, shape).astype(layer.dtype)
        return [rng.uniform(-1, 1, (d, batch, h)).astype(layer.dtype) for h in layer.hidden_size]

    return (part(), part()) if isinstance(layer, fr.LSTM) else part()


def given(layer: Any, x: Any, lengths: Any, state: Any, prefix: str = "") -> dict[str, Any]:
    """The inputs of the exported model, by the names that the docstring of `export` gives."""
    found = {"x": x} | ({} if lengths is None else {"lengths": lengths.astype("int32")})
    if state is not None:
        for name, part in zip(
            "hc", state if isinstance(layer, fr.LSTM) else (state,), strict=False
        ):
            parts = part if isinstance(part, list) else [part]
            ends = [f"_l{k}" for k in range(len(parts))] if isinstance(part, list) else [""]
            found |= {f"{prefix}{name}_0{end}": a for end, a in zip(ends, parts, strict=True)}
    return found


def agree(layer: Any, path: Path, *, lengths: bool, initial: bool, runs: bool = True) -> None:
    """Assert that the layer, our backend and ONNX Runtime agree, for two sizes of T and B."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    rep = Backend.prepare(path)
    for seed, (steps, batch) in enumerate([(5, 3), (1, 1)]):
        rng = np.random.default_rng(seed)
        sizes = (batch, steps) if layer.batch_first else (steps, batch)
        x = rng.standard_normal((*sizes, INPUTS)).astype(layer.dtype)
        n = rng.integers(1, steps + 1, batch) if lengths else None
        state = drawn(layer, batch, seed) if initial else None
        y, last = layer(x, state, lengths=n)
        inputs = given(layer, x, n, state)
        assert set(rep.input_names) == set(inputs)
        for a, b in zip(rep.run(inputs), [y, *flat(last)], strict=True):
            np.testing.assert_array_equal(a, b)
        if runs:
            for a, b in zip(runtime(model, inputs), [y, *flat(last)], strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=0, atol=BOUND)


def read_back(layer: Any, path: Path) -> None:
    """Assert that the parameters come back to the bit, with zeros for a missing bias."""
    found: dict[str, Any] = {}
    for k, (name, one) in enumerate(weights.onnx_layers(path).items()):
        assert name == f"l{k}"
        found |= weights.from_onnx(one.arrays, one.cell, layer=k)
    for name, a in layer.params.items():
        np.testing.assert_array_equal(found.pop(name), a)
    assert all("bias" in name and not a.any() for name, a in found.items())


GRID = list(
    product(
        LAYERS,
        (1, 2),
        (False, True),  # both directions
        (False, True),  # batch first
        (True, False, "input", "hidden"),
        (False, True),  # lengths
        (False, True),  # initial states
        (H, [4, H]),
    )
)
GRID = [values for values in GRID if values[1] == 2 or values[7] == H]


def check(index: int, path: Path) -> None:
    cls, layers, both, first, bias, lengths, initial, hidden = GRID[index]
    layer = cls(
        INPUTS, hidden, layers, bidirectional=both, batch_first=first, bias=bias, seed=index
    )
    opset = (14, 17, 20, 22)[index % 4]
    export(layer, path, opset=opset, lengths=lengths, initial_state=initial)
    assert onnx.load(path).opset_import[0].version == opset
    agree(layer, path, lengths=lengths, initial=initial)
    read_back(layer, path)


def test_a_part_of_the_grid(tmp_path: Path) -> None:
    part = range(0, len(GRID), 7)
    for values in zip(*(GRID[index] for index in part), strict=True):
        assert len({str(value) for value in values}) > 1
    for index in part:
        check(index, tmp_path / "layer.onnx")


@pytest.mark.exhaustive
@pytest.mark.parametrize("cls", LAYERS)
def test_the_whole_grid(cls: Any, tmp_path: Path) -> None:
    for index, values in enumerate(GRID):
        if values[0] is cls:
            check(index, tmp_path / "layer.onnx")


ACTIVATIONS: list[Any] = [
    *("relu", "tanh", "sigmoid", "affine", "leaky_relu", "thresholded_relu", "scaled_tanh"),
    *("hard_sigmoid", "elu", "softsign", "softplus"),
    *(("affine", 0.5, 0.25), ("leaky_relu", 0.2), ("thresholded_relu", 0.4), ("elu", 0.7)),
    *(("scaled_tanh", 0.8, 0.6), ("hard_sigmoid", 1 / 6, 0.5), ("hard_sigmoid", 0.3)),
]


@pytest.mark.parametrize("both", [False, True])
def test_activations(both: bool, tmp_path: Path) -> None:
    """Every activation of ONNX in each place, with given parameters or with the defaults."""
    path = tmp_path / "layer.onnx"
    for k, one in enumerate([*ACTIVATIONS, "identity"]):
        layers = [fr.RNN(INPUTS, H, nonlinearity=one, bidirectional=both, seed=k)]
        if one != "identity":
            places = [("hard_sigmoid", "tanh", "tanh"), ("sigmoid", "tanh", "leaky_relu")]
            names = list(places[k % 2])
            names[k % 3] = one
            layers.append(fr.LSTM(INPUTS, H, activations=names, bidirectional=both, seed=k))
            names = ["hard_sigmoid", "elu"]
            names[k % 2] = one
            layers.append(fr.GRU(INPUTS, H, activations=names, bidirectional=both, seed=k))
        for layer in layers:
            export(layer, path)
            agree(layer, path, lengths=False, initial=False)
            read_back(layer, path)


OPTIONS: list[tuple[Any, bool]] = [
    # A layer, and whether ONNX Runtime computes it as the specification says.
    (fr.LSTM(INPUTS, H, peepholes=True, seed=1), True),
    (
        fr.LSTM(INPUTS, H, peepholes=True, bidirectional=True, num_layers=2, bias=False, seed=1),
        True,
    ),
    (fr.LSTM(INPUTS, H, coupled=True, seed=1), True),
    (fr.LSTM(INPUTS, H, coupled=True, peepholes=True, bias="hidden", seed=1), True),
    (fr.LSTM(INPUTS, H, clip=0.25, seed=1), False),  # it does not clip h's input
    (fr.LSTM(INPUTS, H, clip=float("inf"), forget_bias=1.0, seed=1), True),
    (fr.GRU(INPUTS, H, reset_after=False, seed=1), True),
    (fr.GRU(INPUTS, H, reset_after=False, bidirectional=True, bias="input", seed=1), True),
    (fr.GRU(INPUTS, H, clip=0.1, seed=1), True),
    (fr.GRU(INPUTS, H, reset_after=False, clip=0.1, activations=("relu", "tanh"), seed=1), True),
    (fr.RNN(INPUTS, H, clip=0.1, seed=1), True),
    (fr.RNN(INPUTS, H, nonlinearity="relu", num_layers=3, seed=1), True),
    (fr.LSTM(INPUTS, H, dtype="float64", seed=1), False),  # it has no float64
    (fr.GRU(INPUTS, H, dtype="float64", clip=0.25, bidirectional=True, seed=1), False),
    # Noise has no effect in a call, so it is not in the model.
    (
        fr.LSTM(
            INPUTS,
            H,
            2,
            dropout=0.3,
            input_dropout=0.2,
            recurrent_dropout=0.1,
            drop_connect=0.1,
            seed=1,
        ),
        True,
    ),
]


@pytest.mark.parametrize("at", range(len(OPTIONS)), ids=lambda at: repr(OPTIONS[at][0])[:60])
def test_options(at: int, tmp_path: Path) -> None:
    layer, runs = OPTIONS[at]
    path = tmp_path / "layer.onnx"
    export(layer, path, lengths=True, initial_state=True)
    agree(layer, path, lengths=True, initial=True, runs=runs)
    read_back(layer, path)
    sizes = {(tensor.data_type) for tensor in onnx.load(path).graph.initializer}
    code = onnx.TensorProto.DOUBLE if layer.dtype == np.float64 else onnx.TensorProto.FLOAT
    assert sizes == {code, onnx.TensorProto.INT64}


@pytest.mark.parametrize("opset", range(14, onnx.defs.onnx_opset_version() + 1))
def test_every_opset_from_14(opset: int, tmp_path: Path) -> None:
    path = tmp_path / "layer.onnx"
    layer = fr.LSTM(INPUTS, H, 2, bidirectional=True, seed=2)
    export(layer, path, opset=opset, initial_state=True)
    agree(layer, path, lengths=False, initial=True, runs=opset <= 25)


@pytest.mark.parametrize("first", [False, True])
def test_small_models(first: bool, tmp_path: Path) -> None:
    """Layers and dense layers in a list; the name of a state begins with the place of its part."""
    path = tmp_path / "model.onnx"
    parts: list[Any] = [
        Dense(INPUTS, 5, seed=0),
        fr.GRU(5, 4, bidirectional=True, batch_first=first, seed=1),
        fr.LSTM(8, H, 2, batch_first=first, seed=2),
        Dense(H, 2, bias=False, seed=3),
    ]
    export(parts, path, lengths=True, initial_state=True)
    rep = Backend.prepare(path)
    names = ("x", "lengths", "1.h_0", "2.h_0", "2.c_0")
    assert rep.input_names == names
    assert rep.output_names == ("y", "1.h_n", "2.h_n", "2.c_n")
    x = np.random.default_rng(0).standard_normal((3, 3, INPUTS)).astype("float32")
    n = np.array([3, 1, 2])
    states = [drawn(part, 3, k) for k, part in enumerate(parts[1:3])]
    y1, h1 = parts[1](parts[0](x), states[0], lengths=n)
    y2, last = parts[2](y1, states[1], lengths=n)
    wanted = [parts[3](y2), h1, *last]
    arrays = [x, n.astype("int32"), states[0], *states[1]]
    inputs = dict(zip(names, arrays, strict=True))
    for a, b, c in zip(rep.run(inputs), wanted, runtime(onnx.load(path), inputs), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(c, b, rtol=0, atol=BOUND)
    assert list(weights.onnx_layers(path)) == ["1.l0", "2.l0", "2.l1"]


def test_dense_layers_alone(tmp_path: Path) -> None:
    path = tmp_path / "dense.onnx"
    dense = Dense(INPUTS, 4, seed=0)
    x = np.random.default_rng(0).standard_normal((2, 3, INPUTS)).astype("float32")
    for model in (dense, (dense,), [dense, Dense(4, 4, seed=1)]):
        export(model, path, lengths=True)  # no part takes lengths
        rep = Backend.prepare(path)
        assert (rep.input_names, rep.output_names) == (("x",), ("y",))
        wanted = x
        for part in model if isinstance(model, (list, tuple)) else [model]:
            wanted = part(wanted)
        np.testing.assert_array_equal(rep.run([x])[0], wanted)
        np.testing.assert_allclose(runtime(onnx.load(path), {"x": x})[0], wanted, atol=BOUND)


def test_no_steps_and_no_sequences(tmp_path: Path) -> None:
    path = tmp_path / "layer.onnx"
    for both in (False, True):
        layer = fr.RNN(INPUTS, H, 2, bidirectional=both, seed=0)
        export(layer, path)
        for sizes in ((0, 2), (2, 0)):
            x = np.zeros((*sizes, INPUTS), "float32")
            y, h = layer(x)
            for a, b, c in zip(
                Backend.run_model(path, [x]),
                (y, h),
                runtime(onnx.load(path), {"x": x}),
                strict=True,
            ):
                assert a.shape == b.shape == c.shape


# --- what is refused --------------------------------------------------------------------------

REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (fr.LSTM(3, 6, proj_size=2), {}, ValueError, "model.proj_size: expected 0: ONNX has no proj"),
    (fr.LSTM(3, 6, layer_norm=True), {}, ValueError, "model.layer_norm: expected False: ONNX has"),
    (fr.GRU(3, 6, layer_norm=True), {}, ValueError, "model.layer_norm: expected False"),
    (fr.GRU(3, 6, zoneout=0.1), {}, ValueError, "model.zoneout: expected 0: ONNX has no zoneout"),
    (fr.LSTM(3, 6, zoneout=(0.0, 0.1)), {}, ValueError, "model.zoneout: expected 0"),
    ([fr.RNN(3, 6, zoneout=0.5)], {}, ValueError, "model[0].zoneout: expected 0"),
    (fr.GRU(3, 6), {"opset": 13}, ValueError, "opset: expected 14 to "),
    (fr.GRU(3, 6), {"opset": 999}, ValueError, "got 999"),
    (fr.GRU(3, 6), {"opset": "17"}, ValueError, "got '17'"),
    (
        "layer",
        {},
        TypeError,
        "model: expected RNN, GRU, LSTM, nn.Dense or a list of these, got str",
    ),
    ([fr.GRU(3, 6), None], {}, TypeError, "model[1]: expected RNN, GRU, LSTM, nn.Dense or a list"),
    ([], {}, ValueError, "model: expected at least one layer, got an empty list"),
    (
        [fr.GRU(3, 6, bidirectional=True), Dense(6, 2)],
        {},
        ValueError,
        "input size: expected the 12 of model[0], got 6 of model[1]",
    ),
    (
        [fr.GRU(3, 6), Dense(6, 2, dtype="float64")],
        {},
        ValueError,
        "dtype: expected the same in all parts, got float32, float64",
    ),
    (
        [fr.GRU(3, 6), fr.GRU(6, 6, batch_first=True)],
        {},
        ValueError,
        "batch_first: expected the same in all parts, got False, True",
    ),
    (
        fr.RNN(3, 6, nonlinearity=("leaky_relu", 0.1), dtype="float64"),
        {},
        ValueError,
        "model: activations and clip: expected numbers that float32 has, as ONNX's attributes are",
    ),
    (fr.GRU(3, 6, clip=0.1, dtype="float64"), {}, ValueError, "float32 has, as ONNX's attributes"),
]


@pytest.mark.parametrize("at", range(len(REFUSED)))
def test_refusals(at: int, tmp_path: Path) -> None:
    """The error names what cannot be written, and the old file is as it was."""
    model, more, error, text = REFUSED[at]
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(error) as caught:
        export(model, path, **more)
    assert str(caught.value).startswith("onnx: export: ")
    assert text in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_larger_than_a_file_of_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _export.MAX_BYTES == 2**31 - 1
    monkeypatch.setattr(_export, "MAX_BYTES", (1 << 20) + 500)
    export(fr.GRU(2, 2, seed=0), tmp_path / "small.onnx")
    with pytest.raises(ValueError, match="bytes of all weights: expected less than"):
        export(fr.GRU(8, 8, seed=0), tmp_path / "large.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["small.onnx"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        export(fr.GRU(2, 2), tmp_path / "none" / "layer.onnx")
    assert caught.value.filename == str(tmp_path / "none" / "layer.onnx")
