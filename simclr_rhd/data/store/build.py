"""Building of a store: decode all files into shards, in a folder beside the store's place."""

import errno
import hashlib
import json
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_directory
from simclr_rhd.core.logs import progress
from simclr_rhd.data.decoding.decode import DecodeOptions, FrameFile
from simclr_rhd.data.decoding.image import GREY, evenly_spaced
from simclr_rhd.data.decoding.source_files import FetchedFiles, decode_files
from simclr_rhd.data.store.index import FRAME_DTYPE, STILL_NUMBER, Index, write_index
from simclr_rhd.data.store.probe import MAX_PROBED_FILES, measure_frames
from simclr_rhd.data.store.shards import ShardWriter

logger = logging.getLogger("simclr_rhd")

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
    _check_disk_space(folder.parent, files.paths, options)
    start = time.perf_counter()
    try:
        with atomic_directory(folder) as part:
            frames = _write_store(part, files, options)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"the disk is full: {folder.parent} has no room for the decoded frames. Nothing half-written is "
            "kept; make room, or name another disk with --cache-dir"
        ) from None
    seconds = time.perf_counter() - start
    logger.info("store: %d frames in %.1f s (%.0f frames/s)", frames, seconds, frames / seconds)


def _check_disk_space(place: Path, paths: Mapping[str, Path], options: DecodeOptions) -> None:
    """Estimate the size of the frames from a sample of the files; refuse what does not fit on the disk."""
    keys, n = sorted(paths), len(paths)
    numbers = evenly_spaced(n, min(MAX_PROBED_FILES, math.ceil(MAX_PROBED_FRACTION * n)))
    sample = {keys[number]: paths[keys[number]] for number in numbers}
    sizes = [size.bytes for _, size in decode_files(sample, options, measure_frames)]
    need = sum(sizes) / max(1, len(sample)) * n
    free = shutil.disk_usage(place).free
    if need > free:
        raise UserError(
            f"decoded frames will need about {need / 1e9:.1f} GB in {place}, where {free / 1e9:.1f} GB are "
            "free; make room, name another disk with --cache-dir, or use a smaller --image-size or "
            "--frames-per-clip"
        )
    logger.info("store: decoding %d files, about %.2f GB in %s", n, need / 1e9, place)


@dataclass
class SpooledFrames:
    """The decoded frames of a file until they are written.

    Attributes:
        content: hash of the file's bytes.
        rows: (number, kind, flag, digest, width, height) of each frame.
        pixels: all frames, one after another; of long clips they wait on the disk.
    """

    content: str
    rows: list[tuple[int, int, int, int, int, int]]
    pixels: Any


def _spool_frames(folder: Path, file: FrameFile) -> SpooledFrames:
    spooled = SpooledFrames(
        file.content_hash(), [], tempfile.SpooledTemporaryFile(MAX_MEMORY_BYTES, dir=str(folder))
    )
    for frame in () if file.reason else file:
        number = STILL_NUMBER if frame.number is None else frame.number
        digest = int(frame.digest, 16)
        spooled.rows.append((number, frame.color_mode, frame.content_flag, digest, *frame.size))
        spooled.pixels.write(frame.pixels.tobytes())
    spooled.pixels.seek(0)
    return spooled


def _write_store(part: Path, fetched: FetchedFiles, options: DecodeOptions) -> int:
    """Decode all files into shards, and write the index; returns the number of frames."""
    rows: list[tuple[int, ...]] = []
    files: list[str] = []
    patients, rejected, content = {}, list(fetched.rejected), hashlib.sha256()
    writer = ShardWriter(part)
    try:
        for file, spooled in progress(
            decode_files(fetched.paths, options, partial(_spool_frames, part)),
            total=len(fetched.paths),
            label="store",
            unit="files",
            amount=lambda item: len(item[1].rows),
            amount_unit="frames",
        ):
            content.update(f"{file.key}\0{spooled.content}\0".encode())
            if file.reason:
                rejected.append((file.key, file.reason))
            if not spooled.rows:
                continue
            if file.patient:
                patients[file.key] = file.patient
            _append_frames(writer, spooled, options.side)
            rows += [(len(files), *row) for row in spooled.rows]
            files.append(file.key)
        shards = writer.close()
    finally:
        writer.abort()
    rejected.sort()
    content.update(json.dumps(rejected).encode())
    index = Index(
        side=options.side,
        files=files,
        rows=np.array(rows, dtype=FRAME_DTYPE),
        patients=patients,
        rejected=rejected,
        fingerprint=content.hexdigest(),
    )
    write_index(part, index, shards)
    return len(rows)


def _append_frames(writer: ShardWriter, spooled: SpooledFrames, side: int) -> None:
    with spooled.pixels as stream:
        for _, kind, *_ in spooled.rows:
            shape = (1 if kind == GREY else 3, side, side)
            pixels = np.frombuffer(stream.read(math.prod(shape)), dtype=np.uint8)
            writer.append(pixels.reshape(shape), kind)
