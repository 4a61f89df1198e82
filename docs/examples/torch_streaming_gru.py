"""A streaming GRU in frames of 10 ms: noise suppression's shape, before and after.

    python docs/examples/torch_streaming_gru.py --frames 20000

Three GRU layers of 256 units, 64 features in, one frame a call with the state carried on. Prints
the time of a frame (median and 99.9th percentile), whether the frames have the bits of one call on
the whole recording, and how much memory grew meanwhile.
"""

import argparse
import resource
import time

import numpy as np
import torch

import fusedrnn.torch


class Suppressor(torch.nn.Module):
    """Band energies in, a gain for every band out."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(64, 256, num_layers=3)
        self.gains = torch.nn.Linear(256, 64)

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None):
        y, state = self.gru(x, state)
        return torch.sigmoid(self.gains(y)), state


@torch.inference_mode()
def stream(model: torch.nn.Module, sound: torch.Tensor) -> tuple[np.ndarray, torch.Tensor, int]:
    """Seconds of each frame, the recurrent outputs, and the growth of memory in KiB."""
    state, times, outputs = None, [], []
    before = 0
    for k, frame in enumerate(sound):
        if k == len(sound) // 10:  # warm
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        y, state = model.gru(frame[None], state)
        torch.sigmoid(model.gains(y))
        times.append(time.perf_counter() - start)
        outputs.append(y[0])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    kept = sum(y.nbytes for y in outputs[len(sound) // 10 :]) // 1024
    return np.array(times), torch.stack(outputs), max(0, grown - kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Suppressor().eval()
    sound = torch.randn(options.frames, 1, 64)
    for label, change in (
        ("torch", lambda m: m),
        ("accelerate()", fusedrnn.torch.accelerate),
        ("accelerate() and freeze()", fusedrnn.torch.freeze),
    ):
        change(model)
        times, y, grown = stream(model, sound)
        with torch.inference_mode():
            whole, _ = model.gru(sound)
        middle, tail = np.percentile(times * 1e6, [50, 99.9])
        print(
            f"{label:26} median {middle:7.1f} us   p99.9 {tail:7.1f} us   "
            f"bits of the whole: {torch.equal(y, whole)}   memory +{grown} KiB"
        )


if __name__ == "__main__":
    main()
