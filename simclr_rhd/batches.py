"""Which frames make a batch, and the batches themselves, read from the store."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from simclr_rhd.augment import draws
from simclr_rhd.parallel import in_order
from simclr_rhd.shards import Frames

WATCHED_MOST = 1024  # frames whose loss is watched: more would cost time and tell little more


Batch = tuple[Tensor, Tensor, Tensor]


class Batches:
    """Batches of stored frames with their random numbers; an index is a batch's rows, not one frame."""

    def __init__(self, frames: np.ndarray | Frames, kinds: np.ndarray, *, seed: int, epoch: int) -> None:
        self.frames, self.kinds, self.seed, self.epoch = frames, kinds, seed, epoch

    def __getitem__(self, rows: np.ndarray) -> Batch:
        """Frames (B, C, S, S) uint8 (C = 1 if all are grey), kinds (B,) uint8, numbers (B, 2, F) float32."""
        return (
            torch.from_numpy(self.frames[rows]),
            torch.from_numpy(self.kinds[rows]),
            draws(self.seed, self.epoch, rows),
        )


def read_ahead(batches: Batches, indices: list[np.ndarray], *, workers: int, pin: bool) -> Iterator[Batch]:
    """The batches of some indices in order, read by threads while the step before is computed.

    Threads, since reading is copying, which lets other threads run; and a signal that arrives while a process
    is forked can be lost.

    Args:
        batches: where to read.
        indices: rows of each batch.
        workers: threads; 0 reads each batch when it is wanted.
        pin: put the batches into page-locked memory, from which a GPU copies faster.
    """

    def read(rows: np.ndarray) -> Batch:
        frames, kinds, u = batches[rows]
        return (frames.pin_memory(), kinds.pin_memory(), u.pin_memory()) if pin else (frames, kinds, u)

    return in_order(read, indices, workers=workers)


def epoch_batches(rows: np.ndarray, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """The epoch's rows in random order, cut into full batches; what is left over waits for another epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    full = len(order) // batch_size
    return np.split(order[: full * batch_size], full)


def watched_batches(rows: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """The watched rows, the same at every call, in batches as near to `batch_size` as can be."""
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), WATCHED_MOST)).round().astype(int)]
    return np.array_split(rows, max(1, round(len(rows) / batch_size)))
