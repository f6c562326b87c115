"""The last epochs that trackers have received, saved in the run's folder: a resumed run sends the others."""

import threading
from collections.abc import Iterable
from contextlib import suppress

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import SENT_EPOCHS
from simclr_rhd.core.files import write_json
from simclr_rhd.core.records import read_json_object
from simclr_rhd.runs.tracking.trackers import Point, TrackedRun


class SentEpochs:
    """The last epoch of each series that each tracker has received; safe for threads.

    Args:
        run: its folder and identifier. Entries of another run, or in a damaged file, are ignored.
    """

    def __init__(self, run: TrackedRun) -> None:
        self.path, self.run_id, self.lock = run.folder / SENT_EPOCHS, run.id, threading.Lock()
        self.epochs = dict[str, dict[str, int]]()
        with suppress(UserError):
            record = read_json_object(self.path)
            if record.text("run") == run.id:
                self.epochs = record.typed("epochs", dict[str, dict[str, int]])

    def of(self, tracker: str) -> dict[str, int]:
        """Return {series: last epoch} of a tracker."""
        return dict(self.epochs.get(tracker, {}))

    def add(self, tracker: str, points: Iterable[Point]) -> None:
        """Record that a tracker has received points. Where the disk is full, they may be sent twice."""
        with self.lock:
            epochs = self.epochs.setdefault(tracker, {})
            for point in points:
                epochs[point.series] = max(point.epoch, epochs.get(point.series, 0))
            with suppress(OSError):
                write_json(self.path, {"run": self.run_id, "epochs": self.epochs})
