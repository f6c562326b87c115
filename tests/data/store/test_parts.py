"""A store that is joined from parts is the store of one process, byte for byte."""

import shutil

import numpy as np
import pytest
from echo_files import dicom_dataset, encode_image, picture, save_dicom
from PIL import Image

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.source_files import FETCH_FAILED, fetch_files
from simclr_rhd.data.sources.base import FileEntry
from simclr_rhd.data.sources.folder import Folder
from simclr_rhd.data.store import shards
from simclr_rhd.data.store.build import CONTENTS_FILE, write_frames
from simclr_rhd.data.store.index import INDEX_FILE, read_index
from simclr_rhd.data.store.parts import divide, is_whole_part, join_parts
from simclr_rhd.data.store.store import open_store

pytest.importorskip("pydicom", reason="pydicom is missing: pip install -r requirements-dev.txt")
OPTIONS = DecodeOptions(18, salt=b"s" * 32)


@pytest.fixture
def source(tmp_path):
    """Grey and coloured stills, a DICOM file with a patient, an animation, a broken file and a note."""
    folder = tmp_path / "data" / "frames"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(17):
        image = np.full((20, 30), 7 * number + 5, np.uint8)
        image = rng.integers(0, 256, (20, 30, 3), np.uint8) if number % 3 == 0 else image
        Image.fromarray(image).save(folder / f"v_frame{number:02d}.png")
    save_dicom(dicom_dataset(picture()), folder / "exam.dcm")
    first, *rest = (Image.fromarray(rng.integers(0, 256, (20, 30), np.uint8)) for _ in range(4))
    first.save(folder / "clip.gif", save_all=True, append_images=rest)
    (folder / "broken.png").write_bytes(encode_image(picture())[:30])
    (folder / "notes.txt").write_text("no frame")
    source = Folder(tmp_path / "data", location="data")
    source.skipped.append(("bad\\x01name", "unusable name: control characters"))
    return source


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_parts(source, n, folder):
    entries, parts = source.files("frames", flag="--x"), []
    for number, share in enumerate(divide(entries, n)):
        parts.append(folder / str(number))
        parts[-1].mkdir(parents=True)
        halves = [share[: len(share) // 2], share[len(share) // 2 :]]
        fetched = (fetch_files(source, half) for half in halves)
        write_frames(parts[-1], fetched, OPTIONS, n_files=len(share), is_part=True)
    return parts


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_joined_parts_are_the_store_of_one_process_byte_for_byte(source, tmp_path, monkeypatch, n):
    monkeypatch.setattr(shards, "FRAMES_PER_SHARD", 4)
    monkeypatch.setattr("simclr_rhd.data.store.store.load_salt", lambda cache: OPTIONS.salt)
    whole = open_store(source, source.files("frames", flag="--x"), OPTIONS, cache_dir=tmp_path / "cache")
    assert whole.patients and {key for key, _ in whole.rejected} == {
        "bad\\x01name",
        "frames/broken.png",
        "frames/notes.txt",
    }
    (one,) = (tmp_path / "cache" / "stores").iterdir()
    parts = write_parts(source, n, tmp_path / "parts")
    assert all(map(is_whole_part, parts))
    join_parts(tmp_path / "joined", parts, source.skipped)
    assert contents(tmp_path / "joined") == contents(one)
    assert len([name for name in contents(one) if name.endswith(".u8")]) > 4
    assert not any(map(is_whole_part, parts))  # used up
    assert not [path for part in parts for path in part.glob("*.u8")]


def test_a_damaged_or_incomplete_part_is_not_used(source, tmp_path, monkeypatch):
    (part,) = write_parts(source, 1, tmp_path / "parts")
    for name in (INDEX_FILE, CONTENTS_FILE, "grey-00000.u8", "frames.npy"):
        broken = tmp_path / "broken"
        shutil.copytree(part, broken)
        data = bytearray((broken / name).read_bytes())
        data[len(data) // 2] ^= 1
        (broken / name).write_bytes(data)
        assert not is_whole_part(broken), name
        (broken / name).unlink()
        assert not is_whole_part(broken), name
        shutil.rmtree(broken)
    assert not is_whole_part(tmp_path / "nowhere")
    shutil.copytree(part, tmp_path / "huge")
    shard = tmp_path / "huge" / "grey-00000.u8"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    monkeypatch.setattr(read_index, "__kwdefaults__", read_index.__kwdefaults__ | {"max_bytes": 0})
    assert not is_whole_part(tmp_path / "huge"), "all of a part is looked at, of any size"
    index = read_index(part)
    lost = [*index.rejected, ("frames/x.png", FETCH_FAILED + "503")]
    monkeypatch.setattr("simclr_rhd.data.store.parts.read_index", lambda folder, **_: index)
    assert is_whole_part(part)
    index.rejected[:] = lost
    assert not is_whole_part(part)


def test_a_full_disk_while_parts_are_joined_is_one_sentence(source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    parts = write_parts(source, 2, tmp_path / "parts")
    monkeypatch.setattr(shards.ShardWriter, "append_shards", full)
    with pytest.raises(UserError, match="is full.*--cache-dir"):
        join_parts(tmp_path / "stores" / "joined", parts, [])
    assert list((tmp_path / "stores").iterdir()) == []


@pytest.mark.parametrize("sizes", [[], [5], [0, 0, 0, 0], [1] * 100, [1000, 1, 1, 1], [1, 1, 1, 1000]])
def test_ranges_are_contiguous_and_of_about_equal_bytes(sizes):
    entries = [FileEntry(f"{number:03d}", size, "0") for number, size in enumerate(sizes)]
    for n in (1, 2, 3, 8):
        shares = divide(entries, n)
        assert len(shares) == n and [entry for share in shares for entry in share] == entries
        largest = max(sizes, default=0) + 1
        fair = (sum(sizes) + len(sizes)) / n
        assert all(sum(entry.size + 1 for entry in share) <= fair + largest for share in shares)
