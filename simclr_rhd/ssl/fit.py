"""The loop over the epochs of a pretraining: early stopping, and checkpoints, which survive a stop."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core import signals
from simclr_rhd.core.errors import RankLost, UserError, reason_of
from simclr_rhd.core.file_names import BAD_BATCH_FILE, BEST_CHECKPOINT, LAST_CHECKPOINT
from simclr_rhd.core.files import atomic_write
from simclr_rhd.runs import checkpoint
from simclr_rhd.ssl.config import PretrainConfig
from simclr_rhd.ssl.encoder.model import SimCLR
from simclr_rhd.ssl.monitoring.epoch_record import EpochRecord, Measurements
from simclr_rhd.ssl.step import NonFiniteError
from simclr_rhd.ssl.trainer import Trainer

logger = logging.getLogger("simclr_rhd")

MAX_NAMES_IN_ERROR = 5  # of a bad batch's frames in the message; all are in the file


class Monitor(NamedTuple):
    """The metric that early stopping goes by.

    Attributes:
        metric: of an epoch's record.
        sign: 1 where less is better, -1 where more is.
        unit: the metric of the record that `min_delta` is a share of; None: it is an absolute difference.
    """

    metric: str
    sign: int = 1
    unit: str | None = None


MONITORS = {
    "held-out-loss": Monitor("val_loss", unit="val_uniform"),
    "training-loss": Monitor("loss", unit="uniform"),
    "alignment": Monitor("alignment"),
    "uniformity": Monitor("uniformity"),
    "rank": Monitor("rank", sign=-1),
    "knn": Monitor("knn_mean", sign=-1),
}


def fit(
    trainer: Trainer,
    validate: Callable[[int], Measurements],
    config: PretrainConfig,
    save_dir: Path,
    *,
    on_epoch: Callable[[list[EpochRecord]], None],
    on_checkpoint: Callable[[], None] = lambda: None,
) -> list[EpochRecord]:
    """Pretrain until the monitored figure stops getting better, then anneal; one record per epoch.

    While views are not of full size yet, a figure that stops getting better ends the stage, not the run. With
    views of full size it begins the annealing: the learning rate falls to 0 over a fifth as many epochs as
    were done. A run that uses all its epochs, the upper bound, anneals in the last of them. Each epoch of the
    annealing is kept in place of the one before, the last one at the end: the rate's fall brings what a
    disease is recognised by (`benchmarks/RECIPE.md`).

    The averaged weights of the epoch that is kept go to `simclr_best.pt`; the whole state to
    `simclr_last.pt`, after each epoch, within long ones, and when the process is asked to stop. Rank 0 alone
    measures and writes.

    Args:
        trainer: a fresh or resumed state.
        validate: measures the model after an epoch.
        config: monitor, patience and least improvement of early stopping, and minutes between checkpoints.
        save_dir: where the checkpoints are.
        on_epoch: called with the history after each epoch, once its state is saved.
        on_checkpoint: called by the leader after each save, but for the last one of a process that must end.

    Raises:
        UserError: the loss is not finite.
    """
    saver = _Saver(trainer, save_dir / LAST_CHECKPOINT, config.checkpoint_minutes, on_checkpoint)
    with signals.on_forced_exit(saver.save):
        while not trainer.schedule.is_finished():
            _log_view_size(trainer)
            start = time.perf_counter() - trainer.seconds
            try:
                with ranks.translate_dist_errors():
                    record = _run_epoch(trainer, validate, saver.save_if_due)
                value, min_improvement = _monitored(record, config)
                with trainer.atomic_update():
                    better = trainer.schedule.improves(value, min_improvement)
                    record = replace(record, best=better, seconds=round(time.perf_counter() - start, 2))
                    if better and ranks.is_main_process():
                        trainer.save_best(save_dir / BEST_CHECKPOINT)
                    trainer.end_epoch(record)
                    if trainer.schedule.epochs_without_improvement >= config.patience:
                        trainer.schedule.end_stage()
                    saver.save()
                    on_epoch(trainer.history)
                if ranks.is_main_process():
                    on_checkpoint()
            except (KeyboardInterrupt, signals.Terminated, RankLost):
                with suppress(NonFiniteError):  # then the state before it is the one to go on from
                    saver.save()
                raise
            except NonFiniteError as error:
                raise _non_finite_error(error, trainer, save_dir) from None
    return trainer.history


class _Saver:
    """Saves the whole state, by the leader, and knows when it last did."""

    def __init__(
        self, trainer: Trainer, path: Path, minutes: float, on_checkpoint: Callable[[], None]
    ) -> None:
        self.trainer, self.path, self.minutes, self.on_checkpoint = trainer, path, minutes, on_checkpoint
        self.last = time.monotonic()

    def save(self) -> None:
        if ranks.is_main_process():
            self.trainer.save(self.path)
        self.last = time.monotonic()

    def save_if_due(self) -> None:
        if time.monotonic() - self.last > 60 * self.minutes:
            self.save()
            if ranks.is_main_process():
                self.on_checkpoint()


def _run_epoch(
    trainer: Trainer, validate: Callable[[int], Measurements], after_step: Callable[[], None]
) -> EpochRecord:
    """Train one epoch; the leader measures, every rank has the record."""
    loss, record = trainer.train_epoch(after_step), None
    if ranks.is_main_process():
        schedule, steps = trainer.schedule, trainer.steps_per_epoch
        record = EpochRecord(
            **vars(validate(trainer.epoch)),
            epoch=trainer.epoch,
            loss=loss,
            averaged=trainer.average.decay > 0,
            learning_rate=trainer.learning_rate_at(steps - 1),
            frames_per_s=round(steps * trainer.settings.batch_size / trainer.seconds, 1),
            size=trainer.step.size,
            annealing=schedule.annealing is not None,
            last_epoch=schedule.last_epoch,
        ).to_json()
    return EpochRecord.from_json(ranks.broadcast(record))


def _monitored(record: EpochRecord, config: PretrainConfig) -> tuple[float, float]:
    """The figure of early stopping, lower is better, and by how much an epoch must better it."""
    monitor = MONITORS[config.monitor]
    value = getattr(record, monitor.metric)
    if value is None:
        raise UserError(f"--monitor {config.monitor}: it cannot be computed from these data; name another")
    unit = getattr(record, monitor.unit) if monitor.unit else 1.0
    return monitor.sign * value, config.min_delta * unit


def _log_view_size(trainer: Trainer) -> None:
    """Log the views' size at the start of an epoch that changes it."""
    history, size = trainer.history, trainer.schedule.size
    is_start = ranks.is_main_process() and len(trainer.schedule.sizes) > 1 and trainer.steps_done == 0
    if is_start and size != (history[-1].size if history else None):
        logger.info("views of %d pixels from epoch %d on", size, trainer.epoch)


def _non_finite_error(error: NonFiniteError, trainer: Trainer, save_dir: Path) -> UserError:
    """The error that names the batch's frames."""
    frames = [trainer.data.names[row] for row in error.rows]
    if ranks.is_main_process():
        with atomic_write(save_dir / BAD_BATCH_FILE) as part:
            part.write_text("\n".join(frames) + "\n", encoding="utf-8")
    return UserError(
        f"{error.what} in epoch {error.epoch} is not finite. Its frames are "
        f"{', '.join(frames[:MAX_NAMES_IN_ERROR])} and {max(0, len(frames) - MAX_NAMES_IN_ERROR)} more, "
        f"all in {save_dir / BAD_BATCH_FILE}. The last good state is kept; try a lower --learning-rate "
        "or a higher --temperature, in another --save-dir or with --overwrite"
    )


def resume(trainer: Trainer, state: dict[str, Any]) -> None:
    """Go back to the state in `simclr_last.pt`.

    Raises:
        UserError: it is not one of this version, or of another run.
    """
    with _translate_state_errors(LAST_CHECKPOINT):
        trainer.load_state(state)


def load_best(model: SimCLR, path: Path) -> int:
    """Give a model the weights of the epoch that was kept; the epoch.

    Raises:
        UserError: the file is another one.
    """
    saved = checkpoint.load(path)
    with _translate_state_errors(str(path)):
        model.load_state_dict(saved["model"], strict=True)
        return int(saved["epoch"])


@contextmanager
def _translate_state_errors(name: str) -> Iterator[None]:
    """Turn errors of a file's values that do not fit into one sentence.

    Raises:
        UserError: what is inside finds them missing, or of another kind.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{name} does not hold what this run has saved{reason_of(error)}; --overwrite starts anew, "
            "another --save-dir leaves it as it is"
        ) from None
