"""The frame store: every frame decoded, checked, padded to a square and resized once, uint8 on disk.

A store's folder is named by a hash of what went into it (names, stamps of the contents, preprocessing), built
beside its place and moved there whole. So it is never half believed, never changed, and found again when
nothing changed. Its index and its shards carry checksums.

Notation: N frames, S pixels of a stored frame's side.
"""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.decode import OK, DecodeOptions
from simclr_rhd.data.decoding.file_types import NO_FRAME
from simclr_rhd.data.decoding.salt import load_salt, salt_id
from simclr_rhd.data.decoding.source_files import FETCH_FAILED, FetchedFiles, fetch_files
from simclr_rhd.data.sources.base import FileEntry, Source
from simclr_rhd.data.store.build import build_store
from simclr_rhd.data.store.index import read_column, read_index
from simclr_rhd.data.store.names import FrameNames
from simclr_rhd.data.store.shards import Frames

logger = logging.getLogger("simclr_rhd")

STORES_DIR = "stores"  # in the cache folder
VERSION = 7  # raise it when the same file would be stored otherwise


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
        sizes: (N, 2) uint32 width and height before they were resized.
        patients: salted hashes by file, of DICOM files that name a patient.
        rejected: (name, reason) of every file left out, or not used to its end.
        fingerprint: hash of all names and contents; equal for a folder and a bucket of the same content.
        salt_id: of the salt that the patients are hashed with.
        decoded: files that were decoded for this run; none when the store was found on disk.
    """

    frames: Frames | np.ndarray
    keys: Sequence[str]
    files: Sequence[str]
    color_modes: np.ndarray
    content_flags: np.ndarray
    digests: np.ndarray
    sizes: np.ndarray
    patients: dict[str, str]
    rejected: list[tuple[str, str]]
    fingerprint: str
    salt_id: str = ""
    decoded: int = 0

    def pictures(self, videos: Sequence[str]) -> list[tuple[str, int]]:
        """(video, digest) of the frames that show something: any two black ones are the same picture."""
        frames = zip(videos, self.digests.tolist(), self.content_flags, strict=True)
        return [(video, digest) for video, digest, flag in frames if flag == OK]

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
            sizes=self.sizes[rows],
        )


def open_store(
    source: Source, entries: Sequence[FileEntry], options: DecodeOptions, *, cache_dir: Path
) -> Store:
    """The store of some files: the one on disk if there is one, else built now.

    Args:
        source: of the files.
        entries: of its listing.
        options: of decoding; the salt is that of the cache folder.
        cache_dir: where stores are kept.

    Raises:
        UserError: the disk is too full, or a package is missing.
    """
    folder = store_path(source, entries, options, cache_dir=cache_dir)
    salt = load_salt(cache_dir)
    if is_usable(stored := read_store(folder), salt):
        logger.info("store: %d decoded frames reused from %s", len(stored.keys), folder)
        return stored
    shutil.rmtree(folder, ignore_errors=True)  # damaged, or it lacks what could not be fetched
    paths, rejected = fetch_files(source, entries)
    files = FetchedFiles(paths, [*source.skipped, *rejected])
    build_store(folder, files, replace(options, salt=salt))
    store = read_store(folder)
    assert store is not None, f"{folder} was built a moment ago"
    return replace(store, decoded=len(paths))


def store_path(
    source: Source, entries: Sequence[FileEntry], options: DecodeOptions, *, cache_dir: Path
) -> Path:
    """The folder of the store that has these files, decoded so; arguments as of `open_store`."""
    recipe = hashlib.sha256(
        json.dumps([VERSION, options.side, options.max_frames, options.max_pixels, source.skipped]).encode()
    )
    for entry in entries:  # one by one: a million of them would be a text of a hundred megabytes
        recipe.update(f"\0{entry.key}\0{entry.version}".encode())  # no usable name has a control character
    return cache_dir / STORES_DIR / recipe.hexdigest()[:24]


def check_rejected(store: Store, max_fraction: float) -> None:
    """Stop when more than the share `max_fraction` of the files is unreadable.

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


def is_usable(store: Store | None, salt: bytes) -> TypeGuard[Store]:
    """Return whether there is a store that lacks no file which another attempt might fetch.

    If it has patients, they must be hashed with this salt: those of another one are equal to no others.
    """
    if store is None or (store.patients and store.salt_id != salt_id(salt)):
        return False
    return not any(why.startswith(FETCH_FAILED) for _, why in store.rejected)


def read_store(folder: Path, *, verify: bool = True) -> Store | None:
    """The store in a folder; None if there is none, or if it is damaged. `verify` as of `read_index`."""
    if not folder.is_dir():
        return None
    try:
        index = read_index(folder, verify=verify)
        kinds, flags = (read_column(folder, name) for name in ("kind", "look"))
        frames = Frames(folder, kinds, index.side)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        logger.warning("WARNING the store in %s is damaged; its frames are decoded anew", folder)
        return None
    return Store(
        frames=frames,
        keys=FrameNames(index.files, index.rows, numbered=True),
        files=FrameNames(index.files, index.rows, numbered=False),
        color_modes=kinds,
        content_flags=flags,
        digests=index.rows["digest"],
        sizes=structured_to_unstructured(index.rows[["width", "height"]]),  # a view
        patients=index.patients,
        rejected=index.rejected,
        fingerprint=index.fingerprint,
        salt_id=index.salt_id,
    )
