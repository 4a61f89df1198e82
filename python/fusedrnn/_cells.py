"""What the Python half knows of each cell: integers and names, the same as in the C++ table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class CellSpec:
    """One cell: how many slots a hidden unit has, and what each slot receives.

    A slot is one pre-activation of one unit. Slots ``[0, x_gates)`` receive ``W x`` and slots
    ``[h_first, gates)`` receive ``R u``; a slot in both ranges gets the sum. ``u`` is the previous
    ``h``, but for the last ``late`` slots it is slot 0 (a gate) times the previous ``h``.
    """

    name: str
    gates: int
    x_gates: int
    h_first: int
    late: int
    states: int
    vectors: int
    gate_names: tuple[str, ...]  # the row blocks of the weights, in order
    state_names: tuple[str, ...] = ("h",)
    vector_names: tuple[str, ...] = ()
    norm: bool = False  # layer normalisation: `vectors` are its gains and the bias of LN(c')

    @property
    def h_gates(self) -> int:
        """Slots that receive ``R u``; 0 for a cell without recurrence."""
        return self.gates - self.h_first

    def block(self, slot: int) -> int:
        """Row block of the gate-major weights that slot ``slot`` reads."""
        return (slot - self.h_first) % self.x_gates

    def shapes(
        self, input_size: int, hidden_size: int, proj_size: int = 0
    ) -> dict[str, tuple[int, ...]]:
        """Shape of each array of one layer and direction, biases included."""
        rows = self.x_gates * hidden_size
        shapes: dict[str, tuple[int, ...]] = {"w_ih": (rows, input_size)}
        if self.h_gates:
            shapes["w_hh"] = (rows, proj_size or hidden_size)
        shapes["b_ih"] = (rows,)
        if self.h_gates:
            shapes["b_hh"] = (rows,)
        if self.norm:
            shapes["norm_ih"] = shapes["norm_hh"] = (rows,)
            if self.states > 1:
                shapes["norm_c"] = shapes["norm_c_bias"] = (hidden_size,)
        elif self.vectors:
            shapes["p"] = (self.vectors, hidden_size)
        if proj_size:
            shapes["w_hr"] = (proj_size, hidden_size)
        return shapes


_LSTM_GATES = ("i", "f", "g", "o")
_GRU_GATES = ("r", "z", "n")

CELLS: dict[str, CellSpec] = {
    spec.name: spec
    for spec in (
        CellSpec("rnn_tanh", 1, 1, 0, 0, 1, 0, ("a",)),
        CellSpec("rnn_relu", 1, 1, 0, 0, 1, 0, ("a",)),
        CellSpec("rnn_sigmoid", 1, 1, 0, 0, 1, 0, ("a",)),
        CellSpec("rnn_identity", 1, 1, 0, 0, 1, 0, ("a",)),
        CellSpec("lstm", 4, 4, 0, 0, 2, 0, _LSTM_GATES, ("h", "c")),
        CellSpec("lstm_peephole", 4, 4, 0, 0, 2, 3, _LSTM_GATES, ("h", "c"), ("i", "f", "o")),
        CellSpec("gru", 4, 3, 1, 0, 1, 0, _GRU_GATES),
        CellSpec("gru_reset_before", 3, 3, 0, 1, 1, 0, _GRU_GATES),
        CellSpec("dense", 1, 1, 1, 0, 1, 0, ("a",)),
        # Activations chosen at run time; this LSTM always takes peepholes, zeros if there are none.
        CellSpec("rnn_chosen", 1, 1, 0, 0, 1, 0, ("a",)),
        CellSpec("lstm_chosen", 4, 4, 0, 0, 2, 3, _LSTM_GATES, ("h", "c"), ("i", "f", "o")),
        CellSpec("gru_chosen", 4, 3, 1, 0, 1, 0, _GRU_GATES),
        CellSpec("gru_reset_before_chosen", 3, 3, 0, 1, 1, 0, _GRU_GATES),
        # Layer normalisation needs W x and R h separately, so each has slots of its own.
        CellSpec("lstm_norm", 8, 4, 4, 0, 2, 10, _LSTM_GATES, ("h", "c"), norm=True),
        CellSpec("gru_norm", 6, 3, 3, 0, 1, 6, _GRU_GATES, norm=True),
    )
}
