"""Forecast with an RNNModel of darts, before and after.

    pip install darts pytorch-lightning
    python docs/examples/torch_darts.py --epochs 3

The package is unchanged: its RNNModel makes an exact torch.nn.LSTM when it is fitted, and a
Lightning callback accelerates the module before that. The series is made here: a year of hourly
values with a daily and a weekly season. Prints the seconds for training and for a forecast of two
weeks, and how far losses and forecasts differ.
"""

import argparse
import logging
import tempfile
import time
import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from darts import TimeSeries
from darts.models import RNNModel

import fusedrnn.torch


class Accelerate(pl.Callback):
    """Accelerates a Lightning module before its optimiser is made."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        fusedrnn.torch.accelerate(pl_module)


@dataclass
class Losses(pl.Callback):
    """Keeps the loss of every training step."""

    found: list[float] = field(default_factory=list)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.found.append(float(outputs["loss"]))


def series(hours: int) -> TimeSeries:
    """Hourly values around 0 with a daily and a weekly season and noise."""
    rng, t = np.random.default_rng(0), np.arange(hours)
    values = np.sin(2 * np.pi * t / 24) + 0.5 * np.sin(2 * np.pi * t / 168)
    values += 0.1 * rng.standard_normal(hours)
    times = pd.date_range("2025-01-01", periods=hours, freq="h")
    return TimeSeries.from_times_and_values(times, values.astype(np.float32))


@dataclass
class Result:
    """A fitted model, what it forecast, and the seconds for both."""

    model: RNNModel
    losses: np.ndarray
    forecast: np.ndarray
    training: float
    forecasting: float


def fit(data: TimeSeries, epochs: int, hidden: int, fused: bool) -> Result:
    """Train, and forecast two weeks."""
    losses = Losses()
    callbacks: list[pl.Callback] = [losses, Accelerate()] if fused else [losses]
    with tempfile.TemporaryDirectory() as folder:
        model = RNNModel(
            input_chunk_length=168,
            training_length=192,
            model="LSTM",
            hidden_dim=hidden,
            n_epochs=epochs,
            batch_size=64,
            random_state=0,
            work_dir=folder,
            pl_trainer_kwargs={
                "accelerator": "cpu",
                "callbacks": callbacks,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "logger": False,
            },
        )
        start = time.perf_counter()
        model.fit(data)
        trained = time.perf_counter()
        forecast = model.predict(n=14 * 24, series=data)
        end = time.perf_counter()
    return Result(
        model, np.array(losses.found), forecast.values()[:, 0], trained - start, end - trained
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--hours", type=int, default=365 * 24)
    parser.add_argument("--hidden", type=int, default=64)
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # Lightning's, about itself and its data loaders
    torch.set_num_threads(1)
    data = series(options.hours)
    fit(data[:300], 1, options.hidden, fused=True)  # the first calls of all that takes part
    results = []
    for label, fused in (("torch", False), ("accelerate()", True)):
        found = fit(data, options.epochs, options.hidden, fused)
        results.append(found)
        print(
            f"{label:14} training {found.training:6.1f} s   forecast {found.forecasting:6.2f} s   "
            f"last loss {found.losses[-1]:.5f}"
        )
    print(fusedrnn.torch.report(results[1].model.model))
    theirs, ours = results
    losses = np.abs(ours.losses / theirs.losses - 1).max()
    size = np.abs(theirs.forecast).max()
    forecasts = np.abs(ours.forecast - theirs.forecast).max() / size
    print(f"largest relative difference of the losses: {losses:.1e}")
    print(f"largest difference of the forecasts: {forecasts:.1e} of the largest value")


if __name__ == "__main__":
    main()
