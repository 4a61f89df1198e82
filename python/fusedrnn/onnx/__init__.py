"""ONNX models on fusedrnn: a backend for graphs of RNN, GRU and LSTM nodes (extra ``onnx``).

`export` writes layers as ONNX models. `Backend` follows ``onnx.backend.base``: ``prepare(model)``
reads the graph and packs the weights once, and the `BackendRep` that it returns runs them many
times; `run_model` and `run_node` do both at once. All attributes of the operators are supported,
from opset 7. docs/onnx.md has an example, the rules, and what runs other standard operators.
"""

from ._errors import not_installed

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    not_installed(error)

from ._export import export
from ._rep import BackendRep
from ._report import Placement, Report, SlowNodeWarning
from .backend import Backend

__all__ = [
    "Backend",
    "BackendRep",
    "Placement",
    "Report",
    "SlowNodeWarning",
    "export",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]

# Some tools of ONNX take a module as a backend.
is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
