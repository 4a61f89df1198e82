"""Saves that are interrupted, in processes of their own; prints what is left on the disk, as JSON.

    python tests/interrupted.py kill WRITER FOLDER TRIALS
    python tests/interrupted.py limit WRITER FOLDER

`kill` saves again and again in a child process and kills it at a random moment. `limit` saves when
there is too little room on the disk, or when the process may write too few bytes. The children are
forks of this process, which has imported everything and has started no thread.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fusedrnn as fr
from fusedrnn import weights

# Two contents of one file. Each is several blocks long, and they differ in length.
LAYERS = [fr.LSTM(3, size, seed=size) for size in (24, 33)]
Writer = tuple[str, Callable[[Path, Any], None], Callable[[Path], Any]]
WRITERS: dict[str, Writer] = {
    "save": ("layer.npz", fr.save, lambda path: fr.load(path).params),
    "npz": ("weights.npz", weights.save, weights.load),
    "safetensors": ("weights.safetensors", weights.save, weights.load),
    "onnx": ("weights.onnx", weights.save, weights.load),
}


def content(path: Path, load: Callable[[Path], Any]) -> int | str:
    """The index of the layer that the file holds completely, or a text that says what is wrong."""
    try:
        found = load(path)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    for k, layer in enumerate(LAYERS):
        if list(found) == list(layer.params) and all(
            np.array_equal(found[name], a) for name, a in layer.params.items()
        ):
            return k
    return "other numbers"


def beside(path: Path) -> list[str]:
    """The names of the other files in the folder."""
    return sorted(other.name for other in path.parent.iterdir() if other != path)


def kill(writer: str, folder: Path, trials: int) -> dict[str, Any]:
    name, save, load = WRITERS[writer]
    path = folder / name
    save(path, LAYERS[0])
    rng = random.Random(0)
    contents, leftovers = [], []
    for _ in range(trials):
        begun, tell = os.pipe()
        child = os.fork()
        if child == 0:
            for k in itertools.count(1):
                os.write(tell, b".")
                save(path, LAYERS[k % 2])
        # Each child completes one save, and is killed during the next save or the one after. The
        # parent measures the first save of each child, because the duration changes with the load
        # of the disk.
        os.read(begun, 1)
        started = time.perf_counter()
        os.read(begun, 1)
        each = time.perf_counter() - started
        time.sleep(rng.uniform(0, 1.3 * each))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(begun)
        os.close(tell)
        contents.append(content(path, load))
        leftovers.append(len(beside(path)))
    save(path, LAYERS[0])
    return {"contents": contents, "leftovers": leftovers, "beside": beside(path)}


def limit(writer: str, folder: Path) -> dict[str, Any]:
    """Write the larger content over the smaller one, with less and less room."""
    name, save, load = WRITERS[writer]
    path = folder / name
    save(path, LAYERS[0])
    room = path.stat().st_size
    found = []
    for size in range(room, 0, -room // 16):
        with contextlib.ExitStack() as stack:
            if os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize < 2**20:  # a small disk
                filler = folder / "filler"
                free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
                filler.write_bytes(bytes(max(0, free - size)))
                stack.callback(filler.unlink)
            else:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
                unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, unlimited)
            try:
                save(path, LAYERS[1])
                error = None
            except OSError as raised:
                error = [raised.errno, str(raised.filename)]
        found.append({"error": error, "content": content(path, load), "beside": beside(path)})
    save(path, LAYERS[1])
    return {"path": str(path), "tries": found, "after": content(path, load)}


if __name__ == "__main__":
    what, writer, folder, *more = sys.argv[1:]
    result = kill(writer, Path(folder), int(more[0])) if more else limit(writer, Path(folder))
    print(json.dumps(result))
