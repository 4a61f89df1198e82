"""If, Loop, Scan, SequenceMap and calls of functions: nodes that run graphs.

onnx.reference has these nodes too, but it would run recurrent nodes inside them itself. It also
stacks the outputs of a Loop along the wrong axis, and lacks the axes and directions of a Scan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnx

from . import _errors
from ._layers import Array, Value, named


class Body(Protocol):
    """The part of a graph that these nodes use; `_graph.Graph` is one."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: tuple[str, ...]

    def run(self, values: dict[str, Value], num_threads: int | None) -> list[Value]:
        """Compute the outputs from inputs and captured values."""


class Control(ABC):
    """A node with bodies: it reads its own inputs and what its bodies capture."""

    def __init__(self, where: str, proto: Any, bodies: Mapping[str, Body]) -> None:
        self.where = where
        self._arguments = tuple(proto.input)
        self._captured = tuple(dict.fromkeys(n for b in bodies.values() for n in b.captured))
        self.inputs = tuple(dict.fromkeys(filter(None, (*self._arguments, *self._captured))))
        self.outputs = tuple(proto.output)

    def run(self, values: Mapping[str, Value], num_threads: int | None) -> dict[str, Value]:
        """Compute outputs by name, from the values of the graph so far."""
        arguments = [values[name] if name else None for name in self._arguments]
        outside = {name: values[name] for name in self._captured}
        return named(self.where, self.outputs, self._run(arguments, outside, num_threads))

    @abstractmethod
    def _run(
        self, arguments: list[Value], outside: dict[str, Value], num_threads: int | None
    ) -> Sequence[Value]:
        """Compute outputs in order; `outside` holds what the bodies capture."""

    def _numbers(self, what: str, least: int, found: int) -> None:
        """Refuse a node with fewer inputs, or outputs, than its bodies need."""
        if found < least:
            _errors.differs(self.where, what, f"at least {least}", found)

    def _scalar(self, name: str, value: Value) -> Any:
        if not isinstance(value, np.ndarray) or value.size != 1:
            _errors.differs(self.where, f"input {name}", "one element", _errors.describe(value))
        return value.reshape(-1)[0].item()

    def _matching(self, what: str, body: Body, expected: int, outputs: int) -> None:
        found = f"{len(body.inputs)} and {len(body.outputs)}"
        if found != f"{expected} and {outputs}":
            expects = f"{expected} inputs and {outputs} outputs"
            _errors.differs(self.where, what, expects, found)


class Call:
    """A call of a function of the model; `formals` are the function's names for its inputs."""

    def __init__(self, where: str, proto: Any, formals: Sequence[str], body: Body) -> None:
        for what, found, most in (
            ("inputs", len(proto.input), len(formals)),
            ("outputs", len(proto.output), len(body.outputs)),
        ):
            if found > most:
                _errors.differs(where, what, f"at most the function's {most}", found)
        # Constants are in the body already, and inputs that the call leaves out are not read there.
        pairs = zip(formals, proto.input, strict=False)
        self._given = {formal: name for formal, name in pairs if name and formal in body.inputs}
        self._where, self._body = where, body
        self.inputs = tuple(dict.fromkeys(self._given.values()))
        self.outputs = tuple(proto.output)

    def run(self, values: Mapping[str, Value], num_threads: int | None) -> dict[str, Value]:
        """Compute outputs by name, from the values of the graph so far."""
        given = {formal: values[name] for formal, name in self._given.items()}
        return named(self._where, self.outputs, self._body.run(given, num_threads))


class If(Control):
    """Runs one of two bodies."""

    def __init__(self, where: str, proto: Any, bodies: Mapping[str, Body], opset: int) -> None:
        super().__init__(where, proto, bodies)
        self._bodies = [required(where, bodies, name) for name in ("else_branch", "then_branch")]
        self._numbers("inputs", 1, len(self._arguments))
        for body in self._bodies:
            self._matching("branches", body, 0, len(self.outputs))

    def _run(
        self, arguments: list[Value], outside: dict[str, Value], num_threads: int | None
    ) -> Sequence[Value]:
        body = self._bodies[bool(self._scalar("cond", arguments[0]))]
        return body.run({name: outside[name] for name in body.captured}, num_threads)


class Loop(Control):
    """Runs a body while a condition holds, and at most M times."""

    def __init__(self, where: str, proto: Any, bodies: Mapping[str, Body], opset: int) -> None:
        super().__init__(where, proto, bodies)
        self._body = required(where, bodies, "body")
        self._numbers("inputs", 2, len(self._arguments))
        self._carried = len(self._arguments) - 2
        stacked = max(len(self._body.outputs) - 1 - self._carried, 0)
        self._matching("body", self._body, 2 + self._carried, 1 + self._carried + stacked)
        self._rows = declared(where, proto, "body")[1 + self._carried :]

    def _run(
        self, arguments: list[Value], outside: dict[str, Value], num_threads: int | None
    ) -> Sequence[Value]:
        most, go_on, *carried = arguments
        count = None if most is None else int(self._scalar("M", most))
        holds = True if go_on is None else bool(self._scalar("cond", go_on))
        stacks: list[list[Value]] = [[] for _ in self._rows]
        step = 0
        while holds and (count is None or step < count):
            first = [np.array(step, np.int64), np.array(holds), *carried]
            given = dict(zip(self._body.inputs, first, strict=True))
            condition, *found = self._body.run(outside | given, num_threads)
            holds = bool(self._scalar("cond of the body", condition))
            carried, rows = found[: len(carried)], found[len(carried) :]
            for stack, row in zip(stacks, rows, strict=True):
                stack.append(row)
            step += 1
        pairs = zip(stacks, self._rows, strict=True)
        return [*carried, *(stacked(self.where, rows, 0, row) for rows, row in pairs)]


class Scan(Control):
    """Runs a body for each slice of the last inputs; its results are stacked as slices again."""

    def __init__(self, where: str, proto: Any, bodies: Mapping[str, Body], opset: int) -> None:
        super().__init__(where, proto, bodies)
        self._body = required(where, bodies, "body")
        attributes = {
            a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute if a.name != "body"
        }
        # Before version 9, a batch axis came first and lengths were the first input.
        self._batched = opset < 9
        scanned = attributes.get("num_scan_inputs", 0)
        self._states = len(self._arguments) - self._batched - scanned
        if scanned < 1 or self._states < 0:
            expected = f"from 1 to {len(self._arguments)}, its inputs"
            _errors.differs(where, "attribute num_scan_inputs", expected, scanned)
        self._rows = declared(where, proto, "body")[self._states :]
        results = max(len(self._body.outputs) - self._states, 0)
        self._matching("body", self._body, self._states + scanned, self._states + results)
        old = {"scan_input_directions": "directions"} if self._batched else {}
        self._sides = [
            self._numbers_of(attributes, old.get(name, name), count)
            for name, count in (
                ("scan_input_axes", scanned),
                ("scan_input_directions", scanned),
                ("scan_output_axes", results),
                ("scan_output_directions", results),
            )
        ]

    def _numbers_of(self, attributes: Mapping[str, Any], name: str, count: int) -> list[int]:
        values = list(attributes.get(name) or [0] * count)
        wrong = name.endswith("directions") and not set(values) <= {0, 1}
        if len(values) != count or wrong:
            expected = f"{count} numbers{', each 0 or 1' if wrong else ''}"
            _errors.differs(self.where, f"attribute {name}", expected, values)
        return values

    def _run(
        self, arguments: list[Value], outside: dict[str, Value], num_threads: int | None
    ) -> Sequence[Value]:
        arrays: list[Array] = []
        for a in arguments[self._batched :]:
            if not isinstance(a, np.ndarray):
                _errors.wrong_type(self.where, "inputs", "arrays", _errors.describe(a))
            arrays.append(a)
        if not self._batched:
            return self._scanned(arrays, None, outside, num_threads)
        if any(a.ndim < 1 + (k >= self._states) for k, a in enumerate(arrays)):
            shapes = [a.shape for a in arrays]
            _errors.differs(self.where, "inputs", "a batch and a time axis first", shapes)
        steps = arrays[-1].shape[1]
        lengths = arguments[0]
        rows = []
        for b in range(len(arrays[-1])):
            length = steps if lengths is None else int(np.asarray(lengths)[b])
            parts = [a[b] for a in arrays]
            found = list(self._scanned(parts, length, outside, num_threads))
            for k in range(self._states, len(found)):  # zeros after the sequence's end
                whole = np.zeros((steps, *found[k].shape[1:]), found[k].dtype)
                whole[: len(found[k])] = found[k]
                found[k] = whole
            rows.append(found)
        if not rows:
            _errors.differs(self.where, "batch", "at least one sequence", 0)
        return [np.stack(parts) for parts in zip(*rows, strict=True)]

    def _scanned(
        self,
        arrays: list[Array],
        length: int | None,
        outside: dict[str, Value],
        num_threads: int | None,
    ) -> Sequence[Value]:
        in_axes, in_directions, out_axes, out_directions = self._sides
        states: list[Value] = arrays[: self._states]
        slices = []
        for a, axis, direction in zip(arrays[self._states :], in_axes, in_directions, strict=True):
            if not -a.ndim <= axis < a.ndim:
                expected = f"axes of the inputs, such as {a.shape}"
                _errors.differs(self.where, "attribute scan_input_axes", expected, in_axes)
            moved = np.moveaxis(a, axis, 0)[:length]
            slices.append(moved[::-1] if direction else moved)
        counts = {len(a) for a in slices}
        if len(counts) != 1:
            _errors.differs(self.where, "inputs", "as many slices of each", sorted(counts))
        stacks: list[list[Value]] = [[] for _ in self._rows]
        for step in range(counts.pop()):
            first = [*states, *(a[step] for a in slices)]
            given = dict(zip(self._body.inputs, first, strict=True))
            found = self._body.run(outside | given, num_threads)
            states = found[: self._states]
            for stack, row in zip(stacks, found[self._states :], strict=True):
                stack.append(row)
        results = []
        for rows, axis, direction, row in zip(
            stacks, out_axes, out_directions, self._rows, strict=True
        ):
            results.append(stacked(self.where, rows[::-1] if direction else rows, axis, row))
        return [*states, *results]


class SequenceMap(Control):
    """Runs a body for each element of a sequence."""

    def __init__(self, where: str, proto: Any, bodies: Mapping[str, Body], opset: int) -> None:
        super().__init__(where, proto, bodies)
        self._body = required(where, bodies, "body")
        self._numbers("inputs", 1, len(self._arguments))
        self._matching("body", self._body, len(self._arguments), len(self._body.outputs))

    def _run(
        self, arguments: list[Value], outside: dict[str, Value], num_threads: int | None
    ) -> Sequence[Value]:
        counts = {len(a) for a in arguments if isinstance(a, list)}
        if not isinstance(arguments[0], list) or len(counts) != 1:
            got = _errors.listed(map(_errors.describe, arguments))
            _errors.differs(self.where, "inputs", "sequences of one length, and arrays", got)
        results: list[list[Value]] = [[] for _ in self._body.outputs]
        for k in range(counts.pop()):
            parts = [a[k] if isinstance(a, list) else a for a in arguments]
            given = dict(zip(self._body.inputs, parts, strict=True))
            for found, a in zip(results, self._body.run(outside | given, num_threads), strict=True):
                found.append(a)
        return results


def required(where: str, bodies: Mapping[str, Body], name: str) -> Body:
    """Return the body of that name."""
    if name not in bodies:
        _errors.differs(where, f"attribute {name}", "a graph", "none")
    return bodies[name]


class Row(NamedTuple):
    """The shape and dtype of a body's output in each step; sizes that are not declared are 0."""

    shape: tuple[int, ...]
    dtype: Any


def declared(where: str, proto: Any, name: str) -> list[Row]:
    """Return the declared outputs of a body."""
    rows = []
    for value in next(a.g for a in proto.attribute if a.name == name).output:
        tensor = value.type.tensor_type
        shape = tuple(max(d.dim_value, 0) for d in tensor.shape.dim)
        try:
            kind = tensor.elem_type or onnx.TensorProto.FLOAT
            rows.append(Row(shape, onnx.helper.tensor_dtype_to_np_dtype(kind)))
        except Exception as error:  # the type does not exist
            _errors.unreadable(f"{where}: output {value.name!r} of {name}", error)
    return rows


def stacked(where: str, rows: list[Value], axis: int, row: Row) -> Array:
    """Stack rows along a new axis; without rows, make an empty array of their declared shape."""
    try:
        if rows:
            return np.stack(rows, axis)
        shape = list(row.shape)
        shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, 0)
        return np.zeros(shape, row.dtype)
    except Exception as error:  # rows of different shapes, or not arrays
        _errors.failed(where, error)


CONTROL: dict[str, type[If | Loop | Scan | SequenceMap]] = {
    "If": If,
    "Loop": Loop,
    "Scan": Scan,
    "SequenceMap": SequenceMap,
}
