"""Train a character model twice, with torch's LSTM and with ours, and compare the two loss curves.

    python docs/examples/torch_char_model.py tinyshakespeare.txt --epochs 2 --plot curves.png

An embedding, an LSTM and a linear layer predict the next character of any text file. The batches
read the text in order and carry the state on. Both models start from one seed and see the same
batches. They take every step in turn, so that other load on the machine slows both alike; the
seconds of each are those of its own steps. Prints the seconds of every epoch and the largest
relative difference of the losses. --plot draws both curves and needs matplotlib.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import fusedrnn.torch

LENGTH = 128  # characters of each row in a batch


class Model(torch.nn.Module):
    """Characters in, the logits of the next character out."""

    def __init__(self, characters: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(characters, 64)
        self.lstm = torch.nn.LSTM(64, hidden, num_layers=layers)
        self.head = torch.nn.Linear(hidden, characters)

    def forward(self, ids: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor] | None):
        y, state = self.lstm(self.embedding(ids), state)
        return self.head(y), state


class Run:
    """A model in training, with the loss and the seconds of every step."""

    def __init__(self, characters: int, hidden: int, layers: int, fused: bool) -> None:
        torch.manual_seed(0)
        self.model = Model(characters, hidden, layers)
        if fused:
            fusedrnn.torch.accelerate(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=2e-3)
        self.state: tuple[torch.Tensor, torch.Tensor] | None = None
        self.losses: list[float] = []
        self.times: list[float] = []

    def step(self, ids: torch.Tensor, wanted: torch.Tensor) -> None:
        start = time.perf_counter()
        logits, state = self.model(ids, self.state)
        self.state = (state[0].detach(), state[1].detach())
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.times.append(time.perf_counter() - start)
        self.losses.append(loss.item())


def draw(path: Path, runs: dict[str, Run]) -> None:
    """The losses over steps, where the curves coincide, and over seconds, where they do not."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    styles = [
        {"color": "tab:orange", "linewidth": 3.5, "alpha": 0.6},
        {"color": "tab:blue", "linewidth": 1.2, "linestyle": "--"},
    ]
    for (label, run), style in zip(runs.items(), styles, strict=True):
        panels[0].plot(np.arange(1, len(run.losses) + 1), run.losses, label=label, **style)
        panels[1].plot(np.cumsum(run.times), run.losses, label=label, **style)
    panels[0].set(xlabel="training step", ylabel="cross-entropy (nats per character)")
    panels[1].set(xlabel="time in training steps (s)")
    for panel in panels:
        panel.legend()
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, help="steps of an epoch, at most (default: all)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    characters, ids = np.unique(list(options.text.read_text()), return_inverse=True)
    steps = (len(ids) - 1) // (LENGTH * options.batch)
    if options.steps is not None:
        steps = min(steps, options.steps)
    if steps < 1:
        parser.error(f"the text needs at least {LENGTH * options.batch + 1} characters")
    # Each column of the batch reads a piece of the text of its own: (steps * LENGTH + 1, batch).
    starts = np.arange(options.batch) * ((len(ids) - 1) // options.batch)
    columns = torch.from_numpy(ids[starts + np.arange(steps * LENGTH + 1)[:, None]])

    runs = {
        label: Run(len(characters), options.hidden, options.layers, fused)
        for label, fused in (("torch", False), ("accelerate()", True))
    }
    for epoch in range(options.epochs):
        for run in runs.values():
            run.state = None
        for k in range(steps):
            piece = columns[k * LENGTH : (k + 1) * LENGTH + 1]
            for run in runs.values():
                run.step(piece[:-1], piece[1:])
        for label, run in runs.items():
            times = np.array(run.times[-steps:])
            print(
                f"epoch {epoch + 1}   {label:14} {times.sum():7.1f} s for {steps} steps, median "
                f"{1000 * np.median(times):6.1f} ms   loss {np.mean(run.losses[-steps:]):.4f}"
            )
    theirs, ours = (np.array(run.losses) for run in runs.values())
    difference = np.abs(ours / theirs - 1)
    print(f"largest relative difference of the losses: {difference.max():.1e}", end="")
    print(f", in the first 200 steps {difference[:200].max():.1e}")
    if options.plot is not None:
        draw(options.plot, runs)


if __name__ == "__main__":
    main()
