"""DICOM files: frames without the burnt-in banner, and a patient without a name.

Nothing of a header is ever shown: no value in a message or a warning, and of the patient's identifier only a
salted hash.
"""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from simclr_rhd.data.decoding.dicom_header import (
    VIDEO_SYNTAX_PREFIX,
    UnusableFileError,
    expected_frames,
    explain_errors,
    no_pixels_reason,
    open_dicom,
    pixel_aspect,
    require_pydicom,
    ultrasound_region,
)
from simclr_rhd.data.decoding.dicom_pixels import count_frames, iter_frames, iter_video
from simclr_rhd.data.decoding.image import MIN_SIDE, evenly_spaced
from simclr_rhd.data.decoding.limits import check_file, check_frame
from simclr_rhd.data.decoding.video import display_size
from simclr_rhd.data.splits.groups import is_anonymous_id

MAGIC = b"DICM"  # after 128 bytes of preamble
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # of a file without a preamble; the last is big endian


def is_dicom(path: Path) -> bool:
    """Return True if the first bytes are those of DICOM; many files have no extension, some no preamble."""
    with path.open("rb") as stream:
        head = stream.read(132)
    bare = head[:2] in FIRST_GROUPS and (head[4:6].isupper() or head[6:8] == b"\0\0") and len(head) > 8
    return head[128:] == MAGIC or bare


def dicom_frames(
    path: Path, *, max_frames: int | None, max_pixels: int, salt: bytes
) -> tuple[str, bool, Iterator[tuple[int, np.ndarray]]]:
    """The patient (a salted hash, "" where unknown), whether it is a clip, and the frames with their numbers.

    Each frame is (h, w, 3) uint8 RGB, cut to the file's largest two-dimensional ultrasound region where it
    names regions: around them stand names and dates. Its pixels are made square. More than 8 bits are scaled
    by the stored depth. Frames are counted: headers are wrong.

    Arguments as of `decode.DecodeOptions`.

    Raises:
        ValueError: it cannot be read, now or while the frames are.
        UserError: pydicom is missing.
    """
    pydicom = require_pydicom()
    with explain_errors("header"):
        try:
            opened = open_dicom(path)
        except pydicom.errors.InvalidDicomError:
            raise UnusableFileError("not a DICOM file") from None
        header = opened.header
        patient = str(header.get("PatientID") or "").strip()
        rows, columns = int(header.get("Rows") or 0), int(header.get("Columns") or 0)
        region, aspect = ultrasound_region(header, rows, columns), pixel_aspect(header)
    if not rows or not columns:
        raise ValueError(no_pixels_reason(header))
    if min(rows, columns) < MIN_SIDE:
        raise ValueError(f"too small ({columns}x{rows})")
    check_frame(*display_size(columns, rows, aspect), max_pixels=max_pixels)
    hashed = "" if is_anonymous_id(patient) else _hash_patient(patient, salt)
    if opened.syntax.startswith(VIDEO_SYNTAX_PREFIX):
        frames = iter_video(opened, region, max_frames=max_frames, max_pixels=max_pixels)
        return hashed, True, _square_pixels(frames, aspect)
    with explain_errors("pixels"):
        total = count_frames(opened)
    check_file(total, columns, rows, size=path.stat().st_size, max_pixels=max_pixels)
    frames = iter_frames(opened, evenly_spaced(total, max_frames), total, region)
    return hashed, max(total, expected_frames(header)) > 1, _square_pixels(frames, aspect)


def _hash_patient(patient: str, salt: bytes) -> str:
    return hmac.new(salt, patient.encode(), hashlib.sha256).hexdigest()[:16]


def _square_pixels(
    frames: Iterator[tuple[int, np.ndarray]], aspect: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames whose pixels are made square."""
    for number, frame in frames:
        size = display_size(frame.shape[1], frame.shape[0], aspect)
        same = size == frame.shape[1::-1]
        yield number, frame if same else np.asarray(Image.fromarray(frame).resize(size))
