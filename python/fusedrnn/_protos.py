"""What both readers of ONNX graphs share: names of nodes, graphs inside nodes, functions.

`weights` finds the weights of a file, and `onnx` runs it. The caller passes the protos, so that the
package onnx is not imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import zip_longest
from typing import Any

# Functions that call one another may unfold to a model of any size. These limits, on the number of
# nodes and on the depth of calls and bodies, are above what exporters write, and below what would
# take so long that it looks like a hang.
MAX_NODES = 50_000
MAX_DEPTH = 100
# The domain of ONNX's own operators, and another name of it in old files.
STANDARD = ("", "ai.onnx")
# Operators whose results differ from run to run, for the same inputs.
RANDOM = frozenset(
    {
        *("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike"),
        *("RandomUniform", "RandomUniformLike"),
    }
)


def label(node: Any) -> str:
    """A node's name; without one, the name of its first output, else its operator."""
    return node.name or next(filter(None, node.output), "") or node.op_type


def labels(nodes: Iterable[Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Each node with its path: the labels of the nodes around it and its own, joined by "/".

    ONNX lets two nodes have one name. A node that repeats a name gets that of its first output
    added, which is unique in a graph.
    """
    seen: set[str] = set()
    for node in nodes:
        name = label(node)
        if name in seen:
            name = f"{name} ({next(filter(None, node.output), len(seen))})"
        seen.add(name)
        yield path + name, node


def domain(node: Any) -> str:
    """A node's domain, "" for ONNX's own operators."""
    return "" if node.domain in STANDARD else str(node.domain)


def opsets(imports: Iterable[Any]) -> dict[str, int]:
    """Return versions by domain, from the ``opset_import`` of a model or a function."""
    return {"" if part.domain in STANDARD else part.domain: int(part.version) for part in imports}


def bodies(node: Any) -> dict[str, Any]:
    """Return the graphs inside a node (of If, Loop, Scan ...) by the names of their attributes."""
    found = {a.name: a.g for a in node.attribute if a.HasField("g")}
    for a in node.attribute:
        found |= {f"{a.name}[{k}]": graph for k, graph in enumerate(a.graphs)}
    return found


def functions(model: Any) -> dict[tuple[str, str, str], Any]:
    """Return the functions of a model, by domain, name and overload."""
    return {
        (f.domain, f.name, getattr(f, "overload", "")): f  # no overloads before IR version 10
        for f in model.functions
    }


def function_key(node: Any) -> tuple[str, str, str]:
    """Return the key in `functions` of the one that a node would call."""
    return (node.domain, node.op_type, getattr(node, "overload", ""))


def unfolded(function: Any, call: Any) -> list[Any]:
    """Return the nodes of a function with the arguments of this call put in.

    An attribute that refers to one of the call's gets its value, or the function's default. An
    input that the call leaves out becomes "", as in a node that leaves it out.
    """
    given = {a.name: a for a in function.attribute_proto} | {a.name: a for a in call.attribute}
    pairs = zip_longest(function.input, call.input, fillvalue="")
    absent = {formal for formal, actual in pairs if not actual}
    nodes = []
    for node in function.node:
        copy = type(node)()
        copy.CopyFrom(node)
        _substitute(copy, given, absent)
        nodes.append(copy)
    return nodes


def _substitute(node: Any, given: Mapping[str, Any], absent: AbstractSet[str]) -> None:
    for k, name in enumerate(node.input):
        if name in absent:
            node.input[k] = ""
    for a in [a for a in node.attribute if a.ref_attr_name]:
        value = given.get(a.ref_attr_name)
        if value is None:  # not given and without a default: the node does not have it
            node.attribute.remove(a)
            continue
        name = a.name
        a.CopyFrom(value)
        a.name = name
    for graph in bodies(node).values():
        for inner in graph.node:
            _substitute(inner, given, absent)
