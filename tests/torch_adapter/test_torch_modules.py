"""torch's own ModuleInfo cases of the six modules, from its test suite, run with ours."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

import fusedrnn.torch as ft
from fusedrnn import core
from torch_adapter.same import CELLS, DOUBLE, LAYERS, flat

infos: Any = pytest.importorskip(
    "torch.testing._internal.common_modules", reason="torch's cases need expecttest"
)


def cases(name: str, training: bool) -> list[tuple[Any, Any]]:
    """The (constructor, forward) inputs of torch's database."""
    (info,) = [one for one in infos.module_db if one.module_cls is getattr(torch.nn, name)]
    inputs = info.module_inputs_func(
        info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
    )
    return [(one.constructor_input, one.forward_input) for one in inputs]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_torchs_own_cases(name: str, training: bool) -> None:
    """Forward, gradients, state_dict, repr and pickling; every case has a kernel call."""
    found = cases(name, training)
    assert found
    for made, given in found:
        pair = []
        for home in (torch.nn, ft):
            torch.manual_seed(0)
            module = getattr(home, name)(*made.args, **made.kwargs).to(torch.float64)
            pair.append(module.train(training))
        stock, mine = pair
        assert repr(stock) == repr(mine)
        mine.load_state_dict(stock.state_dict())
        results = []
        for module in (stock, pickle.loads(pickle.dumps(mine))):
            args, kwargs = copy.deepcopy((given.args, given.kwargs))
            before = sum(core.path_counts().values())
            torch.manual_seed(1)
            outputs = flat(module(*args, **kwargs))
            if module is not stock:
                assert sum(core.path_counts().values()) > before, (made, given)
            sum(t.square().sum() for t in outputs).backward()
            leaves = [t for t in flat([args, list(kwargs.values())]) if t.requires_grad]
            results.append(
                [*outputs, *(t.grad for t in leaves), *(p.grad for p in module.parameters())]
            )
        assert len(results[0]) == len(results[1])
        for right, ours in zip(*results, strict=True):
            if right is None or ours is None:
                assert right is ours
                continue
            assert ours.shape == right.shape
            worst = float((ours - right).detach().abs().max())
            assert worst <= DOUBLE * max(1.0, float(right.detach().abs().max()))
