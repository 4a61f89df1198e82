"""A walk as an operation of TensorFlow with a gradient.

`tf.numpy_function` runs it, also inside a `tf.function`; XLA does not compile it, and a SavedModel
does not hold it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from . import _walks
from ._job import Job, Weights

Tensor = Any


def walk(
    job: Job,
    x: Tensor,
    states: list[Tensor],
    weights: Weights,
    mask: Tensor | None,
    drop: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:
    """Return y (B, T, H) and the last states (B, H)."""
    n, dtype = job.states, x.dtype
    units = weights[1].shape[0]
    # Everything that is given, in one list; None does not go through TensorFlow.
    optional = [one for one in (mask, drop) if one is not None]
    # Tensors, because custom_gradient would ask for the gradients of variables apart.
    differentiable = [tf.identity(a) for a in (x, *weights, *states) if a is not None]
    biased = weights[2] is not None

    def arrays(values: list[Any]) -> _walks.Arrays:
        values = [np.asarray(v) for v in values]
        head = 4 if biased else 3
        rest = values[head + n :]
        return _walks.Arrays(
            values[0],
            tuple(values[head : head + n]),
            values[1],
            values[2],
            values[3] if biased else None,
            rest.pop(0) if mask is not None else None,
            rest.pop(0) if drop is not None else None,
        )

    def run(*values: Any) -> list[Any]:
        out = _walks.forward(job, arrays(list(values)), save=True)
        return [out.y, *out.states, out.plain_y, out.saved]

    def back(*values: Any) -> list[Any]:
        given = arrays(list(values[: len(values) - 3 - n]))
        plain_y, saved, dy, *dstates = values[len(values) - 3 - n :]
        found = _walks.backward(job, given, plain_y, saved, dy, tuple(dstates))
        bias = [found.bias] if biased else []
        return [found.x, found.kernel, found.recurrent, *bias, *found.states]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def operation(*tensors: Tensor) -> Any:
        given = [*tensors, *optional]
        y, *rest = tf.numpy_function(run, given, [dtype] * (3 + n))
        last, (plain_y, saved) = rest[:n], rest[n:]
        y.set_shape((*x.shape[:2], units))
        for state in last:
            state.set_shape((x.shape[0], units))

        def twice(*_: Tensor) -> Any:
            raise NotImplementedError(
                "fusedrnn.keras has no second derivative on TensorFlow: "
                "call fusedrnn.keras.restore(model) first"
            )

        # Without this TensorFlow would leave the second derivative out of a sum, silently.
        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def gradient(*douts: Tensor) -> Any:
            found = tf.numpy_function(
                back, [*given, plain_y, saved, *douts], [dtype] * len(tensors)
            )
            for one, of in zip(found, tensors, strict=True):
                one.set_shape(of.shape)
            return list(found), twice

        return (y, *last), gradient

    y, *last = operation(*differentiable)
    return y, last
