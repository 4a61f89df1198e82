"""The work that is timed; one file, because it is data: calls, operations, bytes, inputs.

Nothing here imports fusedrnn, so that a process can choose which build of it to load.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

# The number of gates of each cell, and its name in fusedrnn.weights.
GATES = {"RNN": 1, "LSTM": 4, "LSTM peepholes": 4, "GRU": 3, "GRU reset before": 3}
KEYS = {
    "RNN": "rnn_tanh",
    "LSTM": "lstm",
    "LSTM peepholes": "lstm_peephole",
    "GRU": "gru",
    "GRU reset before": "gru_reset_before",
}
# For each unit and step: sigmoids, and tanhs of the forward pass, and tanhs that the backward pass
# computes again.
ACTIVATIONS = {
    "RNN": (0, 1, 0),
    "LSTM": (3, 2, 1),
    "LSTM peepholes": (3, 2, 1),
    "GRU": (2, 1, 0),
    "GRU reset before": (2, 1, 0),
}
PADDING = 0.45
# The learning rate of a training row's update. It is so small that the weights stay close to those
# that were compared, however long the run; every weight is still read, changed and written.
RATE = 1e-12
# Steps of a stream before its output is compared, so that a state which is not carried shows.
CHECKED_STEPS = 3


@dataclass(frozen=True)
class Case:
    """One layer of a cell on T steps of B sequences, I inputs, H units.

    Attributes
    ----------
    mode : {"forward", "training", "step", "changed", "function"}
        Inference; a whole training step (forward, backward with gradients of x and all weights,
        and the update of the weights by plain gradient descent); one step of a stream that carries
        its state from call to call (steps is 1); inference after a parameter was changed; inference
        by a function of plain arrays, which has seen none of them before.
    data : {"plain", "lengths", "vanishing"}
        "lengths": 45 % of the steps are padding. "vanishing": the gradient comes from the last
        step, and most of its way back are denormal numbers.
    neighbour : bool
        Another process spins on one of the cores meanwhile.
    """

    cell: str
    mode: str = "forward"
    steps: int = 100
    batch: int = 32
    input_size: int = 256
    hidden_size: int = 256
    dtype: str = "float32"
    threads: int = 1
    data: str = "plain"
    neighbour: bool = False

    @property
    def name(self) -> str:
        """A short name, different for every case."""
        words = [
            f"{self.cell} {self.mode} T{self.steps} B{self.batch}",
            f"I{self.input_size} H{self.hidden_size}",
        ]
        words += [self.dtype] if self.dtype != "float32" else []
        words += [f"{self.threads} threads"] if self.threads != 1 else []
        words += [self.data] if self.data != "plain" else []
        words += ["busy neighbour"] if self.neighbour else []
        return " ".join(words)

    @property
    def gates(self) -> int:
        """The number of gates that have rows in the weights."""
        return GATES[self.cell]

    @property
    def training(self) -> bool:
        """Whether there is a backward pass."""
        return self.mode == "training"

    @property
    def real_steps(self) -> int:
        """Steps of all sequences that are not padding."""
        lengths = self.lengths()
        return self.steps * self.batch if lengths is None else int(lengths.sum())

    def flops(self) -> float:
        """Operations of the products at real steps; a backward pass costs twice a forward pass."""
        columns = self.input_size + self.hidden_size
        row = 2.0 * self.gates * self.hidden_size * columns
        return row * self.real_steps * (3 if self.training else 1)

    def activations(self) -> tuple[int, int]:
        """Sigmoids and tanhs at real steps."""
        sigmoids, tanhs, again = ACTIVATIONS[self.cell]
        units = self.real_steps * self.hidden_size
        return sigmoids * units, (tanhs + (again if self.training else 0)) * units

    def weight_bytes(self) -> float:
        """Bytes of weights that a call must read: recurrent ones at every step, those of x once.

        A backward pass reads them again; its weight gradients stay in registers and caches.
        """
        item = np.dtype(self.dtype).itemsize
        row = self.gates * self.hidden_size * item
        once = row * (self.input_size + self.hidden_size * self.steps)
        return float(once * (2 if self.training else 1))

    def resident_bytes(self) -> float:
        """Bytes of weights that every step reads; they should stay in a cache between steps."""
        columns = self.hidden_size + (self.input_size if self.steps == 1 else 0)
        return float(self.gates * self.hidden_size * columns * np.dtype(self.dtype).itemsize)

    # --- inputs -------------------------------------------------------------------------------

    def weights(self) -> dict[str, Array]:
        """The weights by PyTorch's names, in its shapes and gate order; uniform in +-1/sqrt(H)."""
        rng = np.random.default_rng(0)
        rows, bound = self.gates * self.hidden_size, self.hidden_size**-0.5
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih_l0": (rows, self.input_size),
            "weight_hh_l0": (rows, self.hidden_size),
            "bias_ih_l0": (rows,),
            "bias_hh_l0": (rows,),
        }
        if self.cell == "LSTM peepholes":
            shapes["weight_p_l0"] = (3, self.hidden_size)
        found = {name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}
        if self.data == "vanishing":
            found = {name: 0.01 * a for name, a in found.items()}
            # Gates that keep the state keep 0.985 of it, so in 1000 steps the gradient falls by
            # 1e-6.
            if self.gates == 1:
                found["weight_hh_l0"] = 0.985 * np.eye(self.hidden_size)
            else:  # gate f of i f g o, gate z of r z n
                found["bias_ih_l0"][self.hidden_size : 2 * self.hidden_size] = 4.2
        return {name: a.astype(self.dtype) for name, a in found.items()}

    def x(self) -> Array:
        """(T, B, I)."""
        shape = (self.steps, self.batch, self.input_size)
        return np.random.default_rng(1).standard_normal(shape).astype(self.dtype)

    def dy(self) -> Array:
        """(T, B, H), 0 at padding."""
        shape = (self.steps, self.batch, self.hidden_size)
        dy = np.random.default_rng(2).standard_normal(shape).astype(self.dtype)
        lengths = self.lengths()
        if lengths is not None:
            dy[np.arange(self.steps)[:, None] >= lengths] = 0
        if self.data == "vanishing":
            dy[:-1] = 0
            dy[-1] *= np.finfo(self.dtype).tiny * 100  # denormal from about 300 steps earlier on
        return dy

    def lengths(self) -> Array | None:
        """Lengths (B,), evenly from 10 % to 100 % of T, in no order; None without padding."""
        if self.data != "lengths":
            return None
        shares = np.linspace(1 - 2 * PADDING, 1.0, self.batch)
        lengths = np.maximum(1, np.round(shares * self.steps)).astype(np.int64)
        return np.random.default_rng(3).permutation(lengths)

    def tolerance(self) -> float:
        """How far results may differ, relative to the larger of 1 and the largest element."""
        return 1e-9 if self.dtype == "float64" else 5e-4 if self.training else 1e-4


def _each(cells: str, mode: str, **sizes: Any) -> tuple[Case, ...]:
    return tuple(Case(cell, mode, **sizes) for cell in cells.split(", "))


def _square(cells: str, mode: str, steps: int, batch: int, size: int) -> tuple[Case, ...]:
    sizes = {"steps": steps, "batch": batch, "input_size": size, "hidden_size": size}
    return _each(cells, mode, **sizes)


ALL = "LSTM, GRU, RNN"
CELLS = _square(", ".join(GATES), "forward", 100, 32, 256)
STEPS = _square("LSTM, GRU", "step", 1, 1, 64) + _square("LSTM, GRU", "step", 1, 1, 256)
# A long call divided by its steps is what a step costs inside the kernel.
LONG = {h: Case("LSTM", "forward", 2000, 1, h, h) for h in (64, 256)}
TINY = Case("LSTM", "forward", 1, 1, 16, 16)
PAIR = Case("LSTM", "forward", 50, 64, 512, 512)
PADDED = (
    *_square("LSTM, GRU", "forward", 100, 32, 256),
    *_square("LSTM, GRU", "training", 100, 32, 128),
)
NEIGHBOURS = (
    Case("RNN", "training", 1000, 32, 64, 64),
    Case("LSTM", "training", 100, 32, 128, 128),
    Case("GRU", "training", 100, 32, 128, 128),
)
VANISHING = _square(ALL, "training", 1000, 8, 64)
SCALED = ("hidden_size", "batch", "steps", "threads")


def _scaling() -> tuple[Case, ...]:
    base = Case("LSTM", "forward", 50, 16, 256, 256)
    found = [replace(base, hidden_size=h, input_size=h) for h in (16, 32, 64, 128, 256, 512, 1024)]
    found += [replace(base, batch=b) for b in (1, 2, 4, 8, 16, 32, 64, 128)]
    found += [replace(base, steps=t) for t in (1, 3, 10, 30, 100, 300, 1000)]
    found += [replace(base, threads=n) for n in (1, 2)]
    return tuple(dict.fromkeys(found))


# The rows of the report by group. --case takes the name of a group, or a part of the name of a
# case.
GROUPS: dict[str, tuple[Case, ...]] = {
    "step": (*STEPS, *_square("LSTM, GRU", "forward", 1, 1, 64), TINY, *LONG.values()),
    "one sequence": (
        *_square(ALL, "forward", 100, 1, 64),
        *_square(ALL, "forward", 100, 1, 256),
        *_square("LSTM, GRU", "forward", 100, 1, 512),
    ),
    "batch": (
        *_square("LSTM, GRU", "forward", 100, 32, 256),
        *_square("LSTM, GRU", "forward", 50, 64, 512),
        *_square("LSTM peepholes, GRU reset before", "forward", 100, 32, 256),
    ),
    "training": (
        *_square(ALL, "training", 100, 32, 128),
        *_each(ALL, "training", steps=100, batch=64, input_size=64, hidden_size=256),
        *_square("LSTM, GRU", "training", 35, 20, 650),
    ),
    "training, small": (
        *_each(ALL, "training", steps=100, batch=16, input_size=1, hidden_size=50),
        *_square("LSTM, GRU", "training", 1000, 32, 64),
    ),
    "lengths": (*PADDED, *(replace(case, data="lengths") for case in PADDED)),
    "after a change": (
        *_square("LSTM, GRU", "changed", 1, 1, 256),
        Case("LSTM", "changed", 10, 8, 512, 512),
        *_square("LSTM, GRU", "function", 1, 1, 256),
    ),
    "threads": (PAIR, replace(PAIR, threads=2), replace(NEIGHBOURS[1], threads=2), NEIGHBOURS[1]),
    "busy neighbour": (
        *NEIGHBOURS,
        *(replace(case, threads=2, neighbour=True) for case in NEIGHBOURS),
    ),
    "denormals": (*VANISHING, *(replace(case, data="vanishing") for case in VANISHING)),
    "scaling": _scaling(),
}
# Forward calls whose kept memory is measured, and streams of which every step is timed.
MEMORY = _square(ALL, "training", 100, 64, 256)
LATENCY = STEPS[:1] + STEPS[2:3]


def select(texts: Iterable[str]) -> list[Case]:
    """The cases of the named groups, and those whose names contain a text; each once."""
    texts = list(texts)
    parts = [text for text in texts if text not in GROUPS]
    return [
        case
        for case in dict.fromkeys(case for group in GROUPS.values() for case in group)
        if any(name in texts and case in group for name, group in GROUPS.items())
        or any(part in case.name for part in parts)
    ]
