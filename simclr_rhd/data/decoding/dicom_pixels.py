"""The pixels of a DICOM file, compressed or not, as frames in RGB."""

import copy
import struct
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from simclr_rhd.data.decoding.dicom_header import (
    MAX_MEMORY_BYTES,
    UNDEFINED_LENGTH,
    DicomFile,
    UnusableFileError,
    expected_frames,
    explain_errors,
)
from simclr_rhd.data.decoding.image import MIN_16_BIT_MAXIMUM
from simclr_rhd.data.decoding.limits import reserve_pixels
from simclr_rhd.data.decoding.video import iter_stream

RLE_SYNTAX = "1.2.840.10008.1.2.5"
IMAGE_STARTS = (
    b"\xff\xd8\xff",
    b"\xff\x4f\xff\x51",
    b"\0\0\0\x0cjP",
)  # JPEG, JPEG-LS; JPEG 2000, twice
IMAGE_END = b"\xff\xd9"  # JPEG and JPEG 2000
INSTALL_ADVICE = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
# markers SOF0 to SOF15, and that of JPEG-LS
FRAME_HEADER_MARKERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}


def _frame_bytes(header: Any) -> int:
    """Bytes of a frame that is not compressed."""
    bits = int(header.Rows) * int(header.Columns) * int(header.SamplesPerPixel) * int(header.BitsAllocated)
    return (bits * 2 // 3 if header.PhotometricInterpretation == "YBR_FULL_422" else bits) // 8


def count_frames(opened: DicomFile) -> int:
    """Count the whole frames of a file.

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


def iter_video(
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


def iter_frames(
    opened: DicomFile, wanted: list[int], total: int, region: tuple[slice, slice]
) -> Iterator[tuple[int, np.ndarray]]:
    """Some of a file's `total` frames, with their numbers, cut to a region.

    Raises:
        ValueError: the pixels are damaged, or the header promises more frames.
    """
    promised, header = expected_frames(opened.header), opened.header
    try:
        with explain_errors("pixels"):
            for number, frame in zip(wanted, _iter_decoded(opened, wanted, total), strict=True):
                with reserve_pixels(frame.shape[0] * frame.shape[1]):
                    yield number, np.ascontiguousarray(_to_rgb(frame, header)[region])
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
