"""This program's pretraining with its defaults, as the main job puts it together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from simclr_rhd.cli.command_line import parse
from simclr_rhd.config import Config
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.planning.plan import choose_settings, workload_of
from simclr_rhd.planning.precision import resolve_precision
from simclr_rhd.runs.context import RunContext
from simclr_rhd.runs.record import RunRecord
from simclr_rhd.ssl.config import TrainingSettings
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.monitoring.epoch_record import EpochRecord
from simclr_rhd.ssl.pretrain import make_trainer, pretrain, share_data

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
        config, settings = resolve_settings(dataset, size=size, seed=seed, epochs=epochs, flags=flags)
        data, *_ = share_data(dataset, settings)
        self.run = make_trainer(config, settings, data.unlabelled, build("random", seed=seed), CPU)
        self.encoder = self.run.average.model.encoder
        rows = len(dataset.rows("unlabelled"))
        self.frames_of_epoch = rows // settings.batch_size * settings.batch_size
        self.reads = rows  # once, into the store

    def epoch(self) -> float:
        """Train one epoch; its mean loss."""
        loss = self.run.train_epoch()
        self.run.end_epoch({"loss": loss})
        return loss


def train_with_early_stopping(
    dataset: Dataset, folder: Path, *, size: int, seed: int, epochs: int, flags: tuple[str, ...] = ()
) -> tuple[nn.Module, list[EpochRecord]]:
    """The encoder that the main job would keep, and the history: some frames held out, stopped early by them.

    Args:
        dataset: frames.
        folder: an empty one, for the run's checkpoints.
        size: pixels of a view's side.
        seed: of everything.
        epochs: at most.
        flags: others than the defaults.
    """
    config, settings = resolve_settings(dataset, size=size, seed=seed, epochs=epochs, flags=flags)
    model = build("random", seed=seed)
    data, *_ = share_data(dataset, settings)
    history = pretrain(config, settings, data, model, run_in(folder))
    return model.encoder, history


def run_in(folder: Path) -> RunContext:
    """A run that writes to a folder and records nothing."""
    return RunContext(folder, CPU, RunRecord(None))


def resolve_settings(
    dataset: Dataset, *, size: int, seed: int, epochs: int, flags: tuple[str, ...]
) -> tuple[Config, TrainingSettings]:
    """The flags, and what the main job makes of them."""
    arguments = ("--image-size", str(size), "--seed", str(seed), "--epochs", str(epochs), *flags)
    config, rows = parse(arguments), len(dataset.rows("unlabelled"))
    assert isinstance(config, Config)
    config = replace(config, precision=resolve_precision(config.precision, CPU))
    return config, choose_settings(config, replace(workload_of(config, dataset), rows=rows), None, CPU)
