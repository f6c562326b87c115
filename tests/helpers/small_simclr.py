"""A SimCLR model that trains in a twentieth of the time, for tests that do not depend on its layers."""

from collections import OrderedDict

import torch
from torch import nn

from simclr_rhd.ssl.encoder.model import FEATURE_DIM, build


def small_simclr(seed):
    """SimCLR with the first layer of its ResNet, and one of 1 x 1 instead of all others."""
    model = build("random", seed=seed)
    for name in ("layer1", "layer2", "layer3"):
        setattr(model.encoder, name, nn.Identity())
    model.encoder.layer4 = _last_layer()
    return model.to(memory_format=torch.channels_last)


def small_resnet(weights=None):
    """The same encoder, to stand for torchvision's `resnet18` in a whole run."""
    assert weights is None
    parts = OrderedDict(
        conv1=nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        bn1=nn.BatchNorm2d(64),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, 2, 1),
    )
    parts |= {name: nn.Identity() for name in ("layer1", "layer2", "layer3")}
    parts |= {"layer4": _last_layer(), "avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(parts)


def _last_layer():
    return nn.Sequential(nn.Conv2d(64, FEATURE_DIM, 1, bias=False), nn.BatchNorm2d(FEATURE_DIM), nn.ReLU())
