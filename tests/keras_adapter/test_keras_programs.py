"""The programs of the lecture notes, with one import changed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import fusedrnn.keras as fk
from fusedrnn.keras import GRU, LSTM, SimpleRNN

Dense, Embedding, RepeatVector = (
    keras.layers.Dense,
    keras.layers.Embedding,
    keras.layers.RepeatVector,
)
Sequential = keras.Sequential
trains = pytest.mark.skipif(keras.backend.backend() == "numpy", reason="Keras has no fit on NumPy")
pytestmark = [trains, pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`")]


def fitted(model: Any, x: Any, y: Any, epochs: int, loss: str = "mse") -> list[float]:
    """Train as the notes do; the kernels compute every recurrent layer."""
    model.compile(optimizer="adam", loss=loss)
    found: list[float] = model.fit(x, y, epochs=epochs, verbose=0).history["loss"]
    assert all(line.fused for line in fk.report(model, training=True))
    assert found[-1] < found[0]
    return found


@pytest.mark.parametrize("layer", [SimpleRNN, LSTM, GRU])
def test_a_series_from_a_window(layer: Any) -> None:
    keras.utils.set_random_seed(0)
    series = np.sin(np.arange(120) / 5)
    x = np.stack([series[k : k + 10] for k in range(110)])[..., None]
    model = Sequential([layer(50, input_shape=(10, 1)), Dense(1)])
    assert fitted(model, x, series[10:], 25)[-1] < 0.02


def test_hello() -> None:
    """The next letter of 'hello', one-hot."""
    keras.utils.set_random_seed(1)
    letters = np.eye(9)["helo".index("h") + np.array([0, 1, 2, 2])]
    following = np.eye(9)[np.array([1, 2, 2, 3])]
    model = Sequential(
        [
            SimpleRNN(units=3, input_shape=(4, 9), return_sequences=True),
            Dense(9, activation="softmax"),
        ]
    )
    fitted(model, letters[None], following[None], 30, "categorical_crossentropy")


def test_one_to_many() -> None:
    keras.utils.set_random_seed(2)
    x = np.random.default_rng(0).standard_normal((32, 3))
    y = np.repeat(x[:, None, :1], 5, axis=1)
    model = Sequential(
        [keras.Input((3,)), RepeatVector(5), LSTM(16, return_sequences=True), Dense(1)]
    )
    fitted(model, x, y, 20)


def test_many_to_many() -> None:
    keras.utils.set_random_seed(3)
    x = np.random.default_rng(0).standard_normal((32, 6, 2))
    model = Sequential([keras.Input((6, 2)), GRU(16, return_sequences=True), Dense(1)])
    fitted(model, x, np.cumsum(x[..., :1], axis=1), 20)


def test_topics() -> None:
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(0)
    topics = rng.integers(0, 3, 60)
    words = rng.integers(1, 10, (60, 12)) + 10 * topics[:, None]
    model = Sequential([Embedding(40, 8, mask_zero=True), LSTM(16), Dense(3, activation="softmax")])
    fitted(model, words, topics, 40, "sparse_categorical_crossentropy")
    assert np.mean(model.predict(words, verbose=0).argmax(axis=1) == topics) > 0.9
