"""The frame store: every frame decoded, checked, padded to a square and resized once, uint8 on disk.

A store's folder is named by a hash of what went into it (the listing and the size), built beside its place
and moved there whole. So it is never half believed, never changed, and found again when nothing changed.

Notation: N frames, S pixels of a stored frame's side.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
from tqdm import tqdm

from simclr_rhd.errors import UserError
from simclr_rhd.files import write_json
from simclr_rhd.frames import colour_kind, decode, is_frame, square
from simclr_rhd.listing import Entry, Source

logger = logging.getLogger("simclr_rhd")

VERSION = 1  # raise it when the same file would be stored otherwise
FETCH_FAILED = "could not be fetched: "


@dataclass(frozen=True)
class Store:
    """Decoded frames.

    Attributes:
        frames: (N, 3, S, S) uint8, memory-mapped, RGB, content centred on black.
        keys: N names below the source's root, sorted.
        kinds: (N,) uint8, GREY (R = G = B everywhere), TINTED or DOPPLER.
        rejected: (key, reason) of every file left out.
        fingerprint: hash of all names and contents; equal for a folder and a bucket of the same content.
    """

    frames: np.ndarray
    keys: list[str]
    kinds: np.ndarray
    rejected: list[tuple[str, str]]
    fingerprint: str


def stored_side(image_size: int) -> int:
    """S for views of `image_size` pixels: some room to crop without enlarging (256 for 224)."""
    return math.ceil(image_size * 8 / 7)


def open_store(source: Source, entries: Sequence[Entry], *, side: int, cache_dir: Path) -> Store:
    """The store of `entries` at `side` pixels: the one on disk if there is one, else built now.

    Raises:
        UserError: the disk is too full.
    """
    recipe = json.dumps([VERSION, side, [[entry.key, entry.stamp] for entry in entries]])
    folder = cache_dir / "stores" / hashlib.sha256(recipe.encode()).hexdigest()[:24]
    if _complete(found := _read(folder)):
        logger.info("store: %d decoded frames reused from %s", len(found.keys), folder)
        return found
    frames = [entry for entry in entries if is_frame(entry.key)]
    others = [entry for entry in entries if not is_frame(entry.key)]
    paths, failed = source.fetch(frames)
    rejected = [(entry.key, f"not a frame: {Path(entry.key).suffix or 'no extension'}") for entry in others]
    rejected += [(key, FETCH_FAILED + reason) for key, reason in failed.items()]
    _build(folder, paths, rejected, side=side)
    store = _read(folder)
    assert store is not None, f"{folder} was built a moment ago"
    return store


def check_rejected(store: Store, most: float) -> None:
    """Stop when more than the share `most` of the frames is unreadable.

    Files that are no frames by their extension are listed in `rejected.csv`, but do not count here.

    Raises:
        UserError: too many unreadable frames, or no frame at all.
    """
    unreadable = [(key, why) for key, why in store.rejected if not why.startswith("not a frame: ")]
    total = len(store.keys) + len(unreadable)
    examples = "".join(f"\n  {key}: {why}" for key, why in (unreadable or store.rejected)[:5])
    if not store.keys:
        raise UserError(f"none of the {len(store.rejected)} files is a readable frame:{examples}")
    if len(unreadable) > most * total:
        enough = math.ceil(100 * len(unreadable) / total) / 100
        raise UserError(
            f"{len(unreadable)} of {total} frames cannot be read; --max-rejected allows "
            f"{most:.1%}. Mend them, or go on without them: --max-rejected {enough}. The first:{examples}"
        )


def _prepare(path: Path, side: int) -> tuple[np.ndarray | None, str, str]:
    """A file's stored frame (None if unusable), the reason for None, and its content's hash."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return None, f"cannot be read ({error.strerror})", ""
    digest = hashlib.sha256(data).hexdigest()
    try:
        return square(decode(data), side), "", digest
    except ValueError as error:
        return None, str(error), digest


def _build(folder: Path, paths: dict[str, Path], rejected: list[tuple[str, str]], *, side: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    need, free = len(paths) * 3 * side * side, shutil.disk_usage(folder.parent).free
    if need > free:
        raise UserError(
            f"decoded frames need {need / 1e9:.1f} GB in {folder.parent}, where "
            f"{free / 1e9:.1f} GB are free; make room, or name another disk with --cache-dir"
        )
    logger.info("store: decoding %d frames to %dx%d (%.2f GB)", len(paths), side, side, need / 1e9)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    rejected, keys, kinds, content = list(rejected), [], [], hashlib.sha256()
    start = time.perf_counter()
    try:
        with (part / "frames.u8").open("wb") as stream:
            for key, (frame, reason, digest) in _decoded(paths, side):
                content.update(f"{key}\0{digest}\0".encode())
                if frame is None:
                    rejected.append((key, reason))
                    continue
                stream.write(frame.tobytes())
                keys.append(key)
                kinds.append(colour_kind(frame))
        rejected.sort()
        content.update(json.dumps(rejected).encode())
        write_json(
            part / "index.json",
            {
                "side": side,
                "keys": keys,
                "kinds": kinds,
                "rejected": rejected,
                "fingerprint": content.hexdigest(),
            },
        )
        try:
            os.replace(part, folder)
        except OSError:  # another run has just put the same store there, or an incomplete one is in the way
            if not _complete(_read(folder)):
                shutil.rmtree(folder)
                os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    seconds = time.perf_counter() - start
    logger.info("store: %d frames in %.1f s (%.0f frames/s)", len(keys), seconds, len(keys) / seconds)


def _decoded(paths: dict[str, Path], side: int) -> Iterator[tuple[str, tuple[np.ndarray | None, str, str]]]:
    """Prepared frames in the order of the sorted keys; some hundred at a time are in memory."""
    keys, chunk = sorted(paths), 256
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(keys), desc="decoding", unit=" frames", disable=None, leave=False) as bar,
    ):
        for first in range(0, len(keys), chunk):
            some = keys[first : first + chunk]
            yield from zip(some, pool.map(lambda key: _prepare(paths[key], side), some), strict=True)
            bar.update(len(some))


def _complete(store: Store | None) -> TypeGuard[Store]:
    """Whether there is a store and it lacks no frame that another attempt might fetch."""
    return store is not None and not any(why.startswith(FETCH_FAILED) for _, why in store.rejected)


def _read(folder: Path) -> Store | None:
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        shape = (len(index["keys"]), 3, index["side"], index["side"])
        if (folder / "frames.u8").stat().st_size != math.prod(shape):
            return None
    except (OSError, ValueError, KeyError):
        return None
    rejected = [(key, reason) for key, reason in index["rejected"]]
    frames = (
        np.memmap(folder / "frames.u8", dtype=np.uint8, mode="r", shape=shape)
        if shape[0]
        else np.empty(shape, dtype=np.uint8)
    )
    kinds = np.array(index["kinds"], dtype=np.uint8)
    return Store(frames, index["keys"], kinds, rejected, index["fingerprint"])
