"""Parts of a model besides its recurrent layers, with NumPy and the kernels only.

What belongs here: a dense layer, losses, metrics, optimisers, learning-rate schedules, clipping
and early stopping. Whole models are elsewhere: the text model of `fusedrnn train` is in
`fusedrnn.charlm`. This room knows public names, and the checks that it shares with layers.
"""

from ..layers import Dense
from . import metrics, schedules
from .clipping import clip_global_norm, clip_value
from .losses import Loss, binary_cross_entropy, mae, mse, softmax_cross_entropy
from .optim import SGD, Adam, AdamW, RMSprop
from .stopping import EarlyStopping

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Dense",
    "EarlyStopping",
    "Loss",
    "RMSprop",
    "binary_cross_entropy",
    "clip_global_norm",
    "clip_value",
    "mae",
    "metrics",
    "mse",
    "schedules",
    "softmax_cross_entropy",
]
