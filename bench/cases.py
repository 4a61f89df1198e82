"""The work that is timed: cells, one size, operations counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fusedrnn as fr


@dataclass(frozen=True)
class Case:
    """One layer of a cell on T steps of B sequences, I inputs, H units, float32."""

    cell: str
    gates: int
    steps: int = 100
    batch: int = 32
    input_size: int = 256
    hidden_size: int = 256

    def flops(self, training: bool) -> float:
        """Of the products; backward costs twice the forward pass."""
        step = 2 * self.batch * self.gates * self.hidden_size * (self.input_size + self.hidden_size)
        return float(step * self.steps * (3 if training else 1))

    def layer(self) -> fr.RNN | fr.LSTM | fr.GRU:
        """Our layer."""
        sizes = self.input_size, self.hidden_size
        return {
            "RNN": lambda: fr.RNN(*sizes, seed=0),
            "LSTM": lambda: fr.LSTM(*sizes, seed=0),
            "LSTM peepholes": lambda: fr.LSTM(*sizes, seed=0, peepholes=True),
            "GRU": lambda: fr.GRU(*sizes, seed=0),
            "GRU reset before": lambda: fr.GRU(*sizes, seed=0, reset_after=False),
        }[self.cell]()

    def x(self) -> np.ndarray:
        """(T, B, I)."""
        shape = (self.steps, self.batch, self.input_size)
        return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


CASES = (
    Case("RNN", 1),
    Case("LSTM", 4),
    Case("LSTM peepholes", 4),
    Case("GRU", 3),
    Case("GRU reset before", 3),
)
