"""This program's pretraining with its defaults, as the main job puts it together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import main
from simclr_rhd.cli.config import Config, parse
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.planning.auto_settings import Settled
from simclr_rhd.planning.precision import pick_precision
from simclr_rhd.ssl.model import build

CPU = torch.device("cpu")


class Pretraining:
    """A pretraining run on some frames of the store, one epoch at a time; nothing is held out.

    Args:
        dataset: frames; those without labels are learnt from.
        size: pixels of a view's side.
        seed: of everything.
        epochs: which the learning rate's course is made for.
        flags: others than the defaults.
    """

    def __init__(self, dataset: Dataset, *, size: int, seed: int, epochs: int, flags: tuple[str, ...] = ()):
        part = np.where(dataset.part == "held-out", "unlabelled", dataset.part)
        dataset = replace(dataset, part=part)
        config, settled = settle(dataset, size=size, seed=seed, epochs=epochs, flags=flags)
        self.run = main.make_run(config, settled, dataset, build("random", seed=seed), CPU)
        self.encoder = self.run.average.model.encoder
        rows = len(dataset.rows("unlabelled"))
        self.frames_of_epoch = rows // settled.batch_size * settled.batch_size
        self.reads = rows  # once, into the store

    def epoch(self) -> float:
        """Train one epoch; its mean loss."""
        loss = self.run.train_epoch()
        self.run.end_epoch({"loss": loss})
        return loss


def as_it_stops(
    dataset: Dataset, folder: Path, *, size: int, seed: int, epochs: int, flags: tuple[str, ...] = ()
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The encoder that the main job would keep, and the history: some frames held out, stopped early by them.

    Args:
        dataset: frames.
        folder: an empty one, for the run's checkpoints.
        size: pixels of a view's side.
        seed: of everything.
        epochs: at most.
        flags: others than the defaults.
    """
    config, settled = settle(dataset, size=size, seed=seed, epochs=epochs, flags=flags)
    model = build("random", seed=seed)
    history = main.pretrain(config, settled, dataset, model, folder, CPU)
    return model.encoder, history


def settle(
    dataset: Dataset, *, size: int, seed: int, epochs: int, flags: tuple[str, ...]
) -> tuple[Config, Settled]:
    """The flags, and what the main job makes of them."""
    told = ("--image-size", str(size), "--seed", str(seed), "--epochs", str(epochs), *flags)
    config, rows = parse(told), len(dataset.rows("unlabelled"))
    assert isinstance(config, Config)
    config = replace(config, precision=pick_precision(config.precision, CPU))
    return config, main.settle(config, rows, dataset.videos_to_pretrain(), None, CPU, grey=True)
