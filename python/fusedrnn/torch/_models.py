"""Whole models: giving their recurrent layers fused classes, or torch's again, and a report."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ._cells import GRUCell, LSTMCell, RNNCell
from ._layers import GRU, LSTM, RNN
from ._module import _PACKS, Fused, torchs_class
from ._options import Options
from ._route import of_tensors

Module = Any

_OURS: dict[type, type] = {
    torch.nn.RNN: RNN,
    torch.nn.LSTM: LSTM,
    torch.nn.GRU: GRU,
    torch.nn.RNNCell: RNNCell,
    torch.nn.LSTMCell: LSTMCell,
    torch.nn.GRUCell: GRUCell,
}
_RECURRENT = (torch.nn.RNNBase, torch.nn.RNNCellBase)


class Line(NamedTuple):
    """One recurrent layer of a model.

    Attributes
    ----------
    name : str
        Its name in the model; empty for the model itself.
    kind : str
        Its class, with the module.
    fused : bool
        Whether the kernels make its calls.
    why : str
        Why not; empty if they do.

    Examples
    --------
    >>> import torch
    >>> import fusedrnn.torch as ft
    >>> line = ft.report(torch.nn.Sequential(ft.GRU(3, 5)))[0]
    >>> line.name, line.kind, line.fused
    ('0', 'fusedrnn.torch.GRU', True)
    """

    name: str
    kind: str
    fused: bool
    why: str


class Report(tuple[Line, ...]):
    """The recurrent layers of a model, one line for each; prints as a table.

    Examples
    --------
    >>> import torch
    >>> import fusedrnn.torch as ft
    >>> report = ft.report(torch.nn.Sequential(ft.LSTM(3, 5)))
    >>> print(report)
    0  fusedrnn.torch.LSTM  fused
    >>> all(line.fused for line in report)
    True
    """

    def __str__(self) -> str:
        rows = [(one.name or "(the model)", one.kind, _said(one)) for one in self]
        if not rows:
            return "no recurrent layers"
        widths = [max(len(row[k]) for row in rows) for k in range(2)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)


def _said(line: Line) -> str:
    head = "fused" if line.fused else "left alone"
    return f"{head}: {line.why}" if line.why else head


def _parametrised(module: Module) -> str:
    """Return the first weight that is not a parameter of its own name; empty if all are."""
    names = getattr(module, "_flat_weights_names", None)
    if names is None:
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    return next((name for name in names if module._parameters.get(name) is None), "")


def _why_not(module: Module) -> str:
    """Say why `accelerate` does not change a recurrent layer; empty if it does."""
    kind = type(module)
    if kind not in _OURS:
        return f"{kind.__module__}.{kind.__qualname__} is a class of its own"
    odd = _parametrised(module)
    return f"{odd} is made by weight_norm, prune or the like" if odd else ""


def accelerate(model: Module) -> Module:
    """Give the recurrent layers of a model the classes of this package, in place.

    Only layers whose class is exactly torch's are changed; parameters, hooks, references and
    optimisers stay as they are. Subclasses and layers with weight_norm, prune or parametrizations
    are left alone; `report` lists them.

    Parameters
    ----------
    model : torch.nn.Module
        It may itself be a recurrent layer.

    Returns
    -------
    torch.nn.Module
        The same object.

    Raises
    ------
    TypeError
        `model` is not a module.

    Examples
    --------
    >>> import torch
    >>> import fusedrnn.torch as ft
    >>> model = torch.nn.ModuleDict({"core": torch.nn.LSTM(3, 5), "head": torch.nn.Linear(5, 1)})
    >>> ft.accelerate(model) is model
    True
    >>> print(ft.report(model))
    core  fusedrnn.torch.LSTM  fused
    """
    for module in _modules(model):
        theirs = isinstance(module, _RECURRENT) and not isinstance(module, Fused)
        if theirs and not _why_not(module):
            object.__setattr__(module, "__class__", _OURS[type(module)])
    return model


def restore(model: Module) -> Module:
    """Give the layers of this package torch's own classes again, in place: undoes `accelerate`.

    Parameters
    ----------
    model : torch.nn.Module
        It may itself be a recurrent layer.

    Returns
    -------
    torch.nn.Module
        The same object.

    Raises
    ------
    TypeError
        `model` is not a module.
    ValueError
        A layer has options that torch's layer does not have; nothing was changed.

    Examples
    --------
    >>> import torch
    >>> import fusedrnn.torch as ft
    >>> model = ft.accelerate(torch.nn.Sequential(torch.nn.LSTM(3, 5)))
    >>> ft.restore(model)
    Sequential(
      (0): LSTM(3, 5)
    )
    >>> type(model[0]) is torch.nn.LSTM
    True
    """
    ours = [m for m in _modules(model) if type(m) in _OURS.values()]
    for module in ours:
        if module._own != Options():
            raise ValueError(
                f"restore: torch's {type(module).__name__} has no {module._own.shown()[2:]}"
            )
    for module in ours:
        module.__dict__.pop(_PACKS, None)
        object.__setattr__(module, "__class__", torchs_class(type(module)))
    return model


def report(model: Module) -> Report:
    """Return what `accelerate` did to a model, or would do, and why not.

    Parameters
    ----------
    model : torch.nn.Module
        It may itself be a recurrent layer.

    Returns
    -------
    Report
        One `Line` for each recurrent layer; ``print`` shows a table.

    Raises
    ------
    TypeError
        `model` is not a module.

    Examples
    --------
    >>> import torch
    >>> import fusedrnn.torch as ft
    >>> model = torch.nn.ModuleDict({"fast": ft.GRU(3, 5), "plain": torch.nn.GRU(3, 5)})
    >>> [(line.name, line.fused) for line in ft.report(model)]
    [('fast', True), ('plain', False)]
    """
    lines = []
    for name, module in _named(model):
        if not isinstance(module, _RECURRENT):
            continue
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        if not isinstance(module, Fused):
            lines.append(Line(name, kind, False, _why_not(module) or "not accelerated"))
            continue
        tensors = list(module.parameters(recurse=False))
        why = of_tensors(tensors, tensors[0].dtype) if tensors else ""
        lines.append(Line(name, kind, not why, f"torch's forward: {why}" if why else ""))
    return Report(lines)


def freeze(model: Module) -> Module:
    """Freeze every layer of this package in a model, as `LSTM.freeze` does; return the model.

    Examples
    --------
    >>> import torch
    >>> import fusedrnn.torch as ft
    >>> model = ft.freeze(torch.nn.Sequential(ft.LSTM(3, 5)).eval())
    >>> with torch.inference_mode():
    ...     y, (h_n, c_n) = model(torch.zeros(20, 4, 3))
    >>> y.shape
    torch.Size([20, 4, 5])
    """
    for module in _modules(model):
        if isinstance(module, Fused):
            module.freeze()
    return model


def unfreeze(model: Module) -> Module:
    """Undo `freeze`; return the model.

    Examples
    --------
    >>> import torch
    >>> import fusedrnn.torch as ft
    >>> model = ft.freeze(torch.nn.Sequential(ft.LSTM(3, 5)))
    >>> model = ft.unfreeze(model)
    >>> y, (h_n, c_n) = model(torch.zeros(20, 4, 3))
    >>> y.sum().backward()  # training goes on
    """
    for module in _modules(model):
        if isinstance(module, Fused):
            module.unfreeze()
    return model


def _modules(model: Module) -> list[Module]:
    return [module for _, module in _named(model)]


def _named(model: Module) -> list[tuple[str, Module]]:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    return list(model.named_modules())
