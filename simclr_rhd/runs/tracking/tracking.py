"""The trackers of a run, each in a thread of its own: a training never waits for a server, nor ends with one.

A new run is refused where the first contact fails; later, what could not be sent is tried again. Names of
patients, frames, folders and machines are not sent.
"""

import importlib
import logging
import math
import os
import queue
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from simclr_rhd.core.errors import UserError, reason_of
from simclr_rhd.core.file_names import HISTORY
from simclr_rhd.runs.record import HeadlineScore
from simclr_rhd.runs.tracking.sent_epochs import SentEpochs
from simclr_rhd.runs.tracking.trackers import MAX_FINISH_S, MAX_START_S, TRACKERS, Point, TrackedRun

logger = logging.getLogger("simclr_rhd")

FIRST_RETRY_S, LONGEST_RETRY_S = 30.0, 600.0  # seconds between attempts
MAX_STOP_S = 2.0  # seconds for what is left to be sent when a run is stopped
MAX_REASON_CHARS = 300
POINTS_AT_ONCE = 1000  # as many as MLflow takes
# Flags that may name a folder, a file or an account; of these only words that name none are sent.
PLACES = frozenset(
    "data labelled_prefix unlabelled_prefix labels_csv patients_csv split init save_dir cache_dir "
    "billing_project".split()
)
NO_PLACES = frozenset({"demo", "auto", "none", "random", "imagenet"})
ENVIRONMENT = {  # of the packages, where the user has not set it
    "MLFLOW_DISABLE_TELEMETRY": "true",  # to the makers
    "WANDB_ERROR_REPORTING": "false",  # to the makers
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # it is tried again here
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class _Sender:
    """A tracker and the thread that it works in.

    Args:
        name: key of `TRACKERS`.
        run: the run, which is begun there, or continued.
        sent: the epochs that trackers have.
        required: refuse the run where the first contact fails, instead of trying again.
    """

    def __init__(self, name: str, run: TrackedRun, sent: SentEpochs, *, required: bool) -> None:
        self.name, self.sent, self.queued, self.required = name, sent, sent.of(name), required
        self.tracker, self.is_complete, self.has_warned = TRACKERS[name](), False, False
        self.actions, self.closing = queue.SimpleQueue[Callable[[], None] | None](), threading.Event()
        self.contact, self.contact_error = threading.Event(), "no answer"
        self.actions.put(partial(self._start, run))
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    @property
    def is_refused(self) -> bool:
        """Return whether the run needs this follower and has no contact to it."""
        return self.required and bool(self.contact_error)

    def check_contact(self) -> None:
        """Wait for the first contact, where it is required.

        Raises:
            UserError: there is none.
        """
        if self.required:
            self.contact.wait(MAX_START_S)
        if self.is_refused:
            raise UserError(
                f"--tracker {self.name}: {self.contact_error}. Nothing is trained yet: mend it, or leave "
                f"--tracker {self.name} away"
            )

    def send_epochs(self, series: str, records: Iterable[Mapping[str, object]]) -> None:
        """Send the figures of those epochs that are not on their way yet."""
        last = self.queued.get(series, 0)
        points = [point for record in records for point in _points(series, record) if point.epoch > last]
        self.queued[series] = max([last, *(point.epoch for point in points)])
        self.send(points)

    def send(self, points: Sequence[Point]) -> None:
        """Send figures."""
        for first in range(0, len(points), POINTS_AT_ONCE):
            self.actions.put(partial(self._log, points[first : first + POINTS_AT_ONCE]))

    def close(self, *, failed: bool) -> None:
        """Send what is left; of a run that was stopped, what can be sent in a moment."""
        self.actions.put(partial(self.tracker.close, failed=failed))
        self.actions.put(None)
        self.closing.set()
        self.thread.join(MAX_STOP_S if failed else MAX_FINISH_S)
        if not self.is_complete:
            logger.warning("WARNING --tracker %s: not all was sent; %s has every epoch", self.name, HISTORY)

    def _start(self, run: TrackedRun) -> None:
        try:
            self.tracker.start(run)
            self.contact_error = ""
        except Exception as error:
            self.contact_error = _reason(error)
            raise
        finally:
            self.contact.set()

    def _log(self, points: Sequence[Point]) -> None:
        self.tracker.log(points)
        self.sent.add(self.name, points)

    def _work(self) -> None:
        for action in iter(self.actions.get, None):
            wait = FIRST_RETRY_S
            while not self._succeeds(action):
                if self.closing.is_set() or self.is_refused:
                    return
                self.closing.wait(wait)
                wait = min(2 * wait, LONGEST_RETRY_S)
        self.is_complete = True

    def _succeeds(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # whatever a server, a network or a client of theirs comes up with
            if not (self.has_warned or self.is_refused):
                logger.warning(
                    "WARNING --tracker %s: %s. The run goes on, and what was not sent is kept for later",
                    *(self.name, _reason(error)),
                )
            self.has_warned = True
            return False
        return True


def _reason(error: Exception) -> str:
    """The message of a tracker's error, short and without passwords."""
    text = re.sub(r"://[^/@\s]*@", "://", " ".join(str(error).split()))
    return text[:MAX_REASON_CHARS].rstrip(".") or type(error).__name__


class Tracking:
    """The trackers of a run; none before `start`, and none at the ranks that follow.

    Args:
        names: keys of `TRACKERS`.

    Raises:
        UserError: the package of one is not installed, or damaged.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names, self.senders = names, list[_Sender]()
        for name in names:
            for variable, value in ENVIRONMENT.items():
                os.environ.setdefault(variable, value)
            try:
                importlib.import_module(name)
            except ImportError:
                raise UserError(
                    f"--tracker {name} needs a package that is not installed: pip install {name}"
                ) from None
            except Exception as error:  # whatever a foreign package raises
                raise UserError(f"--tracker {name}: its package is damaged{reason_of(error)}") from None

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for sender in self.senders:
            sender.close(failed=kind is not None)

    def start(self, run: TrackedRun, *, is_new: bool) -> None:
        """Begin to send.

        Raises:
            UserError: a tracker of a new run does not answer; one of a run that is continued is tried again.
        """
        sent = SentEpochs(run)
        self.senders = [_Sender(name, run, sent, required=is_new) for name in self.names]
        try:
            for sender in self.senders:
                sender.check_contact()
        finally:
            self.senders = [sender for sender in self.senders if not sender.is_refused]

    def log_epochs(self, series: str, history: Sequence[Mapping[str, object]]) -> None:
        """Send the figures of the epochs of a pretraining that were not sent before."""
        for sender in self.senders:
            sender.send_epochs(series, history)

    def log_results(
        self, history: Sequence[Mapping[str, object]], scores: Mapping[str, HeadlineScore]
    ) -> None:
        """Send the epochs that were not sent before, and the final scores of each target."""
        self.log_epochs("simclr", [row for row in history if row["phase"] == "simclr"])
        rows = [row for row in history if row["phase"] != "simclr"]
        points = [point for row in rows for point in _points(_series_of(row), row)]
        for target, of in scores.items():
            name = _plain(f"{target}/balanced_accuracy_per_{of.level}")
            ends = {name: of.value, f"{name}_low": of.low, f"{name}_high": of.high}
            points += [Point("test", 0, end, value) for end, value in ends.items() if value is not None]
        for sender in self.senders:
            sender.send(points)


def _points(series: str, record: Mapping[str, object]) -> Iterator[Point]:
    """The figures of an epoch's record, those of its tables, such as 'knn', too."""
    for name, value in record.items():
        for key, figure in value.items() if isinstance(value, dict) else [("", value)]:
            if isinstance(figure, float) and math.isfinite(figure):
                yield Point(series, int(str(record["epoch"])), _plain(f"{name}/{key}".rstrip("/")), figure)


def _series_of(row: Mapping[str, object]) -> str:
    """The series of an epoch: its task, or the fine-tuning with the number of the model."""
    return f"{row['phase']}-{row['way']}" if "way" in row else str(row["phase"])


def _plain(name: str) -> str:
    """A name of a figure without what trackers refuse there."""
    return re.sub(r"[^\w .:/-]", "_", name)


def public_config(config: Mapping[str, object]) -> dict[str, object]:
    """The flags that are set, without those that name folders, files or accounts."""
    return {
        name: value
        for name, value in config.items()
        if value is not None and (name not in PLACES or value in NO_PLACES)
    }


def tracker_id(known: object) -> str:
    """The identifier of a run that is continued, if it has one; else a new one."""
    is_id = isinstance(known, str) and re.fullmatch("[0-9a-f]{16}", known)
    return str(known) if is_id else uuid.uuid4().hex[:16]
