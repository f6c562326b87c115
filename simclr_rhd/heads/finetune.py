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
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.logs import format_duration
from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.labelled_set import LabelledSet
from simclr_rhd.data.labels.vocabulary import NOT_ANNOTATED
from simclr_rhd.data.store.shards import Frames
from simclr_rhd.heads.config import FinetuneConfig
from simclr_rhd.heads.cross_validation import FoldResult, head_targets
from simclr_rhd.heads.losses import HeadTargets, class_weights, task_losses
from simclr_rhd.heads.model import Heads, calibrate, predict
from simclr_rhd.heads.train import BATCH_SIZE
from simclr_rhd.ssl.augment import random_views, sample_view_params
from simclr_rhd.ssl.config import NO_WINDOW, strengths
from simclr_rhd.ssl.encoder.features import extract
from simclr_rhd.ssl.encoder.model import stage_features
from simclr_rhd.ssl.optim import default_weight_decay, make_optimizer
from simclr_rhd.ssl.schedule import annealed_rate_at

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class FinetuneResult:
    """A fine-tuned encoder and its heads.

    Attributes:
        encoder: a ResNet-18, in evaluation mode.
        heads: of its features, calibrated.
        probabilities: {task: (n, C) float64} of the plain views of all labelled frames.
        history: one record per epoch; epoch 0 is the state before training.
    """

    encoder: nn.Module
    heads: Heads
    probabilities: dict[str, np.ndarray]
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class FinetuneData:
    """The n labelled frames of a fine-tuning.

    Attributes:
        frames: (N, C, S, S) uint8 store, C = 1 or 3.
        color_modes: (N,) uint8.
        rows: (n,) the labelled frames in the store.
        targets: of the labelled frames, in the heads' order.
        train: which of the n to learn from.
        val: which of the n to choose on.
    """

    frames: np.ndarray | Frames
    color_modes: np.ndarray
    rows: np.ndarray
    targets: HeadTargets
    train: np.ndarray
    val: np.ndarray

    def annotated(self) -> "FinetuneData":
        """Return a copy whose training frames all have a label for at least one task."""
        known = [
            (values != NOT_ANNOTATED).reshape(len(self.rows), -1).any(axis=1)
            for values in self.targets.values.values()
        ]
        return replace(self, train=self.train[np.any(known, axis=0)[self.train]])


def finetune(
    encoder: nn.Module,
    heads: Heads,
    data: FinetuneData,
    config: FinetuneConfig,
    device: torch.device,
    *,
    patience: int = 5,
) -> FinetuneResult:
    """Fine-tune copies of a trained encoder and of its heads, with the heads' class-weighted cross-entropy.

    Each epoch sees one random view of each frame. The epoch of lowest validation loss, the sum over tasks, is
    kept, which may be the state before training; without annotated validation rows the last one. Then the
    calibration is fitted on the validation rows, as in `train.train_heads`.

    Args:
        encoder: a ResNet-18, on `device`; not changed.
        heads: trained on its features; not changed.
        data: the frames.
        config: size and strength of the views, epochs, peak learning rate, class weights, seed.
        device: where the encoder is.
        patience: epochs without a lower validation loss before stopping.

    Raises:
        UserError: a loss is not finite.
    """
    learner = _Learner(encoder, heads, data.annotated(), config, device)
    epochs, history = config.finetune_epochs, list[dict[str, Any]]()
    lowest, best_epoch, start = math.inf, 0, time.perf_counter()
    for epoch in range(epochs + 1):
        loss = learner.train_epoch(epoch) if epoch > 0 else None
        val_loss = learner.val_loss()
        if not all(value is None or math.isfinite(value) for value in (loss, val_loss)):
            raise UserError(f"fine-tuning: the loss of epoch {epoch} is not finite; lower --finetune-lr")
        better = val_loss is None or val_loss < lowest
        if better:
            best, best_epoch = copy.deepcopy((learner.encoder, learner.heads)), epoch
            lowest = math.inf if val_loss is None else val_loss
        history.append(
            {"phase": "finetune", "epoch": epoch, "loss": loss, "val_loss": val_loss, "best": better}
        )
        logger.info(_log_line(history[-1], epochs, len(learner.data.train), time.perf_counter() - start))
        if epoch - best_epoch >= patience:
            break
    best_encoder, best_heads = best
    features = extract(best_encoder, data.frames, data.rows, size=config.size, device=device)
    calibrate(best_heads, features, data.targets, data.val, learner.weights, config.class_weights)
    return FinetuneResult(best_encoder, best_heads, predict(best_heads, features), history)


class _Learner:
    """The encoder and the heads that learn, their optimizer and targets."""

    def __init__(
        self,
        encoder: nn.Module,
        heads: Heads,
        data: FinetuneData,
        config: FinetuneConfig,
        device: torch.device,
    ) -> None:
        # evaluation mode keeps BatchNorm's statistics those of pretraining: batches of 32 frames of few
        # patients would spoil them
        self.encoder = copy.deepcopy(encoder).requires_grad_(True).eval()
        self.heads = copy.deepcopy(heads)
        self.heads.uncalibrate()
        self.data, self.config, self.device = data, config, device
        self.targets = {task: torch.from_numpy(values) for task, values in data.targets.values.items()}
        self.weights = {
            task: class_weights(self.targets[task][data.train], n, config.class_weights)
            for task, n in heads.n_outputs.items()
        }
        model, decay = nn.ModuleList([self.encoder, self.heads]), default_weight_decay("adamw")
        self.optimizer = make_optimizer(model, "adamw", learning_rate=config.finetune_lr, weight_decay=decay)
        self.per_epoch = math.ceil(len(data.train) / BATCH_SIZE)
        annealing = self.per_epoch, max(1, (config.finetune_epochs - 1) * self.per_epoch)
        share = partial(annealed_rate_at, warmup=self.per_epoch, annealing=annealing, peak=1.0)
        self.schedule = LambdaLR(self.optimizer, share)

    def train_epoch(self, epoch: int) -> float:
        """Learn from one view of each frame; the mean loss of the batches."""
        order = make_rng(self.config.seed, Stream.FINETUNE_BATCHES, epoch).permutation(self.data.train)
        batches = np.array_split(order, self.per_epoch)
        return sum(self._step(self._views(batch, epoch), batch) for batch in batches) / self.per_epoch

    def _views(self, indices: np.ndarray, epoch: int) -> Tensor:
        data, rows = self.data, self.data.rows[indices]
        view_params, _ = sample_view_params(self.config.seed, epoch, rows, Stream.FINETUNE_VIEWS)
        stored, color_modes = torch.from_numpy(data.frames[rows]), torch.from_numpy(data.color_modes[rows])
        inputs = (part.to(self.device) for part in (stored, color_modes, view_params[:, 0]))
        size, augment_config = self.config.size, strengths(self.config)
        # a window could hide what the label names
        return random_views(*inputs, size=size, augment_config=replace(augment_config, window_min=NO_WINDOW))

    def _step(self, views: Tensor, indices: np.ndarray) -> float:
        """Learn from a view of each of some annotated frames; their loss before that."""
        features = stage_features(self.encoder, views).cpu()  # where the heads and the targets are
        loss = torch.cat(list(self._losses(features, indices).values())).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    @torch.inference_mode()
    def val_loss(self) -> float | None:
        """The loss of the validation frames; None where no annotation counts."""
        data, val = self.data, self.data.val
        if len(val) == 0:
            return None
        size = self.config.size
        features = extract(self.encoder, data.frames, data.rows[val], size=size, device=self.device)
        losses = self._losses(torch.from_numpy(features), val)
        return sum(of_task.item() for of_task in losses.values()) if losses else None

    def _losses(self, features: Tensor, indices: np.ndarray) -> dict[str, Tensor]:
        logits = {task: of_task[:, None] for task, of_task in self.heads(features).items()}  # (B, 1, C)
        targets = {task: values[indices] for task, values in self.targets.items()}
        return task_losses(logits, targets, self.weights)


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
    labelled_set: LabelledSet,
    results: Sequence[FoldResult],
    device: torch.device,
) -> list[FinetuneResult]:
    """Fine-tune the encoders and heads of some divisions of the frames, each on its own training part."""
    targets, tuned = head_targets(labelled_set), []
    for number, result in enumerate(results, start=1):
        logger.info("fine-tuning %d/%d", number, len(results))
        data = FinetuneData(
            dataset.store.frames,
            dataset.store.color_modes,
            dataset.labelled(),
            targets,
            np.flatnonzero(result.part == "train"),
            np.flatnonzero(result.part == "val"),
        )
        tuned.append(finetune(result.encoder, result.trained.heads, data, config, device))
    return tuned
