"""The features of the labelled frames: of our encoders, and of those that they are compared with."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from simclr_rhd.core.config import CommonConfig
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.heads.baselines import pixel_features
from simclr_rhd.heads.cross_validation import N_RANDOM_ENCODERS, RANDOM_ENCODER, FeatureSet
from simclr_rhd.ssl.encoder.features import extract, extract_with_ood_stats
from simclr_rhd.ssl.encoder.model import SimCLR, build, imagenet_weights_cached


def encode(
    config: CommonConfig, dataset: Dataset, models: Sequence[SimCLR], device: torch.device
) -> FeatureSet:
    """Encode the labelled frames by ours, random and, where they are at hand, ImageNet's weights.

    Args:
        config: gives the size of views and the seed.
        dataset: the frames.
        models: the one that is kept and, where each fold has its own, those of the folds.
        device: where the networks run.
    """
    rows, size, frames = dataset.labelled(), config.size, dataset.store.frames

    def of(encoder: nn.Module) -> np.ndarray:
        return extract(encoder.to(device), frames, rows, size=size, device=device)

    described = extract_with_ood_stats(models[0].encoder.to(device), frames, rows, size=size, device=device)
    ours = [described["features"], *(of(trained.encoder) for trained in models[1:])]
    seeds = range(config.seed, config.seed + N_RANDOM_ENCODERS)
    rivals = {RANDOM_ENCODER: [of(build("random", seed=seed).encoder) for seed in seeds]}
    if imagenet_weights_cached():
        rivals["imagenet encoder"] = [of(build("imagenet", seed=config.seed).encoder)]
    return FeatureSet(described, ours[1:] or ours * len(dataset.folds), rivals, pixel_features(frames, rows))
