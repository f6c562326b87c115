import ast
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, __version__

from simclr_rhd.data.decoding.file_types import is_frame
from simclr_rhd.data.decoding.image import (
    COLOR,
    DOPPLER,
    GREY,
    color_mode,
    decode_image,
    iter_pictures,
    letterbox,
)
from simclr_rhd.data.decoding.limits import MAX_PIXELS

WRITES_PAGES = pytest.mark.skipif(
    tuple(map(int, __version__.split(".")[:2])) < (11, 3),
    reason="before Pillow 11.3 several pictures are written wrongly; the reader is the same",
)


def encoded(image, format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def gradient(height=17, width=23, dtype=np.uint8, top=255):
    return np.linspace(0, top, height * width).round().astype(dtype).reshape(height, width)


def test_grey_and_rgb_keep_their_pixels():
    grey = gradient()
    rgb = np.stack([grey, grey.T.reshape(grey.shape), 255 - grey], axis=-1)
    assert (decode_image(encoded(Image.fromarray(grey))) == grey[..., None]).all()
    assert (decode_image(encoded(Image.fromarray(rgb))) == rgb).all()


def test_sixteen_bits_are_scaled_by_their_full_range():
    wide = gradient(dtype=np.uint16, top=65535)
    frame = decode_image(encoded(Image.fromarray(wide)))
    assert (frame == np.round(wide / 257).astype(np.uint8)[..., None]).all()
    assert (decode_image(encoded(Image.fromarray(wide), "TIFF")) == frame).all()


def png16(levels):
    """(H, W, C) uint16 as a PNG of 16 bits a channel, which Pillow does not write."""
    height, width, channels = levels.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]  # grey + alpha, RGB, RGBA
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    chunks = {b"IHDR": struct.pack(">2L5B", width, height, 16, kind, 0, 0, 0), b"IDAT": zlib.compress(rows)}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))
        for name, body in (*chunks.items(), (b"IEND", b""))
    )


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("top", [255, 1023, 4095])
def test_few_of_sixteen_bits_are_refused_in_colour_and_beside_transparency(channels, top):
    deep = np.repeat(gradient(dtype=np.uint16, top=top)[..., None], channels, axis=2)
    if channels != 3:
        deep[..., -1] = 65535
    with pytest.raises(ValueError, match="16-bit pixels below 4096 only: of unknown depth"):
        decode_image(png16(deep))
    deep[..., : channels - (channels != 3)] *= 65535 // top
    assert (decode_image(png16(deep)) == deep[..., :1] // 256).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_with_white_as_zero_is_not_a_negative(bits):
    levels = gradient(dtype=np.uint16, top=65535) if bits == 16 else gradient()
    black_is_zero = encoded(Image.fromarray(levels), "TIFF")
    entry = struct.pack("<HHLL", 262, 3, 1, 1)
    assert black_is_zero.count(entry) == 1
    data = encoded(Image.fromarray(levels.max() - levels), "TIFF").replace(entry, entry[:8] + bytes(4))
    assert (decode_image(data) == decode_image(black_is_zero)).all()


@pytest.mark.parametrize("top", [4095, 65535])
def test_few_of_sixteen_bits_are_refused_where_white_is_zero(top):
    """Inverted within their 12 bits, or within all 16: a reason, and neither a white nor a black frame."""
    levels = top - gradient(dtype=np.uint16, top=4095)
    entry = struct.pack("<HHLL", 262, 3, 1, 1)
    data = encoded(Image.fromarray(levels), "TIFF").replace(entry, entry[:8] + bytes(4))
    with pytest.raises(ValueError, match="16-bit pixels up to 4095 only"):
        decode_image(data)


@pytest.mark.parametrize("alpha", [0, 3])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_equally_transparent_everywhere_is_shown(mode, alpha):
    picture = Image.fromarray(gradient()).convert(mode)
    picture.putalpha(alpha)
    assert (decode_image(encoded(picture)) == gradient()[..., None]).all()


@pytest.mark.parametrize(
    ("format", "count"), [("TIFF", 5), ("PNG", 5), ("WEBP", 5), pytest.param("MPO", 3, marks=WRITES_PAGES)]
)
def test_all_pictures_of_a_still_are_read_and_numbered(format, count):
    levels = [np.full((16, 24), 40 * number + 9, np.uint8) for number in range(count)]
    first, *others = map(Image.fromarray, levels)
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(first, format, save_all=True, append_images=others, **options)
    found = list(iter_pictures(data, max_frames=None, max_pixels=MAX_PIXELS))
    assert [number for number, _ in found] == list(range(count))
    for (_, frame), wanted in zip(found, levels, strict=True):
        assert np.abs(frame.astype(int) - wanted[..., None]).max() <= 2 * (format == "MPO")
    assert [number for number, _ in iter_pictures(data, max_frames=2, max_pixels=MAX_PIXELS)] == [
        0,
        count - 1,
    ]
    with pytest.raises(ValueError, match="several pictures in one file"):
        decode_image(data)


def test_a_photo_whose_header_still_names_a_picture_that_was_cut_off_is_whole():
    one = Image.fromarray(gradient())
    data = encoded(one, "MPO", save_all=True, append_images=[one])
    ((number, frame),) = iter_pictures(
        data[: data.rindex(b"\xff\xd8\xff")], max_frames=None, max_pixels=MAX_PIXELS
    )
    assert number is None and frame.shape == (17, 23, 3)


@WRITES_PAGES
def test_the_thumbnail_of_a_tiff_is_no_picture_of_its_own():
    whole, small = Image.fromarray(gradient(40, 60)), Image.fromarray(gradient(10, 15))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    ((number, frame),) = iter_pictures(
        encoded(whole, "TIFF", save_all=True, append_images=[small]), max_frames=None, max_pixels=MAX_PIXELS
    )
    assert number is None and frame.shape == (40, 60, 3)


def test_transparency_is_black():
    rgba = np.full((9, 11, 4), 200, dtype=np.uint8)
    rgba[..., 3] = np.where(np.arange(11) < 5, 0, 255)
    frame = decode_image(encoded(Image.fromarray(rgba)))
    assert (frame[:, :5] == 0).all() and (frame[:, 5:] == 200).all()


def test_palette_bilevel_and_cmyk_become_rgb():
    rgb = np.zeros((12, 12, 3), dtype=np.uint8)
    rgb[:6, :, 0] = 255
    palette = Image.fromarray(rgb).quantize(4)
    assert (decode_image(encoded(palette)) == rgb).all()
    assert set(np.unique(decode_image(encoded(Image.fromarray(gradient() > 99))))) == {0, 255}
    assert decode_image(encoded(Image.fromarray(rgb).convert("CMYK"), "JPEG")).shape == (12, 12, 3)


@pytest.mark.parametrize("format", ["JPEG", "BMP", "WEBP", "TIFF"])
def test_common_formats(format):
    frame = decode_image(encoded(Image.fromarray(np.full((20, 30, 3), 90, np.uint8)), format))
    assert frame.shape == (20, 30, 3) and abs(int(frame.mean()) - 90) <= 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not an image at all", "not an image"),
        (encoded(Image.fromarray(gradient(40, 40)))[:200], "damaged"),
        (encoded(Image.new("L", (1, 1))), "too small"),
        (encoded(Image.new("L", (300, 7))), "too small"),
        (encoded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), "floating-point"),
        (encoded(Image.fromarray(gradient(dtype=np.uint16, top=4095))), "16-bit pixels up to 4095 only"),
        (encoded(Image.fromarray(np.full((9, 9), 255, np.int32)), "TIFF"), "16-bit pixels up to 255 only"),
    ],
)
def test_unusable_bytes_are_refused_with_the_reason(data, reason):
    with pytest.raises(ValueError, match=reason):
        decode_image(data)


@pytest.mark.parametrize("format", ["EPS", "PPM", "TGA", "ICNS", "PDF", "JPEG2000"])
def test_pillow_opens_only_the_formats_that_are_promised(format, monkeypatch):
    data = encoded(Image.new("RGB", (32, 32), "red"), format)
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("Ghostscript was started"))
    with pytest.raises(ValueError, match="not an image"):
        decode_image(data)


def test_every_picture_is_opened_with_a_list_of_formats():
    """A foreign program must not be reached from anywhere in the package, nor by its example."""
    root = Path(__file__).parents[3]
    for path in (*(root / "simclr_rhd").rglob("*.py"), *(root / "docs").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open":
                assert "formats" in {keyword.arg for keyword in node.keywords}, f"{path.name}:{node.lineno}"


def test_a_bit_flip_in_a_png_is_noticed():
    data = bytearray(encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30), np.uint8))))
    data[len(data) // 2] ^= 255
    with pytest.raises(ValueError, match="damaged"):
        decode_image(bytes(data))


@pytest.mark.parametrize(("height", "width"), [(17, 51), (51, 17), (20, 20), (8, 400)])
def test_square_keeps_the_aspect_ratio_and_centres(height, width):
    stored = letterbox(np.full((height, width, 3), 200, np.uint8), 34)
    assert stored.shape == (3, 34, 34) and stored.dtype == np.uint8
    rows, columns = np.flatnonzero(stored[0].any(axis=1)), np.flatnonzero(stored[0].any(axis=0))
    scale = 34 / max(height, width)
    assert len(rows) == max(1, round(height * scale)) and len(columns) == max(1, round(width * scale))
    assert abs((rows[0] + rows[-1]) - 33) <= 1 and abs((columns[0] + columns[-1]) - 33) <= 1
    assert (stored[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 200).all()


def test_square_resizes_as_torch_does():
    frame = np.random.default_rng(1).integers(0, 256, (60, 60, 3), np.uint8)
    float_resized = torch.nn.functional.interpolate(
        torch.from_numpy(frame).permute(2, 0, 1)[None].float(), size=(20, 20), mode="bilinear", antialias=True
    )
    assert np.abs(letterbox(frame, 20) - float_resized[0].numpy()).max() <= 1


def test_colour_kinds():
    frame = np.repeat(np.random.default_rng(2).integers(0, 256, (1, 32, 32), np.uint8), 3, axis=0)
    assert color_mode(frame) == GREY
    sepia = frame.copy()
    sepia[2] = frame[2] * 0.8
    assert color_mode(sepia) == COLOR
    jet = frame.copy()
    jet[:, 10:13, 10:13] = np.array([220, 30, 30])[:, None, None]
    assert color_mode(jet) == DOPPLER


@pytest.mark.parametrize("side", [74, 110, 256])
def test_overlays_are_no_flow(side):
    grey = np.repeat(np.random.default_rng(2).integers(0, 200, (1, side, side), np.uint8), 3, axis=0)
    thick, columns = max(1, side // 100), np.arange(side)
    trace, bar, text, flow = (grey.copy() for _ in range(4))
    rows = (side * (0.8 + 0.1 * np.sin(columns / 3))).astype(int)
    for step in range(thick):
        trace[:, rows + step, columns] = np.array([20, 230, 40])[:, None]
    bar[:, side // 4 : side // 2, side - 2 * thick :] = np.array([230, 60, 20])[:, None, None]
    text[:, 3 : 3 + side // 12, 3 : side // 3 : 3 * thick] = np.array([250, 240, 10])[:, None, None]
    for frame in (trace, bar, text):
        vivid = np.ptp(frame, axis=0) > 64
        assert vivid.mean() >= 0.001 and color_mode(frame) == COLOR
    area = slice(side // 2, side // 2 + max(4, side // 12))
    flow[:, area, area] = np.array([30, 60, 230])[:, None, None]
    assert color_mode(flow) == DOPPLER


@pytest.mark.parametrize("side", [67, 224, 301])
def test_colour_at_the_edge_of_what_is_shown_is_no_flow(side):
    """A wide scale bar, a banner below the padding of a wide frame, a vendor's mark."""
    grey = np.repeat(np.random.default_rng(2).integers(1, 200, (1, side, side), np.uint8), 3, axis=0)
    tenth = side // 10
    bar, banner, mark, flow = (grey.copy() for _ in range(4))
    bar[:, side // 4 : side // 2, -tenth:] = np.array([230, 60, 20])[:, None, None]
    banner[:, : 2 * tenth] = banner[:, -2 * tenth :] = 0
    banner[:, 2 * tenth : 2 * tenth + side // 17] = np.array([10, 60, 160])[:, None, None]
    mark[:, 1:tenth, 1:tenth] = np.array([0, 120, 255])[:, None, None]
    assert [color_mode(frame) for frame in (bar, banner, mark)] == [COLOR] * 3
    flow[:, 2 * tenth : 4 * tenth, 2 * tenth : 4 * tenth] = np.array([30, 60, 230])[:, None, None]
    assert color_mode(flow) == DOPPLER


def test_frames_are_known_by_their_extension():
    assert is_frame("a b [1].x/10.33.21 hrs__[1]_frame2.PNG")
    assert not is_frame("notes.txt") and not is_frame("png") and not is_frame("clip.mp4")


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "PNG", "BMP", "GIF"])
def test_damaged_bytes_are_refused_or_decoded_and_nothing_else(kind):
    """Whatever Pillow stumbles over must come out as a reason, not as a crash."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    stream = io.BytesIO()
    image.save(stream, kind, **({"exif": exif} if kind in ("JPEG", "WEBP", "TIFF", "PNG") else {}))
    good = stream.getvalue()
    for _ in range(300):
        data = bytearray(good)
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] = rng.integers(0, 256)
        try:
            assert decode_image(bytes(data)).dtype == np.uint8
        except ValueError as error:
            assert str(error)
