"""The header of a DICOM file: where its pixels are, which region shows the scan, whose it is.

Nothing of a header is ever shown: no value in a message or a warning.
"""

import logging
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.file_types import NO_FRAME
from simclr_rhd.data.decoding.image import MIN_SIDE
from simclr_rhd.data.decoding.video import plausible_aspect

VIDEO_SYNTAX_PREFIX = "1.2.840.10008.1.2.4.10"  # begins the transfer syntaxes of MPEG-2, H.264 and H.265
TWO_DIMENSIONAL_FORMAT = 1  # Region Spatial Format of a B-mode picture, DICOM PS3.3 C.8.5.5.1.1
UNDEFINED_LENGTH = 0xFFFFFFFF  # "undefined length": the pixels are compressed
ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # begin pieces of compressed pixels
# bytes of a deflated file, at most: so many, or so many times its own
MAX_INFLATED_BYTES, MAX_INFLATION_RATIO = 256 << 20, 100
MAX_MEMORY_BYTES = 32 << 20  # bytes of inflated or joined data; more go to a temporary file


class UnusableFileError(Exception):
    """A DICOM file that cannot or must not be used, or a file that is none; the message is for the user."""


@contextmanager
def explain_errors(part: str) -> Iterator[None]:
    """Make a ValueError with the reason of whatever is raised in the block, which reads a part of a file."""
    try:
        yield
    except UnusableFileError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # on damaged bytes the decoders raise whatever they stumble over
        raise ValueError(f"damaged DICOM {part} ({type(error).__name__})") from None


def require_pydicom() -> Any:
    """The module `pydicom`, silenced: its warnings and log lines quote header values.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise UserError(
            "there are DICOM files, and the package that reads them is missing: pip install pydicom"
        ) from None
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    for module in ("pydicom", f"{__package__}.dicom"):  # the second begins the names of our own modules
        warnings.filterwarnings("ignore", module=module)
    return pydicom


@dataclass
class DicomFile:
    """A DICOM file whose header has been read.

    Attributes:
        header: all before the pixels.
        syntax: UID of the transfer syntax.
        stream: bytes of the file; inflated, where it is deflated.
        offset: where the pixels begin in the stream.
        length: bytes of the pixels, or UNDEFINED_LENGTH.
    """

    header: Any
    syntax: Any
    stream: BinaryIO
    offset: int
    length: int


def open_dicom(path: Path) -> DicomFile:
    """Read the header of a file.

    Raises:
        UnusableFileError: it has no pixels, or none that can be read; pydicom raises others.
    """
    pydicom = require_pydicom()
    stream: Any = path.open("rb")
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
    except pydicom.errors.InvalidDicomError:  # without a preamble
        meta = {}
    syntax = meta.get("TransferSyntaxUID")
    if syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
        stream.seek(144 + meta.FileMetaInformationGroupLength)
        stream, syntax = _inflate(stream, path.stat().st_size), pydicom.uid.ExplicitVRLittleEndian
    header = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
    syntax = syntax or header.file_meta.get("TransferSyntaxUID")
    implicit, little = header.original_encoding
    if guessed := not syntax:
        syntax = (
            pydicom.uid.ImplicitVRLittleEndian
            if implicit
            else pydicom.uid.ExplicitVRLittleEndian
            if little
            else pydicom.uid.ExplicitVRBigEndian
        )
    order: Literal["little", "big"] = "little" if little else "big"
    head = stream.read(8 if implicit else 12)
    if len(head) < 8:
        raise UnusableFileError(no_pixels_reason(header))
    length = int.from_bytes(head[-4:], order)
    at = stream.tell()
    raw = length != UNDEFINED_LENGTH and not syntax.startswith(VIDEO_SYNTAX_PREFIX)
    if (guessed and length == UNDEFINED_LENGTH) or (raw and stream.read(4) in ITEM_TAGS):
        raise UnusableFileError("compressed DICOM pixels, and a header that does not say how")
    if "PlanarConfiguration" not in header and int(header.get("SamplesPerPixel") or 1) > 1:
        header.PlanarConfiguration = 0  # colour by pixel, which nearly all write
    return DicomFile(header, syntax, stream, at, length)


def no_pixels_reason(header: Any) -> str:
    """The reason of a file without pixels: directories, reports and presentation states are no pictures."""
    uid = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    if not uid or "Image" in uid.name:
        return "a DICOM file without pixels"
    return f"{NO_FRAME}DICOM, {uid.name if uid.name != uid else 'a private kind without pixels'}"


def _inflate(packed: BinaryIO, size: int) -> BinaryIO:
    """Inflate a data set, in memory or in a temporary file; not more than is credible."""
    inflated = tempfile.SpooledTemporaryFile(MAX_MEMORY_BYTES)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while (piece := inflater.unconsumed_tail or packed.read(1 << 16)) and not inflater.eof:
        inflated.write(inflater.decompress(piece, 1 << 20))
        if inflated.tell() > max(MAX_INFLATED_BYTES, MAX_INFLATION_RATIO * size):
            raise UnusableFileError(
                f"too large: more than {inflated.tell() >> 20} MB, deflated to {size / 1e6:.1f} MB"
            )
    packed.close()
    inflated.seek(0)
    return cast(BinaryIO, inflated)


def expected_frames(header: Any) -> int:
    """The number of frames that a header gives."""
    try:
        return int(header.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        return 1


def pixel_aspect(header: Any) -> float:
    """Width of a pixel over its height; the header has the height first (DICOM PS3.3 C.7.6.3.1.7)."""
    value = header.get("PixelAspectRatio") or ()
    try:
        height, width = map(float, value)
    except (TypeError, ValueError):
        return 1.0
    return plausible_aspect(width / height if height else 1)


def ultrasound_region(header: Any, rows: int, columns: int) -> tuple[slice, slice]:
    """The largest two-dimensional region (any, if none is), cut to the frame; all of it if none is given."""
    regions = []
    for item in header.get("SequenceOfUltrasoundRegions") or ():
        top, left = max(0, int(item.RegionLocationMinY0)), max(0, int(item.RegionLocationMinX0))
        bottom, right = (
            min(rows - 1, int(item.RegionLocationMaxY1)),
            min(columns - 1, int(item.RegionLocationMaxX1)),
        )
        area = max(0, bottom - top + 1) * max(0, right - left + 1)
        flat = int(item.get("RegionSpatialFormat") or 0) == TWO_DIMENSIONAL_FORMAT
        if min(bottom - top, right - left) + 1 >= MIN_SIDE:
            regions.append((flat, area, (slice(top, bottom + 1), slice(left, right + 1))))
    if regions:
        return max(regions, key=lambda region: region[:2])[2]
    if header.get("SequenceOfUltrasoundRegions"):  # the whole frame would show the banner
        raise UnusableFileError("its ultrasound regions lie outside the frame")
    return slice(None), slice(None)
