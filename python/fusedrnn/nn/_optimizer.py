"""What all optimisers share: steps that are complete or have no effect, moments, hyperparameters.

An optimiser is a subclass of `Optimizer` with its hyperparameters, the kind of its moments and the
formula of one update.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Generic, NoReturn, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from .._interrupts import uninterrupted
from . import _checks
from ._moments import Moments, named, read
from ._targets import Kept, Parameter, Resolved, Target, resolve

__all__ = ["Hyperparameter", "Optimizer"]

Array = NDArray[Any]
M = TypeVar("M", bound=Moments)
V = TypeVar("V")
Twin = TypeVar("Twin", bound="Optimizer[Any]")  # typing.Self came with Python 3.11


class Hyperparameter(Generic[V]):
    """An attribute of an optimiser, which is checked whenever it is assigned."""

    def __init__(self, check: Callable[[object, str], V], doc: str) -> None:
        self._check = check
        self.__doc__ = doc

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, optimizer: None, owner: type[Any]) -> Hyperparameter[V]: ...
    @overload
    def __get__(self, optimizer: Optimizer[Any], owner: type[Any]) -> V: ...
    def __get__(self, optimizer: Optimizer[Any] | None, owner: type[Any]) -> Hyperparameter[V] | V:
        if optimizer is None:
            return self
        value: V = optimizer._settings[self._name]
        return value

    def __set__(self, optimizer: Optimizer[Any], value: V) -> None:
        settings = {**optimizer._settings, self._name: self._check(value, self._name)}
        optimizer._fit_together(settings)
        optimizer._settings = settings


class Optimizer(Generic[M]):
    """The base of all optimisers.

    One optimiser serves any number of layers and models. Its moments belong to the layer or model
    that is stepped.
    """

    lr = Hyperparameter(
        _checks.learning_rate, "Learning rate; may be assigned between steps (a schedule)."
    )

    # Set by each optimiser: the class of its moments, and the number of arrays of a parameter's
    # size that an update needs to compute in.
    _kind: type[M]
    _work_arrays = 1

    def __init__(self, **settings: Any) -> None:
        self._kept: Kept[M] = Kept()
        self._settings: dict[str, Any] = {}
        for name, value in settings.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._settings.items())
        return f"{type(self).__name__}({settings})"

    def _fit_together(self, settings: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that exclude each other; each one by itself is right."""

    def _update(self, p: Array, g: Array, moments: M, work: tuple[Array, ...]) -> None:
        """Update a parameter and its moments, in place and without allocating an array.

        `work` has `_work_arrays` arrays of the shape and dtype of the parameter, with any content.
        """
        raise NotImplementedError

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
        count = self._work_arrays
        work = {dtype: np.empty(count * size, dtype) for dtype, size in sizes.items()}
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
        count = self._work_arrays
        # Only now does this thread have the layer to itself, so read the moments here.
        moments = {name: self._moments(name, parameters[name]) for name in given}
        # Nothing has changed so far, and nothing below fails.
        for name, g in given.items():
            moments[name].steps += 1
            self._kept.put(*parameters[name].place, moments[name])
            places = (work[g.dtype][k * g.size : (k + 1) * g.size] for k in range(count))
            buffers = tuple(place.reshape(g.shape) for place in places)
            self._update(opened[name], g, moments[name], buffers)

    def _moments(self, name: str, p: Parameter) -> M:
        """Return the moments of a parameter."""
        moments = self._kept.of(p.owner).get(p.key)
        if moments is None:
            return self._kind.of(p.shape, p.dtype)
        array = moments.first
        if (array.shape, array.dtype) != (p.shape, p.dtype):
            raise ValueError(
                f"target[{name!r}]: is {p.dtype} {p.shape}, and its moments are "
                f"{array.dtype} {array.shape}; it was replaced since the last step"
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
            For each parameter ``steps.<name>``, an int64 of shape (), and the arrays that the
            optimiser keeps, such as ``mean.<name>``, shaped as the parameter; zeros if it was never
            stepped. The hyperparameters are not part of it, and no name depends on them.

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
        for name, moments in read(state, parameters, self._kind).items():
            self._kept.put(*parameters[name].place, moments)

    def __deepcopy__(self: Twin, memo: dict[int, Any]) -> Twin:  # noqa: PYI019
        """Return an optimiser with the same settings, and with moments for targets and copies."""
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        others = {name: value for name, value in vars(self).items() if name != "_kept"}
        vars(twin).update(copy.deepcopy(others, memo), _kept=Kept())
        for owner in self._kept.owners():
            values = self._kept.of(owner)
            if not all(isinstance(key, str) for key in values):
                raise TypeError(
                    f"{type(self).__name__}: cannot be copied, because it keeps moments of arrays "
                    "that belong to no layer; copy them with state_dict(target) and "
                    "load_state_dict(target, state)"
                )
            for other in (owner, copy.deepcopy(owner, memo)):
                for key, moments in values.items():
                    twin._kept.put(other, key, moments.copy())
        return twin

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        name = type(self).__name__
        raise TypeError(
            f"{name}: cannot be pickled or copied by itself, because its moments belong to the "
            f"layers that it steps; fusedrnn.save(path, model, optimizer={name.lower()}) writes "
            f"both, and copy.deepcopy((model, {name.lower()})) copies both"
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
