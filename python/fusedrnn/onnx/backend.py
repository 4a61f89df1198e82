"""The backend interface of the onnx package, onnx.backend.base, for graphs of recurrent nodes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx.backend.base import Backend as BaseBackend

from . import _errors
from ._layers import Value
from ._rep import BackendRep


class Backend(BaseBackend):
    """Runs ONNX graphs of RNN, GRU and LSTM nodes on fusedrnn; all methods are of the class.

    Supported are opsets from 7 on, float32, float64, float16 and bfloat16 (the last two computed in
    float32), every attribute, optional inputs and outputs, weights that are constants or inputs of
    the graph, and recurrent nodes anywhere: in bodies of If, Loop and Scan and in functions of the
    model too. MatMul and Gemm with constant weights run on `nn.Dense`, every other standard
    operator on onnx.reference. Operators of other domains are an error.

    Where the specification leaves room: a sequence of length 0 returns its initial state; Y is 0
    past the end of a sequence, and the reverse direction starts at its end; names of activations
    are taken in any case. ``activation_alpha`` and ``activation_beta`` with one value for each
    activation are read by position; with fewer, they are consumed in order by those activations
    that have the parameter; the rest have the defaults of ONNX's operators. ``clip`` clips the
    input of every activation, that of h too. ThresholdedRelu keeps x where ``x >= alpha``.
    """

    @classmethod
    def prepare(
        cls,
        model: onnx.ModelProto | str | os.PathLike[str],
        device: str = "CPU",
        *,
        num_threads: int | None = None,
        **kwargs: Any,
    ) -> BackendRep:
        """Read a model and pack its weights.

        Parameters
        ----------
        model : onnx.ModelProto, str or path
            As ``onnx.load`` returns it; or a file, with the files that it refers to.
        device : str
            "CPU".
        num_threads : int, optional
            Threads of each run, unless ``run`` is given others.

        Returns
        -------
        BackendRep
            ``run(inputs)`` computes the outputs.

        Raises
        ------
        TypeError, ValueError
            Something in the model is not supported or does not fit; the text names the node.
        onnx.checker.ValidationError
            The model is not a valid one.
        OSError
            The file cannot be read.
        """
        proto = _loaded(model) if isinstance(model, (str, os.PathLike)) else model
        if not isinstance(proto, onnx.ModelProto):
            expected = "onnx.ModelProto or the path of a file"
            _errors.wrong_type("onnx", "model", expected, _errors.describe(model))
        rep = cls._ready(proto, device, num_threads, **kwargs)
        # A file may be larger than what can be handed to the checker in memory.
        onnx.checker.check_model(os.fspath(model) if proto is not model else proto)
        return rep

    @classmethod
    def _ready(
        cls, model: onnx.ModelProto, device: str, num_threads: int | None = None, **kwargs: Any
    ) -> BackendRep:
        if not cls.supports_device(device):
            _errors.differs("onnx", "device", "'CPU'", repr(device))
        if kwargs:
            _errors.wrong_type("onnx", "options", "num_threads alone", _errors.listed(kwargs))
        return BackendRep(model, num_threads)

    @classmethod
    def is_compatible(
        cls,
        model: onnx.ModelProto | str | os.PathLike[str],
        device: str = "CPU",
        **kwargs: Any,
    ) -> bool:
        """Whether `prepare` takes the model.

        Parameters
        ----------
        model : onnx.ModelProto, str or path
            As `prepare` takes it.
        device : str
            "CPU".

        Returns
        -------
        bool
            False where `prepare` raises.
        """
        try:
            cls.prepare(model, device, **kwargs)
        except (TypeError, ValueError, onnx.checker.ValidationError):
            return False
        return True

    @classmethod
    def run_model(
        cls,
        model: onnx.ModelProto | str | os.PathLike[str],
        inputs: Sequence[Any] | Mapping[str, Any],
        device: str = "CPU",
        **kwargs: Any,
    ) -> tuple[Value, ...]:
        """Prepare a model and run it once; arguments and errors are those of both."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Sequence[Any] | Mapping[str, Any],
        device: str = "CPU",
        outputs_info: Any = None,
        *,
        opset_version: int | None = None,
        **kwargs: Any,
    ) -> tuple[Value, ...]:
        """Run one node.

        Parameters
        ----------
        node : onnx.NodeProto
            The node.
        inputs : sequence of array_like, or mapping of str to array_like
            Its inputs in order, those with an empty name left out; or by name.
        device : str
            "CPU".
        outputs_info : optional
            Not needed.
        opset_version : int, optional
            Opset in which to read the node; the newest where not given.

        Returns
        -------
        tuple of ndarray
            Its outputs, those with an empty name left out.

        Raises
        ------
        TypeError, ValueError, onnx.checker.ValidationError
            As `prepare` and ``BackendRep.run``.
        """
        if not isinstance(node, onnx.NodeProto):
            _errors.wrong_type("onnx", "node", "onnx.NodeProto", _errors.describe(node))
        opset = onnx.defs.onnx_opset_version() if opset_version is None else opset_version
        model = _model_of(node, opset)
        rep = cls._ready(model, device, **kwargs)
        super().run_node(node, inputs, device, opset_version=opset)  # onnx.checker
        return rep.run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether a device can be asked for.

        Parameters
        ----------
        device : str
            "CPU", also with a number as ONNX writes it: "CPU:0".

        Returns
        -------
        bool
            True for the CPU.
        """
        return device.split(":")[0] == "CPU"


def _loaded(path: str | os.PathLike[str]) -> onnx.ModelProto:
    try:
        return onnx.load(os.fspath(path))
    except OSError:
        raise
    except Exception as error:  # whatever a parser says to strange bytes
        _errors.unreadable(f"onnx: file {os.fspath(path)!r}", error)


def _model_of(node: onnx.NodeProto, opset: int) -> onnx.ModelProto:
    """A graph of one node, which declares no types: the node checks them."""
    names = [dict.fromkeys(filter(None, each)) for each in (node.input, node.output)]
    values = [[onnx.helper.make_empty_tensor_value_info(name) for name in part] for part in names]
    graph = onnx.helper.make_graph([node], node.name or node.op_type, *values)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
