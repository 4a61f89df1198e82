"""The programs of docs/examples/keras_notes.py: Keras' programs with one import changed."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest

from .same import BACKEND, calls

SCRIPT = Path(__file__).resolve().parents[2] / "docs/examples/keras_notes.py"
# The one import: of our layers, or of Keras' own.
IMPORT = re.compile(r"^from fusedrnn\.keras import GRU, LSTM, SimpleRNN, report .*$", re.M)
NAMES = (
    "series, SimpleRNN",
    "series, LSTM",
    "series, GRU",
    "hello",
    "one to many",
    "many to many",
    "topics",
)
trains = pytest.mark.skipif(BACKEND == "numpy", reason="Keras has no fit on NumPy")
pytestmark = [trains, pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`")]


def program(text: str) -> Any:
    made: Any = ModuleType("keras_notes")
    exec(compile(text, str(SCRIPT), "exec"), vars(made))
    return made


def trained(made: Any, name: str) -> tuple[Any, list[float], bool]:
    """The model, its losses, and whether the kernels computed."""
    keras.utils.set_random_seed(0)
    before = calls()
    model, losses = made.PROGRAMS[name]()
    return model, losses, calls() > before


@pytest.fixture(scope="module")
def ours() -> Any:
    return program(SCRIPT.read_text())


@pytest.fixture(scope="module")
def theirs() -> Any:
    text, changed = IMPORT.subn("from keras.layers import GRU, LSTM, SimpleRNN", SCRIPT.read_text())
    assert changed == 1
    return program(text)


def test_the_names_are_those_of_the_script(ours: Any) -> None:
    assert tuple(ours.PROGRAMS) == NAMES


@pytest.fixture
def three_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = keras.Sequential.fit

    def short(self: Any, *args: Any, epochs: int, **more: Any) -> Any:
        return fit(self, *args, epochs=3, **more)

    monkeypatch.setattr(keras.Sequential, "fit", short)


@pytest.mark.usefixtures("three_epochs")
@pytest.mark.parametrize("name", NAMES)
def test_one_import_changes_who_computes_and_no_loss(ours: Any, theirs: Any, name: str) -> None:
    model, losses, computed = trained(ours, name)
    assert computed
    assert all(line.fused for line in ours.report(model, training=True))
    assert losses[-1] < losses[0]
    _, right, computed = trained(theirs, name)
    assert not computed
    assert np.abs(np.subtract(losses, right)).max() <= 2e-5 * max(right)


def test_what_is_learned(ours: Any) -> None:
    model, losses, _ = trained(ours, "series, LSTM")
    assert losses[-1] < 0.02
    assert model.count_params() == 4 * 50 * (1 + 50 + 1) + 51
    model, _, _ = trained(ours, "hello")
    letters = sorted(set("hello, world"))
    x = np.eye(9)[[letters.index(letter) for letter in "hell"]][None]
    assert letters[model.predict(x, verbose=0).argmax()] == "o"
    assert model.layers[0].count_params() == 3 * (9 + 3 + 1)
    model, _, _ = trained(ours, "topics")
    rng = np.random.default_rng(0)
    topic = rng.integers(0, 3, 60)
    words = rng.integers(1, 10, (60, 12)) + 10 * topic[:, None]
    assert np.mean(model.predict(words, verbose=0).argmax(axis=1) == topic) > 0.9


def test_the_script_says_who_computes(
    ours: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {name: ours.PROGRAMS[name] for name in ("hello", "topics")}
    monkeypatch.setattr(ours, "PROGRAMS", some)
    ours.main()
    assert capsys.readouterr().out.count("computed by the kernels") == 2


if BACKEND == "tensorflow":

    @pytest.mark.usefixtures("three_epochs")
    @pytest.mark.parametrize("name", NAMES)
    def test_the_programs_run_under_the_name_tensorflow_keras(ours: Any, name: str) -> None:
        import tensorflow as tf

        other = re.compile(r"^from keras\.", re.M)
        text, changed = other.subn("from tensorflow.keras.", SCRIPT.read_text())
        assert changed == 3
        made = program(text)
        model, losses, computed = trained(made, name)
        assert isinstance(model, tf.keras.Model)
        assert computed
        assert losses == trained(ours, name)[1]
