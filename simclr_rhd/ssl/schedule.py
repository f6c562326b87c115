"""The course of a pretraining: the sizes of views and the learning rate, until early stopping or the end.

Views are small at first, which cost little, then larger.

A step costs about as the views' area does (in bfloat16 small ones cost more), and what a contrastive loss
learns first is coarse. So the same time holds up to twice the epochs, and the encoder ends better than at one
size (`benchmarks/RECIPE.md`; progressive resizing is known from supervised training: Tan & Le 2021,
EfficientNetV2, section 3.2).
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from simclr_rhd.runs.checkpoint import typed_value
from simclr_rhd.ssl.config import ViewConfig

ANNEALING_FRACTION = 0.2  # epochs of the annealing for each epoch before it
SIZE_FRACTIONS = (1 / 2, 3 / 4, 1)  # of a view's side, from stage to stage
MIN_SIZE = 32  # pixels: an encoder that divides the side by 32 sees nothing in less
SIZE_MULTIPLE = 8  # pixels that sides are multiples of, but for the last one


def annealing_epochs(before: int) -> int:
    """Number of epochs in which the learning rate falls to 0, after so many epochs."""
    return max(1, math.ceil(ANNEALING_FRACTION * before))


@cache
def stable_epochs(epochs: int) -> int:
    """The epochs before the annealing of a course of so many that is not ended early."""
    return next(n for n in range(epochs) if n + annealing_epochs(n) >= epochs)


def annealed_rate_at(step: int, *, warmup: int, annealing: tuple[int, int] | None, peak: float) -> float:
    """Linear warm-up to `peak`, which then stays until an annealing lowers it to 0 as a half cosine.

    The course before the annealing does not depend on how long the training may last, so that a training can
    end when it is time, and still end annealed (Hu et al. 2024, MiniCPM, section 4: warm-up, stable, decay).
    The cosine is equation 5 of Loshchilov & Hutter 2017.

    Args:
        step: from 0.
        warmup: steps.
        annealing: its first step and its steps; None while none has begun.
        peak: the highest rate.
    """
    rate = peak * min(1.0, (step + 1) / warmup) if warmup else peak
    if annealing is None or step < annealing[0]:
        return rate
    first, steps = annealing
    return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - first) / steps)))


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
    """Number of epochs, of so many, with the first of these sizes, if all sizes have the same time by area.

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


class Schedule:
    """Position of a run in its course: the stages of growing views, then the annealing, which ends it.

    A monitored figure that stops getting better ends a stage; at full size it begins the annealing.

    Args:
        epochs: at most.
        sizes: pixels of a view's side, from stage to stage.

    Attributes:
        epochs_done: of the run.
        stage: number of the size.
        stage_start: epochs before the stage.
        annealing: the epochs before the learning rate's fall, and its epochs; None before it.
        best: the monitored figure of the stage's best epoch, lower is better.
        epochs_without_improvement: since that epoch.
    """

    def __init__(self, epochs: int, sizes: Sequence[int]) -> None:
        self.epochs, self.sizes, self.epochs_done = epochs, tuple(sizes), 0
        self.best, self.epochs_without_improvement = math.inf, 0
        self.stage, self.stage_start = 0, 0
        self.annealing: list[int] | None = None
        self._advance()

    @property
    def size(self) -> int:
        """Pixels of a view's side in the epoch that is being trained."""
        return self.sizes[self.stage]

    @property
    def last_epoch(self) -> int:
        """The epoch that ends the run, as far as is known."""
        return sum(self.annealing) if self.annealing else self.epochs

    def is_finished(self) -> bool:
        """Return True once all epochs are done, or those of the annealing."""
        return self.epochs_done >= self.last_epoch

    def improves(self, value: float, min_improvement: float) -> bool:
        """Take in an epoch's figure; whether the epoch is the best one: always in the annealing."""
        better = self.annealing is not None or value < self.best - min_improvement
        self.best = value if better else self.best
        self.epochs_without_improvement = 0 if better else self.epochs_without_improvement + 1
        return better

    def end_epoch(self) -> None:
        """Go on to the next epoch."""
        self.epochs_done += 1
        self._advance()

    def end_stage(self) -> None:
        """Go on with larger views, or where they are of full size already, with the annealing."""
        if not self._in_last_stage():
            self._next_stage()
        elif self.annealing is None and self.epochs_done < self.epochs:
            self._start_annealing()

    def shorten(self, epochs: int) -> None:
        """Let the course end after so many epochs, if it would end later; an annealing keeps its epochs."""
        if self.annealing is None:
            self.epochs = min(self.epochs, max(epochs, self.epochs_done + 1))
            self._advance()

    def state(self) -> dict[str, Any]:
        """The position, in JSON types, for `load_state`."""
        return {
            "epochs": self.epochs,
            "best": self.best,
            "stale": self.epochs_without_improvement,
            "stage": self.stage,
            "began": self.stage_start,
            "annealing": self.annealing,
        }

    def load_state(self, state: Mapping[str, Any], epochs_done: int) -> None:
        """Go back to a `state`, after so many epochs.

        Raises:
            ValueError: it is not one, or of another run.
        """
        self.epochs = typed_value({"epochs": self.epochs, **state}, "epochs", int)  # older ones have none
        self.best = typed_value(state, "best", float)
        self.epochs_without_improvement = typed_value(state, "stale", int)
        self.stage, self.stage_start = typed_value(state, "stage", int), typed_value(state, "began", int)
        self.annealing = None if state["annealing"] is None else typed_value(state, "annealing", list)
        if not 0 <= self.stage < len(self.sizes):
            raise ValueError(f"stage {self.stage}")
        self.epochs_done = epochs_done

    def _advance(self) -> None:
        """Begin what it is time for: larger views, or the annealing, so that it ends with the last epoch.

        Stages whose epochs are used up are left; the stages after them share what epochs are left.
        """
        if self.annealing is None and stable_epochs(self.epochs) <= self.epochs_done < self.epochs:
            self._start_annealing()
        while self.annealing is None and not self._in_last_stage():
            planned_epochs = first_stage_epochs(self.sizes[self.stage :], self.epochs - self.stage_start)
            if self.epochs_done < self.stage_start + planned_epochs:
                break
            self._next_stage()

    def _in_last_stage(self) -> bool:
        return self.stage == len(self.sizes) - 1

    def _next_stage(self) -> None:
        """Go on with larger views; what was best with smaller ones counts no longer."""
        self.stage, self.stage_start = self.stage + 1, self.epochs_done
        self.best, self.epochs_without_improvement = math.inf, 0

    def _start_annealing(self) -> None:
        """Let the learning rate fall to 0 from here on, with views of full size; then the run ends."""
        while not self._in_last_stage():
            self._next_stage()
        before = self.epochs_done
        self.annealing = [before, min(annealing_epochs(before), self.epochs - before)]
