"""Options that cases.py leaves out: chosen activations, projection, masks, noise, gates' gradients.

hypothesis draws every option together. The kernels are compared with the reference, and the
reference's gradients with differences along a random line.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedrnn as fr
from cases import ARRAYS, RECURRENT, SIZES, hidden_sizes
from conftest import ISAS
from floor import Backend, Gradients, Inputs, Weights, by_name, reference
from fusedrnn._activations import NAMES, Activation, Options, defaults
from fusedrnn._cells import CELLS, Array

SMOOTH = ("tanh", "sigmoid", "affine", "scaled_tanh", "softsign", "softplus")


class Call:
    """Weights, inputs and incoming gradients of one drawn call."""

    def __init__(self, draw: Any, cell: str, dtype: str, names: tuple[str, ...]) -> None:
        flag = lambda name: draw(st.booleans(), name)  # noqa: E731
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32), "seed"))
        self.spec, self.dtype = CELLS[cell], dtype
        steps, batch = (
            draw(st.integers(0, 7), "T"),
            draw(st.sampled_from((0, 1, 2, 5, 13, 70)), "B"),
        )
        inputs, hidden = draw(st.sampled_from((1, 3, 16, 17)), "I"), draw(hidden_sizes(cell), "H")
        directions, states = 1 + flag("two directions"), self.spec.states
        projected = states == 2 and not self.spec.norm and flag("projected")
        out = draw(SIZES, "P") if projected else hidden
        self.shape = steps, batch, directions, hidden, out
        options = self.options(draw, names) if cell.endswith("_chosen") else None
        scale = 1 / np.sqrt(hidden)
        self.weights = tuple(
            Weights(
                self.spec,
                **{
                    name: self.normal(*shape) * np.asarray(scale, dtype)
                    for name, shape in self.spec.shapes(
                        inputs, hidden, out if projected else 0
                    ).items()
                },
                options=options,
            )
            for _ in range(directions)
        )
        widths = (out, hidden)[:states]
        zoneout = (0.3, 0.2 if flag("zoneout of c") else 0.0) if flag("zoneout") else None
        keep = None
        if zoneout is not None and flag("drawn"):
            keep = tuple(self.flags(0.4, directions, steps, batch, w) for w in widths)
        kind = draw(st.sampled_from(("whole", "lengths", "mask")), "rows")
        x = self.normal(batch, steps, inputs).swapaxes(0, 1)
        first = flag("batch first")
        self.inputs = Inputs(
            x if first else np.ascontiguousarray(x),
            states=self.states(widths) if flag("states") else None,
            lengths=self.rng.integers(0, steps + 1, batch) if kind == "lengths" else None,
            reset=self.rng.random((steps, batch)) < 0.3 if flag("reset") else None,
            initial=self.states(widths) if flag("initial") else None,
            mask=self.rng.random((steps, batch)) < 0.6 if kind == "mask" else None,
            drop=1.5 * self.flags(0.6, directions, batch, out) if flag("drop") else None,
            zoneout=zoneout,
            keep=keep,
            batch_first=first,
        )
        lead = (batch, steps) if first else (steps, batch)
        self.dy = self.normal(*lead, directions * out) if flag("dy") else None
        self.dstates = self.states(widths) if flag("dstates") else None
        of_steps = (directions, steps, batch)
        self.dcells = self.normal(*of_steps, hidden) if states == 2 and flag("dcells") else None
        gates = (*of_steps, self.spec.x_gates, hidden)
        self.dgates = self.normal(*gates) if flag("dgates") else None

    def options(self, draw: Any, names: tuple[str, ...]) -> Options:
        def one() -> Activation:
            name = draw(st.sampled_from(names))
            alpha, beta = defaults(name)
            return Activation(name, alpha + 0.05, beta + 0.1)

        clip = draw(st.sampled_from((np.inf, 0.8)), "clip") if names is NAMES else np.inf
        coupled = self.spec.x_gates == 4 and draw(st.booleans(), "coupled")
        return Options(one(), one(), one(), clip, coupled)

    def normal(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(self.dtype)

    def flags(self, rate: float, *shape: int) -> Array:
        return (self.rng.random(shape) < rate).astype(self.dtype)

    def states(self, widths: tuple[int, ...]) -> tuple[Array, ...]:
        _, batch, directions, _, _ = self.shape
        return tuple(self.normal(directions, batch, width) / 2 for width in widths)

    def run(self, run: Backend, threads: int) -> dict[str, Array]:
        y, states, saved = run.forward(self.weights, self.inputs, save=True, num_threads=threads)
        assert saved is not None
        plain = run.forward(self.weights, self.inputs, save=False, num_threads=threads)
        assert plain.y.tobytes() == y.tobytes()
        g = run.backward(
            saved,
            self.dy,
            self.dstates,
            num_threads=threads,
            dcells=self.dcells,
            dgates=self.dgates,
        )
        return {"y": y, **{f"state {k}": s for k, s in enumerate(states)}, **named(g)}

    def line(self) -> Call:
        """Another call, with a random direction in place of every array that has a gradient."""
        other: Call = object.__new__(Call)
        other.weights = tuple(
            replace(w, **{n: like(self.rng, getattr(w, n)) for n in ARRAYS}) for w in self.weights
        )
        other.inputs = self.inputs._replace(
            x=like(self.rng, self.inputs.x),
            states=None
            if self.inputs.states is None
            else tuple(self.rng.standard_normal(s.shape) for s in self.inputs.states),
        )
        return other

    def moved(self, line: Call, by: float) -> tuple[tuple[Weights, ...], Inputs]:
        weights = tuple(
            replace(w, **{n: plus(getattr(w, n), getattr(v, n), by) for n in ARRAYS})
            for w, v in zip(self.weights, line.weights, strict=True)
        )
        states = self.inputs.states
        if states is not None:
            assert line.inputs.states is not None
            pairs = zip(states, line.inputs.states, strict=True)
            states = tuple(a + by * b for a, b in pairs)
        return weights, self.inputs._replace(
            x=plus(self.inputs.x, line.inputs.x, by), states=states
        )


def like(rng: np.random.Generator, a: Array | None) -> Array | None:
    return None if a is None else rng.standard_normal(a.shape)


def plus(a: Array | None, b: Array | None, by: float) -> Array | None:
    return None if a is None or b is None else a + by * b


def named(g: Gradients) -> dict[str, Array]:
    arrays = {"dx": g.dx} | {f"dstate {k}": s for k, s in enumerate(g.states)}
    for d, of in enumerate(g.directions):
        arrays |= {f"{name} {d}": a for name, a in of._asdict().items()}
    return {name: a for name, a in arrays.items() if a is not None}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cell", RECURRENT)
@settings(max_examples=25)
@given(data=st.data())
def test_native_is_the_reference(isa: str, cell: str, data: st.DataObject) -> None:
    """[L1] [L6] Outputs, states and every gradient, with one thread or three, saved or not."""
    dtype = data.draw(st.sampled_from(("float64", "float64", "float32")), "dtype")
    call = Call(data.draw, cell, dtype, NAMES)
    right = call.run(reference(), 1)
    with fr.use_isa(isa):
        found = call.run(by_name("native"), data.draw(st.sampled_from((1, 3)), "threads"))
        assert fr.last_path()[:3] == ("native", isa, f"{cell} {dtype}")
    assert found.keys() == right.keys()
    bound = 1e-11 if dtype == "float64" else 1e-4
    for name, a in right.items():
        scale = max(1.0, float(np.abs(a).max(initial=0)))
        assert np.abs(found[name] - a).max(initial=0) <= bound * scale, name


@pytest.mark.parametrize("cell", [cell for cell in RECURRENT if cell != "rnn_relu"])
@settings(max_examples=20)
@given(data=st.data())
def test_gradients_along_a_line(cell: str, data: st.DataObject) -> None:
    """[N3.4] The derivative of the loss along a random line is the gradient times its direction.

    (relu is not smooth; test_gradients tests its gradients element by element.)
    """
    run, call = reference(), Call(data.draw, cell, "float64", SMOOTH)
    call.dcells = call.dgates = None
    line, eps = call.line(), 1e-6

    def loss(by: float) -> float:
        y, states, _ = run.forward(*call.moved(line, by), save=False, num_threads=1)
        total = 0.0 if call.dy is None else float((y * call.dy).sum())
        if call.dstates is not None:
            total += sum(float((s * d).sum()) for s, d in zip(states, call.dstates, strict=True))
        return total

    _, _, saved = run.forward(call.weights, call.inputs, save=True, num_threads=1)
    assert saved is not None
    g = run.backward(saved, call.dy, call.dstates, num_threads=1)
    found = 0.0
    for of, v in zip(g.directions, line.weights, strict=True):
        for d, n in zip(of, ARRAYS, strict=True):
            a = getattr(v, n)
            found += 0.0 if a is None or d is None else float((d * a).sum())
    if g.dx is not None and line.inputs.x is not None:
        dx = g.dx.swapaxes(0, 1) if call.inputs.batch_first else g.dx
        found += float((dx * line.inputs.x).sum())
    if line.inputs.states is not None:
        found += sum(
            float((d * v).sum()) for d, v in zip(g.states, line.inputs.states, strict=True)
        )
    expected = (loss(eps) - loss(-eps)) / (2 * eps)
    assert abs(found - expected) <= 1e-6 * max(1.0, abs(found))
