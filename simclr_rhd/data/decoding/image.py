"""One frame: bytes of any common picture format to a square of uint8 RGB."""

import io
import math
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms.v2.functional import resize

from simclr_rhd.core.errors import reason_of
from simclr_rhd.data.decoding.limits import MAX_PIXELS, check_file, check_frame, reserve_pixels

# Pillow warns of odd metadata. Said once: to switch it for each frame would not be safe among threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # sizes are checked here, before anything is decoded

# What a file may hold, whatever it is called (MPO is a JPEG). Pillow knows more: PostScript, for one,
# starts Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
MIN_SIDE = 8  # pixels; below that a picture is no frame
MIN_16_BIT_MAXIMUM = 4096  # a 16-bit frame whose largest value is below that holds 12 bits or fewer
UNKNOWN_DEPTH = "of unknown depth, save them as 8-bit"
SUBFILE_TYPE, BITS_PER_SAMPLE, PHOTOMETRIC, TILE_WIDTH, TILE_HEIGHT = 254, 258, 262, 322, 323  # of TIFF 6.0
JPEG_SCAN_MARKER = b"\xff\xda"  # a progressive JPEG has some ten scans over its pixels
REDUCED, MASK = 1, 4  # bits of SUBFILE_TYPE
GREY, COLOR, DOPPLER = 0, 1, 2  # kinds of frame, by colour
MIN_DOPPLER_CHROMA = 64  # levels between a pixel's largest and smallest channel: flow colours are vivid
EDGE_FRACTION = 0.1  # of what is shown, at each side: there stand scale bars, banners and marks
# a square of S/20 pixels a side, of which so much is vivid, is flow
FLOW_WINDOWS_PER_SIDE, MIN_FLOW_FRACTION = 20, 0.75
MIN_DOPPLER_FRACTION = 0.001  # of a frame's pixels that must be so vivid


def decode_image(data: bytes) -> np.ndarray:
    """The picture of a still that has one, as RGB: see `iter_pictures`.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the bytes are no frame that can be used; the message is the reason.
    """
    first, *more = [
        frame for _, frame in islice(iter_pictures(data, max_frames=None, max_pixels=MAX_PIXELS), 2)
    ]
    if more:
        raise ValueError("several pictures in one file: wanted one")
    return first


def iter_pictures(
    source: bytes | Path, *, max_frames: int | None, max_pixels: int
) -> Iterator[tuple[int | None, np.ndarray]]:
    """All pictures of a still as RGB: pages of a TIFF or an MPO, frames of a WebP or a PNG.

    16-bit grey is taken as full range (divided by 257), transparency as black. 16-bit pixels that stay below
    a sixteenth of that range are refused: they have 12 bits or fewer, and would come out black.

    The source is the file, or its bytes; other arguments as of `decode.DecodeOptions`.

    Yields:
        The picture's number, None where there is but one, and (H, W, 3) uint8.

    Raises:
        ValueError: the bytes are no frame that can be used; the message is the reason.
    """
    if not _size(source):
        raise ValueError("empty file")

    def opened(formats: tuple[str, ...]) -> Image.Image:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)

    try:
        with opened(FORMATS) as image:
            if image.format == "PNG":  # loading stops at the last pixel and takes a cut-off file for whole
                with opened(("PNG",)) as whole:
                    whole.verify()
            places = _page_indices(image, source, max_pixels=max_pixels)
            for number in evenly_spaced(len(places), max_frames):
                image.seek(places[number])
                check_frame(*image.size, max_pixels=max_pixels)
                # one tile is decoded as a whole, however small the picture is that is cut from it
                tile = (_tiff_tag(image, tag, 0) for tag in (TILE_WIDTH, TILE_HEIGHT))
                check_frame(*tile, max_pixels=max_pixels)
                if min(image.size) < MIN_SIDE:
                    raise ValueError(f"too small ({image.width}x{image.height})")
                with reserve_pixels(image.width * image.height):
                    yield number if len(places) > 1 else None, to_rgb(image)
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    except (ValueError, OSError) as error:
        if type(error) is ValueError or getattr(error, "errno", None):
            raise
        raise ValueError(f"damaged image{reason_of(error)}") from None
    except Exception as error:  # on damaged bytes Pillow raises whatever it stumbles over
        raise ValueError(f"damaged image{reason_of(error)}") from None


def _size(source: bytes | Path) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _page_indices(image: Image.Image, source: bytes | Path, *, max_pixels: int) -> list[int]:
    """The places of a file's pictures, none of which is too large.

    Raises:
        ValueError: they are too large, or too many.
    """
    check_frame(*image.size, max_pixels=max_pixels)
    places, size = _all_pages(image), _size(source)
    check_file(len(places), *image.size, size=size, max_pixels=max_pixels)
    if image.format in ("JPEG", "MPO"):
        scans = (source if isinstance(source, bytes) else source.read_bytes()).count(JPEG_SCAN_MARKER)
        check_file(scans, *image.size, size=size, max_pixels=max_pixels, what="scans")
    return places


def _all_pages(image: Image.Image) -> list[int]:
    """The places of a file's pictures; a TIFF's thumbnails and masks are none."""
    places = range(getattr(image, "n_frames", 1))
    if image.format not in ("TIFF", "MPO") or len(places) == 1:
        return list(places)
    pages = []
    for place in places:
        try:
            image.seek(place)
        except ValueError:  # a JPEG whose further pictures were cut off on purpose: phones' photos, edited
            break
        if not _tiff_tag(image, SUBFILE_TYPE, 0) & (REDUCED | MASK):
            pages.append(place)
    return pages or [0]


def _tiff_tag(image: Image.Image, tag: int, default: Any = None) -> Any:
    return getattr(image, "tag_v2", {}).get(tag, default)


def to_rgb(image: Image.Image) -> np.ndarray:
    """A picture of any mode as 8-bit RGB, turned as its EXIF data say; transparency is black.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: its range is not known.
    """
    raw = _raw_mode(image)  # forgotten when the pixels are loaded
    deep = ";16" in raw or 16 in _tiff_tag(image, BITS_PER_SAMPLE, ())
    white_is_zero = _tiff_tag(image, PHOTOMETRIC) == 0
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # I;16 and its byte orders; I where Pillow widens 16-bit PNG
        top = 4095 if raw == "I;12" else 65535
        grey = _to_uint8(np.asarray(image, dtype=np.float32), top=top, white_is_zero=white_is_zero)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if deep and image.mode in ("LA", "RGB", "RGBA"):  # of each value Pillow keeps the upper half
        colours = np.asarray(image)[..., : 1 if image.mode == "LA" else 3]
        if colours.max() < MIN_16_BIT_MAXIMUM // 256:
            raise ValueError(f"16-bit pixels below {MIN_16_BIT_MAXIMUM} only: {UNKNOWN_DEPTH}")
    return np.asarray((_composite_on_black(image) if image.has_transparency_data else image).convert("RGB"))


def _raw_mode(image: Image.Image) -> str:
    """The layout of a picture's pixels, as Pillow names it ("RGB;16B"); "" once they are loaded."""
    tiles: list[Any] = getattr(image, "tile", [])
    args = tiles[0][3] if tiles else ""  # (codec, box, offset, args): a plain tuple before Pillow 11
    return str(args if isinstance(args, str) or not args else args[0])


def _to_uint8(wide: np.ndarray, *, top: int, white_is_zero: bool) -> np.ndarray:
    """(H, W) grey levels up to `top` -> uint8."""
    if wide.min() < 0 or wide.max() > 65535:
        raise ValueError("pixels outside 16 bits")
    shown = top - wide if white_is_zero else wide
    for levels in (wide, shown):
        if top == 65535 and 0 < levels.max() < MIN_16_BIT_MAXIMUM:
            raise ValueError(f"16-bit pixels up to {levels.max():.0f} only: {UNKNOWN_DEPTH}")
    return np.round(shown / top * 255).astype(np.uint8)


def _composite_on_black(image: Image.Image) -> Image.Image:
    """Lay a transparent picture on black; one that is equally transparent everywhere is shown as it is."""
    image = image.convert("RGBA")
    low, high = image.getchannel("A").getextrema()
    return image if low == high else Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)


def evenly_spaced(total: int, max_count: int | None) -> list[int]:
    """At most `max_count` (None: all) of the numbers 0 .. total - 1, evenly spaced from first to last."""
    if max_count is None:
        return list(range(total))
    return sorted(set(np.linspace(0, max(0, total - 1), min(max_count, total)).round().astype(int).tolist()))


def storage_size(size: int) -> int:
    """S for views of `size` pixels: some room to crop without enlarging (256 for 224)."""
    return math.ceil(size * 8 / 7)


def letterbox(frame: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (3, side, side) uint8: resized with its aspect ratio, centred on black."""
    height, width, _ = frame.shape
    scale = side / max(height, width)
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    small = resize(torch.from_numpy(frame.copy()).permute(2, 0, 1), [new_h, new_w], antialias=True)
    top, left = (side - new_h) // 2, (side - new_w) // 2
    return F.pad(small, (left, side - new_w - left, top, side - new_h - top)).numpy()


def _clear_edges(vivid: np.ndarray, shown: np.ndarray) -> None:
    """Take away what is vivid at the edges of what is shown; both (S, S) bool."""
    for along, of in ((vivid, shown), (vivid.T, shown.T)):
        lines = np.flatnonzero(of.any(axis=1))
        margin = int(EDGE_FRACTION * (lines[-1] + 1 - lines[0]))
        along[: lines[0] + margin] = along[lines[-1] + 1 - margin :] = False


def color_mode(frame: np.ndarray) -> int:
    """GREY, COLOR or DOPPLER for a (3, S, S) uint8 frame.

    Flow fills an area within the sector; traces and text are thin, scale bars and banners lie at the edge.
    """
    chroma = frame.max(axis=0) - frame.min(axis=0)  # (S, S)
    if not chroma.any():
        return GREY
    vivid = chroma > MIN_DOPPLER_CHROMA
    _clear_edges(vivid, frame.max(axis=0) > 0)
    if vivid.mean() < MIN_DOPPLER_FRACTION:
        return COLOR
    side = max(3, len(vivid) // FLOW_WINDOWS_PER_SIDE | 1)
    filled = F.avg_pool2d(torch.from_numpy(vivid)[None].float(), side, stride=1)  # share around each pixel
    return DOPPLER if bool((filled >= MIN_FLOW_FRACTION).any()) else COLOR
