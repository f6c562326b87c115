"""DICOM files: frames without the burnt-in banner, and a patient without a name.

Nothing of a header is ever shown: no value in a message or a warning, and of the patient's identifier only a
salted hash.
"""

import copy
import hashlib
import hmac
import logging
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.file_types import NO_FRAME
from simclr_rhd.data.decoding.image import MIN_16_BIT_MAXIMUM, MIN_SIDE, evenly_spaced
from simclr_rhd.data.decoding.limits import check_file, check_frame, reserve_pixels
from simclr_rhd.data.decoding.video import display_size, iter_stream, plausible_aspect
from simclr_rhd.data.splits.groups import is_anonymous_id

MAGIC = b"DICM"  # after 128 bytes of preamble
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # of a file without a preamble; the last is big endian
TWO_DIMENSIONAL_FORMAT = 1  # Region Spatial Format of a B-mode picture, DICOM PS3.3 C.8.5.5.1.1
VIDEO_SYNTAX_PREFIX = "1.2.840.10008.1.2.4.10"  # begins the transfer syntaxes of MPEG-2, H.264 and H.265
RLE_SYNTAX = "1.2.840.10008.1.2.5"
UNDEFINED_LENGTH = 0xFFFFFFFF  # "undefined length": the pixels are compressed
ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # begin pieces of compressed pixels
IMAGE_STARTS = (
    b"\xff\xd8\xff",
    b"\xff\x4f\xff\x51",
    b"\0\0\0\x0cjP",
)  # JPEG, JPEG-LS; JPEG 2000, twice
IMAGE_END = b"\xff\xd9"  # JPEG and JPEG 2000
MAX_INFLATED_BYTES, MAX_INFLATION_RATIO = (
    256 << 20,
    100,
)  # bytes of a deflated file, at most: so many, or so many times its own
MAX_MEMORY_BYTES = 32 << 20  # bytes of inflated or joined data; more go to a temporary file


def is_dicom(path: Path) -> bool:
    """Return True if the first bytes are those of DICOM; many files have no extension, some no preamble."""
    with path.open("rb") as stream:
        head = stream.read(132)
    bare = head[:2] in FIRST_GROUPS and (head[4:6].isupper() or head[6:8] == b"\0\0") and len(head) > 8
    return head[128:] == MAGIC or bare


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
    for module in ("pydicom", __name__):
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


def dicom_frames(
    path: Path, *, max_frames: int | None, max_pixels: int, salt: bytes
) -> tuple[str, bool, Iterator[tuple[int, np.ndarray]]]:
    """The patient (a salted hash, "" where unknown), whether it is a clip, and the frames with their numbers.

    Each frame is (h, w, 3) uint8 RGB, cut to the file's largest two-dimensional ultrasound region where it
    names regions: around them stand names and dates. Its pixels are made square. More than 8 bits are scaled
    by the stored depth. Frames are counted: headers are wrong.

    Args:
        path: the file.
        max_frames: that many frames, evenly spaced; None for all.
        max_pixels: of a frame.
        salt: for the hash.

    Raises:
        ValueError: it cannot be read, now or while the frames are.
        UserError: pydicom is missing.
    """
    pydicom = require_pydicom()
    try:
        opened = _open(path)
        header = opened.header
        patient = str(header.get("PatientID") or "").strip()
        rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
        region, aspect = _ultrasound_region(header, rows, columns), _pixel_aspect(header)
    except pydicom.errors.InvalidDicomError:
        raise ValueError("not a DICOM file") from None
    except UnusableFileError as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        raise ValueError(f"damaged DICOM header ({type(error).__name__})") from None
    if not rows or not columns:
        raise ValueError(_no_pixels_reason(header))
    if min(rows, columns) < MIN_SIDE:
        raise ValueError(f"too small ({columns}x{rows})")
    check_frame(*display_size(columns, rows, aspect), max_pixels=max_pixels)
    name = (
        hmac.new(salt, patient.encode(), hashlib.sha256).hexdigest()[:16]
        if not is_anonymous_id(patient)
        else ""
    )
    if opened.syntax.startswith(VIDEO_SYNTAX_PREFIX):
        return (
            name,
            True,
            _square_pixels(_iter_video(opened, region, max_frames=max_frames, max_pixels=max_pixels), aspect),
        )
    try:
        total = _count_frames(opened)
    except UnusableFileError as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        raise ValueError(f"damaged DICOM pixels ({type(error).__name__})") from None
    check_file(total, columns, rows, size=path.stat().st_size, max_pixels=max_pixels)
    wanted = list(range(total)) if max_frames is None else evenly_spaced(total, max_frames)
    return (
        name,
        max(total, _expected_frames(header)) > 1,
        _square_pixels(_iter_pixels(opened, wanted, total, region), aspect),
    )


def _open(path: Path) -> DicomFile:
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
        raise UnusableFileError(_no_pixels_reason(header))
    length = int.from_bytes(head[-4:], order)
    at = stream.tell()
    raw = length != UNDEFINED_LENGTH and not syntax.startswith(VIDEO_SYNTAX_PREFIX)
    if (guessed and length == UNDEFINED_LENGTH) or (raw and stream.read(4) in ITEM_TAGS):
        raise UnusableFileError("compressed DICOM pixels, and a header that does not say how")
    if "PlanarConfiguration" not in header and int(header.get("SamplesPerPixel") or 1) > 1:
        header.PlanarConfiguration = 0  # colour by pixel, which nearly all write
    return DicomFile(header, syntax, stream, at, length)


def _no_pixels_reason(header: Any) -> str:
    """Why a file has no pixels: directories, reports, documents and presentation states are no pictures."""
    uid = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    if not uid or "Image" in uid.name:
        return "a DICOM file without pixels"
    return f"{NO_FRAME}DICOM, {uid.name if uid.name != uid else 'a private kind without pixels'}"


def _inflate(packed: BinaryIO, size: int) -> BinaryIO:
    """What a deflated data set holds, in memory or in a temporary file; not more than is credible."""
    found: Any = tempfile.SpooledTemporaryFile(MAX_MEMORY_BYTES)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while (piece := inflater.unconsumed_tail or packed.read(1 << 16)) and not inflater.eof:
        found.write(inflater.decompress(piece, 1 << 20))
        if found.tell() > max(MAX_INFLATED_BYTES, MAX_INFLATION_RATIO * size):
            raise UnusableFileError(
                f"too large: more than {found.tell() >> 20} MB, deflated to {size / 1e6:.1f} MB"
            )
    packed.close()
    found.seek(0)
    return found


def _expected_frames(header: Any) -> int:
    try:
        return int(header.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        return 1


def _frame_bytes(header: Any) -> int:
    """Bytes of a frame that is not compressed."""
    bits = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel) * int(header.BitsAllocated)
    return (bits * 2 // 3 if header.PhotometricInterpretation == "YBR_FULL_422" else bits) // 8


def _count_frames(opened: DicomFile) -> int:
    """How many whole frames a file holds.

    Raises:
        UnusableFileError: none.
    """
    if opened.length == UNDEFINED_LENGTH:
        return sum(1 for _ in _iter_compressed(opened))
    present = min(opened.length, opened.stream.seek(0, 2) - opened.offset)
    if not (count := present // _frame_bytes(opened.header)):
        raise UnusableFileError(
            f"damaged DICOM pixels: {present} bytes, a frame has {_frame_bytes(opened.header)}"
        )
    return count


def _iter_compressed(opened: DicomFile) -> Iterator[bytes]:
    """Compressed frames. A frame may lie in several fragments; the tables that tell which are often wrong."""
    from pydicom import encaps

    opened.stream.seek(opened.offset)
    encaps.parse_basic_offsets(opened.stream)
    piece: list[bytes] = []
    for fragment in encaps.generate_fragments(opened.stream):
        ended = piece and (opened.syntax == RLE_SYNTAX or IMAGE_END in piece[-1][-10:])  # some are padded
        if ended or (piece and fragment.startswith(IMAGE_STARTS)):
            yield b"".join(piece)
            piece = []
        piece.append(fragment)
    if piece:
        yield b"".join(piece)


def _iter_decoded(opened: DicomFile, wanted: list[int], total: int) -> Iterator[np.ndarray]:
    from pydicom import pixels

    if opened.length != UNDEFINED_LENGTH:
        yield from pixels.iter_pixels(
            opened.stream,
            indices=wanted,
            transfer_syntax_uid=opened.syntax,
            number_of_frames=total,
            planar_configuration=opened.header.get("PlanarConfiguration"),
        )
        return
    chosen = set(wanted)
    for number, piece in enumerate(_iter_compressed(opened)):
        if number in chosen:
            yield _decompress(opened, piece)


def _decompress(opened: DicomFile, piece: bytes) -> np.ndarray:
    from pydicom import encaps, pixels

    bits, size, sampling = _jpeg_header(piece)
    if piece[:2] == b"\xff\xd8" and not size:
        raise UnusableFileError("damaged DICOM pixels: a JPEG that does not say how large it is")
    if size and size != (int(opened.header.Rows), int(opened.header.Columns)):
        raise UnusableFileError(
            f"damaged DICOM pixels: a JPEG of {size[1]}x{size[0]}, which the header does not say"
        )
    about = {"number_of_frames": 1, "pixel_keyword": "PixelData", "transfer_syntax_uid": opened.syntax}
    kind = str(opened.header.PhotometricInterpretation)
    if len(set(sampling)) > 1 or (len(sampling) == 3 and kind != "RGB"):  # nobody subsamples RGB
        about["photometric_interpretation"] = "YBR_FULL_422"
    if sampling and len(sampling) != opened.header.SamplesPerPixel:  # it is the JPEG that has the pixels
        about["samples_per_pixel"] = len(sampling)
        if len(sampling) == 1:
            about["photometric_interpretation"] = "MONOCHROME2"
    options = pixels.as_pixel_options(opened.header, **about)
    options.pop("extended_offsets", None)
    try:
        decoder = pixels.get_decoder(opened.syntax)
    except NotImplementedError:
        raise UnusableFileError(f"DICOM pixels that no package decodes ({opened.syntax.name})") from None
    try:
        return decoder.as_array(encaps.encapsulate([piece]), index=0, **options)[0]
    except RuntimeError:
        if options["samples_per_pixel"] > 1:  # JPEG 2000, too
            bits = bits or options["bits_stored"]
        if decoder.is_available and bits in (0, 8):
            raise UnusableFileError("damaged DICOM pixels") from None
        depth = f", {bits} bits" if bits else ""
        raise UnusableFileError(
            f"DICOM pixels that nothing installed decodes ({opened.syntax.name}{depth}): {INSTALL_ADVICE}"
        ) from None


def _jpeg_header(piece: bytes) -> tuple[int, tuple[int, ...], list[int]]:
    """Bits of a JPEG's values, height and width, and how each component is sampled; nothing if it is none.

    ITU-T T.81, B.2.2.
    """
    if piece[:2] != b"\xff\xd8" and 0 <= (
        begin := piece.find(b"\xff\x4f\xff\x51")
    ):  # JPEG 2000, ITU-T T.800, A.5.1
        right, bottom, left, top = struct.unpack(">4L", piece[begin + 8 : begin + 24])
        return 0, (bottom - top, right - left), []
    at = 2
    while piece[:2] == b"\xff\xd8" and at + 10 <= len(piece) and piece[at] == 0xFF:
        if piece[at + 1] in FRAME_HEADER_MARKERS:
            size = struct.unpack(">HH", piece[at + 5 : at + 9])
            return piece[at + 4], size, list(piece[at + 11 : at + 10 + 3 * piece[at + 9] : 3])
        filled = piece[at + 1] == 0xFF  # any number of them may stand before a marker
        at += 1 if filled else 2 + int.from_bytes(piece[at + 2 : at + 4], "big")
    return 0, (), []


def _iter_video(
    opened: DicomFile, region: tuple[slice, slice], *, max_frames: int | None, max_pixels: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of a file that holds an MPEG-2, H.264 or H.265 stream."""
    from pydicom import encaps

    stream: Any
    with tempfile.SpooledTemporaryFile(MAX_MEMORY_BYTES) as stream:
        opened.stream.seek(opened.offset)
        encaps.parse_basic_offsets(opened.stream)
        for fragment in encaps.generate_fragments(opened.stream):
            stream.write(fragment)
        opened.stream.close()
        size = int(opened.header.Rows), int(opened.header.Columns)
        for number, frame in iter_stream(stream, max_frames=max_frames, max_pixels=max_pixels):
            if frame.shape[:2] != size:
                shown = f"{frame.shape[1]}x{frame.shape[0]}"
                raise ValueError(f"a video of {shown} in a DICOM file of {size[1]}x{size[0]} pixels")
            yield number, np.ascontiguousarray(frame[region])


def _iter_pixels(
    opened: DicomFile, wanted: list[int], total: int, region: tuple[slice, slice]
) -> Iterator[tuple[int, np.ndarray]]:
    promised, header = _expected_frames(opened.header), opened.header
    try:
        for number, frame in zip(wanted, _iter_decoded(opened, wanted, total), strict=True):
            with reserve_pixels(frame.shape[0] * frame.shape[1]):
                yield number, np.ascontiguousarray(_to_rgb(frame, header)[region])
    except UnusableFileError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # on damaged bytes the decoders raise whatever they stumble over
        raise ValueError(f"damaged DICOM pixels ({type(error).__name__})") from None
    finally:
        opened.stream.close()
    if promised > total:
        raise ValueError(f"the header promises {promised} frames, the file holds {total}")


def _to_rgb(frame: np.ndarray, header: Any) -> np.ndarray:
    """One frame as pydicom gives it, YBR already RGB: (h, w) or (h, w, 3) -> (h, w, 3) uint8."""
    kind, bits = str(header.PhotometricInterpretation), int(header.BitsStored)
    if kind == "PALETTE COLOR":
        frame, bits = _apply_palette(frame, header)
    if frame.dtype != np.uint8 or bits != 8:
        low = -(2 ** (bits - 1)) if int(header.get("PixelRepresentation") or 0) else 0
        if bits == 16 and kind.startswith("MONO") and 0 < int(frame.max()) - low < MIN_16_BIT_MAXIMUM:
            raise UnusableFileError(f"16-bit pixels up to {frame.max()} only: of unknown depth")
        frame = (
            np.clip((frame.astype(np.float32) - low) / (2**bits - 1) * 255, 0, 255).round().astype(np.uint8)
        )
    if kind == "MONOCHROME1":
        frame = 255 - frame
    return np.repeat(frame[..., None], 3, axis=2) if frame.ndim == 2 else frame


def _apply_palette(frame: np.ndarray, header: Any) -> tuple[np.ndarray, int]:
    """(h, w) indices -> (h, w, 3) by the file's palette, and the bits of its entries."""
    from pydicom import pixels

    if not header.original_encoding[1]:  # pydicom takes the entries for little endian
        header = copy.copy(header)
        for colour in ("Red", "Green", "Blue"):
            name = f"{colour}PaletteColorLookupTableData"
            if name in header:
                swapped = np.frombuffer(header[name].value, dtype=np.uint16).byteswap()
                header[name] = type(header[name])(header[name].tag, "OW", swapped.tobytes())
    frame = pixels.apply_color_lut(frame, header)[..., :3]
    tables = [header.get(f"{colour}PaletteColorLookupTableData") for colour in ("Red", "Green", "Blue")]
    narrow = all(table and not any(table[1::2]) for table in tables)  # 8 bits in 16
    return frame, 8 if narrow or frame.dtype == np.uint8 else 16


def _pixel_aspect(header: Any) -> float:
    """Width of a pixel over its height; the header tells the height first (DICOM PS3.3 C.7.6.3.1.7)."""
    value = header.get("PixelAspectRatio") or ()
    try:
        height, width = map(float, value)
    except (TypeError, ValueError):
        return 1.0
    return plausible_aspect(width / height if height else 1)


def _square_pixels(
    frames: Iterator[tuple[int, np.ndarray]], aspect: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames whose pixels are made square."""
    for number, frame in frames:
        size = display_size(frame.shape[1], frame.shape[0], aspect)
        same = size == frame.shape[1::-1]
        yield number, frame if same else np.asarray(Image.fromarray(frame).resize(size))


def _ultrasound_region(header: Any, rows: int, columns: int) -> tuple[slice, slice]:
    """The largest two-dimensional region (any, if none is), cut to the frame; all of it if none is given."""
    found = []
    for item in header.get("SequenceOfUltrasoundRegions") or ():
        top, left = max(0, int(item.RegionLocationMinY0)), max(0, int(item.RegionLocationMinX0))
        bottom, right = (
            min(rows - 1, int(item.RegionLocationMaxY1)),
            min(columns - 1, int(item.RegionLocationMaxX1)),
        )
        area = max(0, bottom - top + 1) * max(0, right - left + 1)
        flat = int(item.get("RegionSpatialFormat") or 0) == TWO_DIMENSIONAL_FORMAT
        if min(bottom - top, right - left) + 1 >= MIN_SIDE:
            found.append((flat, area, (slice(top, bottom + 1), slice(left, right + 1))))
    if found:
        return max(found, key=lambda region: region[:2])[2]
    if header.get("SequenceOfUltrasoundRegions"):  # the whole frame would show the banner
        raise UnusableFileError("its ultrasound regions lie outside the frame")
    return slice(None), slice(None)


INSTALL_ADVICE = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
# markers SOF0 to SOF15, and that of JPEG-LS
FRAME_HEADER_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


class UnusableFileError(Exception):
    """A file that can be decoded, and must not be used."""
