"""Keras 3's layers on the backend that KERAS_BACKEND names: torch or jax. Batch-major."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from bench.cases import KEYS, Array, Case
from bench.rivals import Prepared
from fusedrnn import weights as formats

KINDS: Mapping[str, Any] = {
    "RNN": keras.layers.SimpleRNN,
    "LSTM": keras.layers.LSTM,
    "GRU": keras.layers.GRU,
    "GRU reset before": partial(keras.layers.GRU, reset_after=False),
}


def versions() -> dict[str, str]:
    backend = keras.backend.backend()
    return {"keras": keras.__version__, backend: importlib.import_module(backend).__version__}


def refuses(case: Case) -> str:
    if case.cell not in KINDS:
        return "no such cell"
    if case.mode in ("step", "changed", "function"):
        return "no stream, and no call without its weights"
    if case.training:
        return "its training step is that of fit, which does more"
    if case.data == "lengths":
        return "masks cost it more than padding"
    return "" if case.dtype == "float32" else "float32 only here"


def prepare(case: Case, weights: Mapping[str, Array]) -> Prepared:
    layer = KINDS[case.cell](case.hidden_size, return_sequences=True)
    layer.build((case.batch, case.steps, case.input_size))
    layer.set_weights(formats.to_keras(weights, KEYS[case.cell]))
    x, dy = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in (case.x(), case.dy()))
    call = BACKENDS[keras.backend.backend()](case, layer, x, dy)

    def read(result: Any) -> dict[str, Array]:
        y, gradients = result
        found = {"y": _array(y).swapaxes(0, 1)}
        if gradients:
            dx, *parts = map(_array, gradients)
            dweights = formats.from_keras(parts, KEYS[case.cell])
            found["dx"] = dx.swapaxes(0, 1)
            found |= {f"d{name}": a for name, a in dweights.items() if "weight" in name}
        return found

    return Prepared(call, read)


def _array(value: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(value))


def _on_torch(case: Case, layer: Any, x: Array, dy: Array) -> Callable[[], Any]:
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(case.threads)
    tensor, gradient = torch.from_numpy(x), torch.from_numpy(dy)
    leaves = [tensor, *(variable.value for variable in layer.trainable_variables)]

    def inference() -> Any:
        with torch.inference_mode():
            return layer(tensor), ()

    def training() -> Any:
        y = layer(tensor)
        return y, torch.autograd.grad(y, leaves, gradient)

    tensor.requires_grad_(case.training)
    return training if case.training else inference


def _on_jax(case: Case, layer: Any, x: Array, dy: Array) -> Callable[[], Any]:
    jax: Any = importlib.import_module("jax")
    jax.clear_caches()
    fixed = [variable.value for variable in layer.non_trainable_variables]
    weights = [variable.value for variable in layer.trainable_variables]
    x, dy = jax.numpy.asarray(x), jax.numpy.asarray(dy)

    def run(weights: Any, x: Any) -> Any:
        return layer.stateless_call(weights, fixed, x)[0]

    def both(weights: Any, x: Any, dy: Any) -> Any:
        y, back = jax.vjp(run, weights, x)
        dweights, dx = back(dy)
        return y, (dx, *dweights)

    inference, training = jax.jit(run), jax.jit(both)
    if case.training:
        return lambda: jax.block_until_ready(training(weights, x, dy))
    return lambda: (jax.block_until_ready(inference(weights, x)), ())


BACKENDS = {"torch": _on_torch, "jax": _on_jax}
