"""One tracker and the thread that sends to it: training never waits for a server."""

import hashlib
import logging
import math
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import groupby

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import HISTORY
from simclr_rhd.runs.tracking.sent_epochs import SentEpochs
from simclr_rhd.runs.tracking.trackers import MAX_FINISH_S, MAX_START_S, TRACKERS, Point, TrackedRun

logger = logging.getLogger("simclr_rhd")

FIRST_RETRY_S, LONGEST_RETRY_S = 30.0, 600.0  # seconds between attempts
MAX_CONTACT_S = MAX_START_S + 10  # longer than the packages wait, whose errors say more
MAX_STOP_S = 2.0  # seconds for what is left to be sent when a run is stopped
MAX_REASON_CHARS = 300
MAX_POINTS = 1000  # in a message, as many as MLflow takes


class Sender:
    """A tracker and the thread that it works in.

    Args:
        name: key of `TRACKERS`.
        run: the run, which is begun there, or resumed.
        sent: the epochs that trackers have.
        required: refuse the run if the tracker does not answer, instead of trying again.
    """

    def __init__(self, name: str, run: TrackedRun, sent: SentEpochs, *, required: bool) -> None:
        self.name, self.sent, self.queued = name, sent, dict[str, int]()
        self.tracker, self.is_complete, self.has_warned = TRACKERS[name](), False, False
        self.actions, self.closing = queue.SimpleQueue[Callable[[], None] | None](), threading.Event()
        self.contact = Future[None]()  # the first one, if it is required
        begin = partial(self._begin, run)
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
                f"--tracker {self.name}: {_reason(error)}. Training has not started: {self.tracker.advice}; "
                f"or leave --tracker {self.name} away"
            )

    def send_epochs(self, series: str, records: Iterable[Mapping[str, object]]) -> None:
        """Send the figures of those epochs of a pretraining that were not sent before."""
        last = self.queued.get(series, 0)
        new = [record for record in records if _epoch_of(record) > last]
        if new:
            self.queued[series] = _epoch_of(new[-1])
            self.actions.put(partial(self._send_epochs, series, new))

    def send_config(self, config: Mapping[str, object]) -> None:
        """Send the run's configuration."""
        self.actions.put(partial(self.tracker.log_config, config))

    def send_results(self, points: Sequence[Point]) -> None:
        """Send the figures that come after pretraining, unless the tracker has the very same."""
        self.actions.put(partial(self._send_results, points))

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

    def _begin(self, run: TrackedRun) -> None:
        if not self.tracker.start(run):
            self.sent.forget(self.name)

    def _send_epochs(self, series: str, records: Sequence[Mapping[str, object]]) -> None:
        last = self.sent.last_epoch(self.name, series)
        new = (record for record in records if _epoch_of(record) > last)
        for message in _messages(point for record in new for point in points_of(series, record)):
            self.tracker.log(message)
            self.sent.add_epoch(self.name, series, message[-1].epoch)

    def _send_results(self, points: Sequence[Point]) -> None:
        digest = hashlib.sha256(repr(points).encode()).hexdigest()
        if self.sent.results.get(self.name) != digest:
            for message in _messages(points):
                self.tracker.log(message)
            self.sent.add_results(self.name, digest)

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
    end = "…" if len(text) > MAX_REASON_CHARS else ""
    return text[:MAX_REASON_CHARS].rstrip(". ") + end or type(error).__name__


def points_of(series: str, record: Mapping[str, object]) -> Iterator[Point]:
    """The figures of an epoch's record, those of its tables, such as 'knn', too."""
    for name, value in record.items():
        for key, figure in value.items() if isinstance(value, dict) else [("", value)]:
            if isinstance(figure, float) and math.isfinite(figure):
                full_name = sanitize_name(f"{name}/{key}".rstrip("/"))
                yield Point(series, _epoch_of(record), full_name, figure)


def _epoch_of(record: Mapping[str, object]) -> int:
    return int(str(record["epoch"]))


def sanitize_name(name: str) -> str:
    """Replace what trackers refuse in the name of a figure."""
    return re.sub(r"[^\w .:/-]", "_", name)
