"""PyTorch's recurrent layers on fused kernels: the same modules, faster on the CPU.

What belongs here: subclasses of ``torch.nn.RNN``, ``LSTM``, ``GRU`` and their cells that compute
through `fusedrnn.core`, and `accelerate`, which gives the layers of a model these classes. They
keep the parameters, state_dict, arguments and results of their parents. If the kernels cannot make
a call, the parent's forward does. Nothing else in fusedrnn imports this room.

    from fusedrnn.torch import LSTM
    model = fusedrnn.torch.accelerate(model)
"""

from ._cells import GRUCell, LSTMCell, RNNCell
from ._layers import GRU, LSTM, RNN
from ._models import Line, Report, accelerate, freeze, report, restore, unfreeze

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "Line",
    "RNNCell",
    "Report",
    "accelerate",
    "freeze",
    "report",
    "restore",
    "unfreeze",
]
