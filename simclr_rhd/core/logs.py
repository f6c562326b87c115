"""The log of a run: lines on the terminal and in a file, durations, progress. Nothing heavy is imported."""

import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from simclr_rhd.core.file_names import LOG
from simclr_rhd.core.text import printable

logger = logging.getLogger("simclr_rhd")
T = TypeVar("T")

LOG_INTERVAL_S = 5.0  # seconds between progress lines
MAX_BUFFERED_LINES = 100_000  # log lines in memory until their file is known


class PrintableFormatter(logging.Formatter):
    """Lines without characters that are not seen: names of files and cells of tables command no terminal."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        return printable(super().format(record), keep="\n\t")


def rank() -> int:
    """The number that torchrun gave this process, 0 without it; rank 0 leads, the others follow."""
    return int(os.environ.get("RANK", "0"))


class _Start:
    time = time.perf_counter()


def elapsed() -> float:
    """Seconds since `start_log`."""
    return time.perf_counter() - _Start.time


def start_log() -> None:
    """Log to standard output, which `nohup ... > file` keeps; errors to standard error.

    The lines are also buffered in memory until `log_to` names their file. Of the ranks, the leader alone
    logs what happens; all log their errors.
    """
    _Start.time = time.perf_counter()
    logging.raiseExceptions = False  # a reader that went away, as in `| head`, must not end a run
    logger.setLevel(logging.ERROR if rank() else logging.INFO)
    logger.propagate = False
    to_stdout, to_stderr = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    to_stdout.addFilter(lambda record: record.levelno < logging.ERROR)
    to_stderr.setLevel(logging.ERROR)
    for handler in (to_stdout, to_stderr):
        handler.setFormatter(PrintableFormatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    logger.addHandler(logging.handlers.MemoryHandler(MAX_BUFFERED_LINES, flushLevel=logging.CRITICAL + 1))


def log_to(save_dir: Path) -> None:
    """Keep the log in `save_dir/simclr_rhd.log`, from its first line; a resumed run goes on with it."""
    path = save_dir / LOG
    # It names files, which may name patients; a log of an older version may be readable by all.
    path.touch(mode=0o600)
    path.chmod(0o600)
    to_file = logging.FileHandler(path, encoding="utf-8")
    to_file.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    for handler in logger.handlers[:]:
        if isinstance(handler, logging.handlers.MemoryHandler):
            handler.setTarget(to_file)
            handler.close()  # which flushes
            logger.removeHandler(handler)
    logger.addHandler(to_file)


def is_in_file() -> bool:
    """Return True once the log is kept in a run's folder."""
    return any(isinstance(handler, logging.FileHandler) for handler in logger.handlers)


@contextmanager
def mute_logging() -> Iterator[None]:
    """Log only errors inside the block."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def stop_log() -> None:
    """Close what `start_log` and `log_to` opened; the lines go to the caller's own handlers again."""
    logger.propagate = True
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()


def format_duration(seconds: float) -> str:
    """A time in words: '45 s', '12 min', '3 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def progress(
    items: Iterable[T], *, total: int, label: str, unit: str, amount: Callable[[T], float], amount_unit: str
) -> Iterator[T]:
    """Pass items on: with a bar on a terminal, else with a log line every few seconds, of the leader alone.

    Args:
        items: what is done, one after another.
        total: how many there will be.
        label: begins the line.
        unit: what the items are.
        amount: how much an item is.
        amount_unit: of what.
    """
    from tqdm import tqdm

    start = last = time.perf_counter()
    done = 0.0
    hidden = True if rank() else None  # None: where there is no terminal
    bar = tqdm(items, total=total, desc=label, unit=f" {unit}", disable=hidden, leave=False)
    for number, item in enumerate(bar, start=1):
        done += amount(item)
        now = time.perf_counter()
        if now - last > LOG_INTERVAL_S:
            last, seconds = now, now - start
            logger.info(
                "%s: %d of %d %s, %.0f %s/s, %.1f %s/s, %s left",
                *(label, number, total, unit),
                *(number / seconds, unit, done / seconds, amount_unit),
                format_duration(seconds / number * (total - number)),
            )
        yield item
