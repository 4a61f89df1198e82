"""Writing layers as ONNX models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

import fusedrnn as fr
from fusedrnn import weights
from fusedrnn.nn import Dense

from .. import _storage
from . import _errors
from ._activations import TABLE
from ._attributes import DEFAULTS
from ._layers import Array, Layer

Part: TypeAlias = "fr.RNN | fr.GRU | fr.LSTM | Dense"
WHERE = "onnx: export"
OLDEST = 14
MAX_BYTES = 2**31 - 1  # the limit of a protobuf message
# fusedrnn's name of an activation: ONNX's, with the defaults of the parameters that it has.
ACTIVATIONS = {ours: (name, numbers) for name, (ours, numbers) in TABLE.items()}
ACTIVATIONS["identity"] = ("Affine", (1.0, 0.0))


def export(
    model: Part | Sequence[Part],
    path: str | os.PathLike[str],
    *,
    opset: int = 17,
    lengths: bool = False,
    initial_state: bool = False,
) -> None:
    """Write a layer, or a model of several layers in sequence, as an ONNX model.

    The model computes what a call of the layer computes, for any number of steps and sequences. Its
    input is ``x`` (T, B, I), or (B, T, I) if the layer has ``batch_first``. Its outputs are ``y``
    and the final states ``h_n`` and, of an LSTM, ``c_n``, in the shapes that the layer returns. In
    a model of several parts, names of states begin with the part's index: ``0.h_n``. If each layer
    has a size of its own, each has a state of its own: ``h_n_l0``, ``h_n_l1``.

    Parameters
    ----------
    model : RNN, GRU, LSTM or nn.Dense, or list or tuple of these
        The parts of a list are run in sequence, each on the output of the part before.
    path : str or path
        The file; an old one is replaced when the new one is complete.
    opset : int
        Version of ONNX's operators, from 14 on.
    lengths : bool
        Whether there is an input ``lengths``, int32 (B,), for the recurrent layers.
    initial_state : bool
        Whether there are inputs for the initial states, ``h_0`` and ``c_0``, named like the final
        ones; otherwise they are zeros.

    Raises
    ------
    TypeError
        A part is none of the above.
    ValueError
        ONNX cannot express a layer: a projection, layer normalisation, the expectation of zoneout,
        or float64 parameters of activations that float32 does not have. Or the parts do not fit
        each other, the opset is too old or unknown, or the model is larger than an ONNX file can
        be. Nothing is written.
    OSError
        The file cannot be written; an old one is unchanged.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> model = [fr.GRU(3, 8, seed=0), fr.nn.Dense(8, 1, seed=1)]
    >>> fr.onnx.export(model, "model.onnx", lengths=True)
    >>> fr.onnx.prepare("model.onnx").output_names
    ('y', '0.h_n')
    """
    parts = _parts(model)
    newest = onnx.defs.onnx_opset_version()
    if opset not in range(OLDEST, newest + 1):
        _errors.differs(WHERE, "opset", f"{OLDEST} to {newest}", repr(opset))
    writer = _Writer(parts, bool(lengths), bool(initial_state))
    graph = helper.make_graph(
        writer.nodes, "fusedrnn", writer.inputs, writer.outputs, writer.tensors
    )
    imports = [helper.make_opsetid("", int(opset))]
    made = helper.make_model(
        graph,
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="fusedrnn",
        producer_version=fr.__version__,
    )
    size = sum(len(tensor.raw_data) for tensor in writer.tensors)
    if size > MAX_BYTES - (1 << 20):
        _errors.differs(WHERE, "bytes of all weights", f"less than {MAX_BYTES}", size)
    onnx.checker.check_model(made, full_check=True)
    with _storage.replacing(path) as file:
        file.write(made.SerializeToString())


def _parts(model: Any) -> list[Part]:
    parts = list(model) if isinstance(model, (list, tuple)) else [model]
    if not parts:
        _errors.differs(WHERE, "model", "at least one layer", "an empty list")
    for k, part in enumerate(parts):
        place = f"model[{k}]" if isinstance(model, (list, tuple)) else "model"
        if not isinstance(part, (fr.RNN, fr.GRU, fr.LSTM, Dense)):
            expected = "RNN, GRU, LSTM, nn.Dense or a list of these"
            _errors.wrong_type(WHERE, place, expected, type(part).__name__)
        if not isinstance(part, Dense):
            _check_layer(place, part)
    for name in ("dtype", "batch_first"):
        values = [getattr(part, name) for part in parts if hasattr(part, name)]
        if len(set(values)) > 1:
            _errors.differs(WHERE, name, "the same in all parts", _errors.listed(values))
    for k, (first, second) in enumerate(pairwise(parts)):
        if _width(first)[1] != _width(second)[0]:
            got = f"{_width(second)[0]} of model[{k + 1}]"
            _errors.differs(WHERE, "input size", f"the {_width(first)[1]} of model[{k}]", got)
    return parts


def _check_layer(place: str, layer: Layer) -> None:
    """Refuse a layer that ONNX cannot express."""
    for name, expected, given in (
        ("proj_size", "0: ONNX has no projection", layer.proj_size),
        ("layer_norm", "False: ONNX has no normalised cells", getattr(layer, "layer_norm", False)),
        (
            "learn_initial_state",
            "False: the exported layer starts from zeros",
            layer.learn_initial_state,
        ),
        ("zoneout", "0: ONNX has no zoneout, whose expectation acts here", max(layer.zoneout)),
    ):
        if given:
            _errors.differs(WHERE, f"{place}.{name}", expected, given)
    numbers = [layer.clip] if layer.clip is not None else []
    numbers += [value for _, values in _activations(layer) for value in values]
    if layer.dtype == np.float64:
        for value in numbers:
            if np.isfinite(value) and float(np.float32(value)) != float(value):
                expected = "numbers that float32 has, as ONNX's attributes are"
                _errors.differs(WHERE, f"{place}: activations and clip", expected, value)


def _operator(layer: Layer) -> str:
    if isinstance(layer, fr.RNN):
        return "RNN"
    return "GRU" if isinstance(layer, fr.GRU) else "LSTM"


def _width(part: Part) -> tuple[int, int]:
    """Return the sizes of a part's input and output."""
    if isinstance(part, Dense):
        return part.in_features, part.out_features
    return part.input_size, _sizes(part)[-1] * (2 if part.bidirectional else 1)


def _sizes(layer: Layer) -> list[int]:
    """Return H of each layer of the stack."""
    given = layer.hidden_size
    return [given] * layer.num_layers if isinstance(given, int) else list(given)


def _activations(layer: Layer) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield the activations of one direction by ONNX's names, each with all its parameters."""
    if isinstance(layer, fr.RNN):
        chosen: Any = [layer.nonlinearity]
    else:
        usual = [TABLE[name][0] for name in DEFAULTS[_operator(layer)]]
        chosen = layer.activations or usual
    for one in chosen:
        name, *given = [one] if isinstance(one, str) else one
        theirs, numbers = ACTIVATIONS[name]
        yield theirs, (*map(float, given), *numbers[len(given) :])


class _Writer:
    """Collects the nodes, tensors, inputs and outputs of the graph."""

    def __init__(self, parts: Sequence[Part], lengths: bool, initial_state: bool) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self._kind = helper.np_dtype_to_tensor_dtype(np.dtype(parts[0].dtype))
        self._initial = initial_state
        recurrent = [part for part in parts if not isinstance(part, Dense)]
        self._lengths = "lengths" if lengths and recurrent else ""
        batch_first = bool(recurrent) and recurrent[0].batch_first
        axes = ["batch", "time"] if batch_first else ["time", "batch"]
        self.inputs = [self._value("x", [*axes, _width(parts[0])[0]])]
        if self._lengths:
            int32 = onnx.TensorProto.INT32
            self.inputs.append(helper.make_tensor_value_info(self._lengths, int32, ["batch"]))
        self.outputs = [self._value("y", [*axes, _width(parts[-1])[1]])]
        x = "x"
        if batch_first:
            x = self._node("Transpose", [x], "x_time_first", perm=[1, 0, 2])
        for k, part in enumerate(parts):
            prefix = f"{k}." if len(parts) > 1 else ""
            x = (
                self._dense(prefix, part, x)
                if isinstance(part, Dense)
                else self._stack(prefix, part, x)
            )
        if batch_first:
            self._node("Transpose", [x], "y", perm=[1, 0, 2])
        else:
            self._node("Identity", [x], "y")

    def _value(self, name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, self._kind, shape)

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def _tensor(self, name: str, a: Array) -> str:
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(a), name))
        return name

    def _integers(self, name: str, values: list[int]) -> str:
        return self._tensor(name, np.array(values, np.int64))

    def _dense(self, prefix: str, part: Dense, x: str) -> str:
        matrix = self._tensor(f"{prefix}weight", part.params["weight"].T)
        y = self._node("MatMul", [x, matrix], f"{prefix}product")
        if part.bias:
            bias = self._tensor(f"{prefix}bias", part.params["bias"])
            y = self._node("Add", [y, bias], f"{prefix}sum")
        return y

    def _stack(self, prefix: str, layer: Layer, x: str) -> str:
        directions = 2 if layer.bidirectional else 1
        sizes = _sizes(layer)
        states = ("h", "c")[: 2 if isinstance(layer, fr.LSTM) else 1]
        first = {s: self._first_states(prefix, s, layer, sizes, directions) for s in states}
        last: dict[str, list[str]] = {s: [] for s in states}
        for k, hidden in enumerate(sizes):
            name = f"{prefix}l{k}"
            arrays = weights.to_onnx(_with_both_biases(layer, k), layer.cell, layer=k)
            tensors = {key: self._tensor(f"{name}.{key}", a) for key, a in arrays.items()}
            inputs = [x, tensors["W"], tensors["R"], tensors.get("B", ""), self._lengths]
            inputs += [first[s][k] for s in states]
            if "P" in tensors:
                inputs.append(tensors["P"])
            while not inputs[-1]:
                inputs.pop()
            outputs = [f"{name}.Y", *(f"{name}.{s}_n" for s in states)]
            operator = _operator(layer)
            attributes = _node_attributes(layer, hidden, directions)
            self.nodes.append(helper.make_node(operator, inputs, outputs, name, **attributes))
            for s, output in zip(states, outputs[1:], strict=True):
                last[s].append(output)
            if directions == 1:  # (T, 1, B, H)
                axis = self._integers(f"{name}.axis", [1])
                x = self._node("Squeeze", [outputs[0], axis], f"{name}.y")
            else:  # (T, 2, B, H)
                turned = self._node("Transpose", [outputs[0]], f"{name}.t", perm=[0, 2, 1, 3])
                shape = self._integers(f"{name}.shape", [0, 0, 2 * hidden])
                x = self._node("Reshape", [turned, shape], f"{name}.y")
        for s in states:
            self._last_states(f"{prefix}{s}_n", last[s], layer, sizes, directions)
        return x

    def _first_states(
        self, prefix: str, state: str, layer: Layer, sizes: list[int], directions: int
    ) -> list[str]:
        """Return the name of each layer's initial state, or "" if it is zeros."""
        if not self._initial:
            return [""] * len(sizes)
        name = f"{prefix}{state}_0"
        each = [f"{name}_l{k}" for k in range(len(sizes))]
        if not isinstance(layer.hidden_size, int):
            self.inputs += [
                self._value(one, [directions, "batch", hidden])
                for one, hidden in zip(each, sizes, strict=True)
            ]
            return each
        self.inputs.append(self._value(name, [directions * len(sizes), "batch", sizes[0]]))
        if len(sizes) == 1:
            return [name]
        parts = self._integers(f"{name}.parts", [directions] * len(sizes))
        self.nodes.append(helper.make_node("Split", [name, parts], each, f"{name}.split", axis=0))
        return each

    def _last_states(
        self, name: str, each: list[str], layer: Layer, sizes: list[int], directions: int
    ) -> None:
        if isinstance(layer.hidden_size, int):
            if len(each) == 1:
                self._node("Identity", each, name)
            else:
                self._node("Concat", each, name, axis=0)
            self.outputs.append(self._value(name, [directions * len(sizes), "batch", sizes[0]]))
            return
        for k, (one, hidden) in enumerate(zip(each, sizes, strict=True)):
            self._node("Identity", [one], f"{name}_l{k}")
            self.outputs.append(self._value(f"{name}_l{k}", [directions, "batch", hidden]))


def _with_both_biases(layer: Layer, k: int) -> dict[str, Array]:
    """Return the parameters of one layer of the stack, with zeros for a missing bias."""
    ends = [f"_l{k}", f"_l{k}_reverse"][: 2 if layer.bidirectional else 1]
    found = {}
    for end in ends:
        part = {name: a for name, a in layer.params.items() if name.endswith(end)}
        biases = [part[name] for name in (f"bias_ih{end}", f"bias_hh{end}") if name in part]
        if len(biases) == 1:
            zeros = np.zeros_like(biases[0])
            part = {f"bias_ih{end}": zeros, f"bias_hh{end}": zeros} | part
        found.update(part)
    return found


def _node_attributes(layer: Layer, hidden: int, directions: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {"hidden_size": hidden}
    if directions == 2:
        attributes["direction"] = "bidirectional"
    chosen = list(_activations(layer)) * directions
    if tuple(name for name, _ in chosen) != DEFAULTS[_operator(layer)] * directions:
        attributes["activations"] = [name for name, _ in chosen]
        for k, name in enumerate(("activation_alpha", "activation_beta")):
            numbers = [values[k] for _, values in chosen if len(values) > k]
            attributes |= {name: numbers} if numbers else {}
    if layer.clip is not None and np.isfinite(layer.clip):
        attributes["clip"] = float(layer.clip)
    if isinstance(layer, fr.GRU):
        attributes["linear_before_reset"] = int(layer.reset_after)
    if isinstance(layer, fr.LSTM) and layer.coupled:
        attributes["input_forget"] = 1
    return attributes
