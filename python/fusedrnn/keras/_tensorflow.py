"""The walk on Keras's TensorFlow backend: numpy_function with a custom gradient.

It runs inside tf.function too, and therefore in fit. XLA cannot compile it; the name of the
operation, which XLA's error shows, says what to do.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ._arrays import Call, Packs, again, gradients, run

Tensor = Any
_NAME = "fusedrnn_has_no_XLA_form_call_fusedrnn.keras.restore_first"


def fits(tensors: list[Any], mask: Any) -> bool:
    """Whether these are tensors of one dtype, with the sizes that the kernels need."""
    first = tensors[0]
    return (
        all(t.dtype == first.dtype for t in tensors)
        and first.shape.rank == 3
        and 0 not in first.shape
        and (mask is None or mask.shape.rank == 2)
    )


def walk(
    packs: Packs, call: Call, x: Tensor, states: list[Tensor], weights: list[Tensor], mask: Any
) -> tuple[Tensor, list[Tensor]]:
    """Return the outputs (B, T, H) and the last states (B, H)."""
    x, *states = [tf.identity(t) for t in (x, *states)]  # a variable would want a gradient itself
    weights = [tf.identity(w) for w in weights]
    count, cut = len(states), 1 + len(states)
    masks = [] if mask is None else [tf.cast(mask, tf.bool)]
    hidden, dtype = weights[1].shape[0], x.dtype

    def forward(*given: Any) -> Any:
        given, told = given[: cut + len(weights)], given[cut + len(weights) :]
        y, last, kept = run(
            packs,
            call,
            given[0],
            [*given[1:cut]],
            [*given[cut:]],
            told[0] if told else None,
            saved=True,
        )
        assert kept is not None
        return (y, *last, kept.y, kept.saved)

    def backward(*given: Any) -> Any:
        tensors, rest = given[: cut + len(weights)], given[cut + len(weights) :]
        told, rest = rest[: len(masks)], rest[len(masks) :]
        (y, saved), upstream = rest[:2], rest[2:]
        kept = again(
            packs,
            call,
            tensors[0],
            [*tensors[1:cut]],
            [*tensors[cut:]],
            told[0] if told else None,
            y=y,
            saved=saved,
        )
        dx, dfirst, dweights = gradients(kept, upstream[0], [*upstream[1:]])
        return (dx, *dfirst, *dweights)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def step(*tensors: Tensor) -> Any:
        found = tf.numpy_function(
            forward, [*tensors, *masks], [dtype] * (count + 3), stateful=False, name=_NAME
        )
        *results, y, saved = found
        results[0].set_shape((*x.shape[:2], hidden))
        for state in results[1:]:
            state.set_shape((x.shape[0], hidden))

        def grad(*upstream: Tensor) -> Any:
            given = [*tensors, *masks, y, saved, *upstream]
            grads = tf.numpy_function(
                backward, given, [dtype] * len(tensors), stateful=False, name=_NAME
            )
            for g, t in zip(grads, tensors, strict=True):
                g.set_shape(t.shape)
            return grads

        return results, grad

    outputs, *last = step(x, *states, *weights)
    return outputs, last
