"""The frames of a source's files: type, packages, fetch, decoding by threads, and reasons for no frame."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from simclr_rhd.core.threads import map_ordered
from simclr_rhd.data.decoding.decode import DecodedFrame, DecodeOptions, FrameFile, require_packages
from simclr_rhd.data.decoding.file_types import NO_FRAME, STILL, file_type
from simclr_rhd.data.sources.base import FileEntry, Source

FETCH_FAILED = "could not be fetched: "  # begins a reason that may pass

T = TypeVar("T")


class FetchedFiles(NamedTuple):
    """Files on this machine.

    Attributes:
        paths: by key, of those that may have frames.
        rejected: (key, reason) of the others.
    """

    paths: dict[str, Path]
    rejected: list[tuple[str, str]]


def fetch_files(source: Source, entries: Sequence[FileEntry]) -> FetchedFiles:
    """Fetch the files that may have frames.

    Raises:
        UserError: a package that decodes them is missing, or nothing can be fetched.
    """
    usable = [entry for entry in entries if file_type(entry.key)]
    others = [entry.key for entry in entries if not file_type(entry.key)]
    require_packages(entry.key for entry in usable)
    paths, failed = source.fetch(usable)
    rejected = [(key, f"{NO_FRAME}{PurePosixPath(key).suffix}") for key in others]
    return FetchedFiles(paths, [*rejected, *((key, FETCH_FAILED + reason) for key, reason in failed.items())])


def decode_files(
    paths: Mapping[str, Path], options: DecodeOptions, collect: Callable[[FrameFile], T]
) -> Iterator[tuple[FrameFile, T]]:
    """Each file in the order of the keys, with what `collect` makes of its frames; threads work ahead."""

    def decode(key: str) -> tuple[FrameFile, T]:
        file = FrameFile(key, paths[key], options)
        return file, collect(file)

    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes on this machine
    return map_ordered(decode, sorted(paths), workers=max(1, (os.cpu_count() or 1) // here))


def iter_decoded(
    source: Source,
    entries: Sequence[FileEntry],
    options: DecodeOptions,
    collect: Callable[[FrameFile], T],
    *,
    files_per_fetch: int = 0,
) -> Iterator[tuple[FrameFile, T]]:
    """Fetch and decode: first the files without frames, which have a reason, then the others by key.

    Args:
        source: of the files.
        entries: of its listing.
        options: of decoding.
        collect: makes of a file what is wanted of its frames, in a thread (`list`, `decode_stills`).
        files_per_fetch: files that are fetched and decoded before the next ones; 0 for all at once.
    """
    rejected, step = list(source.skipped), files_per_fetch or max(1, len(entries))
    for first in range(0, max(1, len(entries)), step):
        fetched = fetch_files(source, entries[first : first + step])
        for key, reason in (*rejected, *fetched.rejected):
            file = FrameFile(key, None, options, reason)
            yield file, collect(file)
        yield from decode_files(fetched.paths, options, collect)
        rejected = []


def decode_stills(file: FrameFile) -> Iterable[DecodedFrame]:
    """The frames of a file: a single still is decoded now, others one by one while they are read."""
    if file_type(file.key) == STILL:
        with closing(iter(file)) as frames:
            first = next(frames, None)
        if first is None or first.number is None:
            return [first] if first else []
    return file
