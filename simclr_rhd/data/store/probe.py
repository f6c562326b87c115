"""The size of decoded frames, and the time they take, from a few files."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from simclr_rhd.data.decoding.decode import DecodeOptions, FrameFile, require_packages
from simclr_rhd.data.decoding.file_types import file_type
from simclr_rhd.data.decoding.image import GREY, evenly_spaced
from simclr_rhd.data.decoding.source_files import decode_files, fetch_files
from simclr_rhd.data.sources.base import FileEntry, Source

MAX_PROBED_FILES = 24


class FileSize(NamedTuple):
    """The size of a file: frames, their bytes once decoded, whether all are grey."""

    frames: int
    bytes: int
    grey: bool


def measure_frames(file: FrameFile) -> FileSize:
    """Decode a file's frames, and keep none of them."""
    frames, size, grey = 0, 0, True
    for frame in file:
        frames, size, grey = frames + 1, size + frame.pixels.nbytes, grey and frame.color_mode == GREY
    return FileSize(frames, size, grey)


class FileEstimate(NamedTuple):
    """The mean size of some files of a source."""

    frames: float
    bytes: float  # decoded
    seconds: float  # to fetch and decode
    grey: bool  # whether all frames are


def probe_files(source: Source, entries: Sequence[FileEntry], options: DecodeOptions) -> FileEstimate:
    """Fetch and decode a few files. Those of a remote source stay in the cache.

    Raises:
        UserError: a package is missing, or nothing can be fetched.
    """
    usable = [entry for entry in entries if file_type(entry.key)]
    require_packages(entry.key for entry in usable)
    start = time.perf_counter()
    sample = [usable[number] for number in evenly_spaced(len(usable), MAX_PROBED_FILES)]
    paths, _ = fetch_files(source, sample)
    sizes = [size for _, size in decode_files(paths, options, measure_frames)]
    n = max(1, len(sizes))
    return FileEstimate(
        sum(size.frames for size in sizes) / n,
        sum(size.bytes for size in sizes) / n,
        (time.perf_counter() - start) / n,
        all(size.grey for size in sizes),
    )
