"""The sizes of views over a pretraining: small ones first, which cost little, then larger ones.

A step costs about as the views' area does (in bfloat16 small ones cost more), and what a contrastive loss
learns first is coarse. So the same time holds up to twice the epochs, and the encoder ends better than at one
size (`benchmarks/RECIPE.md`; progressive resizing is known from supervised training: Tan & Le 2021,
EfficientNetV2, section 3.2).
"""

import math
from collections.abc import Sequence

from simclr_rhd.ssl.config import ViewConfig

ANNEALING_FRACTION = 0.2  # epochs of the annealing for each epoch before it
SIZE_FRACTIONS = (1 / 2, 3 / 4, 1)  # of a view's side, from stage to stage
MIN_SIZE = 32  # pixels: an encoder that divides the side by 32 sees nothing in less
SIZE_MULTIPLE = 8  # pixels that sides are multiples of, but for the last one


def annealing_epochs(before: int) -> int:
    """How many epochs the learning rate takes to fall to 0 after so many epochs."""
    return max(1, math.ceil(ANNEALING_FRACTION * before))


def stable_epochs(epochs: int) -> int:
    """The epochs before the annealing of a course of so many that is not ended early."""
    return next(n for n in range(epochs) if n + annealing_epochs(n) >= epochs)


def progressive_sizes(image_size: int) -> tuple[int, ...]:
    """Pixels of a view's side in each stage, rising to `image_size`."""
    small = {
        max(MIN_SIZE, round(share * image_size / SIZE_MULTIPLE) * SIZE_MULTIPLE)
        for share in SIZE_FRACTIONS[:-1]
    }
    return (*sorted(size for size in small if size < image_size), image_size)


def sizes_of(config: ViewConfig) -> tuple[int, ...]:
    """Pixels of a view's side, from stage to stage of the pretraining."""
    return progressive_sizes(config.size) if config.view_sizes == "growing" else (config.size,)


def first_stage_epochs(sizes: Sequence[int], epochs: int) -> int:
    """How many of so many epochs have the first of these sizes, if each size is given the same time by area.

    The last one has an epoch, whatever else has none.
    """
    times = [1 / size**2 for size in sizes]  # epochs that a time holds
    if len(sizes) == 1:
        return epochs
    return max(0, min(int(times[0] / sum(times) * epochs), epochs - len(sizes) + 1))


def size_per_epoch(sizes: Sequence[int], epochs: int) -> list[int]:
    """The size of each epoch's views, if nothing ends a stage before its time; the annealing has the last."""
    sizes_so_far: list[int] = []
    for stage, size in enumerate(sizes):
        sizes_so_far += [size] * first_stage_epochs(sizes[stage:], epochs - len(sizes_so_far))
    stable = stable_epochs(epochs)
    return sizes_so_far[:stable] + [sizes[-1]] * (epochs - stable)
