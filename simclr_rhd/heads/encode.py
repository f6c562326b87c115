"""The features of the labelled frames: of our encoders, and of the baselines."""

import numpy as np
import torch
from torch import nn

from simclr_rhd.core.config import CommonConfig
from simclr_rhd.data.attributes.header import HEADER, header_features
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.heads.baselines import mask_features, pixel_features
from simclr_rhd.heads.cross_validation import MASK, N_RANDOM_ENCODERS, PIXELS, RANDOM_ENCODER, FeatureSet
from simclr_rhd.ssl.encoder.features import extract, extract_with_ood_stats
from simclr_rhd.ssl.encoder.initial_weights import imagenet_weights_cached
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.pretrain import PretrainedEncoders


def encode(
    config: CommonConfig, dataset: Dataset, encoders: PretrainedEncoders, device: torch.device
) -> FeatureSet:
    """Encode the labelled frames by ours, random and, where they are at hand, ImageNet's weights.

    Args:
        config: gives the size of views and the seed.
        dataset: the frames.
        encoders: ours.
        device: where the networks run.
    """
    rows, size, frames = dataset.labelled(), config.size, dataset.store.frames

    def features(encoder: nn.Module) -> np.ndarray:
        return extract(encoder.to(device), frames, rows, size=size, device=device)

    final = encoders.final.to(device)
    descriptors = extract_with_ood_stats(final, frames, rows, size=size, device=device)
    per_fold = [features(encoder) for encoder in encoders.own_of_folds]
    seeds = range(config.seed, config.seed + N_RANDOM_ENCODERS)  # the first: the start of a pretraining
    baselines = {RANDOM_ENCODER: [features(build("random", seed=seed).encoder) for seed in seeds]}
    if imagenet_weights_cached():
        baselines["imagenet encoder"] = [features(build("imagenet", seed=config.seed).encoder)]
    return FeatureSet(
        descriptors,
        per_fold or [descriptors["features"]] * len(dataset.folds),
        baselines,
        {
            PIXELS: pixel_features(frames, rows),
            MASK: mask_features(frames, rows),
            HEADER: header_features(dataset.store, dataset.attributes.origin, rows),
        },
    )
