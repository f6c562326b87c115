"""A SimCLR model that trains in a twentieth of the time, for tests that do not depend on its layers."""

import torch
from torch import nn

from simclr_rhd.ssl.encoder.model import FEATURE_DIM, build


def small_simclr(seed):
    """SimCLR with the first layer of its ResNet, and one of 1 x 1 instead of all others."""
    model = build("random", seed=seed)
    for name in ("layer1", "layer2", "layer3"):
        setattr(model.encoder, name, nn.Identity())
    model.encoder.layer4 = nn.Sequential(
        nn.Conv2d(64, FEATURE_DIM, 1, bias=False), nn.BatchNorm2d(FEATURE_DIM), nn.ReLU()
    )
    return model.to(memory_format=torch.channels_last)
