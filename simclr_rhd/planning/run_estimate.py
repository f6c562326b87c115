"""What a run will take, reckoned from measured steps: memory, time, the best batch.

Notation: n pairs, in the network at once.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.process import format_duration
from simclr_rhd.report.page.embedding_map import MOST
from simclr_rhd.ssl.batches import WATCHED_MOST
from simclr_rhd.ssl.monitoring.validation import KNN_MOST
from simclr_rhd.ssl.schedule import annealing_epochs

LOSS_BYTES = 4 * 4  # of one similarity: a float32 in each of four tables
AGAIN = 4 / 3  # time of a step in pieces to that in one: the forward pass, a third, is done twice
MARGIN = 0.85  # of the available memory may be used
OTHER_FILES = 30 << 20  # bytes of pictures, tables, report
# of the later stages, as measured on two cores; against the pretraining they count for little
HEAD_S, MAP_S = 5e-5, 5e-3  # for a frame: an epoch of three heads; t-SNE and UMAP
METRICS_S, FOLD_S, PICTURES_S = 5.0, 1.0, 7.0  # once; for the comparators of a fold; once
MAPS_S = 12.0  # until t-SNE and UMAP are imported and compiled
SAVE_S = 0.5  # for an epoch's checkpoints
BATCHES = tuple(2**k for k in range(4, 13))  # sizes that 'auto' chooses from, and the table shows


@dataclass(frozen=True)
class Cost:
    """What steps were measured to take.

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
        return self.fixed + self.per_pair * min(batch, micro_batch or batch) + LOSS_BYTES * (2 * batch) ** 2

    def step_s(self, batch: int, micro_batch: int | None = None) -> float:
        """Seconds of a step."""
        return self.pair_s * batch * (AGAIN if micro_batch and micro_batch < batch else 1)


Fits = Callable[[int, int | None], bool]


def fits_by_model(cost: Cost, free: int) -> Fits:
    """Whether a batch, in pieces or not, fits into `free` bytes with a margin, by what was measured."""
    return lambda batch, piece: cost.step_memory(batch, piece) <= MARGIN * free


def largest_batch(fits: Fits, *, in_pieces: int | None = None) -> int:
    """The largest of `BATCHES` that fits, the smallest if none does."""
    return _largest(lambda n: fits(n, in_pieces), BATCHES)


def largest_piece(fits: Fits, batch: int) -> int:
    """The largest piece out of `BATCHES` in which a batch fits."""
    return min(batch, _largest(lambda n: fits(batch, n), [n for n in BATCHES if n <= batch] or [batch]))


def _largest(fits: Callable[[int], bool], sizes: Sequence[int]) -> int:
    """The last size before the first that does not fit, at least the first one."""
    found = sizes[0]
    for n in sizes:
        if not fits(n):
            break
        found = n
    return found


@dataclass(frozen=True)
class Plan:
    """The amounts that a run's time depends on.

    Attributes:
        rows: frames to pretrain on.
        watched: frames whose loss is watched after each epoch.
        labelled: labelled frames.
        batch: pairs of a batch.
        micro_batch: pairs of a piece of it, None for one piece.
        epochs: at most.
        patience: epochs without improvement after which it stops.
        knn_every: epochs between two votes of the neighbours, 0 for none.
        linear_epochs: of the heads.
        fits: times that heads are trained: in folds, on each encoder, on parts of the labels.
        rivals: encoders that are compared with ours, untrained ones above all.
        folds: of the cross-validation, 1 for a single split.
        pretrainings: 1, or one for each fold and one for the model that is kept.
        finetune_epochs: of each fine-tuning at most, 0 for none.
        figures: whether pictures are drawn.
        sizes: pixels of a view's side in each epoch, as planned; none: full size.
        before_s: seconds until pretraining begins.
        ranks: processes that share a batch.
    """

    rows: int
    watched: int
    labelled: int
    batch: int
    micro_batch: int | None
    epochs: int
    patience: int
    knn_every: int
    linear_epochs: int
    figures: bool
    sizes: tuple[int, ...] = ()
    fits: int = 4
    rivals: int = 3
    folds: int = 1
    pretrainings: int = 1
    finetune_epochs: int = 0
    before_s: float = 0.0
    ranks: int = 1

    @property
    def pairs(self) -> int:
        """Of a batch, at each rank."""
        return max(1, self.batch // self.ranks)

    def epoch_s(self, cost: Cost, share: float = 1.0) -> float:
        """Seconds of an epoch and what is measured after it; its views take a `share` of full ones' time."""
        knn = min(self.labelled, KNN_MOST) / self.knn_every if self.knn_every else 0
        steps = max(1, self.rows // self.batch)
        watched = 2 * min(self.watched or self.rows, WATCHED_MOST)
        step_s, frames = cost.step_s(self.pairs, self.micro_batch), share * watched + knn
        return share * steps * step_s + cost.frame_s * frames + SAVE_S

    def share(self, cost: Cost, size: int) -> float:
        """What an epoch of views of this size takes of one of full size: as measured, else as their area."""
        return dict(cost.smaller).get(size, (size / max(self.sizes)) ** 2)

    def pretraining_s(self, cost: Cost, *, at_most: int) -> float:
        """Seconds of one pretraining with so many epochs at most of each size."""
        if not self.sizes:
            return min(at_most, self.epochs) * self.epoch_s(cost)
        counts = {size: min(at_most, self.sizes.count(size)) for size in set(self.sizes)}
        return sum(n * self.epoch_s(cost, self.share(cost, size)) for size, n in counts.items())

    def after_s(self, cost: Cost) -> float:
        """Seconds of all that follows pretraining."""
        encoders = self.pretrainings + self.rivals
        finetuned = self.finetune_epochs * (self.folds + (self.folds > 1)) * cost.pair_s / 2
        heads = self.linear_epochs * self.fits * HEAD_S
        studied = self.labelled * (heads + finetuned) + METRICS_S + FOLD_S * self.folds
        maps = self.figures * (MAPS_S + MAP_S * min(self.labelled, MOST))  # beside all but the features
        return self.labelled * encoders * cost.frame_s + max(studied + PICTURES_S * self.figures, maps)

    def least_s(self, cost: Cost) -> float:
        """Seconds of the run if the first epoch, of each size, stays the best; annealed."""
        spent = self.pretraining_s(cost, at_most=self.patience + 1)
        before = min(self.epochs, (self.patience + 1) * len(set(self.sizes) or {0}))
        spent += annealing_epochs(before) * self.epoch_s(cost)
        spent = min(spent, self.pretraining_s(cost, at_most=self.epochs))
        return self.before_s + self.pretrainings * spent + self.after_s(cost)

    def most_s(self, cost: Cost) -> float:
        """Seconds of the run if all epochs are used, of each size as many as planned."""
        spent = self.pretraining_s(cost, at_most=self.epochs)
        return self.before_s + self.pretrainings * spent + self.after_s(cost)


def facts(cost: Cost, plan: Plan, *, used: int) -> dict[str, Any]:
    """The foreseen figures: bytes and seconds."""
    return {
        "peak_bytes": used + cost.step_memory(plan.pairs, plan.micro_batch),
        "step_s": cost.step_s(plan.pairs, plan.micro_batch),
        "epoch_s": plan.epoch_s(cost),
        "least_s": plan.least_s(cost),
        "most_s": plan.most_s(cost),
        **asdict(cost),
    }


def lines(cost: Cost, plan: Plan, *, used: int, free: int) -> list[str]:
    """What the run will take, for the log.

    Args:
        cost: of the steps.
        plan: the amounts.
        used: bytes that the process has without the steps.
        free: bytes it may still take.
    """
    need = used + cost.step_memory(plan.pairs, plan.micro_batch)
    sizes = [n for n in BATCHES if n <= max(512, 2 * plan.batch)]
    table = ", ".join(f"{n}: {(used + cost.step_memory(n)) / 1e9:.1f}" for n in sizes)
    epoch = plan.epoch_s(cost)
    least = plan.share(cost, min(plan.sizes)) if plan.sizes else 1
    first = f"{format_duration(plan.epoch_s(cost, least))} to " * (least < 1)
    found = [
        f"model: {cost.parameters / 1e6:.1f} million parameters; weights and gradients "
        f"{cost.weights / 1e6:.0f} MB, optimizer {cost.optimizer / 1e6:.0f} MB, activations "
        f"{cost.per_pair / 1e6:.1f} MB for each frame of a batch",
        f"memory: about {need / 1e9:.1f} GB at the most, of {(used + free) / 1e9:.1f} GB; by batch size: "
        f"{table} GB",
        f"time: a step {cost.step_s(plan.pairs, plan.micro_batch):.2f} s, an epoch "
        f"{first}{format_duration(epoch)}; "
        f"the whole run {format_duration(plan.most_s(cost))} with all {plan.epochs} epochs as planned, "
        f"{format_duration(plan.least_s(cost))} if it stops as early as it can",
    ]
    fits = fits_by_model(cost, free)
    if not fits(plan.pairs, plan.micro_batch):
        batch, piece = largest_batch(fits), largest_piece(fits, plan.pairs)
        ways = [f"--batch-size {plan.ranks * batch}"] * fits(batch, None)
        ways += [f"--micro-batch {piece} with this batch size"] * fits(plan.pairs, piece)
        found.append(
            f"WARNING that is more than there is; what fits: {' or '.join(ways) or 'a smaller --image-size'}"
        )
    return found


def check_room(save_dir: Path, need: int) -> None:
    """See that the disk has room for `need` bytes, those of the files that are replaced included.

    Raises:
        UserError: it has not.
    """
    there = sum(path.stat().st_size for path in (*save_dir.glob("*.pt"), *save_dir.glob("fold-*/*.pt")))
    free = shutil.disk_usage(save_dir).free + there
    if need > free:
        raise UserError(
            f"--save-dir {save_dir}: the run's files need about {need / 1e6:.0f} MB, {free / 1e6:.0f} MB are "
            "free; make room, or name another folder"
        )


def disk(cost: Cost, *, pretrainings: int = 1, models: int = 1) -> int:
    """Bytes of a run's files: two checkpoints of each pretraining, the largest twice while it is replaced."""
    weights = cost.weights // 2
    last = 2 * weights + cost.optimizer  # the weights and their average
    return pretrainings * (weights + last) + last + models * weights + OTHER_FILES
