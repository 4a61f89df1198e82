"""Early stopping: when to end a training run, and the best parameters of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from .._checks import arguments as _check
from .._interrupts import uninterrupted
from . import _checks
from ._best import Best

__all__ = ["EarlyStopping"]

Array = NDArray[Any]


class Restorable(Protocol):
    """A layer or model: parameters that can be copied and put back."""

    def state_dict(self) -> Mapping[str, Array]:
        """Return the parameters by name."""

    def load_state_dict(self, state: Mapping[str, Array]) -> object:
        """Make copies of `state` the parameters."""


class EarlyStopping:
    """Says when to stop, and keeps the best parameters.

    Call `update` once for each epoch with a value that was measured on data that is not trained on.
    Training on does not help any more after `patience` values that are no better than the best one.

    Parameters
    ----------
    patience : int
        Number of values in a row that are no better, after which to stop; at least 1.
    min_delta : float
        A value is better if it passes the best one by more than this, at least 0.
    mode : "min" or "max"
        Whether small values are good, as of a loss, or large ones, as of an accuracy.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    Source: Prechelt, "Early stopping - but when?", in "Neural networks: tricks of the trade",
    Springer 1998. `patience` counts as Keras's EarlyStopping does.

    Examples
    --------
    >>> from fusedrnn import nn
    >>> layer, stopping = nn.Dense(2, 1, seed=0), nn.EarlyStopping(patience=2)
    >>> for epoch, loss in enumerate([3.0, 1.0, 2.0, 2.5, 0.5]):
    ...     with layer.writable() as params:  # an epoch of training
    ...         params["bias"][:] = epoch
    ...     if stopping.update(loss, layer):
    ...         break
    >>> epoch, stopping.best, stopping.best_step
    (3, 1.0, 1)
    >>> stopping.restore(layer)
    >>> layer.params["bias"]
    array([1.], dtype=float32)
    """

    def __init__(self, patience: int = 5, *, min_delta: float = 0.0, mode: str = "min") -> None:
        self._patience = _check.integer(patience, "patience", 1)
        self._best = Best(mode, _checks.not_negative(min_delta, "min_delta"))
        self._steps = 0
        self._best_step: int | None = None
        self._kept: dict[str, Mapping[str, Array]] | None = None

    @property
    def best(self) -> float | None:
        """The best value so far; None before the first one."""
        return self._best.value

    @property
    def best_step(self) -> int | None:
        """The number of updates before that of the best value; None before the first one."""
        return self._best_step

    @property
    def waited(self) -> int:
        """The number of values since the best one."""
        return self._steps if self._best_step is None else self._steps - 1 - self._best_step

    @property
    def should_stop(self) -> bool:
        """Whether `patience` values in a row were no better."""
        return self.waited >= self._patience

    def update(self, value: float, target: object = None) -> bool:
        """Take the value of an epoch; keep a copy of the parameters if it is the best.

        Parameters
        ----------
        value : float
            A value that is not finite is no better than any other.
        target : layer, model, or mapping of names to these, optional
            What has the parameters: objects with ``state_dict()`` and ``load_state_dict(state)``.
            Without it nothing is kept.

        Returns
        -------
        bool
            `should_stop`.

        Raises
        ------
        TypeError
            `value` is not a number, or `target` is something else. Nothing was taken.
        """
        parts = None if target is None else _parts(target)
        if self._best.beaten_by(value):
            self._kept = None if parts is None else _states(parts)
            self._best.take(value)
            self._best_step = self._steps
        self._steps += 1
        return self.should_stop

    def restore(self, target: object) -> None:
        """Give a target the parameters that it had at the best value.

        Parameters
        ----------
        target : layer, model, or mapping of names to these
            As it was given to `update`, or another of the same names and shapes.

        Raises
        ------
        RuntimeError
            Nothing was kept: no value was best, or `update` had no target then.
        TypeError, ValueError
            `target` does not fit what was kept; it was not changed.
        """
        if self._kept is None:
            raise RuntimeError(
                "restore: no parameters were kept; call update(value, target) with the layer or "
                "model"
            )
        parts = _parts(target)
        if set(parts) != set(self._kept):
            raise ValueError(
                f"target: expected {_listed(self._kept)}, as it was kept, got {_listed(parts)}"
            )
        before = _states(parts)
        with uninterrupted():
            try:
                for name, part in parts.items():
                    part.load_state_dict(self._kept[name])
            except BaseException:
                for name, part in parts.items():
                    part.load_state_dict(before[name])
                raise


def _parts(target: object) -> dict[str, Restorable]:
    """Return the layers of a target by name; a single one has the name ""."""
    parts: dict[str, Any] = dict(target) if isinstance(target, Mapping) else {"": target}
    if not parts:
        raise TypeError("target: expected at least one layer or model, got an empty mapping")
    for name, part in parts.items():
        methods = (getattr(part, method, None) for method in ("state_dict", "load_state_dict"))
        if isinstance(part, type) or not all(map(callable, methods)):
            place = "target" if name == "" else f"target[{name!r}]"
            came = f"the class {part.__name__}" if isinstance(part, type) else _check.describe(part)
            raise TypeError(
                f"{place}: expected a layer or model (with state_dict() and load_state_dict(state))"
                f"{', or a mapping of names to these' if name == '' else ''}, "
                f"got {came}"
            )
    return parts


def _states(parts: Mapping[str, Restorable]) -> dict[str, Mapping[str, Array]]:
    """Return copies of all parameters, also of a model whose state_dict() gives the arrays."""
    return {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}


def _listed(parts: Mapping[str, object]) -> str:
    return "one layer or model" if list(parts) == [""] else f"a mapping of {', '.join(parts)}"
