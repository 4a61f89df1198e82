"""Model files: plain arrays and JSON, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusedrnn.nn import persist

Array = np.ndarray[Any, np.dtype[Any]]


def test_files_hold_plain_arrays(tmp_path: Path) -> None:
    path = tmp_path / "m"
    arrays = {"a": np.arange(3), "b/c.d": np.float32(2) * np.ones((2, 0))}
    persist.save(path, {"text": "\ud800 é", "big": 2**127}, arrays)
    config, loaded = persist.load(path)
    assert (config["text"], config["big"]) == ("\ud800 é", 2**127)
    assert persist.recognised(path)
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    with pytest.raises(TypeError, match="pickle"):
        persist.save(path, {}, {"o": np.array([object()])})


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.npz"
    persist.save(path, {}, {"a": np.ones(3)})
    old = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        persist.save(path, {}, {"a": np.zeros(3)})
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(b"")
    contents: list[dict[str, Array]] = [
        {"a": np.ones(1)},
        {"config": np.array("{")},
        {"config": np.array("{}")},
        {"config": np.array("[]")},
        {"config": np.array('{"format": "else"}')},
        {"config": np.array([object()], dtype=object)},
    ]
    for number in range(len(contents) + 2):
        if number == 1:
            path.write_bytes(b"no model at all")
        if number > 1:
            np.savez(path, **contents[number - 2])
        with pytest.raises(ValueError, match="not a fusedrnn model file"):
            persist.load(path)
    later = '{"format": "fusedrnn model", "format_version": 99}'
    np.savez(path, config=np.array(later))
    with pytest.raises(ValueError, match="later fusedrnn"):
        persist.load(path)
    assert not persist.recognised(tmp_path)
