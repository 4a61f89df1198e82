"""Weights of other systems; long, because each system is here twice: by hand and live.

By hand: every gate has blocks of random numbers of its own, and the arrays of each system are built
from them by the table in that system's documentation. Live: the system computes, and our layer with
its weights computes the same. [W9]
"""

from __future__ import annotations

import importlib
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from floor import Inputs, Weights, current
from fusedrnn import weights as fw
from fusedrnn._cells import CELLS, Array

INPUTS, H, P = 3, 5, 2
GATES = {"rnn_tanh": "a", "lstm": "ifgo", "lstm_peephole": "ifgo"}
GATES |= {"gru": "rzn", "gru_reset_before": "rzn"}
Arrays = dict[str, Any]


class Blocks:
    """Distinct random blocks of every gate: w, r, b (input bias), c (hidden bias), p."""

    def __init__(self, cell: str, seed: int = 0, bias: str = "bc") -> None:
        rng = np.random.default_rng(seed)
        self.order = GATES[cell]

        def draw(*shape: int) -> dict[str, Array]:
            return {g: rng.uniform(-0.9, 0.9, shape).astype("float32") for g in self.order}

        self.w, self.r, self.p = draw(H, INPUTS), draw(H, H), draw(H)
        self.b, self.c = draw(H), draw(H)
        for unused in {"b", "c"} - set(bias):
            for block in getattr(self, unused).values():
                block[:] = 0
        self.sum = {g: self.b[g] + self.c[g] for g in self.order}
        self.peepholes = cell == "lstm_peephole"

    def ours(self, layer: int = 0, reverse: bool = False) -> Arrays:
        end = f"_l{layer}" + "_reverse" * reverse
        parts = {"weight_ih": self.w, "weight_hh": self.r, "bias_ih": self.b, "bias_hh": self.c}
        found = {name + end: cat(part, self.order) for name, part in parts.items()}
        if self.peepholes:
            found["weight_p" + end] = np.stack([self.p["i"], self.p["f"], self.p["o"]])
        return found


def cat(part: Mapping[str, Array], order: str) -> Array:
    return np.concatenate([part[g] for g in order])


def same(found: Any, wanted: Any, name: str = "") -> None:
    """Assert equality in bits, names, order, shapes and dtypes; arrays are fresh and contiguous."""
    if isinstance(wanted, Mapping):
        assert sorted(found) == sorted(wanted), name
        for key in wanted:
            same(found[key], wanted[key], f"{name} {key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), name
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            same(a, b, f"{name} {i}")
    else:
        assert found.dtype == wanted.dtype, name
        assert found.flags.c_contiguous, name
        assert found.flags.writeable, name
        np.testing.assert_array_equal(found, wanted, err_msg=name)


# --- by hand: each system's arrays of one direction, from the blocks --------------------------


def keras(x: Blocks, cell: str) -> list[Array]:
    order = {"ifgo": "ifgo", "rzn": "zrn", "a": "a"}[x.order]
    bias = cat(x.sum, order)
    if cell == "gru":
        bias = np.stack([cat(x.b, order), cat(x.c, order)])
    return [cat(x.w, order).T.copy(), cat(x.r, order).T.copy(), bias]


def onnx_one(x: Blocks, cell: str) -> Arrays:
    order = {"ifgo": "iofg", "rzn": "zrn", "a": "a"}[x.order]
    bias = np.concatenate([cat(x.b, order), cat(x.c, order)])
    found = {"W": cat(x.w, order)[None], "R": cat(x.r, order)[None], "B": bias[None]}
    return found | ({"P": cat(x.p, "iof")[None]} if x.peepholes else {})


def linen(x: Blocks, cell: str) -> Arrays:
    name = {"a": ""}
    tree: Arrays = {}
    for g in x.order:
        tree["i" + name.get(g, g)] = {"kernel": x.w[g].T.copy()}
        tree["h" + name.get(g, g)] = {"kernel": x.r[g].T.copy()}
        if cell == "lstm":
            tree["h" + g]["bias"] = x.sum[g]
        else:
            tree["i" + name.get(g, g)]["bias"] = x.b[g] if g == "n" else x.sum[g]
    if cell == "gru":
        tree["hn"]["bias"] = x.c["n"]
    return tree


def nnx(x: Blocks, cell: str) -> Arrays:
    if cell == "lstm":
        tree = linen(x, cell)
        tree["if_"] = tree.pop("if")
        return tree
    inputs, hidden = cat(x.w, x.order).T.copy(), cat(x.r, x.order).T.copy()
    return {
        "dense_i": {"kernel": inputs, "bias": cat(x.sum, x.order)},
        "dense_h": {"kernel": hidden},
    }


def nnx_optimized(x: Blocks, cell: str) -> Arrays:
    inputs, hidden = cat(x.w, "ifgo").T.copy(), cat(x.r, "ifgo").T.copy()
    return {
        "dense_i": {"kernel": inputs},
        "dense_h": {"kernel": hidden, "bias": cat(x.sum, "ifgo")},
    }


def haste(x: Blocks, cell: str) -> Arrays:
    order = {"lstm": "igfo", "gru": "zrn"}[cell]
    found = {"kernel": cat(x.w, order).T.copy(), "recurrent_kernel": cat(x.r, order).T.copy()}
    if cell == "gru":
        return found | {"bias": cat(x.b, order), "recurrent_bias": cat(x.c, order)}
    return found | {"bias": cat(x.sum, order)}


def lecture(x: Blocks, cell: str, sign: float = 1) -> Arrays:
    if cell == "rnn_tanh":
        return {"W_h": x.r["a"], "W_x": x.w["a"], "b": x.sum["a"]}
    letters = {"ifgo": "fico", "rzn": "zrh"}[x.order]
    ours = {"c": "g", "h": "n"}
    found = {}
    for letter in letters:
        g = ours.get(letter, letter)
        s = np.float32(sign if g == "z" else 1)
        found[f"W_{letter}"] = s * np.hstack([x.r[g], x.w[g]])
        found[f"b_{letter}"] = s * x.sum[g]
    return found


def gates(x: Blocks, cell: str, sign: float = 1) -> Arrays:
    if cell == "rnn_tanh":
        return {"W": x.w["a"], "R": x.r["a"], "b": x.sum["a"]}
    found = {}
    for g in x.order:
        s = np.float32(sign if g == "z" else 1)
        found |= {f"W_{g}": s * x.w[g], f"R_{g}": s * x.r[g], f"b_{g}": s * x.sum[g]}
    return found | ({f"p_{g}": x.p[g] for g in "ifo"} if x.peepholes else {})


# Name, cell, arrays by hand, from_ function, to_ function, and which of our biases the system can
# hold.
CASES: list[tuple[str, str, Callable[..., Any], Callable[..., Arrays], Callable[..., Any], str]] = [
    *(("keras", c, keras, fw.from_keras, fw.to_keras, "b") for c in ("rnn_tanh", "lstm")),
    ("keras", "gru_reset_before", keras, fw.from_keras, fw.to_keras, "b"),
    ("keras", "gru", keras, fw.from_keras, fw.to_keras, "bc"),
    *(("onnx", c, onnx_one, fw.from_onnx, fw.to_onnx, "bc") for c in GATES),
    ("linen", "rnn_tanh", linen, fw.from_flax, fw.to_flax, "b"),
    ("linen", "lstm", linen, fw.from_flax, fw.to_flax, "c"),
    ("linen", "gru", linen, fw.from_flax, fw.to_flax, "bn"),
    *(
        ("nnx", c, nnx, fw.from_flax, lambda p, c, **k: fw.to_flax(p, c, "nnx", **k), b)
        for c, b in (("rnn_tanh", "b"), ("lstm", "c"), ("gru", "b"))
    ),
    (
        "nnx_optimized",
        "lstm",
        nnx_optimized,
        fw.from_flax,
        lambda p, c, **k: fw.to_flax(p, c, "nnx_optimized", **k),
        "c",
    ),
    ("haste", "lstm", haste, fw.from_haste, fw.to_haste, "b"),
    ("haste", "gru", haste, fw.from_haste, fw.to_haste, "bc"),
    *(("lecture", c, lecture, fw.from_lecture, fw.to_lecture, "b") for c in ("rnn_tanh", "lstm")),
    *(
        (
            f"lecture z={kind}",
            "gru_reset_before",
            lambda x, c, kind=kind: lecture(x, c, 1 if kind == "old" else -1),
            lambda a, c, kind=kind, **k: fw.from_lecture(a, c, z_keeps_old=kind == "old", **k),
            lambda p, c, kind=kind, **k: fw.to_lecture(p, c, z_keeps_old=kind == "old", **k),
            "b",
        )
        for kind in ("old", "new")
    ),
    *(
        (
            f"gates z={kind}",
            c,
            lambda x, c, kind=kind: gates(x, c, 1 if kind == "old" else -1),
            lambda a, c, kind=kind, **k: fw.from_gates(a, c, z_keeps_old=kind == "old", **k),
            lambda p, c, kind=kind, **k: fw.to_gates(p, c, z_keeps_old=kind == "old", **k),
            "b",
        )
        for kind, cells in (("old", GATES), ("new", ("gru", "gru_reset_before")))
        for c in cells
    ),
]


def held(cell: str, biases: str, seed: int = 0) -> Blocks:
    """Blocks whose biases the system can hold without adding them."""
    if biases != "bn":
        return Blocks(cell, seed, biases)
    x = Blocks(cell, seed, "bc")
    for g in "rz":
        x.c[g][:] = 0
        x.sum[g] = x.b[g]
    return x


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_by_hand(case: Any) -> None:
    """Every block is where the table says, in both directions, and comes back unchanged."""
    _, cell, build, read, write, biases = case
    x = held(cell, biases)
    same(read(build(x, cell), cell), x.ours())
    same(write(x.ours(), cell), build(x, cell))
    same(read(build(x, cell), cell, layer=2), x.ours(2))
    same(write(x.ours(2), cell, layer=2), build(x, cell))
    stack = x.ours() | Blocks(cell, 1).ours(1)
    same(write(stack, cell, layer=0), build(x, cell))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_biases_are_added(case: Any) -> None:
    """Two biases become one by one addition, if that is the same function."""
    name, cell, build, read, write, _ = case
    x = Blocks(cell)
    if cell == "gru" and name.startswith(("nnx", "gates")):
        with pytest.raises(ValueError, match="zeros in the rows of bias_hh for gate n"):
            write(x.ours(), cell)
        x.c["n"][:] = 0
        x.sum["n"] = x.b["n"]
    same(write(x.ours(), cell), build(x, cell))
    without = {k: a for k, a in x.ours().items() if "bias" not in k}
    found = write(without, cell)
    if name.startswith(("keras", "onnx", "lecture", "gates")):  # biases are optional here
        same(read(found, cell), without)
    else:
        same(read(found, cell), without | {k: 0 * a for k, a in x.ours().items() if "bias" in k})


DIRECTED = [case for case in CASES if case[0] not in ("keras", "onnx")]


@pytest.mark.parametrize("case", DIRECTED, ids=lambda case: f"{case[0]}-{case[1]}")
def test_one_direction_at_a_time(case: Any) -> None:
    _, cell, build, read, write, biases = case
    x, y = held(cell, biases), held(cell, biases, 1)
    both = x.ours() | y.ours(reverse=True)
    same(read(build(x, cell), cell) | read(build(y, cell), cell, reverse=True), both)
    same(write(both, cell, reverse=False), build(x, cell))
    same(write(both, cell, reverse=True), build(y, cell))
    with pytest.raises(ValueError, match="one direction, or reverse= to choose one"):
        write(both, cell)
    with pytest.raises(ValueError, match="expected a reverse direction; found forward alone"):
        write(x.ours(), cell, reverse=True)


def test_both_directions_at_once() -> None:
    for cell in ("gru", "gru_reset_before", "rnn_tanh", "lstm"):
        biases = "bc" if cell == "gru" else "b"
        x, y = Blocks(cell, 0, biases), Blocks(cell, 1, biases)
        both = x.ours() | y.ours(reverse=True)
        same(fw.from_keras(keras(x, cell) + keras(y, cell), cell), both)
        same(fw.to_keras(both, cell), keras(x, cell) + keras(y, cell))
        same(fw.from_keras(keras(x, cell)[:2] + keras(y, cell)[:2], cell), no_bias(both))
    for cell in GATES:
        x, y = Blocks(cell, 0), Blocks(cell, 1)
        both = x.ours() | y.ours(reverse=True)
        first, second = onnx_one(x, cell), onnx_one(y, cell)
        stacked = {name: np.concatenate([first[name], second[name]]) for name in first}
        same(fw.from_onnx(stacked, cell), both)
        same(fw.to_onnx(both, cell), stacked)


def no_bias(params: Arrays) -> Arrays:
    return {name: a for name, a in params.items() if "bias" not in name}


def test_torch_by_hand() -> None:
    """PyTorch's names are ours; a whole stack is converted at once, with or without a prefix."""
    x, y = Blocks("lstm"), Blocks("lstm", 1)
    both = x.ours() | y.ours(reverse=True)
    same(fw.from_torch({f"enc.{k}": a for k, a in both.items()}, "lstm", prefix="enc."), both)
    same(fw.to_torch(both, "lstm"), both)
    assert list(fw.from_torch(dict(reversed(both.items())), "lstm")) == list(both)
    wide = {"weight_ih_l1": zeros(20, 2 * H), "weight_ih_l1_reverse": zeros(20, 2 * H)}
    deep = both | x.ours(1) | y.ours(1, reverse=True) | wide
    same(fw.from_torch(deep, "lstm"), deep)
    double = {name: a.astype(">f8") for name, a in both.items()}
    same(fw.from_torch(double, "lstm"), {name: a.astype("f8") for name, a in both.items()})
    found = fw.from_torch(both, "lstm")
    found["weight_ih_l0"][:] = 0
    assert both["weight_ih_l0"].all()


def test_the_sign_of_z() -> None:
    """If z takes the new state in the notes, our layer computes the same after conversion."""
    x = Blocks("gru_reset_before", 3, "b")
    notes = lecture(x, "gru_reset_before")
    gru = fr.GRU(INPUTS, H, reset_after=False, dtype=np.float64)
    inputs = np.random.default_rng(1).standard_normal((6, INPUTS))
    for keeps in (True, False):
        gru.load_state_dict(fw.from_lecture(notes, "gru_reset_before", z_keeps_old=keeps))
        h = np.zeros(H)
        for x_t in inputs:
            hx = np.concatenate([h, x_t])
            z = 1 / (1 + np.exp(-(notes["W_z"] @ hx + notes["b_z"])))
            r = 1 / (1 + np.exp(-(notes["W_r"] @ hx + notes["b_r"])))
            new = np.tanh(notes["W_h"] @ np.concatenate([r * h, x_t]) + notes["b_h"])
            h = z * h + (1 - z) * new if keeps else (1 - z) * h + z * new
        with fr.use_backend("reference"):
            np.testing.assert_allclose(gru(inputs)[0][-1], h, rtol=1e-12)
            assert fr.last_path().kernel == "gru_reset_before float64"


# --- what is refused --------------------------------------------------------------------------

LSTM = Blocks("lstm").ours()
GRU = Blocks("gru").ours()
K = keras(Blocks("lstm"), "lstm")
NODE = onnx_one(Blocks("lstm"), "lstm")
BOTH = LSTM | Blocks("lstm", 1).ours(reverse=True)


def changed(arrays: Arrays, **values: Any) -> Arrays:
    """The arrays with some values replaced; None removes one."""
    return {k: a for k, a in (arrays | values).items() if a is not None}


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


FAULTS: list[tuple[Callable[[], object], type[Exception], str]] = [
    # cells
    (lambda: fw.to_torch(GRU, "gru_reset_before"), ValueError, "cell, for torch: expected one of"),
    (lambda: fw.to_torch({}, "rnn_identity"), ValueError, "'rnn_relu', 'lstm', 'gru', got 'rnn_i"),
    (lambda: fw.to_haste(LSTM, "rnn_tanh"), ValueError, "for haste: expected one of 'lstm', 'gru'"),
    (lambda: fw.to_lecture(GRU, "gru"), ValueError, "'lstm', 'gru_reset_before'"),
    (lambda: fw.from_keras(K, "lstm_peephole"), ValueError, "cell, for keras: expected one of"),
    (lambda: fw.from_keras(K, "dense"), ValueError, "cell, for keras: expected one of"),
    (lambda: fw.from_keras(K, 4), TypeError, "cell, for keras: expected a name, got int"),
    (
        lambda: fw.to_flax(LSTM, "lstm", "haiku"),
        ValueError,
        "form: expected one of 'linen', 'nnx', 'nnx_optimized', got 'haiku'",
    ),
    # names
    (
        lambda: fw.from_torch(changed(LSTM, bias_hh_l0=None), "lstm"),
        ValueError,
        "expected weight_ih_l0 (4*H, I), weight_hh_l0 (4*H, P), bias_ih_l0 (4*H,) (optional), "
        "bias_hh_l0 (4*H,) (optional), weight_hr_l0 (P, H) (optional); found weight_ih_l0 float32 "
        "(20, 3), weight_hh_l0 float32 (20, 5), bias_ih_l0 float32 (20,)",
    ),
    (lambda: fw.from_torch(LSTM | {"fc.weight": K[0]}, "lstm"), ValueError, "found fc.weight fl"),
    (lambda: fw.from_torch(LSTM, "lstm", prefix="enc."), ValueError, "names that begin with 'enc."),
    (lambda: fw.from_torch({}, "lstm"), ValueError, "found nothing"),
    (lambda: fw.to_onnx(LSTM, "lstm_peephole"), ValueError, "weight_p_l0 (3, H); found"),
    (lambda: fw.from_onnx(changed(NODE, R=None), "lstm"), ValueError, "R (4*H, H), B (8*H,) (opt"),
    (lambda: fw.from_onnx(changed(NODE, P=zeros(1, 15)), "lstm"), ValueError, "P float32 (1, 15)"),
    (lambda: fw.from_haste({"kernel": K[0]}, "gru"), ValueError, "recurrent_bias (3*H,); found k"),
    (lambda: fw.from_flax({"dense_i": {}}, "gru"), ValueError, "hn/bias (H,); or dense_i/kernel"),
    (lambda: fw.from_lecture({"W_f": K[0]}, "lstm"), ValueError, "W_f (H, H + I), W_i (H, H + I)"),
    # shapes
    (
        lambda: fw.from_keras([K[0], K[1], zeros(2, 20)], "lstm"),
        ValueError,
        "from_keras: expected kernel (I, 4*H), recurrent_kernel (H, 4*H), bias (4*H,) (optional), "
        "and so kernel (3, 20), recurrent_kernel (5, 20), bias (20,) (optional); found kernel "
        "float32 (3, 20), recurrent_kernel float32 (5, 20), bias float32 (2, 20)",
    ),
    (lambda: fw.from_keras([zeros(3, 21), K[1]], "lstm"), ValueError, "found kernel float32 (3, 2"),
    (lambda: fw.from_keras([zeros(20), K[1]], "lstm"), ValueError, "found kernel float32 (20,)"),
    (lambda: fw.from_keras([zeros(3, 0), K[1]], "lstm"), ValueError, "found kernel float32 (3, 0)"),
    (lambda: fw.from_keras(K[:1], "lstm"), ValueError, "twice for Bidirectional; found array 0 fl"),
    (lambda: fw.from_keras([], "lstm"), ValueError, "found nothing"),
    (lambda: fw.from_keras([*K, K[0][:2], *K[1:]], "lstm"), ValueError, "directions of a layer"),
    (lambda: fw.from_keras(keras(Blocks("gru"), "gru"), "gru_reset_before"), ValueError, "(2, 15)"),
    (
        lambda: fw.from_onnx(changed(NODE, B=zeros(2, 40)), "lstm"),
        ValueError,
        "D, 1 or 2, as first",
    ),
    (
        lambda: fw.from_onnx({k: a[0] for k, a in NODE.items()}, "lstm"),
        ValueError,
        "D, 1 or 2, as fi",
    ),
    (
        lambda: fw.from_torch(changed(LSTM, weight_hr_l0=zeros(5, 5)), "lstm"),
        ValueError,
        "with 0 < P < H",
    ),
    (lambda: fw.from_torch(changed(LSTM, weight_hr_l0=zeros(2, 5)), "lstm"), ValueError, "(20, 2)"),
    (
        lambda: fw.from_lecture({f"W_{g}": zeros(5, 4) for g in "fico"}, "lstm"),
        ValueError,
        "found W_f float32 (5, 4)",
    ),
    (
        lambda: fw.from_lecture({"W_h": zeros(5, 5), "W_x": zeros(4, 3)}, "rnn_tanh"),
        ValueError,
        "found W_h",
    ),
    # stacks
    (
        lambda: fw.from_torch(LSTM | Blocks("lstm").ours(1), "lstm"),
        ValueError,
        "expected 5 columns in weight_ih_l1, the width of layer 0's output; found 3",
    ),
    (lambda: fw.from_torch(Blocks("lstm").ours(1), "lstm"), ValueError, "layer 0; found layer 1"),
    (
        lambda: fw.from_torch(Blocks("lstm").ours(reverse=True), "lstm"),
        ValueError,
        "expected layer 0, layer 0 reverse; found layer 0 reverse",
    ),
    (
        lambda: fw.to_keras(LSTM | Blocks("lstm").ours(10**9), "lstm"),
        ValueError,
        "one layer, or layer= to choose one; found layer 0, layer 1000000000",
    ),
    (
        lambda: fw.to_torch(LSTM | Blocks("lstm").ours(10**9), "lstm"),
        ValueError,
        "layer 1000000000",
    ),
    (lambda: fw.to_keras(LSTM, "lstm", layer=1), ValueError, "expected layer 1; found layer 0"),
    (
        lambda: fw.to_keras(changed(BOTH, bias_ih_l0=None, bias_hh_l0=None), "lstm"),
        ValueError,
        "both directions of a layer to be alike",
    ),
    # what a system does not have
    (
        lambda: fw.to_keras(
            changed(LSTM, weight_hh_l0=zeros(20, 2), weight_hr_l0=zeros(2, 5)), "lstm"
        ),
        ValueError,
        "found weight_hr float32 (2, 5)",
    ),
    (lambda: fw.to_torch(Blocks("lstm_peephole").ours(), "lstm"), ValueError, "found weight_ih_l0"),
    # types
    (lambda: fw.from_keras({"kernel": K[0]}, "lstm"), TypeError, "the list of layer.get_weights()"),
    (lambda: fw.from_haste(K, "lstm"), TypeError, "a mapping of names to arrays, got list"),
    (lambda: fw.from_haste({1: K}, "lstm"), TypeError, "a mapping of names to arrays, got dict"),
    (
        lambda: fw.from_keras([K[0], K[1].astype(int), K[2]], "lstm"),
        TypeError,
        "recurrent_kernel as an array of floating point, got ndarray int64 (5, 20)",
    ),
    (lambda: fw.from_keras([K[0], [[1.0], [1, 2]]], "lstm"), TypeError, "NumPy cannot read it"),
    (
        lambda: fw.from_lecture(lecture(Blocks("gru"), ""), "gru_reset_before"),
        TypeError,
        "for a GRU: Tr",
    ),
    (lambda: fw.from_haste(haste(Blocks("lstm"), "lstm"), "lstm", layer=-1), ValueError, "layer: "),
    (lambda: fw.to_haste(LSTM, "lstm", reverse=1), TypeError, "reverse: expected True or False"),
]


@pytest.mark.parametrize("at", range(len(FAULTS)))
def test_refused(at: int) -> None:
    """[X1] The text lists what was expected and what was found."""
    call, kind, text = FAULTS[at]
    with pytest.raises(kind, match=re.escape(text)) as caught:
        call()
    assert type(caught.value) is kind
    assert ("expected" in str(caught.value)) or "NumPy cannot read it" in text


@pytest.mark.skipif("lstm_chosen" not in CELLS, reason="weights: no chosen activations here")
def test_chosen_activations() -> None:
    """Forms are those of the default activations, also with peepholes; PyTorch, Haste refuse."""
    for cell in ("rnn", "lstm", "gru", "gru_reset_before"):
        params = Blocks(cell.replace("rnn", "rnn_tanh")).ours()
        keras_cell = cell.replace("rnn", "rnn_tanh")
        same(fw.to_keras(params, f"{cell}_chosen"), fw.to_keras(params, keras_cell))
        same(fw.from_onnx(fw.to_onnx(params, f"{cell}_chosen"), f"{cell}_chosen"), params)
        for refused in (fw.to_torch, fw.to_haste):
            with pytest.raises(ValueError, match=r"cell, for (torch|haste): expected one of"):
                refused(params, f"{cell}_chosen")
    peepholes = Blocks("lstm_peephole").ours()
    same(fw.from_onnx(fw.to_onnx(peepholes, "lstm_chosen"), "lstm_chosen"), peepholes)
    with pytest.raises(ValueError, match="found weight_p"):
        fw.to_keras(peepholes, "lstm_chosen")


# --- a layer of these weights -----------------------------------------------------------------

MADE: list[tuple[Any, dict[str, Any]]] = [
    (fr.RNN(INPUTS, H, seed=1), {}),
    (fr.RNN(INPUTS, H, 2, nonlinearity="relu", bias=False, seed=1), {}),
    (fr.RNN(INPUTS, [4, 3], 2, nonlinearity="identity", bidirectional=True, seed=1), {}),
    (fr.GRU(INPUTS, H, 12, seed=1), {}),
    (fr.GRU(INPUTS, H, reset_after=False, dtype="float64", seed=1), {}),
    (fr.GRU(INPUTS, H, batch_first=True, clip=0.5, seed=1), {"batch_first": True, "clip": 0.5}),
    (fr.LSTM(INPUTS, H, 2, bidirectional=True, seed=1), {}),
    (fr.LSTM(INPUTS, H, peepholes=True, bias=False, seed=1), {}),
    (fr.LSTM(INPUTS, H, 2, proj_size=2, bidirectional=True, seed=1), {}),
    (fr.LSTM(INPUTS, H, peepholes=True, coupled=True, seed=1), {"coupled": True}),
    (fr.RNN(INPUTS, H, nonlinearity="elu", seed=1), {"nonlinearity": "elu"}),
    (fr.LSTM(0, H, seed=1), {}),
]


@pytest.mark.parametrize(("theirs", "options"), MADE, ids=repr)
def test_a_layer_of_these_weights(theirs: Any, options: dict[str, Any]) -> None:
    made = fw.layer(theirs.state_dict(), theirs.cell, **options)
    assert repr(made) == repr(theirs)
    x = np.random.default_rng(0).standard_normal((3, 3, theirs.input_size)).astype(theirs.dtype)
    np.testing.assert_array_equal(made(x)[0], theirs(x)[0])
    with made.writable() as params:  # the layer has a copy
        params["weight_hh_l0"] = 0 * params["weight_hh_l0"]
    assert theirs.params["weight_hh_l0"].any()


@pytest.mark.parametrize(
    ("params", "cell", "options", "text"),
    [
        (LSTM, "gru", {}, r"layer: expected weight_ih_l0 \(3\*H, I\)"),
        (
            LSTM,
            "lstm_chosen",
            {},
            r"layer: expected options that make a lstm_chosen, .* of a lstm$",
        ),
        (LSTM, "lstm", {"clip": 1.0}, "options that make a lstm, such as .* of a lstm_chosen"),
        (LSTM, "lstm_norm", {}, "expected one of"),
        ({"weight_ih_l1": LSTM["weight_ih_l0"]}, "lstm", {}, "layer: expected"),
    ],
)
def test_no_layer_of_these_weights(params: Any, cell: str, options: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fw.layer(params, cell, **options)
    with pytest.raises(TypeError, match="size"):
        fw.layer(LSTM, "lstm", size=3)


# --- the cell of converted weights --------------------------------------------------------

STATE = fr.GRU(INPUTS, H, seed=0, reset_after=False).state_dict()


def test_conversions_know_the_cell() -> None:
    """A layer of another cell refuses what the from_ functions return, for stacks too."""
    before = keras(Blocks("gru_reset_before"), "gru_reset_before")
    one = fw.from_keras(before, "gru_reset_before")
    assert one.cell == "gru_reset_before"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"of a gru_reset_before cell; this layer's cell is gru\."):
        fr.GRU(INPUTS, H).load_state_dict(one)
    fr.GRU(INPUTS, H, reset_after=False).load_state_dict(one)
    stack = fw.from_torch(LSTM, "lstm") | fw.from_keras([zeros(H, 4 * H), *K[1:]], "lstm", layer=1)
    assert stack.cell == "lstm"  # type: ignore[attr-defined]
    fr.LSTM(INPUTS, H, 2).load_state_dict(stack)
    mixed = one | fw.from_keras(keras(Blocks("gru"), "gru"), "gru", layer=1)
    with pytest.raises(ValueError, match="of a gru_reset_before and gru cell; this layer's"):
        fr.GRU(INPUTS, H, 2).load_state_dict(mixed)
    assert fw.from_keras(K, "lstm_chosen").cell is None  # type: ignore[attr-defined]
    fr.LSTM(INPUTS, H, clip=2.0).load_state_dict(fw.from_keras(K, "lstm_chosen"))
    plain: Arrays = {"a": 1}
    assert type(plain | one) is dict
    for convert in (fw.to_keras, fw.to_onnx, fw.to_torch, fw.to_flax, fw.from_torch):
        with pytest.raises(
            ValueError, match="weights of a gru cell; found those of a gru_reset_bef"
        ):
            convert(STATE, "gru")  # type: ignore[operator]
    fw.to_keras(dict(STATE), "gru_reset_before")
    fw.to_onnx(fr.LSTM(INPUTS, H, clip=2.0).state_dict(), "lstm_chosen")


# --- live: the system itself computes ---------------------------------------------------------

X = np.random.default_rng(7).standard_normal((6, 2, INPUTS)).astype("float32")  # (T, B, I)


def computed(params: Arrays, cell: str, x: Array = X) -> Array:
    """y of our reference, for any number of layers, in one direction or both."""
    names = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
    names |= {"p": "weight_p", "w_hr": "weight_hr"}
    layer = 0
    with fr.use_backend("reference"):
        while f"weight_ih_l{layer}" in params:
            ends = [f"_l{layer}", f"_l{layer}_reverse"]
            directions = tuple(
                Weights(
                    CELLS[cell],
                    **{field: params.get(name + end) for field, name in names.items()},
                )
                for end in ends
                if f"weight_ih{end}" in params
            )
            forward = current().forward(directions, Inputs(x), save=False, num_threads=None)
            x, layer = forward.y, layer + 1
    assert layer > 0
    return x


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_live_torch(cell: str, bias: bool, bidirectional: bool) -> None:
    torch = pytest.importorskip("torch")
    kind = getattr(torch.nn, cell.split("_")[0].upper())
    more = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {}
    torch.manual_seed(0)
    module = kind(INPUTS, H, 3, bias=bias, bidirectional=bidirectional, **more)
    with torch.no_grad():
        y = module(torch.from_numpy(X))[0].numpy()
    params = fw.from_torch(module.state_dict(), cell)
    close(computed(params, cell), y)
    back = {name: torch.from_numpy(a) for name, a in fw.to_torch(params, cell).items()}
    other = kind(INPUTS, H, 3, bias=bias, bidirectional=bidirectional, **more)
    other.load_state_dict(back)
    with torch.no_grad():
        assert np.array_equal(other(torch.from_numpy(X))[0].numpy(), y)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")  # PyTorch's own warning
def test_live_torch_projection() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(INPUTS, H, 2, bidirectional=True, proj_size=P)
    params = fw.from_torch(module.state_dict(), "lstm")
    same(params, {name: a.numpy().copy() for name, a in module.state_dict().items()})
    same(fw.to_torch(params, "lstm"), params)
    with torch.no_grad():
        close(computed(params, "lstm"), module(torch.from_numpy(X))[0].numpy())


@pytest.mark.torch
def test_live_torch_weights_as_people_have_them() -> None:
    """named_parameters(), bfloat16 and float16 modules, cells, modules inside others."""
    torch = pytest.importorskip("torch")
    model = torch.nn.ModuleDict(
        {
            "rnn": torch.nn.GRU(INPUTS, H, 2),
            "cell": torch.nn.LSTMCell(INPUTS, H),
            "fc": torch.nn.Linear(H, 2),
        }
    )
    state, wanted = model.state_dict(), {}
    for prefix, cell in (("rnn.", "gru"), ("cell.", "lstm")):
        names = [name[len(prefix) :] for name in state if name.startswith(prefix)]
        wanted[cell] = {
            name + "_l0" * (cell == "lstm"): state[prefix + name].numpy().copy() for name in names
        }
        same(fw.from_torch(state, cell, prefix=prefix), wanted[cell])
        same(fw.from_torch(dict(model.named_parameters()), cell, prefix=prefix), wanted[cell])
    cells = model["cell"]
    with torch.no_grad():
        h, c = torch.zeros(2, X.shape[1], H)
        for x in torch.from_numpy(X):
            h, c = cells(x, (h, c))
    close(computed(fw.from_torch(cells.state_dict(), "lstm"), "lstm")[-1], h)
    without = torch.nn.RNNCell(INPUTS, H, bias=False)
    same(
        fw.from_torch(without.state_dict(), "rnn_tanh"),
        {f"{name}_l0": tensor.numpy() for name, tensor in without.state_dict().items()},
    )

    for dtype in (torch.bfloat16, torch.float16):
        narrow = torch.nn.GRU(INPUTS, H, 2).to(dtype)
        found = fw.from_torch(dict(narrow.named_parameters()), "gru")
        same(found, {n: p.detach().float().numpy() for n, p in narrow.named_parameters()})

    for arguments, text in (
        (
            (state, "gru"),
            "found those of modules in 'rnn.', 'cell.'; pass prefix=\"rnn.\" or prefi",
        ),
        ((state, "gru", "rn."), "names that begin with 'rn.'; found those of modules in 'rnn.', "),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            fw.from_torch(*arguments[:2], prefix="".join(arguments[2:]))
    with pytest.raises(
        TypeError, match=r"a mapping of names to arrays, module.state_dict\(\), got"
    ):
        fw.from_torch(model, "gru")


# Keras 3.15's own warning, with NumPy 2 and its NumPy backend.
of_keras = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def keras_module() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras's NumPy backend needs JAX
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("keras")


@of_keras
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"])
def test_live_keras(cell: str, bias: bool, bidirectional: bool) -> None:
    layers = keras_module().layers
    more: Arrays = {"use_bias": bias, "return_sequences": True}
    if cell.startswith("rnn"):
        layer = layers.SimpleRNN(H, activation=cell[4:], **more)
    elif cell == "lstm":
        layer = layers.LSTM(H, **more)
    else:
        layer = layers.GRU(H, reset_after=cell == "gru", **more)
    layer = layers.Bidirectional(layer) if bidirectional else layer
    layer.build((None, None, INPUTS))
    rng = np.random.default_rng(2)
    drawn = [rng.uniform(-0.9, 0.9, a.shape).astype("float32") for a in layer.get_weights()]
    layer.set_weights(drawn)

    def theirs() -> Array:
        return np.asarray(keras_module().ops.convert_to_numpy(layer(X.swapaxes(0, 1))))

    params = fw.from_keras(layer.get_weights(), cell)
    close(computed(params, cell), theirs().swapaxes(0, 1))
    same(fw.to_keras(params, cell), drawn)
    ours = {name: rng.uniform(-0.9, 0.9, a.shape).astype("float32") for name, a in params.items()}
    layer.set_weights(fw.to_keras(ours, cell))
    close(theirs().swapaxes(0, 1), computed(ours, cell))


@of_keras
def test_live_keras_into_a_layer() -> None:
    layer = keras_module().layers.GRU(H, return_sequences=True)
    layer.build((None, None, INPUTS))
    gru = fr.GRU(INPUTS, H)
    gru.load_state_dict(fw.from_keras(layer.get_weights(), gru.cell))
    y = np.asarray(keras_module().ops.convert_to_numpy(layer(X.swapaxes(0, 1))))
    close(gru(X)[0], y.swapaxes(0, 1))
    layer.set_weights(fw.to_keras(gru.params, gru.cell))


def onnx_model(cell: str, arrays: Arrays, path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    kind = cell.split("_")[0].upper()
    sides = len(arrays["W"])
    more: Arrays = {"direction": "bidirectional" if sides == 2 else "forward", "hidden_size": H}
    if kind == "GRU":
        more["linear_before_reset"] = int(cell == "gru")
    if cell == "rnn_relu":
        more["activations"] = ["Relu"] * sides
    inputs = ["X", "W", "R", "B" * ("B" in arrays)]
    inputs += ["", "", "", "P"] if "P" in arrays else []
    tensors = [numpy_helper.from_array(a, name) for name, a in arrays.items()]
    constant = helper.make_node("Constant", [], [tensors[0].name], value=tensors[0])
    node = helper.make_node(kind, inputs, ["Y"], name="layer", **more)
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        [constant, node],
        "graph",
        [helper.make_tensor_value_info("X", floats, X.shape)],
        [helper.make_tensor_value_info("Y", floats, (len(X), sides, X.shape[1], H))],
        tensors[1:],
    )
    opset = [helper.make_opsetid("", 14)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), os.fspath(path))


@pytest.mark.onnx
@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", [*GATES, "rnn_relu"])
def test_live_onnx(tmp_path: Path, cell: str, bias: bool, sides: int) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    ours = Blocks(cell.replace("relu", "tanh")).ours()
    ours |= Blocks(cell.replace("relu", "tanh"), 1).ours(reverse=True) if sides == 2 else {}
    ours = ours if bias else no_bias(ours)
    path = tmp_path / "model.onnx"
    onnx_model(cell, fw.to_onnx(ours, cell), path)
    (layer,) = fw.onnx_layers(path).values()
    assert layer.cell == cell
    assert layer.attributes["hidden_size"] == H
    same(fw.from_onnx(layer.arrays, layer.cell), ours)
    same({name: a.copy() for name, a in fw.load(path).items()}, fw.to_onnx(ours, cell))
    session = runtime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"X": X})  # (T, D, B, H)
    close(computed(ours, cell), y.transpose(0, 2, 1, 3).reshape(len(X), X.shape[1], sides * H))


CELLS_OF_NODES: list[tuple[str, dict[str, Any], str]] = [
    ("RNN", {"activations": ["Relu"]}, "rnn_relu"),
    ("RNN", {"activations": ["LeakyRelu"]}, "rnn_chosen"),
    ("RNN", {"activations": ["Tanh", "Relu"], "direction": "bidirectional"}, "rnn_chosen"),
    ("RNN", {"clip": 2.0}, "rnn_chosen"),
    ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}, "lstm"),
    ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, "lstm_chosen"),
    ("LSTM", {"input_forget": 1}, "lstm_chosen"),
    ("GRU", {"linear_before_reset": 1}, "gru"),
    ("GRU", {"linear_before_reset": 1, "clip": 1.0}, "gru_chosen"),
    ("GRU", {"activations": ["Sigmoid", "Softsign"]}, "gru_reset_before_chosen"),
]


@pytest.mark.onnx
@pytest.mark.parametrize(("operator", "attributes", "cell"), CELLS_OF_NODES)
def test_cells_of_onnx_nodes(
    operator: str, attributes: dict[str, Any], cell: str, tmp_path: Path
) -> None:
    """OnnxLayer.cell is a name that layers and conversions take, for any activations."""
    onnx = pytest.importorskip("onnx")
    n = {"RNN": 1, "GRU": 3, "LSTM": 4}[operator]
    d = 2 if attributes.get("direction") == "bidirectional" else 1
    arrays = {"W": np.ones((d, n * 5, 3), np.float32), "R": np.ones((d, n * 5, 5), np.float32)}
    node = onnx.helper.make_node(operator, ["X", "W", "R"], ["Y"], hidden_size=5, **attributes)
    tensors = [onnx.numpy_helper.from_array(a, name) for name, a in arrays.items()]
    path = tmp_path / "model.onnx"
    graph = onnx.helper.make_graph([node], "graph", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), os.fspath(path))
    (layer,) = fw.onnx_layers(path).values()
    assert layer.cell == cell
    assert fw.from_onnx(layer.arrays, layer.cell)["weight_ih_l0"].shape == (n * 5, 3)


@pytest.mark.onnx
def test_onnx_weights_that_are_computed(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("LSTM", ["X", "W", "R"], ["", "Y_h"], hidden_size=H)
    graph = onnx.helper.make_graph([node], "graph", [], [], [])
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph), os.fspath(path))
    with pytest.raises(ValueError, match=r"node 'Y_h': expected .*; found W = W, R = R"):
        fw.onnx_layers(path)
    fw.save(path, LSTM)
    with pytest.raises(ValueError, match="expected RNN, LSTM or GRU nodes; found none"):
        fw.onnx_layers(path)


FLAX = [("linen", c) for c in ("SimpleCell", "LSTMCell", "OptimizedLSTMCell", "GRUCell")]
FLAX += [("nnx", c) for c in ("SimpleCell", "LSTMCell", "OptimizedLSTMCell", "GRUCell")]


@pytest.mark.parametrize(("interface", "name"), FLAX)
def test_live_flax(interface: str, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flax = pytest.importorskip("flax")
        jax = pytest.importorskip("jax")
        nnx_ = importlib.import_module("flax.nnx")
        linen_ = importlib.import_module("flax.linen")
    assert flax
    cell = {"S": "rnn_tanh", "L": "lstm", "O": "lstm", "G": "gru"}[name[0]]
    rng = np.random.default_rng(3)

    def drawn(a: Any) -> Array:
        return rng.uniform(-0.9, 0.9, a.shape).astype("float32")

    zero = np.zeros((X.shape[1], H), np.float32)
    carry = (zero, zero) if cell == "lstm" else zero
    if interface == "linen":
        module = getattr(linen_, name)(H)
        tree = jax.tree.map(drawn, module.init(jax.random.key(0), carry, X[0])["params"])

        def step(tree: Any, carry: Any, x: Array) -> Any:
            return module.apply({"params": tree}, carry, x)
    else:
        module = getattr(nnx_, name)(INPUTS, H, rngs=nnx_.Rngs(0))
        tree = jax.tree.map(drawn, nnx_.to_pure_dict(nnx_.state(module, nnx_.Param)))

        def step(tree: Any, carry: Any, x: Array) -> Any:
            nnx_.update(module, tree)
            return module(carry, x)

    def theirs(tree: Any) -> Array:
        state, ys = carry, []
        for x in X:
            state, y = step(tree, state, x)
            ys.append(np.asarray(y))
        return np.stack(ys)

    params = fw.from_flax(tree, cell)
    close(computed(params, cell), theirs(tree))
    form = interface + "_optimized" * (interface == "nnx" and name[0] == "O")
    same(fw.to_flax(params, cell, form), tree)
    if interface == "nnx":
        nnx_.update(module, tree)
        same(fw.from_flax(nnx_.state(module, nnx_.Param), cell), params)
    ours = {key: drawn(a) for key, a in params.items()}
    if (interface, cell) == ("nnx", "gru"):
        ours["bias_hh_l0"][2 * H :] = 0
    close(theirs(fw.to_flax(ours, cell, form)), computed(ours, cell))


# --- the page of the docs ---------------------------------------------------------------------

PAGE = (Path(__file__).resolve().parent.parent / "docs/weights.md").read_text()


@of_keras
@pytest.mark.parametrize("at", range(PAGE.count("```python\n")))
def test_the_page_runs(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE, re.S)[at]
    for module in re.findall(r"^import (keras|torch|onnx|h5py)", code, re.M):
        if module == "keras":
            keras_module()
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"docs/weights.md block {at}", "exec"), {})


def test_the_page_names_every_function() -> None:
    for name in fw.__all__:
        assert f"`{name}" in PAGE or f"weights.{name}" in PAGE, name
