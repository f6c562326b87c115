"""The index of a store, in arrays that are read where they are used, not loaded as a whole.

Notation: N frames, F files.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.data.decoding.image import DOPPLER
from simclr_rhd.data.store.names import STILL_NUMBER, StringArray
from simclr_rhd.data.store.shards import crc32c

INDEX_FILE, NAMES_FILE, OFFSETS_FILE, FRAMES_FILE = "index.json", "names.txt", "names.npy", "frames.npy"
MAX_VERIFIED_BYTES = 4 << 30  # bytes of shards
VALUES_PER_BLOCK = 1 << 16  # of an array, in memory at a time
FRAME_DTYPE = np.dtype(
    [
        *(("file", "<u4"), ("number", "<i4"), ("kind", "u1"), ("look", "u1"), ("digest", "<u8")),
        *(("width", "<u4"), ("height", "<u4")),  # before it was resized
    ]
)
OFFSET_DTYPE = np.dtype("<i8")


@dataclass(frozen=True)
class Header:
    """The facts of a whole store.

    Attributes:
        side: pixels of a stored frame's side.
        patients: salted hashes by file, of DICOM files that name a patient.
        rejected: (name, reason) of every file left out, or not used to its end.
        fingerprint: hash of all names and contents.
        salt_id: of the salt that the patients are hashed with; empty in older stores.
    """

    side: int
    patients: dict[str, str]
    rejected: list[tuple[str, str]]
    fingerprint: str
    salt_id: str


@dataclass(frozen=True)
class Index(Header):
    """A store's index.

    Attributes:
        files: names of the files that have frames.
        rows: (N,) of `FRAME_DTYPE`: file, number in it or `STILL_NUMBER`, kind, look, digest of the picture,
            width and height before it was resized.
    """

    files: Sequence[str]
    rows: np.ndarray


def read_index(folder: Path, *, verify: bool = True, max_bytes: float = MAX_VERIFIED_BYTES) -> Index:
    """Read and verify the index in a store's folder.

    Args:
        folder: of a store.
        verify: False if another process has just verified it.
        max_bytes: of shards. If there are more, evenly spaced ones are verified: a start must not wait until
            a terabyte is read.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    header, checksums = _read_header_file(folder)
    if verify:
        shards = _shards_to_verify(folder, checksums, max_bytes)
        for name in (NAMES_FILE, OFFSETS_FILE, FRAMES_FILE, *shards):
            if crc32c(folder / name) != checksums[name]:
                raise ValueError(f"{name} is damaged")
        _check_rows(folder, _check_names(folder))
    names, offsets, rows = _map_arrays(folder)
    return Index(**vars(header), files=StringArray(names, offsets), rows=rows)


def read_header(folder: Path) -> Header:
    """Read the facts of a store that is verified.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: they are damaged.
    """
    return _read_header_file(folder)[0]


def _read_header_file(folder: Path) -> tuple[Header, dict[str, str]]:
    """The facts of a store, and the checksums of its other files by name."""
    try:
        values = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        if values.pop("checksum") != header_checksum(values):
            raise ValueError(f"{INDEX_FILE} is damaged")
    except RecursionError:
        raise ValueError(f"{INDEX_FILE} is nested too deep") from None
    _check_types(values)
    header = Header(
        side=values["side"],
        patients=values["patients"],
        rejected=[(key, reason) for key, reason in values["rejected"]],
        fingerprint=values["fingerprint"],
        salt_id=values.get("salt", ""),
    )
    return header, values["sums"]


def _map_arrays(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Map names, offsets and rows, as `np.ndarray`, which is faster to index than `np.memmap`."""
    offsets, rows = (
        np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))
        for name in (OFFSETS_FILE, FRAMES_FILE)
    )
    empty = np.zeros(0, np.uint8)  # an empty file cannot be mapped
    names = np.asarray(np.memmap(folder / NAMES_FILE, dtype=np.uint8, mode="r")) if len(offsets) else empty
    return names, offsets, rows


def read_rows(folder: Path) -> Iterator[np.ndarray]:
    """Yield the rows in blocks: pages of a memory map would count as this process's memory."""
    return _read_blocks(folder / FRAMES_FILE, FRAME_DTYPE)


def read_column(folder: Path, name: str) -> np.ndarray:
    """Read a field of all rows, (N,)."""
    return np.concatenate([np.zeros(0, FRAME_DTYPE[name]), *(block[name] for block in read_rows(folder))])


def read_names(folder: Path) -> Iterator[str]:
    """Yield the names of the files in order, without a memory map, as `read_rows` does."""
    with (folder / NAMES_FILE).open(encoding="utf-8", newline="\n") as stream:
        for line in stream:
            yield line[:-1]


def _read_blocks(path: Path, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yield a .npy file of one dimension in blocks.

    Raises:
        OSError, ValueError: it cannot be read, or holds something else.
    """
    with path.open("rb") as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{path.name} is of another version")
        shape, _, stored = np.lib.format.read_array_header_1_0(stream)
        if len(shape) != 1 or stored != dtype:
            raise ValueError(f"{path.name} holds values of another kind")
        for first in range(0, shape[0], VALUES_PER_BLOCK):
            n = min(VALUES_PER_BLOCK, shape[0] - first)
            yield np.frombuffer(stream.read(n * dtype.itemsize), dtype, n)  # ValueError if it is too short


def _shards_to_verify(folder: Path, checksums: dict[str, str], max_bytes: float) -> list[str]:
    """The shards whose checksums are looked at: all, or evenly spread ones."""
    shards = sorted(set(checksums) - {NAMES_FILE, OFFSETS_FILE, FRAMES_FILE})
    size = sum((folder / name).stat().st_size for name in shards)
    some = math.ceil(len(shards) * min(1.0, max_bytes / max(1, size)))
    return [shards[number] for number in np.linspace(0, len(shards) - 1, some).round().astype(int)]


def _check_types(header: dict[str, Any]) -> None:
    """Check that each value is of the kind that is written: a checksum is right for any of them."""
    tables = header["patients"], header["sums"]
    rows, side = header["rejected"], header["side"]
    whole = (
        type(side) is int
        and side > 0
        and all(isinstance(text, str) for text in (header["fingerprint"], header.get("salt", "")))
        and all(isinstance(table, dict) for table in tables)
        and all(isinstance(value, str) for table in tables for value in table.values())
        and isinstance(rows, list)
        and all(isinstance(row, list) and len(row) == 2 for row in rows)
        and all(isinstance(text, str) for row in rows for text in row)
    )
    if not whole:
        raise ValueError(f"{INDEX_FILE} holds values of another kind")


def _check_names(folder: Path) -> int:
    """Check that names and offsets fit together: checksums detect accidents, not a made-up index.

    Returns:
        F.

    Raises:
        OSError, ValueError: they do not.
    """
    n_files, n_bytes = 0, (folder / NAMES_FILE).stat().st_size
    with (folder / NAMES_FILE).open("rb") as names:
        for offsets in _read_blocks(folder / OFFSETS_FILE, OFFSET_DTYPE):
            first, end = names.tell(), int(offsets[-1]) + 1
            text = names.read(end - first) if first < end <= n_bytes else b""
            text.decode()  # raises UnicodeDecodeError, a ValueError
            breaks = first + np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
            if not (text.endswith(b"\n") and np.array_equal(offsets, breaks)):
                raise ValueError(f"{OFFSETS_FILE} does not fit {NAMES_FILE}")
            n_files += len(offsets)
        if names.read(1):
            raise ValueError(f"{OFFSETS_FILE} does not fit {NAMES_FILE}")
    return n_files


def _check_rows(folder: Path, n_files: int) -> None:
    """Check that the rows name files that are there, in rising order, and known kinds.

    Raises:
        OSError, ValueError: they do not.
    """
    previous = 0
    for rows in read_rows(folder):
        files = rows["file"].astype(np.int64)
        rises = bool((np.diff(files, prepend=previous) >= 0).all())
        previous = int(files[-1])
        is_known = bool((rows["number"] >= STILL_NUMBER).all() and (rows["kind"] <= DOPPLER).all())
        if not (rises and previous < n_files and is_known):
            raise ValueError(f"{FRAMES_FILE} does not fit {NAMES_FILE}")


def header_checksum(header: dict[str, Any]) -> str:
    """SHA-256 of a header without its own checksum, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
