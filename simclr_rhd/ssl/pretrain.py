"""SimCLR on the unlabelled frames of a data set, by a configuration."""

import logging
from typing import Any

import numpy as np

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core.device import default_workers, to_devices
from simclr_rhd.core.files import ensure_writable_dir
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.runs import checkpoint
from simclr_rhd.runs.context import RunContext
from simclr_rhd.runs.run_dir import FOLD_DIR
from simclr_rhd.ssl.augment import strengths
from simclr_rhd.ssl.averaging import compute_ema_decay
from simclr_rhd.ssl.batches import PositiveSampler
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder.model import SimCLR, build
from simclr_rhd.ssl.monitoring.epoch_log import EpochLogger
from simclr_rhd.ssl.monitoring.validation import Validator
from simclr_rhd.ssl.optim import make_optimizer
from simclr_rhd.ssl.schedule import size_per_epoch, sizes_of
from simclr_rhd.ssl.step import PRECISIONS, Step
from simclr_rhd.ssl.trainer import BEST_CHECKPOINT, LAST_CHECKPOINT, Trainer, fit, load_best

logger = logging.getLogger("simclr_rhd")


def pretrain(
    config: PretrainConfig,
    settings: TrainingSettings,
    dataset: Dataset,
    model: SimCLR,
    run: RunContext,
) -> list[dict[str, Any]]:
    """Pretrain on the unlabelled frames, from the last saved step on.

    Args:
        config: of the pretraining.
        settings: what the data and the machine decided.
        dataset: the frames.
        model: gets the average of the best epoch.
        run: where checkpoints are written.

    Returns:
        The record of each epoch.
    """
    training = make_trainer(config, settings, dataset, model, run)
    last = run.save_dir / LAST_CHECKPOINT
    saved = ranks.broadcast_state(
        checkpoint.load(last) if ranks.is_main_process() and last.exists() else None
    )
    if saved is not None:
        training.load_state(saved)
        logger.info(
            "pretraining: resumed after epoch %d, step %d", len(training.history), training.steps_done
        )
    watch, monitor = make_validation(config, dataset, training), config.monitor
    if monitor == "held-out-loss" and not watch.held_out:
        logger.info(
            "NOTICE no unlabelled frames could be held out of pretraining: early stopping watches the "
            "training loss"
        )
        monitor = "training-loss"
    journal = EpochLogger(
        run.save_dir,
        training.history,
        sizes=size_per_epoch(training.sizes, config.epochs),
        monitor=monitor,
        tensorboard=config.tensorboard,
    )
    with journal as on_epoch:
        history = fit(
            training,
            watch,
            monitor=monitor,
            patience=config.patience,
            min_delta=config.min_delta,
            checkpoint_minutes=config.checkpoint_minutes,
            names=dataset.store.keys,
            save_dir=run.save_dir,
            on_epoch=on_epoch,
            on_checkpoint=run.on_saved,
        )
    if ranks.is_main_process():
        epoch = load_best(model, run.save_dir / BEST_CHECKPOINT)
        logger.info(
            "pretraining: %s, annealed from epoch %d on, ended after epoch %d; weights of epoch %d are kept",
            "stopped early" if len(history) < config.epochs else "all epochs done",
            *(training.annealing[0] + 1 if training.annealing else 0, len(history), epoch),
        )
    return history


def pretrain_folds(
    config: PretrainConfig, settings: TrainingSettings, dataset: Dataset, run: RunContext
) -> list[SimCLR]:
    """With --pretrain-per-fold, the encoder of each fold; each has its checkpoints in a folder of its own."""
    models, own = [], dataset.per_fold_datasets()
    for number, divided in enumerate(own, start=1):
        logger.info("fold %d/%d: its own pretraining, without its test groups", number, len(own))
        of_fold = run.inside(FOLD_DIR.format(number))
        ensure_writable_dir(of_fold.save_dir, flag="--save-dir")
        models.append(build(config.init, seed=config.seed))
        pretrain(config, settings, divided, models[-1], of_fold)
    return models


def make_trainer(
    config: PretrainConfig,
    settings: TrainingSettings,
    dataset: Dataset,
    model: SimCLR,
    run: RunContext,
) -> Trainer:
    """A training that has not begun; see `pretrain`."""
    rows, videos = dataset.rows("unlabelled"), dataset.video_codes()
    step = Step(
        to_devices(model, run.device),
        size=config.size,
        augment_config=strengths(config),
        temperature=config.temperature,
        device=run.device,
        micro_batch=settings.micro_batch,
        mask_same_video=settings.positives == "video",
        gather_negatives=ranks.world_size() > 1,
        precision=PRECISIONS[settings.precision],
    )
    optimizer = make_optimizer(
        step.model,
        config.optimizer,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    steps = len(rows) // settings.batch_size
    return Trainer(
        step,
        optimizer,
        dataset.store.frames,
        dataset.store.color_modes,
        videos,
        rows,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        epochs=config.epochs,
        warmup_epochs=settings.warmup_epochs,
        ema_decay=compute_ema_decay(steps) if isinstance(config.ema_decay, str) else config.ema_decay,
        positive_sampler=PositiveSampler(rows, videos) if settings.positives == "video" else None,
        seed=config.seed,
        num_workers=default_workers() if config.num_workers is None else config.num_workers,
        sizes=sizes_of(config),
    )


def make_validation(config: PretrainConfig, dataset: Dataset, training: Trainer) -> Validator:
    """The measures after each epoch: on held-out frames, and on labelled ones of the training part."""
    return Validator(
        training,
        val_rows=np.flatnonzero(dataset.ssl_val),
        labelled=dataset.rows("train"),
        values=dataset.labels.values,
        n_classes={task: len(dataset.labels.classes[task]) for task in dataset.tasks()},
        groups=dataset.groups,
        knn_every=config.knn_every,
    )
