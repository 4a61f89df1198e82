"""A recurrent network that reads a window of a series and forecasts all steps after it at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import nn
from ..layers import GRU, LSTM, RNN
from .series import windows

__all__ = ["CELLS", "network", "train"]

Array = NDArray[Any]

CELLS: dict[str, Callable[..., Any]] = {"gru": GRU, "lstm": LSTM, "rnn": RNN}
# Chosen on the series of Box and Jenkins' airline passengers and of the Canadian lynx; more updates
# fit the noise of so short series.
LEARNING_RATE = 1e-2
UPDATES = 150
LARGEST_NORM = 1.0
# Windows of an update; the usual short series has fewer, and an update then sees all of them.
BATCH = 256


def train(
    x: Array, y: Array, *, cell: str, hidden_size: int, seed: tuple[int, ...]
) -> nn.Sequential:
    """Train one network.

    Parameters
    ----------
    x : ndarray, shape (N, W)
        Windows, on a scale of about 1.
    y : ndarray, shape (N, H)
        What follows each of them.
    cell : {"gru", "lstm", "rnn"}
        Kind of layer.
    hidden_size : int
        Size of its state.
    seed : tuple of int
        Of the initial weights, and of the order of the windows if there are more than 256.

    Returns
    -------
    Sequential
        It maps (B, W, 1) to (B, H). It is the layer, its last step, and a dense layer, after 150
        updates of Adam for the mean squared error.

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> x, y = forecasting.windows(np.sin(np.arange(40) * 0.7), window=5, horizon=2)
    >>> model = forecasting.train(x, y, cell="gru", hidden_size=8, seed=(0,))
    >>> model(np.zeros((3, 5, 1), np.float32)).shape
    (3, 2)
    """
    weights, head, order = np.random.SeedSequence(seed).spawn(3)
    model = nn.Sequential(
        [
            CELLS[cell](1, hidden_size, seed=np.random.default_rng(weights)),
            nn.Last(),
            nn.Dense(hidden_size, y.shape[1], seed=np.random.default_rng(head)),
        ]
    )
    rng = np.random.default_rng(order)
    rates = nn.schedules.Cosine(LEARNING_RATE, UPDATES)
    adam = nn.Adam(LEARNING_RATE)
    inputs, targets = x.astype(model.dtype)[..., None], y.astype(model.dtype)
    for step in range(UPDATES):
        rows: Any = slice(None) if len(x) <= BATCH else rng.choice(len(x), BATCH, replace=False)
        found, saved = model.forward(inputs[rows])
        loss = nn.mse(found, targets[rows])
        _, gradients = model.backward(saved, loss.gradient)
        nn.clip_global_norm(gradients, max_norm=LARGEST_NORM)
        adam.lr = rates(step)
        adam.step(model, gradients)
    return model


def network(
    z: Array,
    horizon: int,
    *,
    window: int,
    cell: str = "gru",
    hidden_size: int = 16,
    members: int = 3,
    seed: int = 0,
    progress: Callable[[], None] | None = None,
) -> Array:
    """Train networks on a series, and forecast with the mean of them.

    Parameters
    ----------
    z : ndarray, shape (n,)
        The series, on a scale of about 1.
    horizon, window : int
        Steps to forecast, and steps that the network reads.
    cell, hidden_size
        As in `train`.
    members : int
        The number of networks, which differ in their seeds alone. Their mean is better than most of
        them (Hansen and Salamon, "Neural network ensembles", 1990).
    seed : int
        Of all of them.
    progress : callable, optional
        Called after each of them.

    Returns
    -------
    ndarray of float64, shape (horizon,)

    Notes
    -----
    The network gives all steps at once. If it gave one step and read its own forecasts, their
    errors would grow from step to step; on the series of the tests this was worse (compare Ben
    Taieb, Bontempi, Atiya and Sorjamaa, Expert Systems with Applications, 2012).

    Examples
    --------
    >>> import numpy as np
    >>> from fusedrnn import forecasting
    >>> z = np.sin(np.arange(43) * 0.7)
    >>> ahead = forecasting.network(z[:40], 3, window=9, members=1)
    >>> bool(np.abs(ahead - z[40:]).max() < 0.5)
    True
    """
    x, y = windows(z, window, horizon)
    last = z[len(z) - window :]
    total = np.zeros(horizon)
    for member in range(members):
        model = train(x, y, cell=cell, hidden_size=hidden_size, seed=(seed, member))
        total += model(last.astype(model.dtype)[None, :, None])[0]
        if progress is not None:
            progress()
    return total / members
