"""Options that torch's layers do not have, given as keywords: the parameters and cell they need.

They are those of `fusedrnn.RNN`, `LSTM` and `GRU` (docs/cells.md, docs/noise.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .. import core

Tensor = Any
ActivationLike = Any  # a name, (name, alpha) or (name, alpha, beta)


class Kind(NamedTuple):
    """The kernels' view of a class of torch."""

    cell: str
    chosen: str  # the same cell with chosen activations
    norm: str | None
    gates: tuple[str, ...]  # row blocks of the weights
    usual: tuple[str, ...]  # activations: of gates, of the candidate, of c' on the output path
    states: int


KINDS = {
    "RNN_TANH": Kind("rnn_tanh", "rnn_chosen", None, ("a",), ("tanh",), 1),
    "RNN_RELU": Kind("rnn_relu", "rnn_chosen", None, ("a",), ("relu",), 1),
    "LSTM": Kind("lstm", "lstm_chosen", "lstm_norm", tuple("ifgo"), ("sigmoid", "tanh", "tanh"), 2),
    "GRU": Kind("gru", "gru_chosen", "gru_norm", tuple("rzn"), ("sigmoid", "tanh"), 1),
}
# Nonlinearities of an RNN that have a kernel, and that torch does not have.
OWN_RNN = ("sigmoid", "identity")


class Options(NamedTuple):
    """The options of one module; the defaults are torch's behaviour."""

    nonlinearity: ActivationLike = None  # RNN: other than tanh and relu
    peepholes: bool = False
    layer_norm: bool = False
    activations: tuple[ActivationLike, ...] | None = None
    clip: float | None = None
    coupled: bool = False
    forget_bias: float | None = None
    reset_after: bool = True
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    zoneout: float | tuple[float, float] = 0.0
    drop_connect: float = 0.0

    def shown(self) -> str:
        """Return the options that differ from the defaults, as in a repr."""
        usual = Options()
        return "".join(
            f", {name}={value!r}"
            for name, value in zip(self._fields, self, strict=True)
            if value != getattr(usual, name) and name != "nonlinearity"
        )

    def checked(self, kind: Kind) -> Options:
        """Check rates and combinations; return the options."""
        for name in ("input_dropout", "recurrent_dropout", "drop_connect"):
            _rate(name, getattr(self, name))
        rates = self.zoneout if isinstance(self.zoneout, tuple) else (self.zoneout,)
        if len(rates) not in (1, kind.states):
            raise ValueError(f"zoneout: expected a number or {kind.states}, got {self.zoneout!r}")
        for rate in rates:
            _rate("zoneout", rate)
        rival = [
            name
            for name in ("peepholes", "activations", "clip", "coupled")
            if getattr(self, name) != getattr(_TORCHS, name)
        ]
        if self.layer_norm and not self.reset_after:
            rival.append("reset_after=False")
        if self.layer_norm and rival:
            raise ValueError(f"layer_norm: cannot be combined with {', '.join(rival)}")
        if self.forget_bias is not None and self.coupled:
            raise ValueError("forget_bias: a coupled forget gate has no bias of its own")
        self.cell(kind)
        return self

    def cell(self, kind: Kind) -> tuple[str, core.Options | None]:
        """Return the cell, and its options if it takes any."""
        if kind.states == 1 and len(kind.gates) == 1:
            return self._rnn(kind)
        given = kind.usual if self.activations is None else self.activations
        if len(given) != len(kind.usual):
            raise TypeError(f"activations: expected {len(kind.usual)} of them, got {given!r}")
        chosen = [core.activation(one, "activations") for one in given]
        usual = [core.activation(one, "activations") for one in kind.usual]
        before = "" if self.reset_after else "_reset_before"
        if chosen == usual and self.clip is None and not self.coupled:
            if self.layer_norm:
                assert kind.norm is not None
                return kind.norm, None
            return kind.cell + ("_peephole" if self.peepholes else before), None
        f, g, h = (*chosen, chosen[-1])[:3]
        name = f"{kind.cell}{before}_chosen" if before else kind.chosen
        return name, core.Options(f, g, h, _clip(self.clip), self.coupled)

    def _rnn(self, kind: Kind) -> tuple[str, core.Options | None]:
        name = self.nonlinearity or kind.usual[0]
        if self.clip is None and name in (*OWN_RNN, "tanh", "relu"):
            return f"rnn_{name}", None
        f = core.activation(name, "nonlinearity")
        return kind.chosen, core.Options(f, f, f, _clip(self.clip))

    def extras(self, kind: Kind, hidden: int, bias: bool) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return the parameters that torch lacks: name without suffix -> core's name, shape."""
        rows = len(kind.gates) * hidden
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        if self.peepholes:
            found["weight_p"] = ("p", (3, hidden))
        if self.layer_norm:
            found["weight_norm_ih"] = ("norm_ih", (rows,))
            found["weight_norm_hh"] = ("norm_hh", (rows,))
            if kind.states > 1:
                found["weight_norm_c"] = ("norm_c", (hidden,))
                if bias:
                    found["bias_norm_c"] = ("norm_c_bias", (hidden,))
        return found

    def zoneout_rates(self, kind: Kind) -> tuple[float, float] | None:
        """Return the rates of h and c; None if both are 0."""
        h, c = self.zoneout if isinstance(self.zoneout, tuple) else (self.zoneout, self.zoneout)
        rates = (float(h), float(c) if kind.states > 1 else 0.0)
        return rates if any(rates) else None


_TORCHS = Options()


def _rate(name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise ValueError(f"{name}: expected a number in [0, 1), got {value!r}")


def _clip(value: float | None) -> float:
    if value is None:
        return math.inf
    if not value > 0:
        raise ValueError(f"clip: expected None or a number above 0, got {value!r}")
    return float(value)


def start(module: torch.nn.Module, names: Sequence[str], options: Options, hidden: int) -> None:
    """Set the parameters that torch does not set, and the forget gate's bias, to start values."""
    with torch.no_grad():
        for name in names:
            if name.startswith("weight_norm"):
                getattr(module, name).fill_(1.0)
            elif name.startswith("bias_norm"):
                getattr(module, name).zero_()
        if options.forget_bias is not None:
            for name, p in module.named_parameters(recurse=False):
                if name.startswith("bias_ih"):
                    p[hidden : 2 * hidden].fill_(options.forget_bias)
                elif name.startswith("bias_hh"):
                    p[hidden : 2 * hidden].zero_()


def factors(rate: float, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Draw a mask from torch's generator: 0, or 1 / (1 - rate)."""
    return torch.empty(shape, dtype=like.dtype).bernoulli_(1 - rate).div_(1 - rate)
