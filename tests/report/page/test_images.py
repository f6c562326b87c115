import base64
import io

import numpy as np
from PIL import Image

from simclr_rhd.report.page import images


def opened(address, kind):
    head, content = address.split(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_grey_and_colour_frames_keep_their_look():
    grey = np.full((1, 37, 37), 200, np.uint8)
    colour = np.stack([np.full((37, 37), level, np.uint8) for level in (200, 20, 90)])
    one, other = (opened(images.jpeg(frame), "jpeg") for frame in (grey, colour))
    assert one.mode == "L" and abs(one.getpixel((18, 18)) - 200) <= 2
    assert np.abs(np.subtract(other.getpixel((18, 18)), (200, 20, 90))).max() <= 6


def test_large_frames_are_made_smaller_and_small_ones_not_larger():
    assert opened(images.jpeg(np.zeros((3, 256, 256), np.uint8)), "jpeg").size == (160, 160)
    assert opened(images.jpeg(np.zeros((3, 37, 37), np.uint8)), "jpeg").size == (37, 37)


def test_heat_lightens_where_it_is_hot_and_leaves_the_rest():
    frame, heat = np.full((1, 40, 40), 60, np.uint8), np.zeros((40, 40), np.float32)
    heat[:, 20:] = 1
    picture = np.asarray(opened(images.overlay_heatmap(frame, heat), "jpeg"), dtype=int)
    assert np.abs(picture[20, 4] - 60).max() <= 4
    assert picture[20, 35, 0] > 150 and picture[20, 35].sum() > 400


def test_each_thumbnail_has_its_place_on_the_sheet():
    frames = np.stack([np.full((1, 30, 30), 40 * number, np.uint8) for number in range(6)])
    address, side, columns = images.sprite(frames, np.array([5, 0, 3, 1, 2]))
    sheet = np.asarray(opened(address, "webp").convert("L"), dtype=int)
    assert (side, columns, sheet.shape) == (64, 3, (128, 192))
    for place, level in enumerate((200, 0, 120, 40, 80)):
        row, column = divmod(place, columns)
        assert abs(sheet[row * side + 32, column * side + 32] - level) <= 6


def test_many_thumbnails_are_small():
    frames = np.zeros((1, 1, 8, 8), np.uint8)
    assert images.sprite(frames, np.zeros(1501, int))[1:] == (48, 39)
