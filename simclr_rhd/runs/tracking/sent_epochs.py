"""Figures that trackers have received, recorded in the run's folder: a resumed run sends the others."""

import threading
from contextlib import suppress

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import SENT_EPOCHS
from simclr_rhd.core.files import write_json
from simclr_rhd.core.records import read_json_object
from simclr_rhd.runs.tracking.trackers import TrackedRun


class SentEpochs:
    """The last epoch of each pretraining that each tracker has received, and the results; safe for threads.

    Where the disk is full nothing is recorded, and figures may be sent twice.

    Args:
        run: its folder and identifier. Entries of another run, or in a damaged file, are ignored.
    """

    def __init__(self, run: TrackedRun) -> None:
        self.path, self.run_id, self.lock = run.folder / SENT_EPOCHS, run.id, threading.Lock()
        self.epochs, self.results = dict[str, dict[str, int]](), dict[str, str]()
        with suppress(UserError):
            record = read_json_object(self.path)
            if record.text("run") == run.id:
                self.epochs = record.typed("epochs", dict[str, dict[str, int]])
                self.results = record.typed("results", dict[str, str])

    def last_epoch(self, tracker: str, series: str) -> int:
        """The last epoch of a pretraining that a tracker has received; 0 if none."""
        return self.epochs.get(tracker, {}).get(series, 0)

    def add_epoch(self, tracker: str, series: str, epoch: int) -> None:
        """Record that a tracker has received the epochs up to this one."""
        with self.lock:
            self.epochs.setdefault(tracker, {})[series] = epoch
            self._write()

    def add_results(self, tracker: str, digest: str) -> None:
        """Record that a tracker has received the results of this digest."""
        with self.lock:
            self.results[tracker] = digest
            self._write()

    def forget(self, tracker: str) -> None:
        """Record that a tracker has nothing of the run, as its server is another one."""
        with self.lock:
            self.epochs.pop(tracker, None)
            self.results.pop(tracker, None)

    def _write(self) -> None:
        with suppress(OSError):
            write_json(self.path, {"run": self.run_id, "epochs": self.epochs, "results": self.results})
