"""The process of a run, before anything heavy is imported: its log, its signals, how it tells the time."""

import logging
import logging.handlers
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from simclr_rhd.core.text import printable

logger = logging.getLogger("simclr_rhd")
T = TypeVar("T")

OUT_OF_MEMORY_MESSAGES = ("allocate memory", "out of memory", "bad_alloc", "bad alloc", "start new thread")
LOG_INTERVAL_S = 5.0  # seconds between progress lines
MAX_BUFFERED_LINES = 100_000  # log lines held in memory until their file is known
MAX_SAVE_S = 20.0  # seconds, on a slow disk
FORCED_EXIT_AFTER_S = 5.0  # seconds after a signal; pre-emptible machines allow some 30, a scheduler 10


class Terminated(BaseException):
    """SIGTERM arrived: a pre-empted machine, or `kill`."""


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


def is_out_of_memory(error: Exception) -> bool:
    """Return True if an error means that no memory is left; PyTorch has only words for it."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in words for sign in OUT_OF_MEMORY_MESSAGES)
    )


def start_log() -> None:
    """Log to standard output, which `nohup ... > file` keeps; errors to standard error.

    The lines are also held in memory until `log_to` names their file. Of the ranks, the leader alone tells
    what happens; all tell their errors.
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
    path = save_dir / "simclr_rhd.log"
    path.touch(mode=0o600)
    path.chmod(0o600)  # it names files, and these may name patients; an earlier version was not so strict
    to_file = logging.FileHandler(path, encoding="utf-8")
    to_file.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    for handler in logger.handlers[:]:
        if isinstance(handler, logging.handlers.MemoryHandler):
            handler.setTarget(to_file)
            handler.close()  # which flushes
            logger.removeHandler(handler)
    logger.addHandler(to_file)


@contextmanager
def mute_logging() -> Iterator[None]:
    """Only errors are logged inside."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def stop_log() -> None:
    """Close what `start_log` and `log_to` opened."""
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()


class _Signals:
    """What has arrived, and what is to be done about it."""

    stop: type[BaseException] | None = None
    raises = True  # the first one does, once
    n_deferred = 0
    exit_callback: Callable[[], object] | None = None
    ending = False


def force_exit(status: int) -> None:
    """End the process from another thread than the main one, whatever that does: rescue what can be."""
    _Signals.ending = True
    try:
        if _Signals.exit_callback:
            rescue = threading.Thread(target=_run_exit_callback, args=[_Signals.exit_callback], daemon=True)
            rescue.start()
            rescue.join(MAX_SAVE_S)
        for handler in logger.handlers:
            handler.flush()
    finally:
        os._exit(status)


def _run_exit_callback(callback: Callable[[], object]) -> None:
    try:
        callback()
    except Exception as error:  # a full disk, a state that is not worth it
        logger.error("error: the last steps could not be saved (%s: %s)", type(error).__name__, error)


def signal_exit_status() -> int:
    """The exit status that a signal asks for, 130 for SIGINT and 143 for SIGTERM; 0 if none has arrived."""
    return next((128 + number for number, stop in _STOP_EXCEPTIONS.items() if stop is _Signals.stop), 0)


@contextmanager
def handle_termination(*, is_follower: bool = False) -> Iterator[None]:
    """Let SIGTERM raise `Terminated` inside, as SIGINT raises KeyboardInterrupt; both once.

    Python runs a signal's handler between two of its own instructions, and one call of a library may take
    minutes. So a thread watches, too: a process that has not ended `FORCED_EXIT_AFTER_S` seconds
    later is ended, after the `exit_callback` that is set.

    Args:
        is_follower: this process follows a leader, and ends when that does: the signal does not raise.
    """
    over = threading.Event()
    reading, writing = socket.socketpair()
    writing.setblocking(False)

    def handle(number: int, _: Any) -> None:
        if _Signals.stop is None:
            _Signals.stop = _STOP_EXCEPTIONS[number]
            _raise_if_due()

    def exit_if_stuck() -> None:
        number = next(
            (byte for byte in iter(lambda: reading.recv(1)[0], 0) if byte in _STOP_EXCEPTIONS), None
        )
        if number is None or over.wait(FORCED_EXIT_AFTER_S + 4 * is_follower):
            return
        if not is_follower:
            logger.error("stopped in the middle of a long step; the same command goes on from what is saved")
        force_exit(128 + number)

    _Signals.stop, _Signals.raises, _Signals.n_deferred = None, not is_follower, 0
    _Signals.exit_callback, _Signals.ending = None, False
    before = {number: signal.signal(number, handle) for number in _STOP_EXCEPTIONS}
    fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=exit_if_stuck, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        if _Signals.ending:  # another thread saves and ends the process: let it
            time.sleep(MAX_SAVE_S)
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        writing.send(b"\0")
        writing.close()


_STOP_EXCEPTIONS: dict[int, type[BaseException]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
}


@contextmanager
def defer_signals() -> Iterator[None]:
    """A signal that arrives inside raises at the end: what is inside is done as a whole.

    Signals raise in the main thread alone; in another one this does nothing.
    """
    here = int(threading.current_thread() is threading.main_thread())
    _Signals.n_deferred += here
    try:
        yield
    finally:
        _Signals.n_deferred -= here
    if here:
        _raise_if_due()


def _raise_if_due() -> None:
    if _Signals.stop and _Signals.raises and not _Signals.n_deferred:
        _Signals.raises = False
        raise _Signals.stop


@contextmanager
def on_forced_exit(callback: Callable[[], object]) -> Iterator[None]:
    """Call `callback`, in another thread, before the process is ended in the middle of the block."""
    before, _Signals.exit_callback = _Signals.exit_callback, callback
    try:
        yield
    finally:
        _Signals.exit_callback = before


def format_duration(seconds: float) -> str:
    """A time in words: '45 s', '12 min', '3 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def progress(
    items: Iterable[T], *, total: int, label: str, unit: str, amount: Callable[[T], float], amount_unit: str
) -> Iterator[T]:
    """Pass items on: with a bar on a terminal, else with a log line every few seconds.

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
    bar = tqdm(items, total=total, desc=label, unit=f" {unit}", disable=None, leave=False)
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
