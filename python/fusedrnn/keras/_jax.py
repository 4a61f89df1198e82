"""A walk as an operation of JAX: that of `fusedrnn.jax`, with Keras' weights and masks."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .. import jax as fused
from ._job import IDENTITY, Job

Array = Any


def _rows(a: Array, job: Job) -> Array:
    a = a.T
    if not job.swap:
        return a
    z, r, n = jnp.split(a, 3)
    return jnp.concatenate([r, z, n])


def _weights(job: Job, kernel: Array, recurrent: Array, bias: Array | None) -> dict[str, Array]:
    found = {"w_ih": _rows(kernel, job), "w_hh": _rows(recurrent, job)}
    if bias is not None and bias.ndim == 2:
        found |= {"b_ih": _rows(bias[0], job), "b_hh": _rows(bias[1], job)}
    elif bias is not None:
        found["b_ih"] = _rows(bias, job)
    return found


def walk(
    job: Job,
    x: Array,
    states: list[Array],
    weights: tuple[Array, Array, Array | None],
    mask: Array | None,
    drop: Array | None,
) -> tuple[Array, list[Array]]:
    """Return y (B, T, H) and the last states (B, H)."""
    arrays = _weights(job, *weights)
    given: dict[str, Any] = {"mask": mask, "drop": drop, "batch_first": True}
    if job.kind == "SimpleRNN":
        (usual,) = job.activations
        name = "identity" if usual == IDENTITY else usual
        y, h = fused.rnn(x, arrays, states[0], nonlinearity=name, **given)
        last = [h]
    elif job.kind == "GRU":
        chosen = None if job.options is None else job.activations
        y, h = fused.gru(
            x, arrays, states[0], reset_after=job.reset_after, activations=chosen, **given
        )
        last = [h]
    else:
        chosen = None if job.options is None else job.activations
        y, (h, c) = fused.lstm(x, arrays, tuple(states), activations=chosen, **given)
        last = [h, c]
    if mask is not None and job.repeat:
        steps = jnp.arange(y.shape[1])
        shown = jnp.where(mask, steps, -1)
        shown = jnp.maximum.accumulate(shown, axis=1)
        found = jnp.take_along_axis(y, jnp.maximum(shown, 0)[..., None], axis=1)
        y = jnp.where(shown[..., None] >= 0, found, 0)
    return y, last
