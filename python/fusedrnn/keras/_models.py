"""Whole models: giving their recurrent layers fused classes, or Keras' again, and a report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from ._layers import GRU, LSTM, Fused, SimpleRNN, _prepared

_OURS: dict[type, type] = {
    keras.layers.SimpleRNN: SimpleRNN,
    keras.layers.LSTM: LSTM,
    keras.layers.GRU: GRU,
}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}


class Line(NamedTuple):
    """One recurrent layer of a model.

    Attributes
    ----------
    name : str
        Its name in Keras.
    kind : str
        Its class.
    fused : bool
        Whether the kernels make its calls.
    why : str
        Why not; empty if they do.

    Examples
    --------
    >>> import keras
    >>> import fusedrnn.keras as fk
    >>> model = keras.Sequential([keras.Input((4, 3)), fk.GRU(5, name="gru")])
    >>> fk.report(model)
    [Line(name='gru', kind='GRU', fused=True, why='')]
    """

    name: str
    kind: str
    fused: bool
    why: str


def _recurrent(model: Any) -> Iterator[Any]:
    """Yield the recurrent layers of a model, also those in wrappers and nested models."""
    layers = model._flatten_layers(include_self=True, recursive=True)
    yield from (layer for layer in layers if isinstance(layer, keras.layers.RNN))


def _checked(model: Any) -> None:
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            f"model: expected a model or layer of Keras, got {type(model).__qualname__}"
        )


def accelerate(model: Any) -> Any:
    """Let the kernels compute the recurrent layers of a model, in place.

    Weights, names and everything else stay. Layers of classes that are not Keras' own are left
    alone; so is what the kernels do not compute (see `report`).

    Parameters
    ----------
    model : keras.Model or keras.layers.Layer
        Built or not.

    Returns
    -------
    The same model. A compiled model makes its functions for training and prediction anew; on torch
    and TensorFlow without ``jit_compile=True``, of which Keras warns.

    Raises
    ------
    TypeError
        `model` is not of Keras.

    Examples
    --------
    >>> import keras
    >>> import fusedrnn.keras as fk
    >>> model = keras.Sequential([keras.Input((4, 3)), keras.layers.LSTM(5)])
    >>> [line.fused for line in fk.report(fk.accelerate(model))]
    [True]
    """
    _checked(model)
    for layer in _recurrent(model):
        ours = _OURS.get(type(layer))
        if ours is not None:
            before = (layer.__dict__.get("use_cudnn", "auto"), layer.supports_jit)
            layer.__class__ = ours
            layer.__dict__["_fusedrnn_before"] = before
            _prepared(layer)
    if getattr(model, "_jit_compile", None):
        model.jit_compile = False  # on TensorFlow nothing happens if a value is set again
        model.jit_compile = True  # Keras asks the layers again, and warns if one cannot
        model.__dict__["_fusedrnn_jit"] = not model.jit_compile
    _forget_functions(model)
    return model


def restore(model: Any) -> Any:
    """Give the fused layers of a model Keras' classes again, in place: the inverse of `accelerate`.

    A model needs this before it is saved for a process that does not have fusedrnn, and on
    TensorFlow before it is converted (to ONNX, LiteRT).

    Parameters
    ----------
    model : keras.Model or keras.layers.Layer
        Of any layers.

    Returns
    -------
    The same model.

    Raises
    ------
    TypeError
        `model` is not of Keras.

    Examples
    --------
    >>> import keras
    >>> import fusedrnn.keras as fk
    >>> model = keras.Sequential([keras.Input((4, 3)), fk.LSTM(5)])
    >>> type(fk.restore(model).layers[0]) is keras.layers.LSTM
    True
    """
    _checked(model)
    for layer in _recurrent(model):
        theirs = _THEIRS.get(type(layer))
        if theirs is not None:
            layer.__class__ = theirs
            cudnn, jit = layer.__dict__.pop("_fusedrnn_before", ("auto", True))
            layer.use_cudnn, layer.supports_jit = cudnn, jit
    if model.__dict__.pop("_fusedrnn_jit", False):
        model.jit_compile = True
    _forget_functions(model)
    return model


def _forget_functions(model: Any) -> None:
    """Drop what `fit` and `predict` compiled with the classes of before."""
    for name in ("train_function", "test_function", "predict_function"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)


def report(model: Any, training: bool = False) -> list[Line]:
    """Say of every recurrent layer of a model whether the kernels compute it.

    Parameters
    ----------
    model : keras.Model or keras.layers.Layer
        Of any layers.
    training : bool
        Whether to say it of calls that train: dropout may make a difference.

    Returns
    -------
    list of Line
        In the order of the layers.

    Raises
    ------
    TypeError
        `model` is not of Keras.

    Examples
    --------
    >>> import keras
    >>> import fusedrnn.keras as fk
    >>> report = fk.report(keras.Sequential([keras.layers.GRU(5), fk.LSTM(3, activation="gelu")]))
    >>> [line.why for line in report]
    ["it is Keras' own class: see accelerate", 'the kernels do not have the activation gelu']
    """
    _checked(model)
    found = []
    for layer in _recurrent(model):
        why = "it is Keras' own class: see accelerate"
        if isinstance(layer, Fused):
            job = layer._job(training)
            why = job if isinstance(job, str) else ""
        elif type(layer) not in _OURS:
            why = "it is of another class"
        found.append(Line(layer.name, type(layer).__name__, not why, why))
    return found
