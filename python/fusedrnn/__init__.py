"""RNN, LSTM and GRU layers on fused SIMD kernels, for NumPy.

The packages ``core``, ``nn``, ``charlm``, ``forecasting``, ``inspect``, ``weights`` and ``onnx``
are imported when first used.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from ._backends.choice import ReferenceBackendWarning
from ._version import __version__
from .files import load, load_notes, save
from .layers import GRU, LSTM, RNN
from .ops import (
    dense_backward,
    dense_forward,
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    rnn_backward,
    rnn_forward,
)
from .runtime import (
    build_config,
    isa,
    last_path,
    num_threads,
    path_counts,
    set_num_threads,
    supported_isas,
    use_backend,
    use_isa,
)
from .stream import Stream

if TYPE_CHECKING:
    from types import ModuleType

    from . import charlm as charlm
    from . import core as core
    from . import forecasting as forecasting
    from . import inspect as inspect
    from . import nn as nn
    from . import onnx as onnx
    from . import weights as weights

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "ReferenceBackendWarning",
    "Stream",
    "__version__",
    "build_config",
    "dense_backward",
    "dense_forward",
    "gru_backward",
    "gru_forward",
    "isa",
    "last_path",
    "load",
    "load_notes",
    "lstm_backward",
    "lstm_forward",
    "num_threads",
    "path_counts",
    "rnn_backward",
    "rnn_forward",
    "save",
    "set_num_threads",
    "supported_isas",
    "use_backend",
    "use_isa",
]

# Imported when first used, so that `import fusedrnn` does not pay for them.
_ROOMS = ("charlm", "core", "forecasting", "inspect", "nn", "onnx", "weights")

if not TYPE_CHECKING:  # otherwise a type checker would accept every misspelt name

    def __getattr__(name: str) -> ModuleType:
        if name in _ROOMS:
            return _import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
