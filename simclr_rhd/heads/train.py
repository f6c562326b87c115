"""Linear heads on cached features: every task, regularisation and seed is trained in one pass.

Each task keeps the regularisation and the epoch of lowest validation loss; the heads of several seeds are
averaged, which for linear heads is the same as averaging their logits.

Notation: n labelled frames, C outputs of a task (classes or lesions), S seeds, R strengths of regularisation,
V = R S variants, K outputs of all tasks together.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    Each task keeps the strength and epoch of lowest validation loss, the mean over seeds; without annotated
    validation rows the strength `DEFAULT_L2` (or the only one) and the last epoch. Its temperature and biases
    are fitted on the validation rows then (`calibration.fit_scaling`), if they have two classes.

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
    selection = _fit_bank(bank, _Batches((x - mean) / std, y, weights, train, val), config)
    l2_indices = {task: of_task.select_l2(l2) for task, of_task in selection.items()}
    per_seed = []
    for seed in range(config.head_seeds):
        heads = _new_heads(targets.n_outputs, y, mean, std)
        for task, linear in heads.linear.items():
            weight, bias = selection[task].best_weights[l2_indices[task]]
            linear.load_state_dict({"weight": weight[:, seed].T, "bias": bias[seed]})
        per_seed.append(heads.eval())
    heads = _average_heads(per_seed, _new_heads(targets.n_outputs, y, mean, std))
    calibrate(heads, features, targets, val, weights, weighting)
    for of_seed in per_seed:
        for name in ("temperature", "bias", "prevalence"):
            getattr(of_seed, name).copy_(getattr(heads, name))
    history = [row for task, of_task in selection.items() for row in of_task.records(l2_indices[task])]
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


def _fit_bank(bank: "_Bank", data: _Batches, config: HeadConfig) -> dict[str, "_SelectionHistory"]:
    """Train all variants, the rate falling linearly to 0; {task: losses by epoch, weights of the best}."""
    selection = {task: _SelectionHistory(task, len(l2_strengths(config))) for task in bank.columns}
    optimizer = torch.optim.Adam(bank.parameters(), lr=config.classifier_lr, fused=True)
    schedule = PolynomialLR(optimizer, config.linear_epochs * math.ceil(len(data.train) / BATCH_SIZE))
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
            for task, of_task in selection.items():
                of_task.update(epoch, on_train.get(task), on_val.get(task), bank)
    return selection


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

    def copy(self, task: str, l2_index: int) -> tuple[Tensor, Tensor]:
        """(960, S, C) weights and (S, C) biases of a task, with one of the strengths."""
        variants = slice(l2_index * self.seeds, (l2_index + 1) * self.seeds)
        columns = self.columns[task]
        return self.weight[:, variants, columns].clone(), self.bias[variants, columns].clone()


@dataclass
class _SelectionHistory:
    """A task's losses by epoch, and the weights of each strength's best epoch."""

    task: str
    n_strengths: int
    losses: list[tuple[list[float] | None, list[float] | None]] = field(default_factory=list)
    best: dict[int, float] = field(default_factory=dict)
    best_weights: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def update(self, epoch: int, loss: Tensor | None, val_loss: Tensor | None, bank: _Bank) -> None:
        """Add an epoch's losses, (V,) each; None where no row counts."""
        means = [
            None if of is None else of.view(self.n_strengths, -1).mean(dim=1).tolist()
            for of in (loss, val_loss)
        ]
        if not all(math.isfinite(value) for values in means for value in values or ()):
            raise UserError(
                f"{self.task} head: the loss of epoch {epoch} is not finite; lower --classifier-lr"
            )
        self.losses.append((means[0], means[1]))
        for strength in range(self.n_strengths):
            value = math.inf if means[1] is None else means[1][strength]
            if means[1] is None or value < self.best.get(strength, math.inf):
                self.best[strength], self.best_weights[strength] = value, bank.copy(self.task, strength)

    def select_l2(self, l2: Sequence[float]) -> int:
        """The number of the strength with the lowest validation loss."""
        if len(l2) > 1 and math.inf in self.best.values():  # nothing to choose on
            return min(range(len(l2)), key=lambda number: abs(math.log(l2[number] / DEFAULT_L2)))
        return min(self.best, key=self.best.__getitem__)

    def records(self, l2_index: int) -> list[dict[str, Any]]:
        """Return one record per epoch, for one penalty strength."""
        rows: list[dict[str, Any]] = []
        lowest = math.inf
        for epoch, (loss, val_loss) in enumerate(self.losses, start=1):
            train, now = (None if of is None else of[l2_index] for of in (loss, val_loss))
            better = now is None or now < lowest
            lowest = now if better and now is not None else lowest
            rows.append({"phase": self.task, "epoch": epoch, "loss": train, "val_loss": now, "best": better})
        return rows


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


def log_heads(trained: TrainedHeads, epochs: int) -> None:
    """Log the epoch and penalty that each task's head keeps, of so many epochs."""
    for task, l2 in trained.l2.items():
        of_task = [row for row in trained.history if row["phase"] == task]
        best = [row for row in of_task if row["best"]][-1]
        val = "no validation frames" if best["val_loss"] is None else f"validation {best['val_loss']:.4f}"
        logger.info(
            "%s head: epoch %d/%d kept, L2 %g, loss %.4f, %s",
            *(task, best["epoch"], epochs, l2, best["loss"], val),
        )
