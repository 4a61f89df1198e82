"""Layers in a row as one model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options
from .._interrupts import uninterrupted
from .._layers.params import StateDict
from . import _objective
from ._batches import Data
from ._links import KINDS, Call, entered, links
from ._model_params import ModelParameters
from ._optimizer import Optimizer
from ._plan import planned
from ._training import History, Training, evaluated, predicted
from .losses import Loss
from .stopping import EarlyStopping

__all__ = ["Sequential"]

Array = NDArray[Any]

KIND = "nn.Sequential"


@dataclass(frozen=True, eq=False)
class SavedModel:
    """What ``Sequential.forward`` kept for ``backward``, which may use it more than once."""

    _model: Sequential
    _parts: tuple[Any, ...]  # what each layer saved
    _shape: tuple[int, ...]  # of y

    @property
    def nbytes(self) -> int:
        """Bytes kept besides the inputs and outputs of the layers."""
        return sum(part.nbytes for part in self._parts)


class Sequential:
    """Layers in a row: each reads what the one before it gives.

    Arrays are batch-major: sequences are (B, T, F), their ids (B, T), and a vector of each sample
    is (B, F), as in Keras. The options ``batch_first`` of the layers do not matter to the caller.
    Between time-major layers, the default, arrays pass without copies; a first layer with
    ``batch_first=True`` reads x without a copy.

    A recurrent layer gives its whole output, an output for each step. After it, `Last` takes the
    last real step of each sequence; without `Last` the next layers work on every step. So the
    shapes of sequences are:

    - one to one: `Dense` layers alone;
    - one to many: `RepeatVector`, then a recurrent layer;
    - many to one: a recurrent layer, then `Last`;
    - many to many, other lengths: a recurrent layer, `Last`, `RepeatVector`, a recurrent layer;
    - a label for each step (frame labelling): a recurrent layer, then `Dense`.

    Parameters
    ----------
    layers : list of layers
        `fusedrnn.RNN`, `fusedrnn.LSTM`, `fusedrnn.GRU`, and `Dense`, `Embedding`, `Dropout`,
        `LayerNorm`, `RepeatVector`, `Last` and `Activation`; all of one dtype. `Embedding` can only
        be the first.

    Raises
    ------
    TypeError
        An entry is no layer, or of another dtype than the first one.
    ValueError
        There is no layer, a layer is there twice, or a layer cannot read what the layer before it
        gives; the text names the layer by its place.

    Notes
    -----
    A parameter has the place of its layer before its name, as in torch.nn.Sequential:
    "0.weight_ih_l0". An optimiser steps the model as it steps a layer. No bit depends on the number
    of threads. `copy.deepcopy` and pickle take the layers, but
    not what `compile` and `fit` made.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> from fusedrnn import nn
    >>> model = nn.Sequential([fr.GRU(3, 8, seed=0), nn.Last(), nn.Dense(8, 2, seed=1)])
    >>> x = np.zeros((4, 7, 3), np.float32)  # four sequences of seven steps
    >>> model(x, lengths=[7, 5, 2, 7]).shape
    (4, 2)
    >>> y, saved = model.forward(x)
    >>> dx, gradients = model.backward(saved, np.ones((4, 2), np.float32))
    >>> dx.shape, list(gradients)[-2:]
    ((4, 7, 3), ['2.weight', '2.bias'])
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        if not isinstance(layers, (list, tuple)):
            raise TypeError(f"layers: expected a list of layers, got {_check.describe(layers)}")
        self._links, self._flows = links(list(layers))
        self._training: Training | None = None

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers, in their order."""
        return tuple(link.layer for link in self._links)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all layers."""
        dtype: np.dtype[Any] = self._links[0].layer.dtype
        return dtype

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self.layers))}])"

    def __getstate__(self) -> dict[str, Any]:
        return {"layers": self.layers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Sequential.__init__(self, state["layers"])

    # --- calls ------------------------------------------------------------------------------------

    def __call__(self, x: ArrayLike, lengths: ArrayLike | None = None) -> Array:
        """Run the layers, for inference: nothing is saved and nothing is dropped.

        Parameters
        ----------
        x : array_like, shape (B, T, F) or (B, F); or of int, shape (B, T) or (B,)
            What the first layer reads: sequences, or one vector of each sample. Whole numbers are
            ids for `Embedding` or a recurrent layer, which reads them as one-hot rows. Other
            numbers are floating point, and are converted to the dtype of the layers.
        lengths : array_like of int, shape (B,), optional
            Number of real steps of each sequence; the recurrent layers do not execute the rest.

        Returns
        -------
        ndarray, shape (B, T, O) or (B, O)
            It may be a view with the strides of a time-major array. Steps that are not real hold
            what the layers make of zeros.

        Raises
        ------
        TypeError
            x is not floating point, or not ids where the first layer reads ids.
        ValueError
            The shape of x does not fit, or an id or a length is out of range.
        RuntimeError
            Called inside ``with model.writable()``.
        """
        a, call = self._entered(x, lengths)
        for link in self._links:
            a = link.call(a, call)
            call = call.after(link)
        return _swapped(a)

    def forward(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        rng: np.random.Generator | None = None,
        noise: bool = True,
    ) -> tuple[Array, SavedModel]:
        """Run the layers for training: saves what `backward` needs, draws dropout and noise.

        The other parameters, and errors, are those of calling the model. x must not be written
        before the backward call.

        Parameters
        ----------
        rng : numpy.random.Generator, optional
            Generator of all masks, in the order of the layers; if not given, each layer that drops
            takes a new one, whose masks cannot be repeated.
        noise : bool
            If False, nothing is dropped and nothing is drawn from `rng`.

        Returns
        -------
        y : ndarray, shape (B, T, O) or (B, O)
            Read-only.
        saved : SavedModel
            For `backward`.
        """
        generator = _check_options.rng(rng, rng is not None)
        a, call = self._entered(x, lengths, generator, _check.flag(noise, "noise"))
        parts = []
        for link in self._links:
            a, saved = link.forward(a, call)
            parts.append(saved)
            call = call.after(link)
        y = _swapped(a)
        return y, SavedModel(self, tuple(parts), y.shape)

    def backward(self, saved: SavedModel, dy: ArrayLike) -> tuple[Array | None, dict[str, Array]]:
        """Backpropagate through a `forward` call.

        Parameters
        ----------
        saved : SavedModel
            From this model's `forward`; may be used more than once.
        dy : array_like, shaped as y
            Gradient of y; for a loss of `fusedrnn.nn`, ``loss.gradient``.

        Returns
        -------
        dx : ndarray, shaped as x, or None for ids
            Gradient of x.
        gradients : dict of str to ndarray
            Gradients of the parameters, by the names of `params`.

        Raises
        ------
        TypeError
            `saved` is something else, or dy is not floating point.
        ValueError
            The shape of dy does not fit, or `saved` is another model's.
        RuntimeError
            Parameters have changed since the forward call, or are open for writing.
        """
        _check.saved_type(saved, SavedModel, "forward()")
        _check.same_layer(saved._model is self)
        d: Array | None = _swapped(_check.shaped(_check.floating(dy, "dy"), "dy", saved._shape))
        found: list[dict[str, Array]] = []
        for link, part in zip(reversed(self._links), reversed(saved._parts), strict=True):
            assert d is not None  # only the first layer may read ids
            d, gradients = link.backward(part, d)
            found.append(gradients)
        named = {f"{k}.{name}": g for k, of in enumerate(reversed(found)) for name, g in of.items()}
        return None if d is None else _swapped(d), named

    def _entered(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None,
        rng: np.random.Generator | None = None,
        noise: bool = True,
    ) -> tuple[Array, Call]:
        """Return what the first layer reads, time-major, and what the layers get besides."""
        a, real = entered(self._links[0], self._flows[0], x, lengths)
        return a, Call(real, rng, noise)

    @property
    def _keeps_steps(self) -> bool:
        """Whether the output has the steps of the input, and so its lengths."""
        return all(link.keeps_steps for link in self._links)

    # --- training ---------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: str | Optimizer[Any] = "adam",
        loss: str | Callable[..., Loss] = "mse",
        metrics: Sequence[str | Callable[..., float | Loss]] = (),
    ) -> Sequential:
        """Say how to train, and begin with epoch 1. The parameters stay as they are.

        Parameters
        ----------
        optimizer : {"sgd", "adam", "adamw", "rmsprop"} or optimiser
            A name stands for the optimiser with its defaults.
        loss : {"mse", "mae", "softmax_cross_entropy", "binary_cross_entropy"} or callable
            The loss of that name in `fusedrnn.nn`; or a function like them, of a prediction and its
            targets, which also takes ``lengths=`` and ``batch_first=`` if there is a target for
            each step of sequences with lengths. For class weights use `functools.partial`.
        metrics : list of str or callable
            "accuracy", "mse", "mae", or "perplexity" and "bits_per_character", which follow from
            the mean loss; or functions as in `fusedrnn.nn.metrics`. With "binary_cross_entropy" a
            logit above 0 is the answer yes.

        Returns
        -------
        Sequential
            This model.

        Raises
        ------
        TypeError, ValueError
            An argument is not as above.
        """
        chosen = _objective.optimizer(optimizer)
        self._training = Training(chosen, _objective.objective(loss, metrics))
        return self

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        epochs: int = 1,
        *,
        batch_size: int = 32,
        lengths: ArrayLike | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        seed: int = 0,
        early_stopping: EarlyStopping | None = None,
        monitor: str | None = None,
        schedule: Callable[[Any], float] | None = None,
        clip_norm: float | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        verbose: bool | None = None,
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
            The targets, as the loss takes them.
        epochs : int
            How often to read all samples, at least 1.
        batch_size : int
            Number of samples for each update, at least 1.
        lengths : array_like of int, shape (N,), optional
            Number of real steps of each sequence. Sequences of similar length come into one batch,
            and steps that are real in none of them are not computed. If the output has the steps of
            the input (no `Last`), loss and metrics count real steps only.
        validation_data : (x, y) or (x, y, lengths), optional
            Samples that are not trained on; they are measured after each epoch.
        validation_split : float
            Share of the samples, from their end, to hold out in place of `validation_data`.
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
        checkpoint : path, optional
            A file to write after each epoch, for `load_checkpoint`; an old file is replaced.
        verbose : bool, optional
            Whether to show progress on standard error, by default only on a terminal.

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
            The loss, or with `clip_norm` the norm of the gradients, is not finite. The model has
            the parameters of the best epoch so far, or those before that update.

        Notes
        -----
        A run that is continued with `load_checkpoint`, and gets the same arguments, has the bits of
        a run that was not interrupted. There is no state that is carried from one batch to the
        next: for truncated backpropagation through one long sequence write the loop yourself.

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
        plan = planned(
            training.objective.names,
            Data.read(x, y, lengths, aligned=self._keeps_steps),
            aligned=self._keeps_steps,
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
        batch_size: int = 32,
    ) -> dict[str, float]:
        """Measure loss and metrics, without noise.

        Parameters
        ----------
        x, y, lengths, batch_size
            As in `fit`. Each value is a mean over the batches, weighted by their samples or real
            steps.

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
        data = Data.read(x, y, lengths, aligned=self._keeps_steps)
        size = _check.integer(batch_size, "batch_size", 1)
        found = evaluated(self, objective, data, size)
        assert found is not None  # no signal is looked for
        return found

    def predict(
        self, x: ArrayLike, batch_size: int = 32, *, lengths: ArrayLike | None = None
    ) -> Array:
        """Call the model batch by batch, which needs less memory than one call.

        Parameters
        ----------
        x, batch_size, lengths
            As in `fit`.

        Returns
        -------
        ndarray, shape (N, T, O) or (N, O)
            Where the output has the steps of the input, 0 at steps that are not real.

        Raises
        ------
        TypeError, ValueError
            As calling the model.
        """
        size = _check.integer(batch_size, "batch_size", 1)
        return predicted(self, Data.read(x, None, lengths), size)

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

    def _compiled(self, what: str) -> Training:
        if self._training is None:
            raise RuntimeError(f"{what}: call compile(optimizer, loss) first")
        return self._training

    # --- parameters -------------------------------------------------------------------------------

    @property
    def params(self) -> ModelParameters[Sequential]:
        """The parameters of all layers: read-only arrays; assigning to a name copies in."""
        return ModelParameters(self, {f"{k}.": one.params for k, one in enumerate(self.layers)})

    @contextmanager
    def writable(self) -> Iterator[ModelParameters[Sequential]]:
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
            opened = [stack.enter_context(one.writable()) for one in self.layers]
            yield ModelParameters(self, {f"{k}.": params for k, params in enumerate(opened)})

    def _cell(self) -> str:
        return f"{KIND}({', '.join(one._cell() for one in self.layers)})"

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

    def config(self) -> dict[str, Any]:
        """Return every option of the layers, as JSON can hold it, without the parameters.

        Returns
        -------
        dict of str to object
            "kind", which is "nn.Sequential", and "layers", the list of the layers' configs.
        """
        return {"kind": KIND, "layers": [one.config() for one in self.layers]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], state: Mapping[str, Any]) -> Sequential:
        """Make the model that `config` and `state_dict` describe.

        Parameters
        ----------
        config : mapping
            From ``model.config()``.
        state : mapping of str to array
            From ``model.state_dict()``.

        Returns
        -------
        Sequential

        Raises
        ------
        TypeError, ValueError
            `config` is of another kind of model, a layer cannot be made of its part, or the layers
            do not fit together; the text names the layer by its place.
        """
        of = _check_options.config(config, KIND, ("layers",), ("layers",))["layers"]
        if not isinstance(of, (list, tuple)) or not isinstance(state, Mapping):
            raise TypeError(
                "config, state: expected a list of layers and a mapping of names to arrays, got "
                f"{_check.describe(of)} and {_check.describe(state)}"
            )
        parts: list[dict[str, Any]] = [{} for _ in of]
        for name, value in state.items():
            place, dot, rest = str(name).partition(".")
            if not dot or place not in map(str, range(len(parts))):
                raise ValueError(f"state: unexpected {name!r}")
            parts[int(place)][rest] = value
        layers = []
        for k, (one, part) in enumerate(zip(of, parts, strict=True)):
            kind = one.get("kind") if isinstance(one, Mapping) else one
            if not isinstance(kind, str) or kind not in KINDS:
                raise ValueError(
                    f"layers[{k}]: expected a kind of layer ({', '.join(KINDS)}), got {kind!r}"
                )
            try:
                layers.append(KINDS[kind].from_config(one, part))
            except (TypeError, ValueError) as error:
                raise type(error)(f"layers[{k}]: {error}") from error
        model = cls(layers)
        _check.same_cell(getattr(state, "cell", None), model._cell())
        return model

    def summary(self) -> str:
        """Return a table of the layers as text: their outputs and numbers of parameters.

        Returns
        -------
        str
            A row for each layer, with its place and class, the shape of its output for a batch of B
            sequences of T steps, and the number of its parameters; then the sum of these.

        Examples
        --------
        >>> import fusedrnn as fr
        >>> from fusedrnn import nn
        >>> print(nn.Sequential([fr.LSTM(4, 8), nn.Last(), nn.Dense(8, 1)]).summary())
        layer    output     parameters
        0.LSTM   (B, T, 8)         448
        1.Last   (B, 8)              0
        2.Dense  (B, 1)              9
        total                      457
        """
        rows = [("layer", "output", "parameters")]
        total = 0
        for k, (layer, flow) in enumerate(zip(self.layers, self._flows[1:], strict=True)):
            count = sum(a.size for a in layer.params.values())
            rows.append((f"{k}.{type(layer).__name__}", str(flow), f"{count:,}"))
            total += count
        rows.append(("total", "", f"{total:,}"))
        first, second, third = (max(map(len, column)) for column in zip(*rows, strict=True))
        return "\n".join(f"{a:<{first}}  {b:<{second}}  {c:>{third}}" for a, b, c in rows)


def _swapped(a: Array) -> Array:
    """Return a view with steps and batch swapped if `a` is sequences, (T, B, F) or (B, T, F)."""
    return a.swapaxes(0, 1) if a.ndim == 3 else a
