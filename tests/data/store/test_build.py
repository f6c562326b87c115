"""A folder full of what goes wrong: each file is named with its reason, the good ones are untouched."""

import io
import struct
import wave
import zipfile
import zlib
from pathlib import PurePosixPath

import numpy as np
import pytest
from echo_files import dicom_dataset, encode_image, picture, save_dicom, write_clip, write_gif
from PIL import Image

from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.data.sources.folder import Folder
from simclr_rhd.data.store.store import open_store

pytest.importorskip("av", reason="PyAV is missing: pip install -r requirements-dev.txt")
pytest.importorskip("pydicom", reason="pydicom is missing: pip install -r requirements-dev.txt")
STILLS = {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".webp": "WEBP"}
PAGE = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def sound():
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    return stream.getvalue()


def archive():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a.png", encode_image(picture()))
    return stream.getvalue()


def png_that_claims(width, height):
    data = bytearray(encode_image(picture()))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def stills():
    """{name: (bytes, a word of the reason)}"""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for suffix, kind in STILLS.items():
        good = encode_image(noise, kind)
        yield f"empty{suffix}", b"", "empty file"
        yield f"text{suffix}", b"hello, this is text\n" * 40, "not an image"
        yield f"page{suffix}", PAGE, "not an image"
        yield f"zip{suffix}", archive(), "not an image"
        yield f"half{suffix}", good[: len(good) // 2], ""
        yield f"start{suffix}", good[:20], ""
        yield f"zeros{suffix}", bytes(len(good)), "not an image"
        yield f"tiny{suffix}", encode_image(noise[:1, :1], kind), "too small"
        yield f"thin{suffix}", encode_image(noise[:3], kind), "too small"
    flipped = bytearray(encode_image(noise))
    flipped[len(flipped) // 2] ^= 255
    yield "flipped.png", bytes(flipped), "damaged"
    yield "huge.png", png_that_claims(60000, 60000), "too large"
    yield "wide.png", png_that_claims(100001, 1000), "too large"
    yield "12-bit.png", encode_image((noise[..., 0].astype(np.uint16)) * 15), "16-bit pixels up to"
    yield "float.tif", encode_image(noise[..., 0].astype(np.float32), "TIFF"), "floating-point"
    yield "deep.tif", encode_image(noise[..., 0].astype(np.int32) * 1000, "TIFF"), "outside 16 bits"
    yield "negative.tif", encode_image(-noise[..., 0].astype(np.int32), "TIFF"), "outside 16 bits"
    yield "notes.txt", b"notes", "not a frame: .txt"
    yield "Thumbs.db", b"\xd0\xcf\x11\xe0", "not a frame: .db"
    yield "table.csv", b"a,b\n", "not a frame: .csv"
    yield "LICENSE", b"do as you like " * 20, "not a frame: no extension"


def clips(tmp_path):
    for suffix in (".mp4", ".avi", ".mkv"):
        write_clip(tmp_path / f"c{suffix}", [picture(seed=number) for number in range(4)])
        good = (tmp_path / f"c{suffix}").read_bytes()
        yield f"empty{suffix}", b"", "empty file"
        yield f"text{suffix}", b"hello" * 200, "damaged clip"
        yield f"start{suffix}", good[:40], ""
        yield f"zeros{suffix}", bytes(5000), "damaged clip"
    write_gif(tmp_path / "c.gif", [picture(seed=number) for number in range(4)])
    yield "empty.gif", b"", "empty file"
    yield "text.gif", b"hello" * 200, "damaged clip"
    yield "start.gif", (tmp_path / "c.gif").read_bytes()[:30], ""
    yield "sound.avi", sound(), "damaged clip"
    yield "list.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n", "damaged clip"


def dicoms(tmp_path):
    from pydicom.encaps import encapsulate

    def written(found):
        save_dicom(found, tmp_path / "x.dcm")
        return (tmp_path / "x.dcm").read_bytes()

    good = written(dicom_dataset(picture()))
    yield "empty.dcm", b"", "empty file"
    yield "text.dcm", b"hello" * 200, "not a DICOM file"
    yield "preamble.dcm", bytes(128) + b"DICM", ""
    yield "header.dcm", good[:300], ""
    yield "half.dcm", good[: len(good) // 2], ""
    outside = dicom_dataset(picture(), region=(900, 900, 950, 950))
    yield "region.dcm", written(outside), "regions lie outside"
    few = dicom_dataset(np.stack([picture()] * 3), frames=3)
    few.NumberOfFrames = 30
    yield "few.dcm", written(few), ""
    small = dicom_dataset(picture(height=2, width=2))
    yield "small.dcm", written(small), "too small"
    blank = dicom_dataset(picture())
    del blank.PixelData
    yield "blank.dcm", written(blank), ""
    sizeless = dicom_dataset(picture())
    del sizeless.Rows
    yield "sizeless.dcm", written(sizeless), "without pixels"
    strange = dicom_dataset(picture())
    strange.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4, which is not decoded here
    strange.PixelData = encapsulate([b"no video"])
    strange["PixelData"].is_undefined_length = True
    yield "mpeg.dcm", written(strange), ""


def test_every_bad_file_is_named_with_its_reason_and_the_good_ones_are_untouched(tmp_path):
    made, root, cache = tmp_path / "made", tmp_path / "data", tmp_path / "cache"
    for folder in (made, root / "lab", cache):
        folder.mkdir(parents=True)
    bad = {name: (data, word) for name, data, word in [*stills(), *clips(made), *dicoms(made)]}
    assert len(bad) >= 60
    good = {f"good{number}{suffix}": picture(seed=number) for number, suffix in enumerate(STILLS)}
    for name, rgb in good.items():
        (root / "lab" / name).write_bytes(encode_image(rgb, STILLS[PurePosixPath(name).suffix]))
    (root / "lab" / "good.mp4").write_bytes((made / "c.mp4").read_bytes())
    for name, (data, _) in bad.items():
        (root / "lab" / name).write_bytes(data)
    source = Folder(root, location="data")
    store = open_store(
        source, source.files("lab", flag="--x"), DecodeOptions(storage_size(32)), cache_dir=cache
    )
    reasons = {key.removeprefix("lab/"): reason for key, reason in store.rejected}
    assert set(reasons) == set(bad)
    for name, (_, word) in bad.items():
        assert reasons[name] and word in reasons[name], (name, reasons[name])
        assert str(tmp_path) not in reasons[name] and "\n" not in reasons[name]
    assert {file.removeprefix("lab/") for file in store.files} - set(good) == {"good.mp4"} | {
        name for name in bad if "breaks off" in reasons[name]
    }
    for name, rgb in good.items():
        (row,) = (number for number, file in enumerate(store.files) if file == f"lab/{name}")
        found = store.frames[np.array([row])][0].astype(int)
        wanted = np.asarray(Image.fromarray(rgb).resize((37, 28), Image.Resampling.BILINEAR)).transpose(
            2, 0, 1
        )
        assert np.abs(found[:, 4:32] - wanted).mean() < 12, name
