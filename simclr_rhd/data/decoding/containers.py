"""The length that a clip's container gives for its own file: RIFF (AVI), ISO base media (MP4, MOV), Matroska.

No header gives the number of frames shown: edit lists cut some, recorders drop some, rates vary. But each of
these containers has the bytes of its outermost pieces.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

HEADER_TOLERANCE_BYTES = 16  # bytes by which recorders miscount the header of a whole file


def missing_bytes(path: Path) -> int:
    """The number of bytes that a file lacks at its end; 0 where it is whole, or of unknown length."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(12)
        pieces = (
            _riff_ends
            if start[:4] == b"RIFF"
            else _box_ends
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
            else _element_ends
            if start[:4] == b"\x1a\x45\xdf\xa3"
            else None
        )
        missing = max((end - size for end in pieces(stream, size)), default=0) if pieces else 0
    return missing if missing > HEADER_TOLERANCE_BYTES else 0


def _riff_ends(stream: BinaryIO, size: int) -> Iterator[int]:
    """The ends of the outermost chunks of a RIFF file; one of more than 1 GB has several."""
    at = 0
    while at + 8 <= size:
        stream.seek(at)
        head = stream.read(8)
        if head[:4] != b"RIFF":
            return
        at += 8 + int.from_bytes(head[4:], "little")
        yield at


def _box_ends(stream: BinaryIO, size: int) -> Iterator[int]:
    """The ends of the outermost boxes (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= size:
        stream.seek(at)
        head = stream.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if (
            length < 8 or not head[4:8].isalnum()
        ):  # to the end of the file, or what some recorder has put there
            return
        at += length
        yield at


def _element_ends(stream: BinaryIO, size: int) -> Iterator[int]:
    """The ends of the EBML header and the segment (RFC 8794, 6)."""
    at = 0
    while at + 12 <= size:
        stream.seek(at)
        head = stream.read(12)
        wide = 9 - head[4].bit_length()  # bytes of the length, after four of the element's name
        value = int.from_bytes(head[4 : 4 + wide], "big") & ~(-1 << 7 * wide)
        if (
            wide > 8
            or value == (1 << 7 * wide) - 1
            or head[:4] not in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67")
        ):
            return
        at += 4 + wide + value
        yield at
