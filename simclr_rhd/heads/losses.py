"""The heads' targets and losses: weighted cross-entropy of each task.

Notation: n labelled frames, B of a batch, V variants, C outputs of a task (classes), L lesions.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_rhd.data.labels.vocabulary import NOT_ANNOTATED

# power of a class's count that divides its weight
WEIGHTING_POWERS = {"balanced": 1.0, "sqrt": 0.5, "none": 0.0}


@dataclass(frozen=True)
class HeadTargets:
    """The targets of all tasks of n labelled frames.

    Attributes:
        values: {task: (n,) class indices, or (n, L) presence of lesions; -1 = not annotated}.
        n_outputs: {task: number of classes or lesions}.
        groups: (n,) groups; None if every row is its own.
    """

    values: dict[str, np.ndarray]
    n_outputs: dict[str, int]
    groups: np.ndarray | None = None


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
