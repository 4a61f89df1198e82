"""What the models of this room share: training, parameters, and their names."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .._interrupts import uninterrupted
from .._layers.params import StateDict
from . import _objective, _rows
from ._batches import Batch, Data, Piece
from ._model_params import ModelParameters
from ._optimizer import Optimizer
from ._parallel import AllReduce
from ._plan import planned
from ._training import History, Training, evaluated
from .losses import Loss
from .stopping import EarlyStopping

__all__ = ["Model"]

Array = NDArray[Any]
M = TypeVar("M", bound="Model")  # typing.Self came with Python 3.11


class Model(ABC):
    """A model of several layers.

    A subclass says which layers it has, how they are called, and what of the samples goes into a
    batch. Training, parameters and their files are the same for all models.
    """

    _kind: str  # in `config`, and before the cells in `state_dict`
    _training: Training | None = None

    # --- what a model says of itself --------------------------------------------------------------

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all layers."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return all that is needed to make the model again except the parameters."""

    @abstractmethod
    def _named(self) -> dict[str, Any]:
        """Return the layers by what stands before the names of their parameters."""

    @abstractmethod
    def _read(self, x: object, y: object, lengths: object, where: str = "") -> Data:
        """Check arrays of samples; `where` stands before the names in error texts."""

    @abstractmethod
    def _batch(self, data: Data, piece: Piece) -> Batch:
        """Return what a call on some of the samples gets, and its targets."""

    @abstractmethod
    def _inferred(self, batch: Batch, state: Any) -> tuple[Array, Any]:
        """Call the model; return y, and the state that the next piece of the batch begins with."""

    @abstractmethod
    def _learned(
        self, batch: Batch, state: Any, rng: np.random.Generator
    ) -> tuple[Array, Any, Any]:
        """Call the model for training; return y, what `_gradients` needs, and the state."""

    @abstractmethod
    def _gradients(self, saved: Any, dy: Array) -> dict[str, Array]:
        """Return the gradients of the parameters by name."""

    @property
    def _squashing(self) -> str:
        """The name of the activation that the last layer is, if it is one alone."""
        return ""

    @abstractmethod
    def _output(self, data: Data) -> tuple[int, ...]:
        """Return the shape of the output for all samples in one call."""

    def _piece_size(self, truncate: object, data: Data) -> int | None:
        """Check `truncate`, the number of steps of a piece of a sequence."""
        if truncate is not None:
            raise ValueError(
                f"truncate: expected None for a {type(self).__name__}, whose sequences are read "
                f"as a whole, got {truncate!r}"
            )
        return None

    # --- training ---------------------------------------------------------------------------------

    def compile(  # noqa: PYI019
        self: M,
        optimizer: str | Optimizer[Any] = "adam",
        loss: str | Callable[..., Loss] = "mse",
        metrics: Sequence[str | Callable[..., float | Loss]] = (),
    ) -> M:
        """Say how to train, and begin with epoch 1. The parameters stay as they are.

        Parameters
        ----------
        optimizer : {"sgd", "adam", "adamw", "rmsprop"} or optimiser
            A name stands for the optimiser with its defaults.
        loss : {"mse", "mae", "softmax_cross_entropy", "binary_cross_entropy"} or callable
            The loss of that name in `fusedrnn.nn`; or a function like them, of a prediction and its
            targets, which also takes ``lengths=`` and ``batch_first=`` if there is a target for
            each step of sequences with lengths, and ``weights=`` with `sample_weight`. For class
            weights use `functools.partial`.
        metrics : list of str or callable
            "accuracy", "balanced_accuracy", "mse", "mae", or "perplexity" and "bits_per_character",
            which follow from the mean loss; or functions as in `fusedrnn.nn.metrics`, whose values
            are averaged over batches. "balanced_accuracy" is that of all rows of an epoch, not a
            mean over batches, which may lack a class. With "binary_cross_entropy" a logit above 0
            is the answer yes.

        Returns
        -------
        Model
            This one.

        Raises
        ------
        TypeError, ValueError
            An argument is not as above; the loss reads logits, and the last layer is their softmax
            or sigmoid; or a metric needs classes, and the loss is "mse" or "mae".
        """
        chosen = _objective.optimizer(optimizer)
        aim = _objective.objective(loss, metrics)
        _objective.of_logits(aim, self._squashing)
        self._training = Training(chosen, aim)
        return self

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        epochs: int = 1,
        *,
        batch_size: int = 32,
        lengths: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        seed: int = 0,
        early_stopping: EarlyStopping | None = None,
        monitor: str | None = None,
        schedule: Callable[[Any], float] | None = None,
        clip_norm: float | None = None,
        truncate: int | None = None,
        all_reduce: AllReduce | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        verbose: bool | int | None = None,
    ) -> History:
        """Train for some epochs; a later call goes on from there and counts the epochs on.

        The first Ctrl-C, SIGTERM or SIGHUP ends this after the update that it finds, without an
        exception; the model then has the parameters of the best epoch so far, or of the last update
        if no epoch is complete; the moments of the optimiser are those of the last update. A second
        signal acts as usual.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            Samples, as calling the model takes them.
        y : array_like, shape (N, ...)
            The targets, as the loss takes them. For "mse", "mae" and "binary_cross_entropy" they
            have the shape of the output; if its last axis is 1, y may lack that axis.
        epochs : int
            How often to read all samples, at least 1.
        batch_size : int
            Number of samples for each update, at least 1.
        lengths : array_like of int, shape (N,), optional
            Number of real steps of each sequence. Sequences of similar length come into one batch,
            and steps that are real in none of them are not computed. If the output of a
            `Sequential` has the steps of the input (no `Last`), loss and metrics count real steps
            only.
        sample_weight : array_like, shape (N,), optional
            The weight w of each sample in the loss, a finite number of at least 0. The loss of a
            batch is then sum(w * loss) / sum(w), over what the loss counts: samples, or real steps
            with the w of their sequence. A mean over batches weighs each by its sum(w). So weight 2
            is that of the same sample twice, and a sample of weight 0 does not count, though its x
            is read and must be finite; Keras divides by the number of samples. Metrics are not
            weighted, except those that follow from the loss.
        validation_data : (x, y) or (x, y, lengths), optional
            Samples that are not trained on; they are measured after each epoch.
        validation_split : float
            Share of the samples, from their end, to hold out in place of `validation_data`; they
            keep their weights.
        shuffle : bool
            Whether to draw a new order in each epoch.
        seed : int
            The order and the noise of an epoch are drawn from `seed` and its number.
        early_stopping : EarlyStopping, optional
            Gets the watched value after each epoch, and of all earlier epochs if it is new. At the
            end, for whatever reason, the model has the parameters of the best epoch.
        monitor : str, optional
            What is watched, a name in the history: by default "val_loss", or "loss" without
            validation data.
        schedule : schedule, optional
            The learning rate as a function of the number of updates so far; or a `ReduceOnPlateau`,
            which gets the watched value after each epoch.
        clip_norm : float, optional
            The bound of the global norm of the gradients.
        truncate : int, optional
            Truncated backpropagation through time, for long sequences: the sequences of a batch are
            read in pieces of so many steps, with an update after each piece. The states at the end
            of a piece are those at the start of the next one; gradients do not pass. For a
            `Sequential` with a recurrent layer, whose output has the steps of the input, and
            without a reverse direction.
        all_reduce : callable, optional
            For several processes that train one model, each with samples of its own (data
            parallelism): a function that takes an array of float64 or of the model's dtype, and
            returns its sum over all processes, or leaves the sum in the array. All processes get
            equal parameters, and equally many batches. Their updates, history and decisions are
            then the same: those of one process whose batches are all of theirs together.
        checkpoint : path, optional
            A file to write after each epoch, for `load_checkpoint`; an old file is replaced.
        verbose : bool, or 0, 1 or 2, optional
            Whether to show progress on standard error, by default only on a terminal. As in Keras 0
            is False; 1 and 2 are True.

        Returns
        -------
        History
            A dict of lists, with a number for each epoch so far, and the attributes `epoch` (whose
            parameters the model has) and `stopped` (why the run ended early).

        Raises
        ------
        RuntimeError
            There was no `compile`.
        TypeError, ValueError
            An argument is not as above, or does not fit the model or the loss.
        FloatingPointError
            The loss, or with `clip_norm` the norm of the gradients, is not finite. The text says
            where x or y is not finite, or that the run diverged. The model has the
            parameters of the best epoch so far, or those before that update.

        Notes
        -----
        A run that is continued with `load_checkpoint`, and gets the same arguments, has the bits of
        a run that was not interrupted. Every sequence starts from zero states in every epoch, also
        with `truncate`; without it nothing is carried. One long text or series is cut into rows of
        equal length, which are samples: ``x = ids[: n // rows * rows].reshape(rows, -1)``.

        Examples
        --------
        >>> import numpy as np
        >>> import fusedrnn as fr
        >>> from fusedrnn import nn
        >>> x = np.random.default_rng(0).standard_normal((64, 5, 1))
        >>> model = nn.Sequential([fr.RNN(1, 8, seed=0), nn.Last(), nn.Dense(8, 1, seed=1)])
        >>> history = model.compile(nn.Adam(0.02)).fit(x, x.sum(axis=1), epochs=30)
        >>> bool(history["loss"][-1] < 0.1 * history["loss"][0]), model.epochs, history.epoch
        (True, 30, 30)
        """
        training = self._compiled("fit")
        data = self._checked(x, y, lengths, sample_weight)
        plan = planned(
            training.objective.names,
            data,
            read=self._checked,
            validation_data=validation_data,
            validation_split=validation_split,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            early_stopping=early_stopping,
            monitor=monitor,
            schedule=schedule,
            clip_norm=clip_norm,
            truncate=self._piece_size(truncate, data),
            all_reduce=all_reduce,
            checkpoint=checkpoint,
            verbose=verbose,
        )
        return training.fit(self, plan)

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        batch_size: int = 32,
        truncate: int | None = None,
    ) -> dict[str, float]:
        """Measure loss and metrics, without noise.

        Parameters
        ----------
        x, y, lengths, sample_weight, batch_size
            As in `fit`. Each value is a mean over the batches, weighted by their samples or real
            steps, except those that `compile` names.
        truncate : int, optional
            As in `fit`: read long sequences in pieces, which needs less memory.

        Returns
        -------
        dict of str to float
            "loss" and the metrics.

        Raises
        ------
        RuntimeError
            There was no `compile`.
        TypeError, ValueError
            As in `fit`.
        """
        objective = self._compiled("evaluate").objective
        data = self._checked(x, y, lengths, sample_weight)
        size = _check.integer(batch_size, "batch_size", 1)
        found = evaluated(self, objective, data, size, self._piece_size(truncate, data))
        assert found is not None  # no signal is looked for
        return found.values(objective.names)

    @property
    def epochs(self) -> int:
        """The number of epochs that `fit` has completed since `compile`."""
        return 0 if self._training is None else self._training.epochs

    @property
    def optimizer(self) -> Optimizer[Any]:
        """The optimiser that `compile` was given or made."""
        return self._compiled("optimizer").optimizer

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Go back to the end of the epoch after which `fit` wrote this file.

        The model, the state of the optimiser, the history and the number of epochs are as they were
        then. Call `compile` with the same arguments before it; the hyperparameters of the optimiser
        are not in the file.

        Parameters
        ----------
        path : path
            The `checkpoint` of a call of `fit`.

        Raises
        ------
        RuntimeError
            There was no `compile`.
        OSError
            The file cannot be read.
        ValueError
            It is damaged, no checkpoint, or of another model or optimiser; the text begins with the
            path. Nothing was changed.

        Examples
        --------
        >>> import numpy as np
        >>> import fusedrnn as fr
        >>> from fusedrnn import nn
        >>> x, y = np.ones((8, 5, 1)), np.ones((8, 1))
        >>> model = nn.Sequential([fr.GRU(1, 4, seed=0), nn.Last(), nn.Dense(4, 1, seed=1)])
        >>> _ = model.compile("adam", "mse")
        >>> _ = model.fit(x, y, epochs=3, checkpoint="run.npz")
        >>> model.load_checkpoint("run.npz")
        >>> model.epochs
        3
        >>> history = model.fit(x, y, epochs=10 - model.epochs, checkpoint="run.npz")
        >>> len(history["loss"])
        10
        """
        self._compiled("load_checkpoint").load(path, self)

    def _checked(
        self,
        x: object,
        y: object,
        lengths: object,
        sample_weight: ArrayLike | None = None,
        where: str = "",
    ) -> Data:
        """Check arrays of samples, and the shape and values of all targets."""
        data = self._read(x, y, lengths, where)
        assert data.y is not None
        weights = None
        if sample_weight is not None:
            weights = _rows.weights(sample_weight, "sample_weight", ((len(data),),))
        ends = self._batch(data, Piece(slice(None))).lengths
        objective = self._compiled("fit").objective
        targets = objective.checked(data.y, ends, weights, self._output(data), f"{where}y")
        return Data(data.x, targets, data.lengths, data.ends, weights)

    def _compiled(self, what: str) -> Training:
        if self._training is None:
            raise RuntimeError(f"{what}: call compile(optimizer, loss) first")
        return self._training

    # --- parameters -------------------------------------------------------------------------------

    @property
    def params(self: M) -> ModelParameters[M]:  # noqa: PYI019
        """The parameters of all layers: read-only arrays; assigning to a name copies in."""
        return ModelParameters(self, {name: one.params for name, one in self._named().items()})

    @contextmanager
    def writable(self: M) -> Iterator[ModelParameters[M]]:  # noqa: PYI019
        """Open the parameters for changes in place, for the body of a `with`.

        Yields
        ------
        Mapping of str to ndarray
            By the names of `params`; arrays that can be written until the end of the block.

        Raises
        ------
        RuntimeError
            A layer is open already.
        """
        with ExitStack() as stack:
            layers = self._named().items()
            yield ModelParameters(
                self, {name: stack.enter_context(one.writable()) for name, one in layers}
            )

    def _cell(self) -> str:
        return f"{self._kind}({', '.join(one._cell() for one in self._named().values())})"

    def state_dict(self) -> StateDict:
        """Return copies of the parameters.

        Returns
        -------
        StateDict
            A dict of names to arrays, by the names of `params`.
        """
        return StateDict({n: a.copy() for n, a in self.params.items()}, self._cell())

    def load_state_dict(self, state_dict: Mapping[str, Any], prefix: str = "") -> None:
        """Set all parameters.

        Parameters
        ----------
        state_dict : mapping of str to array
            From `state_dict`, or from torch: a torch.nn.Sequential with such layers at the same
            places has the same names.
        prefix : str
            Use only names that begin with it, and without it.

        Raises
        ------
        TypeError
            Not a mapping of names.
        ValueError
            Lists what is missing, unexpected or of the wrong shape or type, or says that these are
            the parameters of other layers; nothing was changed.
        RuntimeError
            Called inside ``with model.writable()``.
        """
        _check.same_cell(getattr(state_dict, "cell", None), self._cell())
        shapes = {name: a.shape for name, a in self.params.items()}
        values = _check.loaded(state_dict, prefix, shapes, self.dtype)
        with uninterrupted(), self.writable() as opened:
            for name, value in values.items():
                opened[name][...] = value
