"""The activations of a node: their names, and how alpha and beta are shared out among them.

The specification says only that ``activation_alpha`` and ``activation_beta`` are "consumed in the
order of activation functions", and implementations read that in two ways. A list with one value for
each activation is read by position, as in OpenVINO and onnx.reference; values for activations that
do not have the parameter are ignored. A shorter list has values only for the activations that have
the parameter, in order, those of the reverse direction last, as in ONNX Runtime. If every
activation has the parameter, both readings agree. Activations without a value have the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from . import _errors

# fusedrnn's name, and those of alpha and beta that the activation has.
Activation: TypeAlias = tuple[str, tuple[float, ...]]

# ONNX's name: fusedrnn's name, with the defaults of those of alpha and beta that the activation
# has. These are the defaults of the operator of the same name. Affine and ScaledTanh are not
# operators any more; with their defaults here they scale and shift nothing.
TABLE: dict[str, Activation] = {
    "Relu": ("relu", ()),
    "Tanh": ("tanh", ()),
    "Sigmoid": ("sigmoid", ()),
    "Affine": ("affine", (1.0, 0.0)),
    "LeakyRelu": ("leaky_relu", (0.01,)),
    "ThresholdedRelu": ("thresholded_relu", (1.0,)),
    "ScaledTanh": ("scaled_tanh", (1.0, 1.0)),
    "HardSigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "Elu": ("elu", (1.0,)),
    "Softsign": ("softsign", ()),
    "Softplus": ("softplus", ()),
}
_BY_LOWER = {name.lower(): entry for name, entry in TABLE.items()}
PARAMETERS = ("activation_alpha", "activation_beta")


def chosen(
    where: str, names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> list[Activation]:
    """Return a node's activations with their parameters, those of the reverse direction last."""
    entries = []
    for name in names:
        entry = _BY_LOWER.get(name.lower())  # exporters and runtimes differ in case
        if entry is None:
            expected = f"names of {_errors.listed(TABLE)}"
            _errors.differs(where, "attribute activations", expected, repr(name))
        entries.append(entry)
    columns = [
        _consumed(where, attribute, values, [entry[1][k : k + 1] for entry in entries])
        for k, (attribute, values) in enumerate(zip(PARAMETERS, (alphas, betas), strict=True))
    ]
    return [(entry[0], alpha + beta) for entry, alpha, beta in zip(entries, *columns, strict=True)]


def _consumed(
    where: str, attribute: str, values: Sequence[float], defaults: Sequence[tuple[float, ...]]
) -> list[tuple[float, ...]]:
    """Return one parameter of each activation: its value, or () if the activation has none."""
    takers = sum(map(len, defaults))
    if len(values) == len(defaults):
        return [(v,) if default else () for v, default in zip(values, defaults, strict=True)]
    if len(values) > takers:
        expected = f"at most {takers} values, for the activations that have one, or {len(defaults)}"
        _errors.differs(where, f"attribute {attribute}", expected, len(values))
    left = iter(values)
    return [(next(left, default[0]),) if default else () for default in defaults]
