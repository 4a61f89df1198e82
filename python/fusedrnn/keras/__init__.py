"""SimpleRNN, LSTM and GRU for Keras 3 on the kernels, on whichever backend Keras has.

What belongs here: `_layers` has the three subclasses of Keras' own layers, which replace only the
loop over time; `_job` says what of a layer the kernels compute, and why they do not compute the
rest; `_walks` runs a layer on NumPy arrays, forward and backward; `_torch` and `_tensorflow` make
that an operation of a framework with a gradient, and `_jax` stands on `fusedrnn.jax`; `_models`
gives the layers of a whole model the fused classes, or Keras' own again. This room knows Keras and
the public names of `core`.
"""

from ._layers import GRU, LSTM, SimpleRNN
from ._models import Line, accelerate, report, restore

__all__ = ["GRU", "LSTM", "Line", "SimpleRNN", "accelerate", "report", "restore"]
