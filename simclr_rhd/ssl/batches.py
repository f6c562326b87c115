"""Selection of the frames of each batch, and loading of batches from the store.

Notation: N frames, B pairs of a batch, C channels, S pixels of a stored frame's side.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.core.threads import map_ordered
from simclr_rhd.data.store.shards import Frames
from simclr_rhd.ssl.augment import sample_view_params

MAX_VAL_FRAMES = 1024  # held-out frames whose loss is measured: more would cost time and add little


@dataclass(frozen=True)
class UnlabelledSet:
    """The frames of a pretraining.

    Attributes:
        frames: (N, C, S, S) uint8.
        color_modes: (N,) uint8.
        videos: (N,) integer codes.
        rows: (n,) the frames to learn from.
        names: N names, to name frames whose loss is not finite.
    """

    frames: np.ndarray | Frames
    color_modes: np.ndarray
    videos: np.ndarray
    rows: np.ndarray
    names: Sequence[str] = ()


class Batch(NamedTuple):
    """B pairs before their views are made.

    Attributes:
        frames: (B, C, S, S) uint8, C = 1 if all are grey; (2B, C, S, S) if second views have other frames.
        color_modes: (B,) or (2B,) uint8.
        view_params: (B, 2, F) float32 random numbers of the views.
        videos: (B,) integer codes.
    """

    frames: Tensor
    color_modes: Tensor
    view_params: Tensor
    videos: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with each tensor changed."""
        return Batch(*map(change, self))

    def micro_batch(self, first: int, n: int) -> "Batch":
        """`n` of its pairs, from pair `first` on."""
        total = len(self.view_params)
        return self.map(
            lambda x: (
                torch.cat([part[first : first + n] for part in x.split(total)])
                if len(x) > total
                else x[first : first + n]
            )
        )


class PositiveSampler:
    """For each row a frame of the same video, another one where there is one.

    Args:
        rows: (n,) the frames that may be partners.
        videos: (N,) integer codes, from 0, of all frames' videos.
    """

    def __init__(self, rows: np.ndarray, videos: np.ndarray) -> None:
        self.videos = videos
        self.members = rows[np.lexsort((rows, videos[rows]))].astype(np.int32)  # a video's stand together
        self.place = np.zeros(len(videos), dtype=np.int32)
        self.place[self.members] = np.arange(len(rows))
        self.count = np.bincount(videos[rows])  # of each video
        self.first = np.cumsum(self.count) - self.count

    def choose(self, rows: np.ndarray, choice: np.ndarray) -> np.ndarray:
        """(B,) partners of some of the rows, by uniform random numbers (B,) in [0, 1)."""
        first, count = self.first[self.videos[rows]], self.count[self.videos[rows]]
        others = np.maximum(1, count - 1)
        step = np.minimum(others, 1 + (choice * others).astype(np.int64))  # 1 to count - 1, round the video
        partners: np.ndarray = self.members[first + (self.place[rows] - first + step) % count]
        return partners


class Batches:
    """Batches of stored frames with their random numbers; an index is a batch's rows, not one frame.

    Args:
        data: the frames.
        seed: seed.
        epoch: from 1.
        positive_sampler: where second views come from; None: from the same frame.
    """

    def __init__(
        self,
        data: UnlabelledSet,
        *,
        seed: int,
        epoch: int,
        positive_sampler: PositiveSampler | None = None,
    ) -> None:
        self.data, self.seed, self.epoch, self.positive_sampler = data, seed, epoch, positive_sampler

    def __getitem__(self, rows: np.ndarray) -> Batch:
        view_params, choice = sample_view_params(self.seed, self.epoch, rows)
        sources = (
            rows
            if self.positive_sampler is None
            else np.append(rows, self.positive_sampler.choose(rows, choice))
        )
        return Batch(
            torch.from_numpy(self.data.frames[sources]),
            torch.from_numpy(self.data.color_modes[sources]),
            view_params,
            torch.from_numpy(self.data.videos[rows]),
        )


def prefetch(
    batches: Batches, indices: list[np.ndarray], *, workers: int, pin_memory: bool
) -> Iterator[Batch]:
    """The batches of some indices in order, read by threads while the step before is computed.

    Threads, since reading is copying, which lets other threads run; and a signal that arrives while a process
    is forked can be lost.

    Args:
        batches: where to read.
        indices: rows of each batch.
        workers: threads; 0 reads each batch when it is wanted.
        pin_memory: put the batches into page-locked memory, from which a GPU copies faster.
    """

    def read(rows: np.ndarray) -> Batch:
        return batches[rows].map(Tensor.pin_memory) if pin_memory else batches[rows]

    return map_ordered(read, indices, workers=workers)


def epoch_batches(rows: np.ndarray, batch_size: int, *, seed: int, epoch: int) -> list[np.ndarray]:
    """The epoch's rows in random order, cut into full batches; what is left over waits for another epoch."""
    order = make_rng(seed, Stream.BATCHES, epoch).permutation(rows)
    full = len(order) // batch_size
    return np.split(order[: full * batch_size], full)


def val_batches(rows: np.ndarray, batch_size: int, *, seed: int) -> list[np.ndarray]:
    """The held-out rows, the same at every call, in batches as near to `batch_size` as can be.

    In a random order: in the store's, a batch would hold a few neighbouring clips, and few negatives.
    """
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_VAL_FRAMES)).round().astype(int)]
    rows = make_rng(seed, Stream.VALIDATION_BATCHES).permutation(rows)
    return np.array_split(rows, max(1, round(len(rows) / batch_size)))
