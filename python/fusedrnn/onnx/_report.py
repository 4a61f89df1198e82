"""What is known of a prepared model: which node runs where, and whether a warning was given."""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple, TypeAlias

from .. import _protos
from . import _errors

RunsOn: TypeAlias = Literal["kernel", "reference", "control", "constant"]
# Elements of the largest array that a node reads or writes. NumPy adds this many numbers in about a
# millisecond; onnx.reference takes seconds to convolve them.
LARGE = 1 << 20


class SlowNodeWarning(RuntimeWarning):
    """A node works on large arrays and runs on onnx.reference, which is correct but slow.

    Examples
    --------
    >>> import warnings
    >>> import fusedrnn as fr
    >>> with warnings.catch_warnings():  # in the block such nodes are errors
    ...     warnings.simplefilter("error", fr.onnx.SlowNodeWarning)
    ...     fr.onnx.export(fr.GRU(3, 8), "gru.onnx")
    ...     rep = fr.onnx.prepare("gru.onnx")
    """


class Placement(NamedTuple):
    """Where one node runs.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> fr.onnx.export(fr.GRU(3, 8), "gru.onnx")
    >>> placements = fr.onnx.prepare("gru.onnx").report()
    >>> [place.operator for place in placements if place.runs_on == "kernel"]
    ['GRU']
    """

    path: str
    """Labels of the nodes and bodies around it, and its own, joined by "/"."""
    operator: str
    """Its operator, with the domain before it if that is not ONNX's own."""
    runs_on: RunsOn
    """
    "kernel": fusedrnn's kernels. "reference": onnx.reference. "control": If, Loop, Scan or a call
    of a function; the nodes inside have placements of their own. "constant": computed once, in
    ``prepare``.
    """


class Report(tuple[Placement, ...]):
    """The placements of all nodes, in the order of the graph; as text, a table.

    Examples
    --------
    >>> import fusedrnn as fr
    >>> fr.onnx.export(fr.nn.Dense(3, 8), "dense.onnx")
    >>> print(fr.onnx.prepare("dense.onnx").report())
    kernel     MatMul    product
    reference  Add       sum
    reference  Identity  y
    """

    def __str__(self) -> str:
        widths = [max((len(row[k]) for row in self), default=0) for k in (2, 1)]
        return "\n".join(
            f"{row.runs_on:{widths[0]}}  {row.operator:{widths[1]}}  {row.path}" for row in self
        )


class Ledger:
    """Collects the placements of one model while it is prepared, and warns once when it runs."""

    def __init__(self) -> None:
        self.placements: list[Placement] = []
        self._nodes = 0
        self._warned = False

    def count(self, where: str) -> None:
        """Count a node; functions that call one another may make more than can be run."""
        self._nodes += 1
        if self._nodes > _protos.MAX_NODES:
            expected = f"at most {_protos.MAX_NODES}, those of called functions included"
            _errors.differs(where, "nodes of the model", expected, "more")

    def place(self, path: str, operator: str, runs_on: RunsOn) -> int:
        """Note where a node runs; returns the index of the note."""
        self.placements.append(Placement(path, operator, runs_on))
        return len(self.placements) - 1

    def warn_once(self, where: str, size: int) -> None:
        """Warn of the first large array of this model that runs through onnx.reference."""
        if not self._warned:
            self._warned = True
            text = (
                f"{where}: an array of {size} elements runs through onnx.reference, which is right "
                "and slow; rep.report() says which nodes do. This is said once for each model."
            )
            warnings.warn(text, SlowNodeWarning, stacklevel=2)
