"""A SimCLR model that trains in a twentieth of the time, for tests that do not depend on its layers."""

import os
from contextlib import contextmanager

import pytest
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from simclr_rhd.ssl.encoder.model import STAGE_DIMS, build


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


class _Repeat(nn.Module):
    """The same map so many times, for as many channels as a stage has."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def forward(self, x):
        return x.repeat(1, self.times, 1, 1)


class _SmallResNet(ResNet):
    """A ResNet whose layers are never made: to draw their weights takes longer than to train the rest."""

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        if planes != STAGE_DIMS[-1]:
            return _Repeat(stride)
        return nn.Sequential(
            nn.Conv2d(STAGE_DIMS[-2], planes, 1, groups=4, bias=False), nn.BatchNorm2d(planes), nn.ReLU()
        )


def _small_resnet(weights=None):
    assert weights is None
    return _SmallResNet(BasicBlock, [1, 1, 1, 1])
