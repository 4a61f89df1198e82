"""Parts of a model besides its recurrent layers, with NumPy and the kernels only.

What belongs here: layers that are not recurrent, attention, losses, metrics, optimisers,
learning-rate schedules, clipping, early stopping, and models: layers in a row, and an encoder
with a decoder. The text model of
`fusedrnn train` is in `fusedrnn.charlm`. This package knows public names, the parameters of layers,
and the checks that it shares with layers.
"""

from ..layers import Dense
from . import metrics, schedules
from ._training import History
from .activation import Activation
from .attention import Attention, AttentionGradients
from .clipping import clip_global_norm, clip_value
from .dropout import Dropout
from .embedding import Embedding, Nearest, RowGradients
from .last import Last
from .layer_norm import LayerNorm
from .losses import Loss, binary_cross_entropy, mae, mse, softmax_cross_entropy
from .optim import SGD, Adam, AdamW, RMSprop
from .pool import Pool
from .repeat_vector import RepeatVector
from .sampling import sample
from .seq2seq import Seq2Seq
from .sequential import Sequential
from .stopping import EarlyStopping

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "Attention",
    "AttentionGradients",
    "Dense",
    "Dropout",
    "EarlyStopping",
    "Embedding",
    "History",
    "Last",
    "LayerNorm",
    "Loss",
    "Nearest",
    "Pool",
    "RMSprop",
    "RepeatVector",
    "RowGradients",
    "Seq2Seq",
    "Sequential",
    "binary_cross_entropy",
    "clip_global_norm",
    "clip_value",
    "mae",
    "metrics",
    "mse",
    "sample",
    "schedules",
    "softmax_cross_entropy",
]
