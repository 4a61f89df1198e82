"""RNN, LSTM and GRU layers on fused SIMD kernels, for NumPy."""

from ._backend import ReferenceBackendWarning
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
    set_num_threads,
    supported_isas,
    use_backend,
    use_isa,
)
from .stream import Stream

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
    "rnn_backward",
    "rnn_forward",
    "save",
    "set_num_threads",
    "supported_isas",
    "use_backend",
    "use_isa",
]
