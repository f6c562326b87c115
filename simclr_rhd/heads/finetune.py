"""Fine-tuning: the encoder and the heads of all tasks learn on together, from views of the labelled frames.

The heads start where linear probing left them: the gradients of random ones would first distort what
pretraining has learnt (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features").

Notation: N stored frames, n labelled ones, B of a batch, s pixels of a view's side, C outputs of a task.
"""

import copy
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.logs import format_duration
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.labels.vocabulary import NOT_ANNOTATED
from simclr_rhd.data.store.shards import Frames
from simclr_rhd.heads.config import FinetuneConfig
from simclr_rhd.heads.cross_validation import CrossValidation
from simclr_rhd.heads.model import Heads
from simclr_rhd.heads.train import BATCH_SIZE, TrainedHeads, calibrate, class_weights, predict, task_losses
from simclr_rhd.ssl.augment import AugmentConfig, random_views, sample_view_params, strengths
from simclr_rhd.ssl.encoder.features import extract
from simclr_rhd.ssl.encoder.model import SimCLR
from simclr_rhd.ssl.optim import default_weight_decay, make_optimizer
from simclr_rhd.ssl.schedule import learning_rate_at

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class FinetuneResult:
    """What fine-tuning gives.

    Attributes:
        encoder: (B, 3, s, s) -> (B, 512), in evaluation mode.
        heads: of its features, calibrated.
        probabilities: {task: (n, C) float64} of the plain views of all labelled frames.
        history: one record per epoch; epoch 0 is the state before training.
    """

    encoder: nn.Module
    heads: Heads
    probabilities: dict[str, np.ndarray]
    history: list[dict[str, Any]]


def finetune(
    encoder: nn.Module,
    heads: Heads,
    frames: np.ndarray | Frames,
    color_modes: np.ndarray,
    rows: np.ndarray,
    targets: dict[str, np.ndarray],
    train: np.ndarray,
    val: np.ndarray,
    *,
    size: int,
    augment_config: AugmentConfig,
    epochs: int,
    learning_rate: float,
    head_learning_rate: float,
    weighting: str,
    seed: int,
    device: torch.device,
    groups: np.ndarray | None = None,
    patience: int = 5,
) -> FinetuneResult:
    """Fine-tune copies of a trained encoder and of its heads, with the heads' class-weighted cross-entropy.

    Each epoch sees one random view of each frame. The epoch of lowest validation loss, the sum over tasks, is
    kept, which may be the state before training; without annotated validation rows the last one. Then the
    calibration is fitted on the validation rows, as in `train.train_heads`.

    Args:
        encoder: (B, 3, s, s) -> (B, 512), on `device`; not changed.
        heads: trained on its features; not changed.
        frames: (N, C, S, S) uint8 store, C = 1 or 3.
        color_modes: (N,) uint8.
        rows: (n,) the labelled frames in the store.
        targets: {task: (n,) class indices, or (n, L) presence of lesions; -1 = not annotated}, in the heads'
            order.
        train: which of the n to learn from.
        val: which of the n to choose on.
        size: s.
        augment_config: of the training views.
        epochs: at most.
        learning_rate: AdamW's peak for the encoder.
        head_learning_rate: AdamW's peak for the heads.
        weighting: of classes, as of `train.class_weights`.
        seed: of the order of the frames and of their views.
        device: where the encoder is.
        groups: (n,) groups, for the calibration.
        patience: epochs without a lower validation loss before stopping.

    Raises:
        UserError: a loss is not finite.
    """
    known = [(values != NOT_ANNOTATED).reshape(len(rows), -1).any(axis=1) for values in targets.values()]
    train = train[np.any(known, axis=0)[train]]
    per_epoch = math.ceil(len(train) / BATCH_SIZE)
    learner = _Learner(
        encoder,
        heads,
        targets,
        train,
        rates=(learning_rate, head_learning_rate),
        weighting=weighting,
        steps=epochs * per_epoch,
        warmup=per_epoch,
    )

    def views(indices: np.ndarray, epoch: int) -> Tensor:
        u, _ = sample_view_params(seed, epoch, rows[indices])
        stored, kind = torch.from_numpy(frames[rows[indices]]), torch.from_numpy(color_modes[rows[indices]])
        x, kind, u = (part.to(device) for part in (stored, kind, u[:, 0]))
        return random_views(x, kind, u, size=size, augment_config=augment_config)

    def features(model: nn.Module, indices: np.ndarray) -> np.ndarray:
        return extract(model, frames, rows[indices], size=size, device=device)

    history: list[dict[str, Any]] = []
    lowest, best_epoch, start = math.inf, 0, time.perf_counter()
    for epoch in range(epochs + 1):
        loss = None
        if epoch > 0:
            order = np.random.default_rng([seed, epoch, 11]).permutation(train)
            batches = np.array_split(order, per_epoch)
            loss = sum(learner.step(views(some, epoch), some) for some in batches) / per_epoch
        val_loss = learner.evaluate(features(learner.encoder, val), val) if len(val) else None
        if not all(value is None or math.isfinite(value) for value in (loss, val_loss)):
            raise UserError(
                f"the loss of fine-tuning is not finite in epoch {epoch}; try a lower --finetune-lr"
            )
        better = val_loss is None or val_loss < lowest
        if better:
            best, best_epoch = copy.deepcopy((learner.encoder, learner.heads)), epoch
            lowest = math.inf if val_loss is None else val_loss
        history.append(
            {"phase": "finetune", "epoch": epoch, "loss": loss, "val_loss": val_loss, "best": better}
        )
        logger.info(_log_line(history[-1], epochs, len(train), time.perf_counter() - start))
        if epoch - best_epoch >= patience:
            break
    best_encoder, best_heads = best
    tuned_features = features(best_encoder, np.arange(len(rows)))
    calibrate(best_heads, tuned_features, targets, learner.weights, val, groups, weighting=weighting)
    return FinetuneResult(best_encoder, best_heads, predict(best_heads, tuned_features), history)


class _Learner:
    """The encoder and the heads that learn, and what moves them."""

    def __init__(
        self,
        encoder: nn.Module,
        heads: Heads,
        targets: dict[str, np.ndarray],
        train: np.ndarray,
        *,
        rates: tuple[float, float],
        weighting: str,
        steps: int,
        warmup: int,
    ) -> None:
        # evaluation mode keeps BatchNorm's statistics those of pretraining: batches of 32 frames of few
        # patients would spoil them
        self.encoder = copy.deepcopy(encoder).requires_grad_(True).eval()
        self.heads = copy.deepcopy(heads)
        self.heads.uncalibrate()
        self.targets = {task: torch.from_numpy(values) for task, values in targets.items()}
        self.weights = {
            task: class_weights(self.targets[task][train], n, weighting)
            for task, n in heads.n_outputs.items()
        }
        decay = default_weight_decay("adamw")
        self.optimizers = [
            make_optimizer(model, "adamw", learning_rate=rate, weight_decay=decay)
            for model, rate in zip((self.encoder, self.heads), rates, strict=True)
        ]
        share = partial(learning_rate_at, steps=steps, warmup=warmup, peak=1.0)
        self.schedulers = [LambdaLR(optimizer, share) for optimizer in self.optimizers]

    def step(self, views: Tensor, indices: np.ndarray) -> float:
        """Learn from a view of each of some annotated frames; their loss before that."""
        features = self.encoder(views).cpu()  # where the heads and the targets are
        loss = torch.cat(list(self._losses(features, indices).values())).sum()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer, schedule in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            schedule.step()
        return loss.item()

    @torch.inference_mode()
    def evaluate(self, features: np.ndarray, indices: np.ndarray) -> float | None:
        """The loss of some frames by their features; None where no annotation counts."""
        losses = self._losses(torch.from_numpy(features), indices)
        return sum(of_task.item() for of_task in losses.values()) if losses else None

    def _losses(self, features: Tensor, indices: np.ndarray) -> dict[str, Tensor]:
        logits = {task: of_task[:, None] for task, of_task in self.heads(features).items()}  # (B, 1, C)
        return task_losses(
            logits, {task: values[indices] for task, values in self.targets.items()}, self.weights
        )


def _log_line(record: dict[str, Any], epochs: int, frames: int, seconds: float) -> str:
    """One readable line for the log; `frames` of an epoch, `seconds` since the beginning."""
    epoch = record["epoch"]
    names = {"loss": "loss", "val_loss": "validation"}
    parts = [f"{name} {record[key]:.4f}" for key, name in names.items() if record[key] is not None]
    if record["best"]:
        parts.append("best so far")
    if epoch > 0:
        left = format_duration(seconds / epoch * (epochs - epoch))
        parts.append(f"{frames * epoch / seconds:.0f} frames/s, at most {left} left")
    return f"finetune epoch {epoch}/{epochs}: {', '.join(parts)}"


def finetune_folds(
    config: FinetuneConfig,
    dataset: Dataset,
    study: CrossValidation,
    models: Sequence[SimCLR],
    trained: Sequence[TrainedHeads],
    device: torch.device,
) -> list[FinetuneResult]:
    """Fine-tune for the model that is kept, if that is another than the folds', and in each fold.

    Args:
        config: of the fine-tuning.
        dataset: the frames.
        study: the labelled ones and their folds.
        models: the one that is kept and, where each fold has its own, those of the folds.
        trained: the heads of the one that is kept, and those of each fold.
        device: where the networks run.
    """
    ways = [(models[0], trained[0], dataset.part[dataset.labelled()])] * (len(study.labelled_set.folds) > 1)
    ways += [
        (models[fold + 1 if models[1:] else 0], trained[fold + 1], of_fold)
        for fold, of_fold in enumerate(study.labelled_set.folds)
    ]
    found = []
    for number, (model, heads, part) in enumerate(ways, start=1):
        logger.info("fine-tuning %d/%d", number, len(ways))
        found.append(
            finetune(
                model.encoder,
                heads.heads,
                dataset.store.frames,
                dataset.store.color_modes,
                dataset.labelled(),
                study.labelled_set.target_values(),
                np.flatnonzero(part == "train"),
                np.flatnonzero(part == "val"),
                size=config.size,
                augment_config=strengths(config),
                epochs=config.finetune_epochs,
                learning_rate=config.finetune_lr,
                head_learning_rate=config.classifier_lr,
                weighting=config.class_weights,
                seed=config.seed,
                device=device,
                groups=study.labelled_set.groups,
            )
        )
    return found
