"""Optimisation: Adam, with state for each layer that it steps, and clipping by global norm."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .._interrupts import uninterrupted
from . import _checks
from ._moments import Moments, named, read
from ._targets import Kept, Parameter, Resolved, Target, resolve

__all__ = ["Adam", "clip_global_norm"]

Array = NDArray[Any]

# What torch.nn.utils.clip_grad_norm_ adds to the norm before dividing.
NORM_EPSILON = 1e-6
# A sum of squares between these lost nothing to overflow or underflow in float64.
SMALLEST_SUM, LARGEST_SUM = 1e-280, math.inf


class Adam:
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
        self._kept: Kept[Moments] = Kept()

    @property
    def lr(self) -> float:
        """Learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = _checks.learning_rate(value)

    @property
    def betas(self) -> tuple[float, float]:
        """Decay of the running mean of g and of g^2."""
        return self._betas

    @betas.setter
    def betas(self, value: tuple[float, float]) -> None:
        self._betas = _checks.betas(value)

    @property
    def eps(self) -> float:
        """The number that is added to the denominator."""
        return self._eps

    @eps.setter
    def eps(self, value: float) -> None:
        self._eps = _checks.epsilon(value)

    def __repr__(self) -> str:
        return f"Adam(lr={self.lr}, betas={self.betas}, eps={self.eps})"

    def step(self, target: Target, grads: Mapping[str, Array]) -> None:
        """Update the parameters of a layer or model by one step along `grads`.

        Parameters
        ----------
        target : layer or model; or mapping of str to ndarray
            The parameters to update. A layer or model (an object with ``params`` and
            ``writable()``) is opened here; inside ``with layer.writable() as params`` pass
            `params`. The moments of a layer's parameter belong to the layer, however it is reached:
            through the layer, a model that contains it, what ``writable()`` yields, or a dict made
            of these. Other arrays are updated in place. Their moments belong to their memory, not
            to their name: all views of the same numbers share them, and they are deleted with the
            array that owns the memory.
        grads : mapping of str to ndarray
            Gradients by the names of `target`, of the same shapes and dtypes; not changed.
            Parameters without a gradient, and their moments, stay as they are.

        Raises
        ------
        TypeError
            `target` or `grads` is something else, or a gradient is not of its parameter's dtype.
        ValueError
            A gradient has no parameter or another shape, a parameter is read-only, or two
            parameters of a mapping share memory.
        RuntimeError
            The layer is open already: inside ``with layer.writable() as p`` pass `p`.

        Notes
        -----
        A step is complete or has no effect: errors are raised before anything is changed, and
        Ctrl-C waits for the end. Gradients that are not finite are used as they are and spoil the
        parameters, as in torch. The norm that `clip_global_norm` returns is then not finite, so a
        caller can notice before the step.
        """
        found = resolve(target)
        given = _checks.gradients(grads, "grads")
        sizes: dict[np.dtype[Any], int] = {}
        for name, g in given.items():
            _fits(name, g, found.parameters)
            self._moments(name, found.parameters[name])
            sizes[g.dtype] = max(g.size, sizes.get(g.dtype, 0))
        work = {dtype: np.empty(size, dtype) for dtype, size in sizes.items()}
        with uninterrupted(), found.open() as params, np.errstate(all="ignore"):
            self._write(found, params, given, work)
            del params  # its references would make a layer copy its arrays at the end of the block

    def _write(
        self,
        found: Resolved,
        params: Mapping[str, Array],
        given: Mapping[str, Array],
        work: Mapping[np.dtype[Any], Array],
    ) -> None:
        opened, parameters = found.opened(params, given), found.parameters
        # Only now does this thread have the layer to itself, so read the moments here.
        moments = {name: self._moments(name, parameters[name]) for name in given}
        # Nothing has changed so far, and nothing below fails.
        for name, g in given.items():
            self._kept.put(*parameters[name].place, moments[name])
            buffer = work[g.dtype][: g.size].reshape(g.shape)
            self._update(opened[name], g, moments[name], buffer)

    def _update(self, p: Array, g: Array, moments: Moments, work: Array) -> None:
        b1, b2 = self.betas
        moments.steps += 1
        rate = self.lr / (1.0 - b1**moments.steps)
        root = math.sqrt(1.0 - b2**moments.steps)
        m, v = moments.mean, moments.square
        np.subtract(g, m, out=work)
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

    def _moments(self, name: str, p: Parameter) -> Moments:
        """Return the moments of a parameter."""
        moments = self._kept.of(p.owner).get(p.key)
        if moments is None:
            return Moments.of(p.shape, p.dtype)
        if (moments.mean.shape, moments.mean.dtype) != (p.shape, p.dtype):
            raise ValueError(
                f"target[{name!r}]: is {p.dtype} {p.shape}, and its moments are "
                f"{moments.mean.dtype} {moments.mean.shape}; it was replaced since the last step"
            )
        return moments

    def state_dict(self, target: Target) -> dict[str, Array]:
        """Copy the state of a target: with the parameters, all that a later run needs.

        Parameters
        ----------
        target : layer or model; or mapping of str to ndarray
            As in `step`.

        Returns
        -------
        dict of str to ndarray
            For each parameter ``steps.<name>``, an int64 of shape (), and ``mean.<name>`` and
            ``square.<name>``, shaped as the parameter; zeros if it was never stepped. `lr`, `betas`
            and `eps` are not part of it.

        Raises
        ------
        TypeError
            `target` is something else.
        """
        state: dict[str, Array] = {}
        for name, p in resolve(target).parameters.items():
            state |= named(name, self._moments(name, p).copy())
        return state

    def load_state_dict(self, target: Target, state: Mapping[str, Array]) -> None:
        """Make a copy of `state` the state of `target`.

        Parameters
        ----------
        target : layer or model; or mapping of str to ndarray
            As in `step`.
        state : mapping of str to ndarray
            What `state_dict` returned for a target of the same names, shapes and dtypes.

        Raises
        ------
        TypeError
            `target` or `state` is something else.
        ValueError
            Lists what is missing, unexpected, or not as `state_dict` wrote it; nothing was changed.
        """
        parameters = resolve(target).parameters
        for name, moments in read(state, parameters).items():
            self._kept.put(*parameters[name].place, moments)

    def __deepcopy__(self, memo: dict[int, Any]) -> Adam:
        """Return an optimiser with the same settings, and with moments for targets and copies."""
        twin = Adam(self.lr, betas=self.betas, eps=self.eps)
        memo[id(self)] = twin
        for owner in self._kept.owners():
            values = self._kept.of(owner)
            if not all(isinstance(key, str) for key in values):
                raise TypeError(
                    "Adam: cannot be copied, because it keeps moments of arrays that belong to no "
                    "layer; copy them with state_dict(target) and load_state_dict(target, state)"
                )
            for other in (owner, copy.deepcopy(owner, memo)):
                for key, moments in values.items():
                    twin._kept.put(other, key, moments.copy())
        return twin

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "Adam: cannot be pickled or copied by itself, because its moments belong to the layers "
            "that it steps; fusedrnn.save(path, model, optimizer=adam) writes both, and "
            "copy.deepcopy((model, adam)) copies both"
        )


def _fits(name: str, g: Array, parameters: Mapping[str, Parameter]) -> None:
    """Refuse a gradient that does not fit its parameter."""
    p = parameters.get(name)
    if p is None:
        raise ValueError(
            f"grads[{name!r}]: the target has no parameter of this name; it has "
            f"{', '.join(parameters)}"
        )
    if g.shape != p.shape:
        each = g.shape[1:] == p.shape
        raise ValueError(
            f"grads[{name!r}]: expected shape {p.shape}, got {g.shape}"
            f"{'; sum or average per-sample gradients over their first axis' if each else ''}"
        )
    if g.dtype != p.dtype:
        raise TypeError(f"grads[{name!r}]: expected {p.dtype}, as its parameter is, got {g.dtype}")


def clip_global_norm(*gradients: Mapping[str, Array], max_norm: float = 1.0) -> float:
    """Scale all gradients, in place, so that their joint Euclidean norm is at most `max_norm`.

    Parameters
    ----------
    *gradients : mapping of str to ndarray
        One mapping for each layer or model, as `backward` returned it. Names may be equal in
        several mappings. Do not merge the mappings into one dict: of equal names only the last
        would remain.
    max_norm : float
        The bound, above 0; with infinity the norm is measured and nothing is scaled.

    Returns
    -------
    float
        The norm of all gradients together before clipping, accumulated in float64. If it is not
        finite (the gradients exploded), nothing was scaled.

    Raises
    ------
    TypeError
        There is no mapping, an argument is not one, or `max_norm` is not a number.
    ValueError
        `max_norm` is not positive, an array is read-only, or two share memory (a mapping given
        twice), which would scale it twice; nothing was scaled.

    Notes
    -----
    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
    networks", ICML 2013; factor max_norm / (norm + 1e-6) as torch.nn.utils.clip_grad_norm_.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import nn
    >>> first, second = {"w": np.full(4, 1.5)}, {"w": np.full(4, 2.0)}
    >>> nn.clip_global_norm(first, second, max_norm=1.0)
    5.0
    >>> bool(np.isclose(np.linalg.norm(first["w"]), 0.6))
    True
    """
    bound = _checks.positive(max_norm, "max_norm")
    if not gradients:
        raise TypeError("clip_global_norm: expected at least one mapping of names to arrays")
    arrays: list[tuple[str, Array]] = []
    for k, mapping in enumerate(gradients):
        if isinstance(mapping, (int, float, np.number)):
            raise TypeError(
                f"gradients[{k}]: expected a mapping of names to arrays, got {mapping}; "
                f"write max_norm={mapping}"
            )
        named = _checks.gradients(mapping, f"gradients[{k}]")
        arrays += [(f"gradients[{k}][{name!r}]", g) for name, g in named.items()]
    for name, g in arrays:
        if not g.flags.writeable:
            raise ValueError(f"{name}: is read-only, and clipping scales in place; pass a copy")
    _checks.distinct(arrays)
    norm = _norm([g for _, g in arrays])
    factor = bound / (norm + NORM_EPSILON)
    if math.isfinite(norm) and factor < 1.0:
        with uninterrupted(), np.errstate(all="ignore"):
            for _, g in arrays:
                g *= factor
    return norm


def _norm(arrays: list[Array]) -> float:
    """Return the Euclidean norm of all numbers; its order of summation is always the same."""
    # Squares in float64: float32 gradients of 1e20 have a finite norm. np.dot is not used, because
    # its order of summation depends on the number of BLAS threads.
    with np.errstate(all="ignore"):
        total = sum(float(np.square(g, dtype=np.float64).sum()) for g in arrays)
        if SMALLEST_SUM < total < LARGEST_SUM:
            return math.sqrt(total)
        if math.isnan(total):
            return math.nan
        largest = max((float(np.abs(g).max()) for g in arrays if g.size), default=0.0)
        if largest in (0.0, math.inf):
            return largest
        scaled = (np.divide(g, largest, dtype=np.float64) for g in arrays)
        return largest * math.sqrt(sum(float(np.square(g).sum()) for g in scaled))
