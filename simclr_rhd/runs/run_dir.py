"""The folder of a run: its lock, and whether a run may start or continue there."""

import fcntl
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from simclr_rhd.core.config import flag_name
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import DRY_RUN_PREFIX, PROTECTED_FILES, RUN_RECORD
from simclr_rhd.core.files import LOCK_FILE, ensure_writable_dir
from simclr_rhd.core.records import read_json_object

LOCK_ATTEMPTS = 5  # as `is_locked` holds a lock for a moment


@contextmanager
def lock_run_dir(save_dir: Path) -> Iterator[None]:
    """Hold `save_dir` for this process; the lock goes with the process, however it ends.

    Raises:
        UserError: the folder cannot be made, or another run is writing to it.
    """
    ensure_writable_dir(save_dir, flag="--save-dir")
    with (save_dir / LOCK_FILE).open("w") as stream:
        try:
            _lock(stream)
        except BlockingIOError:
            raise UserError(
                f"--save-dir {save_dir}: another run is writing there; wait for it, or name another folder"
            ) from None
        except OSError as error:
            raise UserError(
                f"--save-dir {save_dir}: cannot be locked ({error.strerror}); name a folder on a local disk"
            ) from None
        for path in save_dir.glob(".*.part"):  # of a run that was killed while it saved
            path.unlink()
        for path in save_dir.glob(f"{DRY_RUN_PREFIX}*"):  # or while it rehearsed
            shutil.rmtree(path, ignore_errors=True)
        yield


def _lock(stream: IO[str]) -> None:
    """Take a lock for this process alone.

    Raises:
        BlockingIOError: another process holds it, and not only as long as `is_locked` does.
    """
    for attempt in range(LOCK_ATTEMPTS):
        try:
            return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt == LOCK_ATTEMPTS - 1:
                raise
            time.sleep(0.05)


def is_locked(save_dir: Path) -> bool:
    """Return True if a run writes to a folder now; False where that cannot be known."""
    if not (save_dir / LOCK_FILE).is_file():  # a pipe would be waited for
        return False
    try:
        with (save_dir / LOCK_FILE).open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def resume_or_refuse(
    save_dir: Path,
    signature: Mapping[str, object],
    *,
    resume: str,
    overwrite: bool,
    changeable: Collection[str] = (),
    reevaluate: bool = False,
) -> dict[str, Any] | None:
    """Decide what a run with this signature does in `save_dir`; changes nothing there.

    A folder in which no run came as far as its first checkpoint is free.

    Args:
        save_dir: the folder, locked by this process.
        signature: what decides the run's result.
        resume: 'auto' goes on with an unfinished run of the same signature; 'never' refuses.
        overwrite: whatever is there may be replaced.
        changeable: names in a signature that only decide about what follows pretraining.
        reevaluate: what follows pretraining is repeated, and may be of other values of these.

    Returns:
        The record of the run of this signature that is there, finished or not; None for a new run.

    Raises:
        UserError: the folder holds another run, or files of one whose record is lost.
    """
    present = [name for name in PROTECTED_FILES if (save_dir / name).exists()]
    if overwrite or not present:
        return None
    try:
        record = _read_record(save_dir / RUN_RECORD)
    except UserError as error:
        reason = str(error).split("; ")[0]
        raise UserError(
            f"--save-dir {save_dir} holds {present[0]} but no record of its run ({reason}); "
            "name another folder, or pass --overwrite to replace what is there"
        ) from None
    before = record["signature"]
    differing = [name for name in signature.keys() | before.keys() if signature.get(name) != before.get(name)]
    if reevaluate and set(differing) <= set(changeable):
        return record | {"status": "unfinished", "wall_s": {}}
    if differing or resume == "never":
        differences = (
            ", ".join(_describe_difference(name, before, signature) for name in sorted(differing))
            or "the same configuration, and --resume never"
        )
        keep_pretraining = set(differing) <= set(changeable) and bool(differing)
        raise UserError(
            f"--save-dir {save_dir} holds another run ({differences}); name another folder, or "
            + "pass --evaluate-again to keep its pretraining and replace the rest, or " * keep_pretraining
            + "pass --overwrite to replace it"
        )
    return record


def _read_record(path: Path) -> dict[str, Any]:
    """The record of a run that is gone on with, or is finished.

    Raises:
        UserError: a value that is needed is missing, or of another kind.
    """
    record = read_json_object(path)
    status = record.get("status", lambda x: x in ("finished", "unfinished"), "'finished' or 'unfinished'")
    record.object("signature")
    record.object("data").text("fingerprint")
    times = record.object("wall_s") if "wall_s" in record.fields else None
    for stage in times.fields if times else ():
        if times and times.number(stage) is None:
            raise UserError(f"{times.where}: {stage}: found null, wanted seconds")
    if status == "finished":
        record.text("finished"), record.text("summary"), record.boolean("figures")
    return record.fields


def _describe_difference(name: str, before: Mapping[str, object], signature: Mapping[str, object]) -> str:
    flag = flag_name(name)
    if name in before and name in signature:
        return f"{flag} was {before[name]}, is {signature[name]}"
    return f"of another version of this program, which knew {'no' if name in signature else 'a'} {flag}"
