"""Parts of a model besides its recurrent layers, with NumPy and the kernels only.

What belongs here: layers that are not recurrent, attention, losses and an optimiser. Whole models
are elsewhere: the text model of `fusedrnn train` is in `fusedrnn.charlm`. This room knows public
names, the parameters of layers, and the checks that it shares with layers.
"""

from ..layers import Dense
from .activation import Activation
from .attention import Attention, AttentionGradients
from .dropout import Dropout
from .embedding import Embedding, Nearest, RowGradients
from .layer_norm import LayerNorm
from .losses import Loss, mse, softmax_cross_entropy
from .optim import Adam, clip_global_norm
from .repeat_vector import RepeatVector

__all__ = [
    "Activation",
    "Adam",
    "Attention",
    "AttentionGradients",
    "Dense",
    "Dropout",
    "Embedding",
    "LayerNorm",
    "Loss",
    "Nearest",
    "RepeatVector",
    "RowGradients",
    "clip_global_norm",
    "mse",
    "softmax_cross_entropy",
]
