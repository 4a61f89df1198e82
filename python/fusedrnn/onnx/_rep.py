"""A model that is ready to run: constants folded, weights packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import BackendRep as BaseRep

from .. import _protos
from . import _errors
from ._graph import Context, Graph, initializers
from ._layers import Value, native
from ._report import Ledger, Report


class BackendRep(BaseRep):
    """A prepared model, which can be run any number of times, from any thread.

    Made by ``Backend.prepare``. `input_names` are the names of its inputs that have no initializer,
    `output_names` those of its outputs, in the order of the graph.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> fr.onnx.export(fr.GRU(3, 8), "gru.onnx")
    >>> rep = fr.onnx.prepare("gru.onnx")
    >>> for batch in (1, 4):  # read and packed once, run many times
    ...     y, h_n = rep.run({"x": np.zeros((20, batch, 3), np.float32)})
    """

    def __init__(self, model: onnx.ModelProto, num_threads: int | None) -> None:
        graph = model.graph
        self._num_threads = num_threads
        self._where = f"onnx: graph {graph.name!r}"
        given = {value.name: value for value in graph.input}
        fixed = initializers(graph, self._where)
        self._no_tensor = {
            name: value.type.WhichOneof("value") in ("sequence_type", "optional_type", "map_type")
            for name, value in given.items()
        }
        self._dtypes = {name: _dtype(self._where, value) for name, value in given.items()}
        self._all_inputs = tuple(given)
        self.input_names = tuple(name for name in given if name not in fixed)
        self.output_names = tuple(value.name for value in graph.output)
        ledger = Ledger()
        self._graph = self._compiled(model, fixed, self.input_names, ledger)
        self._report = Report(ledger.placements)
        # A run may replace initializers that are inputs too. It then needs a graph in which nothing
        # that depends on them is folded; the first such run makes it.
        self._defaults = {name: fixed[name] for name in given if name in fixed}
        self._open: Callable[[], Graph] | None = None
        if self._defaults:
            self._open = cache(partial(self._compiled, model, fixed, self._all_inputs, Ledger()))

    def _compiled(
        self,
        model: onnx.ModelProto,
        fixed: Mapping[str, Value],
        inputs: Sequence[str],
        ledger: Ledger,
    ) -> Graph:
        """Make the graph; initializers that are not inputs are folded and packed."""
        opsets = _protos.opsets(model.opset_import)
        context = Context(opsets, _protos.functions(model), ledger)
        return Graph(model.graph.node, inputs, self.output_names, fixed, context)

    def report(self) -> Report:
        """Return which node runs where.

        Returns
        -------
        Report
            A tuple of `Placement` in the order of the graph; nodes of bodies and functions come
            after the node that contains them. Printed, it is a table.
        """
        return self._report

    def run(
        self,
        inputs: Sequence[Any] | Mapping[str, Any],
        *,
        num_threads: int | None = None,
        **kwargs: Any,
    ) -> tuple[Value, ...]:
        """Run the model.

        Parameters
        ----------
        inputs : sequence of array_like, or mapping of str to array_like
            In the order of `input_names`, or by name. An initializer that is also an input of the
            graph can be given another value, by its name.
        num_threads : int, optional
            Threads of this run, in place of the number given to ``prepare``; no result depends on
            it.

        Returns
        -------
        tuple of ndarray
            The outputs, in the order of `output_names`.

        Raises
        ------
        TypeError, ValueError
            An input is missing, unknown, or of another dtype or shape; the text names the input or
            the node.
        """
        if kwargs:
            _errors.wrong_type(self._where, "run", "num_threads alone", _errors.listed(kwargs))
        threads = self._num_threads if num_threads is None else num_threads
        values = self._given(inputs)
        graph = self._graph
        if self._open is not None and not self._defaults.keys().isdisjoint(values):
            graph, values = self._open(), self._defaults | values
        with np.errstate(all="ignore"):
            return tuple(graph.run(values, threads))

    def _given(self, inputs: Sequence[Any] | Mapping[str, Any]) -> dict[str, Value]:
        """Return the inputs by name, each with the dtype that the graph declares."""
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
        values = {}
        for name, value in named.items():
            # A list is also read as an array, unless the graph declares a sequence.
            values[name] = value if self._no_tensor[name] else np.asarray(value)
            dtype = self._dtypes[name]
            if dtype is not None and native(values[name].dtype) != dtype:
                got = _errors.describe(values[name])
                _errors.wrong_type(self._where, f"input {name}", str(dtype), got)
        return values


def _dtype(where: str, value: Any) -> np.dtype[Any] | None:
    """Return the declared dtype of an input; None if there is none, or it is not a tensor."""
    kind = value.type.tensor_type.elem_type
    if value.type.WhichOneof("value") != "tensor_type" or not kind:
        return None
    try:
        dtype: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    except Exception as error:  # the type does not exist
        _errors.unreadable(f"{where}: input {value.name!r}", error)
    return dtype
