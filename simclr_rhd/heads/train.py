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
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_rhd.core.device import one_thread
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.data.labels.vocabulary import NOT_ANNOTATED
from simclr_rhd.heads.calibration import fit_scaling
from simclr_rhd.heads.config import HeadConfig
from simclr_rhd.heads.model import Heads
from simclr_rhd.ssl.encoder.model import FEATURE_DIM

logger = logging.getLogger("simclr_rhd")

BATCH_SIZE = 32
L2_GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the L2 penalty that validation chooses from
DEFAULT_L2 = 1e-2  # without validation rows
PATIENCE_EPOCHS = 20  # epochs without a lower validation loss of any variant, after which training ends
WEIGHTING_POWERS = {
    "balanced": 1.0,
    "sqrt": 0.5,
    "none": 0.0,
}  # power of a class's count that divides its weight


@dataclass(frozen=True)
class TrainedHeads:
    """What training the heads gives.

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


def options_of(config: HeadConfig) -> dict[str, Any]:
    """The options of `train_heads` that a configuration decides."""
    return {
        "epochs": config.linear_epochs,
        "learning_rate": config.classifier_lr,
        "seed": config.seed,
        "seeds": config.head_seeds,
        "l2": (config.head_l2,) if isinstance(config.head_l2, float) else L2_GRID,
        "weighting": config.class_weights,
    }


@one_thread()
def train_heads(
    features: np.ndarray,
    targets: dict[str, np.ndarray],
    n_outputs: dict[str, int],
    train: np.ndarray,
    val: np.ndarray,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    seeds: int = 1,
    l2: Sequence[float] = L2_GRID,
    weighting: str = "balanced",
    groups: np.ndarray | None = None,
) -> TrainedHeads:
    """Train one linear head per task with class-weighted cross-entropy and an L2 penalty.

    Features are standardised by the training rows. Rows not annotated for a task do not count for it.
    Each task keeps the strength and epoch of lowest validation loss, the mean over seeds; without annotated
    validation rows the strength `DEFAULT_L2` (or the only one) and the last epoch. Its temperature and biases
    are fitted on the validation rows then (`calibration.fit_scaling`), if they have two classes.

    Args:
        features: (n, 512) float32.
        targets: {task: (n,) class indices, or (n, L) presence of lesions; -1 = not annotated}.
        n_outputs: {task: number of classes or lesions}.
        train: rows to learn from.
        val: rows to choose on.
        epochs: passes over the training rows at most.
        learning_rate: of Adam.
        seed: of the weights and of the order of rows.
        seeds: S, how many heads are averaged.
        l2: strengths λ of the penalty λ/2 ‖W‖², one of which is chosen.
        weighting: of classes: 'balanced' (inverse to their count), 'sqrt' (to its root) or 'none'.
        groups: (n,) groups, for the calibration.

    Raises:
        UserError: a loss is not finite.
    """
    x, y = torch.from_numpy(features), {task: torch.from_numpy(values) for task, values in targets.items()}
    mean, std = x[train].mean(dim=0), robust_std(x[train])
    x = (x - mean) / std
    bank = _Bank(n_outputs, l2, seeds, seed=seed)
    weights = {task: class_weights(y[task][train], n, weighting) for task, n in n_outputs.items()}
    selection = {task: _SelectionHistory(task, len(l2)) for task in n_outputs}
    optimizer = torch.optim.Adam(bank.parameters(), lr=learning_rate, fused=True)

    def losses(rows: np.ndarray) -> dict[str, Tensor]:
        return task_losses(bank(x[rows]), {task: y[task][rows] for task in y}, weights)

    for epoch in range(1, epochs + 1):
        order = np.random.default_rng([seed, epoch, 5]).permutation(train)
        for first in range(0, len(order), BATCH_SIZE):
            optimizer.zero_grad()
            loss = sum(of_task.sum() for of_task in losses(order[first : first + BATCH_SIZE]).values())
            (loss + bank.penalty()).backward()
            optimizer.step()
        with torch.inference_mode():
            on_train, on_val = losses(train), losses(val)
            for task in n_outputs:
                selection[task].update(epoch, on_train.get(task), on_val.get(task), bank)
        if all(epoch - of_task.last_improvement >= PATIENCE_EPOCHS for of_task in selection.values()):
            break
    per_seed, chosen = [], {task: of_task.select_l2(l2) for task, of_task in selection.items()}
    for number in range(seeds):
        heads = _new_heads(n_outputs, y, mean, std)
        for task, linear in heads.linear.items():
            weight, bias = selection[task].best_weights[chosen[task]]
            linear.load_state_dict({"weight": weight[:, number].T, "bias": bias[number]})
        per_seed.append(heads.eval())
    heads = _average_heads(per_seed, _new_heads(n_outputs, y, mean, std))
    calibrate(heads, features, targets, weights, val, groups, weighting=weighting)
    for of_seed in per_seed:
        for name in ("temperature", "bias", "prevalence"):
            getattr(of_seed, name).copy_(getattr(heads, name))
    history = [row for task, of_task in selection.items() for row in of_task.records(chosen[task])]
    return TrainedHeads(heads, per_seed, {task: l2[index] for task, index in chosen.items()}, history)


class _Bank(nn.Module):
    """V variants of all heads side by side: strengths, and for each of them seeds."""

    def __init__(self, n_outputs: dict[str, int], l2: Sequence[float], seeds: int, *, seed: int) -> None:
        super().__init__()
        self.columns, first = {}, 0
        for task, n in n_outputs.items():
            self.columns[task], first = slice(first, first + n), first + n
        starts = []
        for number in range(seeds):
            generator = torch.Generator().manual_seed(seed + 1_000_003 * number)
            bound = 1 / math.sqrt(FEATURE_DIM)  # as in nn.Linear
            starts.append(torch.empty(FEATURE_DIM, first).uniform_(-bound, bound, generator=generator))
        self.weight = nn.Parameter(torch.stack(starts * len(l2), dim=1))  # (512, V, K)
        self.bias = nn.Parameter(torch.zeros(len(l2) * seeds, first))
        self.l2_of_variant = torch.tensor(l2).repeat_interleave(seeds)[:, None]  # (V, 1)
        self.seeds = seeds

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(B, 512) standardised features -> {task: (B, V, C) logits}."""
        logits = (x @ self.weight.flatten(1)).unflatten(1, self.bias.shape) + self.bias
        return {task: logits[:, :, columns] for task, columns in self.columns.items()}

    def penalty(self) -> Tensor:
        return (self.weight.square() * self.l2_of_variant).sum() / 2

    def copy(self, task: str, l2_index: int) -> tuple[Tensor, Tensor]:
        """(512, S, C) weights and (S, C) biases of a task, with one of the strengths."""
        variants = slice(l2_index * self.seeds, (l2_index + 1) * self.seeds)
        columns = self.columns[task]
        return self.weight[:, variants, columns].clone(), self.bias[variants, columns].clone()


@dataclass
class _SelectionHistory:
    """How a task's losses went by epoch, and the weights of each strength's best epoch."""

    task: str
    n_strengths: int
    losses: list[tuple[list[float] | None, list[float] | None]] = field(default_factory=list)
    best: dict[int, float] = field(default_factory=dict)
    best_weights: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    last_improvement: int = 0  # epoch in which the validation loss of some strength was last better

    def update(self, epoch: int, loss: Tensor | None, val_loss: Tensor | None, bank: _Bank) -> None:
        """Add an epoch's losses, (V,) each; None where no row counts."""
        means = [
            None if of is None else of.view(self.n_strengths, -1).mean(dim=1).tolist()
            for of in (loss, val_loss)
        ]
        if not all(math.isfinite(value) for values in means for value in values or ()):
            raise UserError(
                f"the loss of the {self.task} head is not finite in epoch {epoch}; try a lower "
                "--classifier-lr"
            )
        self.losses.append((means[0], means[1]))
        for strength in range(self.n_strengths):
            value = math.inf if means[1] is None else means[1][strength]
            if means[1] is None or value < self.best.get(strength, math.inf):
                self.best[strength], self.best_weights[strength] = value, bank.copy(self.task, strength)
                self.last_improvement = self.last_improvement if loss is None else epoch

    def select_l2(self, l2: Sequence[float]) -> int:
        """The number of the strength with the lowest validation loss."""
        if len(l2) > 1 and math.inf in self.best.values():  # nothing to choose on
            return min(range(len(l2)), key=lambda number: abs(math.log(l2[number] / DEFAULT_L2)))
        return min(self.best, key=self.best.__getitem__)

    def records(self, l2_index: int) -> list[dict[str, Any]]:
        """One record an epoch, of one strength."""
        rows: list[dict[str, Any]] = []
        lowest = math.inf
        for epoch, (loss, val_loss) in enumerate(self.losses, start=1):
            now = None if val_loss is None else val_loss[l2_index]
            better = now is None or now < lowest
            lowest = now if better and now is not None else lowest
            row = {"phase": self.task, "epoch": epoch, "loss": None if loss is None else loss[l2_index]}
            rows.append(row | {"val_loss": now, "best": better})
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


@torch.inference_mode()
def calibrate(
    heads: Heads,
    features: np.ndarray,
    targets: dict[str, np.ndarray],
    weights: dict[str, Tensor],
    val: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    weighting: str = "balanced",
) -> None:
    """Set temperature, biases and prevalence of the tasks whose validation rows have two learnt classes.

    Args:
        heads: not calibrated; changed.
        features: (n, 512) float32.
        targets: as of `train_heads`, in the heads' order.
        weights: {task: `class_weights` of the training rows}.
        val: validation rows.
        groups: (n,) groups, each of which counts as one observation; None if every row is its own.
        weighting: that the heads were trained with.
    """
    logits = heads(torch.from_numpy(features[val]))
    biases, prevalences = heads.split_by_task(heads.bias), heads.split_by_task(heads.prevalence)
    for number, (task, values) in enumerate(targets.items()):
        true = values[val]
        known = true != NOT_ANNOTATED
        known = known & (weights[task].numpy()[true] > 0) if true.ndim == 1 else known.all(axis=1)
        if len(np.unique(true[known])) >= 2:
            n_independent = int(known.sum()) if groups is None else len(np.unique(groups[val][known]))
            scaling = fit_scaling(
                logits[task][known].double().numpy(),
                true[known],
                n_independent=n_independent,
                power=WEIGHTING_POWERS[weighting],
            )
            heads.temperature[number] = scaling.temperature
            biases[task].copy_(torch.from_numpy(scaling.bias))
            prevalences[task].copy_(torch.from_numpy(scaling.prevalence))


def robust_std(x: Tensor) -> Tensor:
    """(n, D) features -> (D,) standard deviations to divide by, at least a tenth of their median.

    A feature that hardly varies in training would otherwise decide alone when it does vary elsewhere.
    """
    std = x.std(dim=0, correction=0)
    std = std.clamp(min=0.1 * float(std.median()))
    return torch.where(std > 0, std, 1.0)


def class_weights(labels: Tensor, n_outputs: int, weighting: str) -> Tensor:
    """Weights of the classes in the loss, mean 1 over the labels; 0 for a class without any.

    Args:
        labels: (n,) class indices, or (n, L) presence of lesions; -1 = not annotated.
        n_outputs: C or L.
        weighting: 'balanced', 'sqrt' or 'none'.

    Returns:
        (C,), or (L, 2) of absence and presence.
    """
    if labels.ndim == 2:
        return torch.stack([class_weights(column, 2, weighting) for column in labels.T])
    counts = torch.bincount(labels[labels != NOT_ANNOTATED], minlength=n_outputs).float()
    weights = torch.where(counts > 0, counts.clamp(min=1) ** -WEIGHTING_POWERS[weighting], 0.0)
    return weights * counts.sum() / (weights * counts).sum().clamp(min=1e-12)


@torch.inference_mode()
def predict(heads: Heads, features: np.ndarray) -> dict[str, np.ndarray]:
    """(n, 512) features -> {task: (n, C) float64 probabilities}, and the prevalences that they hold for."""
    probabilities = {
        task: table.numpy() for task, table in heads.probabilities(torch.from_numpy(features)).items()
    }
    return probabilities | {
        prevalence_key(task): np.tile(of_task.numpy(), (len(features), 1))
        for task, of_task in heads.split_by_task(heads.prevalence).items()
    }


def task_losses(
    logits: dict[str, Tensor], targets: dict[str, Tensor], weights: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Weighted mean cross-entropy of each task that has annotated rows here, of a class with weight.

    Args:
        logits: {task: (B, V, C)}.
        targets: {task: (B,) class indices, or (B, L) presence of lesions; -1 = not annotated}.
        weights: {task: `class_weights`}.

    Returns:
        {task: (V,)}.
    """
    losses = {}
    for task, of_task in logits.items():  # (B, V, C)
        true, known = targets[task], targets[task].clamp(min=0)
        if true.ndim == 1:
            expanded = known[:, None].expand(of_task.shape[:2])
            each = F.cross_entropy(of_task.transpose(1, 2), expanded, reduction="none")  # (B, V)
            weight = weights[task][known] * (true != NOT_ANNOTATED)  # (B,)
        else:
            expanded = known[:, None].expand(of_task.shape).to(of_task.dtype)
            each = F.binary_cross_entropy_with_logits(of_task, expanded, reduction="none")  # (B, V, L)
            weight = weights[task][torch.arange(true.shape[1]), known] * (true != NOT_ANNOTATED)  # (B, L)
        if weight.any():
            sums = (each * weight[:, None]).sum(dim=0).view(of_task.shape[1], -1)  # (V, 1 or L)
            losses[task] = sums.sum(dim=1) / weight.sum()
    return losses


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
