"""RNN, LSTM and GRU layers on fused SIMD kernels, for NumPy."""

from ._backends.choice import ReferenceBackendWarning
from ._version import __version__
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
    "lstm_backward",
    "lstm_forward",
    "num_threads",
    "path_counts",
    "rnn_backward",
    "rnn_forward",
    "set_num_threads",
    "supported_isas",
    "use_backend",
    "use_isa",
]
