"""Trackers of a run, each in a thread of its own, so that training never waits for a server.

A new run is refused if a tracker does not answer at first; later, what could not be sent is sent again. No
names of patients, frames, folders or machines are sent.
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
from concurrent.futures import Future
from functools import partial
from itertools import groupby

from simclr_rhd.core.errors import UserError, reason_of
from simclr_rhd.core.file_names import HISTORY
from simclr_rhd.runs.record import HeadlineScore
from simclr_rhd.runs.tracking.sent_epochs import SentEpochs
from simclr_rhd.runs.tracking.trackers import MAX_FINISH_S, MAX_START_S, TRACKERS, Point, TrackedRun

logger = logging.getLogger("simclr_rhd")

FIRST_RETRY_S, LONGEST_RETRY_S = 30.0, 600.0  # seconds between attempts
MAX_CONTACT_S = MAX_START_S + 10  # longer than the packages wait, whose errors say more
MAX_STOP_S = 2.0  # seconds for what is left to be sent when a run is stopped
MAX_REASON_CHARS = 300
MAX_POINTS = 1000  # in a message, as many as MLflow takes
# Flags whose value may name a folder, a file or an account. They are sent only if it is in PUBLIC_VALUES.
PRIVATE_FLAGS = frozenset(
    "data labelled_prefix unlabelled_prefix labels_csv patients_csv split init save_dir cache_dir "
    "billing_project".split()
)
PUBLIC_VALUES = frozenset({"demo", "auto", "none", "random", "imagenet"})
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
        run: the run, which is begun there, or resumed.
        sent: the epochs that trackers have.
        required: refuse the run if the tracker does not answer, instead of trying again.
    """

    def __init__(self, name: str, run: TrackedRun, sent: SentEpochs, *, required: bool) -> None:
        self.name, self.sent, self.queued = name, sent, sent.of(name)
        self.tracker, self.is_complete, self.has_warned = TRACKERS[name](), False, False
        self.actions, self.closing = queue.SimpleQueue[Callable[[], None] | None](), threading.Event()
        self.contact = Future[None]()  # the first one, if it is required
        begin = partial(self.tracker.start, run)
        if not required:
            self.contact.set_result(None)
            self.actions.put(begin)
        self.thread = threading.Thread(target=self._work, args=(begin,), daemon=True)
        self.thread.start()

    def check_contact(self) -> None:
        """Wait for the first contact.

        Raises:
            UserError: the tracker is required, and does not answer.
        """
        try:
            error = self.contact.exception(MAX_CONTACT_S)
        except TimeoutError:
            error = TimeoutError("no answer")
        if error:
            raise UserError(
                f"--tracker {self.name}: {_reason(error)}. Training has not started: check the key and the "
                f"address, or leave --tracker {self.name} away"
            )

    def send_epochs(self, series: str, records: Iterable[Mapping[str, object]]) -> None:
        """Send the figures of those epochs of a pretraining that are not on their way yet."""
        last = self.queued.get(series, 0)
        new = [record for record in records if int(str(record["epoch"])) > last]
        if new:
            self.queued[series] = int(str(new[-1]["epoch"]))
        for points in _messages(point for record in new for point in _points(series, record)):
            self.actions.put(partial(self._log_epochs, points))

    def send(self, points: Iterable[Point]) -> None:
        """Send other figures."""
        for message in _messages(points):
            self.actions.put(partial(self.tracker.log, message))

    def close(self, *, failed: bool) -> None:
        """Send what is left; of a run that was stopped, what can be sent in a moment."""
        self.actions.put(partial(self.tracker.close, failed=failed))
        self.actions.put(None)
        self.closing.set()
        self.thread.join(MAX_STOP_S if failed else MAX_FINISH_S)
        is_refused = not self.contact.done() or self.contact.exception()
        if not (self.is_complete or is_refused):
            logger.warning(
                "WARNING --tracker %s: some figures were not sent; %s has every epoch", self.name, HISTORY
            )

    def _log_epochs(self, points: Sequence[Point]) -> None:
        self.tracker.log(points)
        self.sent.add(self.name, points)

    def _work(self, begin: Callable[[], None]) -> None:
        if not (self.contact.done() or self._is_contacted(begin)):
            return
        for action in iter(self.actions.get, None):
            wait = FIRST_RETRY_S
            while not self._succeeds(action):
                if self.closing.is_set():
                    return
                self.closing.wait(wait)
                wait = min(2 * wait, LONGEST_RETRY_S)
        self.is_complete = True

    def _is_contacted(self, begin: Callable[[], None]) -> bool:
        try:
            begin()
        except Exception as error:  # whatever a server, a network or a client of theirs comes up with
            self.contact.set_exception(error)
            return False
        self.contact.set_result(None)
        return True

    def _succeeds(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as error:  # as above
            if not self.has_warned:
                logger.warning(
                    "WARNING --tracker %s: %s. The run continues; figures that were not sent are kept and "
                    "sent later",
                    *(self.name, _reason(error)),
                )
            self.has_warned = True
            return False
        return True


def _messages(points: Iterable[Point]) -> Iterator[list[Point]]:
    """Cut points into messages, between two epochs: one of which a half is sent would count as sent."""
    message: list[Point] = []
    for _, of_epoch in groupby(points, key=lambda point: point[:2]):
        epoch = list(of_epoch)
        if message and len(message) + len(epoch) > MAX_POINTS:
            yield message
            message = []
        message += epoch
    if message:
        yield message


def _reason(error: BaseException) -> str:
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
        """Start the trackers; starting those of a resumed run is tried again in the background.

        Raises:
            UserError: a tracker of a new run does not answer.
        """
        sent = SentEpochs(run)
        self.senders = [_Sender(name, run, sent, required=is_new) for name in self.names]
        for sender in self.senders:
            sender.check_contact()

    def log_epochs(self, series: str, history: Sequence[Mapping[str, object]]) -> None:
        """Send the figures of those epochs of a pretraining that were not sent before."""
        for sender in self.senders:
            sender.send_epochs(series, history)

    def log_results(
        self, history: Sequence[Mapping[str, object]], scores: Mapping[str, HeadlineScore]
    ) -> None:
        """Send what is left of the pretraining, all epochs of heads and fine-tuning, and the final scores."""
        self.log_epochs("simclr", [row for row in history if row["phase"] == "simclr"])
        rows = [row for row in history if row["phase"] != "simclr"]
        points = [point for row in rows for point in _points(_series_of(row), row)]
        for target, score in scores.items():
            name = _sanitize_name(f"{target}/balanced_accuracy_per_{score.level}")
            ends = {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
            points += [Point("test", 0, end, value) for end, value in ends.items() if value is not None]
        for sender in self.senders:
            sender.send(points)


def _points(series: str, record: Mapping[str, object]) -> Iterator[Point]:
    """The figures of an epoch's record, those of its tables, such as 'knn', too."""
    for name, value in record.items():
        for key, figure in value.items() if isinstance(value, dict) else [("", value)]:
            if isinstance(figure, float) and math.isfinite(figure):
                yield Point(series, int(str(record["epoch"])), _sanitize_name(f"{name}/{key}".rstrip("/")), figure)


def _series_of(row: Mapping[str, object]) -> str:
    """The series of an epoch: its task, or the fine-tuning with the number of the model."""
    return f"{row['phase']}-{row['way']}" if "way" in row else str(row["phase"])


def _sanitize_name(name: str) -> str:
    """Replace what trackers refuse in the name of a figure."""
    return re.sub(r"[^\w .:/-]", "_", name)


def public_config(config: Mapping[str, object]) -> dict[str, object]:
    """The flags that are set, without those that name folders, files or accounts."""
    return {
        name: value
        for name, value in config.items()
        if value is not None and (name not in PRIVATE_FLAGS or value in PUBLIC_VALUES)
    }


def tracker_id(known: object) -> str:
    """The identifier of a run that is continued, if it has one; else a new one."""
    is_id = isinstance(known, str) and re.fullmatch("[0-9a-f]{16}", known)
    return str(known) if is_id else uuid.uuid4().hex[:16]
