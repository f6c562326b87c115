"""Lightly's SimCLR by its own parts, put together as in its PyTorch example.

https://docs.lightly.ai/self-supervised-learning/examples/simclr.html: `SimCLRTransform`, `NTXentLoss`,
`SimCLRProjectionHead`, plain SGD at a constant 0.06. It is an example, not a tuned recipe; what ours does
otherwise could be put together of lightly's parts, too. Batch and size are the comparison's, so that steps
are comparable, and the loader's processes are kept from epoch to epoch, which the example does not.

`ControlledPretraining` is the fair control: the same parts on this program's pairs, views and sizes of views.
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
from versus import ours

from simclr_rhd.data.dataset import Dataset

BATCH, RATE, WORKERS = 64, 0.06, 2


class SimCLR:
    """Lightly's parts: encoder, head, loss and optimizer."""

    def __init__(self) -> None:
        self.encoder = torchvision.models.resnet18(weights=None)
        self.encoder.fc = nn.Identity()
        self.model = nn.Sequential(self.encoder, SimCLRProjectionHead(512, 512, 128))
        self.loss = NTXentLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE)

    def step(self, views: Sequence[torch.Tensor]) -> float:
        """Learn from the two views of a batch; its loss."""
        loss = self.loss(*(self.model(x) for x in views))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


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
        self.simclr = SimCLR()
        self.encoder = self.simclr.encoder
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
        self.simclr.model.train()
        total = sum(self.simclr.step(views) for views, _, _ in self.loader)
        self.reads += len(self.loader.dataset)
        return total / len(self.loader)


class ControlledPretraining:
    """Lightly's parts on what this program makes of the frames: pairs, views, and sizes of views.

    Args:
        dataset: frames; those without labels are learnt from.
        size: pixels of a view's side.
        seed: of everything.
        epochs: which the sizes of the views are shared out over.
    """

    def __init__(self, dataset: Dataset, *, size: int, seed: int, epochs: int) -> None:
        self.ours = ours.Pretraining(dataset, size=size, seed=seed, epochs=epochs)
        self.frames_of_epoch, self.reads = self.ours.frames_of_epoch, self.ours.reads
        torch.manual_seed(seed)
        self.simclr = SimCLR()
        self.encoder = self.simclr.encoder

    def epoch(self) -> float:
        """Train one epoch; its mean loss."""
        self.simclr.model.train()
        run = self.ours.run
        run.step.size = run.schedule.size
        batches = run.batches(run.epoch)
        loaded = run.load_batches(batches, run.epoch, run.positive_sampler)
        loss = sum(self.simclr.step(run.step.views(batch).chunk(2)) for batch in loaded) / len(batches)
        run.end_epoch({"loss": loss})
        return loss
