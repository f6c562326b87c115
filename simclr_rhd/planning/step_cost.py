"""Memory and time of a training step as measured, and the batches that fit.

Notation: n pairs, in the network at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

BYTES_PER_SIMILARITY = 4 * 4  # of one similarity: a float32 in each of four tables
MICRO_BATCH_OVERHEAD = 4 / 3  # of a step's time: the forward pass, a third of it, is done twice
USABLE_MEMORY_FRACTION = 0.85  # of the available memory may be used
BATCH_SIZES = tuple(2**k for k in range(4, 13))  # sizes that 'auto' chooses from, and the table shows


@dataclass(frozen=True)
class StepCost:
    """Memory and time of steps, as measured.

    Attributes:
        parameters: numbers in the model.
        weights: bytes of the parameters and their gradients.
        optimizer: bytes of its state.
        fixed: bytes that a step of any size adds, weights, their average and optimizer among them.
        per_pair: bytes for each pair in the network at once.
        pair_s: seconds of a training step for each pair.
        frame_s: seconds to extract a frame's features.
        smaller: pixels of smaller views' sides, and the share of a step's time that theirs takes.
    """

    parameters: int
    weights: int
    optimizer: int
    fixed: int
    per_pair: int
    pair_s: float
    frame_s: float
    smaller: Sequence[tuple[int, float]] = ()

    def step_memory(self, batch: int, micro_batch: int | None = None) -> int:
        """Bytes that steps add to the process."""
        return (
            self.fixed
            + self.per_pair * min(batch, micro_batch or batch)
            + BYTES_PER_SIMILARITY * (2 * batch) ** 2
        )

    def step_s(self, batch: int, micro_batch: int | None = None) -> float:
        """Seconds of a step."""
        return self.pair_s * batch * (MICRO_BATCH_OVERHEAD if micro_batch and micro_batch < batch else 1)


FitsPredicate = Callable[[int, int | None], bool]


def fits_by_model(cost: StepCost, free: int) -> FitsPredicate:
    """A predicate: a batch, in pieces or not, fits into `free` bytes with a margin, by what was measured."""
    return lambda batch, piece: cost.step_memory(batch, piece) <= USABLE_MEMORY_FRACTION * free


def largest_batch(fits: FitsPredicate, *, micro_batch: int | None = None) -> int:
    """The largest of `BATCH_SIZES` that fits, the smallest if none does."""
    return _largest(lambda n: fits(n, micro_batch), BATCH_SIZES)


def largest_micro_batch(fits: FitsPredicate, batch: int) -> int:
    """The largest piece out of `BATCH_SIZES` in which a batch fits."""
    return min(batch, _largest(lambda n: fits(batch, n), [n for n in BATCH_SIZES if n <= batch] or [batch]))


def _largest(fits: Callable[[int], bool], sizes: Sequence[int]) -> int:
    """The last size before the first that does not fit, at least the first one."""
    largest = sizes[0]
    for n in sizes:
        if not fits(n):
            break
        largest = n
    return largest
