"""Optimisers: SGD, Adam, AdamW and RMSprop, with moments for each layer that they step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _checks
from ._moments import MeanAndSquare, SquareAndVelocity, Velocity
from ._optimizer import Hyperparameter, Optimizer

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]

Array = NDArray[Any]
Work = tuple[Array, ...]


class SGD(Optimizer[Velocity]):
    """Stochastic gradient descent with torch's defaults, formula and order of operations.

    ``g += weight_decay * p``; ``v = momentum * v + g``; ``p -= lr * v``, or with Nesterov's
    momentum ``p -= lr * (g + momentum * v)``.

    State, copies and files are as those of `Adam`.

    Parameters
    ----------
    lr : float
        Learning rate, at least 0; may be assigned between steps (a schedule).
    momentum : float
        Decay of the velocity v in each step, in [0, 1). With 0 there is no velocity, and v stays
        as it is.
    nesterov : bool
        Whether to look one step of the momentum ahead; needs a momentum.
    weight_decay : float
        Factor of the L2 penalty, at least 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above; also when it is assigned.

    Notes
    -----
    Sources: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964;
    Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013, for Nesterov's momentum. As torch.optim.SGD with dampening=0, the learning
    rate is not part of v, so that a new learning rate takes effect at once.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> p, sgd = {"w": np.array([1.0])}, nn.SGD(0.5, momentum=0.5)
    >>> for _ in range(2):
    ...     sgd.step(p, {"w": p["w"].copy()})  # of the loss w**2 / 2
    >>> p["w"]  # 1 - 0.5 * 1, then 0.5 - 0.5 * (0.5 * 1 + 0.5)
    array([0.])
    """

    momentum = Hyperparameter(_checks.decay, "Decay of the velocity in each step.")
    nesterov = Hyperparameter(_checks.flag, "Whether to look one step of the momentum ahead.")
    weight_decay = Hyperparameter(_checks.not_negative, "Factor of the L2 penalty.")

    _kind = Velocity
    _work_arrays = 2

    def __init__(
        self,
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)

    def _fit_together(self, settings: Mapping[str, Any]) -> None:
        if settings.get("nesterov") and not settings["momentum"]:
            raise ValueError(
                "nesterov: expected a momentum above 0 with nesterov=True, got momentum=0.0"
            )

    def _update(self, p: Array, g: Array, moments: Velocity, work: Work) -> None:
        v, ahead, step = moments.velocity, *work
        g = _penalised(g, p, self.weight_decay, step)
        if self.momentum:
            v *= self.momentum
            v += g
            if self.nesterov:
                np.multiply(v, self.momentum, out=ahead)
                ahead += g
                g = ahead
            else:
                g = v
        np.multiply(g, self.lr, out=step)
        p -= step


class Adam(Optimizer[MeanAndSquare]):
    """Adam with torch's defaults, formula and order of operations.

    ``m += (1 - b1)(g - m)``; ``v = b2 v + (1 - b2) g^2``;
    ``p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)``.

    One optimiser serves any number of layers and models. Its state (m, v and t of each parameter)
    belongs to the layer or model that is stepped: equal names in two layers do not collide, and the
    state is deleted with the layer.

    Parameters
    ----------
    lr : float
        Learning rate, at least 0; may be assigned between steps (a schedule).
    betas : pair of float
        Decay of the running mean of g and of g^2, in [0, 1).
    eps : float
        Added to the denominator, above 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above; also when it is assigned.

    Notes
    -----
    Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015. The order of
    operations is that of torch.optim.Adam. As in torch, each parameter counts the steps in which it
    had a gradient.

    ``copy.deepcopy((model, adam))`` copies both: the copy of the optimiser has the moments of the
    copy of the model. To continue training in another process use
    ``fusedrnn.save(path, model, optimizer=adam)``. An optimiser alone cannot be pickled, because
    its moments would have no owner.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> layer = nn.Dense(3, 2, seed=0)
    >>> adam = nn.Adam(1e-2)
    >>> y, saved = layer.forward(np.ones((4, 3), np.float32))
    >>> _, gradients = layer.backward(saved, 2 * y)  # of the loss sum(y**2)
    >>> nn.clip_global_norm(gradients, max_norm=1.0) > 1
    True
    >>> adam.step(layer, gradients)
    >>> bool((layer(np.ones((4, 3), np.float32)) ** 2).sum() < (y**2).sum())
    True
    """

    betas = Hyperparameter(_checks.betas, "Decay of the running mean of g and of g^2.")
    eps = Hyperparameter(_checks.epsilon, "The number that is added to the denominator.")

    _kind = MeanAndSquare

    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(lr=lr, betas=betas, eps=eps)

    def _update(self, p: Array, g: Array, moments: MeanAndSquare, work: Work) -> None:
        b1, b2 = self.betas
        rate = self.lr / (1.0 - b1**moments.steps)
        root = math.sqrt(1.0 - b2**moments.steps)
        m, v, (change,) = moments.mean, moments.square, work
        np.subtract(g, m, out=change)
        change *= 1.0 - b1
        m += change
        np.multiply(g, g, out=change)
        change *= 1.0 - b2
        v *= b2
        v += change
        np.sqrt(v, out=change)
        change /= root
        change += self.eps
        np.divide(m, change, out=change)
        change *= rate
        p -= change


class AdamW(Adam):
    """Adam with decoupled weight decay, with torch's defaults, formula and order of operations.

    ``p *= 1 - lr * weight_decay``, and then the update of `Adam`. The decay is not divided by the
    running mean of g^2, as an L2 penalty would be.

    Parameters
    ----------
    lr, betas, eps
        As in `Adam`.
    weight_decay : float
        Decay of the parameters, at least 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above; also when it is assigned.

    Notes
    -----
    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019. As in
    torch.optim.AdamW, the decay is multiplied by the learning rate. Parameters without a gradient
    do not decay.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> p, adamw = {"w": np.array([2.0])}, nn.AdamW(0.1, weight_decay=0.5)
    >>> adamw.step(p, {"w": np.array([0.0])})
    >>> p["w"]
    array([1.9])
    """

    weight_decay = Hyperparameter(_checks.not_negative, "Decay of the parameters.")

    def __init__(
        self,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(lr, betas=betas, eps=eps)
        self.weight_decay = weight_decay

    def _update(self, p: Array, g: Array, moments: MeanAndSquare, work: Work) -> None:
        p *= 1.0 - self.lr * self.weight_decay
        super()._update(p, g, moments, work)


class RMSprop(Optimizer[SquareAndVelocity]):
    """RMSprop with torch's defaults, formula and order of operations.

    ``g += weight_decay * p``; ``s = alpha * s + (1 - alpha) * g^2``; ``p -= lr * g / (sqrt(s) +
    eps)``, or with momentum ``v = momentum * v + g / (sqrt(s) + eps)``; ``p -= lr * v``.

    State, copies and files are as those of `Adam`.

    Parameters
    ----------
    lr : float
        Learning rate, at least 0; may be assigned between steps (a schedule).
    alpha : float
        Decay of the running mean s of g^2, in [0, 1).
    eps : float
        Added to the denominator, above 0.
    momentum : float
        Decay of the velocity v in each step, in [0, 1). With 0 there is no velocity, and v stays
        as it is.
    weight_decay : float
        Factor of the L2 penalty, at least 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not as above; also when it is assigned.

    Notes
    -----
    Source: Tieleman and Hinton, "Lecture 6.5 - RMSprop: divide the gradient by a running average of
    its recent magnitude", Coursera, 2012. As in torch.optim.RMSprop, s has no bias correction, so
    the first steps are large: with g constant the first one is lr / sqrt(1 - alpha). torch's
    centered=True is not offered.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> p, rmsprop = {"w": np.zeros(1)}, nn.RMSprop(0.01, alpha=0.75)
    >>> rmsprop.step(p, {"w": np.array([3.0])})
    >>> p["w"].round(6)
    array([-0.02])
    """

    alpha = Hyperparameter(_checks.decay, "Decay of the running mean of g^2.")
    eps = Hyperparameter(_checks.epsilon, "The number that is added to the denominator.")
    momentum = Hyperparameter(_checks.decay, "Decay of the velocity in each step.")
    weight_decay = Hyperparameter(_checks.not_negative, "Factor of the L2 penalty.")

    _kind = SquareAndVelocity
    _work_arrays = 2

    def __init__(
        self,
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr=lr, alpha=alpha, eps=eps, momentum=momentum, weight_decay=weight_decay)

    def _update(
        self, p: Array, g: Array, moments: SquareAndVelocity, work: tuple[Array, ...]
    ) -> None:
        s, v, root, step = moments.square, moments.velocity, *work
        g = _penalised(g, p, self.weight_decay, step)
        np.multiply(g, 1.0 - self.alpha, out=root)
        root *= g
        s *= self.alpha
        s += root
        np.sqrt(s, out=root)
        root += self.eps
        if self.momentum:
            np.divide(g, root, out=root)
            v *= self.momentum
            v += root
            np.multiply(v, self.lr, out=step)
        else:
            np.multiply(g, self.lr, out=step)
            step /= root
        p -= step


def _penalised(g: Array, p: Array, weight_decay: float, out: Array) -> Array:
    """Return the gradient with that of an L2 penalty added, in `out`; `g` if there is none."""
    if not weight_decay:
        return g
    np.multiply(p, weight_decay, out=out)
    out += g
    return out
