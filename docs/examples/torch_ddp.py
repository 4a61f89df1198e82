"""Train a recurrent model on several processes: DistributedDataParallel over gloo.

    torchrun --nproc-per-node=2 docs/examples/torch_ddp.py --steps 20
    torchrun --nproc-per-node=2 docs/examples/torch_ddp.py --check --steps 3

With --check, the first process also computes every step's gradients alone, on the rows of all
processes together, and compares.
"""

import argparse
import os

import torch
from torch.nn.parallel import DistributedDataParallel

import fusedrnn.torch


class Tagger(torch.nn.Module):
    """A bidirectional LSTM with a linear layer on each step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(12, 32, num_layers=2, bidirectional=True)
        self.head = torch.nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0])


def loss_of(model: torch.nn.Module, x: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(model(x).flatten(0, 1), wanted.flatten())


def gradients(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    torch.distributed.init_process_group("gloo")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world))

    torch.manual_seed(0)
    model = fusedrnn.torch.accelerate(Tagger())
    wrapped = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)  # the same data everywhere: each takes its rows
    worst = 0.0
    for _ in range(options.steps):
        x = torch.randn(30, 8 * world, 12, generator=generator)
        wanted = x[..., :5].argmax(dim=-1)
        rows = slice(8 * rank, 8 * rank + 8)
        optimizer.zero_grad()
        loss = loss_of(wrapped, x[:, rows], wanted[:, rows])
        loss.backward()
        if options.check and rank == 0:
            averaged = gradients(model)
            alone = fusedrnn.torch.accelerate(Tagger())
            alone.load_state_dict(model.state_dict())
            loss_of(alone, x, wanted).backward()
            right = gradients(alone)
            worst = max(worst, float((averaged - right).abs().max() / right.abs().max()))
        optimizer.step()
    if rank == 0:
        print(f"last loss of rank 0: {loss.item():.4f}")
        if options.check:
            print(f"largest difference from one process: {worst:.1e} of the largest gradient")
            assert worst < 1e-6, worst
    torch.distributed.barrier()  # no process ends while another still needs it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
