"""Learning rates that change during training.

A schedule is a function of the step, ``optimizer.lr = schedule(step)``, and has no state, so a run
that is continued needs only its step. A step is an update or an epoch, as the caller counts them;
the first one is step 0. `ReduceOnPlateau` is a function of what a run reports instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .._checks import arguments as _check
from . import _checks
from ._best import Best

__all__ = ["Constant", "Cosine", "Exponential", "ReduceOnPlateau", "Schedule", "StepDecay"]


class Schedule:
    """The base of all schedules that are functions of the step.

    Examples
    --------
    >>> from fusedrnn.nn import schedules
    >>> isinstance(schedules.Constant(0.1), schedules.Schedule)
    True
    """

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            Number of steps that came before, at least 0.

        Returns
        -------
        float
            The learning rate.

        Raises
        ------
        TypeError, ValueError
            `step` is not a whole number of at least 0.
        """
        return self._rate(_check.integer(step, "step", 0))

    def _rate(self, step: int) -> float:
        raise NotImplementedError

    def _checked(self, **values: object) -> None:
        """Replace fields by their checked values, in spite of the freeze."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same learning rate in every step.

    Parameters
    ----------
    lr : float
        Learning rate, at least 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> from fusedrnn.nn import schedules
    >>> schedules.Constant(0.1)(7)
    0.1
    """

    lr: float

    def __post_init__(self) -> None:
        self._checked(lr=_checks.not_negative(self.lr, "lr"))

    def _rate(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class StepDecay(Schedule):
    """The learning rate is multiplied by a factor after every so many steps.

    lr * factor ** (step // every), as torch.optim.lr_scheduler.StepLR.

    Parameters
    ----------
    lr : float
        First learning rate, at least 0.
    every : int
        Number of steps between two changes, at least 1.
    factor : float
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> from fusedrnn.nn import schedules
    >>> schedule = schedules.StepDecay(1.0, every=2, factor=0.5)
    >>> [schedule(step) for step in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    lr: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        self._checked(
            lr=_checks.not_negative(self.lr, "lr"),
            every=_check.integer(self.every, "every", 1),
            factor=_checks.share(self.factor, "factor"),
        )

    def _rate(self, step: int) -> float:
        return float(self.lr * self.factor ** (step // self.every))


@dataclass(frozen=True)
class Exponential(Schedule):
    """The learning rate is multiplied by a factor after every step.

    lr * factor ** step, as torch.optim.lr_scheduler.ExponentialLR.

    Parameters
    ----------
    lr : float
        First learning rate, at least 0.
    factor : float
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> from fusedrnn.nn import schedules
    >>> schedule = schedules.Exponential(1.0, factor=0.5)
    >>> [schedule(step) for step in range(3)]
    [1.0, 0.5, 0.25]
    """

    lr: float
    factor: float

    def __post_init__(self) -> None:
        self._checked(
            lr=_checks.not_negative(self.lr, "lr"), factor=_checks.share(self.factor, "factor")
        )

    def _rate(self, step: int) -> float:
        return float(self.lr * self.factor**step)


@dataclass(frozen=True)
class Cosine(Schedule):
    """The learning rate rises in a line, and then falls along half a cosine.

    In the warm-up it is lr * (step + 1) / warmup. After it, with t = (step - warmup) / (steps -
    warmup), it is final + (lr - final) * (1 + cos(pi t)) / 2; from step `steps` on it is `final`.

    Parameters
    ----------
    lr : float
        Highest learning rate, at least 0; that of the last step of the warm-up, and of the next.
    steps : int
        Number of steps in all, with the warm-up, at least 1.
    warmup : int
        Number of steps of the warm-up, at least 0 and below `steps`. The running means of Adam are
        poor estimates in its first steps, and a large step along them can spoil a model.
    final : float
        Last learning rate, at least 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Notes
    -----
    Sources: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR
    2017, without the restarts; Goyal et al., "Accurate, large minibatch SGD", 2017, for the
    warm-up. In torch: LinearLR(start_factor=1/warmup, total_iters=warmup-1), and then
    CosineAnnealingLR(T_max=steps-warmup, eta_min=final).

    Examples
    --------
    >>> from fusedrnn.nn import schedules
    >>> schedule = schedules.Cosine(1.0, steps=6, warmup=2)
    >>> [round(schedule(step), 3) for step in range(8)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    lr: float
    steps: int
    warmup: int = field(default=0, kw_only=True)
    final: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        self._checked(
            lr=_checks.not_negative(self.lr, "lr"),
            steps=_check.integer(self.steps, "steps", 1),
            warmup=_check.integer(self.warmup, "warmup", 0),
            final=_checks.not_negative(self.final, "final"),
        )
        if self.warmup >= self.steps:
            raise ValueError(f"warmup: expected less than steps={self.steps}, got {self.warmup}")

    def _rate(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if step >= self.steps:
            return self.final
        done = (step - self.warmup) / (self.steps - self.warmup)
        return self.final + (self.lr - self.final) * (1.0 + math.cos(math.pi * done)) / 2.0


class ReduceOnPlateau:
    """The learning rate is multiplied by a factor when a value has stopped improving.

    Call it once for each epoch with the value, for example the validation loss:
    ``optimizer.lr = schedule(value)``. As torch.optim.lr_scheduler.ReduceLROnPlateau with its
    defaults; its eps and threshold_mode="abs" are not offered. A share of a negative value is here
    a share of its size, while torch takes values for better that are worse by less than it.

    Parameters
    ----------
    lr : float
        First learning rate, at least 0.
    mode : "min" or "max"
        Whether small values are good, as of a loss, or large ones, as of an accuracy.
    factor : float
        In [0, 1).
    patience : int
        Number of values in a row that may be no better, at least 0; one more reduces the rate.
    threshold : float
        A value is better if it passes the best one by more than this share of it, at least 0.
    cooldown : int
        Number of values after a reduction that are not counted, at least 0.
    min_lr : float
        Lowest learning rate, at least 0.

    Attributes
    ----------
    lr : float
        The present learning rate.
    best : float or None
        The best value so far.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above.

    Examples
    --------
    >>> from fusedrnn.nn import schedules
    >>> schedule = schedules.ReduceOnPlateau(1.0, factor=0.5, patience=1)
    >>> [schedule(loss) for loss in (3.0, 2.0, 2.0, 2.0, 1.0)]
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    def __init__(
        self,
        lr: float,
        *,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.lr = _checks.not_negative(lr, "lr")
        self._factor = _checks.decay(factor, "factor")
        self._patience = _check.integer(patience, "patience", 0)
        threshold = _checks.not_negative(threshold, "threshold")
        self._best = Best(mode, threshold, relative=True)
        self._cooldown = _check.integer(cooldown, "cooldown", 0)
        self._min_lr = _checks.not_negative(min_lr, "min_lr")
        self._waited = 0  # values since the best one, or since the rate was reduced
        self._cooling = 0  # values that will not be counted

    @property
    def best(self) -> float | None:
        """The best value so far."""
        return self._best.value

    def __call__(self, value: float) -> float:
        """Take the value of an epoch; return the learning rate of the next one.

        Parameters
        ----------
        value : float
            A value that is not finite is no better than any other.

        Returns
        -------
        float
            The learning rate.

        Raises
        ------
        TypeError
            `value` is not a number.
        """
        better = self._best.take(value)
        self._waited = 0 if better else self._waited + 1
        if self._cooling > 0:
            self._cooling -= 1
            self._waited = 0
        if self._waited > self._patience:
            self.lr = min(self.lr, max(self.lr * self._factor, self._min_lr))
            self._cooling = self._cooldown
            self._waited = 0
        return self.lr
