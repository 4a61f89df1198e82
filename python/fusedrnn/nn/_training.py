"""The training of a model: epochs, the best of them, and what a run that goes on needs."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from .._layers.params import StateDict
from . import _checkpoint
from ._batches import Batch, Data, Piece, batches, not_finite, pieces
from ._objective import Means, Objective
from ._optimizer import Optimizer
from ._plan import Plan
from ._progress import shown
from ._stops import Stops
from .clipping import clip_global_norm
from .schedules import ReduceOnPlateau
from .stopping import EarlyStopping

if TYPE_CHECKING:
    from ._model import Model

__all__ = ["History", "Training", "evaluated", "in_batches"]

Array = NDArray[Any]

EARLY = "early stopping"
ENDLESS = 2**62  # a patience that no run exceeds


class History(dict[str, list[float]]):
    """What `fit` of a model measured: for each name a list with a number for each epoch.

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

    def fit(self, model: Model, plan: Plan) -> History:
        """Train for some epochs more."""
        stopping = plan.early_stopping or EarlyStopping(ENDLESS)
        self._try(model, plan.held_out)
        together = plan.processes
        together.same_start(model, self.epochs, plan.epochs, plan.held_out is not None)
        self._catch_up(plan, stopping)
        last, whole = self.epochs + plan.epochs, True
        with Stops() as stops:
            try:
                while (
                    self.epochs < last
                    and not stopping.should_stop
                    and together.stopped(stops) is None
                ):
                    values = self._epoch(model, plan, stops, last)
                    whole = values is not None
                    if values is not None:
                        self._finish(model, plan, stopping, values, last)
            except BaseException:
                plan.line.close()
                raise
        early = EARLY if stopping.should_stop and self.epochs < last else None
        name = together.stopped(stops)
        stopped, epoch = name or early, self.epochs if whole else None
        if self.best is not None and (name or plan.early_stopping is not None):
            model.load_state_dict(self.best.state)
            epoch = self.best.epoch
        whose = "the last update" if epoch is None else f"epoch {epoch}"
        text = f"{stopped}: the model has the parameters of {whose}" if stopped else ""
        plan.line.close(text)
        return History(self.history, epoch, stopped)

    def _try(self, model: Model, held_out: Data | None) -> None:
        """Refuse validation data that does not fit at once, and not after an epoch."""
        if held_out is not None:
            one = model._batch(held_out, Piece(slice(1)))
            y, _ = model._inferred(one, None)
            self.objective.of(y, one)

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

    def _epoch(self, model: Model, plan: Plan, stops: Stops, last: int) -> dict[str, float] | None:
        """Train for one epoch and return what was measured; None if it was stopped."""
        # The number of the epoch gives its order and its noise, so a run that goes on needs no
        # state of a generator.
        rng = np.random.default_rng([plan.seed, self.epochs])
        drawn = batches(plan.data, plan.batch_size, rng if plan.shuffle else None)
        parts = pieces(plan.data, drawn, plan.truncate)
        plan.processes.agree({"the number of batches of an epoch": len(parts)})
        means, names, state = Means(), self.objective.names, None
        for k, piece in enumerate(parts):
            if plan.processes.stopped(stops) is not None:
                return None
            batch = model._batch(plan.data, piece)
            state = self._update(
                model, plan, batch, state if piece.start else None, k, rng, means, stops
            )
            plan.line.update(
                lambda done=k + 1: (  # type: ignore[misc]
                    f"epoch {self.epochs + 1}/{last}  {done / len(parts):.0%}  "
                    f"{shown(means.values(names))}"
                )
            )
        values = means.values(names)
        if plan.held_out is not None:
            found = evaluated(
                model,
                self.objective,
                plan.held_out,
                plan.batch_size,
                plan.truncate,
                stops if plan.processes.alone else None,
            )
            if found is None:
                return None
            held = plan.processes.joined(found, self.objective.measures).values(names)
            values |= {f"val_{name}": value for name, value in held.items()}
        self.updates += len(parts)
        return values

    def _update(
        self,
        model: Model,
        plan: Plan,
        batch: Batch,
        state: Any,
        k: int,
        rng: np.random.Generator,
        means: Means,
        stops: Stops,
    ) -> Any:
        """Learn from one batch; return the state that its next piece begins with."""
        if plan.schedule is not None and not isinstance(plan.schedule, ReduceOnPlateau):
            self.optimizer.lr = plan.schedule(self.updates + k)
        y, saved, state = model._learned(batch, state, rng)
        loss, values, counts = self.objective.measured(y, batch)
        values, weight, counts = plan.processes.shared(values, batch.weight, counts, stops)
        norm = 0.0
        if math.isfinite(values["loss"]):
            gradients = model._gradients(saved, loss.gradient)
            gradients = plan.processes.gradients(gradients, batch.weight, weight)
            if plan.clip_norm is not None:
                norm = clip_global_norm(gradients, max_norm=plan.clip_norm)
        if not math.isfinite(values["loss"] + norm):
            self._diverged(model, plan.data, k, values["loss"], norm)
        self.optimizer.step(model, gradients)
        means.add(values, weight, counts)
        return state

    def _diverged(self, model: Model, data: Data, k: int, loss: float, norm: float) -> NoReturn:
        # In all samples: an infinite number may spoil the update of its batch, but not the loss.
        why = not_finite(model._batch(data, Piece(slice(None))))
        why = why or "the run diverged; a lower learning rate or clip_norm= may help"
        whose = "before this update"
        if self.best is not None:
            model.load_state_dict(self.best.state)
            whose = f"of epoch {self.best.epoch}"
        gradient = f", gradient norm {norm:.3g}" if norm else ""  # 0: it was not measured
        raise FloatingPointError(
            f"epoch {self.epochs + 1}, batch {k + 1}: loss {loss:.3g}{gradient}: {why}. The model "
            f"has the parameters {whose}"
        )

    def _finish(
        self,
        model: Model,
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

    def save(self, path: str | os.PathLike[str], model: Model) -> None:
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

    def load(self, path: str | os.PathLike[str], model: Model) -> None:
        """Go back to what `save` wrote."""
        found = _checkpoint.load(path, model, self.optimizer)
        best = found.best_epoch
        self.epochs, self.updates = found.epochs, found.updates
        self.history = found.history
        self.best = None
        if best is not None:
            self.best = Kept(best, StateDict(found.best or found.params))


def evaluated(
    model: Model,
    objective: Objective,
    data: Data,
    batch_size: int,
    truncate: int | None,
    stops: Stops | None = None,
) -> Means | None:
    """Return the means of loss and metrics of a model; None if a signal stopped this."""
    means, state = Means(), None
    for piece in pieces(data, in_batches(data, batch_size), truncate):
        if stops is not None and stops.name is not None:
            return None
        batch = model._batch(data, piece)
        y, state = model._inferred(batch, state if piece.start else None)
        _, values, counts = objective.measured(y, batch)
        means.add(values, batch.weight, counts)
    return means


def in_batches(data: Data, batch_size: int) -> list[Array]:
    """Return the places of the samples of each batch, with sequences of equal length together."""
    order = data.by_length(np.arange(len(data)))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
