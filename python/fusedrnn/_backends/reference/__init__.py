"""The NumPy backend: every cell written from the equations, to be read beside docs/conventions.md.

What belongs here: `walks` takes the steps of a call forwards and back, `call` says which rows live
at a step and what their weights are, `cells`, `chosen` and `norm` hold the equations of the cells.
Results differ from the compiled kernels' by rounding alone.
"""

from .walks import ReferenceBackend

__all__ = ["ReferenceBackend"]
