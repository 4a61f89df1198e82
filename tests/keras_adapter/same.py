"""Layers and models of Keras and ours, with the same weights, and what tests compare."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import fusedrnn.keras as fk
from fusedrnn import core

BACKEND = keras.backend.backend()
KINDS = ("SimpleRNN", "LSTM", "GRU")
Array = np.ndarray[Any, np.dtype[Any]]


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


X = numbers(3, 7, 4)
MASK = np.random.default_rng(1).random((3, 7)) < 0.6
RIGHT_PADDED = np.arange(7) < np.array([[7], [3], [0]])


def calls() -> int:
    return sum(n for path, n in core.path_counts().items() if path.backend == "native")


def pair(kind: str, **options: Any) -> tuple[Any, Any]:
    """Keras' layer and ours, with the same weights."""
    layers = [getattr(place, kind)(5, **options) for place in (keras.layers, fk)]
    for layer in layers:
        layer.build(X.shape)
    weights = [numbers(*w.shape, seed=k) * 0.4 for k, w in enumerate(layers[0].get_weights())]
    for layer in layers:
        layer.set_weights(weights)
    return layers[0], layers[1]


def shown(outputs: Any) -> list[Array]:
    flat = keras.tree.flatten(outputs)
    return [keras.ops.convert_to_numpy(a) for a in flat]


def same(found: Any, right: Any, bound: float = 2e-6) -> None:
    for a, b in zip(shown(found), shown(right), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert np.abs(a - b).max(initial=0) <= bound


def model_of(place: Any, **options: Any) -> Any:
    """Two recurrent layers under an Embedding with masks."""
    return keras.Sequential(
        [
            keras.Input((7,)),
            keras.layers.Embedding(11, 6, mask_zero=True),
            keras.layers.Bidirectional(place.LSTM(5, return_sequences=True, **options)),
            place.GRU(4, return_sequences=True, **options),
            place.SimpleRNN(3, **options),
            keras.layers.Dense(1),
        ]
    )


IDS = np.random.default_rng(2).integers(0, 11, (12, 7))
TARGETS = numbers(12, 1, seed=3)
