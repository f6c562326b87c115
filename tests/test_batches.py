import threading
import time

import numpy as np
import pytest
import torch

from simclr_rhd.batches import Batches, epoch_batches, read_ahead, watched_batches


@pytest.fixture
def batches():
    frames = np.arange(40 * 3 * 4, dtype=np.uint8).reshape(40, 3, 2, 2)
    return Batches(frames, np.zeros(40, np.uint8), seed=1, epoch=2)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_whoever_reads_them(batches, workers):
    indices = epoch_batches(np.arange(40), 6, seed=0, epoch=1)
    found = list(read_ahead(batches, indices, workers=workers, pin=False))
    assert len(found) == 6
    for rows, (frames, kinds, u) in zip(indices, found, strict=True):
        assert (frames.numpy() == batches.frames[rows]).all() and kinds.shape == (6,)
        assert torch.equal(u, batches[rows][2])


def test_reading_ahead_is_bounded_and_its_threads_end_with_it(batches):
    read, before = [], threading.active_count()

    class Counting:
        def __getitem__(self, rows):
            read.append(len(rows))
            return batches[rows]

    stream = read_ahead(Counting(), [np.arange(4)] * 20, workers=2, pin=False)
    next(stream)
    time.sleep(0.05)
    assert len(read) <= 5
    stream.close()
    assert threading.active_count() == before


def test_an_error_while_reading_arrives_at_the_reader(batches):
    with pytest.raises(IndexError):
        list(read_ahead(batches, [np.array([99])], workers=1, pin=False))


def test_an_epoch_has_each_row_at_most_once_and_full_batches():
    some = np.concatenate(epoch_batches(np.arange(40), 6, seed=0, epoch=1))
    assert len(some) == len(set(some.tolist())) == 36
    assert (np.concatenate(epoch_batches(np.arange(40), 6, seed=0, epoch=2)) != some).any()


def test_watched_batches_are_nearly_equal_and_hold_every_row_once():
    sizes = [len(batch) for batch in watched_batches(np.arange(40), 6)]
    assert sum(sizes) == 40 and max(sizes) - min(sizes) <= 1
    assert sum(map(len, watched_batches(np.arange(5000), 64))) == 1024
