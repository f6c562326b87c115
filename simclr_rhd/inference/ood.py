"""Out-of-distribution detection: the distance of a frame from the training frames, by three descriptions.

What the heads see, what the first layer sees, and where the frame is bright: a photograph differs in
texture, the picture of another probe in layout, and what is neither may still lie far off in the features.
Distances are Mahalanobis's (Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution
Samples").

Notation: n frames, D numbers of a description.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.ssl.encoder.model import STAGE_DIMS

# of `forward_with_ood_stats`, and their D; of the features those of the last stage
DESCRIPTORS = {"features": STAGE_DIMS[-1], "texture": 128, "layout": 36}
LIMIT_QUANTILE = 0.99  # of held-out frames that are nearer than what counts as foreign
N_FOLDS = 20
MIN_FRAMES = 20  # frames
MIN_VARIANCE = 1e-6  # variance, of standardised numbers


class OODDetector(nn.Module):
    """Distance of frames from the training frames, divided by the largest in-distribution distance.

    Buffers of each description: `mean` (D,), `whiten` (D, D), and `limit`, a squared distance.
    """

    def __init__(self) -> None:
        super().__init__()
        for name, width in DESCRIPTORS.items():
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_whiten", torch.eye(width))
            self.register_buffer(f"{name}_limit", torch.ones(()))

    def forward(self, descriptors: Mapping[str, Tensor]) -> Tensor:
        """{description: (B, D)} -> (B,), above 1 where any distance is above its threshold."""
        distances = []
        for name, width in DESCRIPTORS.items():
            mean, whiten, limit = (self.get_buffer(f"{name}_{what}") for what in ("mean", "whiten", "limit"))
            distances.append((((descriptors[name][:, -width:] - mean) @ whiten) ** 2).sum(dim=1) / limit)
        return torch.stack(distances, dim=1).amax(dim=1)


def fit_ood_detector(
    descriptors: Mapping[str, np.ndarray], groups: Sequence[str], *, seed: int
) -> OODDetector | None:
    """Fit Gaussians to the training frames, and the largest distance that counts as in-distribution.

    Each limit is what 99 % of the frames keep when their groups are left out (a twentieth of the groups at a
    time): at most 3 % are beyond any of the three.

    Args:
        descriptors: {description: (n, D) float32} of training frames.
        groups: n groups, such as patients.
        seed: of the parts.

    Returns:
        None with fewer than 20 frames or two groups.
    """
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(group) < MIN_FRAMES or len(names) < 2:
        return None
    part = (make_rng(seed, Stream.NOVELTY).permutation(len(names)) % min(N_FOLDS, len(names)))[group]
    detector = OODDetector()
    for name, width in DESCRIPTORS.items():
        x = descriptors[name][:, -width:].astype(np.float64)
        distances = np.empty(len(x))
        for number in np.unique(part):
            out = part == number
            distances[out] = _squared_distances(x[out], *_fit_gaussian(x[~out]))
        mean, whiten = _fit_gaussian(x)
        limit = max(float(np.quantile(distances, LIMIT_QUANTILE)), 1e-12)
        for what, value in (("mean", mean), ("whiten", whiten), ("limit", np.array(limit))):
            detector.get_buffer(f"{name}_{what}").copy_(torch.from_numpy(value))
    return detector


def _fit_gaussian(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, D) -> mean (D,) and W (D, D), so that |(x - mean) W|² is the squared distance.

    The covariance is shrunk (Ledoit and Wolf 2004), of standardised numbers.
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    shrunk = LedoitWolf(store_precision=False, assume_centered=True).fit((x - mean) / deviation)
    covariance = shrunk.covariance_ + MIN_VARIANCE * np.eye(x.shape[1])  # equal frames vary in nothing
    return mean, np.linalg.inv(np.linalg.cholesky(covariance)).T / deviation[:, None]


def _squared_distances(x: np.ndarray, mean: np.ndarray, whiten: np.ndarray) -> np.ndarray:
    distances: np.ndarray = (((x - mean) @ whiten) ** 2).sum(axis=1)
    return distances
