"""weights.from_lecture: the names of notes and textbooks, each against the formula they write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import weights as fw

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = dict[str, Array]
I, H, O, T = 3, 5, 2, 6  # noqa: E741
SHAPES = {"x": (H, I), "h": (H, H), "hx": (H, H + I), "b": (H,), "y": (O, H), "by": (O,)}


def drawn(seed: int = 0, width: int = I, **kinds: str) -> Arrays:
    """Arrays by name, each of a kind in `SHAPES`."""
    rng = np.random.default_rng(seed)
    shapes = {**SHAPES, "x": (H, width)}
    return {name: rng.uniform(-0.9, 0.9, shapes[kind]) for name, kind in kinds.items()}


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def steps(width: int = I) -> Array:
    return np.random.default_rng(1).standard_normal((T, width))


# --- row by row -------------------------------------------------------------------------------

ELMAN: dict[str, tuple[tuple[str, str, str], tuple[str, str]]] = {
    "W_h W_x b": (("W_h", "W_x", "b"), ("W_y", "b_y")),
    "W_hh W_xh b_h": (("W_hh", "W_xh", "b_h"), ("W_hy", "b_y")),
    "Whh Wxh bh": (("Whh", "Wxh", "bh"), ("Why", "by")),
    "W_{hh} W_{xh} b_{h}": (("W_{hh}", "W_{xh}", "b_{h}"), ("W_{hq}", "b_{q}")),
    "U V W": (("W", "U", "b"), ("V", "c")),
    "U W V": (("U", "W", "b"), ("V", "c")),
    "A B C d": (("A", "B", "b"), ("C", "d")),
}


@pytest.mark.parametrize("name", ELMAN)
def test_an_elman_network_and_its_output(name: str) -> None:
    """Rows 1 and 2 of the notes: h' = f(W_h h + W_x x + b), y = W_y h + b_y; and h' = A h + B x."""
    (of_h, of_x, bias), (out, out_bias) = ELMAN[name]
    kind = "identity" if name.startswith("A") else "tanh"
    notes = drawn(**{of_h: "h", of_x: "x", bias: "b"})
    output = drawn(1, **{out: "y", out_bias: "by"})
    rnn = fr.RNN(I, H, nonlinearity=kind, dtype="float64")
    rnn.load_state_dict(fw.from_lecture(notes, rnn.cell))
    dense = fr.nn.Dense(H, O, dtype="float64")
    dense.load_state_dict({"weight": output[out], "bias": output[out_bias]})
    f: Callable[[Array], Array] = np.asarray if kind == "identity" else np.tanh
    h, x = np.zeros(H), steps()
    y = dense(rnn(x)[0])
    for t in range(T):
        h = f(notes[of_h] @ h + notes[of_x] @ x[t] + notes[bias])
        np.testing.assert_allclose(y[t], output[out] @ h + output[out_bias], rtol=0, atol=1e-12)
    with pytest.raises(
        ValueError, match=r"which are an output layer: dense\.load_state_dict"
    ) as told:
        fw.from_lecture({**notes, **output}, rnn.cell)
    assert f"{{'weight': {out}, 'bias': {out_bias}}}" in str(told.value)
    without = {key: a for key, a in notes.items() if key != bias}
    rnn.load_state_dict({**fw.from_lecture(without, rnn.cell), **{k: np.zeros(H) for k in BIASES}})
    assert len(fw.from_lecture(without, rnn.cell)) == 2


BIASES = ("bias_ih_l0", "bias_hh_l0")


def joined(gates: str, index: Callable[[str], str]) -> dict[str, tuple[Any, str]]:
    def product(g: str) -> Any:
        return lambda n, h, x: n["W" + index(g)] @ np.r_[h, x]

    return {g: (product(g), "b" + index(g)) for g in gates}


def apart(gates: str, of_h: Callable[[str], str], of_x: Callable[[str], str], bias: Any) -> Any:
    def product(g: str) -> Any:
        return lambda n, h, x: n[of_h(g)] @ h + n[of_x(g)] @ x

    return {g: (product(g), bias(g)) for g in gates}


# For each gate, in our letters: its product, as the notes write it, and the name of its bias.
LSTM: dict[str, tuple[Arrays, dict[str, tuple[Any, str]]]] = {
    "W_f W_i W_c W_o": (
        drawn(**{f"W_{g}": "hx" for g in "fico"}, **{f"b_{g}": "b" for g in "fico"}),
        joined("figo", lambda g: "_c" if g == "g" else f"_{g}"),
    ),
    "W_f W_i W_C W_o": (
        drawn(**{f"W_{g}": "hx" for g in "fiCo"}, **{f"b_{g}": "b" for g in "fiCo"}),
        joined("figo", lambda g: "_C" if g == "g" else f"_{g}"),
    ),
    "W_f W_i W_g W_o": (
        drawn(**{f"W_{g}": "hx" for g in "figo"}, **{f"b_{g}": "b" for g in "figo"}),
        joined("figo", lambda g: f"_{g}"),
    ),
    "W_xf W_hf b_f": (
        drawn(
            **{f"W_x{g}": "x" for g in "fico"},
            **{f"W_h{g}": "h" for g in "fico"},
            **{f"b_{g}": "b" for g in "fico"},
        ),
        apart(
            "figo",
            lambda g: "W_h" + g.replace("g", "c"),
            lambda g: "W_x" + g.replace("g", "c"),
            lambda g: "b_" + g.replace("g", "c"),
        ),
    ),
    "W_f U_f b_f": (
        drawn(
            **{f"W_{g}": "x" for g in "figo"},
            **{f"U_{g}": "h" for g in "figo"},
            **{f"b_{g}": "b" for g in "figo"},
        ),
        apart("figo", lambda g: f"U_{g}", lambda g: f"W_{g}", lambda g: f"b_{g}"),
    ),
}


@pytest.mark.parametrize("name", LSTM)
def test_an_lstm(name: str) -> None:
    """Row 3: forget, input and output gate, and the candidate."""
    notes, gates = LSTM[name]
    lstm = fr.LSTM(I, H, dtype="float64")
    lstm.load_state_dict(fw.from_lecture(notes, "lstm"))
    h, c, x = np.zeros(H), np.zeros(H), steps()
    y = lstm(x)[0]
    for t in range(T):
        a = {g: product(notes, h, x[t]) + notes[bias] for g, (product, bias) in gates.items()}
        c = sigmoid(a["f"]) * c + sigmoid(a["i"]) * np.tanh(a["g"])
        h = sigmoid(a["o"]) * np.tanh(c)
        np.testing.assert_allclose(y[t], h, rtol=0, atol=1e-12)


def as_written(update: str, of_n: str) -> tuple[Arrays, dict[str, tuple[Any, str]]]:
    names = {"z": f"_{update}", "r": "_r", "n": f"_{of_n}" if of_n else ""}
    kinds = {f"W{k}": "hx" for k in names.values()} | {f"b{k}": "b" for k in names.values()}
    return drawn(**kinds), joined("zrn", names.__getitem__)


GRU: dict[str, tuple[Arrays, dict[str, tuple[Any, str]]]] = {
    "W_z W_r W_h": as_written("z", "h"),
    "W_z W_r W": as_written("z", ""),
    "W_z W_r W_g": as_written("z", "g"),
    "W_z W_r W_n": as_written("z", "n"),
    "W_u W_r W_c": as_written("u", "c"),
    "W_xz W_hz b_z": (
        drawn(
            **{f"W_x{g}": "x" for g in "zrh"},
            **{f"W_h{g}": "h" for g in "zrh"},
            **{f"b_{g}": "b" for g in "zrh"},
        ),
        apart(
            "zrn",
            lambda g: "W_h" + g.replace("n", "h"),
            lambda g: "W_x" + g.replace("n", "h"),
            lambda g: "b_" + g.replace("n", "h"),
        ),
    ),
    "W_z U_z W U b": (
        drawn(
            **{f"W{g}": "x" for g in ("_z", "_r", "")},
            **{f"U{g}": "h" for g in ("_z", "_r", "")},
            **{f"b{g}": "b" for g in ("_z", "_r", "")},
        ),
        apart(
            "zrn",
            lambda g: "U" if g == "n" else f"U_{g}",
            lambda g: "W" if g == "n" else f"W_{g}",
            lambda g: "b" if g == "n" else f"b_{g}",
        ),
    ),
}


@pytest.mark.parametrize("keeps", [True, False], ids=["z keeps the old", "z takes the new"])
@pytest.mark.parametrize("name", GRU)
def test_a_gru(name: str, keeps: bool) -> None:
    """Row 4: reset and update gate in both conventions, reset before the product."""
    notes, gates = GRU[name]
    gru = fr.GRU(I, H, reset_after=False, dtype="float64")
    gru.load_state_dict(fw.from_lecture(notes, gru.cell, z_keeps_old=keeps))
    h, x = np.zeros(H), steps()
    y = gru(x)[0]
    for t in range(T):
        z, r = (sigmoid(gates[g][0](notes, h, x[t]) + notes[gates[g][1]]) for g in "zr")
        n = np.tanh(gates["n"][0](notes, r * h, x[t]) + notes[gates["n"][1]])
        h = z * h + (1 - z) * n if keeps else (1 - z) * h + z * n
        np.testing.assert_allclose(y[t], h, rtol=0, atol=1e-12)


# --- what has to be said, and what is refused -------------------------------------------------


@pytest.mark.parametrize("reads", ["x", "h"])
def test_u_and_w_of_one_shape(reads: str) -> None:
    notes = drawn(width=H, U="h", W="h", b="b")
    with pytest.raises(TypeError, match="u_reads='x' for U x \\+ W h, u_reads='h' for W x \\+ U h"):
        fw.from_lecture(notes, "rnn_tanh")
    found = fw.from_lecture(notes, "rnn_tanh", u_reads=reads)
    other = "W" if reads == "x" else "U"
    assert np.array_equal(found["weight_ih_l0"], notes["U" if other == "W" else "W"])
    assert np.array_equal(found["weight_hh_l0"], notes[other])
    notes = LSTM["W_f U_f b_f"][0]
    right = fw.from_lecture(notes, "lstm", u_reads="h")
    assert np.array_equal(right["weight_hh_l0"][H : 2 * H], notes["U_f"])
    with pytest.raises(
        ValueError, match=r"expected W_f \(H, H\), U_f \(H, I\)"
    ):  # what is said does not fit the shapes
        fw.from_lecture(notes, "lstm", u_reads="x")


def test_names_that_are_refused() -> None:
    rnn = drawn(W_h="h", W_x="x", b="b")
    for given, cell, error, text in (
        (
            {**rnn, "Wh": rnn["W_h"]},
            "rnn_tanh",
            ValueError,
            "every array once; found once more W_h",
        ),
        ({**rnn, "W_q": rnn["W_h"]}, "rnn_tanh", ValueError, r"or by the names W_hh W_xh b; W U b"),
        ({"W_h": rnn["W_h"], "W_xh": rnn["W_x"]}, "rnn_tanh", ValueError, "found W_h float64"),
        (rnn, "lstm", ValueError, r"W_f \(H, H \+ I\), .* by the names W_f W_i W_c W_o|U_f"),
        (rnn | {"b": rnn["W_h"]}, "rnn_tanh", ValueError, r"and so W_h \(5, 5\)"),
    ):
        with pytest.raises(error, match=text):
            fw.from_lecture(given, cell)
    with pytest.raises(ValueError, match="u_reads: expected one of 'x', 'h'"):
        fw.from_lecture(rnn, "rnn_tanh", u_reads="y")
