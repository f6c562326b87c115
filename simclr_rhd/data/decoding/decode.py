"""A file, whatever it is, to stored frames: a still has one or a few, a clip or a DICOM file many."""

import hashlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from simclr_rhd.data.decoding import dicom
from simclr_rhd.data.decoding import image as frames
from simclr_rhd.data.decoding import video as clips
from simclr_rhd.data.decoding.image import NO_FRAME as NO_FRAME
from simclr_rhd.data.decoding.limits import MAX_PIXELS

STILL, CLIP, DICOM = "frame", "clip", "DICOM file"
OK, NEAR_BLACK, CONSTANT = 0, 1, 2
NEAR_BLACK_LEVEL = 16  # levels; where no pixel is above, there is no picture


@dataclass
class DecodedFrame:
    """One frame as it goes to the disk.

    Attributes:
        number: in its clip, from 0; None for a still.
        pixels: (C, S, S) uint8; C is 1 for a grey frame, else 3.
        color_mode: GREY, COLOR or DOPPLER.
        content_flag: OK, NEAR_BLACK or CONSTANT.
        digest: of the pixels; equal for equal pictures.
    """

    number: int | None
    pixels: np.ndarray
    color_mode: int
    content_flag: int
    digest: str


@dataclass
class DecodedFile:
    """What became of a file.

    Attributes:
        frames: in order.
        reason: why there are none, or not all; "" if all is well.
        content: hash of the file's bytes.
        patient: of a DICOM file, a salted hash; else "".
    """

    frames: list[DecodedFrame] = field(default_factory=list)
    reason: str = ""
    content: str = ""
    patient: str = ""


def file_type(name: str) -> str:
    """What a file is by its name: STILL, CLIP, DICOM (also without an extension), or "" for none of these."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in frames.EXTENSIONS:
        return STILL
    if suffix in clips.EXTENSIONS:
        return CLIP
    return DICOM if suffix in dicom.EXTENSIONS or not suffix or suffix[1:].isdigit() else ""


def require_packages(names: Iterable[str]) -> None:
    """Make sure that the packages are there which some files need.

    Raises:
        UserError: one is missing.
    """
    suffixes = {PurePosixPath(name).suffix.lower() for name in names}
    if suffixes & (clips.EXTENSIONS - {".gif"}):
        clips.require_pyav()
    if suffixes & dicom.EXTENSIONS:
        dicom.require_pydicom()


def decode_file(
    path: Path, name: str, *, side: int, max_frames: int | None, salt: bytes, max_pixels: int = MAX_PIXELS
) -> DecodedFile:
    """Decode, check, square and resize all frames of a file.

    Args:
        path: where its bytes are.
        name: its name in the source; the extension tells what it is.
        side: S, pixels of a stored frame's side.
        max_frames: frames of a file at most, evenly spaced; None for all.
        salt: for the hash of a patient.
        max_pixels: of a frame; of a file it follows (`limits`).
    """
    done = start_decoding(path)
    if done.reason:
        return done
    done.frames = list(
        iter_frames(path, name, done, side=side, max_frames=max_frames, salt=salt, max_pixels=max_pixels)
    )
    return done


def start_decoding(path: Path) -> DecodedFile:
    """A file of which only the content is known yet, or the reason why it is not."""
    try:
        with path.open("rb") as stream:
            return DecodedFile(content=hashlib.file_digest(stream, "sha256").hexdigest())
    except OSError as error:
        return DecodedFile(reason=f"cannot be read ({error.strerror})")


def iter_frames(
    path: Path,
    name: str,
    decoded: DecodedFile,
    *,
    side: int,
    max_frames: int | None,
    salt: bytes,
    max_pixels: int = MAX_PIXELS,
) -> Generator[DecodedFrame, None, None]:
    """The frames of a file, none of which is kept; `done` has its patient, and in the end the reason.

    Arguments as of `decode_file`.
    """
    number = 0
    try:
        for place, frame in _iter_arrays(
            path, name, decoded, max_frames=max_frames, salt=salt, max_pixels=max_pixels
        ):
            if min(frame.shape[:2]) < frames.MIN_SIDE:
                raise ValueError(f"too small ({frame.shape[1]}x{frame.shape[0]})")
            yield _make_frame(place, frames.letterbox(frame, side))
            number += 1
    except OSError as error:
        decoded.reason = f"cannot be read ({error.strerror})"
    except ValueError as error:
        broken = f"breaks off after {number} frames, which are used: " if number else ""
        decoded.reason = f"{broken}{error}"


def _iter_arrays(
    path: Path, name: str, decoded: DecodedFile, *, max_frames: int | None, salt: bytes, max_pixels: int
) -> Iterator[tuple[int | None, np.ndarray]]:
    kind = file_type(name)
    if path.stat().st_size == 0:
        raise ValueError("empty file")
    if kind == STILL:
        yield from frames.iter_pictures(path, max_frames=max_frames, max_pixels=max_pixels)
    elif kind == CLIP:
        yield from clips.iter_clip(
            path, PurePosixPath(name).suffix.lower(), max_frames=max_frames, max_pixels=max_pixels
        )
    elif not dicom.is_dicom(path):
        suffix = PurePosixPath(name).suffix
        raise ValueError(
            "not a DICOM file" if suffix in dicom.EXTENSIONS else f"{NO_FRAME}{suffix or 'no extension'}"
        )
    else:
        decoded.patient, several, found = dicom.dicom_frames(
            path, max_frames=max_frames, max_pixels=max_pixels, salt=salt
        )
        yield from (found if several else ((None, frame) for _, frame in found))


def classify_content(pixels: np.ndarray) -> int:
    """OK, or NEAR_BLACK or CONSTANT: a frame that shows nothing."""
    low, high = pixels.min(), pixels.max()
    return NEAR_BLACK if high <= NEAR_BLACK_LEVEL else CONSTANT if low == high else OK


def _make_frame(number: int | None, pixels: np.ndarray) -> DecodedFrame:
    look, kind = classify_content(pixels), frames.color_mode(pixels)
    if kind == frames.GREY:
        pixels = pixels[:1].copy()  # a long clip waits in memory until its turn comes
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=8).hexdigest()
    return DecodedFrame(number, pixels, kind, look, digest)
