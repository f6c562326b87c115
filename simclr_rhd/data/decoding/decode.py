"""Decoding of a file, whatever it is: a still has one or a few frames, a clip or a DICOM file many."""

import hashlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from simclr_rhd.data.decoding import dicom, image, video
from simclr_rhd.data.decoding.file_types import (
    CLIP,
    CLIP_EXTENSIONS,
    DICOM_EXTENSIONS,
    NO_FRAME,
    STILL,
    file_type,
)
from simclr_rhd.data.decoding.limits import MAX_PIXELS

OK, NEAR_BLACK, CONSTANT = 0, 1, 2
NEAR_BLACK_LEVEL = 16  # levels; where no pixel is above, there is no picture


@dataclass(frozen=True)
class DecodeOptions:
    """The options of decoding.

    Attributes:
        side: S, pixels of a stored frame's side.
        max_frames: frames of a file at most, evenly spaced; None for all.
        max_pixels: of a frame; of a file it follows (`limits`).
        salt: for the hash of a patient.
    """

    side: int
    max_frames: int | None = None
    max_pixels: int = MAX_PIXELS
    salt: bytes = b""


@dataclass
class DecodedFrame:
    """One frame as it is stored.

    Attributes:
        number: in its clip, from 0; None for a still.
        pixels: (C, S, S) uint8; C is 1 for a grey frame, else 3.
        color_mode: GREY, COLOR or DOPPLER.
        content_flag: OK, NEAR_BLACK or CONSTANT.
        digest: of the pixels; equal for equal pictures.
        size: width and height before it was resized.
    """

    number: int | None
    pixels: np.ndarray
    color_mode: int
    content_flag: int
    digest: str
    size: tuple[int, int]


@dataclass
class FrameFile:
    """A file whose frames are decoded while they are iterated, each time anew; it keeps none of them.

    Attributes:
        key: its name in the source; the extension tells the type.
        path: where its bytes are; None if there are none to decode.
        options: of decoding.
        reason: why there are no frames, or not all; "" if all is well. Known after the last frame.
        patient: of a DICOM file, a salted hash; else "". Known with the first frame.
    """

    key: str
    path: Path | None
    options: DecodeOptions
    reason: str = ""
    patient: str = ""

    def content_hash(self) -> str:
        """The hash of the file's bytes; "" and a reason if they cannot be read."""
        assert self.path is not None
        try:
            with self.path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            self.reason = f"cannot be read ({error.strerror})"
            return ""

    def __iter__(self) -> Generator[DecodedFrame, None, None]:
        """Decode, check, square and resize the frames, one after another."""
        if self.path is None:
            return
        number = 0
        try:
            for place, frame in self._iter_arrays(self.path):
                if min(frame.shape[:2]) < image.MIN_SIDE:
                    raise ValueError(f"too small ({frame.shape[1]}x{frame.shape[0]})")
                yield _make_frame(place, image.letterbox(frame, self.options.side), frame.shape)
                number += 1
        except OSError as error:
            self.reason = f"cannot be read ({error.strerror})"
        except ValueError as error:
            broken = f"breaks off after {number} frames, which are used: " if number else ""
            self.reason = f"{broken}{error}"

    def _iter_arrays(self, path: Path) -> Iterator[tuple[int | None, np.ndarray]]:
        kind, suffix = file_type(self.key), PurePosixPath(self.key).suffix
        most, pixels = self.options.max_frames, self.options.max_pixels
        if path.stat().st_size == 0:
            raise ValueError("empty file")
        if kind == STILL:
            yield from image.iter_pictures(path, max_frames=most, max_pixels=pixels)
        elif kind == CLIP:
            yield from video.iter_clip(path, suffix.lower(), max_frames=most, max_pixels=pixels)
        elif not dicom.is_dicom(path):
            unnamed = f"{NO_FRAME}{suffix or 'no extension'}"
            raise ValueError("not a DICOM file" if suffix in DICOM_EXTENSIONS else unnamed)
        else:
            self.patient, several, frames = dicom.dicom_frames(
                path, max_frames=most, max_pixels=pixels, salt=self.options.salt
            )
            yield from (frames if several else ((None, frame) for _, frame in frames))


def require_packages(names: Iterable[str]) -> None:
    """Check that the packages are there which some files need.

    Raises:
        UserError: one is missing.
    """
    suffixes = {PurePosixPath(name).suffix.lower() for name in names}
    if suffixes & (CLIP_EXTENSIONS - {".gif"}):
        video.require_pyav()
    if suffixes & DICOM_EXTENSIONS:
        dicom.require_pydicom()


def classify_content(pixels: np.ndarray) -> int:
    """OK, or NEAR_BLACK or CONSTANT for a frame that shows no anatomy."""
    low, high = pixels.min(), pixels.max()
    return NEAR_BLACK if high <= NEAR_BLACK_LEVEL else CONSTANT if low == high else OK


def _make_frame(number: int | None, pixels: np.ndarray, shape: tuple[int, ...]) -> DecodedFrame:
    flag, kind = classify_content(pixels), image.color_mode(pixels)
    if kind == image.GREY:
        pixels = pixels[:1].copy()  # a long clip waits in memory until its turn comes
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=8).hexdigest()
    return DecodedFrame(number, pixels, kind, flag, digest, size=(shape[1], shape[0]))
