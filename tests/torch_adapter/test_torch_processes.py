"""More than one process: workers by fork and spawn, shared memory, DistributedDataParallel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import fusedrnn as fr
import fusedrnn.torch as ft
from torch_adapter.work import Encoded, rank_gradients, trained

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs/examples/torch_ddp.py"


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # two workers, and one core
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(method: str) -> None:
    layer = ft.GRU(4, 6)
    layer(torch.zeros(3, 1, 4))  # packs the weights in the parent
    loader = torch.utils.data.DataLoader(
        Encoded(layer), num_workers=2, batch_size=2, multiprocessing_context=method
    )
    found = torch.cat(list(loader))
    right = torch.stack([Encoded(layer)[k] for k in range(4)])
    assert torch.equal(found, right)


def test_shared_memory_is_seen_in_both_processes() -> None:
    layer = ft.GRU(4, 6).share_memory()
    before = layer(torch.ones(3, 1, 4))[0]
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=trained, args=(layer, queue))
    child.start()
    theirs = torch.tensor(queue.get(timeout=60))
    child.join()
    ours = layer(torch.ones(3, 1, 4))[0]
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, before)


def distributed(*arguments: str) -> str:
    """The output of the script of the docs, run by torchrun with two processes on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--nnodes=1"),
        *("--master-addr=127.0.0.1", f"--master-port={port}", str(SCRIPT), *arguments),
    ]
    path = os.pathsep.join(filter(None, sys.path))  # this process's package, not another copy
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=240, check=False
    )
    # A thread of gloo that takes the GIL while the interpreter ends aborts its process, although
    # all of the script has run by then (github.com/pytorch/pytorch/pull/179291).
    aborted = "terminate called without an active exception" in done.stderr
    assert done.returncode == 0 or aborted, done.stdout + done.stderr
    assert "ReferenceBackendWarning" not in done.stderr or not fr.supported_isas()
    return done.stdout


@pytest.mark.slow
def test_two_processes_learn_what_one_learns() -> None:
    """docs/examples/torch_ddp.py: gradients of two processes equal those of one within 1e-6."""
    assert "largest difference from one process" in distributed("--check", "--steps", "3")


def _averaged(rank: int, port: int, cases: list[dict[str, Any]], results: Any) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    x, dy = data()
    mine = slice(rank * 3, rank * 3 + 3)
    for case in cases:
        found = rank_gradients(
            x[:, mine],
            dy[mine],
            lambda m, case=case: torch.nn.parallel.DistributedDataParallel(
                m, find_unused_parameters=case["unused"], bucket_cap_mb=case["bucket"]
            ),
            case["unused"],
            case["quiet"],
        )
        if rank == 0:
            results.put({n: g.numpy() for n, g in found.items()})
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    # Everything is done and handed over. Ending the interpreter too would let a thread of gloo
    # abort the process (see `distributed`).
    results.close()
    results.join_thread()
    os._exit(0)


def data() -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(5, 6, 4, generator=generator), torch.randn(6, 4, generator=generator)


CASES: list[dict[str, Any]] = [
    {"unused": False, "bucket": 25, "quiet": 0},
    {"unused": True, "bucket": 25, "quiet": 0},
    {"unused": False, "bucket": 0.001, "quiet": 0},
    {"unused": False, "bucket": 25, "quiet": 2},
]


@pytest.mark.slow
def test_unused_and_frozen_parameters_buckets_and_no_sync() -> None:
    context = torch.multiprocessing.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    results = context.Queue()
    children = [
        context.Process(target=_averaged, args=(rank, port, CASES, results)) for rank in range(2)
    ]
    for child in children:
        child.start()
    found = [results.get(timeout=120) for _ in CASES]
    for child in children:
        child.join()
        assert child.exitcode == 0
    x, dy = data()
    for case, averaged in zip(CASES, found, strict=True):
        alone = rank_gradients(x, dy, lambda m: m, case["unused"], case["quiet"])
        assert "layers.bias_hh_l0" not in averaged
        assert set(alone) <= set(averaged)
        for name, right in alone.items():
            there = 2 * torch.from_numpy(averaged[name])  # DDP gives the mean
            difference = float((there - right).abs().max())
            assert difference <= 1e-6 * max(1e-3, float(right.abs().max())) * 10, (case, name)
