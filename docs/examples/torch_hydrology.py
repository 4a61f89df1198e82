"""A time-series LSTM as hydrologists train it: a year of weather in, the last day's discharge out.

    python docs/examples/torch_hydrology.py --basins 12 --steps 30 --hidden 64

Kratzert et al. 2018, in small: sequences of 365 days, batches of 256, one LSTM layer, dropout, a
forget bias of 3 that is set through `.data`. The basins are made here: a bucket model with snow,
soil and groundwater, driven by random weather. Prints seconds for a training step and the two
curves' largest difference.
"""

import argparse
import time

import numpy as np
import torch

import fusedrnn.torch

DAYS = 365


def basin(rng: np.random.Generator, days: int) -> tuple[np.ndarray, np.ndarray]:
    """Forcings (days, 5) and discharge (days,) of one bucket model."""
    season = np.sin(2 * np.pi * (np.arange(days) + rng.uniform(0, 365)) / 365.25)
    temperature = rng.uniform(2, 12) + 10 * season + 3 * rng.standard_normal(days)
    rain = rng.gamma(0.6, 5.0, days) * (rng.random(days) < 0.4)
    light = 15 + 8 * season + rng.standard_normal(days)
    melt, leak, deep = rng.uniform(1, 4), rng.uniform(0.02, 0.2), rng.uniform(0.005, 0.05)
    size = rng.uniform(60, 250)
    snow, soil, ground = 0.0, size / 2, 50.0
    flow = np.empty(days)
    for t in range(days):
        cold = temperature[t] < 0
        thaw = 0.0 if cold else min(snow, melt * temperature[t])
        snow += rain[t] * cold - thaw
        soil += rain[t] * (not cold) + thaw
        soil -= min(soil, 0.15 * max(0.0, light[t]) * soil / size)
        over = max(0.0, soil - size)
        soil -= over + leak * soil
        ground += leak * soil - deep * ground
        flow[t] = over + deep * ground
    forcing = np.stack([rain, temperature, light, season, np.full(days, size / 250)], axis=1)
    return forcing.astype(np.float32), flow.astype(np.float32)


class Model(torch.nn.Module):
    """As NeuralHydrology's CudaLSTM: a layer, dropout, one linear output of the last day."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(5, hidden, batch_first=True)
        self.dropout = torch.nn.Dropout(0.4)
        self.head = torch.nn.Linear(hidden, 1)
        self.lstm.bias_hh_l0.data[hidden : 2 * hidden] = 3.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.lstm(x)[0][:, -1]))[:, 0]


def train(model: torch.nn.Module, x: torch.Tensor, q: torch.Tensor, steps: int):
    """Losses, and seconds of every step."""
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses, times = [], []
    for _ in range(steps):
        b, t = torch.randint(len(x), (256,)), torch.randint(DAYS, x.shape[1], (256,))
        batch = torch.stack([x[i, j - DAYS : j] for i, j in zip(b, t, strict=True)])
        start = time.perf_counter()
        loss = (model(batch) - q[b, t - 1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append(time.perf_counter() - start)
        losses.append(loss.item())
    return np.array(losses), np.array(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--basins", type=int, default=12)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    made = [basin(rng, 3 * DAYS) for _ in range(options.basins)]
    x = torch.from_numpy(np.stack([forcing for forcing, _ in made]))
    q = torch.from_numpy(np.stack([flow for _, flow in made]))
    x = (x - x.mean((0, 1))) / (x.std((0, 1)) + 1e-6)
    q = (q - q.mean()) / q.std()
    curves = []
    for label in ("torch", "accelerate()"):
        torch.manual_seed(0)
        model = Model(options.hidden)
        if label != "torch":
            fusedrnn.torch.accelerate(model)
        losses, times = train(model, x, q, options.steps)
        curves.append(losses)
        print(f"{label:14} {1000 * np.median(times):8.1f} ms a step   loss {losses[-1]:.4f}")
    difference = np.abs(curves[1] / curves[0] - 1).max()
    print(f"largest relative difference of the curves: {difference:.1e}")


if __name__ == "__main__":
    main()
