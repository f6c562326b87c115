"""Parts of a store: contiguous ranges of its files, decoded apart, and joined byte for byte.

A part is a folder like a store's, with the file `CONTENTS_FILE` besides.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simclr_rhd.core.files import atomic_directory
from simclr_rhd.data.decoding.source_files import FETCH_FAILED
from simclr_rhd.data.sources.base import FileEntry
from simclr_rhd.data.store.build import CONTENTS_FILE, fingerprint_of, refuse_full_disk
from simclr_rhd.data.store.index import (
    INDEX_FILE,
    Header,
    read_header,
    read_index,
    read_names,
    read_rows,
)
from simclr_rhd.data.store.index_writer import IndexWriter
from simclr_rhd.data.store.shards import ShardWriter

logger = logging.getLogger("simclr_rhd")


def divide(entries: Sequence[FileEntry], n: int) -> list[Sequence[FileEntry]]:
    """Contiguous ranges of sorted files, `n` of about equal bytes; some are empty where files are few."""
    ends = np.cumsum([entry.size for entry in entries], dtype=np.float64)
    ends += np.arange(1, len(entries) + 1)  # an empty file counts, too
    total = ends[-1] if len(ends) else 0.0
    bounds = [0, *np.searchsorted(ends, total * np.arange(1, n) / n, side="right").tolist(), len(entries)]
    return [entries[first:end] for first, end in zip(bounds, bounds[1:], strict=False)]


def is_whole_part(folder: Path) -> bool:
    """Return True if a folder holds a whole part, with no file missing that another attempt might fetch."""
    if not folder.is_dir():
        return False
    try:
        index = read_index(folder, max_bytes=math.inf)  # all: the store's checksums are computed from it
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    has_contents = (folder / CONTENTS_FILE).is_file()
    return has_contents and not any(why.startswith(FETCH_FAILED) for _, why in index.rejected)


def join_parts(folder: Path, parts: Sequence[Path], skipped: Sequence[tuple[str, str]]) -> None:
    """Join parts into the store that one process would build; they are deleted meanwhile, to save room.

    Args:
        folder: the store's place; it appears whole.
        parts: in the order of their files.
        skipped: (name, reason) of files of the listing that cannot be used.

    Raises:
        UserError: the disk is full.
    """
    rejected, patients, side, salt = [*skipped], dict[str, str](), 0, ""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        refuse_full_disk(folder.parent),
        atomic_directory(folder) as building,
        IndexWriter(building) as index_writer,
        ShardWriter(building) as shard_writer,
    ):
        for part in parts:
            header = read_header(part)
            (part / INDEX_FILE).unlink()  # without it, this is no part any more
            shard_writer.append_shards(part, header.side)
            for rows in read_rows(part):
                moved = rows.copy()
                moved["file"] += index_writer.n_files
                index_writer.append_rows(moved)
            index_writer.append_names(read_names(part))
            rejected += header.rejected
            patients.update(header.patients)
            side, salt = header.side, header.salt_id
        rejected.sort()
        fingerprint = fingerprint_of([part / CONTENTS_FILE for part in parts], rejected)
        index_writer.finish(Header(side, patients, rejected, fingerprint, salt), shard_writer.finish())
    logger.info("store: joined %d frames from %d parts", index_writer.n_frames, len(parts))
