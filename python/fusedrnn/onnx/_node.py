"""One recurrent node of a graph, with its layers; it runs on values by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _errors
from ._attributes import Attributes, read
from ._layers import Array, Packed, Value, computed_in, dtype_of, pack, shaped

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
WEIGHTS = ("W", "R", "B", "P")
NEEDED = ("X", "W", "R")


class Node:
    """An RNN, GRU or LSTM node; weights that are constants of the graph are packed once, here."""

    def __init__(self, where: str, proto: Any, opset: int, constants: Mapping[str, Value]) -> None:
        self.options: Attributes = read(where, proto, opset)
        roles = INPUTS if proto.op_type == "LSTM" else INPUTS[:6]
        if len(proto.input) > len(roles):
            expected = f"at most {len(roles)}: {_errors.listed(roles)}"
            _errors.differs(where, "inputs", expected, len(proto.input))
        self._roles = {role: name for role, name in zip(roles, proto.input, strict=False) if name}
        for role in NEEDED:
            if role not in self._roles:
                _errors.differs(where, f"input {role}", "a name", "none")
        self.outputs = tuple(proto.output)
        most = 3 if proto.op_type == "LSTM" else 2
        if len(self.outputs) > most:
            expected = f"at most {most}: {_errors.listed(('Y', 'Y_h', 'Y_c')[:most])}"
            _errors.differs(where, "outputs", expected, len(self.outputs))
        self._packed: Packed | None = None
        names = [self._roles[role] for role in WEIGHTS if role in self._roles]
        if all(name in constants for name in names):
            self._packed = pack(self.options, self._weights(constants))
            self._roles = {k: name for k, name in self._roles.items() if k not in WEIGHTS}
        self.inputs = tuple(dict.fromkeys(self._roles.values()))

    def _weights(self, values: Mapping[str, Value]) -> dict[str, Array]:
        return {role: values[self._roles[role]] for role in WEIGHTS if role in self._roles}

    def run(self, values: Mapping[str, Value], num_threads: int | None) -> dict[str, Value]:
        """Compute outputs by name, from the values of the graph so far."""
        packed = self._packed or pack(self.options, self._weights(values))
        layers = packed.layers
        given = {role: values[name] for role, name in self._roles.items()}
        x, lengths, state = self._sequences(given, packed)
        batch_first = self.options.batch_first
        sides, states = [], []
        for d, layer in enumerate(layers):
            backwards = self.options.direction == "reverse" or d == 1
            first: Any = tuple(part[d : d + 1] if len(layers) == 2 else part for part in state)
            y, last = layer(
                flipped(x, lengths, batch_first) if backwards else x,
                first if len(first) == 2 else first[0] if first else None,
                lengths=lengths,
                num_threads=num_threads,
            )
            sides.append(flipped(y, lengths, batch_first) if backwards else y)
            states.append(last if isinstance(last, tuple) else (last,))
        y = sides[0] if len(sides) == 1 else np.concatenate(sides, axis=-1)
        y = y.reshape(*y.shape[:2], self.options.directions, packed.hidden_size)
        if not batch_first:
            y = y.swapaxes(1, 2)  # (T, D, B, H)
        outputs = [y]
        for parts in zip(*states, strict=True):
            part = parts[0] if len(parts) == 1 else np.concatenate(parts)
            outputs.append(part.swapaxes(0, 1) if batch_first else part)
        named = zip(self.outputs, outputs, strict=False)
        return {name: np.ascontiguousarray(a, packed.dtype) for name, a in named if name}

    def _sequences(
        self, given: Mapping[str, Value], packed: Packed
    ) -> tuple[Array, Array | None, list[Array]]:
        """Return X, the lengths and the first state (D, B, H), checked."""
        where, x = self.options.where, given["X"]
        batch_first = self.options.batch_first
        dtype = dtype_of(where, "X", x, packed.dtype)
        if x.ndim != 3 or x.shape[2] != packed.input_size:
            axes = "(B, T, I)" if batch_first else "(T, B, I)"
            expected = f"shape {axes} with I = {packed.input_size}, as W has it"
            _errors.differs(where, "input X", expected, x.shape)
        steps, batch = x.shape[:2][::-1] if batch_first else x.shape[:2]
        state = []
        sizes = (self.options.directions, batch, packed.hidden_size)
        letters = "(D, B, H)"
        if batch_first:
            sizes, letters = (batch, *sizes[::2]), "(B, D, H)"
        wanted = ("initial_h", "initial_c")[: 2 if self.options.operator == "LSTM" else 1]
        if any(name in given for name in wanted):
            for name in wanted:
                a = given.get(name, np.zeros(sizes, dtype))
                dtype_of(where, name, a, dtype)
                shaped(where, name, a, letters, sizes)
                state.append(a.swapaxes(0, 1) if batch_first else a)
        lengths = given.get("sequence_lens")
        if lengths is not None:
            if not isinstance(lengths, np.ndarray) or lengths.dtype.kind not in "iu":
                expected = "an array of integers"
                _errors.wrong_type(
                    where, "input sequence_lens", expected, _errors.describe(lengths)
                )
            shaped(where, "sequence_lens", lengths, "(B,)", (batch,))
            if lengths.size and (lengths.min() < 0 or lengths.max() > steps):
                expected = f"lengths from 0 to T = {steps}"
                _errors.differs(where, "input sequence_lens", expected, lengths.tolist())
        computed = computed_in(dtype)
        x, *state = (a.astype(computed, copy=False) for a in (x, *state))
        return x, lengths, state


def flipped(a: Array, lengths: Array | None, batch_first: bool) -> Array:
    """Reverse the valid part of each sequence of `a`; the rest stays in place."""
    time = 1 if batch_first else 0
    if lengths is None:
        return np.flip(a, time)
    t = np.arange(a.shape[time])[:, None]
    source = np.where(t < lengths, lengths.astype(np.int64) - 1 - t, t)  # (T, B)
    return np.take_along_axis(a, (source.T if batch_first else source)[..., None], time)
