"""The network of silero-vad in torch with the weights of its package, before and after.

    pip install silero-vad
    python docs/examples/torch_silero_vad.py recording.wav

The package runs its network as TorchScript or in ONNX Runtime, and ships the weights of the 16 kHz
model as a safetensors file too. Here they are loaded into ordinary torch modules. One call reads
one frame of 32 ms, with an LSTMCell that carries the state. Prints the time of a frame and of the
LSTMCell in it, and the largest difference of the speech probabilities.
The recording is 16 kHz, mono, 16 bits; without one, ten seconds of noise are read.
"""

import argparse
import time
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

import fusedrnn.torch
from fusedrnn import weights

FRAME, CONTEXT = 512, 64  # new samples in each call, and how many of the frame before it

State = tuple[torch.Tensor, torch.Tensor]


class Vad(torch.nn.Module):
    """The layers of `silero_vad.tinygrad_model`, under the names that the file has."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = torch.nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = torch.nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = torch.nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = torch.nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = torch.nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = torch.nn.LSTMCell(128, 128)
        self.final_conv = torch.nn.Conv1d(128, 1, 1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Samples (B, 576) to what the LSTMCell reads, (B, 128)."""
        x = torch.nn.functional.pad(x[:, None], (0, 64), "reflect")
        real, imaginary = self.stft_conv(x).split(129, dim=1)
        x = (real.square() + imaginary.square()).sqrt()
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = layer(x).relu()
        return x.squeeze(-1)

    def forward(self, x: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        h, c = self.lstm_cell(self.features(x), state)
        return self.final_conv(h[..., None].relu()).sigmoid().flatten(1), (h, c)


def load() -> Vad:
    """The network with the weights of the installed package."""
    spec = find_spec("silero_vad")
    assert spec is not None, "pip install silero-vad"
    arrays = weights.load(Path(str(spec.origin)).parent / "data/silero_vad_16k.safetensors")
    model = Vad()
    model.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    return model.eval()


def framed(sound: np.ndarray) -> torch.Tensor:
    """Frames (T, 1, 576): 512 samples each, after the last 64 of the frame before."""
    frames = np.zeros((-(-len(sound) // FRAME), FRAME), np.float32)
    frames.reshape(-1)[: len(sound)] = sound
    before = np.zeros((len(frames), CONTEXT), np.float32)
    before[1:] = frames[:-1, -CONTEXT:]
    return torch.from_numpy(np.concatenate([before, frames], axis=1))[:, None]


@torch.inference_mode()
def probabilities(model: Vad, frames: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The probability of speech in each frame, and the seconds of each call."""
    state, found, times = None, [], []
    for frame in frames:
        start = time.perf_counter()
        p, state = model(frame, state)
        times.append(time.perf_counter() - start)
        found.append(p.item())
    return np.array(found), np.array(times)


@torch.inference_mode()
def of_the_cell(model: Vad, frames: torch.Tensor) -> np.ndarray:
    """The seconds of each call of the LSTMCell alone."""
    x, state, times = model.features(frames[0]), None, []
    for _ in frames:
        start = time.perf_counter()
        state = model.lstm_cell(x, state)
        times.append(time.perf_counter() - start)
    return np.array(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path, nargs="?")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sound = np.random.default_rng(0).standard_normal(160_000).astype(np.float32) * 0.1
    if options.recording is not None:
        with wave.open(str(options.recording)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (16_000, 1, 2):
                parser.error("the recording must be 16 kHz, mono, 16 bits")
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        sound = samples.astype(np.float32) / 32768
    frames = framed(sound)
    model = load()
    wanted = None
    for label, change in (
        ("torch", lambda m: m),
        ("accelerate()", fusedrnn.torch.accelerate),
        ("accelerate() and freeze()", fusedrnn.torch.freeze),
    ):
        change(model)
        found, times = probabilities(model, frames)
        wanted = found if wanted is None else wanted
        print(
            f"{label:26} median of a frame {1e6 * np.median(times):6.1f} us, of its LSTMCell "
            f"{1e6 * np.median(of_the_cell(model, frames)):6.1f} us   "
            f"largest difference {np.abs(found - wanted).max():.1e}"
        )


if __name__ == "__main__":
    main()
