"""SimCLR on the unlabelled frames of a data set, by a configuration."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core.file_names import BEST_CHECKPOINT, FOLD_DIR, LAST_CHECKPOINT
from simclr_rhd.core.files import ensure_writable_dir
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.runs import checkpoint
from simclr_rhd.runs.context import RunContext
from simclr_rhd.ssl.batches import UnlabelledSet
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder.model import SimCLR, build
from simclr_rhd.ssl.encoder.parallel import to_devices
from simclr_rhd.ssl.fit import fit, load_best, resume
from simclr_rhd.ssl.monitoring.epoch_log import EpochLogger
from simclr_rhd.ssl.monitoring.epoch_record import EpochRecord
from simclr_rhd.ssl.monitoring.pace import Pace
from simclr_rhd.ssl.monitoring.validation import KnnFrames, Validator
from simclr_rhd.ssl.step import Step
from simclr_rhd.ssl.trainer import Trainer

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class PretrainedEncoders:
    """The encoders of a run.

    Attributes:
        final: of the model that is kept.
        own_of_folds: with --pretrain-per-fold one for each fold; none where the final one serves all.
    """

    final: nn.Module
    own_of_folds: Sequence[nn.Module] = ()

    def all(self) -> list[nn.Module]:
        """Each encoder once, the final one first."""
        return [self.final, *self.own_of_folds]

    def of_fold(self, number: int) -> nn.Module:
        """The encoder that a fold is tested with."""
        return self.own_of_folds[number] if self.own_of_folds else self.final


def pretrain(
    config: PretrainConfig,
    settings: TrainingSettings,
    dataset: Dataset,
    model: SimCLR,
    run: RunContext,
    *,
    n_left: int | None = None,
) -> list[EpochRecord]:
    """Pretrain on the unlabelled frames, from the last saved step on.

    Args:
        config: of the pretraining.
        settings: what the data and the machine decided.
        dataset: the frames.
        model: gets the average of the best epoch.
        run: where checkpoints are written, and when it has to end.
        n_left: pretrainings that are still to end, this one among them (default: all of the run).

    Returns:
        The record of each epoch.
    """
    trainer = make_trainer(config, settings, dataset, model, run)
    _resume_if_saved(trainer, run)
    validator = _make_validator(trainer, dataset)
    if config.monitor == "held-out-loss" and not validator.has_val_frames:
        logger.info(
            "NOTICE no unlabelled frames could be held out of pretraining: early stopping uses the "
            "training loss"
        )
        config = replace(config, monitor="training-loss")
    n_left = n_left or 1 + len(dataset.per_fold_datasets())
    pace = Pace(trainer.schedule, run, n_left=n_left) if run.limit else None
    log_epoch = EpochLogger(run, config)

    def on_epoch(history: list[EpochRecord]) -> None:
        log_epoch(history)
        if pace:
            pace(history[-1])

    history = fit(trainer, validator, config, run.save_dir, on_epoch=on_epoch, on_checkpoint=run.on_saved)
    if ranks.is_main_process():
        epoch, annealing = load_best(model, run.save_dir / BEST_CHECKPOINT), trainer.schedule.annealing
        logger.info(
            "pretraining: %s, annealed from epoch %d on, ended after epoch %d; weights of epoch %d are kept",
            "stopped early" if len(history) < trainer.schedule.epochs else "all epochs done",
            *(annealing[0] + 1 if annealing else 0, len(history), epoch),
        )
    return history


def pretrain_folds(
    config: PretrainConfig, settings: TrainingSettings, dataset: Dataset, run: RunContext
) -> list[nn.Module]:
    """With --pretrain-per-fold, the encoder of each fold; each has its checkpoints in a folder of its own."""
    encoders, fold_datasets = list[nn.Module](), dataset.per_fold_datasets()
    for number, fold_dataset in enumerate(fold_datasets, start=1):
        logger.info("fold %d/%d: its own pretraining, without its test groups", number, len(fold_datasets))
        fold_run = run.inside(FOLD_DIR.format(number))
        ensure_writable_dir(fold_run.save_dir, flag="--save-dir")
        model = build(config.init, seed=config.seed)
        n_left = len(fold_datasets) - number + 1
        pretrain(config, settings, fold_dataset, model, fold_run, n_left=n_left)
        encoders.append(model.encoder)
    return encoders


def make_trainer(
    config: PretrainConfig,
    settings: TrainingSettings,
    dataset: Dataset,
    model: SimCLR,
    run: RunContext,
) -> Trainer:
    """A training that has not begun; see `pretrain`."""
    step = Step(
        to_devices(model, run.device),
        config,
        settings,
        run.device,
        distributed=ranks.world_size() > 1,
    )
    store = dataset.store
    return Trainer(
        config,
        settings,
        step,
        UnlabelledSet(
            store.frames, store.color_modes, dataset.video_codes(), dataset.rows("unlabelled"), store.keys
        ),
    )


def _resume_if_saved(trainer: Trainer, run: RunContext) -> None:
    """Go on from the last saved step, at every rank."""
    path = run.save_dir / LAST_CHECKPOINT
    is_saved = ranks.is_main_process() and path.exists()
    state = ranks.broadcast_state(checkpoint.load(path) if is_saved else None)
    if state is not None:
        resume(trainer, state)
        logger.info("pretraining: resumed after epoch %d, step %d", len(trainer.history), trainer.steps_done)


def _make_validator(trainer: Trainer, dataset: Dataset) -> Validator:
    """Measurements on held-out frames, and on labelled ones of the training part."""
    labelled = KnnFrames(
        rows=dataset.rows("train"),
        values=dataset.labels.values,
        n_classes={task: len(dataset.labels.classes[task]) for task in dataset.tasks()},
        groups=dataset.groups,
    )
    return Validator(trainer, np.flatnonzero(dataset.ssl_val), labelled)
