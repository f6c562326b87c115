"""Estimate of a run from measured steps: memory, time, disk."""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.logs import format_duration
from simclr_rhd.planning.step_cost import (
    BATCH_SIZES,
    StepCost,
    fits_by_model,
    largest_batch,
    largest_micro_batch,
)
from simclr_rhd.report.page.embedding_map import MAX_POINTS
from simclr_rhd.ssl.batches import MAX_VAL_FRAMES
from simclr_rhd.ssl.monitoring.validation import MAX_KNN_FRAMES
from simclr_rhd.ssl.schedule import annealing_epochs

OTHER_FILES_BYTES = 30 << 20  # of pictures, tables, report
# of the later stages, as measured on two cores; against the pretraining they count for little
HEADS_S_PER_FRAME_EPOCH, MAPS_S_PER_FRAME = 9e-5, 5e-3  # for a frame: an epoch of three heads; t-SNE and UMAP
METRICS_S, BASELINES_S_PER_FOLD, FIGURES_S = 5.0, 1.0, 7.0  # once; for the baselines of a fold; once
MAPS_STARTUP_S = 12.0  # until t-SNE and UMAP are imported and compiled
CHECKPOINTS_S_PER_EPOCH = 0.5  # for an epoch's checkpoints


@dataclass(frozen=True)
class Plan:
    """The amounts that a run's time depends on.

    Attributes:
        rows: frames to pretrain on.
        val_frames: held-out frames whose loss is computed after each epoch.
        labelled: labelled frames.
        batch: pairs of a batch.
        micro_batch: pairs of a piece of it, None for one piece.
        epochs: at most.
        patience: epochs without improvement after which it stops.
        knn_every: epochs between two votes of the neighbours, 0 for none.
        linear_epochs: of the heads.
        n_head_fits: times that heads are trained: in folds, on each encoder, on parts of the labels.
        n_baseline_encoders: encoders that are compared with ours, untrained ones above all.
        folds: of the cross-validation, 1 for a single split.
        pretrainings: 1, or one for each fold and one for the model that is kept.
        finetune_epochs: of each fine-tuning at most, 0 for none.
        figures: whether pictures are drawn.
        sizes: pixels of a view's side in each epoch, as planned; none: full size.
        setup_s: seconds until pretraining begins.
        ranks: processes that share a batch.
        waits_for_maps: whether the run ends only once t-SNE and UMAP are there.
    """

    rows: int
    val_frames: int
    labelled: int
    batch: int
    micro_batch: int | None
    epochs: int
    patience: int
    knn_every: int
    linear_epochs: int
    figures: bool
    sizes: tuple[int, ...] = ()
    n_head_fits: int = 4
    n_baseline_encoders: int = 3
    folds: int = 1
    pretrainings: int = 1
    finetune_epochs: int = 0
    setup_s: float = 0.0
    ranks: int = 1
    waits_for_maps: bool = True

    @property
    def pairs(self) -> int:
        """Pairs of views of a batch, at each rank."""
        return max(1, self.batch // self.ranks)

    def epoch_s(self, cost: StepCost, share: float = 1.0) -> float:
        """Seconds of an epoch and what is measured after it; its views take a `share` of full ones' time."""
        knn = min(self.labelled, MAX_KNN_FRAMES) / self.knn_every if self.knn_every else 0
        steps = max(1, self.rows // self.batch)
        val_views = 2 * min(self.val_frames or self.rows, MAX_VAL_FRAMES)
        step_s, frames = cost.step_s(self.pairs, self.micro_batch), share * val_views + knn
        return share * steps * step_s + cost.frame_s * frames + CHECKPOINTS_S_PER_EPOCH

    def share(self, cost: StepCost, size: int) -> float:
        """Time of an epoch of views of this size to one of full size: as measured, else as their area."""
        return dict(cost.smaller).get(size, (size / max(self.sizes)) ** 2)

    def pretraining_s(self, cost: StepCost, *, max_epochs: int) -> float:
        """Seconds of one pretraining with so many epochs at most of each size."""
        if not self.sizes:
            return min(max_epochs, self.epochs) * self.epoch_s(cost)
        counts = {size: min(max_epochs, self.sizes.count(size)) for size in set(self.sizes)}
        return sum(n * self.epoch_s(cost, self.share(cost, size)) for size, n in counts.items())

    def downstream_s(self, cost: StepCost) -> float:
        """Seconds of all that follows pretraining."""
        encoders = self.pretrainings + self.n_baseline_encoders
        finetuned = self.finetune_epochs * (self.folds + (self.folds > 1)) * cost.pair_s / 2
        heads = self.linear_epochs * self.n_head_fits * HEADS_S_PER_FRAME_EPOCH
        evaluation = self.labelled * (heads + finetuned) + METRICS_S + BASELINES_S_PER_FOLD * self.folds
        # beside all but the features
        has_maps = self.figures and self.waits_for_maps
        maps = has_maps * (MAPS_STARTUP_S + MAPS_S_PER_FRAME * min(self.labelled, MAX_POINTS))
        return self.labelled * encoders * cost.frame_s + max(evaluation + FIGURES_S * self.figures, maps)

    def min_seconds(self, cost: StepCost) -> float:
        """Seconds of the run if the first epoch, of each size, stays the best; annealed."""
        spent = self.pretraining_s(cost, max_epochs=self.patience + 1)
        before = min(self.epochs, (self.patience + 1) * len(set(self.sizes) or {0}))
        spent += annealing_epochs(before) * self.epoch_s(cost)
        spent = min(spent, self.pretraining_s(cost, max_epochs=self.epochs))
        return self.setup_s + self.pretrainings * spent + self.downstream_s(cost)

    def planned_seconds(self, cost: StepCost) -> float:
        """Seconds of the run if all epochs are used, of each size as many as planned."""
        spent = self.pretraining_s(cost, max_epochs=self.epochs)
        return self.setup_s + self.pretrainings * spent + self.downstream_s(cost)

    def max_seconds(self, cost: StepCost) -> float:
        """Seconds of the run if all epochs are used, and views grow as early as they can."""
        full_s, smaller = self.epoch_s(cost), set(self.sizes) - {max(self.sizes, default=0)}
        more_s = sum(
            max(0, self.sizes.count(size) - self.patience - 1)
            * (full_s - self.epoch_s(cost, self.share(cost, size)))
            for size in smaller
        )
        return self.planned_seconds(cost) + self.pretrainings * more_s


def estimate_record(cost: StepCost, plan: Plan, *, used: int) -> dict[str, Any]:
    """The foreseen figures: bytes and seconds."""
    return {
        "peak_bytes": used + cost.step_memory(plan.pairs, plan.micro_batch),
        "step_s": cost.step_s(plan.pairs, plan.micro_batch),
        "epoch_s": plan.epoch_s(cost),
        "least_s": plan.min_seconds(cost),
        "most_s": plan.max_seconds(cost),
        **asdict(cost),
    }


def estimate_lines(cost: StepCost, plan: Plan, *, used: int, free: int) -> list[str]:
    """Memory and time of the run, for the log.

    Args:
        cost: of the steps.
        plan: the amounts.
        used: bytes that the process has without the steps.
        free: bytes it may still take.
    """
    needed = used + cost.step_memory(plan.pairs, plan.micro_batch)
    sizes = [n for n in BATCH_SIZES if n <= max(512, 2 * plan.batch)]
    table = ", ".join(f"{n}: {(used + cost.step_memory(n)) / 1e9:.1f}" for n in sizes)
    epoch = plan.epoch_s(cost)
    smallest_share = plan.share(cost, min(plan.sizes)) if plan.sizes else 1
    first_epoch = f"{format_duration(plan.epoch_s(cost, smallest_share))} to " * (smallest_share < 1)
    longest = f"{format_duration(plan.max_seconds(cost))} if views grow as early as they can, "
    longest *= plan.max_seconds(cost) > plan.planned_seconds(cost)
    lines = [
        f"model: {cost.parameters / 1e6:.1f} million parameters; weights and gradients "
        f"{cost.weights / 1e6:.0f} MB, optimizer {cost.optimizer / 1e6:.0f} MB, activations "
        f"{cost.per_pair / 1e6:.1f} MB for each frame of a batch",
        f"memory: about {needed / 1e9:.1f} GB at the most, of {(used + free) / 1e9:.1f} GB; by batch size: "
        f"{table} GB",
        f"time: a step {cost.step_s(plan.pairs, plan.micro_batch):.2f} s, an epoch "
        f"{first_epoch}{format_duration(epoch)}; the whole run "
        f"{format_duration(plan.planned_seconds(cost))} with all {plan.epochs} epochs as planned, "
        f"{longest}{format_duration(plan.min_seconds(cost))} if it stops as early as it can",
    ]
    fits = fits_by_model(cost, free)
    if not fits(plan.pairs, plan.micro_batch):
        batch, micro_batch = largest_batch(fits), largest_micro_batch(fits, plan.pairs)
        suggestions = [f"--batch-size {plan.ranks * batch}"] * fits(batch, None)
        suggestions += [f"--micro-batch {micro_batch} with this batch size"] * fits(plan.pairs, micro_batch)
        lines.append(
            f"WARNING that is more than there is; what fits: "
            f"{' or '.join(suggestions) or 'a smaller --image-size'}"
        )
    return lines


def check_disk_space(save_dir: Path, needed_bytes: int) -> None:
    """Check that the disk has room for `needed_bytes`, those of the files that are replaced included.

    Raises:
        UserError: it has not.
    """
    replaced = sum(path.stat().st_size for path in (*save_dir.glob("*.pt"), *save_dir.glob("fold-*/*.pt")))
    free = shutil.disk_usage(save_dir).free + replaced
    if needed_bytes > free:
        raise UserError(
            f"--save-dir {save_dir}: the run's files need about {needed_bytes / 1e6:.0f} MB, "
            f"{free / 1e6:.0f} MB are free; make room, or name another folder"
        )


def estimate_disk_bytes(cost: StepCost, *, pretrainings: int = 1, models: int = 1) -> int:
    """Bytes of a run's files: two checkpoints of each pretraining, the largest twice while it is replaced."""
    weights = cost.weights // 2
    last = 2 * weights + cost.optimizer  # the weights and their average
    return pretrainings * (weights + last) + last + models * weights + OTHER_FILES_BYTES
