"""Small files that expand: left out with a reason, in bounded memory and time."""

import io
import json
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from echo_files import decode, dicom_dataset, encode_image, picture, save_dicom, write_clip
from PIL import Image

from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.limits import MAX_PIXELS, PixelBudget, check_file
from simclr_rhd.data.sources.folder import Folder
from simclr_rhd.data.store.store import open_store

pytest.importorskip("av", reason="PyAV is missing: pip install -r requirements-dev.txt")
pytest.importorskip("pydicom", reason="pydicom is missing: pip install -r requirements-dev.txt")
ROOT = Path(__file__).resolve().parents[3]
RUN = """
import json, sys
from pathlib import Path
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.sources.folder import Folder
from simclr_rhd.data.store.store import open_store

source = Folder(Path(sys.argv[1]), location="data")
store = open_store(source, source.files(".", flag="--x"), DecodeOptions(256), cache_dir=Path(sys.argv[2]))
status = Path("/proc/self/status").read_text()
peak = int(status[status.index("VmHWM:") + 6 :].split()[0])  # KiB
print(json.dumps({"peak": peak, "rejected": store.rejected, "files": list(dict.fromkeys(store.files))}))
"""


def test_a_long_file_may_hold_many_frames_and_a_short_one_may_not():
    check_file(2_000, 1024, 768, size=20_000_000, max_pixels=MAX_PIXELS)
    check_file(3_000, 640, 480, size=1, max_pixels=MAX_PIXELS)
    for frames, side, size in ((17_000, 1_000, 408_000), (10**9, 8, 10**6)):
        with pytest.raises(ValueError, match="too large"):
            check_file(frames, side, side, size=size, max_pixels=MAX_PIXELS)


def test_all_threads_together_keep_to_the_budget():
    budget, lock, held, peak = PixelBudget(100), threading.Lock(), [0], [0]

    def work(pixels):
        with budget.reserve(pixels):
            with lock:
                held[0] += min(pixels, 100)
                peak[0] = max(peak[0], held[0])
            time.sleep(0.002)
            with lock:
                held[0] -= min(pixels, 100)

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (60, 30, 500, 80, 10, 50) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads) and 60 <= peak[0] <= 100
    assert budget.free == 100


def jpeg_in_dicom():
    """A header of 64x48 pixels over a JPEG of many more."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    found = dicom_dataset(picture())
    found.file_meta.TransferSyntaxUID, found.PhotometricInterpretation = JPEGBaseline8Bit, "YBR_FULL_422"
    found.PixelData = encapsulate([encode_image(np.zeros((900, 1_000, 3), np.uint8), "JPEG")])
    found["PixelData"].is_undefined_length = True
    return found


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".gif", ".mp4", ".dcm"])
def test_a_frame_larger_than_asked_for_is_left_out_and_says_how_to_have_it(tmp_path, suffix):
    path = tmp_path / f"large{suffix}"
    if suffix == ".mp4":
        write_clip(path, [picture()] * 3)
    elif suffix == ".dcm":
        save_dicom(dicom_dataset(picture()), path)
    else:
        Image.fromarray(picture()).save(path)
    assert decode(path, max_pixels=64 * 48, side=32).reason == ""
    done = decode(path, max_pixels=64 * 48 - 1, side=32)
    assert done.frames == [] and "too large (64x48): --max-pixels allows 3071" in done.reason


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif", ".mp4"])
def test_a_file_of_more_pixels_than_its_length_allows_is_left_out(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("simclr_rhd.data.decoding.limits.MAX_PIXELS_PER_BYTE", 1)
    path = tmp_path / f"many{suffix}"
    frames = [np.full((128, 256, 3), 8 * level, np.uint8) for level in range(30)]
    if suffix == ".mp4":
        write_clip(path, frames)
    else:
        first, *others = map(Image.fromarray, frames)
        options = {"compression": "tiff_deflate"} if suffix == ".tif" else {}
        first.save(path, save_all=True, append_images=others, **options)
    assert decode(path, side=32).reason == "" and len(decode(path, side=32).frames) == 30
    assert "too large: 30 frames of 256x128" in decode(path, max_pixels=128 * 256, side=32).reason


def test_a_jpeg_that_is_larger_than_its_dicom_header_says_is_not_decoded(tmp_path):
    save_dicom(jpeg_in_dicom(), tmp_path / "f.dcm")
    assert "a JPEG of 1000x900" in decode(tmp_path / "f.dcm", side=32).reason


def tiff_of_one_tile(side):
    """A TIFF of 100x100 pixels that are the corner of one tile of side x side."""
    sizes = {256: 100, 257: 100, 258: 8, 259: 5, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: 1000}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sizes.items())
    start = b"II*\0" + struct.pack("<I", 8 + 1000) + bytes(1000)
    return start + struct.pack("<H", len(sizes)) + tags + bytes(4)


def test_a_tile_that_is_larger_than_its_picture_is_not_decoded(tmp_path):
    """1.5 GB for a file of a kilobyte."""
    (tmp_path / "f.tif").write_bytes(tiff_of_one_tile(40_000))
    assert "too large (40000x40000): --max-pixels allows" in decode(tmp_path / "f.tif", side=32).reason
    Image.fromarray(picture()).save(tmp_path / "g.tif", tiled=True, compression="tiff_lzw", tile=(64, 64))
    assert decode(tmp_path / "g.tif", side=32).reason == ""


def test_a_jpeg_of_hundreds_of_scans_is_not_decoded(tmp_path):
    """Each takes as long as the picture; an ordinary progressive one has some ten."""
    data = encode_image(np.zeros((5_000, 6_000), np.uint8), "JPEG", progressive=True)
    (tmp_path / "f.jpg").write_bytes(data)
    assert decode(tmp_path / "f.jpg", side=32).reason == ""
    last = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "f.jpg").write_bytes(data[:-2] + 400 * last + data[-2:])
    assert "too large: 406 scans of 6000x5000" in decode(tmp_path / "f.jpg", side=32).reason


def padded(name, *, side=600):
    """A compressed picture of `side` pixels whose size stands where it is rarely looked for."""
    flat = np.zeros((side, side), np.uint8)
    if name == "JPEG":
        data = encode_image(flat, "JPEG")
        return data[:2] + b"\xff\xff" + data[2:]  # filled
    if name == "JPEG-LS":
        return b"\xff\xd8\xff\xf7" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\1\x11\0" + bytes(100)
    data = encode_image(flat, "JPEG2000")
    begin = data.index(b"\xff\x4f\xff\x51") - 8
    return data[:begin] + struct.pack(">I4s", 408, b"free") + bytes(400) + data[begin:]


@pytest.mark.parametrize("name", ["JPEG", "JPEG-LS", "JPEG2000"])
def test_the_size_of_a_picture_in_a_dicom_file_is_read_wherever_it_stands(tmp_path, name):
    """30,000 pixels a side took 2.6 GB behind a header of 64x48."""
    from pydicom import encaps, uid

    found = dicom_dataset(picture()[..., 0])
    kinds = {"JPEG": uid.JPEGBaseline8Bit, "JPEG-LS": uid.JPEGLSLossless, "JPEG2000": uid.JPEG2000}
    found.file_meta.TransferSyntaxUID = kinds[name]
    found.PixelData = encaps.encapsulate([padded(name)])
    found["PixelData"].is_undefined_length = True
    save_dicom(found, tmp_path / "f.dcm")
    assert "a JPEG of 600x600, which the header does not say" in decode(tmp_path / "f.dcm", side=32).reason


def test_a_video_is_not_decoded_to_learn_that_it_is_too_large(tmp_path, monkeypatch):
    """FFmpeg decodes some frames when it opens a file: 600 MB for 16,000 pixels a side."""
    import av

    monkeypatch.setattr("simclr_rhd.data.decoding.video.MAX_PIXELS", 50_000, raising=False)
    write_clip(tmp_path / "f.mov", [np.zeros((400, 600, 3), np.uint8)] * 2, codec="png", pixels="rgb24")
    widths, opened = [], av.open

    def open_(*arguments, **how):
        container = opened(*arguments, **how)
        widths.append(container.streams.video[0].width)
        return container

    monkeypatch.setattr(av, "open", open_)
    done = decode(tmp_path / "f.mov", max_pixels=50_000, side=32)
    assert "too large: --max-pixels allows 50000" in done.reason and widths == [0]
    assert decode(tmp_path / "f.mov", side=32).reason == ""


def decoded_in(tmp_path, frames):
    """Peak of the memory that Python hands out while a clip goes to the store, in bytes."""
    root = tmp_path / f"{frames}"
    root.mkdir()
    save_dicom(
        dicom_dataset(np.stack([picture(seed=number) for number in range(frames)]), frames=frames),
        root / "c.dcm",
    )
    source, cache = Folder(root, location="data"), tmp_path / f"cache{frames}"
    cache.mkdir()
    tracemalloc.start()
    store = open_store(source, source.files(".", flag="--x"), DecodeOptions(256), cache_dir=cache)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(store.keys) == frames and store.rejected == []
    last = np.abs(store.frames[np.array([frames - 1])][0].astype(int) - store.frames[np.array([0])][0])
    assert last.mean() > 1, "frames came back in another order"
    return peak


def test_memory_does_not_grow_with_a_clip(tmp_path):
    decoded_in(tmp_path, 2)  # imports
    short, long = decoded_in(tmp_path, 50), decoded_in(tmp_path, 250)
    assert long < short + 5_000_000, (short, long)  # 200 frames have 39 MB


def bombs(folder):
    """Small files of gigabytes."""
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    flat = Image.new("L", (10_000, 10_000))
    flat.save(folder / "flat.png")
    flat.save(folder / "flat.tif", compression="tiff_deflate")
    flat.save(folder / "flat.jpg")
    flat.save(folder / "flat.webp")
    Image.new("L", (6_000, 6_000)).save(folder / "allowed.png")  # as large as may be, and fine
    stream = io.BytesIO()
    first = Image.new("P", (3_000, 3_000))
    dots = [Image.new("P", (3_000, 3_000), number % 2 + 1) for number in range(2)]
    first.save(stream, "GIF", save_all=True, append_images=dots)
    data, one = stream.getvalue(), Image.new("P", (1, 1))
    stream = io.BytesIO()
    one.save(stream, "GIF")
    tail = stream.getvalue()[stream.getvalue().index(b",\0\0") : -1]  # an image of one pixel
    control = b"\x21\xf9\x04\x00\x01\x00\x00\x00"
    (folder / "dots.gif").write_bytes(data[:-1] + (control + tail) * 15_000 + b";")
    found = dicom_dataset(picture(height=1_000, width=1_000))
    found.file_meta.TransferSyntaxUID, found.NumberOfFrames = DeflatedExplicitVRLittleEndian, 700
    save_dicom(found, folder / "once.dcm")
    header = (folder / "once.dcm").read_bytes()
    (folder / "once.dcm").unlink()
    meta = 144 + int.from_bytes(header[140:144], "little")
    body = bytearray(zlib.decompress(header[meta:], -zlib.MAX_WBITS))
    at = body.rindex(b"\xe0\x7f\x10\x00") + 8
    body[at : at + 4] = (700 * 3_000_000).to_bytes(4, "little")
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    begin = packer.compress(bytes(body)) + packer.flush(zlib.Z_FULL_FLUSH)
    one = packer.compress(bytes(3_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)  # may be repeated
    (folder / "deflated.dcm").write_bytes(header[:meta] + begin + 699 * one + packer.flush())
    save_dicom(jpeg_in_dicom(), folder / "jpeg.dcm")
    write_clip(folder / "wide.mp4", [np.zeros((7_000, 7_000, 3), np.uint8)])


@pytest.mark.slow
def test_a_folder_of_bombs_takes_little_memory_and_time_and_each_is_named(tmp_path):
    folder = tmp_path / "bombs"
    folder.mkdir()
    (tmp_path / "cache").mkdir()
    bombs(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10_000_000
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), str(tmp_path / "cache")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.perf_counter() - started <= 60
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["peak"] <= 1.5 * 1024**2, found["peak"]
    names = {path.name for path in folder.iterdir()}
    assert {name for name, _ in found["rejected"]} == names - {"allowed.png"}
    assert found["files"] == ["allowed.png"]
