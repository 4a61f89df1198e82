"""Parts of a model besides its recurrent layers, with NumPy and the kernels only.

What belongs here: a dense layer, losses, metrics, optimisers and clipping. Whole models are
elsewhere: the text model of `fusedrnn train` is in `fusedrnn.charlm`. This room knows public names,
and the checks that it shares with layers.
"""

from ..layers import Dense
from . import metrics
from .clipping import clip_global_norm, clip_value
from .losses import Loss, binary_cross_entropy, mae, mse, softmax_cross_entropy
from .optim import SGD, Adam, AdamW, RMSprop

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Dense",
    "Loss",
    "RMSprop",
    "binary_cross_entropy",
    "clip_global_norm",
    "clip_value",
    "mae",
    "metrics",
    "mse",
    "softmax_cross_entropy",
]
