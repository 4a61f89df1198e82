"""Parts of a model besides its recurrent layers, with NumPy and the kernels only.

What belongs here: a dense layer, losses and an optimiser. Whole models are elsewhere: the text
model of `fusedrnn train` is in `fusedrnn.charlm`. This room knows public names, and the checks that
it shares with layers.
"""

from ..layers import Dense
from .clipping import clip_global_norm, clip_value
from .losses import Loss, mse, softmax_cross_entropy
from .optim import SGD, Adam, AdamW, RMSprop

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Dense",
    "Loss",
    "RMSprop",
    "clip_global_norm",
    "clip_value",
    "mse",
    "softmax_cross_entropy",
]
