"""The process of a run, before anything heavy is imported: its log, its signals, how it tells the time."""

import logging
import logging.handlers
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

logger = logging.getLogger("simclr_rhd")
T = TypeVar("T")

LOG_EVERY = 5.0  # seconds between progress lines
LINES_KEPT = 100_000  # log lines held in memory until their file is known


class Terminated(BaseException):
    """SIGTERM arrived: a pre-empted machine, or `kill`."""


def start_log() -> None:
    """Log to standard output, which `nohup ... > file` keeps; errors to standard error.

    The lines are also held in memory until `log_to` names their file.
    """
    logging.raiseExceptions = False  # a reader that went away, as in `| head`, must not end a run
    logger.setLevel(logging.INFO)
    logger.propagate = False
    to_stdout, to_stderr = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    to_stdout.addFilter(lambda record: record.levelno < logging.ERROR)
    to_stderr.setLevel(logging.ERROR)
    for handler in (to_stdout, to_stderr):
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    logger.addHandler(logging.handlers.MemoryHandler(LINES_KEPT, flushLevel=logging.CRITICAL + 1))


def log_to(save_dir: Path) -> None:
    """Keep the log in `save_dir/simclr_rhd.log`, from its first line; a resumed run goes on with it."""
    to_file = logging.FileHandler(save_dir / "simclr_rhd.log", encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for handler in logger.handlers[:]:
        if isinstance(handler, logging.handlers.MemoryHandler):
            handler.setTarget(to_file)
            handler.close()  # which flushes
            logger.removeHandler(handler)
    logger.addHandler(to_file)


def stop_log() -> None:
    """Close what `start_log` and `log_to` opened."""
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` inside, so that it unwinds as Ctrl-C does."""

    def terminate(*_: Any) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def duration(seconds: float) -> str:
    """A time in words: '45 s', '12 min', '3 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def progress(
    items: Iterable[T], *, total: int, where: str, unit: str, amount: Callable[[T], float], amount_unit: str
) -> Iterator[T]:
    """Pass items on: with a bar on a terminal, else with a log line every few seconds.

    Args:
        items: what is done, one after another.
        total: how many there will be.
        where: begins the line.
        unit: what the items are.
        amount: how much an item is.
        amount_unit: of what.
    """
    from tqdm import tqdm

    start = last = time.perf_counter()
    done = 0.0
    bar = tqdm(items, total=total, desc=where, unit=f" {unit}", disable=None, leave=False)
    for number, item in enumerate(bar, start=1):
        done += amount(item)
        now = time.perf_counter()
        if now - last > LOG_EVERY:
            last, seconds = now, now - start
            logger.info(
                "%s: %d of %d %s, %.0f %s/s, %.1f %s/s, %s left",
                *(where, number, total, unit),
                *(number / seconds, unit, done / seconds, amount_unit),
                duration(seconds / number * (total - number)),
            )
        yield item
