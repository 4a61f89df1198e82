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
    """Runs ONNX graphs of RNN, GRU and LSTM nodes on fusedrnn; all methods are class methods.

    Supported are opsets from 7 on, float32, float64, float16 and bfloat16 (the last two computed in
    float32), every attribute, optional inputs and outputs, weights that are constants or inputs of
    the graph, and recurrent nodes anywhere, also in bodies of If, Loop and Scan and in functions of
    the model. MatMul, Gemm and Conv (of one group) with constant weights run on `nn.Dense`; other
    standard operators run on onnx.reference, or on NumPy functions if that is wrong or lacks them.
    Operators of other domains are an error.

    Choices that the specification leaves open: a sequence of length 0 returns its initial state; Y
    is 0 past the end of a sequence, and the reverse direction starts at its end; names of
    activations may be in any case. ``activation_alpha`` and ``activation_beta`` with one value for
    each activation are read by position. With fewer, the values go in order to those activations
    that have the parameter, and the others have the defaults of ONNX's operators. ``clip`` clips
    the input of every activation, including h. ThresholdedRelu keeps x if ``x >= alpha``.

    Examples
    --------
    >>> import numpy as np
    >>> import fusedrnn as fr
    >>> gru, x = fr.GRU(3, 8, seed=0), np.ones((20, 4, 3), np.float32)
    >>> fr.onnx.export(gru, "gru.onnx")
    >>> rep = fr.onnx.Backend.prepare("gru.onnx")
    >>> y, h_n = rep.run([x])
    >>> np.array_equal(y, gru(x)[0])
    True
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
            As ``onnx.load`` returns it, or a file, together with the files that it refers to.
        device : str
            "CPU".
        num_threads : int, optional
            Threads of each run, if ``run`` is not given another number.

        Returns
        -------
        BackendRep
            ``run(inputs)`` computes the outputs.

        Raises
        ------
        TypeError, ValueError
            Something in the model is not supported or does not fit; the text names the node.
        onnx.checker.ValidationError
            The model is not valid.
        OSError
            The file cannot be read.

        Examples
        --------
        >>> import fusedrnn as fr
        >>> fr.onnx.export(fr.GRU(3, 8), "gru.onnx", lengths=True)
        >>> rep = fr.onnx.prepare("gru.onnx", num_threads=1)
        >>> rep.input_names, rep.output_names
        (('x', 'lengths'), ('y', 'h_n'))
        """
        proto = _loaded(model) if isinstance(model, (str, os.PathLike)) else model
        if not isinstance(proto, onnx.ModelProto):
            expected = "onnx.ModelProto or the path of a file"
            _errors.wrong_type("onnx", "model", expected, _errors.describe(model))
        rep = cls._ready(proto, device, num_threads, **kwargs)
        _check(proto, None if proto is model else os.fspath(model))
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
        """Whether `prepare` accepts the model.

        Parameters
        ----------
        model : onnx.ModelProto, str or path
            As `prepare` takes it.
        device : str
            "CPU".

        Returns
        -------
        bool
            False if `prepare` raises.

        Examples
        --------
        >>> import fusedrnn as fr
        >>> fr.onnx.export(fr.GRU(3, 8), "gru.onnx")
        >>> fr.onnx.is_compatible("gru.onnx")
        True
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
        """Prepare a model and run it once; arguments and errors are those of the two methods.

        Examples
        --------
        >>> import numpy as np
        >>> import fusedrnn as fr
        >>> fr.onnx.export(fr.GRU(3, 8), "gru.onnx")
        >>> y, h_n = fr.onnx.run_model("gru.onnx", [np.zeros((20, 4, 3), np.float32)])
        >>> y.shape
        (20, 4, 8)
        """
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
            Its inputs, in order without those whose name is empty, or by name.
        device : str
            "CPU".
        outputs_info : optional
            Not used.
        opset_version : int, optional
            Opset in which to read the node; the newest if not given.

        Returns
        -------
        tuple of ndarray
            Its outputs, without those whose name is empty.

        Raises
        ------
        TypeError, ValueError, onnx.checker.ValidationError
            As `prepare` and ``BackendRep.run``.

        Examples
        --------
        >>> import numpy as np
        >>> import onnx
        >>> import fusedrnn as fr
        >>> node = onnx.helper.make_node("RNN", ["X", "W", "R"], ["Y", "Y_h"], activations=["Relu"])
        >>> x, one = np.ones((3, 1, 1), np.float32), np.ones((1, 1, 1), np.float32)
        >>> y, y_h = fr.onnx.run_node(node, [x, one, one])
        >>> y[:, 0, 0, 0]
        array([1., 2., 3.], dtype=float32)
        """
        if not isinstance(node, onnx.NodeProto):
            _errors.wrong_type("onnx", "node", "onnx.NodeProto", _errors.describe(node))
        opset = onnx.defs.onnx_opset_version() if opset_version is None else opset_version
        model = _model_of(node, opset)
        rep = cls._ready(model, device, **kwargs)
        super().run_node(node, inputs, device, opset_version=opset)  # runs onnx.checker only
        return rep.run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether a device is supported.

        Parameters
        ----------
        device : str
            "CPU", also with a number as ONNX writes it: "CPU:0".

        Returns
        -------
        bool
            True for the CPU.

        Examples
        --------
        >>> import fusedrnn as fr
        >>> fr.onnx.supports_device("CPU:0"), fr.onnx.supports_device("CUDA")
        (True, False)
        """
        return device.split(":")[0] == "CPU"


def _loaded(path: str | os.PathLike[str]) -> onnx.ModelProto:
    try:
        return onnx.load(os.fspath(path))
    except OSError:
        raise
    except Exception as error:  # parsers raise errors of any class for other bytes
        _errors.unreadable(f"onnx: file {os.fspath(path)!r}", error)


def _check(model: onnx.ModelProto, path: str | None) -> None:
    """Run the checker of the onnx package, which refuses inputs and outputs of unknown rank.

    Exporters write such values when they cannot tell a rank, and ONNX Runtime runs them. The
    checker does not compare shapes, so it is given a copy in which those values have one.
    """
    values = (*model.graph.input, *model.graph.output)
    if all(_has_shape(value) for value in values):
        # By path if there is one: a file may be larger than what the checker takes from memory.
        onnx.checker.check_model(model if path is None else path)
        return
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        if not _has_shape(value):
            value.type.tensor_type.shape.SetInParent()
    onnx.checker.check_model(copy)


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    kind = value.type
    return bool(kind.WhichOneof("value") != "tensor_type" or kind.tensor_type.HasField("shape"))


def _model_of(node: onnx.NodeProto, opset: int) -> onnx.ModelProto:
    """Make a model of one node, without declared types: the node itself checks its inputs."""
    names = [dict.fromkeys(filter(None, each)) for each in (node.input, node.output)]
    values = [[onnx.helper.make_empty_tensor_value_info(name) for name in part] for part in names]
    graph = onnx.helper.make_graph([node], node.name or node.op_type, *values)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
