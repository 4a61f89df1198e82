"""The training of a model: epochs, the best of them, and what a run that goes on needs."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from .._layers.params import StateDict
from . import _checkpoint
from ._batches import Data, batches
from ._objective import Means, Objective
from ._optimizer import Optimizer
from ._plan import Plan
from ._progress import shown
from ._stops import Stops
from .clipping import clip_global_norm
from .schedules import ReduceOnPlateau
from .stopping import EarlyStopping

if TYPE_CHECKING:
    from .sequential import Sequential

__all__ = ["History", "Training", "evaluated", "predicted"]

Array = NDArray[Any]

EARLY = "early stopping"
ENDLESS = 2**62  # a patience that no run exceeds


class History(dict[str, list[float]]):
    """What `Sequential.fit` measured: for each name a list with a number for each epoch.

    "loss" and the metrics are means over the batches of the epoch, each before its update, with
    dropout; "val_loss" and so on are of the validation data after the epoch. Epochs of earlier
    calls of `fit` come first; NaN stands where something was not measured.

    Attributes
    ----------
    epoch : int or None
        The epoch whose parameters the model has, counted from 1; None: those of an epoch that was
        stopped before its end.
    stopped : str or None
        Why the run ended before its last epoch: "early stopping", "Ctrl-C", "SIGTERM" or "SIGHUP".

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> from fusedrnn import nn
    >>> model = nn.Sequential([fr.GRU(1, 4, seed=0), nn.Last(), nn.Dense(4, 1, seed=1)])
    >>> _ = model.compile("adam", "mse")
    >>> history = model.fit(np.ones((8, 5, 1)), np.ones((8, 1)), epochs=3, verbose=False)
    >>> len(history["loss"]), history.epoch, history.stopped
    (3, 3, None)
    """

    def __init__(
        self, values: dict[str, list[float]], epoch: int | None, stopped: str | None
    ) -> None:
        super().__init__({name: list(numbers) for name, numbers in values.items()})
        self.epoch = epoch
        self.stopped = stopped


class Kept(NamedTuple):
    """The parameters after an epoch."""

    epoch: int
    state: StateDict


class Training:
    """The optimiser and the aim of a model, how far its training is, and the best epoch so far."""

    def __init__(self, optimizer: Optimizer[Any], objective: Objective) -> None:
        self.optimizer = optimizer
        self.objective = objective
        self.epochs = 0
        self.updates = 0  # in these epochs
        self.history: dict[str, list[float]] = {}
        self.best: Kept | None = None

    def fit(self, model: Sequential, plan: Plan) -> History:
        """Train for some epochs more."""
        stopping = plan.early_stopping or EarlyStopping(ENDLESS)
        self._try(model, plan.held_out)
        self._catch_up(plan, stopping)
        last, whole = self.epochs + plan.epochs, True
        with Stops() as stops:
            try:
                while self.epochs < last and not stopping.should_stop and stops.name is None:
                    values = self._epoch(model, plan, stops, last)
                    whole = values is not None
                    if values is not None:
                        self._finish(model, plan, stopping, values, last)
            except BaseException:
                plan.line.close()
                raise
        early = EARLY if stopping.should_stop and self.epochs < last else None
        stopped, epoch = stops.name or early, self.epochs if whole else None
        if self.best is not None and (stops.name or plan.early_stopping is not None):
            model.load_state_dict(self.best.state)
            epoch = self.best.epoch
        whose = "the last update" if epoch is None else f"epoch {epoch}"
        text = f"{stopped}: the model has the parameters of {whose}" if stopped else ""
        plan.line.close(text)
        return History(self.history, epoch, stopped)

    def _try(self, model: Sequential, held_out: Data | None) -> None:
        """Refuse validation data that does not fit at once, and not after an epoch."""
        if held_out is not None:
            aligned = model._keeps_steps
            one = held_out.taken(slice(1), aligned)
            assert one.y is not None
            y = model(one.x, one.lengths)
            self.objective.of(y, one.y, one.lengths if aligned else None)

    def _catch_up(self, plan: Plan, stopping: EarlyStopping) -> None:
        """Tell early stopping and the schedule, if they are new, about the epochs so far."""
        known = self.history.get(plan.monitor, [])
        missing = next((k for k, value in enumerate(known) if not math.isnan(value)), len(known))
        values = known[missing:]
        if stopping.best is None and stopping.waited == 0:
            for value in values:
                stopping.update(value)
            step = stopping.best_step
            best = None if step is None else missing + step + 1
            if self.best is not None and self.best.epoch != best:
                self.best = None  # of another rule, or of something else that was watched
        schedule = plan.schedule
        if isinstance(schedule, ReduceOnPlateau):
            if schedule.best is None:
                for value in values:
                    schedule(value)
            self.optimizer.lr = schedule.lr

    def _epoch(
        self, model: Sequential, plan: Plan, stops: Stops, last: int
    ) -> dict[str, float] | None:
        """Train for one epoch and return what was measured; None if it was stopped."""
        # The number of the epoch gives its order and its noise, so a run that goes on needs no
        # state of a generator.
        rng = np.random.default_rng([plan.seed, self.epochs])
        parts = batches(plan.data, plan.batch_size, rng if plan.shuffle else None)
        means, names = Means(), self.objective.names
        for k, rows in enumerate(parts):
            if stops.name is not None:
                return None
            self._update(model, plan, rows, k, rng, means)
            plan.line.update(
                lambda done=k + 1: (  # type: ignore[misc]
                    f"epoch {self.epochs + 1}/{last}  {done / len(parts):.0%}  "
                    f"{shown(means.values(names))}"
                )
            )
        values = means.values(names)
        if plan.held_out is not None:
            found = evaluated(model, self.objective, plan.held_out, plan.batch_size, stops)
            if found is None:
                return None
            values |= {f"val_{name}": value for name, value in found.items()}
        self.updates += len(parts)
        return values

    def _update(
        self,
        model: Sequential,
        plan: Plan,
        rows: Array,
        k: int,
        rng: np.random.Generator,
        means: Means,
    ) -> None:
        """Learn from one batch."""
        aligned = model._keeps_steps
        part = plan.data.taken(rows, aligned)
        if plan.schedule is not None and not isinstance(plan.schedule, ReduceOnPlateau):
            self.optimizer.lr = plan.schedule(self.updates + k)
        y, saved = model.forward(part.x, part.lengths, rng=rng)
        assert part.y is not None
        loss, values = self.objective.measured(y, part.y, part.lengths if aligned else None)
        norm = 0.0
        if math.isfinite(loss.value):
            _, gradients = model.backward(saved, loss.gradient)
            if plan.clip_norm is not None:
                norm = clip_global_norm(gradients, max_norm=plan.clip_norm)
        if not math.isfinite(loss.value + norm):
            self._diverged(model, k, loss.value, norm)
        self.optimizer.step(model, gradients)
        means.add(values, _weight(part, aligned))

    def _diverged(self, model: Sequential, k: int, loss: float, norm: float) -> NoReturn:
        whose = "before this update"
        if self.best is not None:
            model.load_state_dict(self.best.state)
            whose = f"of epoch {self.best.epoch}"
        raise FloatingPointError(
            f"epoch {self.epochs + 1}, batch {k + 1}: loss {loss:.3g}, gradient norm {norm:.3g}: "
            "the run diverged; a lower learning rate or clip_norm= may help. The model has the "
            f"parameters {whose}"
        )

    def _finish(
        self,
        model: Sequential,
        plan: Plan,
        stopping: EarlyStopping,
        values: dict[str, float],
        last: int,
    ) -> None:
        """Take what an epoch gave."""
        for name in dict.fromkeys((*self.history, *values)):
            numbers = self.history.setdefault(name, [math.nan] * self.epochs)
            numbers.append(values.get(name, math.nan))
        self.epochs += 1
        watched = values[plan.monitor]
        stopping.update(watched)
        if stopping.waited == 0:
            self.best = Kept(self.epochs, model.state_dict())
        if isinstance(plan.schedule, ReduceOnPlateau):
            self.optimizer.lr = plan.schedule(watched)
        if plan.checkpoint is not None:
            self.save(plan.checkpoint, model)
        plan.line.epoch(f"epoch {self.epochs}/{last}  {shown(values)}")

    def save(self, path: str | os.PathLike[str], model: Sequential) -> None:
        """Write all that a run needs to go on."""
        best = self.best
        position = {
            "epochs": self.epochs,
            "updates": self.updates,
            "history": self.history,
            "best_epoch": None if best is None else best.epoch,
        }
        old = None if best is None or best.epoch == self.epochs else best.state
        _checkpoint.save(path, model, self.optimizer, position, old)

    def load(self, path: str | os.PathLike[str], model: Sequential) -> None:
        """Go back to what `save` wrote."""
        found = _checkpoint.load(path, model, self.optimizer)
        best = found.best_epoch
        self.epochs, self.updates = found.epochs, found.updates
        self.history = found.history
        self.best = None
        if best is not None:
            self.best = Kept(best, StateDict(found.best or found.params))


def evaluated(
    model: Sequential,
    objective: Objective,
    data: Data,
    batch_size: int,
    stops: Stops | None = None,
) -> dict[str, float] | None:
    """Return loss and metrics of a model; None if a signal stopped this."""
    means, aligned = Means(), model._keeps_steps
    for rows in _sorted(data, batch_size):
        if stops is not None and stops.name is not None:
            return None
        part = data.taken(rows, aligned)
        assert part.y is not None
        y = model(part.x, part.lengths)
        _, values = objective.measured(y, part.y, part.lengths if aligned else None)
        means.add(values, _weight(part, aligned))
    return means.values(objective.names)


def predicted(model: Sequential, data: Data, batch_size: int) -> Array:
    """Return the outputs of a model for all samples; 0 at steps that are not real."""
    found: Array | None = None
    for rows in _sorted(data, batch_size):
        part = data.taken(rows)
        y = model(part.x, part.lengths)
        steps = part.lengths is not None and model._keeps_steps
        if found is None:
            outer = (data.x.shape[1], *y.shape[2:]) if steps else y.shape[1:]
            found = np.zeros((len(data), *outer), y.dtype)
        if steps:
            real = np.arange(y.shape[1]) < np.asarray(part.lengths)[:, None]
            found[rows, : y.shape[1]] = np.where(real[..., None], y, 0)
        else:
            found[rows] = y
    assert found is not None
    return found


def _sorted(data: Data, batch_size: int) -> list[Array]:
    """Return the places of the samples of each batch, with sequences of equal length together."""
    order = (
        np.arange(len(data)) if data.lengths is None else np.argsort(data.lengths, kind="stable")
    )
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _weight(part: Data, aligned: bool) -> int:
    """Return the weight of a batch in a mean: its real steps, or its samples."""
    return int(part.lengths.sum()) if aligned and part.lengths is not None else len(part)
