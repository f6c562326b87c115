"""NT-Xent, the contrastive loss of SimCLR.

Notation: N pairs in a batch (n of them here, if several processes share it), D the embeddings' dimension.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from simclr_rhd.core import distributed as ranks


def nt_xent(
    z0: Tensor,
    z1: Tensor,
    temperature: float = 0.5,
    *,
    videos: Tensor | None = None,
    gather_negatives: bool = False,
) -> Tensor:
    """Normalised temperature-scaled cross-entropy of N positive pairs (Chen et al. 2020, equation 1).

    Row i of `z0` and row i of `z1` are a positive pair; the other 2N-2 rows are the negatives of both.
    Computed in float32 or better whatever the inputs' precision, as a cross-entropy over the similarities
    with the diagonal masked: the log-sum-exp stays finite at any temperature.

    Args:
        z0: (n, D) embeddings of the first views, not normalised.
        z1: (n, D) embeddings of the second views.
        temperature: τ > 0.
        videos: (n,) integers; pairs of one video are not negatives of each other. None: all others are.
        gather_negatives: the negatives are the rows of all ranks, which call this at once with n rows each.
            The mean of their losses is the loss of the whole batch, and so are the gradients.

    Returns:
        Scalar: the mean over the 2n rows; ln(2N-1) when the embeddings say nothing.

    Raises:
        ValueError: shapes differ or are not (n, D), or the temperature is not above 0.
    """
    if z0.ndim != 2 or z0.shape != z1.shape or len(z0) == 0:
        raise ValueError(f"wanted two (N, D) tensors of one shape, got {tuple(z0.shape)}, {tuple(z1.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    n = len(z0)
    rows = torch.arange(2 * n, device=z0.device)
    z = torch.cat([z0, z1])
    z = F.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=1)  # (2n, D)
    z_all, first = (ranks.all_gather(z), 2 * n * ranks.rank()) if gather_negatives else (z, 0)  # (2N, D)
    positives = first + rows.roll(n)  # row i pairs with row i±n
    logits = z @ z_all.T / temperature  # (2n, 2N)
    if videos is None:
        logits[rows, first + rows] = float("-inf")
    else:
        if len(videos) != n:
            raise ValueError(f"wanted {n} videos, one for each pair, got {len(videos)}")
        video = torch.cat([videos, videos])
        video_all = ranks.all_gather(video) if gather_negatives else video
        masked = video[:, None] == video_all[None, :]  # itself, too
        masked[rows, positives] = False
        logits = logits.masked_fill(masked, float("-inf"))
    return F.cross_entropy(logits, positives)


def n_logits(videos: np.ndarray | None, n_pairs: int) -> np.ndarray:
    """Number of rows that each pair's rows choose among, the positive and the negatives: (N,) int64.

    Args:
        videos: (N,) as of `nt_xent`; None where all others are negatives.
        n_pairs: N.
    """
    if videos is None:
        return np.full(n_pairs, 2 * n_pairs - 1)
    _, code, counts = np.unique(videos, return_inverse=True, return_counts=True)
    return 2 * n_pairs - 2 * counts[code] + 1
