"""Keras 3's recurrent layers on fused kernels: the same layers, faster on the CPU.

What belongs here: subclasses of ``keras.layers.SimpleRNN``, ``LSTM`` and ``GRU`` that compute
through `fusedrnn.core`, and `accelerate`, which gives the layers of a model these classes. They
keep the weights, arguments and results of their parents. If the kernels cannot make a call, the
parent does. Nothing else in fusedrnn imports this room.

    from fusedrnn.keras import LSTM
    model = fusedrnn.keras.accelerate(model)
"""

from ._layers import GRU, LSTM, SimpleRNN
from ._models import Line, Report, accelerate, report, restore

__all__ = ["GRU", "LSTM", "Line", "Report", "SimpleRNN", "accelerate", "report", "restore"]
