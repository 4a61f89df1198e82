"""What a model is trained for: its optimiser, loss and metrics, by name or as objects."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._checks import arguments as _check
from . import _rows
from . import metrics as _metrics
from ._batches import Batch, Weight
from ._optimizer import Optimizer
from .losses import Loss, binary_cross_entropy, mae, mse, softmax_cross_entropy
from .optim import SGD, Adam, AdamW, RMSprop

__all__ = ["Means", "Objective", "objective", "optimizer"]

Array = NDArray[Any]

OPTIMIZERS: dict[str, Callable[[], Optimizer[Any]]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSprop,
}
LOSSES: dict[str, Callable[..., Loss]] = {
    "mse": mse,
    "mae": mae,
    "softmax_cross_entropy": softmax_cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
}
METRICS: dict[str, Callable[..., float | Loss]] = {
    "accuracy": _metrics.accuracy,
    "mse": mse,
    "mae": mae,
}
# What the losses and metrics of this room compare with a prediction (..., V): the class of each
# row, or a number for each element.
OF_CLASSES = (softmax_cross_entropy, _metrics.accuracy, _metrics.balanced_accuracy)
OF_NUMBERS = (mse, mae, binary_cross_entropy, _metrics.r2)
# Metrics that follow from the mean loss.
OF_LOSS: dict[str, Callable[[float], float]] = {
    "perplexity": _metrics.perplexity,
    "bits_per_character": _metrics.bits_per_character,
}
# The metric that follows from counts of classes. A mean over batches would be another number,
# because a batch may lack a class.
BALANCED = "balanced_accuracy"
NO_COUNTS = np.zeros((2, 0))
NO_WEIGHT = Weight(0, 0)


class Objective(NamedTuple):
    """A loss, and the metrics by name."""

    loss: Callable[..., Loss]
    metrics: dict[str, Callable[..., float | Loss]]
    of_sums: tuple[str, ...]  # the names of metrics in `OF_LOSS`, and `BALANCED`

    @property
    def measures(self) -> list[str]:
        """The names of the values that are measured on each batch."""
        return ["loss", *self.metrics]

    @property
    def names(self) -> list[str]:
        """The names of all values."""
        return ["loss", *self.metrics, *self.of_sums]

    def of(self, y: Array, batch: Batch) -> Loss:
        """Return the loss of a batch."""
        weights = {} if batch.weights is None else {"weights": batch.weights}
        loss = self.loss(y, batch.targets, **_options(batch.lengths), **weights)
        if not isinstance(loss, Loss):
            raise TypeError(f"loss: expected a function that returns a Loss, got {loss!r}")
        return loss

    def checked(
        self,
        y: Array,
        lengths: Array | None,
        weights: Array | None,
        shape: tuple[int, ...],
        name: str,
    ) -> Array:
        """Return all targets in the shape in which they are compared with an output of `shape`.

        Targets that a loss or metric would refuse are refused here by their place in all of y: it
        sees a batch, maybe after many updates, and knows only places in that.
        """
        loss, options = _parted(self.loss)
        if loss in OF_NUMBERS and shape[-1] == 1 and y.shape == shape[:-1]:
            y = y[..., None]
        _fits(loss, y, shape, name)
        for metric, one in self.metrics.items():
            _fits(_parted(one)[0], y, shape, f"{name} for the metric {metric!r}")
        if BALANCED in self.of_sums and loss is not binary_cross_entropy:
            _fits(_metrics.balanced_accuracy, y, shape, f"{name} for the metric {BALANCED!r}")
        counted = None if lengths is None else np.arange(y.shape[1]) < lengths[:, None]
        if weights is not None:
            weighed = _rows.under(weights > 0, y.shape if counted is None else counted.shape)
            counted = weighed if counted is None else counted & weighed
        if loss is softmax_cross_entropy:
            ignored = options.get("ignore_index")
            if ignored is not None:
                unlike = y != _check.integer(ignored, "ignore_index", -(2**63))
                counted = unlike if counted is None else counted & unlike
            _rows.in_range(y, counted, shape[-1], name)
        elif loss is binary_cross_entropy:
            _rows.in_unit(y, counted, name)
        return y

    def measured(self, y: Array, batch: Batch) -> tuple[Loss, dict[str, float], Array]:
        """Return the loss of a batch, its values by name, and its counts of classes."""
        targets, options = batch.targets, _options(batch.lengths)
        loss = self.of(y, batch)
        values = {"loss": loss.value}
        for name, metric in self.metrics.items():
            found = metric(y, targets, **options)
            found = found.value if isinstance(found, Loss) else found
            try:
                values[name] = float(found)
            except (TypeError, ValueError):
                raise TypeError(
                    f"metrics: expected a function that returns a number, got {name!r}, which "
                    f"returns {_check.describe(found)}"
                ) from None
        counts = NO_COUNTS
        if BALANCED in self.of_sums:
            classes = y.shape[-1] if y.ndim else 0
            if _parted(self.loss)[0] is binary_cross_entropy:
                y, targets, classes = *_answers(y, targets), 2
            counts = _metrics.counts_of_classes(y, targets, classes=classes, **options)
        return loss, values, counts


def _options(lengths: Array | None) -> dict[str, Any]:
    """Return the keywords of losses and metrics for targets of each step."""
    return {} if lengths is None else {"lengths": lengths, "batch_first": True}


class Means:
    """Means over batches, each with the weight of what counts in it, and sums of their counts."""

    def __init__(
        self,
        sums: Mapping[str, float] | None = None,
        weight: Weight = NO_WEIGHT,
        counts: Array = NO_COUNTS,
    ) -> None:
        self.sums = dict(sums or {})  # each value times its weight
        self.weight = weight
        self.counts = counts

    def add(self, values: Mapping[str, float], weight: Weight, counts: Array) -> None:
        """Add a batch."""
        self.counts = self.counts + counts if self.counts.size else counts
        self.weight = Weight(self.weight.loss + weight.loss, self.weight.metrics + weight.metrics)
        for name, value in values.items():
            if weight.of(name):
                self.sums[name] = self.sums.get(name, 0.0) + value * weight.of(name)

    def values(self, names: list[str]) -> dict[str, float]:
        """Return the values of an objective by name; NaN if nothing counted."""
        found = dict.fromkeys(names, math.nan)
        for name in names:
            weight = self.weight.of(name)
            if name in self.sums:
                found[name] = self.sums[name] / weight if weight else math.nan
            elif weight and name in OF_LOSS:
                found[name] = OF_LOSS[name](found["loss"])
            elif weight and name == BALANCED:
                found[name] = _metrics.balanced(self.counts)
        return found


def _parted(one: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return a loss or metric, and the options that functools.partial gave it."""
    return (one.func, one.keywords) if isinstance(one, functools.partial) else (one, {})


def _fits(function: object, y: Array, shape: tuple[int, ...], name: str) -> None:
    """Refuse targets that a loss or metric cannot compare with an output of this shape."""
    if function in OF_CLASSES:
        if y.dtype.kind == "b" and function is not softmax_cross_entropy:
            y = y.astype(np.int8)
        _rows.classes_of_rows(y, shape[:-1], shape[-1], "the output", name)
    elif function in OF_NUMBERS:
        _rows.numbers_like(y, shape, "the output", name)


def of_logits(aim: Objective, squashing: str) -> None:
    """Refuse a loss that takes the softmax or sigmoid once more.

    Such a model trains, but slowly, and no logit is below 0, so that its accuracy means nothing.
    """
    loss, _ = _parted(aim.loss)
    if squashing in ("softmax", "sigmoid") and loss in (
        softmax_cross_entropy,
        binary_cross_entropy,
    ):
        raise ValueError(
            f"loss: {loss.__name__} reads logits, and the last layer is Activation({squashing!r}); "
            "leave that layer out, and apply it to what the trained model gives"
        )


def optimizer(value: object) -> Optimizer[Any]:
    """Return an optimiser, by name or as it is."""
    if isinstance(value, str):
        return OPTIMIZERS[_check.choice(value, "optimizer", tuple(OPTIMIZERS))]()
    if not isinstance(value, Optimizer):
        came = f"the class {value.__name__}" if isinstance(value, type) else _check.describe(value)
        raise TypeError(
            f"optimizer: expected an optimiser such as nn.Adam(1e-3), or one of "
            f"{', '.join(OPTIMIZERS)}, got {came}"
        )
    return value


def objective(loss: object, metrics: object) -> Objective:
    """Return a loss and metrics, by name or as functions."""
    if isinstance(loss, str):
        loss = LOSSES[_check.choice(loss, "loss", tuple(LOSSES))]
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(
            f"loss: expected one of {', '.join(LOSSES)}, or a function like them, got "
            f"{_check.describe(loss)}"
        )
    if isinstance(metrics, str) or callable(metrics):
        metrics = (metrics,)
    if not isinstance(metrics, (list, tuple)):
        raise TypeError(f"metrics: expected a list, got {_check.describe(metrics)}")
    of, _ = _parted(loss)
    functions: dict[str, Callable[..., float | Loss]] = {}
    of_sums = []
    for k, one in enumerate(metrics):
        place = f"metrics[{k}]"
        if isinstance(one, str):
            _check.choice(one, place, (*METRICS, BALANCED, *OF_LOSS))
        elif not callable(one):
            raise TypeError(f"{place}: expected a name or a function, got {_check.describe(one)}")
        name = one if isinstance(one, str) else getattr(one, "__name__", place)
        if name in functions or name in of_sums or name == "loss":
            raise ValueError(f"{place}: {name!r} is there already")
        if of in (mse, mae) and (name == BALANCED or METRICS.get(name, one) in OF_CLASSES):
            raise ValueError(
                f"{place}: {name!r} needs classes, and {of.__name__} compares numbers; metrics of "
                "a regression are 'mse' and 'mae'"
            )
        if one in (*OF_LOSS, BALANCED, _metrics.balanced_accuracy):
            of_sums.append(name)
        elif name == "accuracy" and of is binary_cross_entropy:
            functions[name] = _accuracy_of_answers
        else:
            functions[name] = METRICS[one] if isinstance(one, str) else one
    return Objective(loss, functions, tuple(of_sums))


def _answers(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Return answers and right answers to questions of yes or no, of which each is an element."""
    found, wanted = logits > 0, np.asarray(targets) > 0.5
    if found.shape[-1:] == (1,) and found.shape == wanted.shape:
        found, wanted = found[..., 0], wanted[..., 0]
    return found, wanted


def _accuracy_of_answers(logits: Array, targets: Array, **options: Any) -> float:
    return _metrics.accuracy(*_answers(logits, targets), **options)
