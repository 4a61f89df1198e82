"""The attributes of a recurrent node as data, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from . import _errors
from ._activations import PARAMETERS, Activation, chosen

# By operator: the number of gates, and the activations of one direction if the node names none.
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
VERSIONS = (7, 14, 22)  # of all three operators


@dataclass(frozen=True)
class Attributes:
    """The attributes of a node; `where` names it in error texts."""

    where: str
    operator: str
    hidden_size: int | None
    direction: str
    batch_first: bool
    activations: tuple[tuple[Activation, ...], ...]  # for each direction
    clip: float | None
    coupled: bool
    reset_after: bool

    @property
    def directions(self) -> int:
        """The number of directions, 1 or 2."""
        return DIRECTIONS[self.direction]


def read(where: str, node: Any, opset: int) -> Attributes:
    """Read the attributes of an RNN, GRU or LSTM node of a model of that opset."""
    schema = onnx.defs.get_schema(node.op_type, max(opset, 1), "")
    if schema.since_version not in VERSIONS:
        expected = f"opset 7 or later, with version {_errors.listed(VERSIONS)} of the operator"
        got = f"opset {opset}, with version {schema.since_version}"
        _errors.differs(where, "operator", expected, got)
    values = {a.name: value_of(where, a, schema) for a in node.attribute}
    operator = node.op_type
    direction = _choice(where, "direction", values.get("direction", "forward"), *DIRECTIONS)
    hidden_size = values.get("hidden_size")
    if hidden_size is not None and hidden_size < 1:
        _errors.differs(where, "attribute hidden_size", "at least 1", hidden_size)
    clip = values.get("clip")
    if clip is not None and not clip > 0:
        _errors.differs(where, "attribute clip", "a positive number", clip)
    return Attributes(
        where,
        operator,
        hidden_size,
        direction,
        bool(_choice(where, "layout", values.get("layout", 0), 0, 1)),
        _activations(where, operator, DIRECTIONS[direction], values),
        clip,
        bool(_choice(where, "input_forget", values.get("input_forget", 0), 0, 1)),
        bool(values.get("linear_before_reset", 0)),
    )


def value_of(where: str, attribute: Any, schema: Any) -> Any:
    """Return the value of an attribute; refuse one that the operator lacks, or of another type."""
    name = attribute.name
    if name not in schema.attributes:
        expected = f"{_errors.listed(sorted(schema.attributes))} in version {schema.since_version}"
        _errors.differs(where, "attributes", expected, repr(name))
    expected = schema.attributes[name].type.name
    got = onnx.AttributeProto.AttributeType.Name(attribute.type)
    if got != expected:
        _errors.differs(where, f"attribute {name}", expected, got)
    value = onnx.helper.get_attribute_value(attribute)
    if expected == "STRINGS":
        return [part.decode(errors="replace") for part in value]
    return value.decode(errors="replace") if expected == "STRING" else value


def _choice(where: str, name: str, value: Any, *choices: Any) -> Any:
    if value not in choices:
        expected = f"one of {_errors.listed(map(repr, choices))}"
        _errors.differs(where, f"attribute {name}", expected, repr(value))
    return value


def _activations(
    where: str, operator: str, directions: int, values: dict[str, Any]
) -> tuple[tuple[Activation, ...], ...]:
    """Return the activations of each direction."""
    each = len(DEFAULTS[operator])
    names = values.get("activations") or DEFAULTS[operator] * directions
    if operator == "RNN" and directions == 1 and [*names] == ["Tanh", "Tanh"]:
        names = names[:1]  # the specification's default has two, for every direction
    if len(names) != each * directions:
        expected = f"{each * directions} names, {each} for each of {directions} direction(s)"
        got = f"{len(names)}: {_errors.listed(names)}"
        _errors.differs(where, "attribute activations", expected, got)
    found = chosen(where, names, *(values.get(name) or () for name in PARAMETERS))
    return tuple(tuple(found[d * each : (d + 1) * each]) for d in range(directions))
