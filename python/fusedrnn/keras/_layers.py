"""SimpleRNN, LSTM and GRU: Keras's layers whose walk over time runs the fused kernels."""

from __future__ import annotations

from typing import Any

import keras

from . import _route
from ._arrays import Call, Packs

_PACKS = "_fusedrnn_packs"


class Fused:
    """What the three layers share."""

    cell: Any
    use_cudnn: Any
    name: str
    go_backwards: bool
    zero_output_for_mask: bool

    def _packs(self) -> Packs:
        # In __dict__, which Keras does not track, and which copies of the layer do not need.
        found = self.__dict__.get(_PACKS)
        if found is None:
            found = self.__dict__[_PACKS] = Packs()
        return found

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()  # type: ignore[misc]
        return {k: v for k, v in (state or self.__dict__).items() if k != _PACKS}

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> Any:
        """Walk over time; arguments and results are the parent's."""
        why = _route.of_layer(self) or _route.of_dropout(self, bool(training))
        if isinstance(mask, list | tuple):
            mask = mask[0]
        states = initial_state if isinstance(initial_state, list | tuple) else [initial_state]
        found = None
        if not why:
            found = self._walk(sequences, list(states), mask, bool(training))
        if found is None:
            return super().inner_loop(  # type: ignore[misc]
                sequences=sequences, initial_state=initial_state, mask=mask, training=training
            )
        outputs, last = found
        return outputs[:, -1], outputs, last

    def _walk(self, x: Any, states: list[Any], mask: Any, training: bool) -> Any:
        cell = self.cell
        tensors = [keras.ops.convert_to_tensor(t) for t in (x, *states)]
        own = [cell.kernel, cell.recurrent_kernel, *([cell.bias] if cell.use_bias else [])]
        weights = [keras.ops.convert_to_tensor(w) for w in own]
        if _route.backend() == "torch":
            from . import _torch as way
        elif _route.backend() == "tensorflow":
            from . import _tensorflow as way  # type: ignore[no-redef]
        else:
            from . import _numpy as way  # type: ignore[no-redef]
        if not way.fits([*tensors, *weights], mask):
            return None
        x, *states = tensors
        if cell.dropout and (training or isinstance(self, keras.layers.SimpleRNN)):
            factors = cell.get_dropout_mask(x[:, 0, :])
            if training:
                x = x * factors[:, None, :]
        name = _route.cell_of(self)
        assert name is not None
        numpys = _route.backend() == "numpy"
        call = Call(name, self.go_backwards, self.zero_output_for_mask, numpys)
        return way.walk(self._packs(), call, x, states, weights, mask)


def _take_over(layer: Any) -> None:
    """Set what a layer of ours has unlike its parent: no cuDNN, and no XLA on TensorFlow."""
    if getattr(layer, "use_cudnn", None) == "auto":
        layer.use_cudnn = False
    if _route.backend() == "tensorflow" and not _route.of_layer(layer):
        layer.supports_jit = False


@keras.saving.register_keras_serializable(package="fusedrnn")
class SimpleRNN(Fused, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` on fused kernels; same arguments, weights and results.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.keras import SimpleRNN
    >>> tuple(SimpleRNN(5)(np.zeros((2, 4, 3), "float32")).shape)
    (2, 5)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _take_over(self)


@keras.saving.register_keras_serializable(package="fusedrnn")
class LSTM(Fused, keras.layers.LSTM):
    """`keras.layers.LSTM` on fused kernels; same arguments, weights and results.

    ``use_cudnn="auto"`` becomes False, since the fused walk takes its place.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.keras import LSTM
    >>> tuple(LSTM(5, return_sequences=True)(np.zeros((2, 4, 3), "float32")).shape)
    (2, 4, 5)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _take_over(self)


@keras.saving.register_keras_serializable(package="fusedrnn")
class GRU(Fused, keras.layers.GRU):
    """`keras.layers.GRU` on fused kernels; same arguments, weights and results.

    ``use_cudnn="auto"`` becomes False, since the fused walk takes its place.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn.keras import GRU
    >>> y, h = GRU(5, return_state=True)(np.zeros((2, 4, 3), "float32"))
    >>> tuple(h.shape)
    (2, 5)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _take_over(self)


for _one in (SimpleRNN, LSTM, GRU):
    _one.__module__ = "fusedrnn.keras"  # the module that saved models and pickles name
