"""A walk as an operation of TensorFlow with a gradient.

`tf.numpy_function` runs it, also inside a `tf.function`. XLA cannot compile it and a SavedModel
cannot hold it, so Keras' loop is what they get.
"""

from __future__ import annotations

import weakref
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record
from tensorflow.python.saved_model import save_context

from . import _walks
from ._job import Job, Weights

Tensor = Any

# The name of the operations, because TensorFlow names them where it can neither run nor convert
# them: in XLA's and LiteRT's errors, and in a process that did not make them.
_NAME = "needs_fusedrnn.keras.restore"


class _Restore:
    """What TensorFlow shows in its error if a function that has the kernels is saved."""

    def __repr__(self) -> str:
        return (
            "fusedrnn.keras: a SavedModel cannot hold the kernels; call "
            "fusedrnn.keras.restore(model) before you trace this function, or save the tf.function"
        )


def refuses(*tensors: Tensor) -> str:
    """Return why a call takes Keras' loop; empty if the kernels compute it."""
    # TensorFlow traces every tf.function anew for a SavedModel.
    if save_context.in_save_context():
        return "it is saved as a SavedModel"
    if tf.__internal__.get_enclosing_xla_context() is not None:
        return "XLA compiles it"
    return ""


@cache
def _untracked() -> tuple[Tensor, _Restore]:
    """Return a resource that belongs to no object, so no function that captures it can be saved."""
    shown = _Restore()
    with tf.init_scope():
        made = tf.raw_ops.VarHandleOp(dtype=tf.bool, shape=(), shared_name=_NAME)
    made._parent_trackable = weakref.ref(shown)
    return made, shown


def _call(function: Any, given: list[Tensor], results: int) -> list[Tensor]:
    """Call a function of NumPy arrays that returns `results` arrays of the first one's dtype."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    if isinstance(graph, tf.__internal__.FuncGraph):
        # A ConcreteFunction is saved as it was traced: it would fail where it is loaded.
        graph.capture(_untracked()[0])
    found: list[Tensor] = tf.numpy_function(function, given, [given[0].dtype] * results, name=_NAME)
    return found


def walk(
    job: Job,
    x: Tensor,
    states: list[Tensor],
    weights: Weights,
    mask: Tensor | None,
    drop: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:
    """Return y (B, T, H) and the last states (B, H)."""
    n = job.states
    units = weights[1].shape[0]
    # Everything that is given, in one list; None does not go through TensorFlow.
    optional = [one for one in (mask, drop) if one is not None]
    # Tensors, because custom_gradient would ask for the gradients of variables apart.
    differentiable = [tf.identity(a) for a in (x, *weights, *states) if a is not None]
    biased = weights[2] is not None
    # A tape that is open says that backward may follow. A tf.function can be differentiated without
    # one, from outside; backward then runs the forward call again.
    save = record.should_record_backprop(differentiable)

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
        out = _walks.forward(job, arrays(list(values)), save=save)
        return [out.y, *out.states, *([out.plain_y, out.saved] if save else [])]

    def back(*values: Any) -> list[Any]:
        inputs, (dy, *dstates) = values[: len(values) - 1 - n], values[len(values) - 1 - n :]
        kept = len(inputs) - (2 if save else 0)
        given = arrays(list(inputs[:kept]))
        if save:
            plain_y, saved = inputs[kept:]
        else:
            out = _walks.forward(job, given, save=True)
            plain_y, saved = out.plain_y, out.saved
        found = _walks.backward(job, given, plain_y, saved, dy, tuple(dstates))
        bias = [found.bias] if biased else []
        return [found.x, found.kernel, found.recurrent, *bias, *found.states]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def operation(*tensors: Tensor) -> Any:
        given = [*tensors, *optional]
        y, *rest = _call(run, given, 1 + n + (2 if save else 0))
        last, residuals = rest[:n], rest[n:]
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
            found = _call(back, [*given, *residuals, *douts], len(tensors))
            for one, of in zip(found, tensors, strict=True):
                one.set_shape(of.shape)
            return list(found), twice

        return (y, *last), gradient

    y, *last = operation(*differentiable)
    return y, last
