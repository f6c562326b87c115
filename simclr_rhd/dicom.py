"""DICOM files: frames without the burnt-in banner, and a patient without a name.

Nothing of a header is ever shown: no value in a message or a warning, and of the patient's identifier only a
salted hash.
"""

import hashlib
import hmac
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.clips import evenly
from simclr_rhd.errors import UserError
from simclr_rhd.frames import DARKEST_16_BIT, LARGEST_PIXELS, SMALLEST_SIDE
from simclr_rhd.groups import nobody

EXTENSIONS = frozenset({".dcm", ".dicom"})
MAGIC = b"DICM"  # after 128 bytes of preamble
MOST_FRAMES = 100_000  # a header that promises more is damaged
TWO_DIMENSIONAL = 1  # Region Spatial Format of a B-mode picture, DICOM PS3.3 C.8.5.5.1.1


def is_dicom(path: Path) -> bool:
    """Whether a file says at its start that it is DICOM; many have no extension."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == MAGIC


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


def dicom_frames(
    path: Path, *, most: int | None, salt: bytes
) -> tuple[str, int, Iterator[tuple[int, np.ndarray]]]:
    """The patient (a salted hash, "" where unknown), how many frames there are, and these with their numbers.

    Each frame is (h, w, 3) uint8 RGB, cut to the file's largest two-dimensional ultrasound region where it
    names regions: around them stand names and dates. More than 8 bits are scaled by the stored depth.

    Args:
        path: the file.
        most: that many frames, evenly spaced; None for all.
        salt: for the hash.

    Raises:
        ValueError: it cannot be read, now or while the frames are.
        UserError: pydicom is missing.
    """
    pydicom = require_pydicom()
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        patient = str(header.get("PatientID") or "").strip()
        rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
        total = int(header.get("NumberOfFrames") or 1)
        region = _region(header, rows, columns)
    except pydicom.errors.InvalidDicomError:
        raise ValueError("not a DICOM file") from None
    except Unusable as error:
        raise ValueError(str(error)) from None
    except Exception as error:
        raise ValueError(f"damaged DICOM header ({type(error).__name__})") from None
    if not rows or not columns:
        raise ValueError("a DICOM file without pixels")
    if min(rows, columns) < SMALLEST_SIDE or rows * columns > LARGEST_PIXELS:
        raise ValueError(
            f"too {'small' if min(rows, columns) < SMALLEST_SIDE else 'large'} ({columns}x{rows})"
        )
    if not 0 < total <= MOST_FRAMES:
        raise ValueError(f"a DICOM header that promises {total} frames")
    name = hmac.new(salt, patient.encode(), hashlib.sha256).hexdigest()[:16] if not nobody(patient) else ""
    wanted = list(range(total)) if most is None else evenly(total, most)
    return name, total, _pixels(path, header, wanted, region)


def _pixels(
    path: Path, header: Any, wanted: list[int], region: tuple[slice, slice]
) -> Iterator[tuple[int, np.ndarray]]:
    from pydicom import pixels

    try:
        for number, frame in zip(wanted, pixels.iter_pixels(path, indices=wanted), strict=True):
            yield number, np.ascontiguousarray(_to_rgb(pixels, frame, header)[region])
    except Unusable as error:
        raise ValueError(str(error)) from None
    except (RuntimeError, NotImplementedError):
        if _decodable(header.file_meta.TransferSyntaxUID):
            raise ValueError("damaged DICOM pixels") from None
        syntax = header.file_meta.TransferSyntaxUID.name
        raise ValueError(
            f"DICOM pixels that nothing here decodes ({syntax}): pip install python-gdcm"
        ) from None
    except Exception as error:  # on damaged bytes the decoders raise whatever they stumble over
        raise ValueError(f"damaged DICOM pixels ({type(error).__name__})") from None


def _decodable(syntax: Any) -> bool:
    from pydicom import pixels

    try:
        return bool(pixels.get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _to_rgb(pixels: Any, frame: np.ndarray, header: Any) -> np.ndarray:
    """One frame as pydicom gives it, YBR already RGB: (h, w) or (h, w, 3) -> (h, w, 3) uint8."""
    kind, bits = str(header.PhotometricInterpretation), int(header.BitsStored)
    if kind == "PALETTE COLOR":
        frame = pixels.apply_color_lut(frame, header)
        bits = 8 * frame.dtype.itemsize
    if frame.dtype != np.uint8 or bits != 8:
        low = -(2 ** (bits - 1)) if int(header.get("PixelRepresentation") or 0) else 0
        if bits == 16 and kind.startswith("MONO") and 0 < int(frame.max()) - low < DARKEST_16_BIT:
            raise Unusable(f"16-bit pixels up to {frame.max()} only: of unknown depth")
        frame = (
            np.clip((frame.astype(np.float64) - low) / (2**bits - 1) * 255, 0, 255).round().astype(np.uint8)
        )
    if kind == "MONOCHROME1":
        frame = 255 - frame
    return np.repeat(frame[..., None], 3, axis=2) if frame.ndim == 2 else frame


def _region(header: Any, rows: int, columns: int) -> tuple[slice, slice]:
    """The largest two-dimensional region (any, if none is), cut to the frame; all of it if none is given."""
    found = []
    for item in header.get("SequenceOfUltrasoundRegions") or ():
        top, left = max(0, int(item.RegionLocationMinY0)), max(0, int(item.RegionLocationMinX0))
        bottom, right = (
            min(rows - 1, int(item.RegionLocationMaxY1)),
            min(columns - 1, int(item.RegionLocationMaxX1)),
        )
        area = max(0, bottom - top + 1) * max(0, right - left + 1)
        flat = int(item.get("RegionSpatialFormat") or 0) == TWO_DIMENSIONAL
        if min(bottom - top, right - left) + 1 >= SMALLEST_SIDE:
            found.append((flat, area, (slice(top, bottom + 1), slice(left, right + 1))))
    if found:
        return max(found, key=lambda region: region[:2])[2]
    if header.get("SequenceOfUltrasoundRegions"):  # the whole frame would show the banner
        raise Unusable("its ultrasound regions lie outside the frame")
    return slice(None), slice(None)


class Unusable(Exception):
    """A file that can be decoded, and must not be used."""
