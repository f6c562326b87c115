"""This program's pretraining with its defaults, as the main job puts it together, one epoch at a time."""

from dataclasses import replace

import numpy as np
import torch

import main
from simclr_rhd.config import Config, parse
from simclr_rhd.dataset import Dataset
from simclr_rhd.model import build


class Pretraining:
    """A pretraining run on some frames of the store.

    Args:
        dataset: frames; those without labels are learnt from.
        size: pixels of a view's side.
        seed: of everything.
        epochs: which the learning rate's course is made for.
        flags: others than the defaults.
    """

    def __init__(self, dataset: Dataset, *, size: int, seed: int, epochs: int, flags: tuple[str, ...] = ()):
        told = ("--image-size", str(size), "--seed", str(seed), "--epochs", str(epochs), *flags)
        config = parse(told)
        assert isinstance(config, Config)
        part = np.where(dataset.part == "held-out", "unlabelled", dataset.part)
        dataset = replace(dataset, part=part)
        rows = len(dataset.rows("unlabelled"))
        model, cpu = build("random", seed=seed), torch.device("cpu")
        settled = main.settle(config, rows, dataset.videos_to_pretrain(), None, cpu, grey=True)
        self.run = main.make_run(config, settled, dataset, model, cpu)
        self.encoder = model.encoder
        self.frames_of_epoch = rows // settled.batch_size * settled.batch_size
        self.reads = rows  # once, into the store

    def epoch(self) -> float:
        """Train one epoch; its mean loss."""
        loss = self.run.train_epoch()
        self.run.end_epoch({"loss": loss})
        return loss
