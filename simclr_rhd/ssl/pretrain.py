"""SimCLR on the unlabelled frames of a data set, by a configuration.

Notation: M frames in all, n of a part.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core.file_names import BEST_CHECKPOINT, FOLD_DIR, LAST_CHECKPOINT
from simclr_rhd.core.files import ensure_writable_dir
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.store.store import Store
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


@dataclass(frozen=True)
class PretrainingData:
    """The data of one pretraining: frames and numbers, no names but those on the disk.

    Attributes:
        unlabelled: the frames to learn from.
        val_rows: (n,) frames held out of it.
        labelled: frames of the training part, among which neighbours vote.
    """

    unlabelled: UnlabelledSet
    val_rows: np.ndarray
    labelled: KnnFrames


def share_data(dataset: Dataset, settings: TrainingSettings) -> list[PretrainingData]:
    """The data of the run's encoder and of each fold's own, which the other ranks get by `receive_data`."""
    # numbers for each frame have 32 bits: each process holds several for all frames
    store, videos = dataset.store, dataset.video_codes().astype(np.int32)
    data = [_data_of(split, videos) for split in (dataset, *dataset.per_fold_datasets())]
    if ranks.world_size() > 1:
        in_memory = isinstance(store.frames, np.ndarray)  # of a rehearsal
        ranks.broadcast_state(
            {
                "settings": vars(settings),
                "frames": torch.from_numpy(store.frames) if in_memory else None,
                "color_modes": torch.from_numpy(store.color_modes) if in_memory else None,
                "names": [*store.keys] if in_memory else None,
                "videos": torch.from_numpy(videos),
                "splits": [_to_state(split) for split in data],
            }
        )
    return data


def receive_data(store: Store) -> tuple[TrainingSettings, list[PretrainingData]]:
    """The settings and the data that the leader shares; frames that it does not send are those of the store.

    Raises:
        ErrorOfAllRanks: the leader has ended in a `UserError`.
    """
    state = ranks.broadcast_state(None)
    assert state is not None
    frames, color_modes, names = store.frames, store.color_modes, store.keys
    if state["frames"] is not None:
        frames, color_modes, names = state["frames"].numpy(), state["color_modes"].numpy(), state["names"]
    videos = state["videos"].numpy()
    data = [
        PretrainingData(
            UnlabelledSet(frames, color_modes, videos, split["rows"].numpy(), names),
            split["val_rows"].numpy(),
            KnnFrames(
                split["labelled"].numpy(),
                {task: values.numpy() for task, values in split["values"].items()},
                split["n_classes"],
                split["groups"].numpy(),
            ),
        )
        for split in state["splits"]
    ]
    return TrainingSettings(**state["settings"]), data


def _data_of(dataset: Dataset, videos: np.ndarray) -> PretrainingData:
    store, train, rows = dataset.store, dataset.rows("train"), dataset.rows("unlabelled").astype(np.int32)
    return PretrainingData(
        UnlabelledSet(store.frames, store.color_modes, videos, rows, store.keys),
        np.flatnonzero(dataset.ssl_val),
        KnnFrames(
            rows=train,
            values={task: dataset.labels.values[task][train] for task in dataset.tasks()},
            n_classes={task: len(dataset.labels.classes[task]) for task in dataset.tasks()},
            groups=np.unique(dataset.groups[train], return_inverse=True)[1],
        ),
    )


def _to_state(data: PretrainingData) -> dict[str, object]:
    labelled = data.labelled
    return {
        "rows": torch.from_numpy(data.unlabelled.rows),
        "val_rows": torch.from_numpy(data.val_rows),
        "labelled": torch.from_numpy(labelled.rows),
        "values": {task: torch.from_numpy(values) for task, values in labelled.values.items()},
        "n_classes": labelled.n_classes,
        "groups": torch.from_numpy(labelled.groups),
    }


def pretrain(
    config: PretrainConfig,
    settings: TrainingSettings,
    data: PretrainingData,
    model: SimCLR,
    run: RunContext,
    *,
    n_left: int = 1,
) -> list[EpochRecord]:
    """Pretrain on the unlabelled frames, from the last saved step on.

    Args:
        config: of the pretraining.
        settings: what the data and the machine decided.
        data: the frames.
        model: gets the averaged weights of the epoch that is kept.
        run: where checkpoints are written, and when it has to end.
        n_left: pretrainings that are still to end, this one among them.

    Returns:
        The record of each epoch.
    """
    trainer = make_trainer(config, settings, data.unlabelled, model, run.device)
    _resume_if_saved(trainer, run)
    validator = Validator(trainer, data.val_rows, data.labelled)
    if config.monitor == "held-out-loss" and not validator.has_val_frames:
        logger.info(
            "NOTICE no unlabelled frames could be held out of pretraining: early stopping uses the "
            "training loss"
        )
        config = replace(config, monitor="training-loss")
    pace = Pace(trainer.schedule, run, n_left=n_left) if run.limit else None
    log_epoch = EpochLogger(run, config)

    def on_epoch(history: list[EpochRecord]) -> None:
        log_epoch(history)
        if pace:
            pace(history[-1])

    history = fit(trainer, validator, config, run.save_dir, on_epoch=on_epoch, on_checkpoint=run.on_saved)
    if ranks.is_main_process():
        run.tracking.log_epochs(run.series, [record.to_json() for record in history])  # if done before, too
        epoch, annealing = load_best(model, run.save_dir / BEST_CHECKPOINT), trainer.schedule.annealing
        logger.info(
            "pretraining: %s, annealed from epoch %d on, ended after epoch %d; weights of epoch %d are kept",
            "stopped early" if len(history) < trainer.schedule.epochs else "all epochs done",
            *(annealing[0] + 1 if annealing else 0, len(history), epoch),
        )
    return history


def pretrain_folds(
    config: PretrainConfig, settings: TrainingSettings, folds: Sequence[PretrainingData], run: RunContext
) -> list[nn.Module]:
    """With --pretrain-per-fold, the encoder of each fold; each has its checkpoints in a folder of its own."""
    encoders = list[nn.Module]()
    for number, data in enumerate(folds, start=1):
        logger.info("fold %d/%d: its own pretraining, without its test groups", number, len(folds))
        fold_run = run.inside(FOLD_DIR.format(number))
        ensure_writable_dir(fold_run.save_dir, flag="--save-dir")
        model = build(config.init, seed=config.seed)
        pretrain(config, settings, data, model, fold_run, n_left=len(folds) - number + 1)
        encoders.append(model.encoder)
    return encoders


def make_trainer(
    config: PretrainConfig,
    settings: TrainingSettings,
    data: UnlabelledSet,
    model: SimCLR,
    device: torch.device,
) -> Trainer:
    """A training that has not begun; see `pretrain`."""
    step = Step(to_devices(model, device), config, settings, device, distributed=ranks.world_size() > 1)
    trainer = Trainer(config, settings, step, data)
    if step.distributed:
        _order_gradients(trainer)
    return trainer


def _order_gradients(trainer: Trainer) -> None:
    """Show the order in which gradients come to DistributedDataParallel, which sums them in buckets.

    It fills them otherwise before it has seen a step, and sums of more than two ranks are then rounded
    otherwise. So the first step of a run that continues would differ from the same step of one that was not
    stopped. Nothing of this step is kept.
    """
    before = {name: buffer.clone() for name, buffer in trainer.unwrapped.named_buffers()}
    rows = ranks.shard(trainer.batches(epoch=1)[0])
    for batch in trainer.load_batches([rows], 1, trainer.positive_sampler):
        trainer.step.backward(batch)
    trainer.optimizer.zero_grad(set_to_none=True)
    for name, buffer in trainer.unwrapped.named_buffers():
        buffer.copy_(before[name])


def _resume_if_saved(trainer: Trainer, run: RunContext) -> None:
    """Go on from the last saved step, at every rank."""
    path = run.save_dir / LAST_CHECKPOINT
    is_saved = ranks.is_main_process() and path.exists()
    state = ranks.broadcast_state(checkpoint.load(path) if is_saved else None)
    if state is not None:
        resume(trainer, state)
        logger.info("pretraining: resumed after epoch %d, step %d", len(trainer.history), trainer.steps_done)
