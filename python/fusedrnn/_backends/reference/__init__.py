"""The NumPy backend: every cell written from the equations, to be read beside docs/conventions.md.

What belongs here: `walks` has the walks over the steps of a call, forward and backward, `call` the
live rows of each step and the weights by slot, `cells`, `chosen` and `norm` the equations of the
cells. Results differ from the compiled kernels' by rounding only.
"""

from .walks import ReferenceBackend

__all__ = ["ReferenceBackend"]
