"""What layers and cells share: packs outside the module's state, freezing, copies, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ._options import Options
from ._packs import Packs

Tensor = Any
_PACKS = "_fusedrnn_packs"
_TORCHS = Options()


class Fused:
    """A mixin before a class of torch, whose instances `accelerate` may give this class later.

    So nothing here is set by a constructor: packs are made when they are first needed, and an
    instance without options has those of the class.
    """

    _own: Options = _TORCHS
    training: bool
    parameters: Any

    def _make_packs(self) -> Packs:
        raise NotImplementedError

    def _packs(self) -> Packs:
        found: Packs | None = self.__dict__.get(_PACKS)
        if found is None:
            found = self.__dict__[_PACKS] = self._make_packs()
        return found

    def _tensor(self, name: str) -> Tensor:
        """Return a weight: a parameter, or what weight_norm, prune or functional_call replaced."""
        found = self.__dict__["_parameters"].get(name)
        return getattr(self, name) if found is None else found

    def freeze(self) -> None:
        """Promise that the weights will not be written, so that calls need not compare them.

        The promise holds for calls without gradients of weights, until `unfreeze`. If other tensors
        replace the weights (`load_state_dict`, `to`, `functional_call`), calls still notice.
        """
        self._packs().freeze(True)

    def unfreeze(self) -> None:
        """Withdraw the promise of `freeze`."""
        self._packs().freeze(False)

    def _forget(self) -> None:
        found: Packs | None = self.__dict__.get(_PACKS)
        if found is not None:
            found.forget()

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._apply(*args, **kwargs)  # type: ignore[misc]
        self._forget()
        return result

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[misc]
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        parents = getattr(super(), "__getstate__", None)
        state = parents() if parents is not None else None
        state = dict(self.__dict__ if not isinstance(state, Mapping) else state)
        state.pop(_PACKS, None)
        return state

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "qconfig":
            raise RuntimeError(
                "torch.ao.quantization knows torch's own layers only and would pass over this "
                f"{type(self).__name__} in silence: call fusedrnn.torch.restore(model) before "
                "quantizing"
            )
        super().__setattr__(name, value)

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """Return what torch.jit.script compiles: torch's own module on the same parameters."""
        if self._own != _TORCHS:
            raise RuntimeError(
                f"{type(self).__name__}: torch.jit.script cannot compile the options "
                f"{self._own.shown()[2:]}"
            )
        twin = type(self).__new__(torchs_class(type(self)))
        twin.__dict__.update(self.__dict__)
        twin.__dict__.pop(_PACKS, None)
        return twin


def torchs_class(ours: type) -> Any:
    """Return the class of torch that a fused class replaces."""
    return next(one for one in ours.__mro__ if one.__module__.startswith("torch.nn."))
