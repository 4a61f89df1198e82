"""Every operator that ONNX Runtime and onnx.reference have, in every version since opset 7.

The file is long because it is a table. ONNX Runtime gives the right values. fusedrnn.onnx._mended
holds replacements for what is wrong, old or missing in onnx.reference 1.23.2.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import pytest

from test_onnx import runtime

pytestmark = pytest.mark.onnx
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import helper, numpy_helper  # noqa: E402

from fusedrnn.onnx import Backend, _mended, _plain  # noqa: E402

NEWEST = 25  # the newest opset of ONNX Runtime 1.31.1


class Case(NamedTuple):
    """A node: its inputs (None for an absent one), and the opsets in which it is valid."""

    operator: str
    inputs: list[Any]
    attributes: dict[str, Any]
    since: int = 7
    until: int = 99
    outputs: int = 1


CASES: list[Case] = []


def case(
    operators: str,
    *inputs: Any,
    since: int = 7,
    until: int = 99,
    outputs: int = 1,
    **attributes: Any,
) -> None:
    """Add a case for each of the operators."""
    for operator in operators.split():
        CASES.append(Case(operator, list(inputs), attributes, since, until, outputs))


def ints(*values: Any) -> Any:
    return np.array(values, np.int64)


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


F, I32 = np.float32, np.int32
RNG = np.random.default_rng(0)
X, V, IMAGE = draw(2, 3, 4), draw(4), draw(1, 2, 5, 6)
I = RNG.integers(-9, 9, (2, 3))  # noqa: E741
J = ints([2, -3, 4], [5, -7, 3])
U8 = RNG.integers(0, 255, (2, 3, 4)).astype(np.uint8)
POSITIVE = abs(X) + F(0.5)

# --- arithmetic -------------------------------------------------------------------------------

case("Add Sub Mul Div Pow", POSITIVE, V)
case("Add Sub Mul Div", I, J)
case("Div", I.astype(I32), J.astype(I32))
case("Pow", abs(I), ints(2), since=12)
case("Pow", X, ints(2), since=12)
case("Pow", abs(I), np.array([0.5], F), since=12)
case("Mod", I, J, since=10)
case("Mod", I, J, since=10, fmod=1)
case("Mod", X, V, since=10, fmod=1)
case("Min Max Sum Mean", X, V, X * 2, since=8)
case("Min Max Sum Mean", X, X * 2)
case("Min Max Sum Mean", X)
case("Min Max", I, J, since=12)
case("Equal", I, I * 0 + J)
case("Less Greater", I, J, since=9)
case("LessOrEqual GreaterOrEqual", I, J, since=12)
case("Less Greater", X, V, since=9)
case("Equal", X, V, since=11)
case("LessOrEqual GreaterOrEqual", X, V, since=12)
case("And Or Xor", I > 0, J > 0)
case("Not", I > 0)
case("Where", X > 0, X, V, since=9)
case("Where", I > 0, I, ints(1), since=9)
case("Abs Neg Exp Floor Ceil Sigmoid Tanh Relu Softplus Softsign Reciprocal", X)
case("Sin Cos Tan Atan Elu Selu LeakyRelu HardSigmoid Identity Shape Size", X)
case("Sign Erf Sinh Cosh Asinh IsNaN NonZero", X, since=9)
case("ThresholdedRelu", X, since=10)
case("Round", X, since=11)
case("Round", np.array([0.5, 1.5, 2.5, -0.5, -1.5], F), since=11)
case("Celu", X, since=12)
case("HardSwish", X, since=14)
case("Mish", X, since=18)
case("Gelu", X, since=20)
case("Gelu", X, since=20, approximate="tanh")
case("Swish", X, since=24)
case("Log Sqrt", abs(X))
case("Log Sqrt", X)
case("Abs Neg Sign", I, since=9)
case("Shrink", X, since=9, bias=0.5, lambd=0.7)
case("IsInf", np.array([1, np.inf, -np.inf], F), since=10)
case("Clip", X, until=10, min=-0.5, max=0.5)
case("Clip", X, until=10)
case("Clip", X, F(-0.5), F(0.5), since=11)
case("Clip", X, None, F(0.5), since=11)
case("Clip", I, np.int64(-2), np.int64(2), since=12)
case("BitShift", U8, np.uint8(2), since=11, direction="LEFT")
case("CumSum", X, np.int64(1), since=11)
case("CumSum", X, I32(-1), since=11, exclusive=1, reverse=1)

# --- types and shapes -------------------------------------------------------------------------

for to in (1, 6, 7, 9, 10, 11):
    case("Cast", X * 3, to=to)
case("Cast", I, to=1)
case("Cast", I > 0, to=1)
case("Cast", I, to=9)
case("Cast", I, to=6)
case("CastLike", X * 3, ints(1), since=15)
case("Shape", X, since=15, start=1, end=-1)
case("Concat", X, X * 2, axis=1)
case("Concat", X, X * 2, since=11, axis=-1)
case("Concat", I, J, axis=0)
case("Split", X, until=12, outputs=2, axis=2)
case("Split", X, until=12, outputs=2, axis=1, split=[1, 2])
case("Split", X, ints(1, 2), since=13, outputs=2, axis=1)
case("Split", X, since=13, until=17, outputs=2, axis=2)
case("Split", X, since=18, outputs=2, axis=1, num_outputs=2)
case("Slice", X, until=9, starts=[0, 1], ends=[1, 3], axes=[0, 2])
case("Slice", X, until=9, starts=[0, -2], ends=[2, 10000])
case("Slice", X, ints(0, 1), ints(1, 3), ints(0, 2), since=10)
case("Slice", X, ints(-1), ints(-10000), ints(2), ints(-1), since=10)
case("Slice", X, ints(0, -2), ints(2, 2**62), since=10)
case("Slice", X, ints(3), ints(0), ints(2), ints(-2), since=10)
case("Slice", X, ints(2), ints(1), ints(1), since=10)
case("Slice", X, np.array([0], I32), np.array([2], I32), np.array([-1], I32), since=10)
case("Gather", X, ints(0, 1))
case("Gather", X, ints(0, 2), axis=1)
case("Gather", X, np.int64(1), axis=2)
case("Gather", X, ints(-1), since=11, axis=1)
case("Gather", ints(2, 3, 4), np.int64(0))
case("Gather", X, np.array([[0, 1], [1, 0]], I32), axis=2)
case("GatherElements", X, RNG.integers(0, 3, (2, 2, 4)), since=11, axis=1)
case("GatherElements", X, -RNG.integers(1, 3, (2, 2, 4)), since=11, axis=1)
case("GatherND", X, ints([0, 1], [1, 2]), since=11)
case("GatherND", X, ints([[1]], [[2]]), since=12, batch_dims=1)
AT = ints([[0, 1, 0, 1]]).repeat(2, 0)
case("Scatter", X, AT, X[:, :1] * 9, since=9, until=10, axis=1)
case("ScatterElements", X, AT, X[:, :1] * 9, since=11, axis=1)
case("ScatterElements", X, AT, X[:, :1] * 9, since=18, axis=1, reduction="add")
case("ScatterND", X, ints([0], [1]), X * 2, since=11)
case("ScatterND", X, ints([0], [0]), X * 2, since=16, reduction="add")
case("ScatterND", X, ints([0], [0]), X * 2, since=18, reduction="max")
case("Reshape", X, ints(3, -1))
case("Reshape", X, ints(0, 0, 2, 2))
case("Reshape", np.zeros((0, 3), F), ints(3, 0), since=14, allowzero=1)
case("Expand", X, ints(2, 1, 1, 1), since=8)
case("Expand", V, ints(3, 1), since=8)
case("Tile", X, ints(1, 2, 1))
case("Flatten", X)
case("Flatten", X, axis=0)
case("Flatten", X, axis=2)
case("Flatten", X, since=11, axis=-1)
case("Squeeze", X[:1], until=12, axes=[0])
case("Squeeze", X[:1, :1], until=12)
case("Squeeze", X[:1], ints(0), since=13)
case("Squeeze", X[:, :, :1], ints(-1), since=13)
case("Squeeze", X[:1], since=13)
case("Unsqueeze", X, until=12, axes=[0, 2])
case("Unsqueeze", X, since=11, until=12, axes=[-1])
case("Unsqueeze", X, ints(0, -1), since=13)
case("Transpose", X)
case("Transpose", X, perm=[1, 0, 2])
case("ConstantOfShape", ints(2, 3), since=9)
case("ConstantOfShape", ints(2, 3), since=9, value=numpy_helper.from_array(ints(7)))
case("ConstantOfShape", ints(), since=9)
case("Range", np.int64(1), np.int64(9), np.int64(3), since=11)
case("Range", F(1), F(2), F(0.3), since=11)
case("Range", np.int64(5), np.int64(0), np.int64(-2), since=11)
case("OneHot", ints(0, 2, -1), np.int64(4), np.array([0, 1], F), since=9)
case("OneHot", ints(0, 2, 7), np.int64(4), np.array([2, 5], F), since=9, axis=0)
case("EyeLike", J, since=9, k=1)
case("EyeLike", J, since=9, dtype=1)
case("Trilu", X, since=14)
case("Trilu", X, np.int64(1), since=14, upper=0)
case("ReverseSequence", X, ints(1, 3), since=10, batch_axis=0, time_axis=1)
case("ReverseSequence", X, ints(1, 2, 2), since=10)
case("TopK", X, until=9, outputs=2, k=2)
case("TopK", X, ints(2), since=10, outputs=2)
case("TopK", X, ints(2), since=10, outputs=2, axis=1)
case("TopK", X, ints(2), since=11, outputs=2, largest=0)
case("Unique", np.array([2, 1, 1, 3], F), since=11, outputs=4)
case("Compress", X, np.array([False, True, True]), since=9, axis=1)
PADS = [0, 1, 1, 0, 0, 2]
case("Pad", X, until=10, pads=PADS)
case("Pad", X, until=10, pads=PADS, value=3.0)
case("Pad", X, until=10, pads=PADS, mode="reflect")
case("Pad", X, until=10, pads=PADS, mode="edge")
case("Pad", X, ints(*PADS), since=11)
case("Pad", X, ints(*PADS), F(2), since=11)
case("Pad", X, ints(*PADS), since=11, mode="reflect")
case("Pad", X, ints(*PADS), since=11, mode="edge")
case("Pad", X, ints(0, -1, 1, 0, 0, -2), since=11)
case("Pad", X, ints(1, 2), None, ints(-1), since=18)
case("Pad", X, ints(1, 2), None, ints(-1), since=19, mode="wrap")

# --- along an axis ----------------------------------------------------------------------------

case("Softmax LogSoftmax Hardmax", X)
for axis in range(3):
    case("Softmax LogSoftmax Hardmax", X, axis=axis)
case("Softmax LogSoftmax Hardmax", X, since=11, axis=-2)
SUMS = "ReduceMean ReduceMax ReduceMin ReduceProd"
OTHERS = "ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"
for names, changed in (("ReduceSum", 13), (f"{SUMS} {OTHERS}", 18)):
    case(names, POSITIVE)
    case(names, POSITIVE, keepdims=0)
    case(names, POSITIVE, until=changed - 1, axes=[1])
    case(names, POSITIVE, until=changed - 1, axes=[0, 2], keepdims=0)
    case(names, POSITIVE, since=11, until=changed - 1, axes=[-1])
    case(names, POSITIVE, ints(1), since=changed)
    case(names, POSITIVE, ints(0, -1), since=changed, keepdims=0)
    case(names, POSITIVE, ints(), since=changed)
    case(names, POSITIVE, ints(), since=changed, noop_with_empty_axes=1)
case("ReduceSum", I, since=12, until=12, axes=[1])
case("ReduceSum", I, ints(1), since=13)
case(SUMS, I, since=12, until=17, axes=[1])
case(SUMS, I, ints(1), since=18)
case("ArgMax ArgMin", X)
case("ArgMax ArgMin", X, axis=1, keepdims=0)
case("ArgMax ArgMin", X, since=11, axis=-1)
TIES = np.array([[1, 3, 3], [2, 2, 1]], F)
case("ArgMax ArgMin", TIES, since=12, axis=1, select_last_index=1)

# --- products, norms, windows -----------------------------------------------------------------

MATRIX, BIAS = draw(3, 4), draw(5)
case("MatMul", X, draw(4, 5))
case("MatMul", X, draw(2, 4, 5))
case("MatMul", V, draw(4, 5))
case("MatMul", X, V)
case("MatMul", I, RNG.integers(0, 9, (3, 2)), since=9)
case("Gemm", MATRIX, draw(4, 5), V[:1])
case("Gemm", MATRIX, draw(5, 4), BIAS, transB=1)
case("Gemm", MATRIX, draw(3, 5), draw(4, 5), transA=1, alpha=0.5, beta=2.0)
case("Gemm", MATRIX, draw(4, 5), since=11)
case("Gemm", MATRIX, draw(4, 5), F(2))
case("Gemm", MATRIX, draw(4, 5), draw(1, 5))
case("Gemm", MATRIX, draw(4, 5), draw(3, 1))
case("Gemm", MATRIX, draw(4, 5), BIAS, beta=0.5)
case("Einsum", X, X, since=12, equation="bij,bkj->bik")
case("Det", draw(2, 3, 3), since=11)
case("MatMulInteger", U8, RNG.integers(0, 255, (4, 5)).astype(np.uint8), np.uint8(9), since=10)
case("MatMulInteger", U8, RNG.integers(-99, 99, (4, 5)).astype(np.int8), since=10)
case("Dropout", X)
case("Dropout", X, until=11, ratio=0.3)
case("Dropout", X, F(0.3), since=12)
ROWS = [draw(3) for _ in range(3)]
case("BatchNormalization", X, *ROWS, abs(ROWS[0]), epsilon=1e-3)
case("InstanceNormalization", X, *ROWS[:2])
case("LayerNormalization", X, V, since=17)
case("LayerNormalization", X, V, V * 2, since=17)
case("LayerNormalization", X, draw(3, 4), since=17, axis=1)
case("RMSNormalization", X, V, since=23)
case("GroupNormalization", IMAGE, V[:2], V[:2], since=21, num_groups=2)
case("LpNormalization", X)
case("LRN", IMAGE, size=3)
case("PRelu", X, V)
case("PRelu", X, ROWS[0][:, None])
case("MeanVarianceNormalization", IMAGE, since=9)
KERNEL, LINE = draw(4, 2, 3, 3), draw(5, 3, 3)
case("Conv", IMAGE, KERNEL)
case("Conv", IMAGE, KERNEL, V, pads=[1, 1, 1, 1], strides=[2, 2])
case("Conv", IMAGE, KERNEL, auto_pad="SAME_UPPER", strides=[2, 2])
case("Conv", IMAGE, KERNEL[:, :1], group=2)
case("Conv", IMAGE, KERNEL, dilations=[2, 2])
case("Conv", X, LINE, pads=[1, 1])
case("Conv", X, LINE, pads=[2, 0], dilations=[2])
case("Conv", X, draw(5, 3, 1), strides=[2])
case("ConvTranspose", IMAGE, draw(2, 3, 3, 3))
case("ConvTranspose", X, draw(3, 2, 3), strides=[2], output_padding=[1], pads=[1, 1])
for names in ("MaxPool AveragePool",):
    case(names, IMAGE, kernel_shape=[2, 3])
    case(names, IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    case(names, IMAGE, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER")
    case(names, IMAGE, since=10, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    case(names, X, kernel_shape=[2], strides=[2])
case("MaxPool", X, since=8, outputs=2, kernel_shape=[2])
case("MaxPool", IMAGE, since=8, outputs=2, kernel_shape=[2, 2], pads=[1, 0, 1, 1])
case("MaxPool", IMAGE, since=8, outputs=2, kernel_shape=[2, 2], storage_order=1)
case("MaxPool", X, since=10, kernel_shape=[2], dilations=[2])
case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
case("AveragePool", IMAGE, since=19, kernel_shape=[2, 2], dilations=[2, 2])
case("LpPool", IMAGE, kernel_shape=[2, 2])
case("GlobalAveragePool GlobalMaxPool GlobalLpPool", IMAGE, until=21)
case("GlobalAveragePool GlobalMaxPool", IMAGE, since=22)
case("DepthToSpace", draw(1, 8, 2, 3), blocksize=2)
case("DepthToSpace", draw(1, 8, 2, 3), since=11, blocksize=2, mode="CRD")
case("SpaceToDepth", draw(1, 2, 4, 6), blocksize=2)
TWICE, SCALES = np.array([1, 1, 2, 2], F), np.array([1, 1, 2, 1.5], F)
for mode in ("nearest", "linear"):
    case("Upsample", IMAGE, until=8, mode=mode, scales=[1.0, 1.0, 2.0, 2.0])
    case("Upsample", IMAGE, TWICE, since=9, until=9, mode=mode)
    case("Resize", IMAGE, SCALES, since=10, until=10, mode=mode)
    case("Resize", IMAGE, np.array([1, 1, 0.6, 0.5], F), since=10, until=10, mode=mode)
SIZES = ints(1, 2, 7, 4)
for mode in ("nearest", "linear", "cubic"):
    case("Resize", IMAGE, np.array([], F), SCALES, since=11, until=12, mode=mode)
    case("Resize", IMAGE, None, SCALES, since=13, mode=mode)
    for where in ("align_corners", "asymmetric"):
        way = {"coordinate_transformation_mode": where}
        case("Resize", IMAGE, None, None, SIZES, since=13, mode=mode, **way)
GRID = RNG.uniform(-1, 1, (1, 3, 3, 2)).astype(F)
case("GridSample", IMAGE, GRID, since=16, until=19, mode="bilinear")
case("GridSample", IMAGE, GRID, since=16, until=19, mode="bicubic")
case("GridSample", IMAGE, GRID, since=20, mode="linear")
case("GridSample", IMAGE, GRID, since=16, align_corners=1, mode="nearest")
BOXES = np.array([[0, 0, 3, 3], [1, 1, 4, 4]], F)
TWO = {"output_height": 2, "output_width": 2}
case("RoiAlign", IMAGE, BOXES, ints(0, 0), since=10, until=21, **TWO)
BOXES = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3]]], F)
SCORES = np.array([[[0.9, 0.75, 0.6]]], F)
LIMITS = (ints(3), np.array([0.5], F), np.array([0], F))
case("NonMaxSuppression", BOXES, SCORES, *LIMITS, since=10)

# --- quantised, signals, losses ---------------------------------------------------------------

case("QuantizeLinear", X, F(0.05), np.uint8(128), since=10)
case("QuantizeLinear", X, F(0.05), since=10)
case("QuantizeLinear", X, abs(V) + F(0.1), np.zeros(4, np.int8), since=13, axis=2)
case("DequantizeLinear", U8, F(0.05), np.uint8(128), since=10)
case("DequantizeLinear", U8, F(0.05), since=10)
case("DequantizeLinear", U8, abs(V), np.zeros(4, np.uint8), since=13, axis=2)
case("DynamicQuantizeLinear", X, since=11, outputs=3)
case("DFT", X[..., None], since=17, until=19, axis=1)
case("DFT", X[..., None], None, np.int64(1), since=20, onesided=1)
case("STFT", draw(1, 64, 1), np.int64(8), np.hanning(16).astype(F), since=17)
case("HannWindow HammingWindow BlackmanWindow", np.int64(8), since=17)
MEL = (np.int64(8), np.int64(32), np.int64(8000), F(0), F(4000))
case("MelWeightMatrix", *MEL, since=17)
LABELS = RNG.integers(0, 3, (2, 4))
case("SoftmaxCrossEntropyLoss NegativeLogLikelihoodLoss", X, LABELS, since=12)


# --- beside ONNX Runtime ----------------------------------------------------------------------


def versions(one: Case) -> list[int]:
    """The opsets in which the operator changed, of those in which the case is valid."""
    changes = {
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == one.operator and not schema.domain and not schema.deprecated
    }
    opsets = {max(one.since, change) for change in changes | {one.since}}
    return sorted(v for v in opsets if v <= min(one.until, NEWEST))


def model(one: Case, opset: int, outputs: list[Any] | None = None) -> Any:
    """A model of the node alone; its first input is the graph's, and the others are constants."""

    def kind(a: Any) -> int:
        return int(helper.np_dtype_to_tensor_dtype(np.asarray(a).dtype))

    names = ["" if a is None else f"i{k}" for k, a in enumerate(one.inputs)]
    results = [f"o{k}" for k in range(one.outputs)]
    node = helper.make_node(one.operator, names, results, "it", **one.attributes)
    x = one.inputs[0]
    if outputs is None:
        values = [helper.make_empty_tensor_value_info(name) for name in results]
    else:
        values = [
            helper.make_tensor_value_info(name, kind(a), [None] * np.ndim(a))
            for name, a in zip(results, outputs, strict=True)
        ]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("i0", kind(x), np.shape(x))],
        values,
        [
            numpy_helper.from_array(np.asarray(a), f"i{k}")
            for k, a in enumerate(one.inputs)
            if k and a is not None
        ],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 19 else 10)


def compared(one: Case, opset: int) -> None:
    x = np.asarray(one.inputs[0])
    wanted = runtime(model(one, opset), {"i0": x})
    found = Backend.run_model(model(one, opset, wanted), {"i0": x})
    for a, b in zip(found, wanted, strict=True):
        what = f"opset {opset}: {one}"
        assert a.dtype == b.dtype, what
        assert a.shape == b.shape, what
        if b.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5, err_msg=what)
        else:
            np.testing.assert_array_equal(a, b, err_msg=what)


NAMES = sorted({one.operator for one in CASES})


@pytest.mark.parametrize("operator", NAMES)
def test_oldest_and_newest(operator: str) -> None:
    for one in CASES:
        if one.operator == operator:
            for opset in {*versions(one)[:1], *versions(one)[-1:]}:
                compared(one, opset)


@pytest.mark.exhaustive
@pytest.mark.parametrize("operator", NAMES)
def test_every_version(operator: str) -> None:
    for one in CASES:
        if one.operator == operator:
            for opset in versions(one):
                compared(one, opset)


def test_what_is_mended_is_compared() -> None:
    assert {*_mended.OWN, *_mended.RENEWED} <= {*NAMES}


# --- windows at random ------------------------------------------------------------------------


def window(pick: random.Random) -> tuple[Case, int]:
    """A random convolution or pool over one or two axes, with every attribute at random."""
    operator = pick.choice(["Conv", "Conv", "ConvTranspose", "AveragePool", "MaxPool", "LpPool"])
    n, channels, groups = pick.choice([1, 1, 2]), pick.choice([2, 4]), pick.choice([1, 1, 2])
    kernel = [pick.randint(1, 4) for _ in range(n)]
    x = draw(pick.choice([1, 2]), channels, *(pick.randint(4, 9) for _ in range(n)))
    more: dict[str, Any] = {}
    if pick.random() < 0.6:
        more["strides"] = [pick.randint(1, 3) for _ in range(n)]
    if pick.random() < 0.5:
        more["pads"] = [pick.randint(0, kernel[k % n] - 1) for k in range(2 * n)]
    elif pick.random() < 0.5:
        # With strides and SAME together, ONNX Runtime's shapes differ from the specification's.
        plain = not more and operator in ("Conv", "AveragePool", "MaxPool")
        more["auto_pad"] = pick.choice(["SAME_UPPER", "SAME_LOWER"] if plain else ["VALID"])
    inputs: list[Any] = [x]
    if operator.startswith("Conv"):
        more["group"] = groups
        if pick.random() < 0.4 and "auto_pad" not in more:
            more["dilations"] = [pick.randint(1, 2) for _ in range(n)]
        sides = [4, channels // groups] if operator == "Conv" else [channels, 4 // groups]
        inputs.append(draw(*sides, *kernel))
        inputs += [draw(4)] if pick.random() < 0.5 else []
        stride = max(more.get("strides", [1]))
        if operator == "ConvTranspose" and stride > 1 and pick.random() < 0.4:
            more["output_padding"] = [s - 1 for s in more["strides"]]
    else:
        more["kernel_shape"] = kernel
        if operator != "LpPool" and pick.random() < 0.4 and "auto_pad" not in more:
            more["ceil_mode"] = 1
        if operator == "AveragePool":
            more["count_include_pad"] = pick.randint(0, 1)
        if operator == "MaxPool" and "auto_pad" not in more:
            more["dilations"] = [pick.randint(1, 2) for _ in range(n)]
    return Case(operator, inputs, more), pick.choice([11, 13, 17, 19, 22])


@pytest.mark.parametrize("count", [200, pytest.param(4000, marks=pytest.mark.exhaustive)])
def test_windows_at_random(count: int) -> None:
    pick = random.Random(1)
    ran = 0
    for _ in range(count):
        one, opset = window(pick)
        kernel = one.attributes.get("kernel_shape") or one.inputs[1].shape[2:]
        dilations = one.attributes.get("dilations", [1] * len(kernel))
        reaches = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        if all(reach <= size for reach, size in zip(reaches, one.inputs[0].shape[2:], strict=True)):
            compared(one, opset)
            ran += 1
    assert ran > count / 2


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "opset", "says"),
    [
        (Case("Multinomial", [X[0]], {}), 22, "(Multinomial): cannot be computed"),
        (Case("BatchNormalization", [X, *ROWS, ROWS[0]], {"spatial": 0}), 8, "spatial: expected 1"),
        (
            Case("BatchNormalization", [X, *ROWS, ROWS[0]], {}, outputs=5),
            9,
            "outputs: expected 1: inference, got 5",
        ),
        (Case("MaxPool", [X], {"kernel_shape": [9]}), 17, "no window of 9 fits into 4"),
        (Case("MaxPool", [X], {"kernel_shape": [2, 2]}), 17, "expected 4 axes, got 3"),
        (Case("Conv", [X, draw(5, 2, 3)], {}), 17, "input X: expected 3 axes with 2 channels"),
        (
            Case("Conv", [X, LINE], {"kernel_shape": [2]}),
            17,
            "kernel_shape: expected the (3,) of W",
        ),
        (Case("Conv", [X, LINE, draw(2)], {}), 17, "(Conv): cannot be computed"),
        (Case("Conv", [I, LINE], {}), 17, "input X: expected float32, as the weights, got int64"),
        (Case("ConvTranspose", [X, draw(2, 2, 2)], {}), 17, "W (2, 2, 2) does not fit X (2, 3, 4)"),
        (Case("Pad", [X, ints(1, 1)], {}), 17, "pads: expected 6 numbers, got 2"),
        (
            Case("MatMul", [X, draw(3, 2)], {}),
            17,
            "input A: expected at least 1 axis, axis -1 3 lo",
        ),
        (Case("Gemm", [X, draw(4, 2), V[:1]], {}), 17, "input A: expected 2 axes, axis -1 4 long"),
        (Case("Gemm", [MATRIX, draw(4, 2), draw(5)], {}), 17, "(Gemm): cannot be computed"),
        (
            Case("MatMul", [I, draw(3, 2)], {}),
            17,
            "expected float32, as the right operand, got int",
        ),
        (Case("Add", [X, V], {}), 6, "opset_import: expected opset 7 or later, got opset 6"),
        (Case("Add", [X, X.astype("float64")], {}), 17, "(Add): cannot be computed"),
        (Case("Equal", [I, I.astype("int32")], {}), 17, "(Equal): cannot be computed"),
    ],
)
def test_refusals(one: Case, opset: int, says: str) -> None:
    wanted = [np.zeros(1, F)] * one.outputs
    with pytest.raises((TypeError, ValueError)) as caught:
        Backend.run_model(model(one, opset, wanted), {"i0": np.asarray(one.inputs[0])})
    assert str(caught.value).startswith(f"onnx: node 'it' ({one.operator}): ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "attributes"),
    [
        ("Add", 2, 1, {}),
        ("Equal", 2, 1, {}),
        ("Relu", 1, 1, {}),
        ("LeakyRelu", 1, 1, {"alpha": 0.3}),
        ("ReduceSum", 1, 1, {"keepdims": 0}),
        ("Split", 1, 2, {"axis": 0, "num_outputs": 2}),
        ("Mean", 3, 1, {}),
    ],
)
def test_nodes_run_without_the_checks_of_the_reference(
    operator: str, inputs: int, outputs: int, attributes: dict[str, Any]
) -> None:
    """Every kind of `run` that the backend goes around: the same arrays, of no axes too."""
    names = [[f"{side}{k}" for k in range(n)] for side, n in (("i", inputs), ("o", outputs))]
    node = helper.make_node(operator, *names, **attributes)
    opsets = [helper.make_opsetid("", 20)]
    values = [[helper.make_tensor_value_info(n, 1, None) for n in side] for side in names]
    graph = helper.make_graph([node], "one", *values)
    whole = onnx.reference.ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets))
    (theirs,) = whole.rt_nodes_
    ours = _plain.quick(theirs)
    assert ours != theirs.run
    for shape in ((4, 3), (2,)) if outputs == 2 else ((4, 3), (2,), ()):
        arguments = [draw(*shape) for _ in range(inputs)]
        for a, b in zip(ours(*arguments), theirs.run(*arguments), strict=True):
            assert isinstance(a, np.ndarray)
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(
    "name", ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
)
def test_reductions_of_one_number(name: str, keepdims: int, axis: int) -> None:
    """Axis 0 of a value without axes, in a form that ONNX Runtime takes: axes as an input."""
    node = helper.make_node(f"Reduce{name}", ["x", "axes"], ["y"], keepdims=keepdims)
    kinds = (("x", 1, []), ("axes", 7, [1]), ("y", 1, []))
    x, axes, y = (helper.make_tensor_value_info(*kind) for kind in kinds)
    opsets = [helper.make_opsetid("", 18)]
    graph = helper.make_graph([node], "one", [x, axes], [y])
    one = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    given = {"x": np.array(3, F), "axes": ints(axis)}
    (found,), (wanted,) = Backend.run_model(one, given), runtime(one, given)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype) == ((), F)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
