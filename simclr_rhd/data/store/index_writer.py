"""Writing of a store's index."""

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

import numpy as np

from simclr_rhd.core.files import write_json
from simclr_rhd.data.store.index import (
    FRAME_DTYPE,
    FRAMES_FILE,
    INDEX_FILE,
    NAMES_FILE,
    OFFSET_DTYPE,
    OFFSETS_FILE,
    Header,
    header_checksum,
)
from simclr_rhd.data.store.shards import crc32c


class IndexWriter:
    """Writes an index into a store's folder; names and rows go to the disk as they come, to need no memory.

    Attributes:
        n_files: written so far.
        n_frames: written so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.n_files, self.n_frames, self._n_bytes = folder, 0, 0, 0
        with ExitStack() as streams:
            self._names = streams.enter_context((folder / NAMES_FILE).open("wb"))
            self._offsets = streams.enter_context(tempfile.TemporaryFile(dir=folder))
            self._rows = streams.enter_context(tempfile.TemporaryFile(dir=folder))
            self._streams = streams.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._streams.close()

    def append_names(self, names: Iterable[str]) -> None:
        """Append names of files."""
        for name in names:
            self._n_bytes += self._names.write(name.encode() + b"\n")
            self._offsets.write((self._n_bytes - 1).to_bytes(OFFSET_DTYPE.itemsize, "little"))
            self.n_files += 1

    def append_rows(self, rows: np.ndarray) -> None:
        """Append rows of `FRAME_DTYPE`; `file` counts from the store's first one."""
        assert rows.dtype == FRAME_DTYPE
        self._rows.write(rows.tobytes())
        self.n_frames += len(rows)

    def finish(self, header: Header, checksums: dict[str, str]) -> None:
        """Write arrays and header; `checksums` are those of the store's other files by name."""
        self._names.flush()
        _save_stream(self._offsets, self.folder / OFFSETS_FILE, OFFSET_DTYPE)
        _save_stream(self._rows, self.folder / FRAMES_FILE, FRAME_DTYPE)
        sums = {name: crc32c(self.folder / name) for name in (NAMES_FILE, OFFSETS_FILE, FRAMES_FILE)}
        facts = {
            "side": header.side,
            "patients": header.patients,
            "rejected": header.rejected,
            "fingerprint": header.fingerprint,
            "salt": header.salt_id,
            "sums": checksums | sums,
        }
        write_json(self.folder / INDEX_FILE, facts | {"checksum": header_checksum(facts)})


def _save_stream(stream: IO[bytes], path: Path, dtype: np.dtype) -> None:
    """Save a stream as a .npy file, whose header has the length, which is known only at the end."""
    shape = (stream.tell() // dtype.itemsize,)
    stream.seek(0)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file,
            {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
        )
        shutil.copyfileobj(stream, file)
