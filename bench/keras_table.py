"""fusedrnn.keras beside Keras' own layers, on the backend that KERAS_BACKEND names.

    KERAS_BACKEND=jax python bench/keras_table.py

The two take turns on the same weights; a number is the median of many calls, in milliseconds.
`predict_on_batch` and `train_on_batch` are compiled by XLA only on JAX, where that is Keras'
default. Run it on an idle machine.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

import fusedrnn.keras as fk
from fusedrnn import core

BATCH, STEPS, INPUTS, UNITS = 32, 50, 32, 128
ROUNDS, SECONDS = 9, 0.5

Runs = dict[str, Callable[[], Any]]


def model_of(place: Any) -> Any:
    """Return a compiled model of one LSTM and one output."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((STEPS, INPUTS)), place.LSTM(UNITS), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse", jit_compile=keras.backend.backend() == "jax")
    return model


def runs_of(place: Any) -> Runs:
    """Return the calls to time, by name, as functions without arguments."""
    backend, model = keras.backend.backend(), model_of(place)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, STEPS, INPUTS)).astype("float32")
    y = np.zeros((BATCH, 1), "float32")
    tensor = keras.ops.convert_to_tensor(x)
    found: Runs = {"eager call": lambda: keras.ops.convert_to_numpy(model(tensor))}
    if backend != "numpy":
        found["predict_on_batch"] = partial(model.predict_on_batch, x)
        found["train_on_batch"] = partial(model.train_on_batch, x, y)
    return found


def timed(run: Callable[[], Any]) -> list[float]:
    """Return the milliseconds of calls that fill a time, at least two."""
    found: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(found) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) * 1e3)
    return found


def main() -> None:
    """Print the table."""
    backend = keras.backend.backend()
    theirs, ours = runs_of(keras.layers), runs_of(fk)
    load = os.getloadavg()[0]
    print(f"Keras {keras.__version__} on {backend}, {os.cpu_count()} cores, load {load:.1f}")
    print("| Call | Keras, ms | here, ms | |\n|---|---:|---:|---:|")
    for name in theirs:
        times: dict[str, list[float]] = {"theirs": [], "ours": []}
        for of in (theirs, ours):
            of[name]()  # compiles
        for _ in range(ROUNDS):
            times["theirs"] += timed(theirs[name])
            before = sum(core.path_counts().values())
            times["ours"] += timed(ours[name])
            assert sum(core.path_counts().values()) > before, "the kernels were not called"
        a, b = (statistics.median(times[key]) for key in ("theirs", "ours"))
        print(f"| {name} | {a:.1f} | {b:.1f} | {a / b:.1f}x |")


if __name__ == "__main__":
    main()
