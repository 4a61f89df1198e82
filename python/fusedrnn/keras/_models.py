"""Whole models: giving their recurrent layers fused classes, or Keras's again, and a report."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from . import _route
from ._layers import _PACKS, GRU, LSTM, Fused, SimpleRNN, _take_over

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
        Its name.
    kind : str
        Its class, with the module.
    fused : bool
        Whether the kernels make its calls.
    why : str
        Why not, or which calls the parent makes; empty if the kernels make all.

    Examples
    --------
    >>> import fusedrnn.keras as fk
    >>> line = fk.report(fk.GRU(3, name="core"))[0]
    >>> line.name, line.fused, line.why
    ('core', True, '')
    """

    name: str
    kind: str
    fused: bool
    why: str


class Report(tuple[Line, ...]):
    """The recurrent layers of a model, one line for each; prints as a table.

    Examples
    --------
    >>> import fusedrnn.keras as fk
    >>> print(fk.report(fk.LSTM(3, name="core")))
    core  fusedrnn.keras.LSTM  fused
    """

    def __str__(self) -> str:
        if not self:
            return "no recurrent layers"
        wide = [max(len(one[k]) for one in self) for k in range(2)]  # type: ignore[arg-type]
        return "\n".join(
            f"{one.name:<{wide[0]}}  {one.kind:<{wide[1]}}  "
            + ("fused" if one.fused else "left alone")
            + (f": {one.why}" if one.why else "")
            for one in self
        )


def _layers(model: Any) -> list[Any]:
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(f"model: expected a Keras layer or model, got {type(model).__name__}")
    return list(model._flatten_layers())


def _forget_functions(model: Any) -> None:
    """Make a model build its train, test and predict functions anew: they hold what was traced."""
    for name in ("train_function", "test_function", "predict_function"):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)


def accelerate(model: Any) -> Any:
    """Give the recurrent layers of a model the classes of this package, in place.

    Only layers whose class is exactly Keras's are changed; the weights and the optimizer stay as
    they are. Other classes are left alone; `report` lists them.

    Parameters
    ----------
    model : keras.Model or keras.layers.Layer
        It may itself be a recurrent layer.

    Returns
    -------
    keras.Model or keras.layers.Layer
        The same object.

    Raises
    ------
    TypeError
        `model` is neither.

    Examples
    --------
    >>> import keras
    >>> import fusedrnn.keras as fk
    >>> model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4, name="core")])
    >>> print(fk.report(fk.accelerate(model)))
    core  fusedrnn.keras.LSTM  fused
    """
    for layer in _layers(model):
        ours = _OURS.get(type(layer))
        if ours is not None:
            object.__setattr__(layer, "__class__", ours)
            _take_over(layer)
        _forget_functions(layer)
    return model


def restore(model: Any) -> Any:
    """Give the layers of this package Keras's own classes again, in place: undoes `accelerate`.

    A model that is saved afterwards loads where fusedrnn is not installed.

    Parameters
    ----------
    model : keras.Model or keras.layers.Layer
        It may itself be a recurrent layer.

    Returns
    -------
    keras.Model or keras.layers.Layer
        The same object.

    Raises
    ------
    TypeError
        `model` is neither.

    Examples
    --------
    >>> import keras
    >>> import fusedrnn.keras as fk
    >>> type(fk.restore(fk.LSTM(4))) is keras.layers.LSTM
    True
    """
    for layer in _layers(model):
        theirs = _THEIRS.get(type(layer))
        if theirs is not None:
            layer.__dict__.pop(_PACKS, None)
            object.__setattr__(layer, "__class__", theirs)
            if getattr(layer, "use_cudnn", None) is False:
                layer.use_cudnn = "auto"
            layer.supports_jit = True  # Keras's LSTM and GRU set False themselves if they need to
        _forget_functions(layer)
    return model


def report(model: Any) -> Report:
    """Return what `accelerate` did to a model, or would do, and why not.

    Parameters
    ----------
    model : keras.Model or keras.layers.Layer
        It may itself be a recurrent layer.

    Returns
    -------
    Report
        One `Line` for each recurrent layer; ``print`` shows a table.

    Raises
    ------
    TypeError
        `model` is neither.

    Examples
    --------
    >>> import keras
    >>> import fusedrnn.keras as fk
    >>> [(line.fused, line.why) for line in fk.report(keras.layers.GRU(3))]
    [(False, 'not accelerated')]
    """
    lines = []
    for layer in _layers(model):
        if not isinstance(layer, keras.layers.RNN):
            continue
        kind = type(layer)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if not isinstance(layer, Fused):
            why = "not accelerated" if kind in _OURS else f"{name} is a class of its own"
            lines.append(Line(layer.name, name, False, why))
            continue
        why = _route.of_layer(layer)
        if why:
            lines.append(Line(layer.name, name, False, f"Keras's walk: {why}"))
            continue
        why = _route.of_dropout(layer, True)
        lines.append(Line(layer.name, name, True, f"except in training: {why}" if why else ""))
    return Report(lines)
