"""Files of weights, ours and other programs': what is read, what is refused, what is never lost."""

from __future__ import annotations

import importlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import fusedrnn as fr
from fusedrnn import nn
from fusedrnn import weights as fw
from fusedrnn._cells import Array
from test_weights import (
    INPUTS,
    LSTM,
    STATE,
    Arrays,
    Blocks,
    H,
    K,
    X,
    keras_module,
    linen,
    of_keras,
    same,
    zeros,
)

FILES = [".npz", ".safetensors", ".onnx"]


@pytest.fixture(params=FILES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The path of a file in each format that can be written."""
    suffix: str = request.param
    pytest.importorskip({".onnx": "onnx"}.get(suffix, "numpy"))
    return tmp_path / f"weights{suffix}"


def test_files(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fw.load(path)
    fw.save(path, LSTM | {"file": np.float64(3), "empty": zeros(0, 2), "count": np.int64(7)})
    found = fw.load(path)
    same(found.pop("file"), np.array(3.0))
    same(found.pop("empty"), zeros(0, 2))
    same(found.pop("count"), np.array(7))
    assert list(found) == list(LSTM)
    same(found, LSTM)
    fw.save(str(path), linen(Blocks("gru"), "gru") | {"strided": K[0].T[::2]})
    found = fw.load(path)
    same(found.pop("strided"), np.ascontiguousarray(K[0].T[::2]))
    assert sorted(found) == sorted(
        f"{a}/{b}" for a, part in linen(Blocks("gru"), "gru").items() for b in part
    )
    same(fw.from_flax(found, "gru"), fw.from_flax(linen(Blocks("gru"), "gru"), "gru"))


def test_equal_arrays_give_equal_bytes(path: Path) -> None:
    """The bytes do not depend on byte order, layout or kind of the arrays that are saved."""
    fw.save(path, K0 := {"a": K[0], "b": K[2].astype("f8")})
    first = path.read_bytes()
    fw.save(
        path, {name: np.array(a, a.dtype.newbyteorder(">"), order="F") for name, a in K0.items()}
    )
    assert path.read_bytes() == first
    fw.save(path, {name: a.tolist() for name, a in K0.items()})
    assert path.read_bytes() != first  # lists become float64


def test_sixteen_bits_are_widened(path: Path) -> None:
    """float16 and bfloat16 arrays and tensors, in files or not, become float32 exactly."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    half, brain = K[0].astype("f2"), K[0].astype(ml_dtypes.bfloat16)
    fw.save(path, {"half": half, "brain": brain})
    same(fw.load(path), {"half": half.astype("f4"), "brain": brain.astype("f4")})
    for kind in ("f2", ml_dtypes.bfloat16):
        given = {name: a.astype(kind) for name, a in LSTM.items()}
        wide = {name: a.astype("f4") for name, a in given.items()}
        same(fw.from_torch(given, "lstm"), wide)
        same(
            fw.from_keras([a.astype(kind) for a in K], "lstm"),
            fw.from_keras([a.astype(kind).astype("f4") for a in K], "lstm"),
        )


@pytest.mark.torch
def test_safetensors_of_others(tmp_path: Path) -> None:
    """We read the package's files, also bfloat16, which its NumPy side refuses; it reads ours."""
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("safetensors")
    of_torch = pytest.importorskip("safetensors.torch")
    path = tmp_path / "model.safetensors"
    tensors = {name: torch.from_numpy(a) for name, a in LSTM.items()}
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        given = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        of_torch.save_file(given, path, metadata={"format": "pt"})
        found = fw.load(path)
        assert found.cell is None
        wanted = torch.float64 if dtype == torch.float64 else torch.float32
        same(found, {name: tensor.to(wanted).numpy() for name, tensor in given.items()})
        lstm = fr.LSTM(INPUTS, H)
        lstm.load_state_dict(found)
        assert np.array_equal(lstm.params["bias_hh_l0"], given["bias_hh_l0"].float().numpy())
    numbers = {"b": torch.tensor([True, False]), "i": torch.arange(3), "s": torch.tensor(2.5)}
    of_torch.save_file(
        numbers | {"e": torch.zeros(0, 4), "u": torch.tensor([1], dtype=torch.uint8)}, path
    )
    found = fw.load(path)
    same(found.pop("e"), zeros(0, 4))
    same(found.pop("u"), np.array([1], np.uint8))
    same(found, {name: tensor.numpy() for name, tensor in numbers.items()})

    fw.save(path, LSTM | {"x": zeros(3).astype("f8"), "é": np.arange(2)}, cell="lstm")
    ours = of_torch.load_file(path)
    same(
        {n: t.numpy() for n, t in ours.items()},
        LSTM | {"x": zeros(3).astype("f8"), "é": np.arange(2)},
    )
    with package.safe_open(path, framework="pt") as file:
        assert file.metadata() == {"fusedrnn.cell": "lstm"}
    of_torch.save_file({"a": torch.zeros(2, dtype=torch.float8_e5m2)}, path)
    with pytest.raises(ValueError, match=r"model.safetensors: 'a' is of type 'F8_E5M2'; read here"):
        fw.load(path)


def safetensors(header: str, numbers: bytes = b"") -> bytes:
    text = header.encode()
    return len(text).to_bytes(8, "little") + text + numbers


ENTRY = '"dtype":"F32","shape":[2],"data_offsets":[0,8]'


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "0 bytes of header in 0"),
        (b"\xff" * 8, "bytes of header in 8"),
        (safetensors("{}", b"left"), "0 bytes of numbers in 4"),
        (safetensors("[]"), "the header is no mapping"),
        (safetensors("{]"), "Expecting property name"),
        (safetensors("{}").replace(b"{}", b"\xff\xfe"), "can't decode"),
        (safetensors("[" * 100_000), ""),
        (safetensors('{"__metadata__":{"a":1}}'), "metadata {'a': 1}"),
        (safetensors('{"__metadata__":[]}'), r"metadata \[\]"),
        (
            safetensors('{"a":{' + ENTRY + '},"a":{' + ENTRY + "}}", bytes(8)),
            "a name is there twice",
        ),
        (
            safetensors('{"a":{' + ENTRY + '},"b":{' + ENTRY + "}}", bytes(8)),
            "where the others end",
        ),
        (safetensors('{"a":{' + ENTRY + "}}", bytes(7)), "8 bytes of numbers in 7"),
        (safetensors('{"a":[]}'), r"'a' is \[\]"),
        (safetensors('{"a":{' + ENTRY + ',"more":1}}', bytes(8)), "'a' is "),
        (safetensors('{"a":{' + ENTRY.replace("[2]", "[3]") + "}}", bytes(8)), "'a' is "),
        (safetensors('{"a":{' + ENTRY.replace("[2]", "[-2]") + "}}", bytes(8)), "'a' is "),
        (safetensors('{"a":{' + ENTRY.replace("[2]", "[true,2]") + "}}", bytes(8)), "'a' is "),
        (safetensors('{"a":{' + ENTRY.replace("[2]", '"2"') + "}}", bytes(8)), "'a' is "),
        (safetensors('{"a":{' + ENTRY.replace("[0,8]", "[0,8,8]") + "}}", bytes(8)), "'a' is "),
        (safetensors('{"a":{' + ENTRY.replace("[2]", f"[0,{2**59},9]") + "}}"), "'a' is "),
        (safetensors('{"a":{' + ENTRY.replace('"F32"', "[]") + "}}", bytes(8)), r"of type \[\]"),
    ],
)
def test_safetensors_that_somebody_made(data: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "made.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"made.safetensors: .*{text}"):
        fw.load(path)


def test_a_file_knows_the_cell(path: Path) -> None:
    """A file of GRU(reset_after=False) fitted GRU(), which gave other numbers; it is refused."""
    before = fr.GRU(INPUTS, H, seed=0, reset_after=False)
    for weights in (before, before.state_dict(), before.params):
        fw.save(path, weights)
        found = fw.load(path)
        assert found.cell == "gru_reset_before"
        same(found, dict(STATE))
        gru = fr.GRU(INPUTS, H, seed=1)
        kept = gru.state_dict()
        with pytest.raises(
            ValueError, match=r"of a gru_reset_before cell; this layer's cell is gru\."
        ):
            gru.load_state_dict(found)
        same(dict(gru.state_dict()), dict(kept))
        twin = fr.GRU(INPUTS, H, seed=1, reset_after=False)
        twin.load_state_dict(found)
        assert np.array_equal(twin(X)[0], before(X)[0])
    fw.save(path, dict(STATE))
    assert fw.load(path).cell is None
    fw.save(path, dict(STATE), cell="gru_reset_before")
    assert fw.load(path).cell == "gru_reset_before"
    chosen = fr.LSTM(INPUTS, H, clip=2.0)
    fw.save(path, chosen)
    assert fw.load(path).cell == chosen.state_dict().cell
    with pytest.raises(
        ValueError, match=r"lstm_chosen\(sigmoid, tanh, tanh, clip 2.0\) cell; this"
    ):
        fr.LSTM(INPUTS, H, clip=1.0).load_state_dict(fw.load(path))


def test_a_cell_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    fw.save(path, LSTM)
    old = path.read_bytes()
    for cell, kind, text in (
        (
            "gru",
            ValueError,
            "save: expected weights of a gru cell; found those of a gru_reset_befor",
        ),
        ("GRU", ValueError, r"expected cell as layer.state_dict\(\).cell has it, .*found 'GRU'"),
        (
            "lstm_chosen",
            ValueError,
            "with the activations if these are chosen; found 'lstm_chosen'",
        ),
        ("lstm(tanh)", ValueError, "found 'lstm.tanh.'"),
        (3, TypeError, "save: expected cell as a name, got int"),
    ):
        with pytest.raises(kind, match=text):
            fw.save(path, STATE, cell=cell)  # type: ignore[arg-type]
    assert path.read_bytes() == old


def test_an_optimisers_state_has_a_file(path: Path) -> None:
    """Step counts are integers, which a file must hold too."""
    gru, adam = fr.GRU(INPUTS, H, seed=0), nn.Adam()
    y, _, saved = gru.forward(X)
    adam.step(gru, gru.backward(saved, y)[2])
    fw.save(path, adam.state_dict(gru))
    again = nn.Adam()
    again.load_state_dict(gru, fw.load(path))
    same(again.state_dict(gru), adam.state_dict(gru))
    assert again.state_dict(gru)["steps.bias_hh_l0"] == 1


LEAVES = st.builds(lambda k: np.float32(k), st.integers(0, 99))
TEXT = st.text(st.sampled_from("ab/.\0npy é\ud800"), max_size=4) | st.just("__metadata__")
TREES = st.dictionaries(
    TEXT, st.recursive(LEAVES, lambda inner: st.dictionaries(TEXT, inner, max_size=2)), max_size=3
)


def paths_of(tree: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found = []
    for name, value in tree.items():
        inner = paths_of(value) if isinstance(value, dict) else [("", value)]
        found += [(name + "/" * isinstance(value, dict) + rest, leaf) for rest, leaf in inner]
    return found


@given(tree=TREES)
@example(tree={"a/b": 1.0, "a": {"b": 2.0}})
@example(tree={"a": 1.0, "a.npy": 2.0})
@example(tree={"a\0b": 1.0, "a\0c": 2.0})
@example(tree={"": {"": 1.0}, "/": 2.0})
@example(tree={"__metadata__": 1.0})
def test_no_name_is_lost(tmp_path_factory: pytest.TempPathFactory, tree: Arrays) -> None:
    """Each array comes back by its name, or the error says which name is the problem."""
    paths = paths_of(tree)
    names = [name for name, _ in paths]
    wrong = [name for name in names if names.count(name) > 1 or "\0" in name or "\ud800" in name]
    wrong += [name for name in names if f"{name}.npy" in names]
    for suffix in (".npz", ".safetensors"):
        path = tmp_path_factory.getbasetemp() / f"names{suffix}"
        also = ["__metadata__"] * (suffix == ".safetensors" and "__metadata__" in names)
        if wrong or also:
            with pytest.raises(ValueError, match=r"name|hold") as error:
                fw.save(path, tree)
            assert any(repr(name) in str(error.value) for name in wrong + also)
        else:
            fw.save(path, tree)
            found = fw.load(path)
            assert list(found.items()) == paths


def test_equal_names_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    for tree in ({"a/b": K[0], "a": {"b": K[1]}}, {"a": {"b/c": K[0]}, "a/b": {"c": K[1]}}):
        with pytest.raises(ValueError, match=r"save: expected names that differ .*found two 'a/b"):
            fw.save(path, tree)
        with pytest.raises(ValueError, match=r"from_flax: expected names that differ"):
            fw.from_flax(tree, "lstm")
    assert os.listdir(tmp_path) == []


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "objects.npz"
    np.savez(path, a=np.array([print], object))
    with pytest.raises(ValueError, match="'a': it holds Python objects, which are never unpickled"):
        fw.load(path)
    path.write_bytes(b"\x80\x04N.")  # a pickle with the suffix .npz
    with pytest.raises(
        ValueError, match=r"objects.npz: no .npz, or damaged: File is not a zip file"
    ):
        fw.load(path)
    with path.open("wb") as file:
        np.save(file, zeros(2))
    with pytest.raises(ValueError, match=r"a \.npz of several arrays; found one"):
        fw.load(path)
    for name in ("model.pkl", "model.ckpt", "model"):
        with pytest.raises(
            ValueError, match=r"ends in .npz, .*\.pth; other pickles are never read"
        ):
            fw.load(tmp_path / name)
    for name in ("model.pkl", "model.pt", "model.keras", "model"):
        with pytest.raises(ValueError, match=r"save: .*ends in .npz, .safetensors, .onnx; found"):
            fw.save(tmp_path / name, LSTM)
    with pytest.raises(TypeError, match="save: expected a as an array of numbers, got ndarray obj"):
        fw.save(path, {"a": np.array([print], object)})
    for value in ("text", 1j, np.datetime64("2020")):
        with pytest.raises(TypeError, match="save: expected a as an array of numbers, got"):
            fw.save(path, {"a": value})
    with pytest.raises(TypeError, match="save: expected a mapping of names to arrays, got list"):
        fw.save(path, [K[0]])
    for suffix in (".npz", ".safetensors"):
        with pytest.raises(FileNotFoundError):
            fw.load(tmp_path / f"absent{suffix}")


def test_types_that_a_file_lacks(tmp_path: Path) -> None:
    long = {"a": np.ones(2, np.longdouble)}
    if np.longdouble(1).itemsize == 8:
        pytest.skip("long double is double here")
    for suffix in (".safetensors", ".onnx"):
        if suffix == ".onnx":
            pytest.importorskip("onnx")
        with pytest.raises(ValueError, match=f"a {suffix} cannot hold 'a', (float|long)"):
            fw.save(tmp_path / f"a{suffix}", long)
    assert os.listdir(tmp_path) == []
    fw.save(tmp_path / "a.npz", long)
    same(fw.load(tmp_path / "a.npz"), long)


def test_an_extra_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    fw.save(tmp_path / "a.safetensors", LSTM)
    same(fw.load(tmp_path / "a.safetensors"), LSTM)  # needs no package
    for suffix in (".keras", ".weights.h5", ".h5"):
        with pytest.raises(ImportError, match=r"package h5py: pip install 'fusedrnn\[weights\]'"):
            fw.load(tmp_path / f"a{suffix}")
    for suffix in (".pt", ".pth"):
        with pytest.raises(
            ImportError, match=r"\[torch\]'; or, where PyTorch is, save what needs no"
        ):
            fw.load(tmp_path / f"a{suffix}")
    with pytest.raises(ImportError, match=r"onnx: pip install 'fusedrnn\[onnx\]'"):
        fw.save(tmp_path / "a.onnx", LSTM)
    with pytest.raises(ImportError, match=r"onnx: pip install 'fusedrnn\[onnx\]'"):
        fw.load(tmp_path / "a.onnx")


# --- PyTorch ----------------------------------------------------------------------------------


@pytest.mark.torch
def test_files_of_pytorch(tmp_path: Path) -> None:
    """State dicts and checkpoints are read, and nothing in them is run."""
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict({"rnn": torch.nn.GRU(INPUTS, H, 2), "fc": torch.nn.Linear(H, 2)})
    state = model.state_dict()
    wanted = fw.from_torch(state, "gru", prefix="rnn.")
    path = tmp_path / "model.pt"
    torch.save(state, path)
    same(fw.from_torch(fw.load(path), "gru", prefix="rnn."), wanted)
    optimizer = torch.optim.Adam(model.parameters())
    model["fc"](torch.ones(1, H)).sum().backward()
    optimizer.step()
    whole = {"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(whole, tmp_path / "checkpoint.pth")
    found = fw.load(tmp_path / "checkpoint.pth")
    same(fw.from_torch(found, "gru", prefix="model/rnn."), wanted)
    assert {name.split("/")[0] for name in found} == {"model", "optimizer"}
    assert found["optimizer/state/8/step"] == 1
    tied = torch.ones(2)
    torch.save({"a": tied, "b": tied}, path)
    found = fw.load(path)
    found["a"][:] = 0
    assert found["b"].all()
    torch.save(model, path)
    with pytest.raises(
        ValueError, match=r"no code of a file is run. .*torch.save\(model.state_dict"
    ):
        fw.load(path)
    for what in (torch.ones(2), [torch.ones(2)], {"epoch": 3}):
        torch.save(what, path)
        with pytest.raises(ValueError, match="load: expected tensors by name in"):
            fw.load(path)
    torch.save({"a/b": tied, "a": {"b": tied}}, path)
    with pytest.raises(ValueError, match=r"load: expected one 'a/b' in .*; found two"):
        fw.load(path)
    path.write_bytes(b"no file of PyTorch")
    with pytest.raises(
        ValueError, match=r"model.pt: (no file of PyTorch|expected tensors by name)"
    ):
        fw.load(path)
    with pytest.raises(FileNotFoundError):
        fw.load(tmp_path / "absent.pt")


# --- Keras ------------------------------------------------------------------------------------


def keras_models() -> dict[str, Any]:
    """Models of the shapes that people build, by name."""
    keras = keras_module()
    layers = keras.layers
    many = {"return_sequences": True}
    cells = [layers.LSTMCell(2, name="lstm_cell"), layers.GRUCell(3, name="gru_cell")]
    sequential = keras.Sequential(
        [
            keras.Input((None, INPUTS)),
            layers.Bidirectional(layers.LSTM(3, **many), name="both"),
            layers.GRU(4, dropout=0.1, recurrent_dropout=0.1, name="after", **many),
            layers.Dropout(0.1),
            layers.GRU(2, reset_after=False, name="before", **many),
            layers.SimpleRNN(3, use_bias=False, name="plain", **many),
            layers.TimeDistributed(layers.Dense(2), name="each"),
            layers.RNN(cells, name="cells"),
            layers.Dense(2, name="head"),
        ]
    )
    inner = keras.Sequential(
        [keras.Input((None, INPUTS)), layers.LSTM(2, name="low", **many), layers.LSTM(2, **many)],
        name="inner",
    )
    x = keras.Input((None, INPUTS))
    later = [layers.LSTM(3, name=name, **many) for name in ("zz", "aa")]
    y = layers.add([layer(inner(x)) for layer in later])
    functional = keras.Model(x, layers.Bidirectional(layers.GRU(2, name="g"), name="both")(y))
    deep = [layers.GRU(1, name=f"layer{k}", **many) for k in range(12)]
    deep = keras.Sequential([keras.Input((None, 1)), *deep])
    models = {"sequential": sequential, "functional": functional, "deep": deep}
    rng = np.random.default_rng(0)
    for model in models.values():
        model.set_weights([rng.standard_normal(a.shape) for a in model.get_weights()])
    sequential.compile("adam", "mse")
    sequential.fit(np.zeros((2, 3, INPUTS)), np.zeros((2, 2)), verbose=0)
    return models


def expected_layers(model: Any, before: str = "") -> dict[str, list[Array]]:
    """What Keras itself returns for each layer that has weights, in the order of the model."""
    found: dict[str, list[Array]] = {}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            found |= expected_layers(layer, f"{before}{layer.name}/")
        elif getattr(getattr(layer, "cell", None), "cells", None):
            for cell in layer.cell.cells:
                found[f"{before}{layer.name}/{cell.name}"] = [
                    np.asarray(w) for w in weights_of(cell)
                ]
        elif layer.get_weights():
            found[before + layer.name] = layer.get_weights()
    return found


def weights_of(cell: Any) -> list[Array]:
    keras = keras_module()
    return [keras.ops.convert_to_numpy(w) for w in cell.weights]


@of_keras
@pytest.mark.filterwarnings("ignore")  # Keras warns about its older format
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5"])
@pytest.mark.parametrize("name", ["sequential", "functional", "deep"])
def test_files_of_keras(name: str, suffix: str, tmp_path: Path) -> None:
    """Every layer's weights are found by its name, in the order of get_weights()."""
    pytest.importorskip("h5py")
    model = keras_models()[name]
    path = tmp_path / f"model{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    found, wanted = fw.keras_layers(path), expected_layers(model)
    same(found, wanted)
    if suffix == ".keras":
        cells = ["cells/gru_cell", "cells/lstm_cell"]  # no file holds their order
        order = [name for name in found if name not in cells]
        assert order == [name for name in wanted if name not in cells]
    same(fw.load(path), {f"{n}/{k}": a for n, part in wanted.items() for k, a in enumerate(part)})
    with pytest.raises(
        KeyError, match=r"no layer 'lstm' in the file; it has '\w+(/\w+)?', '"
    ) as error:
        found["lstm"]
    assert all(repr(layer) in str(error.value) for layer in wanted)
    with pytest.raises(
        TypeError, match=r"keras_layers\(path\)\[name\] with name one of \['"
    ) as error:
        fw.from_keras(fw.load(path), "lstm")  # type: ignore[arg-type]
    assert repr([*found]) in str(error.value)


@of_keras
@pytest.mark.filterwarnings("ignore")
def test_a_model_of_keras_runs_here_from_its_file(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    keras = keras_module()
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None, INPUTS)),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.GRU(5, return_sequences=True),
        ]
    )
    model.save(tmp_path / "model.keras")
    found = fw.keras_layers(tmp_path / "model.keras")
    lstm, gru = fr.LSTM(INPUTS, 4, bidirectional=True), fr.GRU(8, 5)
    for layer, arrays in zip((lstm, gru), found.values(), strict=True):
        layer.load_state_dict(fw.from_keras(arrays, layer.cell))
    y = gru(lstm(X)[0])[0]
    theirs = keras.ops.convert_to_numpy(model(X.swapaxes(0, 1))).swapaxes(0, 1)
    np.testing.assert_allclose(y, theirs, rtol=1e-4, atol=1e-5)


@of_keras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5"])
@pytest.mark.parametrize("policy", ["bfloat16", "float16", "float64"])
def test_files_of_keras_in_other_types(policy: str, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    keras = keras_module()
    gru = keras.layers.GRU(4, recurrent_initializer="glorot_uniform", dtype=policy, name="gru")
    model = keras.Sequential([keras.Input((None, INPUTS)), gru])
    path = tmp_path / f"model{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    wide = np.float64 if policy == "float64" else np.float32
    same(fw.keras_layers(path), {"gru": [np.asarray(a).astype(wide) for a in gru.get_weights()]})


@of_keras
@pytest.mark.filterwarnings("ignore")
def test_a_model_class_of_ones_own(tmp_path: Path) -> None:
    """Layers are named by the attributes that hold them; those in a list by their own names."""
    pytest.importorskip("h5py")
    keras = keras_module()

    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = keras.layers.LSTM(3, return_sequences=True)
            self.blocks = [keras.layers.GRU(2, name=n, return_sequences=True) for n in "ba"]

        def call(self, x: Any) -> Any:
            return self.blocks[1](self.blocks[0](self.encoder(x)))

    model = Own()
    model(X.swapaxes(0, 1))
    model.save_weights(tmp_path / "own.weights.h5")
    wanted = {"encoder": model.encoder.get_weights()}
    wanted |= {f"blocks/{layer.name}": layer.get_weights() for layer in model.blocks}
    same(fw.keras_layers(tmp_path / "own.weights.h5"), wanted)


def h5_file(path: Path, tree: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Write an HDF5 file: datasets by path, and attributes by "group@name"."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, a in tree.items():
            if a is None:
                file.require_group(name)
            else:
                file[name] = a
        for place, value in attributes.items():
            group, _, attribute = place.rpartition("@")
            file[group or "/"].attrs[attribute] = value


def without_names(path: Path) -> bytes:
    """Make an HDF5 file of Keras look as versions before 3.5 wrote it."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "a") as file:
        file.visititems(lambda _, part: part.attrs.pop("name", None) and None)
    return path.read_bytes()


@of_keras
@pytest.mark.filterwarnings("ignore")
def test_files_of_older_versions_of_keras_3(tmp_path: Path) -> None:
    """Only config.json has the names there; Keras 2.12 also has another name for `layers`."""
    h5py = pytest.importorskip("h5py")
    for name, model in keras_models().items():
        path, inside = tmp_path / "model.keras", tmp_path / "inside.weights.h5"
        model.save(path)
        model.save_weights(inside)
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json")
        without_names(inside)
        with h5py.File(inside, "a") as file:
            if name == "deep":
                file.move("layers", "_layer_checkpoint_dependencies")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", inside.read_bytes())
        wanted = expected_layers(model)
        same(fw.keras_layers(path), wanted)
        alone = fw.keras_layers(inside)
        if name == "deep":
            assert list(alone) == ["gru", *(f"gru_{k}" for k in range(1, 12))]
            same(list(alone.values()), list(wanted.values()))


def test_files_of_keras_2(tmp_path: Path) -> None:
    """Weights of layers, and of models in models, by the paths that Keras 2 gave them."""
    path = tmp_path / "weights.h5"
    names = {
        "lstm": ["lstm/lstm_cell/kernel:0", "lstm/lstm_cell/recurrent_kernel:0"],
        "old": ["lstm_9/kernel:0", "lstm_9/bias:0"],  # renamed later, without a cell in the path
        "both": [
            "both/forward_gru/gru_cell_1/kernel:0",
            "both/backward_gru/gru_cell_2/kernel:0",
        ],
        "model": ["a/lstm_cell/kernel:0", "a/lstm_cell/bias:0", "b/c/kernel:0"],
        "cells": ["cells/lstm_cell/kernel:0", "cells/gru_cell/kernel:0", "cells/gru_cell/bias:0"],
        "dropout": [],
    }
    wanted = {"lstm": 2, "old": 2, "both": 2, "model/a": 2, "model/b/c": 1}
    wanted |= {"cells/lstm_cell": 1, "cells/gru_cell": 2}
    rng = np.random.default_rng(0)
    numbers = {n: [rng.standard_normal(3).astype("f4") for _ in part] for n, part in names.items()}
    for before in ("", "model_weights/"):
        tree: Arrays = {f"{before}{layer}": None for layer in names}
        attributes: Arrays = {f"{before.rstrip('/')}@layer_names": [n.encode() for n in names]}
        for layer, part in names.items():
            if layer == "model":  # a list too long for one attribute is split over several
                attributes[f"{before}{layer}@weight_names0"] = part[:2]
                attributes[f"{before}{layer}@weight_names1"] = part[2:]
            else:
                attributes[f"{before}{layer}@weight_names"] = np.array(part, "S")
            for name, a in zip(part, numbers[layer], strict=True):
                tree[f"{before}{layer}/{name}"] = a
        h5_file(path, tree, attributes)
        found = fw.keras_layers(path)
        assert {name: len(part) for name, part in found.items()} == wanted
        assert list(found) == list(wanted)
        flat = [a for part in numbers.values() for a in part]
        same([a for part in found.values() for a in part], flat)


def test_any_other_hdf5_file(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    tree = {"a": K[0], "g/b": K[1].astype(">f8"), "g/n": np.int32(3), "text": "words", "e": None}
    h5_file(path, tree, {})
    found = fw.load(path)
    same(found, {"a": K[0], "g/b": K[1].astype("f8"), "g/n": np.array(3, "i4")})
    with pytest.raises(
        ValueError, match=r"keras_layers: expected layers of Keras with weights in .*"
    ):
        fw.keras_layers(path)
    for data in (b"", b"no HDF5", b"\x89HDF\r\n\x1a\n"):
        path.write_bytes(data)
        for read in (fw.load, fw.keras_layers):
            with pytest.raises(
                ValueError, match=r"other.h5: no file of Keras or HDF5, or damaged: "
            ):
                read(path)
    with pytest.raises(FileNotFoundError):
        fw.load(tmp_path / "absent.h5")
    archive = tmp_path / "model.keras"
    for members in ({}, {"config.json": "{}"}, {"config.json": "{", "model.weights.h5": ""}):
        with zipfile.ZipFile(archive, "w") as file:
            for name, text in members.items():
                file.writestr(name, text)
        with pytest.raises(
            ValueError, match=r"model.keras: no file of Keras or HDF5, or damaged: "
        ):
            fw.load(archive)


def test_what_an_hdf5_file_must_not_do(tmp_path: Path) -> None:
    """It must not make us read other files, unpack too much, or follow links in circles."""
    h5py = pytest.importorskip("h5py")
    path, secret = tmp_path / "made.h5", tmp_path / "secret"
    secret.write_bytes(bytes(64))
    h5_file(tmp_path / "other.h5", {"a": K[0]}, {})

    def soft(g: Any) -> None:
        g["0"] = h5py.SoftLink("/elsewhere")

    def external(g: Any) -> None:
        g["0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/a")

    def outside(g: Any) -> None:
        g.create_dataset("0", (16,), "f4", external=[(str(secret), 0, 64)])

    def virtual(g: Any) -> None:
        layout = h5py.VirtualLayout((2,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", (3, 20))[0, :2]
        g.create_virtual_dataset("0", layout)

    def bomb(g: Any) -> None:
        g.create_dataset("0", (2**40,), "f4", chunks=(2**16,), compression="gzip")

    def twice(g: Any) -> None:
        g["0"] = K[0]
        g["1"] = g["0"]

    def text(g: Any) -> None:
        g["0"] = "words"

    for what, reason in (
        (soft, "/layers/gru/vars/0 is a link"),
        (external, "/layers/gru/vars/0 is a link"),
        (outside, "is in another file"),
        (virtual, "is in another file"),
        (bomb, "would unpack to 4398046511104 bytes"),
        (twice, "is there twice"),
        (text, r"/layers/gru/vars/0 is (object|\|S5)"),
    ):
        with h5py.File(path, "w") as file:
            what(file.create_group("layers/gru/vars"))
        for read in (fw.load, fw.keras_layers):
            with pytest.raises(ValueError, match=f"made.h5: .*{reason}"):
                read(path)
    for group in ("layers/gru", "g"):
        with h5py.File(path, "w") as file:
            inner = file.create_group(group)
            inner["round"] = inner
        with pytest.raises(ValueError, match=r"made.h5: .*"):
            fw.load(path)
    with h5py.File(path, "w") as file:
        for name in ("one", "two"):
            file[f"layers/{name}/vars/0"] = K[0]
            file[f"layers/{name}/vars"].attrs["name"] = "same"
    with pytest.raises(ValueError, match=r"made.h5: .*two layers have the name 'same'"):
        fw.keras_layers(path)
