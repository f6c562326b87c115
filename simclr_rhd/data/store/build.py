"""Building of a store, or of a part of one: decode files into shards, in a folder beside its place."""

import errno
import hashlib
import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_directory
from simclr_rhd.core.logs import progress
from simclr_rhd.data.decoding.decode import DecodeOptions, FrameFile
from simclr_rhd.data.decoding.image import GREY, evenly_spaced
from simclr_rhd.data.decoding.salt import salt_id
from simclr_rhd.data.decoding.source_files import FetchedFiles, decode_files
from simclr_rhd.data.store.index import FRAME_DTYPE, Header
from simclr_rhd.data.store.index_writer import IndexWriter
from simclr_rhd.data.store.names import STILL_NUMBER
from simclr_rhd.data.store.probe import MAX_PROBED_FILES, measure_frames
from simclr_rhd.data.store.shards import ShardWriter, crc32c

logger = logging.getLogger("simclr_rhd")

CONTENTS_FILE = "contents.bin"  # of a part of a store: names and hashes of the files that it is made of
MAX_MEMORY_BYTES = 4 << 20  # bytes of a file's decoded frames; more wait on the disk
MAX_PROBED_FRACTION = 1 / 8  # of the files, decoded to estimate the disk space


def build_store(folder: Path, files: FetchedFiles, options: DecodeOptions) -> None:
    """Decode files into a store.

    Args:
        folder: the store's place; it appears whole.
        files: their paths, and what is rejected so far.
        options: of decoding.

    Raises:
        UserError: the disk is too full.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    keys, n = sorted(files.paths), len(files.paths)
    sample = {keys[number]: files.paths[keys[number]] for number in sample_files(n)}
    need = estimate_bytes(sample, n, options)
    check_disk_space(folder.parent, need)
    logger.info("store: decoding %d files, about %.2f GB in %s", n, need / 1e9, folder.parent)
    start = time.perf_counter()
    with refuse_full_disk(folder.parent), atomic_directory(folder) as building:
        frames = write_frames(building, [files], options, n_files=n)
    seconds = time.perf_counter() - start
    logger.info("store: %d frames in %.1f s (%.0f frames/s)", frames, seconds, frames / seconds)


@contextmanager
def refuse_full_disk(place: Path) -> Iterator[None]:
    """Name the folder where there is no room left.

    Raises:
        UserError: the disk is full, or the user's quota of it.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"the disk, or your quota of it, is full: {place} has no room for the decoded frames. Nothing "
            "half-written is kept; make room, or name another disk with --cache-dir"
        ) from None


def sample_files(n: int) -> list[int]:
    """The numbers of those of `n` files that are decoded to estimate the disk space."""
    return evenly_spaced(n, min(MAX_PROBED_FILES, math.ceil(MAX_PROBED_FRACTION * n)))


def estimate_bytes(sample: Mapping[str, Path], n_files: int, options: DecodeOptions) -> float:
    """Estimate the bytes of the decoded frames of `n_files` files from a sample of them."""
    sizes = [size.bytes for _, size in decode_files(sample, options, measure_frames)]
    return sum(sizes) / max(1, len(sample)) * n_files


def check_disk_space(place: Path, need: float) -> None:
    """Refuse decoded frames of `need` bytes that do not fit on the disk.

    Raises:
        UserError: they do not.
    """
    free = shutil.disk_usage(place).free
    if need > free:
        raise UserError(
            f"decoded frames will need about {need / 1e9:.1f} GB in {place}, where {free / 1e9:.1f} GB are "
            "free; make room, name another disk with --cache-dir, or use a smaller --image-size or "
            "--frames-per-clip"
        )


@dataclass
class SpooledFrames:
    """The decoded frames of a file until they are written.

    Attributes:
        content: hash of the file's bytes.
        rows: (n,) of `FRAME_DTYPE`, each of file 0.
        pixels: all frames, one after another; of long clips they wait on the disk.
    """

    content: str
    rows: np.ndarray
    pixels: IO[bytes]


def _spool_frames(folder: Path, file: FrameFile) -> SpooledFrames:
    rows, pixels = [], tempfile.SpooledTemporaryFile(MAX_MEMORY_BYTES, dir=str(folder))
    for frame in () if file.reason else file:
        number = STILL_NUMBER if frame.number is None else frame.number
        digest = int(frame.digest, 16)
        rows.append((0, number, frame.color_mode, frame.content_flag, digest, *frame.size))
        pixels.write(frame.pixels.tobytes())
    pixels.seek(0)
    return SpooledFrames(file.content_hash(), np.array(rows, dtype=FRAME_DTYPE), pixels)


def write_frames(
    folder: Path,
    fetched: Iterable[FetchedFiles],
    options: DecodeOptions,
    *,
    n_files: int,
    is_part: bool = False,
) -> int:
    """Decode files into shards, and write the index.

    Args:
        folder: an empty one.
        fetched: batches of files, in the order of their keys.
        options: of decoding.
        n_files: how many there will be.
        is_part: the folder is a part: keep `CONTENTS_FILE`, which the store's fingerprint is made of.

    Returns:
        The number of frames.
    """
    rejected, patients = list[tuple[str, str]](), dict[str, str]()
    with IndexWriter(folder) as index_writer, ShardWriter(folder) as shard_writer:
        with (folder / CONTENTS_FILE).open("wb") as contents:
            for file, spooled in progress(
                _decode_in_turn(folder, fetched, options, rejected),
                total=n_files,
                label="store",
                unit="files",
                amount=lambda item: len(item[1].rows),
                amount_unit="frames",
            ):
                contents.write(f"{file.key}\0{spooled.content}\0".encode())
                if file.reason:
                    rejected.append((file.key, file.reason))
                if len(spooled.rows):
                    spooled.rows["file"] = index_writer.n_files
                    index_writer.append_rows(spooled.rows)
                    index_writer.append_names([file.key])
                    if file.patient:
                        patients[file.key] = file.patient
                _append_pixels(shard_writer, spooled, options.side)
        checksums = shard_writer.finish()
        rejected.sort()
        fingerprint = fingerprint_of([folder / CONTENTS_FILE], rejected)
        if is_part:
            checksums[CONTENTS_FILE] = crc32c(folder / CONTENTS_FILE)
        else:
            (folder / CONTENTS_FILE).unlink()
        header = Header(options.side, patients, rejected, fingerprint, salt_id(options.salt))
        index_writer.finish(header, checksums)
    return index_writer.n_frames


def fingerprint_of(contents: Iterable[Path], rejected: list[tuple[str, str]]) -> str:
    """The hash of all names and contents, from the files that list them, and of what is rejected."""
    content = hashlib.sha256()
    for path in contents:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                content.update(block)
    content.update(json.dumps(rejected).encode())
    return content.hexdigest()


def _decode_in_turn(
    folder: Path, fetched: Iterable[FetchedFiles], options: DecodeOptions, rejected: list[tuple[str, str]]
) -> Iterator[tuple[FrameFile, SpooledFrames]]:
    """Yield the files in order with their frames; those that were not fetched are added to `rejected`."""
    for files in fetched:
        rejected += files.rejected
        yield from decode_files(files.paths, options, partial(_spool_frames, folder))


def _append_pixels(writer: ShardWriter, spooled: SpooledFrames, side: int) -> None:
    with spooled.pixels as stream:
        for kind in spooled.rows["kind"]:
            shape = (1 if kind == GREY else 3, side, side)
            pixels = np.frombuffer(stream.read(math.prod(shape)), dtype=np.uint8)
            writer.append(pixels.reshape(shape), kind)
