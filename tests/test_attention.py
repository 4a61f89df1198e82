"""nn.Attention against its equations, central differences and torch; lengths and padding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from conftest import Chosen, fastest
from fusedrnn import nn
from fusedrnn.nn._product import summed
from layer_cases import check_differences, same

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = ("float32", "float64")
KINDS = ("dot", "scaled_dot", "general", "additive")
TOLERANCE = {"float32": 5e-6, "float64": 1e-13}
# Sizes of queries, keys, values and hidden units; dot products need equal ones.
V, HIDDEN = 3, 7


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def make(kind: str, dtype: str = "float64", **options: Any) -> nn.Attention:
    sizes = {"general": (6, 5), "additive": (6, 5, HIDDEN)}.get(kind, ())
    return nn.Attention(kind, *sizes, dtype=dtype, seed=0, **options)


def arguments(
    kind: str, tq: int = 4, tk: int = 5, batch: int = 3, dtype: str = "float64"
) -> tuple[Array, Array, Array]:
    """Queries, keys and values, time-major."""
    k = 5 if kind in ("general", "additive") else 6
    sizes = (tq, batch, 6), (tk, batch, k), (tk, batch, V)
    return tuple(numbers(*size, seed=s, dtype=dtype) for s, size in enumerate(sizes))  # type: ignore[return-value]


def score(layer: nn.Attention, q: Array, k: Array) -> float:
    p = {name: a.astype(np.float64) for name, a in layer.params.items()}
    if layer.kind == "general":
        return float(q @ (p["weight"] @ k))
    if layer.kind == "additive":
        hidden = np.tanh(p["weight_query"] @ q + p["weight_key"] @ k)
        return float(p["weight_score"][0] @ hidden)
    return float(q @ k) / (math.sqrt(len(q)) if layer.kind == "scaled_dot" else 1)


def oracle(
    layer: nn.Attention, q: Array, k: Array, v: Array, lengths: list[int] | None
) -> tuple[Array, Array]:
    """Context and weights from the equations, one query at a time, in float64."""
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    context, weights = np.zeros((*q.shape[:2], v.shape[2])), np.zeros((*q.shape[:2], len(k)))
    for b in range(q.shape[1]):
        n = len(k) if lengths is None else lengths[b]
        for t in range(len(q)):
            e = np.exp([score(layer, q[t, b], k[s, b]) for s in range(n)])
            for s in range(n):
                weights[t, b, s] = e[s] / e.sum()
                context[t, b] += weights[t, b, s] * v[s, b]
    return context, weights


def turned(a: Array) -> Array:
    """An array of steps batch-major; its memory is not contiguous."""
    return a.swapaxes(0, 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("lengths", [None, [5, 2, 0], [1, 5, 5]])
@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_its_equations(
    backend: Chosen, kind: str, lengths: list[int] | None, dtype: str
) -> None:
    layer, given = make(kind, dtype), arguments(kind, dtype=dtype)
    context, weights, saved = layer.forward(*given, lengths=lengths)
    backend.ran(f"dense {dtype}")
    for found, expected in zip((context, weights), oracle(layer, *given, lengths), strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype])
    assert all(map(same, layer(*given, lengths=lengths), (context, weights)))
    layer.backward(saved, context)
    backend.ran(f"dense {dtype}")
    assert saved.nbytes >= sum(a.nbytes for a in given)
    for a in (context, weights):
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 0


@pytest.mark.parametrize("lengths", [None, [5, 2, 0]])
@pytest.mark.parametrize("kind", KINDS)
def test_attention_gradients_are_central_differences(kind: str, lengths: list[int] | None) -> None:
    """Of a loss that depends on the context and on the weights."""
    layer, (q, k, v) = make(kind), arguments(kind)
    dc, dw = numbers(4, 3, V, seed=7), numbers(4, 3, 5, seed=8)

    def loss() -> float:
        context, weights = layer(q, k, v, lengths=lengths)
        return float((context * dc).sum() + (weights * dw).sum())

    with fastest():
        _, _, saved = layer.forward(q, k, v, lengths=lengths)
        found = layer.backward(saved, dc, dw)
    gradients = {"q": found.dqueries, "k": found.dkeys, "v": found.dvalues, **found.dparams}
    assert list(found.dparams) == list(layer.params)
    both = layer.backward(saved, dc), layer.backward(saved, None, dw)
    for whole, one, other in zip(found[:3], both[0][:3], both[1][:3], strict=True):
        np.testing.assert_allclose(one + other, whole, rtol=0, atol=1e-13)
    assert not any(a.any() for a in layer.backward(saved)[:3])
    check_differences(layer, loss, {"q": q, "k": k, "v": v}, gradients, elements=12)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_torchs(kind: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    lengths, given = [5, 2, 3], arguments(kind, dtype=dtype)
    layer = make(kind, dtype)
    context, weights, saved = layer.forward(*given, lengths=lengths)
    dc = numbers(*context.shape, seed=5, dtype=dtype)
    found = layer.backward(saved, dc)

    q, k, v = (torch.from_numpy(a.copy()).requires_grad_() for a in given)
    real = torch.arange(5)[None] < torch.tensor(lengths)[:, None]  # (B, Tk)
    of_batch = [a.transpose(0, 1) for a in (q, k, v)]
    parameters = {n: torch.from_numpy(a.copy()).requires_grad_() for n, a in layer.params.items()}
    if kind in ("dot", "scaled_dot"):
        theirs = torch.nn.functional.scaled_dot_product_attention(
            *of_batch, attn_mask=real[:, None], scale=1.0 if kind == "dot" else None
        )
    else:
        if kind == "general":
            scores = of_batch[0] @ (of_batch[1] @ parameters["weight"].T).transpose(1, 2)
        else:
            left = of_batch[0] @ parameters["weight_query"].T
            right = of_batch[1] @ parameters["weight_key"].T
            hidden = torch.tanh(left[:, :, None] + right[:, None])
            scores = hidden @ parameters["weight_score"][0]
        theirs = torch.softmax(scores.masked_fill(~real[:, None], -math.inf), -1) @ of_batch[2]
    theirs.transpose(0, 1).backward(torch.from_numpy(dc))
    close = {"rtol": 0, "atol": 4 * TOLERANCE[dtype]}
    np.testing.assert_allclose(context, theirs.transpose(0, 1).detach().numpy(), **close)
    for mine, tensor in zip(found[:3], (q, k, v), strict=True):
        np.testing.assert_allclose(mine, tensor.grad.numpy(), **close)
    for name, tensor in parameters.items():
        np.testing.assert_allclose(found.dparams[name], tensor.grad.numpy(), **close)
    assert not weights[:, 1, 2:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_layouts_agree(kind: str) -> None:
    first, time_major = make(kind, batch_first=True), make(kind)
    given, lengths = arguments(kind), [5, 2, 3]
    dc, dw = numbers(4, 3, V, seed=5), numbers(4, 3, 5, seed=6)
    *expected, saved = time_major.forward(*given, lengths=lengths)
    *found, saved_first = first.forward(*map(turned, given), lengths=lengths)
    assert all(same(turned(a), b) for a, b in zip(found, expected, strict=True))
    gradients = time_major.backward(saved, dc, dw)
    of_first = first.backward(saved_first, turned(dc), turned(dw))
    for a, b in zip(of_first[:3], gradients[:3], strict=True):
        assert same(turned(a), b)
    for name, g in gradients.dparams.items():
        assert same(of_first.dparams[name], g)
    # Without a batch axis, in either layout.
    for layer in (first, time_major):
        *alone, saved = layer.forward(*(a[:, 1] for a in given), lengths=2)
        assert all(same(a, b[:, 1]) for a, b in zip(alone, expected, strict=True))
        found = layer.backward(saved, dc[:, 1], dw[:, 1])
        assert all(same(a, b[:, 1]) for a, b in zip(found[:3], gradients[:3], strict=True))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_read(kind: str, dtype: str) -> None:
    """No bit depends on padding, on its amount, or on the other sequences; and nothing warns."""
    layer, (q, k, v) = make(kind, dtype), arguments(kind, tk=40, dtype=dtype)
    lengths = [40, 17, 0]
    for b, n in enumerate(lengths):
        k[n:, b], v[n:, b] = np.nan, np.inf
    dc = numbers(4, 3, V, seed=5, dtype=dtype)
    context, weights, saved = layer.forward(q, k, v, lengths=lengths)
    found = layer.backward(saved, dc)
    for b, n in enumerate(lengths):
        rest, of_rest, saved = layer.forward(q[:, b], k[:n, b], v[:n, b])
        alone = layer.backward(saved, dc[:, b])
        assert same(context[:, b], rest)
        assert same(weights[:, b, :n], of_rest)
        assert not weights[:, b, n:].any()
        assert same(found.dqueries[:, b], alone.dqueries)
        for mine, one in ((found.dkeys, alone.dkeys), (found.dvalues, alone.dvalues)):
            assert same(mine[:n, b], one)
            assert not mine[n:, b].any()
    assert all(np.isfinite(g).all() for g in found.dparams.values())
    assert np.isnan(k[17, 1]).all()  # the caller's arrays stay as they are


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tq", "tk", "batch"), [(0, 5, 3), (4, 0, 3), (4, 5, 0), (0, 0, 0)])
def test_nothing_to_ask_or_to_read(kind: str, tq: int, tk: int, batch: int) -> None:
    layer, given = make(kind), arguments(kind, tq, tk, batch)
    context, weights, saved = layer.forward(*given)
    assert (context.shape, weights.shape) == ((tq, batch, V), (tq, batch, tk))
    assert not context.any()
    found = layer.backward(saved, context, weights)
    for d, a in zip(found[:3], given, strict=True):
        assert d.shape == a.shape
        assert not d.any()
    for name, g in found.dparams.items():
        assert g.shape == layer.params[name].shape
        assert not g.any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rows", [3, 200, 1100])
def test_sums_of_products_depend_on_their_sequence_alone(rows: int, dtype: str) -> None:
    a, b = numbers(rows, 4, 5, dtype=dtype), numbers(rows, 4, 9, seed=1, dtype=dtype)
    whole = summed(a, b, 1)
    right = np.einsum("rbm,rbk->bmk", a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(whole, right, atol=rows * TOLERANCE[dtype])
    assert same(summed(a, b, 2), whole)
    longer = [np.zeros((rows + 77, 5, n), dtype) for n in (6, 11)]
    for one, given in zip(longer, (a, b), strict=True):
        one[:rows, :4, : given.shape[2]] = given
        one[:, 4] = np.nan
    assert same(summed(longer[0], longer[1], 2)[:4, :5, :9], whole)


def test_a_query_with_nan_leaves_padding_alone() -> None:
    layer, (q, k, v) = make("dot"), arguments("dot")
    q[1, 1] = np.nan
    context, _, saved = layer.forward(q, k, v, lengths=[5, 2, 0])
    found = layer.backward(saved, np.ones_like(context))
    assert np.isnan(found.dkeys[:2, 1]).all()
    for d in (found.dkeys, found.dvalues):
        assert not d[2:, 1].any()
        assert np.isfinite(d[:, [0, 2]]).all()


def test_scores_of_any_size_have_finite_weights() -> None:
    layer = nn.Attention("dot")
    x = np.array([[[100.0]], [[-100.0]]], np.float32)
    context, weights = layer(x * np.float32(1e15), x, x)
    assert weights[:, 0].tolist() == [[1, 0], [0, 1]]
    assert context[:, 0, 0].tolist() == [100, -100]
    layer(np.full((1, 1, 1), np.nan), x, x)  # gives NaN without a warning


def test_attention_begins_as_dense_does() -> None:
    layer = nn.Attention("additive", 100, 25, 400, seed=0)
    for name, columns in (("weight_query", 100), ("weight_key", 25), ("weight_score", 400)):
        top = np.abs(layer.params[name]).max()
        assert 0.95 / math.sqrt(columns) < top <= 1 / math.sqrt(columns)
    shapes = {name: a.shape for name, a in layer.params.items()}
    assert shapes == {
        "weight_query": (400, 100),
        "weight_key": (400, 25),
        "weight_score": (1, 400),
    }
    assert nn.Attention("general", 3, 4).params["weight"].shape == (3, 4)
    assert not nn.Attention("dot").params


@pytest.mark.parametrize("kind", ["dot", "additive"])
def test_what_attention_refuses(kind: str) -> None:
    layer, (q, k, v) = make(kind), arguments(kind)
    width = k.shape[-1]
    for given, text in (
        ((q[0, 0], k, v), r"queries: expected shape \(Tq, B, .\) or \(Tq, .\), got \(6,\)"),
        ((q[..., :0], k, v), "queries: expected "),
        ((q, k[:, 0], v), rf"keys: expected shape \(Tk, 3, {width}\), got \(5, {width}\)"),
        ((q, k[:, :2], v), rf"keys: expected shape \(Tk, 3, {width}\), got \(5, 2, {width}\)"),
        ((q, k[..., :4], v), rf"keys: expected shape \(Tk, 3, {width}\), got \(5, 3, 4\)"),
        ((q, k, v[:4]), r"values: expected shape \(5, 3, V\), got \(4, 3, 3\)"),
        ((q, k, v[..., :0]), r"values: expected shape \(5, 3, V\), got \(5, 3, 0\)"),
        ((q[:, 0], k[:, 0], v), r"values: expected shape \(5, V\), got \(5, 3, 3\)"),
    ):
        with pytest.raises(ValueError, match=text):
            layer(*given)
    with pytest.raises(ValueError, match=r"keys: expected shape \(3, Tk, .\), got \(5, 3, .\)"):
        make(kind, batch_first=True)(turned(q), k, v)
    for lengths, text in (
        ([5, 6, 1], r"lengths: expected numbers in \[0, 5\], got 6 at 1"),
        ([5, 5], r"lengths: expected shape \(3,\), got \(2,\)"),
    ):
        with pytest.raises(ValueError, match=text):
            layer(q, k, v, lengths=lengths)
    with pytest.raises(TypeError, match="lengths: expected integers"):
        layer(q, k, v, lengths=[1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match="num_threads: expected a whole number"):
        layer(q, k, v, num_threads=1.5)  # type: ignore[arg-type]
    _, _, saved = layer.forward(q, k, v)
    with pytest.raises(ValueError, match=r"dcontext: expected shape \(4, 3, 3\), got \(4, 3, 5\)"):
        layer.backward(saved, np.zeros((4, 3, 5)))
    with pytest.raises(ValueError, match=r"dweights: expected shape \(4, 3, 5\), got \(4, 3, 3\)"):
        layer.backward(saved, None, np.zeros((4, 3, 3)))
    with pytest.raises(TypeError, match=r"^dweights: got a Loss; pass loss.gradient"):
        layer.backward(saved, None, nn.mse(q, q))  # type: ignore[arg-type]


def test_sizes_that_do_not_fit_the_kind() -> None:
    for call, error, text in (
        (lambda: nn.Attention("cosine"), ValueError, "kind: expected one of 'dot', 'scaled_dot'"),
        (lambda: nn.Attention(None), TypeError, "kind: expected a name, got NoneType"),  # type: ignore[arg-type]
        (lambda: nn.Attention("dot", 3), ValueError, "query_size: expected None for kind 'dot'"),
        (
            lambda: nn.Attention("general", 3),
            ValueError,
            "key_size: expected a number for kind 'general', got None",
        ),
        (
            lambda: nn.Attention("additive", 3, 4, 0),
            ValueError,
            "hidden_size: expected at least 1, got 0",
        ),
        (
            lambda: nn.Attention("general", 3, 4, 5),
            ValueError,
            "hidden_size: expected None for kind 'general', got 5",
        ),
    ):
        with pytest.raises(error, match=text):
            call()
