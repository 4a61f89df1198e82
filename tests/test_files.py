"""fr.save, fr.load, weights.save and weights.load; long, because it covers success and failure.

What is loaded describes itself as the original did and computes the same bits. Failures are a kill,
a full disk, two saves at the same time, damaged files, and files that somebody made by hand.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import stat
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedrnn as fr
from fusedrnn import nn, weights
from fusedrnn._storage import replacing
from test_config import CASES, X, assert_same, made, numbers

HERE = Path(__file__).resolve().parent
Arrays = dict[str, Any]


def arrays_of(path: Path) -> Arrays:
    """The arrays of a file, as any program can read them."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def header_of(path: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(str(arrays_of(path)["header"]))
    return header


def rewrite(path: Path, change: Callable[[dict[str, Any], Arrays], object]) -> None:
    """Write the file again with another header and other arrays, as somebody could have made it."""
    arrays = arrays_of(path)
    header = json.loads(str(arrays.pop("header")))
    change(header, arrays)
    text = header if isinstance(header, str) else json.dumps(header)
    np.savez(path, header=np.array(text), **arrays)


# --- what is loaded -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_a_layer_comes_back_in_every_bit(kind: str, options: Arrays, tmp_path: Path) -> None:
    """Every option of every class comes back: lists of sizes, tuples of activations, two rates."""
    layer = made(kind, options)
    rng = np.random.default_rng(0)  # parameters that differ from the drawn ones
    layer.load_state_dict({n: rng.uniform(-0.5, 0.5, a.shape) for n, a in layer.params.items()})
    fr.save(tmp_path / "layer.npz", layer)
    again = fr.load(tmp_path / "layer.npz")
    assert type(again) is type(layer)
    assert repr(again) == repr(layer)
    assert again.cell == layer.cell
    assert again.config() == layer.config()
    assert_same(list(again.params.values()), list(layer.params.values()))
    assert_same(numbers(again), numbers(layer))


def test_numbers_of_every_kind_come_back(tmp_path: Path) -> None:
    """Parameters come back bit for bit, also NaN, infinities and -0."""
    for dtype in (np.float32, np.float64):
        layer = fr.LSTM(3, 4, bidirectional=True, dtype=dtype, seed=0)
        with layer.writable() as params:
            params["weight_ih_l0"][:4, 0] = [np.nan, np.inf, -np.inf, -0.0]
            params["bias_hh_l0"][:] = np.finfo(dtype).smallest_subnormal
        fr.save(tmp_path / "layer.npz", layer)
        again = fr.load(tmp_path / "layer.npz")
        for name, a in layer.params.items():
            assert again.params[name].tobytes() == a.tobytes()
        again.params["bias_ih_l0"] = np.zeros(16)  # the loaded layer can be changed


def test_a_dense_layer_comes_back(tmp_path: Path) -> None:
    for options in ({}, {"bias": False}, {"dtype": np.float64}):
        dense = nn.Dense(3, 4, seed=0, **options)
        fr.save(tmp_path / "dense.npz", dense)
        again = fr.load(tmp_path / "dense.npz")
        assert repr(again) == repr(dense)
        assert np.array_equal(again(X), dense(X))
        assert header_of(tmp_path / "dense.npz")["kind"] == "nn.Dense"


def test_several_layers_come_back_by_name(tmp_path: Path) -> None:
    model = {"encoder": fr.GRU(3, 4, seed=0), "decoder": fr.LSTM(4, 5, seed=1)}
    model["head"] = nn.Dense(5, 2, seed=2)
    fr.save(tmp_path / "model.npz", model)
    again = fr.load(tmp_path / "model.npz")
    assert list(again) == ["encoder", "decoder", "head"]
    assert repr(again) == repr(model)
    for name in model:
        assert_same(list(again[name].params.values()), list(model[name].params.values()))
    fr.save(tmp_path / "one.npz", {"only": model["head"]})
    assert list(fr.load(tmp_path / "one.npz")) == ["only"]


def test_a_file_is_a_plain_npz(tmp_path: Path) -> None:
    """Any program can read the arrays; the header is JSON, and numbers are little-endian."""
    path = tmp_path / "layer.npz"
    layer = fr.GRU(3, 4, seed=0)
    fr.save(path, layer)
    arrays = arrays_of(path)
    assert list(arrays) == ["header", *(f"params/{name}" for name in layer.params)]
    for name, a in layer.params.items():
        assert np.array_equal(arrays[f"params/{name}"], a)
    header = header_of(path)
    assert header["format"] == "fusedrnn"
    assert header["format_version"] == 1
    assert header["fusedrnn"] == fr.__version__
    assert header["kind"] == "GRU"
    assert header["config"] == layer.config()
    assert (header["optimizer"], header["notes"]) == (None, None)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert b"'descr': '<f4'" in archive.read("params/weight_ih_l0.npy")
        assert b"'descr': '<U" in archive.read("header.npy")
    fr.save(tmp_path / "model.npz", {"a/b": layer})
    assert "params/a%2Fb/weight_ih_l0" in arrays_of(tmp_path / "model.npz")


def test_equal_content_gives_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    fr.save(one, fr.LSTM(3, 4, seed=0), notes={"epoch": 1})
    monkeypatch.setattr("time.time", lambda: 2e9)  # the file holds no date
    fr.save(str(two), fr.load(one), notes=fr.load_notes(one))
    assert one.read_bytes() == two.read_bytes()


def test_a_file_of_a_big_endian_machine_is_read(tmp_path: Path) -> None:
    """Files that are big-endian, compressed or laid out by columns are read too."""
    path = tmp_path / "layer.npz"
    layer = fr.GRU(3, 4, seed=0)
    fr.save(path, layer)
    arrays = arrays_of(path)
    np.savez_compressed(
        path,
        **{name: np.array(a, a.dtype.newbyteorder(">"), order="F") for name, a in arrays.items()},
    )
    again = fr.load(path)
    assert repr(again) == repr(layer)
    assert_same(numbers(again), numbers(layer))


NAMES = st.text(st.sampled_from("ab/.\\%\0 é\ud800"), min_size=1, max_size=5)


@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_any_name_of_a_layer_is_kept(tmp_path_factory: pytest.TempPathFactory, names: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "names.npz"
    model = {name: nn.Dense(1, 1, seed=k) for k, name in enumerate(names)}
    fr.save(path, model)
    again = fr.load(path)
    assert list(again) == names
    for name in names:
        assert np.array_equal(again[name].params["weight"], model[name].params["weight"])
    assert all(".." not in name.split("/") for name in arrays_of(path))  # names leave no folder


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(notes=st.dictionaries(st.text(), JSON, max_size=4))
def test_notes_come_back(tmp_path_factory: pytest.TempPathFactory, notes: Arrays) -> None:
    path = tmp_path_factory.getbasetemp() / "notes.npz"
    fr.save(path, nn.Dense(1, 1), notes=notes)
    assert repr(fr.load_notes(path)) == repr(notes)  # by repr, as NaN != NaN


def test_notes_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    path, layer = tmp_path / "n.npz", nn.Dense(1, 1)
    fr.save(path, layer)
    assert fr.load_notes(path) == {}
    fr.save(path, layer, notes={"loss": np.float32(0.5), "at": (1, np.int64(2))})
    assert fr.load_notes(path) == {"loss": 0.5, "at": [1, 2]}
    for notes, text in (
        ({"a": {1: 2}}, r"notes\['a'\]: expected names of type str, got 1"),
        ({"a": [0, {"b": {3}}]}, r"notes\['a'\]\[1\]\['b'\]: expected what JSON holds .*, got set"),
        ({"loss": np.ones(2)}, r"notes\['loss'\]: expected what JSON holds .*ndarray float64 \(2,"),
        ([1], "notes: expected a mapping, got list"),
    ):
        with pytest.raises(TypeError, match=text):
            fr.save(path, layer, notes=notes)  # type: ignore[arg-type]
    assert fr.load_notes(path) == {"loss": 0.5, "at": [1, 2]}


class Mine(fr.GRU):
    """A subclass by a user, which cannot be saved."""


class Foreign:
    """A class that has all methods of a layer but is not one of ours."""

    def __init__(self, config: Any = None, state: Any = None) -> None:
        self._config, self._state = config or {"kind": "GRU"}, state or {}

    def config(self) -> Any:
        return self._config

    def state_dict(self) -> Any:
        return self._state

    def from_config(self) -> None:
        raise AssertionError


LAYER = fr.GRU(1, 2, seed=0)
NOT_SAVED: list[tuple[Any, type[Exception], str]] = [
    (None, TypeError, r"what: expected a layer or model \(with config.*got NoneType"),
    (np.ones(2), TypeError, r"got ndarray float64 \(2,\); weights.save writes arrays"),
    (fr.GRU, TypeError, "what: expected a layer or model .*got ABCMeta"),
    (LAYER.state_dict(), TypeError, r"what\['weight_ih_l0'\]: .*; weights.save writes arrays"),
    (LAYER.stream(), TypeError, "what: expected a layer or model"),
    ({}, ValueError, "what: expected at least one layer, got an empty mapping"),
    ({1: LAYER}, TypeError, "what: expected names of type str, got 1"),
    ({"": LAYER}, ValueError, "what: expected names that are not empty"),
    ({"a": LAYER, "b": LAYER}, ValueError, "'a' and 'b' are one layer, which would come back as t"),
    ({"a": {"b": LAYER}}, TypeError, r"what\['a'\]: expected a layer or model .*got dict"),
    ({"a" * 70_000: LAYER}, ValueError, r"the name 'params/aaa.*\.\.\. is 700\d\d bytes long"),
    (
        Mine(1, 2),
        ValueError,
        "what: a Mine, whose config.. says kind 'GRU', would come back as a G",
    ),
    (Foreign({"kind": "os.system"}), ValueError, "kind 'os.system', would come back as nothing"),
    (Foreign({"kind": LAYER}), TypeError, r"what.config\(\)\['kind'\]: expected what JSON holds"),
]


def test_what_is_no_path_is_refused() -> None:
    """By each function that reads or writes a file; nothing is written to the descriptor 3."""
    model = nn.Sequential([nn.Dense(3, 2)]).compile()
    x, y = np.ones((4, 3)), np.ones((4, 2))
    wrong: Any
    for wrong, came in ((3, "int"), (None, "NoneType"), (io.BytesIO(), "BytesIO"), (LAYER, "GRU")):
        calls: list[Any] = [
            lambda path: fr.save(path, LAYER),
            fr.load,
            fr.load_notes,
            lambda path: weights.save(path, LAYER),
            weights.load,
            model.load_checkpoint,
        ]
        for call in calls:
            with pytest.raises(TypeError, match=f"^path: expected the path of a file, got {came}"):
                call(wrong)
        if wrong is not None:
            with pytest.raises(TypeError, match=f"^checkpoint: expected the path .*, got {came}"):
                model.fit(x, y, checkpoint=wrong)


@pytest.mark.parametrize("at", range(len(NOT_SAVED)))
def test_what_cannot_be_saved_is_refused(at: int, tmp_path: Path) -> None:
    """The text says why, and the old file is as it was."""
    what, kind, text = NOT_SAVED[at]
    path = tmp_path / "file.npz"
    fr.save(path, LAYER)
    old = path.read_bytes()
    with pytest.raises(kind, match=text):
        fr.save(path, what)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["file.npz"]


# --- an optimiser's state -----------------------------------------------------------------------


def train(model: dict[str, Any], adam: Any, steps: int, seed: int) -> list[Any]:
    """Train two layers for some steps; returns all their parameters."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        x = rng.standard_normal((5, 2, 3), dtype=np.float32)
        y, _, saved = model["gru"].forward(x)
        z, saved_head = model["head"].forward(y)
        dy, of_head = model["head"].backward(saved_head, 2 * z)
        _, _, of_gru = model["gru"].backward(saved, dy)
        adam.step(model["gru"], of_gru)
        adam.step(model["head"], of_head)
    return [a for layer in model.values() for a in layer.params.values()]


def test_training_goes_on_from_a_file(tmp_path: Path) -> None:
    """Training continues with the same bits: moments and step counts of each layer are saved."""
    path = tmp_path / "training.npz"
    model = {"gru": fr.GRU(3, 4, seed=0), "head": nn.Dense(4, 2, seed=1)}
    adam = nn.Adam(1e-2)
    train(model, adam, 3, seed=1)
    fr.save(path, model, optimizer=adam, notes={"step": 3})
    through = train(model, adam, 4, seed=2)

    again, later = nn.Adam(1e-2), nn.Adam(1e-2)
    restored = fr.load(path, optimizer=again)
    assert_same(train(restored, again, 4, seed=2), through)
    with pytest.raises(AssertionError):  # a new optimiser trains differently
        assert_same(train(fr.load(path), later, 4, seed=2), through)

    fr.save(path, model["gru"], optimizer=adam)
    alone = nn.Adam(1e-2)
    gru = fr.load(path, optimizer=alone)
    found, wanted = alone.state_dict(gru), adam.state_dict(model["gru"])
    assert list(found) == list(wanted)
    assert_same(list(found.values()), list(wanted.values()))
    assert arrays_of(path)["optimizer/steps.bias_hh_l0"] == 7


def test_an_optimiser_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"

    class Momentum(nn.Adam):
        pass

    dense = nn.Dense(1, 1, seed=0)
    for wrong in (3, nn.Adam, {"a": nn.Adam()}):
        with pytest.raises(TypeError, match=r"optimizer: expected an optimiser \(with state_dict"):
            fr.save(path, dense, optimizer=wrong)
        with pytest.raises(TypeError, match=r"optimizer: expected an optimiser \(with state_dict"):
            fr.load(path, optimizer=wrong)
    assert not path.exists()
    fr.save(path, dense)
    with pytest.raises(
        ValueError, match=r"file.npz: optimizer: expected the state of Adam, found no optimiser's"
    ):
        fr.load(path, optimizer=nn.Adam())
    fr.save(path, dense, optimizer=Momentum())
    with pytest.raises(ValueError, match="expected the state of Adam, found that of Momentum"):
        fr.load(path, optimizer=nn.Adam())
    fr.save(path, dense, optimizer=nn.Adam())
    assert repr(fr.load(path)) == repr(dense)  # loading without an optimiser is allowed
    rewrite(path, lambda _, arrays: arrays.pop("optimizer/mean.bias"))
    with pytest.raises(ValueError, match=r"file.npz: optimizer: .*missing 'mean.bias'"):
        fr.load(path, optimizer=nn.Adam())


# --- files made by hand -------------------------------------------------------------------------


def put(field: str, value: object) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda header, _: header.__setitem__(field, value)


def configured(**values: object) -> Callable[[dict[str, Any], Arrays], None]:
    return lambda header, _: header["config"].update(values)


FORGED: list[tuple[Callable[[dict[str, Any], Arrays], object], str]] = [
    *(
        (lambda header, _, field=field: header.pop(field), text)  # type: ignore[misc]
        for field, text in (
            ("format", "expected a file of fusedrnn.save, found format None"),
            ("format_version", "format_version: expected a whole number, found None"),
            ("fusedrnn", "header: missing 'fusedrnn'"),
            ("kind", "header: missing 'kind'"),
            ("config", "header: missing 'config'"),
            ("optimizer", "header: missing 'optimizer'"),
            ("notes", "header: missing 'notes'"),
        )
    ),
    (put("format", "else"), "expected a file of fusedrnn.save, found format 'else'"),
    (put("format_version", 99), r"written by a later fusedrnn \(.*version 99; .* reads up to 1\)"),
    (put("format_version", 0), "format_version: expected a whole number, found 0"),
    (put("format_version", True), "format_version: expected a whole number, found True"),
    (put("format_version", 1.0), "format_version: expected a whole number, found 1.0"),
    (put("fusedrnn", 3), "header: fusedrnn: unexpected 3"),
    (put("kind", ["GRU"]), r"header: kind: unexpected \['GRU'\]"),
    (put("config", "GRU"), "header: config: unexpected 'GRU'"),
    (put("notes", [1]), r"header: notes: unexpected \[1\]"),
    (put("optimizer", "Adam"), "header: optimizer: unexpected 'Adam'"),
    (put("optimizer", {"kind": 1}), "header: optimizer: unexpected {'kind': 1}"),
    (put("optimizer", {"kind": "A", "lr": 1}), "header: optimizer: unexpected"),
    (put("author", "me"), "header: unexpected 'author'"),
    (put("kind", "LSTM"), "header: kind 'LSTM' with config {'kind': 'GRU'"),
    (put("kind", "mapping"), "header: config: unexpected 'kind': 'GRU'"),
    (configured(kind="LSTM"), "header: kind 'GRU' with config {'kind': 'LSTM'"),
    (configured(hidden_size=3), "expected shape .9, 1., got .6, 1."),
    (configured(hidden_size="2"), "hidden_size: expected a whole number"),
    (configured(hidden_size=-1), "hidden_size: expected at least 1, got -1"),
    (configured(hidden_size=10**30), "a size of 10+ with 30 numbers in the file"),
    (configured(num_layers=10**9), "a size of 10+ with 30 numbers in the file"),
    (configured(hidden_size=[2, 10**6]), "a size of 1000000 with 30 numbers in the file"),
    (configured(hidden_size=2**16), "expected shape .196608, 1., got .6, 1."),  # drawn: 96 GiB
    (configured(num_layers=2), "missing 'weight_ih_l1'"),
    (configured(dtype="float64"), "weight_ih_l0: expected float64, found float32"),
    (configured(dtype="object"), "dtype: expected float32 or float64"),
    (configured(layer_norm=[[[]]]), "layer_norm: expected True or False"),
    (configured(activations=[[[[]]]]), "activations"),
    (configured(attention=True), "unknown option 'attention'"),
    (configured(seed=1), "unknown option 'seed'"),
    (lambda header, _: header["config"].pop("input_size"), "missing 'input_size'"),
    (lambda _, a: a.pop("params/bias_ih_l0"), "missing 'bias_ih_l0'"),
    (lambda _, a: a.update({"params/more": np.ones(2)}), "unexpected 'more'"),
    (lambda _, a: a.update(more=np.ones(2)), "unexpected array 'more'"),
    (lambda _, a: a.update({"params": np.ones(2)}), "unexpected array 'params'"),
    (lambda _, a: a.update({"optimizer/x": np.ones(2)}), "an optimiser's state, of which the hea"),
    (
        lambda _, a: a.update({"params/bias_ih_l0": np.ones(6, int)}),
        "expected an array of floating",
    ),
    (lambda _, a: a.update({"params/bias_ih_l0": np.ones(6)}), "bias_ih_l0: expected float32, fou"),
    (
        lambda _, a: a.update({"params/bias_ih_l0": np.ones(5, "f4")}),
        "expected shape .6,., got .5,",
    ),
    (lambda _, a: a.update({"params/bias_ih_l0": np.array("text")}), "bias_ih_l0"),
]


@pytest.mark.parametrize("at", range(len(FORGED)))
def test_every_field_of_a_file_is_checked(at: int, tmp_path: Path) -> None:
    """The text begins with the path and says what is wrong."""
    change, text = FORGED[at]
    path = tmp_path / "forged.npz"
    fr.save(path, LAYER)
    rewrite(path, change)
    with pytest.raises(ValueError, match=text) as error:
        fr.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert type(error.value) is ValueError


def test_kinds_are_of_a_fixed_list(tmp_path: Path) -> None:
    """No text in a file can import a module or call a function."""
    path = tmp_path / "forged.npz"
    fr.save(path, LAYER)
    fr.load(path)  # imports what reading a file needs, such as the encoding of names in archives
    kinds = ["os.system", "nn.Adam", "nn.mse", "nn.optim.Adam", "nn.os", "nn.__all__", "Layer"]
    kinds += ["layers.GRU", "_layer.Layer", "", ".GRU", "nn.", "GRU\n", "builtins.print", "mapping"]
    for kind in kinds:
        fr.save(path, LAYER)
        before = set(sys.modules)
        rewrite(path, lambda header, _, kind=kind: header.update(kind=kind, config={"kind": kind}))
        with pytest.raises(ValueError, match=r"nothing is known of the kind|header: config"):
            fr.load(path)
        assert set(sys.modules) == before


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    with pytest.raises(FileNotFoundError) as missing:
        fr.load(path)
    assert missing.value.filename == str(path)
    with pytest.raises(IsADirectoryError):
        fr.load(tmp_path)
    weights.save(path, LAYER)
    with pytest.raises(
        ValueError, match=r"found arrays alone, which fusedrnn.weights.load reads: w"
    ):
        fr.load(path)
    fr.save(path, LAYER)
    with pytest.raises(
        ValueError, match=r"expected arrays; found a layer in .*fusedrnn.load reads"
    ):
        weights.load(path)
    for header in (np.array(b"{}"), np.array(["{}"]), np.array(3), np.ones(2)):
        np.savez(path, header=header)
        with pytest.raises(ValueError, match="header: expected a JSON text, found ndarray"):
            fr.load(path)
    for text in ("", "{", "[" * 100_000, "nul"):
        np.savez(path, header=np.array(text))
        with pytest.raises(ValueError, match="header: no JSON"):
            fr.load(path)
    for text in ("[]", "3", "null", '"fusedrnn"'):
        np.savez(path, header=np.array(text))
        with pytest.raises(ValueError, match=r"expected a file of fusedrnn.save, found format"):
            fr.load(path)
    for kind, reader in (("run", "fusedrnn generate or fusedrnn"), ("fit", "load_checkpoint of")):
        np.savez(path, header=np.array(f'{{"format": "fusedrnn {kind}"}}'))
        with pytest.raises(ValueError, match=f"found format 'fusedrnn {kind}', which {reader}"):
            fr.load(path)
    np.savez(path, header=np.array([print], object))
    with pytest.raises(ValueError, match="'header': it holds Python objects, which are never unpi"):
        fr.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"expected .npy files in a .npz, found 'readme.txt'"):
        fr.load(path)
    for data in (b"", b"no model at all", b"PK\x05\x06", b"\x80\x04N."):
        path.write_bytes(data)
        for read in (fr.load, fr.load_notes, weights.load):
            with pytest.raises(ValueError, match=r"file.npz: no .npz, or damaged: "):
                read(path)


def npy(header: str, numbers: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + numbers


BOMBS = [
    (
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999,), }\n",
        "cannot be float32",
    ),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n", "shape"),
    ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", "Python objects"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (2**9,), }\n", ""),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': 4, }\n", ""),
    ("{'descr': 'x', 'fortran_order': False, 'shape': (), }\n", ""),
    ("(" * 9000, ""),
    ("", ""),
]


@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")  # NumPy's own warning
@pytest.mark.parametrize("at", range(len(BOMBS)))
def test_headers_of_arrays_ask_for_nothing(at: int, tmp_path: Path) -> None:
    """No number in a file makes the reader allocate memory that the file cannot fill."""
    header, text = BOMBS[at]
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(header))
    with pytest.raises(ValueError, match=f"bomb.npz: 'a': .*{text}"):
        weights.load(path)


def test_an_archive_that_says_it_unpacks_to_more(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy("", version=b"\x07\x00"))
        archive.writestr("b.npy", b"")
    with pytest.raises(ValueError, match=r"'a': version \(7, 0\) of .npy is not read here"):
        weights.load(path)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x01\x02"))
    data[at + 24 : at + 28] = (2**31).to_bytes(4, "little")  # the size of a.npy
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged: 'a' is longer than the file"):
        weights.load(path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a.npy", b"")
        archive.writestr("a.npy", b"")
    with pytest.raises(ValueError, match=r"damaged: 'a.npy' is there twice"):
        weights.load(path)


# --- damaged files ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "layer.npz"
    fr.save(path, LAYER, optimizer=nn.Adam(), notes={"epoch": 3})
    return path.read_bytes()


def read_damaged(path: Path, data: bytes) -> None:
    """Assert that reading gives the layer in every bit, or a ValueError that names the file."""
    path.write_bytes(data)
    layer = None
    with contextlib.ExitStack() as stack:
        stack.push(lambda kind, error, _: kind is ValueError and str(error).startswith(f"{path}: "))
        layer = fr.load(path, optimizer=nn.Adam())
    if layer is not None:
        assert repr(layer) == repr(LAYER)
        assert_same(list(layer.params.values()), list(LAYER.params.values()))


def test_a_file_cut_short_is_refused(tmp_path: Path, whole: bytes) -> None:
    for length in [*range(0, len(whole), 37), len(whole) - 1]:
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        for read in (fr.load, fr.load_notes):
            with pytest.raises(ValueError, match=r"cut.npz: no .npz, or damaged"):
                read(tmp_path / "cut.npz")


@given(data=st.data())
def test_a_flipped_byte_is_seen_or_does_nothing(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, data: Any
) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    read_damaged(tmp_path_factory.getbasetemp() / "flipped.npz", bytes(damaged))


def test_every_part_of_a_file_may_be_damaged(tmp_path: Path, whole: bytes) -> None:
    """A few bytes are overwritten at every place: names, sizes, checksums, headers, numbers."""
    for at in range(0, len(whole) - 1, 23):
        for wrong in (b"\xff", b"\x00\x00", b"(["):
            read_damaged(tmp_path / "f.npz", whole[:at] + wrong + whole[at + len(wrong) :])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".onnx", ".h5", ".keras", ".pt"])
def test_damaged_weights_are_an_error_that_names_the_file(suffix: str, tmp_path: Path) -> None:
    """Formats without a checksum may give other numbers, but never another exception or a crash."""
    path = tmp_path / f"weights{suffix}"
    write_weights(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    heads = rng.integers(0, min(len(whole), 400), 40)
    for at in [*heads, *rng.integers(0, len(whole), 40)]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            weights.load(path)
        path.write_bytes(whole[:at])
        with (
            pytest.raises(ValueError, match=f"weights{suffix}: ")
            if suffix != ".onnx"
            else (
                contextlib.suppress(ValueError)  # a cut protobuf message may be valid
            )
        ):
            weights.load(path)


def write_weights(path: Path) -> None:
    """Write a small file of weights in the format of the suffix."""
    arrays = dict(LAYER.params)
    if path.suffix == ".pt":
        torch = pytest.importorskip("torch")
        torch.save({name: torch.from_numpy(a.copy()) for name, a in arrays.items()}, path)
    elif path.suffix in (".h5", ".keras"):
        h5py = pytest.importorskip("h5py")
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            group = file.create_group("layers/gru/cell/vars")
            for k, a in enumerate(arrays.values()):
                group[str(k)] = a
            file.create_group("layers/gru/vars").attrs["name"] = "encoder"
        if path.suffix == ".h5":
            path.write_bytes(buffer.getvalue())
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("config.json", "{}")
                archive.writestr("model.weights.h5", buffer.getvalue())
    else:
        if path.suffix == ".onnx":
            pytest.importorskip("onnx")
        weights.save(path, arrays)


# --- kills and full disks -----------------------------------------------------------------------


def interrupted(*arguments: object) -> Any:
    """Run `interrupted.py` and return its report."""
    environment = os.environ | {"PYTHONPATH": str(Path(fr.__file__).parent.parent)}
    command = [sys.executable, HERE / "interrupted.py", *map(str, arguments)]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize(
    ("writer", "trials"), [("save", 200), ("npz", 200), ("safetensors", 25), ("onnx", 25)]
)
def test_a_killed_save_leaves_the_old_file_or_the_new(
    writer: str, trials: int, tmp_path: Path
) -> None:
    """After SIGKILL the file holds one of the two contents, and no temporary files pile up."""
    if writer == "onnx":
        pytest.importorskip("onnx")
    found = interrupted("kill", writer, tmp_path, trials)
    assert len(found["contents"]) == trials
    assert set(found["contents"]) == {0, 1}
    assert set(found["leftovers"]) == {0, 1}, "of the last kill alone"
    assert sum(found["leftovers"]) > trials / 10, "most kills came between two saves"
    assert found["beside"] == []


def assert_old_or_new(found: Any) -> None:
    for attempt in found["tries"]:
        assert attempt["error"] is not None
        assert attempt["error"][1] == found["path"], "the file that the user named"
        assert attempt["content"] == 0
        assert attempt["beside"] == []
    assert found["after"] == 1


WRITERS = ["save", "npz", "safetensors", "onnx"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_save_that_may_not_write_so_much_leaves_the_old_file(writer: str, tmp_path: Path) -> None:
    if writer == "onnx":
        pytest.importorskip("onnx")
    found = interrupted("limit", writer, tmp_path)
    assert {attempt["error"][0] for attempt in found["tries"]} == {27}  # EFBIG
    assert_old_or_new(found)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_old_file(writer: str, tmp_path: Path) -> None:
    """A file system of its own is filled; mounting it needs root, unlike the test above."""
    if writer == "onnx":
        pytest.importorskip("onnx")
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    try:
        found = interrupted("limit", writer, tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert {attempt["error"][0] for attempt in found["tries"]} == {28}  # ENOSPC
    assert_old_or_new(found)


# --- the writer ---------------------------------------------------------------------------------


def test_an_error_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def failing(error: BaseException) -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise error

    for error in (ValueError("mine"), KeyboardInterrupt(), OSError("no number")):
        with pytest.raises(type(error)):
            failing(error)
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file"]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space") as raised, replacing(path) as file:
        file.write(b"new")
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_file_was_it_stays(tmp_path: Path) -> None:
    """A save keeps permissions and links, and works with the longest possible name."""
    path, link = tmp_path / ("n" * 255), tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    with replacing(link) as file:
        file.write(b"new")
        file.seek(0)
        file.write(b"N")
    assert link.is_symlink()
    assert path.read_bytes() == b"New"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_devices_and_pipes_are_written_to(tmp_path: Path) -> None:
    """A device or pipe must not be replaced by a file, as root could do to /dev/null.

    The test makes a device of its own, so that a fault does not hit the real one.
    """
    device = tmp_path / "null"
    with contextlib.suppress(PermissionError):  # making a device needs root
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        fr.save(device, LAYER)
        assert stat.S_ISCHR(device.stat().st_mode)
    pipe = tmp_path / "pipe.npz"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    weights.save(pipe, LAYER)
    reader.join(timeout=20)
    assert read
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "file.npz").write_bytes(read[0])
    assert_same(list(weights.load(tmp_path / "file.npz").values()), list(LAYER.params.values()))


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    for path, kind in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "none" / "file", FileNotFoundError),
        (tmp_path / ("n" * 256), OSError),
    ):
        with pytest.raises(kind) as error, replacing(path):
            raise AssertionError
        assert error.value.filename == str(path)
    assert os.listdir(tmp_path) == []


@contextlib.contextmanager
def being_written(path: Path) -> Iterator[None]:
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_leftovers_of_the_dead_alone_are_removed(tmp_path: Path) -> None:
    """What a process still writes stays, and so does a file with a similar name."""
    path = tmp_path / "model.npz"
    dead = tmp_path / ".model.npz.123-0123abcd.tmp"
    living = tmp_path / f".model.npz.{os.getpid()}-0123abcd.tmp"
    others = [".model.npz.1-0123abcd", ".model.npz.1-0123ABCD.tmp", ".other.1-0123abcd.tmp"]
    others += [".model.npz.x-0123abcd.tmp", "model.npz.1-0123abcd.tmp"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    dead.write_bytes(b"half")
    (tmp_path / ".model.npz.124-0123abcd.tmp").symlink_to(tmp_path / others[0])
    with being_written(living):
        fr.save(path, LAYER)
        assert not dead.exists()
        assert living.exists()
    assert all((tmp_path / name).exists() for name in others)
    fr.save(path, LAYER)
    assert not living.exists()
    os.mkfifo(dead)
    fr.save(path, LAYER)  # must not block on the pipe


def test_two_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    layers = [fr.GRU(2, 3 + k, seed=k) for k in range(4)]
    failed: list[BaseException] = []

    def work(layer: Any) -> None:
        try:
            for _ in range(15):
                fr.save(path, layer)
                assert repr(fr.load(path)) in map(repr, layers)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(layer,)) for layer in layers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert os.listdir(tmp_path) == ["file.npz"]
