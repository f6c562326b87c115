"""Frames as pictures of a page: small, compressed, and part of its text.

Notation: C channels (1 or 3), S pixels of a stored frame's side, n frames.
"""

import io
import math

import numpy as np
from PIL import Image

from simclr_rhd.data.store.shards import Frames
from simclr_rhd.report.page.webpage import data_uri

MAX_SIDE_PX = 160  # pixels of a frame's side, at most
THUMBNAIL_PX, SMALL_THUMBNAIL_PX, MANY_FRAMES = (
    64,
    48,
    1500,
)  # pixels of a side; the small ones for more frames
FRAMES_PER_READ = 256  # frames at once
# inferno's colours (Smith & van der Walt) at 0, 1/4 ... 1: the lighter the hotter, for colour-blind eyes, too
HEAT_COLOURS = np.array(
    [(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], dtype=np.float32
)


def jpeg(frame: np.ndarray, *, side: int = MAX_SIDE_PX) -> str:
    """A (C, S, S) uint8 frame as the address of a JPEG, at most `side` pixels wide."""
    return _jpeg(_picture(frame), side)


def overlay_heatmap(frame: np.ndarray, heat: np.ndarray, *, side: int = MAX_SIDE_PX) -> str:
    """A frame as in `jpeg`, blended with an (s, s) heat map in [0, 1]."""
    picture = _picture(frame).convert("RGB")
    warm = np.asarray(
        Image.fromarray(heat.astype(np.float32)).resize(picture.size, Image.Resampling.BILINEAR)
    )
    steps = np.linspace(0, 1, len(HEAT_COLOURS))
    colours = np.stack([np.interp(warm, steps, HEAT_COLOURS[:, channel]) for channel in range(3)], axis=-1)
    share = 0.6 * warm[..., None]
    mixed = (1 - share) * np.asarray(picture, dtype=np.float32) + share * colours
    return _jpeg(Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8)), side)


def sprite(frames: np.ndarray | Frames, rows: np.ndarray) -> tuple[str, int, int]:
    """All thumbnails of some frames on one sheet, row by row.

    Returns:
        The address of a WebP image, the pixels of a thumbnail's side, and the thumbnails in a row.
    """
    side = THUMBNAIL_PX if len(rows) <= MANY_FRAMES else SMALL_THUMBNAIL_PX
    columns = max(1, math.ceil(math.sqrt(len(rows))))
    sheet = Image.new("RGB", (columns * side, side * max(1, math.ceil(len(rows) / columns))))
    for first in range(0, len(rows), FRAMES_PER_READ):
        for number, frame in enumerate(frames[rows[first : first + FRAMES_PER_READ]], start=first):
            place = (number % columns * side, number // columns * side)
            sheet.paste(_picture(frame).resize((side, side), Image.Resampling.BOX), place)
    stream = io.BytesIO()
    sheet.save(stream, "WEBP", quality=50, method=4)
    return data_uri(stream.getvalue(), "image/webp"), side, columns


def _picture(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame[0] if len(frame) == 1 else np.ascontiguousarray(frame.transpose(1, 2, 0)))


def _jpeg(picture: Image.Image, side: int) -> str:
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80, optimize=True)
    return data_uri(stream.getvalue(), "image/jpeg")
