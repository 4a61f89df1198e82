"""A look inside recurrent layers: gradients over time, Jacobians, gates, states; and their plots.

What belongs here: functions that compute arrays about a layer and a sequence, with public names
only, and `plot`, which draws such arrays. Only `plot` imports matplotlib, when it first draws; the
extra ``plot`` installs it. Nothing imports this package.

Arrays have time first, then the sequences of the batch, whatever the layer's ``batch_first``.
Without a batch axis in x they have none either. A result for each layer of a stack and each
direction has the index layer * D + direction, as states have.
"""

from . import plot
from ._activity import (
    Projection,
    Saturation,
    States,
    gate_trace,
    project,
    saturation,
    states,
)
from ._gradients import GradientNorms, gradient_norms
from ._jacobians import jacobian_products, spectral_radius

__all__ = [
    "GradientNorms",
    "Projection",
    "Saturation",
    "States",
    "gate_trace",
    "gradient_norms",
    "jacobian_products",
    "plot",
    "project",
    "saturation",
    "spectral_radius",
    "states",
]
