"""Clips: every frame, in order, as it is shown."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from echo_files import (
    assert_same_pixels,
    decode,
    picture,
    write_clip,
    write_gif,
)
from PIL import Image

pytest.importorskip("av", reason="PyAV is missing: pip install -r requirements-dev.txt")


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mov", ".mkv", ".mpeg", ".MPG"])
def test_every_frame_of_a_clip_is_there_and_in_order(tmp_path, suffix):
    frames = [picture(seed=number) for number in range(7)]
    write_clip(
        tmp_path / f"c{suffix}",
        frames,
        codec="mpeg2video" if "mp" in suffix[:4].lower() and suffix != ".mp4" else "mpeg4",
    )
    done = decode(tmp_path / f"c{suffix}")
    assert done.reason == "" and [frame.number for frame in done.frames] == list(range(7))
    for stored, frame in zip(done.frames, frames, strict=True):
        assert_same_pixels(stored, frame, tolerance=12)


def test_a_gif_keeps_its_frames(tmp_path):
    frames = [picture(seed=number) for number in range(5)]
    write_gif(tmp_path / "c.gif", frames)
    done = decode(tmp_path / "c.gif")
    assert [frame.number for frame in done.frames] == list(range(5)) and done.reason == ""
    assert_same_pixels(done.frames[3], frames[3], tolerance=12)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_evenly_spaced_frames_of_a_clip(tmp_path, suffix):
    frames = [picture(seed=number) for number in range(9)]
    (write_gif if suffix == ".gif" else write_clip)(tmp_path / f"c{suffix}", frames)
    for most, numbers in ((1, [0]), (2, [0, 8]), (3, [0, 4, 8]), (99, list(range(9)))):
        assert [frame.number for frame in decode(tmp_path / f"c{suffix}", most=most).frames] == numbers


def test_a_clip_that_breaks_off_gives_what_it_has_and_says_so(tmp_path):
    path = tmp_path / "c.mpeg"
    write_clip(path, [picture(seed=number) for number in range(30)], codec="mpeg2video")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = decode(path)
    assert 0 < len(done.frames) < 30


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
@pytest.mark.parametrize("most", [None, 5])
def test_a_clip_that_lacks_what_its_header_promises_is_named(tmp_path, suffix, most):
    path = tmp_path / f"c{suffix}"
    write_clip(path, [picture(seed=number) for number in range(40)])
    assert decode(path, most=most).reason == ""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "damaged clip" in decode(path, most=most).reason


@pytest.mark.parametrize(
    ("name", "codec", "times", "shown"),
    [
        ("cut.mp4", "mpeg4", range(-6, 14), 14),  # an edit list; the cut is behind a key frame
        ("dropped.avi", "mjpeg", [3 * number for number in range(20)], 20),
        ("rate.mkv", "mpeg4", [number**2 for number in range(20)], 20),
        ("rate.mp4", "mpeg4", [number**2 for number in range(20)], 20),
    ],
)
def test_a_whole_clip_whose_header_counts_other_frames_than_are_shown(tmp_path, name, codec, times, shown):
    frames = [picture(seed=number) for number in range(20)]
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    write_clip(tmp_path / name, frames, codec=codec, pixels=pixels, times=times)
    done = decode(tmp_path / name)
    assert done.reason == "" and [frame.number for frame in done.frames] == list(range(shown))
    for stored, frame in zip(done.frames, frames[-shown:], strict=True):
        assert_same_pixels(stored, frame, tolerance=12)
    assert [frame.number for frame in decode(tmp_path / name, most=2).frames] == [0, shown - 1]
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size - 3000])
    assert "damaged clip" in decode(path).reason


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda rgb: rgb),
        ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)),  # a phone held upright
        ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
        ((0, -1, 1, 0), lambda rgb: np.rot90(rgb)),
        ((-1, 0, 0, 1), np.fliplr),  # a phone's camera on the user's side
        ((0, 1, 1, 0), lambda rgb: rgb.swapaxes(0, 1)),
    ],
)
def test_a_clip_is_turned_and_mirrored_as_its_display_matrix_says(tmp_path, matrix, shown):
    path, rgb = tmp_path / "phone.mp4", picture()
    write_clip(path, [rgb] * 3)
    data = path.read_bytes()
    at = data.index(struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    a, b, c, d = (65536 * number for number in matrix)
    path.write_bytes(data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :])
    done = decode(path)
    assert done.reason == "" and len(done.frames) == 3
    assert_same_pixels(done.frames[0], shown(rgb), tolerance=12)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize(
    ("aspect", "width", "height"), [((4, 3), 85, 48), ((1, 2), 64, 96), ((99, 1), 64, 48)]
)
def test_the_pixels_of_a_capture_are_made_square(tmp_path, suffix, aspect, width, height):
    path = tmp_path / f"capture{suffix}"
    write_clip(path, [picture()] * 3, aspect=Fraction(*aspect))
    stored = decode(path).frames[0]
    assert_same_pixels(stored, np.asarray(Image.fromarray(picture()).resize((width, height))), tolerance=12)


def test_a_container_that_does_not_tell_its_length_is_whole(tmp_path):
    path = tmp_path / "live.mkv"
    write_clip(path, [picture(seed=number) for number in range(5)])
    data = path.read_bytes()
    at = data.index(b"\x18\x53\x80\x67") + 4
    path.write_bytes(data[:at] + b"\x01" + b"\xff" * 7 + data[at + 8 :])
    done = decode(path)
    assert done.reason == "" and len(done.frames) == 5
    write_clip(tmp_path / "c.mp4", [picture()] * 5)
    with (tmp_path / "c.mp4").open("ab") as stream:
        stream.write(bytes(500))  # recorders leave such a rest
    assert decode(tmp_path / "c.mp4").reason == ""


def test_a_playlist_called_mp4_opens_nothing(tmp_path):
    secret = tmp_path / "secret.mp4"
    write_clip(secret, [picture()] * 3)
    (tmp_path / "list.mp4").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"
    )
    done = decode(tmp_path / "list.mp4")
    assert done.frames == [] and "damaged clip" in done.reason
