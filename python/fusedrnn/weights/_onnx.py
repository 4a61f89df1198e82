"""The recurrent nodes of an ONNX file, with their weights."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .. import _protos
from .._cells import Array
from .._checks import arguments as _check
from . import _text
from ._packages import package

# ONNX's names of a node's weights, and their positions among its inputs.
INPUTS = {"W": 1, "R": 2, "B": 3, "P": 7}
OPERATORS = ("RNN", "LSTM", "GRU")


class OnnxLayer(NamedTuple):
    """One recurrent node of an ONNX graph.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import weights
    >>> node = {"W": np.ones((1, 24, 3)), "R": np.ones((1, 24, 8))}
    >>> found = weights.OnnxLayer("gru", {"hidden_size": 8, "linear_before_reset": 1}, node)
    >>> sorted(weights.from_onnx(found.arrays, found.cell))
    ['weight_hh_l0', 'weight_ih_l0']
    """

    cell: str
    """fusedrnn's name of the cell, from the node's type, W, P and linear_before_reset."""
    attributes: dict[str, Any]
    """The node's attributes: direction, hidden_size, activations, clip ..."""
    arrays: dict[str, Array]
    """The arrays that `from_onnx` takes."""


def onnx_layers(path: str | os.PathLike[str]) -> dict[str, OnnxLayer]:
    """Find the RNN, LSTM and GRU nodes of a .onnx file (extra ``onnx``).

    Weights may be initializers, constants, or computed from these, as some exporters write them:
    slices, concatenations, transpositions.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    dict of str to OnnxLayer
        By the nodes' names, or the names of their first outputs if they have none; in the order of
        the graph. A node inside other nodes (If, Loop, Scan, functions of the model) has their
        names before its own: ``"If_0/then_branch/lstm"``, ``"encoder/lstm"``.
        ``from_onnx(found.arrays, found.cell)`` converts one.

    Raises
    ------
    ValueError
        The file is not an ONNX model, weights of a node depend on inputs of the graph, or there is
        no such node.
    OSError
        The file, or another one with data of its tensors, cannot be read.
    ImportError
        The extra is not installed.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> from fusedrnn import weights
    >>> gru = fr.GRU(3, 8, seed=0)
    >>> fr.onnx.export(gru, "gru.onnx")
    >>> (found,) = weights.onnx_layers("gru.onnx").values()
    >>> found.cell
    'gru'
    >>> fr.GRU(3, 8).load_state_dict(weights.from_onnx(found.arrays, found.cell))
    """
    model = read(path, "onnx_layers")
    graph = model.graph
    functions = _protos.functions(model)
    scope = Scope(graph.node, graph, _protos.opsets(model.opset_import))
    layers = {
        name: _layer(f"onnx_layers: node {name!r}", node, inside)
        for name, node, inside in _recurrent(scope, functions, [0])
    }
    if not layers:
        _check.weights_differ("onnx_layers", "RNN, LSTM or GRU nodes", f"none in {path}")
    return layers


def read(path: str | os.PathLike[str], what: str) -> Any:
    """Read the model in a file; an error for anything else names the file."""
    onnx = package("onnx", "onnx")
    try:
        return onnx.load(os.fspath(path))
    except OSError:
        raise
    except Exception as error:  # parsers raise errors of any class for other bytes
        found = f"{os.fspath(path)}, which cannot be read: {error}"
        _check.weights_differ(what, "an ONNX model", found)


# --- graphs in graphs -------------------------------------------------------------------------


class Source(NamedTuple):
    """The source of a value: the scope that has it, and its name there."""

    scope: Scope
    name: str


class Scope:
    """The names in a graph, in a body inside a node, or in a function that a node calls."""

    def __init__(
        self,
        nodes: Iterable[Any],
        graph: Any,  # None for a function: its inputs are `arguments`, and it has no initializers
        opsets: Mapping[str, int],
        path: str = "",
        outer: Scope | None = None,
        arguments: Mapping[str, Source] | None = None,
    ) -> None:
        self.nodes = list(nodes)
        self.opsets, self.path = opsets, path
        self.depth: int = outer.depth + 1 if outer is not None else 0
        self._around = outer if arguments is None else None
        self._arguments = arguments or {}
        self.tensors = {t.name: t for t in graph.initializer} if graph is not None else {}
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self._inputs = {value.name for value in graph.input} if graph is not None else set()

    def source(self, name: str) -> Source:
        """Return the source of the value of that name."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope._arguments:
                return scope._arguments[name]
            if name in scope.tensors or name in scope.makers or name in scope._inputs:
                return Source(scope, name)
            scope = scope._around
        return Source(self, name)


def _recurrent(
    scope: Scope, functions: Mapping[tuple[str, str, str], Any], count: list[int]
) -> Iterator[tuple[str, Any, Scope]]:
    """Yield the recurrent nodes of a scope and of scopes inside it: path, node, scope."""
    if scope.depth > _protos.MAX_DEPTH:
        expected = f"bodies and functions at most {_protos.MAX_DEPTH} inside one another"
        _check.weights_differ("onnx_layers", expected, f"more at {scope.path[:200]}")
    for path, node in _protos.labels(scope.nodes, scope.path):
        count[0] += 1
        if count[0] > _protos.MAX_NODES:
            expected = f"at most {_protos.MAX_NODES} nodes, those of called functions included"
            _check.weights_differ("onnx_layers", expected, "more")
        function = functions.get(_protos.function_key(node))
        if function is not None:
            pairs = zip(function.input, node.input, strict=False)
            arguments = {formal: scope.source(actual) for formal, actual in pairs if actual}
            body = _protos.unfolded(function, node)
            opsets = _protos.opsets(function.opset_import)
            inside = Scope(body, None, opsets, f"{path}/", scope, arguments)
            yield from _recurrent(inside, functions, count)
        elif _protos.domain(node) == "" and node.op_type in OPERATORS:
            yield path, node, scope
        for name, graph in _protos.bodies(node).items():
            inside = Scope(graph.node, graph, scope.opsets, f"{path}/{name}/", scope)
            yield from _recurrent(inside, functions, count)


# --- weights ----------------------------------------------------------------------------------


def _layer(where: str, node: Any, scope: Scope) -> OnnxLayer:
    onnx = package("onnx", "onnx")
    inputs = {key: node.input[i] for key, i in INPUTS.items() if i < len(node.input)}
    sources = {key: scope.source(name) for key, name in inputs.items() if name}
    values = _Values(where)
    computed = {}
    for key, source in sources.items():
        reason = values.compute(source)
        if reason is not None:
            computed[key] = f"{key} = {inputs[key]}{reason}"
    if computed:
        expected = "weights that are initializers, constants, or computed from these alone"
        _check.weights_differ(where, expected, _text.listed(computed.values()))
    arrays = {key: values.known[source] for key, source in sources.items()}
    attributes = {}
    for a in node.attribute:
        try:
            attributes[a.name] = _attribute(onnx.helper.get_attribute_value(a))
        except Exception as error:  # an unknown type, or bytes that are not text
            _check.weights_differ(where, f"a value of attribute {a.name!r}", str(error))
    return OnnxLayer(_cell(where, node.op_type, attributes, arrays), attributes, arrays)


class _Values:
    """Values of a graph that no input changes, computed when they are needed."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.known: dict[Source, Any] = {}

    def compute(self, wanted: Source) -> str | None:
        """Put a value into `known`, or return a text that says why a run is needed to know it."""
        # A stack, because chains may be longer than Python's recursion limit: a node is put back
        # under its inputs, and computed when they are known.
        stack, entered = [(wanted, False)], set()
        while stack:
            source, ready = stack.pop()
            if source in self.known:
                continue
            scope, name = source
            node = scope.makers.get(name)
            if name in scope.tensors:
                self.known[source] = _array(self._where, name, scope.tensors[name])
            elif node is None:
                return "" if source == wanted else f", which depends on {name}"
            elif ready:
                self._run(scope, node)
            elif source in entered:
                return f", which depends on itself through {name}"
            elif _protos.domain(node) or _protos.bodies(node) or node.op_type in _protos.RANDOM:
                return f", which {node.op_type} {_protos.label(node)!r} computes in each run"
            else:
                entered.add(source)
                stack.append((source, True))
                stack += [(scope.source(part), False) for part in node.input if part]
        return None

    def _run(self, scope: Scope, node: Any) -> None:
        # Runs single nodes; imported here because it needs the package onnx.
        from ..onnx._plain import Plain

        if "" not in scope.opsets:
            expected = "opset_import with the version of ONNX's own operators"
            _check.weights_differ(self._where, expected, "none")
        plain = Plain(f"{self._where}: weights computed by", node, scope.opsets)
        found = plain.compute({part: self.known[scope.source(part)] for part in plain.inputs})
        self.known |= {Source(scope, name): a for name, a in found.items()}


def _array(where: str, name: str, tensor: Any) -> Array:
    try:
        a: Array = package("onnx.numpy_helper", "onnx").to_array(tensor)
    except Exception as error:  # NumPy's errors for wrong sizes and types
        _check.weights_differ(where, f"the numbers of tensor {name!r}", str(error))
    return a


def _attribute(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [part.decode() if isinstance(part, bytes) else part for part in value]
    return value


def _cell(where: str, kind: str, attributes: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """Return the cell of a node: one with chosen activations unless the usual one will do."""
    given = attributes.get("activations", [])
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        _check.weights_differ(where, "attribute activations, a list of names", repr(given))
    names = [name.lower() for name in given]
    usual = {"RNN": ["tanh"], "GRU": ["sigmoid", "tanh"], "LSTM": ["sigmoid", "tanh", "tanh"]}[kind]
    plain = not (attributes.get("clip") or attributes.get("input_forget"))
    if kind == "RNN":
        same = len({*names}) < 2 and {*names} <= {"tanh", "relu", "sigmoid"}
        return f"rnn_{(names or usual)[0]}" if plain and same else "rnn_chosen"
    plain = plain and names in ([], usual, usual * 2)
    if kind == "GRU":
        base = "gru" if attributes.get("linear_before_reset") else "gru_reset_before"
        return base if plain else f"{base}_chosen"
    if not plain:
        return "lstm_chosen"
    return "lstm_peephole" if "P" in arrays else "lstm"
