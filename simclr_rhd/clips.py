"""Clips: the frames of a video file, one after another."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from simclr_rhd.errors import UserError
from simclr_rhd.frames import LARGEST_PIXELS, evenly, rgb_of

EXTENSIONS = frozenset({".mp4", ".avi", ".mpeg", ".mpg", ".mov", ".mkv", ".gif"})
# A playlist that is called .mp4 must not make the reader open other files or addresses.
SAFE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,avi,mpeg,mpegvideo,mpegts,matroska,webm",
}


def clip_frames(path: Path, suffix: str, *, most: int | None) -> Iterator[tuple[int, np.ndarray]]:
    """The frames of a clip with their numbers from 0, each (H, W, 3) uint8 RGB.

    Args:
        path: the file.
        suffix: the extension of its name, lower case.
        most: that many frames, evenly spaced; None for all.

    Raises:
        ValueError: the clip cannot be read, or not to its end; frames before that have been given.
        UserError: PyAV is missing.
    """
    frames, count = (_gif, _gif_count) if suffix == ".gif" else (_video, _video_count)
    wanted = None if most is None else set(evenly(count(path), most))
    given = 0
    try:
        for number, frame in enumerate(frames(path)):
            if wanted is None or number in wanted:
                given += 1
                yield number, frame
    except UserError:
        raise
    except Exception as error:  # on damaged bytes the decoders raise whatever they stumble over
        if type(error) is ValueError:  # one of ours; FFmpeg's errors are of classes below it
            raise
        raise ValueError(f"damaged clip ({type(error).__name__})") from None
    if given == 0:
        raise ValueError("a clip without frames")


def require_pyav() -> Any:
    """The module `av`.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError(
            "there are clips among the files, and the package that reads them is missing: pip install av"
        ) from None
    return av


def _video(path: Path) -> Iterator[np.ndarray]:
    av = require_pyav()
    with av.open(str(path), options=SAFE) as container:
        if not container.streams.video:
            raise ValueError("a clip without pictures")
        stream = container.streams.video[0]
        if stream.width * stream.height > LARGEST_PIXELS:
            raise ValueError(f"too large ({stream.width}x{stream.height})")
        number = 0
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise ValueError("damaged clip")
            number += 1
            yield frame.to_ndarray(format="rgb24")
        promised = _promised(container, stream)
        if number < 0.95 * promised - 1:
            raise ValueError(f"damaged clip: {promised} frames were to be there")


def _promised(container: Any, stream: Any) -> int:
    """How many frames a clip's header promises; 0 where it does not say (MPEG streams)."""
    if stream.frames:
        return int(stream.frames)
    if "matroska" in container.format.name and container.duration and stream.average_rate:
        return round(container.duration / 1e6 * float(stream.average_rate))
    return 0


def _video_count(path: Path) -> int:
    """Packets with content: one a frame; headers do not tell it for MPEG streams."""
    av = require_pyav()
    try:
        with av.open(str(path), options=SAFE) as container:
            if not container.streams.video:
                raise ValueError("a clip without pictures")
            return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))
    except av.FFmpegError as error:
        raise ValueError(f"damaged clip ({type(error).__name__})") from None


def _gif(path: Path) -> Iterator[np.ndarray]:
    with Image.open(path, formats=["GIF"]) as image:
        for frame in ImageSequence.Iterator(image):
            yield rgb_of(frame)


def _gif_count(path: Path) -> int:
    try:
        with Image.open(path, formats=["GIF"]) as image:
            return getattr(image, "n_frames", 1)
    except Exception as error:
        raise ValueError(f"damaged clip ({type(error).__name__})") from None
