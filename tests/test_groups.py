"""Weight gradients of groups of sequences in one call, `group=` of `core.backward`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fusedrnn as fr
from cases import CELL_NAMES, RECURRENT, Case, assert_same_bits, call, out_gradients
from conftest import ISAS, THREADS, Chosen
from floor import Backend, Gradients, Inputs, Weights, by_name
from fusedrnn import core
from fusedrnn._cells import Array
from test_invariance import select, select_gradient

BATCH = 6
# A partial sum covers 512 steps of one row, or 170 steps of a group of three: the first case has
# several in each group, and rows that begin in different ones.
CASES = (
    Case(525, BATCH, 2, 5, directions=2, lengths=(525, 7, 0, 400, 513, 40)),
    Case(4, BATCH, 3, 18, directions=2, reset=True, initial=True),
    Case(5, BATCH, 4, 17, tokens=True, bias=False, lengths=(1, 5, 5, 2, 0, 4)),
    Case(3, BATCH, 70, 33),
    Case(0, BATCH, 2, 5),
)


def weight_gradients(found: Gradients) -> dict[str, Array]:
    return {
        f"{name} {d}": a
        for d, of in enumerate(found.directions)
        for name, a in of._asdict().items()
        if a is not None
    }


def by_groups(
    run: Backend, weights: tuple[Weights, ...], inputs: Inputs, group: int
) -> tuple[Gradients, Gradients, list[dict[str, Array]]]:
    """The gradients of a call by groups, of a call without, and of a call on each group alone."""
    gradient = out_gradients(weights, inputs)
    saved = run.forward(weights, inputs, save=True).saved
    assert saved is not None
    alone = []
    for b in range(0, BATCH, group):
        rows = slice(b, b + group)
        part = run.forward(weights, select(inputs, rows), save=True).saved
        assert part is not None
        alone.append(weight_gradients(run.backward(part, *select_gradient(gradient, rows))))
    return run.backward(saved, *gradient, group=group), run.backward(saved, *gradient), alone


@pytest.mark.parametrize("group", [1, 2, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("cell", CELL_NAMES)
def test_a_group_has_the_bits_of_its_own_call(
    native: Chosen, cell: str, case: Case, group: int
) -> None:
    """[O5] And no other gradient changes."""
    if cell not in RECURRENT and (case.lengths or case.reset or case.directions > 1):
        case = replace(case, lengths=None, reset=False, initial=False, directions=1)
    weights, inputs = call(cell, case, "float32")
    found, whole, alone = by_groups(native.run, weights, inputs, group)
    native.ran(f"{cell} float32")
    for k, right in enumerate(alone):
        assert_same_bits({n: a[k] for n, a in weight_gradients(found).items()}, right)
    assert_same_bits(others(found), others(whole))


def others(found: Gradients) -> dict[str, Array]:
    named = {f"dstate {k}": a for k, a in enumerate(found.states)}
    named |= {f"dinitial {k}": a for k, a in enumerate(found.initial)}
    return named if found.dx is None else named | {"dx": found.dx}


def projected(dtype: str = "float32") -> tuple[tuple[Weights, ...], Inputs]:
    """A projected LSTM with drawn zoneout and recurrent dropout."""
    hidden, out, steps = 20, 6, 7
    weights, inputs = call("lstm", Case(steps, BATCH, 3, hidden, states=False), dtype)
    rng = np.random.default_rng(5)

    def flags(*shape: int) -> Array:
        return (rng.random(shape) < 0.6).astype(dtype)

    one = replace(
        weights[0],
        w_hh=np.ascontiguousarray(weights[0].w_hh[:, :out]),
        w_hr=rng.normal(0, 0.3, (out, hidden)).astype(dtype),
    )
    keep = (flags(1, steps, BATCH, out), flags(1, steps, BATCH, hidden))
    noisy = inputs._replace(drop=1.5 * flags(1, BATCH, out), zoneout=(0.4, 0.4), keep=keep)
    return (one,), noisy


@pytest.mark.parametrize("group", [1, 3])
def test_groups_of_a_projection_under_noise(native: Chosen, group: int) -> None:
    """[O5] dW_hr, masks of recurrent dropout and drawn zoneout belong to their rows."""
    weights, inputs = projected()
    dy = np.random.default_rng(1).standard_normal((7, BATCH, 6)).astype("float32")
    saved = native.run.forward(weights, inputs, save=True).saved
    assert saved is not None
    found = weight_gradients(native.run.backward(saved, dy, None, group=group))
    for k in range(BATCH // group):
        rows = slice(k * group, (k + 1) * group)
        part = select(inputs, rows)._replace(
            drop=np.ascontiguousarray(inputs.drop[:, rows]),
            zoneout=inputs.zoneout,
            keep=tuple(np.ascontiguousarray(a[:, :, rows]) for a in inputs.keep),
        )
        alone = native.run.forward(weights, part, save=True).saved
        assert alone is not None
        right = native.run.backward(alone, np.ascontiguousarray(dy[:, rows]), None)
        assert_same_bits({n: a[k] for n, a in found.items()}, weight_gradients(right))


@pytest.mark.parametrize("case", CASES[1:3], ids=str)
@pytest.mark.parametrize("cell", RECURRENT)
def test_groups_on_both_backends(cell: str, case: Case) -> None:
    """[O5] Float64: the compiled kernels and NumPy agree, and the groups add up to the whole."""
    weights, inputs = call(cell, case, "float64")
    runs = [by_name("reference"), *([by_name("native")] if ISAS else [])]
    for run in runs:
        found, whole, alone = by_groups(run, weights, inputs, 2)
        for name, a in weight_gradients(found).items():
            total = weight_gradients(whole)[name]
            bound = 1e-13 * max(1.0, float(np.abs(total).max()))
            assert np.abs(a.sum(axis=0) - total).max() <= bound, (run.name, name)
            for k, right in enumerate(alone):
                assert np.abs(a[k] - right[name]).max() <= bound, (run.name, name)


@pytest.mark.parametrize("isa", ISAS)
def test_threads_divide_groups(isa: str) -> None:
    """[O5] [N1.2] The same bits for every number of threads."""
    weights, inputs = call("lstm_peephole", Case(60, 14, 40, 64), "float32")
    gradient = out_gradients(weights, inputs)
    with fr.use_isa(isa):
        run = by_name("native")
        saved = run.forward(weights, inputs, save=True).saved
        assert saved is not None
        first = weight_gradients(run.backward(saved, *gradient, num_threads=1, group=1))
        for threads in (2, 3, 7):
            found = run.backward(saved, *gradient, num_threads=threads, group=1)
            assert core.last_path().threads > 1 or not THREADS
            assert_same_bits(weight_gradients(found), first)


def test_the_callers_arrays_by_groups(backend: Chosen) -> None:
    """[O5] Arrays with a first axis of groups receive the gradients, or have them added."""
    weights, inputs = call("gru", Case(3, BATCH, 4, 5), "float64")
    dy = out_gradients(weights, inputs)[0]
    packed = backend.run.pack(weights)
    with fr.use_backend(backend.run.name):
        y, _, saved, plan = core.forward(packed, inputs.x, states=inputs.states, saved=True)
        arguments = {"y": y, "saved": saved, "states": inputs.states, "dy": dy, "group": 3}
        new = core.backward(packed, plan, inputs.x, **arguments, want=("w_hh", "b_ih"))
        assert set(new.dweights[0]) == {"w_hh", "b_ih"}
        old = np.random.default_rng(4).standard_normal((2, *packed.arrays[0]["w_hh"].shape))
        for add in (False, True):
            into = old.copy()
            found = core.backward(
                packed,
                plan,
                inputs.x,
                **arguments,
                want=("w_hh",),
                dweights={"w_hh": into},
                add=add,
            )
            assert found.dweights[0]["w_hh"] is into
            right = new.dweights[0]["w_hh"] + (old if add else 0)
            np.testing.assert_array_equal(into, right)


def test_no_sequence_has_no_group(backend: Chosen) -> None:
    weights, inputs = call("lstm", Case(3, 0, 4, 5), "float32")
    saved = backend.run.forward(weights, inputs, save=True).saved
    assert saved is not None
    found = weight_gradients(backend.run.backward(saved, None, None, group=1))
    assert found["dw_hh 0"].shape == (0, 20, 5)


@pytest.mark.parametrize(
    ("group", "error", "text"),
    [
        (4, ValueError, "group: expected a divisor of the batch of 6, got 4"),
        (0, ValueError, "group: expected at least 1, got 0"),
        (1.5, TypeError, "group: expected a whole number, got"),
        (True, TypeError, "group: expected a whole number, got"),
    ],
)
def test_a_group_that_does_not_fit(
    backend: Chosen, group: object, error: type[Exception], text: str
) -> None:
    weights, inputs = call("lstm", Case(3, BATCH, 4, 5), "float32")
    saved = backend.run.forward(weights, inputs, save=True).saved
    assert saved is not None
    with pytest.raises(error, match=text):
        backend.run.backward(saved, None, None, group=group)  # type: ignore[arg-type]
    into = {"w_hh": np.zeros((20, 5), np.float32)}
    with pytest.raises(ValueError, match=r"dweights\['w_hh'\]: .*\(3, 20, 5\)"):
        core.backward(
            saved.packed,
            saved.plan,
            inputs.x,
            y=saved.y,
            saved=saved.data[0],
            states=inputs.states,
            dweights=into,
            group=2,
        )
