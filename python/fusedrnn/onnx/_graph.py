"""A graph, or a body, as steps in the order of running; constants folded, weights packed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from .. import _protos
from . import _control, _errors, _product
from ._attributes import GATES
from ._layers import Step, Value
from ._node import Node
from ._plain import OLDEST, Plain, array
from ._report import Ledger

# Domains of the ONNX standard; onnx.reference runs their operators.
DOMAINS = ("", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.training")


@dataclass(frozen=True)
class Context:
    """Data needed to read the nodes of a graph."""

    opsets: Mapping[str, int]
    functions: Mapping[tuple[str, str, str], Any]
    ledger: Ledger
    path: str = ""  # labels of the nodes around the graph, each with a "/" after it
    depth: int = 0
    certain: bool = True  # whether every run of the model runs the graph; of a branch, False

    def inside(self, path: str, certain: bool = False) -> Context:
        """Return the context of a body of the node with that path."""
        return replace(
            self, path=f"{path}/", depth=self.depth + 1, certain=self.certain and certain
        )


class Graph:
    """Nodes in the order in which they run.

    `constants` are values that no run changes, including those of the graphs around this one.
    `outside` are the names of other values that the graphs around it will have; `captured` are
    those of them that this graph reads.
    """

    def __init__(
        self,
        nodes: Iterable[Any],
        inputs: Iterable[str],
        outputs: Iterable[str],
        constants: Mapping[str, Value],
        context: Context,
        outside: AbstractSet[str] = frozenset(),
    ) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._context = context
        fixed = {k: v for k, v in constants.items() if k not in self.inputs}
        known = {*outside, *self.inputs, *fixed}
        steps: list[Step] = []
        for path, proto in _protos.labels(nodes, context.path):
            where = _errors.place(proto, path)
            context.ledger.count(where)
            missing = [name for name in proto.input if name and name not in known]
            if missing:
                expected = "names of inputs, initializers or outputs of nodes before it"
                _errors.differs(where, "inputs", expected, _errors.listed(missing))
            step = self._step(where, path, proto, fixed, known)
            if step is not None:
                steps.append(step)
                for name in proto.output:  # it hides a constant of that name around this graph
                    fixed.pop(name, None)
            known.update(filter(None, proto.output))
        missing = [name for name in self.outputs if name not in known]
        if missing:
            expected = "names of inputs, initializers or outputs of nodes"
            where = f"onnx: outputs of {context.path or 'the graph'}"
            _errors.differs(where, "names", expected, _errors.listed(missing))
        self._constants = self._wanted(steps, fixed)
        computed = {name for step in steps for name in step.outputs}
        wanted = {*self.outputs, *(name for step in steps for name in step.inputs)}
        own = {*self.inputs, *computed, *self._constants}
        self.captured = tuple(sorted(wanted - own))
        self._steps = list(zip(steps, self._find_last_uses(steps), strict=True))

    def _wanted(self, steps: list[Step], fixed: Mapping[str, Value]) -> dict[str, Value]:
        """Return the constants that a run reads."""
        names = {*self.outputs, *(name for step in steps for name in step.inputs)}
        return {name: fixed[name] for name in names if name in fixed}

    def _find_last_uses(self, steps: list[Step]) -> list[list[str]]:
        """Return, for each step, the names that no later step reads."""
        seen = set(self.outputs)
        last: list[list[str]] = []
        for step in reversed(steps):
            names = {*step.inputs, *filter(None, step.outputs)} - seen
            last.append(sorted(names))
            seen |= names
        return last[::-1]

    def run(self, values: dict[str, Value], num_threads: int | None) -> list[Value]:
        """Compute the outputs from inputs and captured values; free each after its last use."""
        values = self._constants | values
        for step, used_up in self._steps:
            values |= step.run(values, num_threads)
            for name in used_up:
                values.pop(name, None)  # it may be an output that the node did not make
        return [values[name] for name in self.outputs]

    # --- one node ---------------------------------------------------------------------------------

    def _step(
        self, where: str, path: str, proto: Any, fixed: dict[str, Value], known: AbstractSet[str]
    ) -> Step | None:
        """Return the step of a node; None if it was computed now, with its values in `fixed`."""
        context = self._context
        key = _protos.function_key(proto)
        if key in context.functions:
            return self._call(where, path, proto, fixed, known)
        domain = _protos.domain(proto)
        operator = f"{domain}.{proto.op_type}" if domain else proto.op_type
        opset = context.opsets.get(domain, 0)
        self._check_standard(where, domain, operator, opset)
        place = context.ledger.place
        if not domain and operator in GATES:
            place(path, operator, "kernel")
            return Node(where, proto, opset, fixed)
        if not domain and operator in _control.CONTROL:
            place(path, operator, "control")
            return self._with_bodies(where, path, proto, fixed, known)
        if domain != proto.domain:  # "ai.onnx", which onnx.reference does not know
            proto = _copied(proto)
            proto.domain = domain
        constant = fixed.keys() >= {*filter(None, proto.input)}
        product = None
        if not (constant or domain):
            product = _product.product(where, proto, opset, fixed)
        if product is not None:
            place(path, operator, "kernel")
            return product
        plain = Plain(where, proto, context.opsets, context.ledger)
        if constant and plain.folds:
            try:
                with np.errstate(all="ignore"):
                    found = plain.compute(fixed)
            except ValueError:
                if context.certain:
                    raise
            else:
                for a in found.values():
                    if isinstance(a, np.ndarray):
                        a.flags.writeable = False  # a run may return it
                fixed |= found
                place(path, operator, "constant")
                return None
        place(path, operator, "reference")
        return plain

    def _check_standard(self, where: str, domain: str, operator: str, opset: int) -> None:
        if domain not in DOMAINS:
            expected = "an operator of ONNX or a function of the model"
            _errors.differs(where, "operator", expected, operator)
        if not opset:
            name = domain or "ONNX's own operators"
            _errors.differs(where, "opset_import", f"the version of {name}", "none")
        name = operator.removeprefix(f"{domain}.")
        if not onnx.defs.has(name, opset, domain):
            expected = f"an operator of ONNX in version {opset} or a function of the model"
            _errors.differs(where, "operator", expected, operator)
        if not domain and opset < OLDEST and operator not in GATES:
            _errors.differs(where, "opset_import", f"opset {OLDEST} or later", f"opset {opset}")

    def _body(self, where: str, graph: Any, context: Context, fixed: Any, known: Any) -> Graph:
        deeper(where, context)
        own = initializers(graph, f"{where}: {graph.name or 'body'}")
        inputs = [value.name for value in graph.input]
        outputs = [value.name for value in graph.output]
        return Graph(graph.node, inputs, outputs, {**fixed, **own}, context, known)

    def _with_bodies(
        self, where: str, path: str, proto: Any, fixed: Mapping[str, Value], known: AbstractSet[str]
    ) -> Step:
        bodies = {
            name: self._body(where, graph, self._context.inside(f"{path}/{name}"), fixed, known)
            for name, graph in _protos.bodies(proto).items()
        }
        opset = self._context.opsets[""]
        return _control.CONTROL[proto.op_type](where, proto, bodies, opset)

    def _call(
        self, where: str, path: str, proto: Any, fixed: Mapping[str, Value], known: AbstractSet[str]
    ) -> Step:
        """Put a function's body in place of a call."""
        function = self._context.functions[_protos.function_key(proto)]
        operator = f"{proto.domain}.{proto.op_type}"
        self._context.ledger.place(path, operator, "control")
        context = self._context.inside(path, certain=True)
        context = replace(context, opsets=_protos.opsets(function.opset_import))
        deeper(where, context)
        pairs = zip(function.input, proto.input, strict=False)
        constants = {formal: fixed[actual] for formal, actual in pairs if actual in fixed}
        inputs = list(function.input)
        body = Graph(
            _protos.unfolded(function, proto),
            [name for name in inputs if name not in constants],
            function.output,
            constants,
            context,
        )
        return _control.Call(where, proto, inputs, body)


def deeper(where: str, context: Context) -> None:
    """Refuse bodies and functions nested too deep: functions may call themselves without end."""
    if context.depth > _protos.MAX_DEPTH:
        expected = f"at most {_protos.MAX_DEPTH} inside one another"
        _errors.differs(where, "bodies and called functions", expected, "more")


def initializers(graph: Any, where: str) -> dict[str, Value]:
    """Return the initializers of a graph, as arrays."""
    if graph.sparse_initializer:
        _errors.differs(where, "initializers", "dense ones", "sparse ones")
    return {tensor.name: array(where, tensor) for tensor in graph.initializer}


def _copied(proto: Any) -> Any:
    copy = type(proto)()
    copy.CopyFrom(proto)
    return copy
