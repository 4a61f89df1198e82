"""Every public argument gets things of the wrong kind: the error names it, or the result is right.

test_check.py and test_check_options.py test the texts; this file finds arguments that were
forgotten. It compares its tables with the signatures, so a new argument must be entered.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr
from fusedrnn import nn

F32 = np.float32
X, H = np.ones((4, 2, 3), F32), np.ones((1, 2, 3), F32)
FLAGS = np.zeros((4, 2), bool)
LSTM = fr.LSTM(3, 3, seed=0)
W, R, B = (LSTM.params[name] for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"))
TABLE, ATTENTION = nn.Embedding(3, 2, seed=0), nn.Attention("dot")


class Tensor:
    """To NumPy, a tensor that requires gradients."""

    shape, ndim = (2, 3), 2

    def __array__(self, dtype: object = None, copy: object = None) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


def objects() -> Any:
    found = np.empty(2, object)
    found[:] = [1, "a"]
    return found


WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a text": lambda: "text",
    "an empty text": lambda: "",
    "an empty list": list,
    "a ragged list": lambda: [[1.0], [2.0, 3.0]],
    "a dict": dict,
    "a set": lambda: {1},
    "bytes": lambda: b"ab",
    "a generator": lambda: (i for i in range(3)),
    "an object": object,
    "a type": lambda: int,
    "a module": lambda: np,
    "a number": lambda: 0.5,
    "nan": lambda: float("nan"),
    "a negative number": lambda: -1,
    "a flag": lambda: True,
    "a large number": lambda: 10**30,
    "a number past float64": lambda: 10**400,
    "an array without axes": lambda: np.array(0.0),
    "an array of objects": objects,
    "an array of texts": lambda: np.array(["a"]),
    "an array of dates": lambda: np.array(["2020-01-01"], "datetime64[D]"),
    "complex numbers": lambda: np.ones(3, complex),
    "a masked array": lambda: np.ma.masked_array(np.ones((4, 2, 3), F32)),
    "a tensor with gradients": Tensor,
    "a loss": lambda: nn.mse(X, X),
}
NOTHING = {"None"}
NUMBERS = {"a number", "nan", "a negative number", "a large number"}

# What an argument accepts of these; an argument that is not listed accepts at most None.
TAKES: dict[str, set[str]] = {
    "seed": {"an empty list", "a flag", "a large number", "a number past float64"},
    "bias": {"a flag"},
    "batch_first": {"a flag"},
    "learn_initial_state": {"a flag"},
    "bidirectional": {"a flag"},
    "peepholes": {"a flag"},
    "coupled": {"a flag"},
    "layer_norm": {"a flag"},
    "reset_after": {"a flag"},
    "noise": {"a flag"},
    "per_sample": {"a flag"},
    "save": {"a flag"},
    "clip": {"a number", "a large number", "a number past float64"},  # a bound that never acts
    "forget_bias": {"a number", "a negative number", "a large number"},
    "padding_value": {*NUMBERS, "a number past float64"},
    "dropout": {"a number"},
    "input_dropout": {"a number"},
    "recurrent_dropout": {"a number"},
    "zoneout": {"a number"},
    "drop_connect": {"a number"},
    "rows": {"an empty list"},
    "prefix": {"an empty text"},
    "p": {"a number"},
    "eps": {"a number", "a large number"},
    "ids": {"an empty list"},
    "padding_idx": {"a negative number"},
}
# The names that errors use for the parts of an argument.
ALSO = {
    "state": ("h0", "c0", "state_dict", "load_state_dict"),
    "dstate": ("dh_n", "dc_n"),
    "initial": ("initial of h", "initial of c"),
    "state_dict": ("load_state_dict",),
    "prefix": ("load_state_dict",),
    "name": ("isa", "backend"),
    "n": ("num_threads",),
}


def saved() -> Any:
    return LSTM.forward(X)[2]


def set_state(value: Any) -> None:
    LSTM.stream(2).state = value


def set_parameter(value: Any) -> None:
    LSTM.params["weight_ih_l0"] = value


def write_parameter(value: Any) -> None:
    with LSTM.writable() as p:
        p["weight_ih_l0"] = value


def load_one(value: Any) -> None:
    LSTM.load_state_dict({**LSTM.state_dict(), "weight_ih_l0": value})


def scoped(choose: Callable[[Any], Any]) -> Callable[[Any], None]:
    def call(**arguments: Any) -> None:
        with choose(**arguments):
            pass

    return call


# A callable, its other arguments, and the callable whose signature is tested.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[..., Any]]] = {
    "RNN": (fr.RNN, {"input_size": 3, "hidden_size": 4}, fr.RNN.__init__),
    "LSTM": (fr.LSTM, {"input_size": 3, "hidden_size": 4}, fr.LSTM.__init__),
    "GRU": (fr.GRU, {"input_size": 3, "hidden_size": 4}, fr.GRU.__init__),
    "a call": (LSTM, {"x": X}, fr.LSTM.__call__),
    "a call of tokens": (LSTM, {"tokens": FLAGS.astype(int)}, fr.LSTM.__call__),
    "a call with resets": (LSTM, {"x": X, "reset": FLAGS}, fr.LSTM.__call__),
    "forward": (LSTM.forward, {"x": X, "reset": FLAGS}, fr.LSTM.forward),
    "forward of one state": (fr.GRU(3, 3).forward, {"x": X}, fr.GRU.forward),
    "backward": (LSTM.backward, {"saved": saved()}, fr.LSTM.backward),
    "stream": (LSTM.stream, {}, fr.LSTM.stream),
    "a step": (LSTM.stream(2).step, {"x": X[0]}, fr.Stream.step),
    "a step with resets": (LSTM.stream(2).step, {"x": X[0], "reset": FLAGS[0]}, fr.Stream.step),
    "a chunk": (LSTM.stream(2), {"x": X, "reset": FLAGS}, fr.Stream.__call__),
    "reset": (LSTM.stream(2).reset, {}, fr.Stream.reset),
    "load_state_dict": (
        LSTM.load_state_dict,
        {"state_dict": LSTM.state_dict()},
        fr.LSTM.load_state_dict,
    ),
    "from_config": (
        fr.LSTM.from_config,
        {"config": LSTM.config(), "state": LSTM.state_dict()},
        fr.LSTM.from_config,
    ),
    "lstm_forward": (
        fr.lstm_forward,
        {"x": X, "w_ih": W, "w_hh": R, "reset": FLAGS},
        fr.lstm_forward,
    ),
    "gru_forward": (
        fr.gru_forward,
        {"x": X, "w_ih": W[:9], "w_hh": R[:9], "reset": FLAGS},
        fr.gru_forward,
    ),
    "rnn_forward": (fr.rnn_forward, {"x": X, "w_ih": W[:3], "w_hh": R[:3]}, fr.rnn_forward),
    "lstm_backward": (
        fr.lstm_backward,
        {"saved": fr.lstm_forward(X, W, R, save=True)[-1]},
        fr.lstm_backward,
    ),
    "gru_backward": (
        fr.gru_backward,
        {"saved": fr.gru_forward(X, W[:9], R[:9], save=True)[-1]},
        fr.gru_backward,
    ),
    "rnn_backward": (
        fr.rnn_backward,
        {"saved": fr.rnn_forward(X, W[:3], R[:3], save=True)[-1]},
        fr.rnn_backward,
    ),
    "dense_forward": (fr.dense_forward, {"x": X[0], "w": W}, fr.dense_forward),
    "dense_backward": (
        fr.dense_backward,
        {"saved": fr.dense_forward(X[0], W, save=True)[-1], "dy": np.ones((2, 12), F32)},
        fr.dense_backward,
    ),
    "Embedding": (
        nn.Embedding,
        {"num_embeddings": 3, "embedding_dim": 2},
        nn.Embedding.__init__,
    ),
    "a look-up": (TABLE, {}, nn.Embedding.__call__),
    "backward of a look-up": (
        TABLE.backward,
        {"saved": TABLE.forward([0, 1])[1], "dy": np.ones((2, 2), F32)},
        nn.Embedding.backward,
    ),
    "similarity": (TABLE.similarity, {"of": 0}, nn.Embedding.similarity),
    "nearest": (TABLE.nearest, {"index": 0, "k": 1}, nn.Embedding.nearest),
    "Dropout": (nn.Dropout, {"p": 0.5}, nn.Dropout.__init__),
    "LayerNorm": (nn.LayerNorm, {"normalized_size": 3}, nn.LayerNorm.__init__),
    "a normalisation": (nn.LayerNorm(3), {"x": X}, nn.LayerNorm.__call__),
    "RepeatVector": (nn.RepeatVector, {"n": 3}, nn.RepeatVector.__init__),
    "Activation": (nn.Activation, {"name": "tanh"}, nn.Activation.__init__),
    "Attention": (
        nn.Attention,
        {"kind": "dot"},
        nn.Attention.__init__,
    ),
    "attending": (ATTENTION, {"queries": X, "keys": X, "values": X}, nn.Attention.__call__),
    "backward of attention": (
        ATTENTION.backward,
        {"saved": ATTENTION.forward(X, X, X)[2]},
        nn.Attention.backward,
    ),
    "use_isa": (scoped(fr.use_isa), {}, fr.use_isa),
    "use_backend": (scoped(fr.use_backend), {}, fr.use_backend),
    "set_num_threads": (scoped(fr.set_num_threads), {}, fr.set_num_threads),
}
# Arguments inside arguments, and attributes that are assigned: the name in the error.
INSIDE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "stream.state": ("state", set_state),
    "params[name]": ("weight_ih_l0", set_parameter),
    "writable()[name]": ("weight_ih_l0", write_parameter),
    "state_dict[name]": ("weight_ih_l0", load_one),
    "h0 of state": ("h0", lambda v: LSTM(X, (v, H))),
    "c0 of state": ("c0", lambda v: LSTM(X, (H, v))),
    "dh_n of dstate": ("dh_n", lambda v: LSTM.backward(saved(), None, (v, H))),
    "dcells[0]": ("dcells", lambda v: LSTM.backward(saved(), dcells=[v])),
    "dgates[0]": ("dgates", lambda v: LSTM.backward(saved(), dgates=[v])),
    "dgates[0]['i']": ("dgates", lambda v: LSTM.backward(saved(), dgates=[{"i": v}])),
    "hidden_size[0]": ("hidden_size", lambda v: fr.LSTM(3, [v, 4])),
    "zoneout[1]": ("zoneout", lambda v: fr.LSTM(3, 4, zoneout=(0.1, v))),
    "activations[0]": ("activations", lambda v: fr.LSTM(3, 4, activations=(v, "tanh", "tanh"))),
    "alpha": ("nonlinearity", lambda v: fr.RNN(3, 4, nonlinearity=("elu", v))),
}
# In these None means zeros, or nothing.
MAY_BE_NONE = {"h0 of state", "c0 of state", "dh_n of dstate", "dcells[0]", "dgates[0]"}
MAY_BE_NONE |= {"stream.state"}
INSIDE_TAKES = {
    "zoneout[1]": {"a number"},
    "alpha": {"a number", "a negative number", "a large number"},
    "dgates[0]": {"a dict"},
}


def cases() -> list[Any]:
    found = []
    for call, (function, given, signed) in CALLS.items():
        for name, parameter in inspect.signature(signed).parameters.items():
            if name == "self":
                continue

            def run(value: Any, f: Any = function, g: Any = given, n: str = name) -> None:
                f(**{**g, n: value})

            takes = set(TAKES.get(name, ()))
            if name == "peepholes" and call == "lstm_forward":  # there it is an array
                takes = set()
            # One of x and tokens must be given.
            other = {"x": "tokens", "tokens": "x"}.get(name)
            if parameter.default is None and (other is None or other in given):
                takes |= NOTHING
            if call == "set_num_threads":
                takes |= NOTHING
            found.append(pytest.param(name, run, takes, id=f"{call}({name}=)"))
    for call, (name, inner) in INSIDE.items():
        takes = INSIDE_TAKES.get(call, set()) | (NOTHING if call in MAY_BE_NONE else set())
        found.append(pytest.param(name, inner, takes, id=call))
    return found


def refusal(run: Callable[[Any], None], value: Any) -> str | None:
    try:
        run(value)
    except (TypeError, ValueError) as error:
        return str(error.args[0])
    return None


# Before NumPy 1.24 a ragged list became an array of objects, and the dtype of a module was tried.
@pytest.mark.filterwarnings("ignore:in the future the `.dtype` attribute")
@pytest.mark.filterwarnings("ignore:Creating an ndarray from ragged nested sequences")
@pytest.mark.filterwarnings("ignore:dropout acts between layers")
@pytest.mark.parametrize(("name", "run", "takes"), cases())
def test_what_is_of_the_wrong_kind_is_refused_by_name(
    name: str, run: Callable[[Any], None], takes: set[str]
) -> None:
    before = LSTM.state_dict()
    for kind, make in WRONG.items():
        text = refusal(run, make())
        if kind in takes:
            assert text is None, f"{kind}: {text}"
            continue
        assert text is not None, f"{kind} was taken"
        names = "|".join(map(re.escape, (name, *ALSO.get(name, ()))))
        assert re.search(rf"(^|[\s(])({names})\b", text), f"{kind}: {text}"
    assert all(np.array_equal(a, before[name]) for name, a in LSTM.params.items())


def test_the_tables_name_arguments_that_exist() -> None:
    signed = {n for _, _, s in CALLS.values() for n in inspect.signature(s).parameters}
    assert set(TAKES) <= signed
    elsewhere = {"load", "load_notes", "save"}  # tests/test_files.py tests these
    public = {n for n in fr.__all__ if callable(getattr(fr, n)) and n not in CALLS} - elsewhere
    assert public == {
        *("ReferenceBackendWarning", "Stream", "build_config", "isa"),
        *("last_path", "path_counts", "num_threads", "supported_isas"),
    }
