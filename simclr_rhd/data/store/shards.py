"""Frames on disk: uint8 in files of a fixed number of frames, one channel for grey frames, three for others.

Notation: N frames, S pixels of a stored frame's side, C channels (1 or 3).
"""

import itertools
import os
from pathlib import Path
from typing import BinaryIO, Self

import google_crc32c
import numpy as np

from simclr_rhd.data.decoding.image import GREY

FRAMES_PER_SHARD = 2048  # frames in a file
GREY_PREFIX, COLOR_PREFIX = "grey", "colour"


def shard_name(prefix: str, number: int) -> str:
    """The name of a file of frames."""
    return f"{prefix}-{number:05d}.u8"


class ShardWriter:
    """Writes frames into an empty folder, with the crc32c of each of its files.

    A context manager: its end closes the files, finished or not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts = {GREY_PREFIX: 0, COLOR_PREFIX: 0}
        self.streams: dict[str, BinaryIO] = {}
        self.checksums: dict[str, google_crc32c.Checksum] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self.streams.values():
            stream.close()

    def append(self, frame: np.ndarray, kind: int) -> None:
        """Add a (C, S, S) uint8 frame; of a grey one the first channel is kept."""
        if kind == GREY:
            self._write(GREY_PREFIX, frame[:1].tobytes())
        else:
            self._write(COLOR_PREFIX, frame.tobytes())

    def append_shards(self, folder: Path, side: int) -> None:
        """Add the frames of another folder, whose shards are removed one by one."""
        for name, channels in ((GREY_PREFIX, 1), (COLOR_PREFIX, 3)):
            for number in itertools.count():
                path = folder / shard_name(name, number)
                if not path.exists():
                    break
                with path.open("rb") as stream:
                    while frame := stream.read(channels * side * side):
                        self._write(name, frame)
                path.unlink()

    def _write(self, name: str, frame: bytes) -> None:
        number, place = divmod(self.counts[name], FRAMES_PER_SHARD)
        path = self.folder / shard_name(name, number)
        if place == 0:
            if name in self.streams:
                _flush_and_close(self.streams[name])
            self.streams[name] = path.open("wb")
            self.checksums[path.name] = google_crc32c.Checksum()
        self.streams[name].write(frame)
        self.checksums[path.name].update(frame)
        self.counts[name] += 1

    def finish(self) -> dict[str, str]:
        """Bring everything to the disk, and return the files' checksums by name."""
        for stream in self.streams.values():
            _flush_and_close(stream)
        self.streams = {}
        return {name: checksum.digest().hex() for name, checksum in sorted(self.checksums.items())}


def _flush_and_close(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())
    stream.close()


class Frames:
    """N stored frames, read where they are wanted: `frames[rows]` is (n, C, S, S) uint8.

    C is 1 when all of these are grey, else 3.

    Args:
        folder: the shards.
        color_modes: (N,) uint8.
        side: S.
    """

    def __init__(self, folder: Path, color_modes: np.ndarray, side: int) -> None:
        grey = color_modes == GREY
        self.grey, self.side = grey, side
        counts = (np.cumsum(kind, dtype=np.int32) for kind in (grey, ~grey))
        self.place = np.where(grey, *counts) - 1  # (N,) within its kind
        self.files = {
            name: [
                np.memmap(
                    folder / shard_name(name, first // FRAMES_PER_SHARD),
                    dtype=np.uint8,
                    mode="r",
                    shape=(min(FRAMES_PER_SHARD, total - first), channels, side, side),
                )
                for first in range(0, total, FRAMES_PER_SHARD)
            ]
            for name, total, channels in (
                (GREY_PREFIX, int(grey.sum()), 1),
                (COLOR_PREFIX, int((~grey).sum()), 3),
            )
        }

    def __len__(self) -> int:
        return len(self.grey)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        grey = self.grey[rows]
        out = np.empty((len(rows), 1 if grey.all() else 3, self.side, self.side), dtype=np.uint8)
        for name, chosen in ((GREY_PREFIX, grey), (COLOR_PREFIX, ~grey)):
            number, place = np.divmod(self.place[rows], FRAMES_PER_SHARD)
            for shard in np.unique(number[chosen]):
                here = chosen & (number == shard)
                out[here] = self.files[name][shard][place[here]]  # one channel fills all three
        return out


def crc32c(path: Path) -> str:
    """The checksum of a file, as hexadecimal digits."""
    checksum = google_crc32c.Checksum()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            checksum.update(block)
    digest: str = checksum.digest().hex()
    return digest
