"""What stands around the layers of a model, from NumPy and the kernels alone.

Here belong a dense layer, losses and an optimiser. Whole models are built elsewhere: the text model
of `fusedrnn train` is in `fusedrnn.charlm`.
"""

from ..layers import Dense
from .losses import Loss, mse, softmax_cross_entropy
from .optim import Adam, clip_global_norm

__all__ = [
    "Adam",
    "Dense",
    "Loss",
    "clip_global_norm",
    "mse",
    "softmax_cross_entropy",
]
