"""The index of a store, in arrays that are read where they are used, not loaded as a whole.

Notation: N frames, F files.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.core.files import write_json
from simclr_rhd.data.decoding.image import DOPPLER
from simclr_rhd.data.store.names import STILL_NUMBER, StringArray
from simclr_rhd.data.store.shards import crc32c

INDEX_FILE, NAMES_FILE, OFFSETS_FILE, FRAMES_FILE = "index.json", "names.txt", "names.npy", "frames.npy"
MAX_VERIFIED_BYTES = 4 << 30  # bytes of shards
FRAME_DTYPE = np.dtype(
    [
        *(("file", "<u4"), ("number", "<i4"), ("kind", "u1"), ("look", "u1"), ("digest", "<u8")),
        *(("width", "<u4"), ("height", "<u4")),  # before it was resized
    ]
)


@dataclass(frozen=True)
class Index:
    """A store's index.

    Attributes:
        side: pixels of a stored frame's side.
        files: names of the files that have frames.
        rows: (N,) of `FRAME_DTYPE`: file, number in it or `STILL_NUMBER`, kind, look, digest of the picture,
            width and height before it was resized.
        patients: salted hashes by file, of DICOM files that name a patient.
        rejected: (name, reason) of every file left out, or not used to its end.
        fingerprint: hash of all names and contents.
        salt_id: of the salt that the patients are hashed with; empty in older stores.
    """

    side: int
    files: Sequence[str]
    rows: np.ndarray
    patients: dict[str, str]
    rejected: list[tuple[str, str]]
    fingerprint: str
    salt_id: str = ""


def write_index(folder: Path, index: Index, shards: dict[str, str]) -> None:
    """Write an index into a store's folder; `shards` are the checksums of its other files by name."""
    offsets, place = [], 0
    with (folder / NAMES_FILE).open("wb") as stream:
        for name in index.files:
            text = name.encode() + b"\n"
            stream.write(text)
            place += len(text)
            offsets.append(place - 1)
    np.save(folder / OFFSETS_FILE, np.array(offsets, dtype="<i8"), allow_pickle=False)
    np.save(folder / FRAMES_FILE, index.rows.astype(FRAME_DTYPE), allow_pickle=False)
    sums = {name: crc32c(folder / name) for name in (NAMES_FILE, OFFSETS_FILE, FRAMES_FILE)}
    header = {
        "side": index.side,
        "patients": index.patients,
        "rejected": index.rejected,
        "fingerprint": index.fingerprint,
        "salt": index.salt_id,
        "sums": shards | sums,
    }
    write_json(folder / INDEX_FILE, header | {"checksum": _checksum(header)})


def read_index(folder: Path, *, verify: bool = True, max_bytes: float = MAX_VERIFIED_BYTES) -> Index:
    """The index in a folder, once its parts and the shards are known to be whole.

    Args:
        folder: of a store.
        verify: False where a moment ago another process has.
        max_bytes: of more bytes of shards the checksums of some are looked at: a start must not wait for all
            of a terabyte to be read.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    try:
        header = json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))
        if header.pop("checksum") != _checksum(header):
            raise ValueError(f"{INDEX_FILE} is damaged")
    except RecursionError:
        raise ValueError(f"{INDEX_FILE} is nested too deep") from None
    _check_types(header)
    if verify:
        for name in (
            NAMES_FILE,
            OFFSETS_FILE,
            FRAMES_FILE,
            *_shards_to_verify(folder, header["sums"], max_bytes),
        ):
            if crc32c(folder / name) != header["sums"][name]:
                raise ValueError(f"{name} is damaged")
        _check_consistency(*_map_arrays(folder), header["side"])
    names, offsets, rows = _map_arrays(folder)  # anew: what was looked at would stay in memory
    return Index(
        side=header["side"],
        files=StringArray(names, offsets),
        rows=rows,
        patients=header["patients"],
        rejected=[(key, reason) for key, reason in header["rejected"]],
        fingerprint=header["fingerprint"],
        salt_id=header.get("salt", ""),
    )


def _map_arrays(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names, offsets and rows on the disk, as plain arrays, which are faster to index than their subclass."""
    offsets, rows = (
        np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))
        for name in (OFFSETS_FILE, FRAMES_FILE)
    )
    empty = np.zeros(0, np.uint8)  # cannot be mapped
    names = np.asarray(np.memmap(folder / NAMES_FILE, dtype=np.uint8, mode="r")) if len(offsets) else empty
    return names, offsets, rows


def read_column(folder: Path, name: str) -> np.ndarray:
    """(N,) a field of the rows, in memory; the rows that it is read from do not stay there."""
    return np.ascontiguousarray(np.load(folder / FRAMES_FILE, mmap_mode="r", allow_pickle=False)[name])


def _shards_to_verify(folder: Path, checksums: dict[str, str], max_bytes: float) -> list[str]:
    """The shards whose checksums are looked at: all, or evenly spread ones."""
    shards = sorted(set(checksums) - {NAMES_FILE, OFFSETS_FILE, FRAMES_FILE})
    size = sum((folder / name).stat().st_size for name in shards)
    some = math.ceil(len(shards) * min(1.0, max_bytes / max(1, size)))
    return [shards[number] for number in np.linspace(0, len(shards) - 1, some).round().astype(int)]


def _check_types(header: dict[str, Any]) -> None:
    """Check that each value is of the kind that is written: a checksum is right for any of them."""
    tables = header["patients"], header["sums"]
    rows = header["rejected"]
    whole = (
        all(isinstance(text, str) for text in (header["fingerprint"], header.get("salt", "")))
        and all(isinstance(table, dict) for table in tables)
        and all(isinstance(value, str) for table in tables for value in table.values())
        and isinstance(rows, list)
        and all(isinstance(row, list) and len(row) == 2 for row in rows)
        and all(isinstance(text, str) for row in rows for text in row)
    )
    if not whole:
        raise ValueError(f"{INDEX_FILE} holds values of another kind")


def _check_consistency(names: np.ndarray, offsets: np.ndarray, rows: np.ndarray, side: int) -> None:
    """Check that the arrays fit together: checksums detect accidents, not a made-up index."""
    whole = (
        type(side) is int
        and side > 0
        and (offsets.ndim, offsets.dtype, rows.ndim, rows.dtype) == (1, np.dtype("<i8"), 1, FRAME_DTYPE)
        and np.array_equal(offsets, np.flatnonzero(names == ord("\n")))
        and (len(offsets) == 0 or offsets[-1] == len(names) - 1)
        and (len(rows) == 0 or rows["file"].max() < len(offsets))
        and bool((np.diff(rows["file"].astype(np.int64)) >= 0).all())
        and bool((rows["number"] >= STILL_NUMBER).all())
        and bool((rows["kind"] <= DOPPLER).all())
    )
    if not whole:
        raise ValueError("the index does not fit together")
    for _ in StringArray(names, offsets):  # each is text
        pass


def _checksum(header: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()
