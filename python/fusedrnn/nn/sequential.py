"""Layers in a row as one model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import arguments as _check
from .._checks import options as _check_options
from . import _checks
from ._batches import Batch, Data, Piece, pieces
from ._links import INPUT_STEPS, KINDS, Call, Recurrent, backward, entered, links, outer_axes
from ._model import Model
from ._table import table
from ._training import in_batches
from .activation import Activation

__all__ = ["Sequential"]

Array = NDArray[Any]

KIND = "nn.Sequential"


@dataclass(frozen=True, eq=False)
class SavedModel:
    """What ``Sequential.forward`` kept for ``backward``, which may use it more than once."""

    _model: Sequential
    _parts: tuple[Any, ...]  # what each layer saved
    _shape: tuple[int, ...]  # of y
    state: tuple[Any, ...]
    """The last state of each recurrent layer, and None for the other layers: the `state` of the
    call that goes on with the same sequences."""

    @property
    def nbytes(self) -> int:
        """Bytes kept besides the inputs and outputs of the layers."""
        return sum(part.nbytes for part in self._parts)


class Sequential(Model):
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
    - many to one: a recurrent layer, then `Last`, or `Pool` for all steps;
    - many to many, other lengths: a recurrent layer, `Last`, `RepeatVector`, a recurrent layer;
    - a label for each step (frame labelling): a recurrent layer, then `Dense`.

    Parameters
    ----------
    layers : list of layers
        `fusedrnn.RNN`, `fusedrnn.LSTM`, `fusedrnn.GRU`, and `Dense`, `Embedding`, `Dropout`,
        `LayerNorm`, `RepeatVector`, `Last`, `Pool` and `Activation`; all of one dtype. `Embedding`
        can only be the first.

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
    "0.weight_ih_l0"; the layer itself is ``model[0]``, and a loop over the model is one over its
    layers. An optimiser steps the model as it steps a layer. No bit depends on the number of
    threads. `copy.deepcopy` and pickle take the layers, but not what `compile` and `fit` made.

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

    _kind = KIND

    def __init__(self, layers: Sequence[Any]) -> None:
        if not isinstance(layers, (list, tuple)):
            raise TypeError(f"layers: expected a list of layers, got {_check.describe(layers)}")
        self._links, self._flows = links(list(layers))
        self._training = None

    @property
    def layers(self) -> tuple[Any, ...]:
        """The layers, in their order."""
        return tuple(link.layer for link in self._links)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all layers."""
        dtype: np.dtype[Any] = self._links[0].layer.dtype
        return dtype

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._links)

    def __getitem__(self, index: int) -> Any:
        """Return the layer at a place; from the end if it is negative."""
        k, count = _check.integer(index, "index", -(2**63)), len(self)
        if not -count <= k < count:
            raise IndexError(f"index: expected a number in [{-count}, {count}), got {k}")
        return self.layers[k]

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the layers."""
        return iter(self.layers)

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
        return self._called(x, lengths, None)[0]

    def _called(
        self, x: ArrayLike, lengths: ArrayLike | None, state: Sequence[Any] | None
    ) -> tuple[Array, tuple[Any, ...]]:
        """Run the layers, for inference, from some state; return y and the last state."""
        a, call = self._entered(x, lengths)
        last = []
        for link, first in zip(self._links, self._states(state), strict=True):
            a, end = link.call(a, call._replace(state=first))
            last.append(end)
            call = call.after(link)
        return _swapped(a), tuple(last)

    def _states(self, state: object) -> Sequence[Any]:
        """Return the first state of each layer."""
        return _check_options.per_layer(state, "state", len(self._links))

    def forward(
        self,
        x: ArrayLike,
        lengths: ArrayLike | None = None,
        *,
        state: Sequence[Any] | None = None,
        rng: np.random.Generator | None = None,
        noise: bool = True,
    ) -> tuple[Array, SavedModel]:
        """Run the layers for training: saves what `backward` needs, draws dropout and noise.

        The other parameters, and errors, are those of calling the model. x must not be written
        before the backward call.

        Parameters
        ----------
        state : tuple, optional
            The first state of each recurrent layer, and None for the other layers: the `state` of
            what an earlier call saved, to go on with the same sequences. Zeros if not given.
            `backward` does not go past it, as in truncated backpropagation through time.
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
            For `backward`; ``saved.state`` is the state after the last step.
        """
        generator = _check_options.rng(rng, rng is not None)
        a, call = self._entered(x, lengths, generator, _check.flag(noise, "noise"))
        parts, last = [], []
        for link, first in zip(self._links, self._states(state), strict=True):
            a, end, saved = link.forward(a, call._replace(state=first))
            parts.append(saved)
            last.append(end)
            call = call.after(link)
        y = _swapped(a)
        return y, SavedModel(self, tuple(parts), y.shape, tuple(last))

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
        d = _swapped(_check.shaped(_check.floating(dy, "dy"), "dy", saved._shape))
        dx, gradients = backward(self._links, saved._parts, d)
        return None if dx is None else _swapped(dx), gradients

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

    @property
    def _squashing(self) -> str:
        last = self.layers[-1]
        return last.name if isinstance(last, Activation) else ""

    def _output(self, data: Data) -> tuple[int, ...]:
        outer, last = outer_axes(self._links[0], self._flows[0], data.x, "x"), self._flows[-1]
        if isinstance(last.steps, int):
            outer = (len(data), last.steps)
        elif last.steps is None:
            outer = (len(data),)
        return (*outer, last.width or data.x.shape[-1])

    def _read(self, x: object, y: object, lengths: object, where: str = "") -> Data:
        data = Data.read(x, y, lengths, aligned=self._keeps_steps, where=where)
        outer_axes(self._links[0], self._flows[0], data.x, f"{where}x")
        count = self._links[0].ids
        if count is not None and data.x.dtype.kind in "iu" and data.x.ndim < 3:
            _checks.ids(data.real(), count, f"{where}x")
        return data

    def _batch(self, data: Data, piece: Piece) -> Batch:
        aligned = self._keeps_steps
        part = data.taken(piece, aligned)
        assert part.y is not None
        real = part.lengths if aligned else None
        count = len(part) if piece.stop is None else part.x.shape[0] * part.x.shape[1]
        if real is not None:
            count = int(real.sum())
        return Batch({"x": part.x, "lengths": part.lengths}, part.y, real, count, part.weights)

    def _inferred(self, batch: Batch, state: Any) -> tuple[Array, Any]:
        return self._called(**batch.inputs, state=state)

    def _learned(
        self, batch: Batch, state: Any, rng: np.random.Generator
    ) -> tuple[Array, Any, Any]:
        y, saved = self.forward(**batch.inputs, state=state, rng=rng)
        return y, saved, saved.state

    def _gradients(self, saved: Any, dy: Array) -> dict[str, Array]:
        return self.backward(saved, dy)[1]

    def _piece_size(self, truncate: object, data: Data) -> int | None:
        if truncate is None:
            return None
        size = _check.integer(truncate, "truncate", 1)
        layers = [link.layer for link in self._links if isinstance(link, Recurrent)]
        why = ""
        if self._flows[0].steps != INPUT_STEPS or not layers:
            why = "without a recurrent layer that reads the steps of x"
        elif not self._keeps_steps:
            why = "whose output has not the steps of x"
        elif any(layer.bidirectional for layer in layers):
            why = "with a bidirectional layer, which reads each sequence from its end too"
        if why:
            raise ValueError(f"truncate: expected None for a model {why}, got {truncate!r}")
        x, y = data.x, data.y
        if y is not None and (x.ndim < 2 or y.shape[1:2] != x.shape[1:2]):
            raise ValueError(
                f"y: expected a target for each step of x, of shape {x.shape}, with truncate, got "
                f"shape {y.shape}"
            )
        return size

    def predict(
        self,
        x: ArrayLike,
        batch_size: int = 32,
        *,
        lengths: ArrayLike | None = None,
        truncate: int | None = None,
    ) -> Array:
        """Call the model batch by batch, which needs less memory than one call.

        Parameters
        ----------
        x, batch_size, lengths
            As in `fit`.
        truncate : int, optional
            Read long sequences in pieces of so many steps, which needs less memory; the result has
            the same bits.

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
        data = self._read(x, None, lengths)
        found: Array | None = None
        state: Any = None
        for piece in pieces(data, in_batches(data, size), self._piece_size(truncate, data)):
            part = data.taken(piece)
            y, state = self._called(part.x, part.lengths, state if piece.start else None)
            whole = piece.stop is None and not (part.lengths is not None and self._keeps_steps)
            if found is None:
                outer = y.shape[1:] if whole else (data.x.shape[1], *y.shape[2:])
                found = np.zeros((len(data), *outer), y.dtype)
            if whole:
                found[piece.rows] = y
                continue
            if part.lengths is not None:
                real = np.arange(y.shape[1]) < part.lengths[:, None]
                y = np.where(real[..., None], y, 0)
            found[piece.rows, piece.start : piece.start + y.shape[1]] = y
        assert found is not None
        return found

    # --- files and text --------------------------------------------------------------------------

    def _named(self) -> dict[str, Any]:
        return {f"{k}.": one for k, one in enumerate(self.layers)}

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
        rows = [
            (
                f"{k}.{type(layer).__name__}",
                str(flow),
                sum(a.size for a in layer.params.values()),
            )
            for k, (layer, flow) in enumerate(zip(self.layers, self._flows[1:], strict=True))
        ]
        return table(("layer", "output", "parameters"), rows)


def _swapped(a: Array) -> Array:
    """Return a view with steps and batch swapped if `a` is sequences, (T, B, F) or (B, T, F)."""
    return a.swapaxes(0, 1) if a.ndim == 3 else a
