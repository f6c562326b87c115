"""Lightly's SimCLR by its own parts, put together as in its PyTorch example.

https://docs.lightly.ai/self-supervised-learning/examples/simclr.html: `SimCLRTransform`, `NTXentLoss`,
`SimCLRProjectionHead`, plain SGD at a constant 0.06. It is an example, not a tuned recipe; what ours does
otherwise could be put together of lightly's parts, too. Batch and size are the comparison's, so that steps
are comparable, and the loader's processes are kept from epoch to epoch, which the example does not.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from torch import nn
from torch.utils.data import DataLoader

BATCH, RATE, WORKERS = 64, 0.06, 2


class Pretraining:
    """A pretraining run, one epoch at a time.

    Args:
        files: the unlabelled frames, all of one folder.
        size: pixels of a view's side.
        seed: of everything.
        epochs: not used: its learning rate is constant.
    """

    def __init__(self, files: Sequence[Path], *, size: int, seed: int, epochs: int) -> None:
        torch.manual_seed(seed)
        self.encoder = torchvision.models.resnet18(weights=None)
        self.encoder.fc = nn.Identity()
        self.model = nn.Sequential(self.encoder, SimCLRProjectionHead(512, 512, 128))
        self.loss = NTXentLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE)
        frames = LightlyDataset(
            str(files[0].parent),
            transform=SimCLRTransform(input_size=size),
            filenames=sorted(path.name for path in files),
        )
        self.loader = DataLoader(
            frames, BATCH, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True
        )
        self.frames_of_epoch = len(self.loader) * BATCH
        self.reads = 0

    def epoch(self) -> float:
        """Train one epoch; its mean loss."""
        self.model.train()
        total = 0.0
        for views, _, _ in self.loader:
            loss = self.loss(*(self.model(x) for x in views))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            total += loss.item()
        self.reads += len(self.loader.dataset)
        return total / len(self.loader)
