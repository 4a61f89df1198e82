"""python bench/main_job.py: `fusedrnn train` beside stock PyTorch, for the same wall time.

Both have the same text, model, initial weights, places, optimiser, clipping and schedule. PyTorch's
LSTM reads one-hot rows, because it has no token input. Ours makes its 800 updates; PyTorch makes as
many as it can in the seconds that these took, and its learning rate follows the clock. Both use all
processors, and the same function computes the bits per character of the validation text.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fusedrnn.charlm import Trainer, load_corpus
from fusedrnn.cli.train import DEFAULTS, STEPS, build


def torch_updates(trainer: Trainer, seconds: float) -> int:
    """Train a trainer's model with PyTorch for some seconds; the weights end in the model."""
    model, vocabulary = trainer.model, len(trainer.model.alphabet)
    lstm = nn.LSTM(vocabulary, model.recurrent.hidden_size)
    dense = nn.Linear(model.recurrent.hidden_size, vocabulary)
    for layer, ours in ((lstm, model.recurrent), (dense, model.dense)):
        layer.load_state_dict({k: torch.tensor(a.copy()) for k, a in ours.params.items()})
    params = [*lstm.parameters(), *dense.parameters()]
    optimizer = torch.optim.Adam(params, trainer.lr)
    eye = torch.eye(vocabulary)
    state: Any = None
    began = time.perf_counter()
    while (done := (time.perf_counter() - began) / seconds) < 1:
        if trainer._position >= len(trainer._inputs):
            trainer._start(int(trainer._rng.integers(len(trainer.tokens))))
            state = None
        chunk = slice(trainer._position, trainer._position + trainer.chunk)
        trainer._position += trainer.chunk
        tokens, targets = (torch.from_numpy(a[chunk]) for a in (trainer._inputs, trainer._targets))
        for group in optimizer.param_groups:
            group["lr"] = trainer._rate(done)
        y, state = lstm(eye[tokens], state)
        state = tuple(part.detach() for part in state)
        loss = nn.functional.cross_entropy(dense(y).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params, trainer.max_norm)
        optimizer.step()
        trainer.losses.append(loss.item())
    for layer, ours in ((lstm, model.recurrent), (dense, model.dense)):
        ours.load_state_dict({k: a.numpy() for k, a in layer.state_dict().items()})
    return trainer.updates


def main(argv: Sequence[str] | None = None) -> int:
    """Train twice and print both results; returns 1 if PyTorch's bits per character are lower."""
    parser = argparse.ArgumentParser(prog="bench/main_job.py", description=__doc__)
    parser.add_argument("--seed", type=int, default=DEFAULTS["seed"])
    options = parser.parse_args(argv)
    corpus = load_corpus(None)

    def bits(trainer: Trainer) -> float:
        text = trainer.model.alphabet.encode(corpus.text[corpus.split :])
        return trainer.model.bits(text, context=trainer.tokens)

    chosen = {**DEFAULTS, "seed": options.seed}
    mine = build(corpus, chosen)
    mine.run(steps=STEPS)
    theirs = build(corpus, chosen)
    updates = torch_updates(theirs, mine.seconds)
    reached = bits(mine), bits(theirs)
    for name, count, value in (
        ("fusedrnn", mine.updates, reached[0]),
        ("torch", updates, reached[1]),
    ):
        print(f"{name:8s} {count:5d} updates in {mine.seconds:.1f} s: {value:.3f} bits/character")
    return 0 if reached[0] <= reached[1] else 1


if __name__ == "__main__":
    sys.exit(main())
