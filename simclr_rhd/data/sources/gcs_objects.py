"""The objects of a bucket: their versions, their checksums, and their content encoding."""

import base64
import gzip
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from simclr_rhd.core.files import atomic_write
from simclr_rhd.data.sources.base import FileEntry

GZIP_ENCODINGS, GZIP_MAGIC = ("gzip", "x-gzip"), b"\x1f\x8b"  # names of the encoding; the first bytes
MAX_DECODED_BYTES, BLOCK_BYTES = 1 << 30, 1 << 20  # of an object without its encoding; read at a time


class ObjectVersion(NamedTuple):
    """The version of an object's content.

    Attributes:
        generation: number of this version of it.
        crc32c: checksum of the stored bytes, as the listing writes it.
        encoding: content encoding of the stored bytes, "" for none.
    """

    generation: str
    crc32c: str
    encoding: str = ""

    @classmethod
    def from_entry(cls, entry: FileEntry) -> "ObjectVersion":
        """The version of an entry of a bucket's listing."""
        return cls(*entry.version.split("-", 2))

    @classmethod
    def from_blob(cls, blob: Any) -> "ObjectVersion":
        """The version of an object as the client gives it."""
        encoding = (blob.content_encoding or "").strip().lower()
        return cls(str(blob.generation), str(blob.crc32c), encoding.removeprefix("identity"))

    def text(self) -> str:
        """As an entry has it."""
        return "-".join(part for part in self if part)


def entry_from_row(key: Any, size: Any, version: Any) -> FileEntry:
    """The entry of a row of a cached listing.

    Raises:
        TypeError, ValueError: it is no such row.
    """
    if not isinstance(key, str) or type(size) is not int or not re.fullmatch(r"\d+-.+", version):
        raise ValueError("no row of a listing")
    return FileEntry(key, size, version)


def object_checksum(data: bytes) -> str:
    """The crc32c of some bytes, as the bucket's listing writes it."""
    import google_crc32c

    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def decompress(path: Path, encoding: str) -> tuple[Path, str]:
    """Remove the content encoding of an object: its plain file, and a reason if there is none, else empty."""
    if encoding not in GZIP_ENCODINGS:
        return path, f"has the content encoding {encoding:.20}, which is not read: store it without"
    with path.open("rb") as start:
        if start.read(len(GZIP_MAGIC)) != GZIP_MAGIC:  # it is not, despite its name
            return path, ""
    plain, left = path.with_name(f"{path.name}-plain"), MAX_DECODED_BYTES
    try:
        with atomic_write(plain) as part, gzip.open(path) as stream, part.open("wb") as out:
            while block := stream.read(BLOCK_BYTES):
                left -= len(block)
                if left < 0:
                    raise ValueError("too large")
                out.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return path, "its gzip is damaged, though it is what was stored"
    except ValueError:
        return path, f"its gzip holds more than {MAX_DECODED_BYTES / 1e9:.1f} GB"
    return plain, ""
