"""The limits of decoding: of a frame, of a file, of all threads at once. Small files can hold gigabytes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MAX_PIXELS = 40_000_000  # of a frame; the default of --max-pixels
ALWAYS_ALLOWED_FRAMES = 25  # of the largest size; smaller frames, more of them
MAX_PIXELS_PER_BYTE = 1_000  # beyond those frames; clips of hearts have fewer pixels in a byte
MIN_COUNTED_PIXELS = 16_384  # that a frame counts as in a file, so that tiny ones are not without number
MAX_CONCURRENT_PIXELS = 48_000_000  # pixels; each takes up to 16 bytes while it is decoded


def check_frame(width: int, height: int, *, max_pixels: int) -> None:
    """Refuse a frame that is too large.

    Raises:
        ValueError: it is.
    """
    if width * height > max_pixels:
        raise ValueError(f"too large ({width}x{height}): --max-pixels allows {max_pixels}")


def check_file(
    frames: int, width: int, height: int, *, size: int, max_pixels: int, what: str = "frames"
) -> None:
    """Refuse a file that is small and expands to very much: the longer a file, the more frames it may have.

    Args:
        frames: in the file.
        width: of a frame.
        height: of a frame.
        size: of the file, in bytes.
        max_pixels: of a frame.
        what: the frames are, each of which takes the time of one.

    Raises:
        ValueError: it does.
    """
    if frames * max(MIN_COUNTED_PIXELS, width * height) > max(
        ALWAYS_ALLOWED_FRAMES * max_pixels, MAX_PIXELS_PER_BYTE * size
    ):
        raise ValueError(
            f"too large: {frames} {what} of {width}x{height} in {size / 1e6:.2f} MB; a larger --max-pixels "
            "allows more"
        )


class PixelBudget:
    """Limit of the decoded pixels of all threads together. A file above the limit is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self.pixels = self.free = pixels
        self.changed = threading.Condition()

    @contextmanager
    def reserve(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many pixels, and keep it while the block runs."""
        pixels = min(pixels, self.pixels)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.free += pixels
                self.changed.notify_all()


reserve_pixels = PixelBudget(MAX_CONCURRENT_PIXELS).reserve
