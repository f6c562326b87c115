"""A SimCLR model that trains in a twentieth of the time, for tests that do not depend on its layers."""

import os
from contextlib import contextmanager

import pytest
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from simclr_rhd.ssl.encoder.model import FEATURE_DIM, build


def small_simclr(seed):
    """SimCLR with the first layer of its ResNet, and one of 1 x 1 instead of all others."""
    with small_networks():
        return build("random", seed=seed)


@contextmanager
def small_networks():
    """Let this process build, save and load small networks instead of a ResNet-18."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.models, "resnet18", _small_resnet)
        patch.setenv("TORCH_HOME", os.devnull)  # weights of ImageNet that are on this machine do not fit
        yield


def _small_resnet(weights=None):
    assert weights is None
    model = ResNet(BasicBlock, [1, 1, 1, 1])
    for name in ("layer1", "layer2", "layer3"):
        setattr(model, name, nn.Identity())
    model.layer4 = nn.Sequential(
        nn.Conv2d(64, FEATURE_DIM, 1, bias=False), nn.BatchNorm2d(FEATURE_DIM), nn.ReLU()
    )
    return model
