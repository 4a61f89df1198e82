"""A walk as an operation of JAX: that of `fusedrnn.jax`, with Keras' weights and masks."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from .. import jax as fused
from ._job import IDENTITY, Job, Weights
from ._walks import core_weights, repeated

Array = Any


def walk(
    job: Job,
    x: Array,
    states: list[Array],
    weights: Weights,
    mask: Array | None,
    drop: Array | None,
) -> tuple[Array, list[Array]]:
    """Return y (B, T, H) and the last states (B, H)."""
    arrays = core_weights(job, *weights, jnp)
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
        y = repeated(y, mask, jnp)
    return y, last
