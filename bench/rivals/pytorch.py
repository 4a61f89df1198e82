"""torch.nn: LSTM through oneDNN, GRU and RNN step by step; padding as packed sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bench.cases import Array, Case
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
    """x to (y, state), with the lengths that the case has."""
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
    leaves = [x.requires_grad_(), *made.parameters()]
    names = ["x", *(name for name, _ in made.named_parameters())]

    def call() -> Any:
        y, state = run(x)
        return y, state, torch.autograd.grad(y, leaves, dy)

    def read(result: Any) -> dict[str, Array]:
        y, state, gradients = result
        found = {f"d{name}": g.numpy() for name, g in zip(names, gradients, strict=True)}
        wanted = ("x", *PARAMETERS)
        return {
            "y": y.detach().numpy(),
            **states(state),
            **{f"d{name}": found[f"d{name}"] for name in wanted},
        }

    return Prepared(call, read)


MODES = {"forward": _forward, "step": _step, "training": _training}


def kept(case: Case, weights: Mapping[str, Array]) -> dict[str, float]:
    """Bytes that a training forward keeps beyond x and y, and needs meanwhile."""
    made, x = layer(case, weights), torch.from_numpy(case.x())
    y = made(x)[0].nbytes
    grown = growth(lambda: made(x))
    return {"kept": grown.kept - y, "peak": grown.peak}
