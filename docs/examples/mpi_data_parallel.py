"""Train one model on several processes, on one machine or many: fit(all_reduce=...) over MPI.

    mpiexec -n 2 python -m mpi4py docs/examples/mpi_data_parallel.py
    mpiexec -n 2 python -m mpi4py docs/examples/mpi_data_parallel.py --check

Needs an MPI (Debian: openmpi-bin) and `pip install mpi4py`. With -m mpi4py an error in one process
ends all of them. With --check, every process also computes each update's gradients alone, on the
samples of all processes together, and compares.
"""

import argparse
import copy
import os

import numpy as np
from mpi4py import MPI

import fusedrnn as fr
from fusedrnn import nn

COMM = MPI.COMM_WORLD
BATCH = 16


def summed(a: np.ndarray) -> np.ndarray:
    """Return the sum of an array over all processes."""
    COMM.Allreduce(MPI.IN_PLACE, a)
    return a


def samples(count: int = 512) -> dict[str, np.ndarray]:
    """Sequences of different lengths; is a number larger than the mean of those before it?"""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 31, count)
    x = rng.standard_normal((count, 30, 1), dtype=np.float32)
    means = np.cumsum(x[..., 0], axis=1) / np.arange(1, 31)
    y = (x[:, 1:, 0] > means[:, :-1]).astype(int)
    return {"x": x, "y": np.concatenate([np.zeros((count, 1), int), y], axis=1), "lengths": lengths}


def tagger() -> nn.Sequential:
    """The same parameters in every process, because of the seeds."""
    return nn.Sequential([fr.LSTM(1, 32, seed=0), nn.Dense(32, 2, seed=1)])


def compiled(model: nn.Sequential) -> nn.Sequential:
    return model.compile(nn.Adam(0.01), "softmax_cross_entropy", ["accuracy"])


def train(data: dict[str, np.ndarray], epochs: int) -> None:
    """Each process has samples of its own."""
    rank, count = COMM.Get_rank(), COMM.Get_size()
    mine = {name: a[rank::count] for name, a in data.items()}
    history = compiled(tagger()).fit(
        **mine, epochs=epochs, batch_size=BATCH, verbose=rank == 0, all_reduce=summed
    )
    if rank == 0:
        print(f"{count} processes: accuracy {history['accuracy'][-1]:.3f}")


def gradients(model: nn.Sequential, data: dict[str, np.ndarray], all_reduce) -> np.ndarray:
    """Train a compiled model for one update and return the gradients that it was given."""
    found: list[np.ndarray] = []

    def keep(a: np.ndarray) -> np.ndarray:
        total = all_reduce(a)
        if total.dtype == model.dtype:  # what decides about the run is summed as float64
            found.append(total.copy())
        return total

    model.fit(**data, batch_size=len(data["x"]), shuffle=False, verbose=False, all_reduce=keep)
    (only,) = found
    return only


def check(data: dict[str, np.ndarray], updates: int) -> None:
    """Compare the gradients of each update with those of one process, from equal parameters."""
    rank, count = COMM.Get_rank(), COMM.Get_size()
    model, worst = compiled(tagger()), 0.0
    for k in range(updates):
        whole = {name: a[BATCH * count * k :][: BATCH * count] for name, a in data.items()}
        alone = compiled(copy.deepcopy(model))
        together = gradients(model, {name: a[rank::count] for name, a in whole.items()}, summed)
        right = gradients(alone, whole, lambda a: a)
        worst = max(worst, float(np.linalg.norm(together - right) / np.linalg.norm(right)))
    if rank == 0:
        print(f"largest difference from one process: {worst:.1e} of the norm of the gradients")
    assert worst < 1e-6, worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    # mpiexec may bind a process to a core; processes that are not bound share the cores.
    fr.set_num_threads(max(1, len(os.sched_getaffinity(0)) // COMM.Get_size()))
    if options.check:
        check(samples(), updates=8)
    else:
        train(samples(), options.epochs)


if __name__ == "__main__":
    main()
