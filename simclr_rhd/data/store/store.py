"""The frame store: every frame decoded, checked, padded to a square and resized once, uint8 on disk.

A store's folder is named by a hash of what went into it (names, stamps of the contents, preprocessing), built
beside its place and moved there whole. So it is never half believed, never changed, and found again when
nothing changed. Its index and its shards carry checksums.

Notation: N frames, S pixels of a stored frame's side.
"""

import errno
import fcntl
import hashlib
import json
import logging
import math
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_directory
from simclr_rhd.core.process import progress
from simclr_rhd.core.threads import map_ordered
from simclr_rhd.data.decoding import decode as media
from simclr_rhd.data.decoding.decode import NO_FRAME
from simclr_rhd.data.decoding.image import GREY, evenly_spaced
from simclr_rhd.data.decoding.limits import MAX_PIXELS
from simclr_rhd.data.sources.base import FileEntry, Source
from simclr_rhd.data.store import index
from simclr_rhd.data.store.index import STILL_NUMBER, FrameNames
from simclr_rhd.data.store.shards import Frames, ShardWriter

logger = logging.getLogger("simclr_rhd")

VERSION = 6  # raise it when the same file would be stored otherwise
SALT_BYTES = 32  # bytes
FETCH_FAILED = "could not be fetched: "
MAX_MEMORY_BYTES = 4 << 20  # bytes of a file's decoded frames; more wait on the disk
MAX_PROBED_FILES, MAX_PROBED_FRACTION = (
    24,
    1 / 8,
)  # files, at most, decoded to tell how much room all will take


@dataclass(frozen=True)
class Store:
    """Decoded frames.

    Attributes:
        frames: N of them, (n, C, S, S) uint8 when indexed; RGB, content centred on black.
        keys: N names: the file's below the source's root, with `#<number>` for a frame of a clip.
        files: N names of the files they come from.
        color_modes: (N,) uint8, GREY (R = G = B everywhere), COLOR or DOPPLER.
        content_flags: (N,) uint8, OK, NEAR_BLACK or CONSTANT.
        digests: (N,) uint64 hashes of the pictures.
        patients: salted hashes by file, of DICOM files that name a patient.
        rejected: (name, reason) of every file left out, or not used to its end.
        fingerprint: hash of all names and contents; equal for a folder and a bucket of the same content.
        decoded: files that were decoded for this run; none when the store was found on disk.
    """

    frames: Frames | np.ndarray
    keys: Sequence[str]
    files: Sequence[str]
    color_modes: np.ndarray
    content_flags: np.ndarray
    digests: np.ndarray
    patients: dict[str, str]
    rejected: list[tuple[str, str]]
    fingerprint: str
    decoded: int = 0

    def subset(self, rows: np.ndarray) -> "Store":
        """The store of some frames, which are in memory then."""
        return replace(
            self,
            frames=self.frames[rows],
            keys=[self.keys[row] for row in rows],
            files=[self.files[row] for row in rows],
            color_modes=self.color_modes[rows],
            content_flags=self.content_flags[rows],
            digests=self.digests[rows],
        )


def open_store(
    source: Source,
    entries: Sequence[FileEntry],
    *,
    side: int,
    cache_dir: Path,
    max_frames: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Store:
    """The store of `entries` at `side` pixels: the one on disk if there is one, else built now.

    Args:
        source: where the files are.
        entries: of its listing.
        side: S.
        cache_dir: where stores are kept.
        max_frames: frames of a clip at most; None for all.
        max_pixels: of a frame.

    Raises:
        UserError: the disk is too full, or a package is missing.
    """
    folder = store_path(
        source, entries, side=side, cache_dir=cache_dir, max_frames=max_frames, max_pixels=max_pixels
    )
    if _is_complete(found := read_store(folder)):
        logger.info("store: %d decoded frames reused from %s", len(found.keys), folder)
        return found
    shutil.rmtree(folder, ignore_errors=True)  # damaged, or it lacks what could not be fetched
    used = [entry for entry in entries if media.file_type(entry.key)]
    media.require_packages(entry.key for entry in used)
    paths, failed = source.fetch(used)
    rejected = [
        (entry.key, f"{NO_FRAME}{Path(entry.key).suffix}")
        for entry in entries
        if not media.file_type(entry.key)
    ]
    rejected += [*source.skipped, *((key, FETCH_FAILED + reason) for key, reason in failed.items())]
    how = {"side": side, "max_frames": max_frames, "max_pixels": max_pixels, "salt": load_salt(cache_dir)}
    _build(folder, paths, rejected, how)
    store = read_store(folder)
    assert store is not None, f"{folder} was built a moment ago"
    return replace(store, decoded=len(paths))


class FileEstimate(NamedTuple):
    """What a file of a source holds, on the mean of some."""

    frames: float
    bytes: float  # decoded
    seconds: float  # to fetch and decode
    grey: bool  # whether all frames are


def store_exists(
    source: Source,
    entries: Sequence[FileEntry],
    *,
    side: int,
    cache_dir: Path,
    max_frames: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> bool:
    """Whether `open_store` would find a store; arguments as there."""
    return store_path(
        source, entries, side=side, cache_dir=cache_dir, max_frames=max_frames, max_pixels=max_pixels
    ).is_dir()


def probe_files(
    source: Source,
    entries: Sequence[FileEntry],
    *,
    side: int,
    cache_dir: Path,
    max_frames: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> FileEstimate:
    """Look into a few files; arguments as of `open_store`. Those of a remote source are kept.

    Raises:
        UserError: a package is missing, or nothing can be fetched.
    """
    used = [entry for entry in entries if media.file_type(entry.key)]
    media.require_packages(entry.key for entry in used)
    begun = time.perf_counter()
    paths, _ = source.fetch(
        [used[number] for number in evenly_spaced(len(used), min(len(used), MAX_PROBED_FILES))]
    )
    how = {"side": side, "max_frames": max_frames, "max_pixels": max_pixels, "salt": load_salt(cache_dir)}
    done = list(map_ordered(partial(_measure_file, paths, how), sorted(paths), workers=os.cpu_count() or 1))
    n = max(1, len(done))
    return FileEstimate(
        sum(found.frames for found in done) / n,
        sum(found.bytes for found in done) / n,
        (time.perf_counter() - begun) / n,
        all(found.grey for found in done),
    )


def store_path(
    source: Source,
    entries: Sequence[FileEntry],
    *,
    side: int,
    cache_dir: Path,
    max_frames: int | None,
    max_pixels: int = MAX_PIXELS,
) -> Path:
    """The folder of the store that has these files, prepared so; arguments as of `open_store`."""
    recipe = hashlib.sha256(json.dumps([VERSION, side, max_frames, max_pixels, source.skipped]).encode())
    for entry in entries:  # one by one: a million of them would be a text of a hundred megabytes
        recipe.update(f"\0{entry.key}\0{entry.version}".encode())  # no usable name has a control character
    return cache_dir / "stores" / recipe.hexdigest()[:24]


def check_rejected(store: Store, max_fraction: float) -> None:
    """Stop when more than the share `most` of the files is unreadable.

    Files that are no frames by their extension are listed in `rejected.csv`, but do not count here.

    Raises:
        UserError: too many unreadable files, or no frame at all.
    """
    unreadable = [(key, why) for key, why in store.rejected if not why.startswith(NO_FRAME)]
    total = len({*store.files, *(key for key, _ in unreadable)})
    examples = "".join(f"\n  {key}: {why}" for key, why in (unreadable or store.rejected)[:5])
    if not store.keys:
        raise UserError(f"none of the {len(store.rejected)} files is a readable frame:{examples}")
    if len(unreadable) > max_fraction * total:
        enough = math.ceil(100 * len(unreadable) / total) / 100
        raise UserError(
            f"{len(unreadable)} of {total} files cannot be read; --max-rejected allows "
            f"{max_fraction:.1%}. Mend them, or go on without them: --max-rejected {enough}. "
            f"The first:{examples}"
        )


class FileSize(NamedTuple):
    """What a file has: frames, their bytes once decoded, whether all are grey."""

    frames: int
    bytes: int
    grey: bool


def _measure_file(paths: dict[str, Path], how: dict[str, Any], key: str) -> FileSize:
    frames, size, grey = 0, 0, True
    for frame in media.iter_frames(paths[key], key, media.DecodedFile(), **how):
        frames, size, grey = frames + 1, size + frame.pixels.nbytes, grey and frame.color_mode == GREY
    return FileSize(frames, size, grey)


@dataclass
class PendingFile:
    """A decoded file until its turn to be written comes.

    Attributes:
        key: its name.
        done: its content, its patient, and the reason of what is left out.
        rows: (number, kind, look, digest) of each frame.
        pixels: all frames, one after another; of long clips they wait on the disk.
    """

    key: str
    done: media.DecodedFile
    rows: list[tuple[int, int, int, int]]
    pixels: Any


def _decode_file(paths: dict[str, Path], folder: Path, how: dict[str, Any], key: str) -> PendingFile:
    waiting = PendingFile(
        key,
        media.start_decoding(paths[key]),
        [],
        tempfile.SpooledTemporaryFile(MAX_MEMORY_BYTES, dir=str(folder)),
    )
    if not waiting.done.reason:
        for frame in media.iter_frames(paths[key], key, waiting.done, **how):
            number = STILL_NUMBER if frame.number is None else frame.number
            waiting.rows.append((number, frame.color_mode, frame.content_flag, int(frame.digest, 16)))
            waiting.pixels.write(frame.pixels.tobytes())
    waiting.pixels.seek(0)
    return waiting


def load_salt(cache_dir: Path) -> bytes:
    """Secret bytes of this cache folder, made once: without them a patient's number could be guessed.

    They are written and read under a lock: what is empty or cut off was left by a process that ended.
    """
    path = cache_dir / "salt"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        salt = stream.read()
        if len(salt) == SALT_BYTES and any(salt):
            return salt
        if salt:
            logger.warning(
                "WARNING %s is damaged: patients of DICOM files get other numbers than before", path
            )
        salt = secrets.token_bytes(SALT_BYTES)
        stream.seek(0)
        stream.truncate()
        stream.write(salt)
        stream.flush()
        os.fsync(stream.fileno())
    return salt


def _build(
    folder: Path, paths: dict[str, Path], rejected: list[tuple[str, str]], how: dict[str, Any]
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _check_disk_space(folder.parent, sorted(paths), partial(_measure_file, paths, how))
    start = time.perf_counter()
    try:
        with atomic_directory(folder) as part:
            frames = _write_store(part, paths, list(rejected), how)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"the disk is full: {folder.parent} has no room for the decoded frames. Nothing half-written is "
            "kept; make room, or name another disk with --cache-dir"
        ) from None
    seconds = time.perf_counter() - start
    logger.info("store: %d frames in %.1f s (%.0f frames/s)", frames, seconds, frames / seconds)


def _check_disk_space(place: Path, keys: list[str], measure: Callable[[str], FileSize]) -> None:
    """Say how much room the frames will take, from a sample of the files; refuse what does not fit."""
    some = min(MAX_PROBED_FILES, math.ceil(MAX_PROBED_FRACTION * len(keys)))
    sample = [keys[number] for number in evenly_spaced(len(keys), some)]
    bytes_of = [found.bytes for found in map_ordered(measure, sample, workers=os.cpu_count() or 1)]
    need = sum(bytes_of) / max(1, len(sample)) * len(keys)
    free = shutil.disk_usage(place).free
    if need > free:
        raise UserError(
            f"decoded frames will need about {need / 1e9:.1f} GB in {place}, where {free / 1e9:.1f} GB are "
            "free; make room, name another disk with --cache-dir, or use a smaller --image-size or "
            "--frames-per-clip"
        )
    logger.info("store: decoding %d files, about %.2f GB in %s", len(keys), need / 1e9, place)


def _write_store(
    part: Path, paths: dict[str, Path], rejected: list[tuple[str, str]], how: dict[str, Any]
) -> int:
    """Decode all files into shards, and write the index; how many frames there are."""
    rows: list[tuple[int, int, int, int, int]] = []
    files: list[str] = []
    patients, content = {}, hashlib.sha256()
    writer = ShardWriter(part)
    try:
        for waiting in progress(
            map_ordered(partial(_decode_file, paths, part, how), sorted(paths), workers=os.cpu_count() or 1),
            total=len(paths),
            label="store",
            unit="files",
            amount=lambda waiting: len(waiting.rows),
            amount_unit="frames",
        ):
            key, done = waiting.key, waiting.done
            content.update(f"{key}\0{done.content}\0".encode())
            if done.reason:
                rejected.append((key, done.reason))
            if not waiting.rows:
                continue
            if done.patient:
                patients[key] = done.patient
            with waiting.pixels as stream:
                for number, kind, look, digest in waiting.rows:
                    shape = (1 if kind == GREY else 3, how["side"], how["side"])
                    pixels = np.frombuffer(stream.read(math.prod(shape)), dtype=np.uint8)
                    writer.append(pixels.reshape(shape), kind)
                    rows.append((len(files), number, kind, look, digest))
            files.append(key)
        shards = writer.close()
    finally:
        writer.abort()
    rejected.sort()
    content.update(json.dumps(rejected).encode())
    index.write_index(
        part,
        side=how["side"],
        files=files,
        rows=np.array(rows, dtype=index.FRAME_DTYPE),
        patients=patients,
        rejected=rejected,
        fingerprint=content.hexdigest(),
        shards=shards,
    )
    return len(rows)


def _is_complete(store: Store | None) -> TypeGuard[Store]:
    """Whether there is a store and it lacks no file that another attempt might fetch."""
    return store is not None and not any(why.startswith(FETCH_FAILED) for _, why in store.rejected)


def read_store(folder: Path) -> Store | None:
    """The store in a folder; None if there is none, or if it is damaged."""
    if not folder.is_dir():
        return None
    try:
        found = index.read_index(folder)
        kinds, looks = (np.ascontiguousarray(found.rows[name]) for name in ("kind", "look"))
        frames = Frames(folder, kinds, found.side)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        logger.warning("WARNING the store in %s is damaged; its frames are decoded anew", folder)
        return None
    return Store(
        frames=frames,
        keys=FrameNames(found.files, found.rows, numbered=True),
        files=FrameNames(found.files, found.rows, numbered=False),
        color_modes=kinds,
        content_flags=looks,
        digests=found.rows["digest"],
        patients=found.patients,
        rejected=found.rejected,
        fingerprint=found.fingerprint,
    )
