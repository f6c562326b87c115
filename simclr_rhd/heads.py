"""Three linear heads on cached features, trained together, each kept at its own best epoch."""

import copy
import logging
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_rhd.errors import UserError
from simclr_rhd.labels import NOT_ANNOTATED
from simclr_rhd.model import Heads

logger = logging.getLogger("simclr_rhd")

BATCH_SIZE = 32
WEIGHT_DECAY = 0.01


def train_heads(
    features: np.ndarray,
    values: dict[str, np.ndarray],
    n_classes: dict[str, int],
    train: np.ndarray,
    val: np.ndarray,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> tuple[Heads, list[dict[str, Any]]]:
    """Train one linear head per task with class-weighted cross-entropy.

    Features are standardised by the training rows. Rows not annotated for a task do not count for it.
    Each head is kept at its epoch of lowest validation loss; without annotated validation rows at its last.

    Args:
        features: (n, 512) float32.
        values: {task: (n,) int64 class indices, -1 = not annotated}.
        n_classes: {task: number of classes}.
        train: rows to learn from.
        val: rows to choose the epoch on.
        epochs: passes over the training rows.
        learning_rate: of AdamW.
        seed: of the weights and of the order of rows.

    Returns:
        The heads, and one record per epoch and task.

    Raises:
        UserError: a loss is not finite.
    """
    torch.manual_seed(seed)
    x = torch.from_numpy(features)
    y = {task: torch.from_numpy(values[task]) for task in n_classes}
    heads = Heads(n_classes)
    heads.mean.copy_(x[train].mean(dim=0))
    heads.std.copy_(deviation(x[train]))
    class_weights = {task: balanced_weights(y[task][train], n) for task, n in n_classes.items()}
    optimizer = torch.optim.AdamW(heads.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    best: dict[str, tuple[float, dict[str, Tensor]]] = {}
    history = []
    for epoch in range(1, epochs + 1):
        order = np.random.default_rng([seed, epoch, 5]).permutation(train)
        for first in range(0, len(order), BATCH_SIZE):
            rows = order[first : first + BATCH_SIZE]
            optimizer.zero_grad()
            losses = _losses(heads, x[rows], {task: y[task][rows] for task in y}, class_weights)
            if losses:
                torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
        with torch.inference_mode():
            on = [
                _losses(heads, x[rows], {task: y[task][rows] for task in y}, class_weights)
                for rows in (train, val)
            ]
        for task in n_classes:
            loss, val_loss = (float(losses[task]) if task in losses else None for losses in on)
            if not all(math.isfinite(value) for value in (loss, val_loss) if value is not None):
                raise UserError(
                    f"the loss of the {task} head is not finite in epoch {epoch}; try a lower --classifier-lr"
                )
            better = val_loss is None or val_loss < best.get(task, (math.inf, {}))[0]
            if better:
                best[task] = (
                    math.inf if val_loss is None else val_loss,
                    copy.deepcopy(heads.linear[task].state_dict()),
                )
            history.append(
                {"phase": task, "epoch": epoch, "loss": loss, "val_loss": val_loss, "best": better}
            )
    for task, (_, parameters) in best.items():
        heads.linear[task].load_state_dict(parameters)
    return heads.eval(), history


def deviation(x: Tensor) -> Tensor:
    """(n, D) features -> (D,) standard deviations to divide by, at least a tenth of their median.

    A feature that hardly varies in training would otherwise decide alone when it does vary elsewhere.
    """
    std = x.std(dim=0, correction=0)
    std = std.clamp(min=0.1 * float(std.median()))
    return torch.where(std > 0, std, 1.0)


def balanced_weights(labels: Tensor, n_classes: int) -> Tensor:
    """(n_classes,) weights inverse to a class's count, mean 1 over the labels; 0 for a class without any."""
    counts = torch.bincount(labels[labels != NOT_ANNOTATED], minlength=n_classes).float()
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), 0.0)


@torch.inference_mode()
def predict(heads: Heads, features: np.ndarray) -> dict[str, np.ndarray]:
    """(n, 512) features -> {task: (n, C) float64 probabilities}."""
    logits = heads(torch.from_numpy(features))
    return {task: logit.double().softmax(dim=1).numpy() for task, logit in logits.items()}


def _losses(heads: Heads, x: Tensor, y: dict[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weighted mean cross-entropy of each task that has annotated rows here (with weight)."""
    losses = {}
    for task, logits in heads(x).items():
        rows = (y[task] != NOT_ANNOTATED) & (weights[task][y[task]] > 0)
        if rows.any():
            losses[task] = F.cross_entropy(logits[rows], y[task][rows], weight=weights[task])
    return losses
