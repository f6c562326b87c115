import numpy as np
import pytest

from simclr_rhd.data.decoding.image import COLOR, DOPPLER, GREY
from simclr_rhd.data.store import shards
from simclr_rhd.data.store.shards import Frames, ShardWriter

SIDE, N = 5, 23


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Frames of mixed kinds in shards of four."""
    monkeypatch.setattr(shards, "FRAMES_PER_SHARD", 4)
    rng = np.random.default_rng(0)
    kinds = rng.choice([GREY, GREY, COLOR, DOPPLER], N).astype(np.uint8)
    pixels = rng.integers(0, 256, (N, 3, SIDE, SIDE), np.uint8)
    pixels[kinds == GREY] = pixels[kinds == GREY][:, :1]
    writer = ShardWriter(tmp_path)
    for frame, kind in zip(pixels, kinds, strict=True):
        writer.append(frame, int(kind))
    return pixels, kinds, writer.finish(), tmp_path


def test_frames_come_back_as_they_were_in_any_order(stored):
    pixels, kinds, _, folder = stored
    frames = Frames(folder, kinds, SIDE)
    assert len(frames) == N
    for seed in range(20):
        rows = np.random.default_rng(seed).integers(0, N, 9)
        found = frames[rows]
        assert found.dtype == np.uint8 and (found == pixels[rows]).all()
    assert (frames[np.arange(N)] == pixels).all()


def test_grey_frames_take_one_channel(stored):
    pixels, kinds, sums, folder = stored
    grey = np.flatnonzero(kinds == GREY)
    assert Frames(folder, kinds, SIDE)[grey].shape == (len(grey), 1, SIDE, SIDE)
    bytes_of = {name: (folder / name).stat().st_size for name in sums}
    assert sum(bytes_of.values()) == (len(grey) + 3 * (N - len(grey))) * SIDE * SIDE
    assert max(bytes_of.values()) <= 4 * 3 * SIDE * SIDE and len(bytes_of) > 4


def test_no_rows_and_no_frames(stored, tmp_path):
    _, kinds, _, folder = stored
    assert Frames(folder, kinds, SIDE)[np.arange(0)].shape[0] == 0
    assert len(Frames(tmp_path, np.zeros(0, np.uint8), SIDE)) == 0
