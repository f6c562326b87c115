"""What a store knows of its frames, in arrays that are read where they are wanted, not loaded as a whole.

A million frames have a hundred megabytes of names; as Python objects they would take many times that, and
seconds to make. So they lie in one file, beside an array that says where each ends.

Notation: N frames, F files.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import google_crc32c
import numpy as np

from simclr_rhd.core.files import write_json
from simclr_rhd.data.decoding.image import DOPPLER

INDEX, NAMES, ENDS, FRAMES = "index.json", "names.txt", "names.npy", "frames.npy"
CHECKED = 4 << 30  # bytes of shards
AT_ONCE = 4096  # names that are decoded together
STILL = -1  # the number of a frame that is its file
ROW = np.dtype([("file", "<u4"), ("number", "<i4"), ("kind", "u1"), ("look", "u1"), ("digest", "<u8")])


class _Texts(Sequence[str], ABC):
    """Texts that are made when they are asked for."""

    @abstractmethod
    def _one(self, number: int) -> str:
        """The text of a number from 0 to one below the length."""

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        return self._one(range(len(self))[at])


class Names(_Texts):
    """F texts in one buffer.

    Args:
        data: UTF-8, a line break after each text.
        ends: (F,) where each one's line break is.
    """

    def __init__(self, data: np.ndarray, ends: np.ndarray) -> None:
        self.data, self.ends = data, ends

    def __len__(self) -> int:
        return len(self.ends)

    def _one(self, number: int) -> str:
        first = int(self.ends[number - 1]) + 1 if number else 0
        return self.data[first : int(self.ends[number])].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        """In order, some thousands at a time."""
        first = 0
        for end in [*self.ends[AT_ONCE - 1 : -1 : AT_ONCE], *self.ends[-1:]]:
            yield from self.data[first:end].tobytes().decode().split("\n")
            first = int(end) + 1


class FrameNames(_Texts):
    """The names of N frames: their file's, with `#<number>` for a frame of a clip.

    Args:
        files: names of files.
        rows: (N,) of `ROW`, whose files rise.
        numbered: False for the file's name alone.
    """

    def __init__(self, files: Names, rows: np.ndarray, *, numbered: bool) -> None:
        self.files, self.rows, self.numbered = files, rows, numbered

    def __len__(self) -> int:
        return len(self.rows)

    def _one(self, number: int) -> str:
        row = self.rows[number]
        file, of_clip = self.files[int(row["file"])], int(row["number"])
        return f"{file}#{of_clip:04d}" if self.numbered and of_clip != STILL else file

    def __iter__(self) -> Iterator[str]:
        """In order, as the files stand in order, too."""
        names, at, name = iter(self.files), -1, ""
        for first in range(0, len(self.rows), AT_ONCE):
            some = self.rows[first : first + AT_ONCE]
            for file, number in zip(some["file"].tolist(), some["number"].tolist(), strict=True):
                while at < file:
                    name, at = next(names), at + 1
                yield f"{name}#{number:04d}" if self.numbered and number != STILL else name


@dataclass(frozen=True)
class Index:
    """A store's index.

    Attributes:
        side: pixels of a stored frame's side.
        files: names of the files that have frames.
        rows: (N,) of `ROW`: file, number in it or `STILL`, kind, look, digest of the picture.
        patients: salted hashes by file, of DICOM files that name a patient.
        rejected: (name, reason) of every file left out, or not used to its end.
        fingerprint: hash of all names and contents.
    """

    side: int
    files: Names
    rows: np.ndarray
    patients: dict[str, str]
    rejected: list[tuple[str, str]]
    fingerprint: str


def write(
    folder: Path,
    *,
    side: int,
    files: Iterable[str],
    rows: np.ndarray,
    patients: dict[str, str],
    rejected: list[tuple[str, str]],
    fingerprint: str,
    shards: dict[str, str],
) -> None:
    """Write an index into a store's folder; `shards` are the checksums of its other files by name."""
    ends, place = [], 0
    with (folder / NAMES).open("wb") as stream:
        for name in files:
            text = name.encode() + b"\n"
            stream.write(text)
            place += len(text)
            ends.append(place - 1)
    np.save(folder / ENDS, np.array(ends, dtype="<i8"), allow_pickle=False)
    np.save(folder / FRAMES, rows.astype(ROW), allow_pickle=False)
    told: dict[str, Any] = {"side": side, "patients": patients, "rejected": rejected}
    told |= {"fingerprint": fingerprint}
    told["sums"] = shards | {name: crc32c(folder / name) for name in (NAMES, ENDS, FRAMES)}
    write_json(folder / INDEX, told | {"checksum": _checksum(told)})


def read(folder: Path) -> Index:
    """The index in a folder, once its parts and the shards are known to be whole.

    Of more than `CHECKED` bytes of shards the checksums of some are looked at: a start must not wait for all
    of a terabyte to be read.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    try:
        told = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if told.pop("checksum") != _checksum(told):
            raise ValueError(f"{INDEX} is damaged")
    except RecursionError:
        raise ValueError(f"{INDEX} is nested too deep") from None
    _check_kinds(told)
    for name in (NAMES, ENDS, FRAMES, *_looked_at(folder, told["sums"])):
        if crc32c(folder / name) != told["sums"][name]:
            raise ValueError(f"{name} is damaged")
    # as plain arrays, which are faster to index than their subclass
    ends, rows = (
        np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False)) for name in (ENDS, FRAMES)
    )
    empty = np.zeros(0, np.uint8)  # cannot be mapped
    names = np.asarray(np.memmap(folder / NAMES, dtype=np.uint8, mode="r")) if len(ends) else empty
    _check(names, ends, rows, told["side"])
    return Index(
        side=told["side"],
        files=Names(names, ends),
        rows=rows,
        patients=told["patients"],
        rejected=[(key, reason) for key, reason in told["rejected"]],
        fingerprint=told["fingerprint"],
    )


def _looked_at(folder: Path, sums: dict[str, str]) -> list[str]:
    """The shards whose checksums are looked at: all, or evenly spread ones."""
    shards = sorted(set(sums) - {NAMES, ENDS, FRAMES})
    size = sum((folder / name).stat().st_size for name in shards)
    some = math.ceil(len(shards) * min(1.0, CHECKED / max(1, size)))
    return [shards[number] for number in np.linspace(0, len(shards) - 1, some).round().astype(int)]


def _check_kinds(told: dict[str, Any]) -> None:
    """See that each value is of the kind that is written: a checksum is right for any of them."""
    tables = told["patients"], told["sums"]
    rows = told["rejected"]
    whole = (
        isinstance(told["fingerprint"], str)
        and all(isinstance(table, dict) for table in tables)
        and all(isinstance(value, str) for table in tables for value in table.values())
        and isinstance(rows, list)
        and all(isinstance(row, list) and len(row) == 2 for row in rows)
        and all(isinstance(text, str) for row in rows for text in row)
    )
    if not whole:
        raise ValueError(f"{INDEX} holds values of another kind")


def _check(names: np.ndarray, ends: np.ndarray, rows: np.ndarray, side: int) -> None:
    """See that whatever is looked up will be there: checksums tell accidents, not a made-up index."""
    whole = (
        type(side) is int
        and side > 0
        and (ends.ndim, ends.dtype, rows.ndim, rows.dtype) == (1, np.dtype("<i8"), 1, ROW)
        and np.array_equal(ends, np.flatnonzero(names == ord("\n")))
        and (len(ends) == 0 or ends[-1] == len(names) - 1)
        and (len(rows) == 0 or rows["file"].max() < len(ends))
        and bool((np.diff(rows["file"].astype(np.int64)) >= 0).all())
        and bool((rows["number"] >= STILL).all())
        and bool((rows["kind"] <= DOPPLER).all())
    )
    if not whole:
        raise ValueError("the index does not fit together")
    for _ in Names(names, ends):  # each is text
        pass


def _checksum(told: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def crc32c(path: Path) -> str:
    """The checksum of a file, as hexadecimal digits."""
    found = google_crc32c.Checksum()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            found.update(block)
    return found.digest().hex()
