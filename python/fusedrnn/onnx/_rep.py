"""A model that is ready to run: constants folded, weights packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import BackendRep as BaseRep

from . import _errors
from ._attributes import GATES
from ._glue import OPERATORS, Glue
from ._layers import Array
from ._node import INPUTS, Node

DOMAINS = ("", "ai.onnx")
COMPUTED = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)


class BackendRep(BaseRep):
    """A prepared model: `run` it as often as you like, from any thread.

    Made by ``Backend.prepare``. Its names of inputs and outputs are `input_names` (those without an
    initializer) and `output_names`, in the order of the graph.
    """

    def __init__(self, model: onnx.ModelProto, num_threads: int | None) -> None:
        graph = model.graph
        opset = _opset(model)
        self._num_threads = num_threads
        self._where = f"onnx: graph {graph.name!r}"
        if graph.sparse_initializer:
            _errors.differs(self._where, "initializers", "dense ones", "sparse ones")
        given = {value.name: value for value in graph.input}
        self._constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        kinds = {name: value.type.tensor_type.elem_type for name, value in given.items()}
        to_numpy = onnx.helper.tensor_dtype_to_np_dtype
        self._dtypes = {name: np.dtype(to_numpy(kind)) for name, kind in kinds.items() if kind}
        kinds |= {t.name: t.data_type for t in graph.initializer}
        self._all_inputs = tuple(given)
        self.input_names = tuple(name for name in given if name not in self._constants)
        self.output_names = tuple(value.name for value in graph.output)
        # An initializer that is an input too can be given another value in a run: nothing is
        # folded from it. Node packs it all the same and looks whether it was given another.
        fixed = set(self._constants) - set(given)
        self._steps: list[Node | Glue] = []
        for proto in graph.node:
            _supported(proto)
            if proto.op_type in GATES:
                _typed(proto, kinds)
                self._steps.append(Node(proto, opset, self._constants))
                continue
            glue = Glue(proto, opset)
            if fixed.issuperset(glue.inputs):
                self._constants |= glue.run(self._constants)
                fixed.update(glue.outputs)
            else:
                self._steps.append(glue)
        for a in self._constants.values():
            a.flags.writeable = False  # one of them may be an output

    def run(
        self,
        inputs: Sequence[Any] | Mapping[str, Any],
        *,
        num_threads: int | None = None,
        **kwargs: Any,
    ) -> tuple[Array, ...]:
        """Run the model.

        Parameters
        ----------
        inputs : sequence of array_like, or mapping of str to array_like
            In the order of `input_names`, or by name. An initializer that is an input of the
            graph too can be given another value, by its name.
        num_threads : int, optional
            Threads of this run, instead of those given to ``prepare``; no result depends on it.

        Returns
        -------
        tuple of ndarray
            In the order of `output_names`.

        Raises
        ------
        TypeError, ValueError
            An input is missing, unknown, or of another dtype or shape; the text names the input or
            the node.
        """
        if kwargs:
            _errors.wrong_type(self._where, "run", "num_threads alone", _errors.listed(kwargs))
        threads = self._num_threads if num_threads is None else num_threads
        values = self._constants | self._given(inputs)
        for step in self._steps:
            values |= step.run(values, threads)
        return tuple(values[name] for name in self.output_names)

    def _given(self, inputs: Sequence[Any] | Mapping[str, Any]) -> dict[str, Array]:
        """The inputs by name, each with the dtype that the graph declares."""
        if isinstance(inputs, Mapping):
            named = dict(inputs)
        elif isinstance(inputs, (list, tuple)):
            names = self.input_names
            if len(inputs) == len(self._all_inputs):
                names = self._all_inputs
            if len(inputs) != len(names):
                expected = f"{len(names)}: {_errors.listed(names)}"
                _errors.differs(self._where, "inputs", expected, len(inputs))
            named = dict(zip(names, inputs, strict=True))
        else:
            expected = "a list, a tuple or a mapping of names to arrays"
            _errors.wrong_type(self._where, "inputs", expected, _errors.describe(inputs))
        missing = [name for name in self.input_names if name not in named]
        unknown = [name for name in named if name not in self._all_inputs]
        if missing or unknown:
            expected = _errors.listed(self.input_names)
            _errors.differs(self._where, "inputs", expected, _errors.listed(named))
        arrays = {name: np.asarray(value) for name, value in named.items()}
        for name, a in arrays.items():
            dtype = self._dtypes.get(name)
            if dtype is not None and a.dtype.newbyteorder("=") != dtype:
                _errors.wrong_type(self._where, f"input {name}", str(dtype), _errors.describe(a))
        return arrays


def _opset(model: onnx.ModelProto) -> int:
    versions = [part.version for part in model.opset_import if part.domain in DOMAINS]
    if not versions:
        expected = "the version of ONNX's own operators"
        _errors.differs(f"onnx: graph {model.graph.name!r}", "opset_import", expected, "none")
    return int(versions[0])


def _supported(proto: onnx.NodeProto) -> None:
    if proto.domain not in DOMAINS or proto.op_type not in (*GATES, *OPERATORS):
        operator = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
        expected = f"one of {_errors.listed((*GATES, *OPERATORS))}"
        _errors.differs(_errors.place(proto), "operator", expected, operator)


def _typed(proto: onnx.NodeProto, kinds: Mapping[str, int]) -> None:
    """A recurrent node's inputs that the graph declares are of types that we compute in."""
    for role, name in zip(INPUTS, proto.input, strict=False):
        kind = kinds.get(name)
        if role != "sequence_lens" and kind and kind not in COMPUTED:
            got = f"{onnx.TensorProto.DataType.Name(kind)} ({name})"
            _errors.wrong_type(_errors.place(proto), f"input {role}", "FLOAT or DOUBLE", got)
