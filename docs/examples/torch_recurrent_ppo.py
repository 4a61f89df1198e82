"""Recurrent PPO of sb3-contrib on CartPole without velocities, before and after.

    pip install sb3-contrib
    python docs/examples/torch_recurrent_ppo.py --steps 4096

The package is unchanged: its policies hold exact nn.LSTMs, which accelerate() finds. Afterwards the
policy's loop over the pieces between episode ends becomes one call with `reset=`.
"""

import argparse
import time

import gymnasium
import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy

import fusedrnn.torch


class NoVelocities(gymnasium.ObservationWrapper):
    """Position and angle alone: what is missing has to be remembered."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[[0, 2]]


def one_call(features, lstm_states, episode_starts, lstm):
    """`_process_sequence` of the policy, without its loop: `reset` cuts the episodes apart."""
    n = lstm_states[0].shape[1]
    x = features.reshape(n, -1, lstm.input_size).swapaxes(0, 1)
    starts = episode_starts.reshape(n, -1).swapaxes(0, 1).bool()
    y, states = lstm(x, lstm_states, reset=starts)
    return torch.flatten(y.transpose(0, 1), start_dim=0, end_dim=1), states


def learn(steps: int, fused: bool):
    """Steps per second, and the trained model."""
    model = RecurrentPPO(
        "MlpLstmPolicy", NoVelocities(), n_steps=256, batch_size=128, seed=0, device="cpu"
    )
    if fused:
        fusedrnn.torch.accelerate(model.policy)
    start = time.perf_counter()
    model.learn(steps)
    return steps / (time.perf_counter() - start), model


def greedy(model, count: int) -> list[int]:
    """Actions of the greedy policy on one stream of observations."""
    rng, state, actions = np.random.default_rng(0), None, []
    start = np.ones(1, bool)
    for k in range(count):
        seen = rng.standard_normal(2).astype(np.float32) * 0.1
        action, state = model.predict(seen, state, episode_start=start, deterministic=True)
        actions.append(int(action))
        start = np.array([k % 50 == 49])
    return actions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4096)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rate, model = learn(options.steps, fused=False)
    print(f"torch                    {rate:8.0f} steps a second")
    actions = greedy(model, 500)
    fusedrnn.torch.accelerate(model.policy)
    print(fusedrnn.torch.report(model.policy))
    print(f"same greedy actions: {greedy(model, 500) == actions}")
    rate, _ = learn(options.steps, fused=True)
    print(f"accelerate()             {rate:8.0f} steps a second")
    RecurrentActorCriticPolicy._process_sequence = staticmethod(one_call)
    print(f"same greedy actions with reset=: {greedy(model, 500) == actions}")
    rate, _ = learn(options.steps, fused=True)
    print(f"accelerate() and reset=  {rate:8.0f} steps a second")


if __name__ == "__main__":
    main()
