"""Signals that end a run: SIGINT and SIGTERM raise once, and a stuck process saves its state and exits."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger("simclr_rhd")

MAX_SAVE_S = 20.0  # seconds, on a slow disk
FORCED_EXIT_AFTER_S = 5.0  # seconds after a signal; pre-emptible machines allow some 30, a scheduler 10


class Terminated(BaseException):
    """SIGTERM arrived: a pre-empted machine, or `kill`."""


_STOP_EXCEPTIONS: dict[int, type[BaseException]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
}


class _Signals:
    """The signal that has arrived, and how the process ends."""

    stop: type[BaseException] | None = None
    raises = True  # the first one does, once
    n_deferred = 0
    exit_callback: Callable[[], object] | None = None
    ending = False


def force_exit(status: int) -> None:
    """End the process from a thread, even if the main thread is stuck; save its state first, if possible."""
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
    ended = threading.Event()
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
        if number is None or ended.wait(FORCED_EXIT_AFTER_S + 4 * is_follower):
            return
        if not is_follower:
            logger.error(
                "stopped in the middle of a long step; the same command continues from the last checkpoint"
            )
        force_exit(128 + number)

    _Signals.stop, _Signals.raises, _Signals.n_deferred = None, not is_follower, 0
    _Signals.exit_callback, _Signals.ending = None, False
    before = {number: signal.signal(number, handle) for number in _STOP_EXCEPTIONS}
    fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=exit_if_stuck, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        if _Signals.ending:  # another thread saves and ends the process: let it
            time.sleep(MAX_SAVE_S)
        signal.set_wakeup_fd(fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        writing.send(b"\0")
        writing.close()


@contextmanager
def defer_signals() -> Iterator[None]:
    """Let a signal that arrives inside raise at the end: what is inside is done as a whole.

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
