"""A rank's share of a listing, as the leader sends it: packed, so that nobody holds a million names."""

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from simclr_rhd.core.distributed import rank
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.decode import DecodeOptions, require_packages
from simclr_rhd.data.decoding.file_types import file_type
from simclr_rhd.data.decoding.source_files import FetchedFiles, fetch_files
from simclr_rhd.data.sources.base import FileEntry, Source
from simclr_rhd.data.store.build import estimate_bytes, sample_files

FILES_PER_BLOCK = 5_000  # files that are fetched and decoded before the next ones


def pack_share(entries: Sequence[FileEntry]) -> Iterator[bytes]:
    """The blocks of a `Share` of these files."""
    usable = [entry for entry in entries if file_type(entry.key)]
    sample = [usable[number] for number in sample_files(len(usable))]
    suffixes = sorted({PurePosixPath(entry.key).suffix for entry in usable})
    yield json.dumps({"n_files": len(usable), "suffixes": suffixes, "sample": sample}).encode()
    for first in range(0, len(entries), FILES_PER_BLOCK):
        yield zlib.compress(json.dumps(entries[first : first + FILES_PER_BLOCK]).encode())


class Share:
    """The files that a rank fetches and decodes.

    Args:
        blocks: as `pack_share` makes them.

    Attributes:
        n_files: that may have frames.
        n_fetched: of these, so far.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        header, *self.blocks = blocks
        facts = json.loads(header)
        self.n_files, self.n_fetched, self.suffixes = facts["n_files"], 0, facts["suffixes"]
        self.sample = [FileEntry(*row) for row in facts["sample"]]

    def estimate_bytes(self, source: Source, options: DecodeOptions) -> float:
        """Estimate the bytes of the decoded frames from a few files.

        Raises:
            UserError: a package is missing, or nothing can be fetched.
        """
        require_packages(f"file{suffix}" for suffix in self.suffixes)
        return estimate_bytes(_fetch(source, self.sample).paths, self.n_files, options)

    def fetch_in_turn(self, source: Source) -> Iterator[FetchedFiles]:
        """Fetch the files, some thousands at a time.

        Raises:
            UserError: nothing can be fetched, or this machine's files are not the leader's.
        """
        for block in self.blocks:
            fetched = _fetch(source, [FileEntry(*row) for row in json.loads(zlib.decompress(block))])
            self.n_fetched += len(fetched.paths)
            yield fetched


def _fetch(source: Source, entries: Sequence[FileEntry]) -> FetchedFiles:
    fetched = fetch_files(source, entries)
    if rank() and not source.remote:  # the listing is of the leader's machine
        for entry in entries:
            path = fetched.paths.get(entry.key)
            if path and not (path.is_file() and path.stat().st_size == entry.size):
                raise UserError(
                    f"{source.location}/{entry.key} is another file here than on the machine of rank 0: "
                    "--data must name the same content on every machine"
                )
    return fetched
