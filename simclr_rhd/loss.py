"""NT-Xent, the contrastive loss of SimCLR."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def nt_xent(z0: Tensor, z1: Tensor, temperature: float = 0.5) -> Tensor:
    """Normalised temperature-scaled cross-entropy of N positive pairs (Chen et al. 2020, equation 1).

    Row i of `z0` and row i of `z1` are two views of one frame; the other 2N-2 rows are its negatives.
    Computed in float32 whatever the inputs' precision, as a cross-entropy over the 2N x 2N similarities
    with the diagonal masked: the log-sum-exp stays finite at any temperature.

    Args:
        z0: (N, D) embeddings of the first views, not normalised.
        z1: (N, D) embeddings of the second views.
        temperature: τ > 0.

    Returns:
        Scalar: the mean over the 2N rows; ln(2N-1) when the embeddings say nothing.

    Raises:
        ValueError: shapes differ or are not (N, D), or the temperature is not above 0.
    """
    if z0.ndim != 2 or z0.shape != z1.shape or len(z0) == 0:
        raise ValueError(f"wanted two (N, D) tensors of one shape, got {tuple(z0.shape)}, {tuple(z1.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    z = F.normalize(torch.cat([z0, z1]).float(), dim=1)  # (2N, D)
    logits = (z @ z.T / temperature).fill_diagonal_(float("-inf"))  # (2N, 2N)
    positives = torch.arange(len(z), device=z.device).roll(len(z0))  # row i pairs with row i±N
    return F.cross_entropy(logits, positives)


def uniform_loss(n_pairs: int) -> float:
    """The value of `nt_xent` when all similarities are equal: ln(2N-1)."""
    return math.log(2 * n_pairs - 1)
