"""Optimisation: Adam and clipping by the global norm, both in place over named arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Adam", "clip_global_norm"]

# What torch.nn.utils.clip_grad_norm_ adds to the norm before dividing.
NORM_EPSILON = 1e-6


class Adam:
    """Adam with torch's defaults, formula and order of operations.

    ``m += (1 - b1)(g - m)``; ``v = b2 v + (1 - b2) g^2``;
    ``p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)``.

    Parameters
    ----------
    lr : float
        Learning rate; may be assigned between steps (a schedule).
    betas : pair of float
        Decay of the running mean of g and of g^2.
    eps : float
        Added to the denominator.

    Notes
    -----
    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; the order of
    operations is that of torch.optim.Adam.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.steps = 0
        self._mean: dict[str, NDArray[Any]] = {}
        self._square: dict[str, NDArray[Any]] = {}

    def step(self, params: Mapping[str, NDArray[Any]], grads: Mapping[str, NDArray[Any]]) -> None:
        """Update `params` in place by one step along `grads`.

        Parameters
        ----------
        params : mapping of name to writable ndarray
            The parameters; those without a gradient stay as they are.
        grads : mapping of name to ndarray
            Gradients by the names of `params`, of the same shapes and dtypes. Not changed.

        Raises
        ------
        KeyError
            If a gradient has no parameter.
        ValueError
            If a gradient's shape is not its parameter's. Then nothing was changed.
        """
        for name, g in grads.items():
            if params[name].shape != g.shape:
                raise ValueError(
                    f"grads[{name!r}]: expected shape {params[name].shape}, got {g.shape}"
                )
        self.steps += 1
        b1, b2 = self.betas
        rate = self.lr / (1.0 - b1**self.steps)
        root = math.sqrt(1.0 - b2**self.steps)
        for name, g in grads.items():
            p = params[name]
            if name not in self._mean:
                self._mean[name] = np.zeros_like(p, subok=False)
                self._square[name] = np.zeros_like(p, subok=False)
            m, v = self._mean[name], self._square[name]
            work = np.subtract(g, m)
            work *= 1.0 - b1
            m += work
            np.multiply(g, g, out=work)
            work *= 1.0 - b2
            v *= b2
            v += work
            np.sqrt(v, out=work)
            work /= root
            work += self.eps
            np.divide(m, work, out=work)
            work *= rate
            p -= work

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copy all that a later run needs: ``steps``, ``mean.<name>``, ``square.<name>``."""
        state: dict[str, NDArray[Any]] = {"steps": np.array(self.steps, dtype=np.int64)}
        state.update({f"mean.{name}": m.copy() for name, m in self._mean.items()})
        state.update({f"square.{name}": v.copy() for name, v in self._square.items()})
        return state

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a `state_dict` (copied). `lr`, `betas` and `eps` are not part of it."""
        self.steps = int(state["steps"])
        self._mean = {k[5:]: v.copy() for k, v in state.items() if k.startswith("mean.")}
        self._square = {k[7:]: v.copy() for k, v in state.items() if k.startswith("square.")}


def clip_global_norm(grads: Mapping[str, NDArray[Any]], max_norm: float) -> float:
    """Scale all gradients, in place, so that their joint Euclidean norm is at most `max_norm`.

    Parameters
    ----------
    grads : mapping of name to ndarray
        Gradients, changed in place where their joint norm is too large.
    max_norm : float
        The bound, > 0.

    Returns
    -------
    float
        The norm before clipping, accumulated in float64. If it is not finite (the gradients
        exploded), nothing was scaled: the caller decides.

    Raises
    ------
    ValueError
        If `max_norm` is not positive.

    Notes
    -----
    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
    networks", ICML 2013; factor max_norm / (norm + 1e-6) as torch.nn.utils.clip_grad_norm_.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm: expected a positive number, got {max_norm}")
    # Squares in float64: float32 gradients of 1e20 have a norm too, and np.dot's order of
    # summation would depend on the number of BLAS threads.
    total = sum(float(np.square(g, dtype=np.float64).sum()) for g in grads.values())
    norm = math.sqrt(total)
    factor = max_norm / (norm + NORM_EPSILON)
    if math.isfinite(norm) and factor < 1.0:
        for g in grads.values():
            g *= factor
    return norm
