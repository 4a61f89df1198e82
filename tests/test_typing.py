"""The documented calls as a type checker sees them: this file is run, and mypy checks it.

A line that must be a type error has a `type: ignore` with the error's name. mypy warns about
unneeded ones, so it reports a line that is no error.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fusedrnn as fr
from fusedrnn import forecasting, nn

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value: Any, kind: Any) -> Any:
        """Does nothing at run time."""
        return value


ROOT = Path(__file__).resolve().parents[1]
Array = NDArray[Any]
X = np.ones((4, 2, 3), np.float32)
IDS = np.ones((4, 2), np.int64)
H = np.ones((1, 2, 5), np.float32)


def lstm_calls() -> None:
    lstm = fr.LSTM(3, 5, seed=0)
    y, (h, c) = lstm(X)
    assert_type(y, Array)
    assert_type(h, Array)
    assert_type(c, Array)
    lstm(X, (h, c))
    lstm(X, [h, None])
    lstm(X, (None, c))
    lstm(X.tolist(), (H.tolist(), None), lengths=[4, 3])
    lstm(X, h) if TYPE_CHECKING else None  # type: ignore[arg-type]
    lstm(tokens=IDS, mask=np.ones((4, 2), bool), reset=np.ones((4, 2), bool), initial=(h, None))

    y, state, saved = lstm.forward(X, (h, None), rng=np.random.default_rng(0), noise=False)
    assert_type(y, Array)
    assert_type(state, tuple[Array, Array])
    assert_type(saved.nbytes, int)
    assert_type(saved.cells, list[Array | None])
    assert_type(saved.gates, list[dict[str, Array]])
    dx, (dh0, _dc0), gradients = lstm.backward(saved, dy=2 * y)
    assert_type(dx, Array)
    assert_type(dh0, Array)
    assert_type(gradients, dict[str, Array])
    lstm.backward(saved, None, (h, None))
    lstm.backward(saved, dstate=(None, c), dcells=[c], dgates=[{"f": c}]) if TYPE_CHECKING else None
    lstm.backward(saved, dy=y, dgates=[None], per_sample=True, num_threads=1)

    _, _, of_tokens = lstm.forward(tokens=IDS)
    nothing, _, _ = lstm.backward(of_tokens, y)
    assert_type(nothing, None)
    _, _, of_tokens = lstm.forward(None, (h, c), tokens=IDS)
    if TYPE_CHECKING:
        lstm.forward(X, tokens=IDS)  # type: ignore[call-overload]
        lstm.forward()  # type: ignore[call-overload]


def gru_calls() -> None:
    gru = fr.GRU(3, 5, seed=0, reset_after=False)
    y, h_n = gru(X, H)
    assert_type(h_n, Array)
    y, h_n, saved = gru.forward(X)
    dx, dh0, _ = gru.backward(saved, y, h_n)
    assert_type(dx, Array)
    assert_type(dh0, Array)
    gru.backward(saved, dstate=dh0)
    rnn = fr.RNN(3, [5, 4], nonlinearity=("elu", 2.0))
    rnn(X, [H, H[..., :4]])


def stream_calls() -> None:
    stream = fr.LSTM(3, 5, seed=0).stream(2)
    h = stream.step(X[0])
    assert_type(h, Array)
    assert_type(stream.step(X[0], out=h), Array)
    assert_type(stream(X), Array)
    assert_type(stream.state, tuple[Array, Array])
    stream.state = (H, None)
    stream.state = stream.state
    stream.step(tokens=[1, 2], mask=[True, False], reset=[True, True], initial=(H, None))
    stream.reset(rows=[0])
    assert_type(fr.GRU(3, 5).stream().state, Array)


def parameter_calls() -> None:
    gru = fr.GRU(3, 5, seed=0)
    assert_type(gru.params["weight_ih_l0"], Array)
    gru.params["bias_ih_l0"] = np.zeros(15)
    with gru.writable() as params:
        params["weight_hh_l0"] *= 0.5
        for name, array in params.items():
            assert_type(name, str)
            assert_type(array, Array)
    state = gru.state_dict()
    assert_type(state.cell, str | None)
    assert_type(state["bias_ih_l0"], Array)
    gru.load_state_dict(state)
    gru.load_state_dict({f"rnn.{name}": a for name, a in state.items()}, "rnn.")
    assert_type(fr.GRU.from_config(gru.config(), state), fr.GRU)


def room_calls() -> None:
    assert_type(fr.nn.Dense(3, 2), nn.Dense)
    table, attention = nn.Embedding(5, 3, seed=0), nn.Attention("dot")
    x, saved_ids = table.forward(IDS)
    assert_type(x, Array)
    no_dx, gradients = table.backward(saved_ids, x)
    assert_type(no_dx, None)
    assert_type(gradients, dict[str, Array])
    assert_type(table.nearest(1, 2).ids, Array)
    assert_type(nn.Embedding.from_config(table.config(), table.state_dict()), nn.Embedding)
    context, weights, saved_attention = attention.forward(X, X, X)
    assert_type(weights, Array)
    assert_type(attention.backward(saved_attention, context).dqueries, Array)
    y, saved_norm = nn.LayerNorm(3).forward(X)
    assert_type(y, Array)
    nn.Dropout(0.1).backward(saved_norm, y) if TYPE_CHECKING else None  # type: ignore[arg-type]
    fr.weights.from_torch(fr.GRU(3, 5).state_dict(), "gru")
    seq2seq = nn.Seq2Seq(fr.GRU(3, 4), fr.GRU(7, 4), nn.Dense(4, 7), start=0, end=1)
    assert_type(seq2seq.compile("adam", "softmax_cross_entropy"), nn.Seq2Seq)
    logits, saved_pair = seq2seq.forward(X.swapaxes(0, 1), IDS.T % 7)
    assert_type(seq2seq.backward(saved_pair, logits)[1], dict[str, Array])
    assert_type(seq2seq.generate(X, max_length=2), Array)
    assert_type(nn.sample(logits, temperature=0.5, top_k=2, rng=np.random.default_rng(0)), Array)
    pool = nn.Pool("mean")
    pooled, saved_pool = pool.forward(X)
    assert_type(pool.backward(saved_pool, pooled)[0], Array)
    if TYPE_CHECKING:
        assert_type(seq2seq.generate(X, return_attention=True), tuple[Array, Array])
        assert_type(seq2seq(X, IDS, return_attention=True), tuple[Array, Array])
        fr.LTSM  # type: ignore[attr-defined]  # noqa: B018
    fr.set_num_threads(None)
    with fr.use_backend("reference"), fr.set_num_threads(1):
        assert_type(fr.last_path().threads, int)


def forecasting_calls() -> None:
    series = np.array([1.0, 5.0, 2.0, 7.0, 3.0, 8.0, 4.0, 10.0])
    assert_type(forecasting.naive(series, 2), Array)
    assert_type(forecasting.seasonal_naive(series, 2, 2), Array)
    scale = forecasting.naive_scale(series, season=2)
    assert_type(scale, float)
    origins = forecasting.rolling_origins(5, 7, count=2)
    assert_type(origins, Array)
    tested = forecasting.backtest(series, origins, lambda y: forecasting.naive(y, 1))
    assert_type(tested, Array)
    came = forecasting.following(series, origins, horizon=1)
    assert_type(forecasting.measure(came, tested, scale), forecasting.Errors)
    assert_type(forecasting.autoregression(series, longest=1), forecasting.Autoregression)
    if TYPE_CHECKING:
        assert_type(forecasting.forecast(series, 2), forecasting.Forecast)
        forecasting.forecast(series)  # type: ignore[call-arg]


def function_calls() -> None:
    w_ih, w_hh = np.ones((20, 3), np.float32), np.ones((20, 5), np.float32)
    y, _h_n, _c_n, saved = fr.lstm_forward(X, w_ih, w_hh, save=True)
    gradients = fr.lstm_backward(saved, dy=2 * y)
    assert_type(gradients.dw_hh, Array)
    assert_type(gradients.dpeepholes, Array | None)


@pytest.mark.parametrize(
    "calls",
    [
        lstm_calls,
        gru_calls,
        stream_calls,
        parameter_calls,
        room_calls,
        forecasting_calls,
        function_calls,
    ],
    ids=lambda f: f.__name__,
)
def test_the_documented_calls_run(calls: Any) -> None:
    with fr.set_num_threads(None):
        calls()


def test_mypy_accepts_the_documented_calls_and_no_others() -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed; .ci/run has it for its own step")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        __file__,
    ]
    found = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "MYPYPATH": "python"}
    )
    assert found.returncode == 0, found.stdout + found.stderr
