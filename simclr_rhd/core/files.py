"""Files appear whole or not at all: written beside their place, then moved onto it."""

import csv
import fcntl
import itertools
import json
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import FILES_NAMING_PATIENTS
from simclr_rhd.core.text import as_cell

LOCK_FILE = ".lock"  # in a folder that is being written
OWNER_ONLY_MODE = 0o600


@contextmanager
def atomic_write(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; move it onto `path` if the block ends without an error.

    Args:
        path: the file.
        private: its owner alone may read it, as those of `FILES_NAMING_PATIENTS`.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    private = private or path.name in FILES_NAMING_PATIENTS
    try:
        if private:
            part.touch(mode=OWNER_ONLY_MODE)
        yield part
        if private:
            part.chmod(OWNER_ONLY_MODE)  # of another file that was moved here
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_directory(folder: Path) -> Iterator[Path]:
    """Yield a folder beside `folder` to build in; move it into place if the block ends without an error.

    What others left when they were killed is removed: a folder that is being built is locked.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".*.building"):
        with suppress(OSError), (left / LOCK_FILE).open("r+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".building", dir=folder.parent))
    try:
        with (part / LOCK_FILE).open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield part
            (part / LOCK_FILE).unlink()
            try:
                os.replace(part, folder)
            except OSError:
                if not folder.is_dir():  # else another run was faster
                    raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def ensure_writable_dir(path: Path, *, flag: str) -> None:
    """Make a folder that can be written to.

    Raises:
        UserError: that cannot be; the message names `flag`.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError:
        raise UserError(f"{flag} {path}: is a file; wanted a folder") from None
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be written to ({error.strerror})") from None


def cache_folder(cache_dir: str | None) -> Path:
    """The folder for fetched and decoded frames; None: the platform's user cache folder.

    Raises:
        UserError: it cannot be written to.
    """
    folder = Path(cache_dir or platformdirs.user_cache_dir("simclr-rhd"))
    ensure_writable_dir(folder, flag="--cache-dir")
    return folder


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; numpy numbers and arrays are accepted, NaN and infinity become null."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(to_jsonable(value), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def write_lines(path: Path, records: Iterable[Any]) -> None:
    """Write one JSON object per line."""
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as stream:
        for record in records:
            stream.write(json.dumps(to_jsonable(record), ensure_ascii=False) + "\n")


def write_rows(
    path: Path, header: list[str], rows: Iterable[Iterable[Any]], *, private: bool = False
) -> None:
    """Write a CSV file (UTF-8, one header row).

    Args:
        path: where.
        header: names of the columns.
        rows: cells; what begins like a formula is marked, see `text.as_cell`.
        private: as of `atomic_write`.
    """
    with atomic_write(path, private=private) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerows([as_cell(cell) for cell in row] for row in itertools.chain([header], rows))


def to_jsonable(value: Any) -> Any:
    """`value` in JSON's own types: a figure that cannot be computed (NaN, infinity) is null, never 0."""
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return to_jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
