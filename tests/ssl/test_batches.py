import threading
import time

import numpy as np
import pytest
import torch

from simclr_rhd.ssl.batches import (
    Batches,
    PositiveSampler,
    UnlabelledSet,
    epoch_batches,
    prefetch,
    val_batches,
)


@pytest.fixture
def batches():
    frames = np.arange(40 * 3 * 4, dtype=np.uint8).reshape(40, 3, 2, 2)
    return Batches(
        UnlabelledSet(frames, np.zeros(40, np.uint8), np.arange(40) // 4, np.arange(40)), seed=1, epoch=2
    )


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_whoever_reads_them(batches, workers):
    indices = epoch_batches(np.arange(40), 6, seed=0, epoch=1)
    found = list(prefetch(batches, indices, workers=workers, pin_memory=False))
    assert len(found) == 6
    for rows, batch in zip(indices, found, strict=True):
        assert (batch.frames.numpy() == batches.data.frames[rows]).all() and batch.color_modes.shape == (6,)
        assert (
            torch.equal(batch.view_params, batches[rows].view_params)
            and batch.videos.tolist() == (rows // 4).tolist()
        )


def test_reading_ahead_is_bounded_and_its_threads_end_with_it(batches):
    read, before = [], threading.active_count()

    class Counting:
        def __getitem__(self, rows):
            read.append(len(rows))
            return batches[rows]

    stream = prefetch(Counting(), [np.arange(4)] * 20, workers=2, pin_memory=False)
    next(stream)
    time.sleep(0.05)
    assert len(read) <= 5
    stream.close()
    assert threading.active_count() == before


def test_an_error_while_reading_arrives_at_the_reader(batches):
    with pytest.raises(IndexError):
        list(prefetch(batches, [np.array([99])], workers=1, pin_memory=False))


def test_an_epoch_has_each_row_at_most_once_and_full_batches():
    some = np.concatenate(epoch_batches(np.arange(40), 6, seed=0, epoch=1))
    assert len(some) == len(set(some.tolist())) == 36
    assert (np.concatenate(epoch_batches(np.arange(40), 6, seed=0, epoch=2)) != some).any()


def test_validation_batches_are_nearly_equal_and_hold_every_row_once():
    sizes = [len(batch) for batch in val_batches(np.arange(40), 6, seed=0)]
    assert sum(sizes) == 40 and max(sizes) - min(sizes) <= 1
    assert sum(map(len, val_batches(np.arange(5000), 64, seed=0))) == 1024


def test_a_partner_is_another_frame_of_the_same_video_each_as_likely():
    videos = np.array([0, 1, 0, 2, 0, 1, 3, 0])
    rows = np.array([7, 0, 5, 2, 4, 6])  # frame 1 and frame 3 are not among them
    partners = PositiveSampler(rows, videos)
    found = {row: set() for row in rows}
    for u in np.linspace(0, 1, 50, endpoint=False):
        for row, partner in zip(rows, partners.choose(rows, np.full(len(rows), u)), strict=True):
            found[row].add(int(partner))
    assert found == {7: {0, 2, 4}, 0: {2, 4, 7}, 2: {0, 4, 7}, 4: {0, 2, 7}, 5: {5}, 6: {6}}
    chosen = partners.choose(np.zeros(300, int), np.linspace(0, 1, 300, endpoint=False))
    assert np.bincount(chosen)[[2, 4, 7]].tolist() == [100, 100, 100]


def test_with_partners_a_batch_has_their_frames_after_its_own(batches):
    rows = np.array([3, 9, 12])
    sampler = PositiveSampler(np.arange(40), batches.data.videos)
    with_partners = Batches(batches.data, seed=1, epoch=2, positive_sampler=sampler)[rows]
    own, other = with_partners.frames.split(3)
    assert torch.equal(own, batches[rows].frames) and torch.equal(
        with_partners.view_params, batches[rows].view_params
    )
    numbers = other.flatten(1)[:, 0].numpy() // 12  # a frame's first pixel tells its number, modulo 256
    assert not (numbers == rows).any()
    piece = with_partners.micro_batch(1, 2)
    assert torch.equal(piece.frames, torch.cat([own[1:], other[1:]])) and len(piece.color_modes) == 4
    assert piece.videos.tolist() == [2, 3]
