"""Clips: the frames of a video file, one after another."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageSequence

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.containers import missing_bytes
from simclr_rhd.data.decoding.image import evenly_spaced, to_rgb
from simclr_rhd.data.decoding.limits import MAX_PIXELS, check_file, check_frame, reserve_pixels

MIN_PYAV = (17, 1)  # below it the limits crash the process: an MPEG file names its streams late
PADDING_FACTOR = 2  # FFmpeg counts the margins of a frame, too
MAX_PIXEL_ASPECT = 4  # pixels over their height; recorders write 64:45 and the like
LazyFrame = Callable[[], np.ndarray]  # the conversion to RGB of a frame that may not be wanted
# A playlist that is called .mp4 must not make the reader open other files or addresses.
SAFE_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,avi,mpeg,mpegvideo,mpegts,matroska,webm,h264,hevc,m4v",
}


def iter_clip(
    path: Path, suffix: str, *, max_frames: int | None, max_pixels: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The frames of a clip that a player shows, with their numbers from 0, each (H, W, 3) uint8 RGB.

    Args:
        path: the file.
        suffix: the extension of its name, lower case.
        max_frames: as of `decode.DecodeOptions`.
        max_pixels: likewise.

    Raises:
        ValueError: the clip cannot be read, or not to its end; frames before that have been given.
        UserError: PyAV is missing.
    """
    if suffix == ".gif":
        return _iter_selected(partial(_iter_gif, path, max_pixels), max_frames)
    return _iter_selected(partial(_iter_video, path, max_pixels), max_frames)


def iter_stream(
    stream: BinaryIO, *, max_frames: int | None, max_pixels: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The frames of a video stream as they are coded; otherwise as `iter_clip`."""
    return _iter_selected(partial(_iter_coded, stream, max_pixels), max_frames)


def _iter_selected(
    frames: Callable[[], Iterator[LazyFrame]], max_frames: int | None
) -> Iterator[tuple[int, np.ndarray]]:
    n_selected = 0
    try:
        wanted = None if max_frames is None else set(evenly_spaced(_count_frames(frames()), max_frames))
        for number, as_rgb in enumerate(frames()):
            if wanted is None or number in wanted:
                n_selected += 1
                yield number, as_rgb()
    except UserError:
        raise
    except Exception as error:  # on damaged bytes the decoders raise whatever they stumble over
        if type(error) is ValueError:  # one of ours; FFmpeg's errors are of classes below it
            raise
        raise ValueError(f"damaged clip ({type(error).__name__})") from None
    if n_selected == 0:
        raise ValueError("a clip without frames")


def _count_frames(frames: Iterator[LazyFrame]) -> int:
    """Count the frames that a player shows, up to the first damage; headers and packets count others, too."""
    count = 0
    with suppress(Exception):  # it comes again when the frames are read
        for _ in frames:
            count += 1
    return count


def require_pyav() -> Any:
    """The module `av`.

    Raises:
        UserError: it is not installed, or too old.
    """
    try:
        import av
    except ImportError:
        raise UserError(
            "there are clips among the files, and the package that reads them is missing: pip install av"
        ) from None
    if tuple(map(int, av.__version__.split(".")[:2])) < MIN_PYAV:
        oldest = ".".join(map(str, MIN_PYAV))
        raise UserError(f"av {av.__version__} is too old to read clips: pip install 'av>={oldest}'")
    return av


def _iter_video(path: Path, max_pixels: int) -> Iterator[LazyFrame]:
    for frame, stream in _iter_decoded(str(path), path.stat().st_size, max_pixels):
        size = display_size(frame.width, frame.height, plausible_aspect(stream.sample_aspect_ratio or 1))
        check_frame(*size, max_pixels=max_pixels)
        yield partial(_to_display, frame, size)
    if missing := missing_bytes(path):
        raise ValueError(f"damaged clip: {missing} bytes are missing at its end")


def _iter_coded(source: BinaryIO, max_pixels: int) -> Iterator[LazyFrame]:
    size = source.seek(0, 2)
    source.seek(0)
    for frame, _ in _iter_decoded(source, size, max_pixels):
        yield partial(frame.to_ndarray, format="rgb24")


def _iter_decoded(source: str | BinaryIO, size: int, max_pixels: int) -> Iterator[tuple[Any, Any]]:
    """PyAV's frames, each with its stream; of a file of `size` bytes."""
    av = require_pyav()
    # FFmpeg decodes some frames to learn what they are, of any size that it can address
    most = {"max_pixels": f"{PADDING_FACTOR * max(MAX_PIXELS, max_pixels)}"}
    with av.open(source, "r", options=SAFE_OPTIONS | most) as container:
        if not container.streams.video:
            raise ValueError("a clip without pictures")
        stream = container.streams.video[0]
        stream.codec_context.options = most
        if not stream.width:
            raise ValueError(f"a clip of unknown size, or too large: --max-pixels allows {max_pixels}")
        check_frame(stream.width, stream.height, max_pixels=max_pixels)
        check_file(stream.frames, stream.width, stream.height, size=size, max_pixels=max_pixels)
        for number, frame in enumerate(container.decode(stream), start=1):
            if frame.is_corrupt:
                raise ValueError("damaged clip")
            check_file(number, frame.width, frame.height, size=size, max_pixels=max_pixels)
            with reserve_pixels(frame.width * frame.height):
                yield frame, stream


def display_size(width: int, height: int, aspect: float) -> tuple[int, int]:
    """Width and height of a stored frame once its pixels, `aspect` times as wide as high, are square.

    None of its own pixels is lost.
    """
    return round(width * max(1, aspect)), round(height * max(1, 1 / aspect))


def _to_display(frame: Any, size: tuple[int, int]) -> np.ndarray:
    """PyAV's frame as a player shows it: resized to square pixels, then turned by its display matrix."""
    pixels: np.ndarray = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
    if (matrix := frame.side_data.get("DISPLAYMATRIX")) is None:
        return pixels
    return apply_display_matrix(pixels, np.frombuffer(bytes(matrix), dtype=np.int32))


def apply_display_matrix(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Lay out (H, W, 3) pixels by the nine numbers of a display matrix (ISO/IEC 14496-12, 6.2.2).

    A point (x, y) is shown at (ax + cy, bx + dy). Slanted pictures are turned to the nearest quarter.
    """
    a, b, _, c, d = (float(number) for number in matrix[:5])
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def plausible_aspect(aspect: float | Fraction) -> float:
    """Width of a pixel over its height as a header has it; 1 where that cannot be."""
    return float(aspect) if 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT else 1.0


def _iter_gif(path: Path, max_pixels: int) -> Iterator[LazyFrame]:
    with Image.open(path, formats=["GIF"]) as image:
        check_frame(*image.size, max_pixels=max_pixels)
        check_file(
            getattr(image, "n_frames", 1), *image.size, size=path.stat().st_size, max_pixels=max_pixels
        )
        for frame in ImageSequence.Iterator(image):
            with reserve_pixels(frame.width * frame.height):
                yield partial(to_rgb, frame)
