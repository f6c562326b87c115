"""Linear heads on cached features: every task, regularisation and seed is trained in one pass.

Each task keeps the regularisation of lowest validation loss after the last epoch; the heads of several seeds
are averaged, which for linear heads is the same as averaging their logits.

Notation: n labelled frames, C outputs of a task (classes or lesions), S seeds, R strengths of regularisation,
V = R S variants, K outputs of all tasks together.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import PolynomialLR

from simclr_rhd.core.device import one_thread
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.heads.config import HeadConfig
from simclr_rhd.heads.losses import HeadTargets, class_weights, task_losses
from simclr_rhd.heads.model import Heads, calibrate
from simclr_rhd.ssl.encoder.model import FEATURE_DIM

logger = logging.getLogger("simclr_rhd")

BATCH_SIZE = 32
L2_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the L2 penalty that validation chooses from
DEFAULT_L2 = 1e-2  # without validation rows


@dataclass(frozen=True)
class TrainedHeads:
    """The heads of all tasks, trained.

    Attributes:
        heads: the averaged heads, calibrated.
        per_seed: the heads of each seed, calibrated alike.
        l2: {task: strength of its penalty}.
        history: one record per epoch and task.
    """

    heads: Heads
    per_seed: list[Heads]
    l2: dict[str, float]
    history: list[dict[str, Any]]


def l2_strengths(config: HeadConfig) -> Sequence[float]:
    """Strengths of the L2 penalty that validation chooses from."""
    return (config.head_l2,) if isinstance(config.head_l2, float) else L2_GRID


@one_thread()
def train_heads(
    features: np.ndarray, targets: HeadTargets, train: np.ndarray, val: np.ndarray, config: HeadConfig
) -> TrainedHeads:
    """Train one linear head per task with class-weighted cross-entropy and an L2 penalty λ/2 ‖W‖².

    Features are standardised by the training rows. Rows not annotated for a task do not count for it.
    Each task keeps the strength of lowest validation loss after the last epoch, the mean over seeds; without
    annotated validation rows the strength nearest to `DEFAULT_L2`. Its temperature and biases are fitted on
    the validation rows then (`calibration.fit_scaling`), if they have two classes.

    Args:
        features: (n, 960) float32.
        targets: of the same frames.
        train: rows to learn from.
        val: rows to choose on.
        config: epochs, Adam's rate at first, seeds, penalty and class weights.

    Raises:
        UserError: a loss is not finite.
    """
    x, y = torch.from_numpy(features), {task: torch.from_numpy(v) for task, v in targets.values.items()}
    mean, std = x[train].mean(dim=0), robust_std(x[train])
    l2, weighting = l2_strengths(config), config.class_weights
    weights = {task: class_weights(y[task][train], n, weighting) for task, n in targets.n_outputs.items()}
    bank = _Bank(targets.n_outputs, l2, config.head_seeds, seed=config.seed)
    losses = _fit_bank(bank, _Batches((x - mean) / std, y, weights, train, val), config)
    l2_indices = {task: _select_l2(l2, epochs[-1].validation) for task, epochs in losses.items()}
    per_seed = []
    for seed in range(config.head_seeds):
        heads = _new_heads(targets.n_outputs, y, mean, std)
        for task, linear in heads.linear.items():
            weight, bias = bank.parameters_of(task, l2_indices[task])
            linear.load_state_dict({"weight": weight[:, seed].T, "bias": bias[seed]})
        per_seed.append(heads.eval())
    heads = _average_heads(per_seed, _new_heads(targets.n_outputs, y, mean, std))
    calibrate(heads, features, targets, val, weights, weighting)
    for of_seed in per_seed:
        for name in ("temperature", "bias", "prevalence"):
            getattr(of_seed, name).copy_(getattr(heads, name))
    history = [
        epoch.record(task, number, l2_indices[task])
        for task, epochs in losses.items()
        for number, epoch in enumerate(epochs, start=1)
    ]
    return TrainedHeads(heads, per_seed, {task: l2[index] for task, index in l2_indices.items()}, history)


class _Batches(NamedTuple):
    """Standardised features and targets, and the rows to learn from and to choose on."""

    x: Tensor
    y: dict[str, Tensor]
    weights: dict[str, Tensor]
    train: np.ndarray
    val: np.ndarray

    def losses(self, bank: "_Bank", rows: np.ndarray) -> dict[str, Tensor]:
        """{task: (V,)} losses of some rows."""
        return task_losses(bank(self.x[rows]), {task: self.y[task][rows] for task in self.y}, self.weights)


def _fit_bank(bank: "_Bank", data: _Batches, config: HeadConfig) -> dict[str, list["_EpochLosses"]]:
    """Train all variants, the rate falling linearly to 0; {task: losses of each epoch}."""
    optimizer = torch.optim.Adam(bank.parameters(), lr=config.classifier_lr, fused=True)
    schedule = PolynomialLR(optimizer, config.linear_epochs * math.ceil(len(data.train) / BATCH_SIZE))
    history: dict[str, list[_EpochLosses]] = {task: [] for task in bank.columns}
    for epoch in range(1, config.linear_epochs + 1):
        order = make_rng(config.seed, Stream.HEAD_BATCHES, epoch).permutation(data.train)
        for first in range(0, len(order), BATCH_SIZE):
            optimizer.zero_grad()
            losses = data.losses(bank, order[first : first + BATCH_SIZE])
            (sum(of_task.sum() for of_task in losses.values()) + bank.penalty()).backward()
            optimizer.step()
            schedule.step()
        with torch.inference_mode():
            on_train, on_val = data.losses(bank, data.train), data.losses(bank, data.val)
        for task, epochs in history.items():
            means = _EpochLosses(
                bank.mean_over_seeds(on_train.get(task)), bank.mean_over_seeds(on_val.get(task))
            )
            if not means.is_finite():
                raise UserError(
                    f"{task} head: the loss of epoch {epoch} is not finite; lower --classifier-lr"
                )
            epochs.append(means)
    return history


class _Bank(nn.Module):
    """V variants of all heads side by side: strengths, and for each of them seeds."""

    def __init__(self, n_outputs: dict[str, int], l2: Sequence[float], seeds: int, *, seed: int) -> None:
        super().__init__()
        self.columns, first = {}, 0
        for task, n in n_outputs.items():
            self.columns[task], first = slice(first, first + n), first + n
        starts, bound = [], 1 / math.sqrt(FEATURE_DIM)  # as in nn.Linear
        for number in range(seeds):
            start = make_rng(seed, Stream.HEAD_STARTS, number).uniform(-bound, bound, (FEATURE_DIM, first))
            starts.append(torch.from_numpy(start).float())
        self.weight = nn.Parameter(torch.stack(starts * len(l2), dim=1))  # (960, V, K)
        self.bias = nn.Parameter(torch.zeros(len(l2) * seeds, first))
        self.l2_of_variant = torch.tensor(l2).repeat_interleave(seeds)[:, None]  # (V, 1)
        self.seeds = seeds

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 960) standardised features -> {task: (B, V, C) logits}."""
        logits = (x @ self.weight.flatten(1)).unflatten(1, self.bias.shape) + self.bias
        return {task: logits[:, :, columns] for task, columns in self.columns.items()}

    def penalty(self) -> Tensor:
        return (self.weight.square() * self.l2_of_variant).sum() / 2

    def mean_over_seeds(self, losses: Tensor | None) -> list[float] | None:
        """(V,) losses -> those of the R strengths; None stays None."""
        return None if losses is None else losses.view(-1, self.seeds).mean(dim=1).tolist()

    def parameters_of(self, task: str, l2_index: int) -> tuple[Tensor, Tensor]:
        """(960, S, C) weights and (S, C) biases of a task, with one of the strengths."""
        variants = slice(l2_index * self.seeds, (l2_index + 1) * self.seeds)
        columns = self.columns[task]
        return self.weight.detach()[:, variants, columns], self.bias.detach()[variants, columns]


class _EpochLosses(NamedTuple):
    """A task's losses after an epoch by strength of the penalty; None where no row is annotated."""

    training: list[float] | None
    validation: list[float] | None

    def is_finite(self) -> bool:
        return all(math.isfinite(loss) for losses in self for loss in losses or ())

    def record(self, task: str, epoch: int, l2_index: int) -> dict[str, Any]:
        """Return the record of `history.jsonl`, for one strength."""
        loss, val_loss = (None if losses is None else losses[l2_index] for losses in self)
        return {"phase": task, "epoch": epoch, "loss": loss, "val_loss": val_loss}


def _select_l2(l2: Sequence[float], val_losses: list[float] | None) -> int:
    """Return the index of the lowest validation loss; without losses, of the strength nearest the default."""
    if val_losses is None:
        return min(range(len(l2)), key=lambda number: abs(l2[number] - DEFAULT_L2))
    return min(range(len(l2)), key=val_losses.__getitem__)


def _new_heads(n_outputs: dict[str, int], targets: dict[str, Tensor], mean: Tensor, std: Tensor) -> Heads:
    heads = Heads(n_outputs, multilabel=[task for task, values in targets.items() if values.ndim == 2])
    heads.mean.copy_(mean)
    heads.std.copy_(std)
    return heads


def _average_heads(per_seed: list[Heads], heads: Heads) -> Heads:
    states = [of_seed.linear.state_dict() for of_seed in per_seed]
    heads.linear.load_state_dict(
        {name: torch.stack([state[name] for state in states]).mean(dim=0) for name in states[0]}
    )
    return heads.eval()


def robust_std(x: Tensor) -> Tensor:
    """(n, D) features -> (D,) standard deviations to divide by, at least a tenth of their median.

    A feature that hardly varies in training would otherwise decide alone when it does vary elsewhere.
    """
    std = x.std(dim=0, correction=0)
    std = std.clamp(min=0.1 * float(std.median()))
    return torch.where(std > 0, std, 1.0)


def log_heads(trained: TrainedHeads) -> None:
    """Log each task's penalty and its losses after the last epoch."""
    last = {row["phase"]: row for row in trained.history}
    for task, l2 in trained.l2.items():
        val_loss = last[task]["val_loss"]
        val = "no validation frames" if val_loss is None else f"validation {val_loss:.4f}"
        logger.info("%s head: L2 %g, loss %.4f, %s", task, l2, last[task]["loss"], val)
