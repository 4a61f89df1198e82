"""One run of fusedrnn train: training, checkpoints, and every way in which it can end."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .._interrupts import uninterrupted
from . import compare, report
from .console import OutputLost, in_words, note, say, say_json, shell, shown
from .progress import Progress
from .saving import Destination, NotSaved
from .stops import Stopped, stop_code, stop_name

if TYPE_CHECKING:
    from ..charlm import Trainer
    from .train import Start

__all__ = ["Session"]

# A checkpoint takes at most this share of the time, so large models are saved less often.
CHECKPOINT_SHARE = 0.05


class Session:
    """A run, from the introduction to the exit code."""

    def __init__(self, arguments: argparse.Namespace, start: Start, out: Path) -> None:
        self._start = start
        self._quiet: bool = arguments.quiet
        self._json: bool = arguments.json
        self._compare: bool = arguments.compare
        self._destination = Destination(
            out, replace=arguments.force or _same(out, arguments.resume)
        )
        self._every: float = arguments.checkpoint_every
        self._due = self._every  # seconds of training at which the next checkpoint is due
        # The number of updates in the file of this run; None: there is no file yet.
        self._saved_updates = start.updates if _same(out, arguments.resume) else None
        self._lost: OutputLost | None = None

    def run(self) -> int:
        """Train, save, report.

        Returns
        -------
        int
            The exit code.
        """
        trainer = self._trainer = self._start.make()
        self._destination.check_room(_bytes_of(trainer))
        self._began = (trainer.characters, trainer.seconds)
        self._due = trainer.seconds + self._every
        introduction = report.introduction(
            self._start.corpus, trainer, self._start.run, self._destination.path
        )
        self._tell(introduction)
        self._speeds = ""
        if self._compare:
            self._speeds = compare.measure(self._start.make)
            self._tell(self._speeds)
        try:
            self._train()
            return self._finished()
        except (KeyboardInterrupt, Stopped) as stop:
            return self._interrupted(stop)
        except FloatingPointError as error:
            note(f"fusedrnn train: {error} (--lr). {self._kept()}")
            self._tell_result(None, "diverged")
            return self._code(1)
        except Exception:  # such as MemoryError: what was learned so far is complete
            self._rescue()
            raise

    # --- training -----------------------------------------------------------------------------

    def _train(self) -> None:
        progress = Progress(sys.stderr, self._quiet)

        def shown_and_saved(trainer: Trainer, share: float) -> None:
            progress.update(share, lambda: report.status(trainer, *self._began))
            if share < 1.0 and self._every and trainer.seconds >= self._due:
                self._checkpoint(progress)

        try:
            self._trainer.run(**self._start.run, progress=shown_and_saved)
            # If the last update spoiled the model, it is not saved over a good one.
            self._trainer.check()
        finally:
            progress.close()

    def _checkpoint(self, progress: Progress) -> None:
        """Save a checkpoint. Raises if the run diverged; a full disk does not end the run."""
        self._trainer.check()
        began = time.perf_counter()
        try:
            self._destination.write(self._save)
            self._saved_updates = self._trainer.updates
        except OSError as error:
            progress.close()
            note(f"{in_words(error)}: no checkpoint; the run goes on, and tries again")
        spent = time.perf_counter() - began
        self._due = self._trainer.seconds + max(self._every, spent / CHECKPOINT_SHARE)

    def _save(self, path: Path) -> None:
        from ..charlm import runfile

        with uninterrupted():
            runfile.save(path, self._trainer, self._start.about)

    # --- how it ends --------------------------------------------------------------------------

    def _finished(self) -> int:
        trainer, corpus = self._trainer, self._start.corpus
        try:
            self._save_somewhere()
        except NotSaved as error:
            note(f"The run is not saved: {error}. {self._kept()}")
            self._tell_result(None, "not saved")
            return self._code(1)
        found = report.measure(corpus, trainer)
        self._tell(report.table(corpus, trainer, found))
        if self._speeds:
            self._tell(self._speeds)
        if found.diverged:
            note(
                f"{found.model:.3g} bits per character: the run diverged; a lower --lr may help. "
                f"{self._kept()}"
            )
        elif not self._quiet and not self._json:
            self._tell(report.ending(corpus, trainer.model, self._destination.path))
        self._tell_result(found, None)
        return self._code(1 if found.diverged or self._destination.elsewhere else 0)

    def _interrupted(self, stop: BaseException) -> int:
        name, updates = stop_name(stop), self._trainer.updates
        if updates == self._start.updates:
            note(f"Interrupted by {name} before the first update: there is nothing to save")
        elif self._saved_updates != updates and self._spoiled():
            note(f"Interrupted by {name}; the run had diverged and is not saved. {self._kept()}")
        else:
            try:
                self._save_somewhere()
                path = self._destination.path
                note(
                    f"Interrupted by {name} after {report.plural(updates, 'update')}. Saved "
                    f"{shown(path)}; go on with: fusedrnn train --resume {shell(path)}"
                )
            except NotSaved as error:
                note(f"Interrupted by {name}. The run is not saved: {error}. {self._kept()}")
        self._tell_result(None, name)
        return stop_code(stop)

    def _rescue(self) -> None:
        """Save what was learned before an unrelated error."""
        updates = self._trainer.updates
        if updates == self._start.updates:
            return
        if self._saved_updates != updates and self._spoiled():
            return
        try:
            self._save_somewhere()
            made = report.plural(updates, "update")
            note(f"Saved {shown(self._destination.path)} after {made}, before this error:")
        except NotSaved as failure:
            note(f"The run is not saved: {failure}. {self._kept()}")

    def _save_somewhere(self) -> None:
        """Save what is not saved yet; if that fails, save in another folder.

        Raises
        ------
        NotSaved
            It cannot be saved anywhere.
        """
        with uninterrupted():
            if self._saved_updates != self._trainer.updates:
                self._destination.write_somewhere(self._save)
                self._saved_updates = self._trainer.updates

    def _spoiled(self) -> bool:
        try:
            self._trainer.check()
        except FloatingPointError:
            return True
        return False

    def _kept(self) -> str:
        """Say what of the run is on the disk, in a sentence without its full stop."""
        if self._saved_updates is None:
            return "Nothing was saved"
        return f"{shown(self._destination.path)} has the run up to update {self._saved_updates:,}"

    # --- words --------------------------------------------------------------------------------

    def _tell(self, text: str) -> None:
        """Print a part of the report. If it cannot be written, the run continues."""
        if self._quiet or self._json or self._lost is not None:
            return
        try:
            say(text)
        except OutputLost as lost:
            self._lost = lost

    def _tell_result(self, found: report.Validation | None, stopped: str | None) -> None:
        if not self._json:
            return
        saved = None if self._saved_updates is None else self._destination.path
        result = report.result(self._start.corpus, self._trainer, found, saved, stopped)
        try:
            say_json(result)
        except OutputLost as lost:
            self._lost = lost

    def _code(self, code: int) -> int:
        if self._lost is not None:
            saved = self._saved_updates == self._trainer.updates
            where = f"Saved {shown(self._destination.path)}" if saved else self._kept()
            note(f"{self._lost}: the report is lost. {where}")
            return code or self._lost.code
        return code


def _same(out: Path, resumed: str | None) -> bool:
    """Whether a run is saved in the file that it was loaded from."""
    if resumed is None or not os.path.exists(out) or not os.path.exists(resumed):
        return False
    return os.path.samefile(out, resumed)


def _bytes_of(trainer: Trainer) -> int:
    """Return the approximate size of a run's file: parameters, and Adam's two moments of each."""
    return 3 * trainer.model.parameter_count * trainer.model.dtype.itemsize
