"""Packages that nobody here wrote, unchanged but for accelerate(): the programs of docs/examples.

`tests/nightly.sh torch_packages` installs the packages; `-m packages` runs these tests by hand.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import fusedrnn.torch as ft

EXAMPLES = Path(__file__).resolve().parents[2] / "docs/examples"
Ours = Callable[[Callable[[], Any]], tuple[Any, int]]


def example(name: str, monkeypatch: pytest.MonkeyPatch, *packages: str) -> ModuleType:
    """Import a program of docs/examples; skip the test if one of its packages is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_the_character_model(monkeypatch: pytest.MonkeyPatch, ours: Ours) -> None:
    """The two models of one seed have the same losses."""
    char = example("torch_char_model", monkeypatch)
    theirs, fused = (char.Run(30, 40, 2, fused) for fused in (False, True))
    pieces = torch.randint(30, (5, 21, 4))

    def train(run: Any) -> None:
        for piece in pieces:
            run.step(piece[:-1], piece[1:])

    assert ours(lambda: train(theirs))[1] == 0
    assert ours(lambda: train(fused))[1] == 2 * 2 * len(pieces)  # layers, forward and backward
    np.testing.assert_allclose(fused.losses, theirs.losses, rtol=1e-4)


# What the TorchScript model of the package calls the layers of its 16 kHz network.
SCRIPTED = {
    "stft_conv.weight": "stft.forward_basis_buffer",
    **{
        f"conv{k + 1}.{name}": f"encoder.{k}.reparam_conv.{name}"
        for k in range(4)
        for name in ("weight", "bias")
    },
    **{
        f"lstm_cell.{name}": f"decoder.rnn.{name}"
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    },
    "final_conv.weight": "decoder.decoder.2.weight",
    "final_conv.bias": "decoder.decoder.2.bias",
}


@pytest.mark.packages
@pytest.mark.filterwarnings("ignore")
def test_silero_vad(monkeypatch: pytest.MonkeyPatch, ours: Ours) -> None:
    """The network with both sets of weights of the package; accelerated, it finds the same.

    The safetensors file is not of the same training as the TorchScript model. With the weights of
    that model the network must have that model's probabilities.
    """
    vad = example("torch_silero_vad", monkeypatch, "silero_vad")
    import silero_vad

    from test_real_models import voice

    sound = voice(10)
    scripted = silero_vad.load_silero_vad()
    with torch.inference_mode():
        package = scripted.audio_forward(torch.from_numpy(sound)[None], 16_000)[0].numpy()
    state, frames = scripted.state_dict(), vad.framed(sound)
    same = vad.Vad().eval()
    same.load_state_dict({name: state[f"_model.{theirs}"] for name, theirs in SCRIPTED.items()})
    for model in (same, vad.load()):
        wanted, _ = vad.probabilities(model, frames)
        assert 0.1 < (wanted > 0.5).mean() < 0.9
        if model is same:
            np.testing.assert_allclose(wanted, package, rtol=0, atol=1e-5)
        ft.accelerate(model)
        for _ in range(2):
            (found, _), calls = ours(lambda model=model: vad.probabilities(model, frames))
            assert calls == len(frames)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
            ft.freeze(model)


@pytest.mark.packages
@pytest.mark.filterwarnings("ignore")
def test_darts(monkeypatch: pytest.MonkeyPatch, ours: Ours) -> None:
    """RNNModel: losses and forecast of one seed within 1e-3 of torch's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        darts = example("torch_darts", monkeypatch, "darts", "pytorch_lightning")
    data = darts.series(700)
    theirs, none = ours(lambda: darts.fit(data, 2, 32, fused=False))
    fused, calls = ours(lambda: darts.fit(data, 2, 32, fused=True))
    assert none == 0
    assert calls >= 2 * len(fused.losses)
    assert [line.fused for line in ft.report(fused.model.model)] == [True]
    np.testing.assert_allclose(fused.losses, theirs.losses, rtol=1e-3)
    size = np.abs(theirs.forecast).max()
    np.testing.assert_allclose(fused.forecast, theirs.forecast, rtol=0, atol=1e-3 * size)


@pytest.mark.packages
@pytest.mark.filterwarnings("ignore")
def test_recurrent_ppo(monkeypatch: pytest.MonkeyPatch, ours: Ours) -> None:
    """sb3-contrib: a trained policy acts as before, also with reset= in place of its loop."""
    ppo = example("torch_recurrent_ppo", monkeypatch, "sb3_contrib", "gymnasium")
    from sb3_contrib.common.recurrent.type_aliases import RNNStates

    _, model = ppo.learn(256, fused=False)
    policy, actions = model.policy, ppo.greedy(model, 200)
    zeros = torch.zeros(policy.lstm_hidden_state_shape[0], 3, policy.lstm_actor.hidden_size)
    states = RNNStates((zeros, zeros), (zeros, zeros))
    x, starts = torch.randn(3 * 40, 2), (torch.rand(3 * 40) > 0.9).float()

    @torch.no_grad()
    def evaluate() -> Any:
        """Values and the logarithms of the actions' probabilities, over episode ends."""
        values, logarithms, _ = policy.evaluate_actions(x, torch.zeros(len(x)), states, starts)
        return torch.stack([values.flatten(), logarithms])

    wanted = evaluate()
    ft.accelerate(policy)
    found, calls = ours(lambda: ppo.greedy(model, 200))
    assert found == actions
    assert calls == 200
    torch.testing.assert_close(evaluate(), wanted, rtol=1e-4, atol=1e-5)
    one_call = staticmethod(ppo.one_call)
    monkeypatch.setattr(ppo.RecurrentActorCriticPolicy, "_process_sequence", one_call)
    assert ppo.greedy(model, 200) == actions
    found, calls = ours(evaluate)
    assert calls == 2  # of the actor and of the critic
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    _, calls = ours(lambda: ppo.learn(256, fused=True))
    assert calls > 256
