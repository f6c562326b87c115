import errno
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from echo_files import dicom_dataset, picture, save_dicom
from PIL import Image

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.data.store.store import check_rejected, open_store


class Entry(NamedTuple):
    key: str
    version: str


class Folder:
    """A source over a folder that counts what is fetched and can fail."""

    def __init__(self, root):
        self.root, self.fetched, self.failing, self.skipped = root, 0, {}, []

    def entries(self):
        return [Entry(path.name, str(path.stat().st_mtime_ns)) for path in sorted(self.root.iterdir())]

    def fetch(self, entries):
        self.fetched += len(entries)
        return (
            {e.key: self.root / e.key for e in entries if e.key not in self.failing},
            {e.key: self.failing[e.key] for e in entries if e.key in self.failing},
        )


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(7):
        Image.fromarray(np.full((20, 30), 10 * number + 5, np.uint8)).save(folder / f"v_frame{number}.png")
    return Folder(folder)


def build(source, tmp_path, side=18, most=None):
    (tmp_path / "cache").mkdir(exist_ok=True)
    return open_store(source, source.entries(), DecodeOptions(side, most), cache_dir=tmp_path / "cache")


def pixels(store):
    """All frames, (N, 3, S, S)."""
    found = store.frames[np.arange(len(store.keys))]
    return np.broadcast_to(found, (len(found), 3, *found.shape[2:]))


def test_frames_stand_in_the_order_of_their_keys(source, tmp_path):
    store = build(source, tmp_path)
    assert list(store.keys) == [f"v_frame{number}.png" for number in range(7)]
    assert list(store.files) == list(store.keys)
    assert pixels(store).shape == (7, 3, 18, 18) and pixels(store).dtype == np.uint8
    assert pixels(store)[:, 0, 9, 9].tolist() == [10 * number + 5 for number in range(7)]


def test_bad_frames_are_named_and_the_rest_is_intact(source, tmp_path):
    (source.root / "a_frame1.png").write_bytes(b"")
    (source.root / "b_frame1.png").write_text("text named .png")
    (source.root / "c_frame1.png").write_bytes((source.root / "v_frame3.png").read_bytes()[:60])
    Image.new("L", (1, 1)).save(source.root / "d_frame1.png")
    (source.root / "notes.txt").write_text("hello")
    store = build(source, tmp_path)
    assert [key for key, _ in store.rejected] == [
        "a_frame1.png",
        "b_frame1.png",
        "c_frame1.png",
        "d_frame1.png",
        "notes.txt",
    ]
    assert all(reason for _, reason in store.rejected)
    assert pixels(store)[:, 0, 9, 9].tolist() == [10 * number + 5 for number in range(7)]


def test_the_second_time_nothing_is_fetched_or_decoded(source, tmp_path):
    first = build(source, tmp_path)
    fetched = source.fetched
    second = build(source, tmp_path)
    assert source.fetched == fetched
    assert second.fingerprint == first.fingerprint and (pixels(second) == pixels(first)).all()
    assert first.decoded == 7 and second.decoded == 0


def test_a_changed_frame_or_size_is_never_confused_with_the_old_one(source, tmp_path):
    before = build(source, tmp_path)
    Image.fromarray(np.full((20, 30), 250, np.uint8)).save(source.root / "v_frame3.png")
    os.utime(source.root / "v_frame3.png", ns=(1, 1))
    after = build(source, tmp_path)
    assert pixels(after)[3, 0, 9, 9] == 250 and pixels(before)[3, 0, 9, 9] == 35
    assert after.fingerprint != before.fingerprint
    assert pixels(build(source, tmp_path, side=24)).shape == (7, 3, 24, 24)


def test_a_frame_that_could_not_be_fetched_is_tried_again_next_time(source, tmp_path):
    source.failing = {"v_frame2.png": "404"}
    assert build(source, tmp_path).rejected == [("v_frame2.png", "could not be fetched: 404")]
    source.failing = {}
    store = build(source, tmp_path)
    assert store.rejected == [] and len(store.keys) == 7


@pytest.mark.parametrize(
    "name", ["grey-00000.u8", "colour-00000.u8", "index.json", "names.txt", "names.npy", "frames.npy"]
)
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_store_is_not_believed(source, tmp_path, name, damage, caplog):
    Image.fromarray(np.full((20, 30, 3), (9, 200, 30), np.uint8)).save(source.root / "w_frame1.png")
    first = build(source, tmp_path)
    before = pixels(first).copy()
    (folder,) = (tmp_path / "cache" / "stores").iterdir()
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "remove":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(bytes(data) if damage == "flip" else bytes(data)[:-9])
    second = build(source, tmp_path)
    assert second.decoded == 8 and "damaged" in caplog.text
    assert (pixels(second) == before).all() and second.fingerprint == first.fingerprint


def test_a_crash_while_building_leaves_nothing_behind(source, tmp_path, monkeypatch):
    monkeypatch.setattr("simclr_rhd.data.decoding.image.color_mode", lambda frame: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(source, tmp_path)
    assert list((tmp_path / "cache" / "stores").iterdir()) == []


def test_what_a_killed_run_was_building_is_removed_and_what_a_living_one_builds_is_not(source, tmp_path):
    stores = tmp_path / "cache" / "stores"
    for name in (".dead.1.building", ".alive.2.building"):
        (stores / name).mkdir(parents=True)
        (stores / name / ".lock").touch()
    with (stores / ".alive.2.building" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        build(source, tmp_path)
    assert not (stores / ".dead.1.building").exists() and (stores / ".alive.2.building").exists()


def test_a_disk_that_fills_up_is_one_sentence_and_nothing_is_believed(source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("simclr_rhd.data.store.shards.ShardWriter.append", full)
    with pytest.raises(UserError, match="is full.*--cache-dir"):
        build(source, tmp_path)
    assert list((tmp_path / "cache" / "stores").iterdir()) == []


def test_a_full_disk_is_said_beforehand(source, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "simclr_rhd.data.store.store.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})
    )
    with pytest.raises(UserError, match="--cache-dir"):
        build(source, tmp_path)


def test_too_many_unreadable_frames_stop_the_run(source, tmp_path):
    (source.root / "a_frame1.png").write_text("no")
    (source.root / "notes.txt").write_text("not a frame, and not counted")
    store = build(source, tmp_path)
    check_rejected(store, 0.125)
    with pytest.raises(
        UserError, match=r"1 of 8 files.*--max-rejected 0.13(?s:.*)a_frame1.png: not an image"
    ):
        check_rejected(store, 0.05)


def test_no_readable_frame_at_all(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "clip.doc").write_bytes(b"x")
    source = Folder(folder)
    with pytest.raises(UserError, match=r"none of the 1 files(?s:.*)clip.doc: not a frame: .doc"):
        check_rejected(build(source, tmp_path), 1.0)


def test_the_store_on_disk_is_bytes_and_text(source, tmp_path):
    store = build(source, tmp_path)
    (folder,) = Path(tmp_path / "cache" / "stores").iterdir()
    assert (folder / "grey-00000.u8").read_bytes() == pixels(store)[:, 0].tobytes()
    assert (folder / "names.txt").read_text().splitlines() == list(store.keys)


@pytest.mark.parametrize(("view", "stored"), [(224, 256), (64, 74), (96, 110)])
def test_stored_frames_leave_room_to_crop(view, stored):
    assert storage_size(view) == stored


def test_patients_are_hashed_again_once_their_salt_is_lost(source, tmp_path):
    pytest.importorskip("pydicom", reason="pydicom is missing: pip install -r requirements-dev.txt")
    without = build(source, tmp_path)
    (tmp_path / "cache" / "salt").unlink()
    assert without.decoded and not build(source, tmp_path).decoded, "no patients, nothing to hash"
    save_dicom(dicom_dataset(picture()), source.root / "exam.dcm")
    first, again = build(source, tmp_path), build(source, tmp_path)
    (tmp_path / "cache" / "salt").unlink()
    after = build(source, tmp_path)
    assert (again.decoded, again.patients) == (0, first.patients)
    assert after.decoded == 8 and after.patients.keys() == first.patients.keys() == {"exam.dcm"}
    assert after.patients != first.patients and build(source, tmp_path).patients == after.patients
