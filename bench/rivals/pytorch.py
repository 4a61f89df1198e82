"""torch.nn: the LSTM through oneDNN, GRU and RNN step by step; padding as packed sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.cases import RATE, Array, Case
from bench.rivals import Prepared
from bench.rivals.memory import growth

PARAMETERS = ("weight_ih_l0", "weight_hh_l0")


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def refuses(case: Case) -> str:
    return "" if case.cell in ("RNN", "LSTM", "GRU") else "no such cell"


def layer(case: Case, weights: Mapping[str, Array]) -> Any:
    torch.set_num_threads(case.threads)
    kind = getattr(torch.nn, case.cell)
    made = kind(case.input_size, case.hidden_size, dtype=getattr(torch, case.dtype))
    made.load_state_dict({name: torch.from_numpy(a) for name, a in weights.items()})
    return made


def states(state: Any) -> dict[str, Array]:
    parts = state if isinstance(state, tuple) else (state,)
    return {name: part.detach().numpy()[0] for name, part in zip("hc", parts, strict=False)}


def runner(case: Case, made: Any) -> Any:
    """A function from x to (y, state), with the lengths of the case."""
    lengths = case.lengths()
    if lengths is None:
        return made
    sizes = torch.from_numpy(lengths)

    def packed(x: Any) -> Any:
        y, state = made(pack_padded_sequence(x, sizes, enforce_sorted=False))
        return pad_packed_sequence(y, total_length=case.steps)[0], state

    return packed


def prepare(case: Case, weights: Mapping[str, Array]) -> Prepared:
    return MODES[case.mode](case, layer(case, weights))


def _forward(case: Case, made: Any) -> Prepared:
    run, x = runner(case, made), torch.from_numpy(case.x())

    def call() -> Any:
        with torch.inference_mode():
            return run(x)

    return Prepared(call, lambda result: {"y": result[0].numpy(), **states(result[1])})


def _step(case: Case, made: Any) -> Prepared:
    x, state = torch.from_numpy(case.x()), None

    def call() -> Any:
        nonlocal state
        with torch.inference_mode():
            y, state = made(x, state)
        return y

    return Prepared(call, lambda y: {"y": y.numpy()})


def _training(case: Case, made: Any) -> Prepared:
    run, x, dy = runner(case, made), torch.from_numpy(case.x()), torch.from_numpy(case.dy())
    x.requires_grad_()
    optimizer = torch.optim.SGD(made.parameters(), lr=RATE)

    def call() -> Any:
        x.grad = None
        optimizer.zero_grad()
        y, state = run(x)
        y.backward(dy)
        optimizer.step()
        return y, state

    def read(result: Any) -> dict[str, Array]:
        y, state = result
        assert x.grad is not None
        weights = {f"d{name}": getattr(made, name).grad.numpy() for name in PARAMETERS}
        return {
            "y": y.detach().numpy(),
            **states(state),
            "dx": x.grad.numpy(),
            **weights,
        }

    return Prepared(call, read)


def _changed(case: Case, made: Any) -> Prepared:
    run, x = runner(case, made), torch.from_numpy(case.x())

    def call() -> Any:
        with torch.inference_mode():
            made.bias_ih_l0[0] += RATE
            return run(x)

    return Prepared(call, lambda result: {"y": result[0].numpy(), **states(result[1])})


# To torch a function of plain arrays is a call like any other: its modules keep nothing between
# calls.
MODES = {
    "forward": _forward,
    "step": _step,
    "training": _training,
    "changed": _changed,
    "function": _forward,
}


def kept(case: Case, weights: Mapping[str, Array]) -> dict[str, float]:
    """Bytes that a training forward call keeps beyond x and y, and its peak."""
    made, x = layer(case, weights), torch.from_numpy(case.x())
    y = made(x)[0].nbytes
    grown = growth(lambda: made(x))
    return {"kept": grown.kept - y, "peak": grown.peak}
