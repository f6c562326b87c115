"""One frame: bytes of any common picture format to a square of uint8 RGB."""

import io
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms.v2.functional import resize

# Pillow warns of odd metadata. Said once: to switch it for each frame would not be safe among threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# What a file may hold, whatever it is called (MPO is a JPEG). Pillow knows more: PostScript, for one,
# starts Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
SMALLEST_SIDE = 8  # pixels; below that a picture is no frame
LARGEST_PIXELS = 100_000_000
DARKEST_16_BIT = 4096  # a 16-bit frame whose largest value is below that holds 12 bits or fewer
GREY, TINTED, DOPPLER = 0, 1, 2  # kinds of frame, by colour
DOPPLER_CHROMA = 64  # levels between a pixel's largest and smallest channel: flow colours are vivid
DOPPLER_SHARE = 0.001  # of a frame's pixels that must be so vivid


def is_frame(name: str) -> bool:
    """Whether a file's extension says that it is a frame."""
    before, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return before != "" and (dot + suffix).lower() in EXTENSIONS


def decode(data: bytes) -> np.ndarray:
    """One frame of any common pixel format as RGB.

    16-bit grey is taken as full range (divided by 257), transparency as black. 16-bit pixels that stay below
    a sixteenth of that range are refused: they have 12 bits or fewer, and would come out black.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the bytes are no frame that can be used; the message is the reason.
    """
    if not data:
        raise ValueError("empty file")
    try:
        return np.asarray(to_rgb(_opened(data)))
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    except Image.DecompressionBombError:
        raise ValueError("too large") from None
    except ValueError:
        raise
    except Exception as error:  # on damaged bytes Pillow raises whatever it stumbles over
        raise ValueError(f"damaged image ({error})") from None


def _opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.width * image.height > LARGEST_PIXELS:
        raise ValueError(f"too large ({image.width}x{image.height})")
    if min(image.size) < SMALLEST_SIDE:
        raise ValueError(f"too small ({image.width}x{image.height})")
    if image.format == "PNG":  # loading stops at the last pixel and takes a cut-off file for whole
        Image.open(io.BytesIO(data), formats=["PNG"]).verify()
    image.load()
    return ImageOps.exif_transpose(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as 8-bit RGB; transparency is black.

    Raises:
        ValueError: its range is not known.
    """
    if image.mode.startswith("I"):  # I;16 and its byte orders; I where Pillow widens 16-bit PNG
        wide = np.asarray(image, dtype=np.float64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("pixels outside 16 bits")
        if 0 < wide.max() < DARKEST_16_BIT:
            raise ValueError(
                f"16-bit pixels up to {wide.max():.0f} only: of unknown depth, save them as 8-bit"
            )
        image = Image.fromarray(np.round(wide / 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    return image.convert("RGB")


def square(frame: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (3, side, side) uint8: resized with its aspect ratio, centred on black."""
    height, width, _ = frame.shape
    scale = side / max(height, width)
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    small = resize(torch.from_numpy(frame.copy()).permute(2, 0, 1), [new_h, new_w], antialias=True)
    top, left = (side - new_h) // 2, (side - new_w) // 2
    return F.pad(small, (left, side - new_w - left, top, side - new_h - top)).numpy()


def colour_kind(frame: np.ndarray) -> int:
    """GREY, TINTED or DOPPLER for a (3, S, S) uint8 frame."""
    chroma = frame.max(axis=0) - frame.min(axis=0)  # (S, S)
    if not chroma.any():
        return GREY
    return DOPPLER if (chroma > DOPPLER_CHROMA).mean() >= DOPPLER_SHARE else TINTED
