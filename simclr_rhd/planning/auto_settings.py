"""Settings that the data and the machine decide, where no flag does."""

import logging
import math
from functools import partial
from typing import Any, get_type_hints

from simclr_rhd.core.config import AUTO
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.records import JsonObject
from simclr_rhd.planning.step_cost import BATCH_SIZES, FitsPredicate, largest_batch, largest_micro_batch
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.optim import default_learning_rate, default_weight_decay
from simclr_rhd.ssl.step import PRECISIONS

logger = logging.getLogger("simclr_rhd")

MIN_STEPS_PER_EPOCH = 20  # for 'auto': larger batches learn less from the same frames
MINIMA = {"batch_size": 2, "micro_batch": 1}
CHOICES = {"positives": ("frame", "video"), "precision": tuple(PRECISIONS)}
WARMUP_FRACTION, MAX_WARMUP_EPOCHS = 0.1, 10.0  # of the epochs; epochs


def settings_from_record(value: object, where: str) -> TrainingSettings:
    """The figures in the record of a run that is gone on with.

    Args:
        value: what stands there.
        where: the file, and the place in it.

    Raises:
        UserError: a figure is missing, or is none.
    """
    record, types = JsonObject(value, where), get_type_hints(TrainingSettings)
    expected = "what a run of this version writes"
    return TrainingSettings(
        **{name: record.get(name, partial(_is_valid, name, kind), expected) for name, kind in types.items()}
    )


def _is_valid(name: str, kind: Any, value: object) -> bool:
    """Return True if a field of `TrainingSettings` may have a value."""
    if isinstance(value, bool) or not isinstance(value, kind | int if kind is float else kind):
        return False
    if isinstance(value, int | float):
        return MINIMA.get(name, 0) <= value < math.inf
    return value in CHOICES.get(name, (value,))


def resolve_settings(
    config: PretrainConfig, *, rows: int, videos: float, ranks: int, fits: FitsPredicate | None
) -> TrainingSettings:
    """Decide what is 'auto' or None, the warm-up for all of `--epochs`.

    Args:
        config: of the pretraining; its precision is decided.
        rows: frames to pretrain on.
        videos: that they are of, counted by their frames (`Dataset.effective_videos`). With as many as a
            batch has frames, two frames of a video are a positive pair: fewer would leave few negatives.
        ranks: processes that share a batch.
        fits: whether a process can take so many pairs at once; None where nothing is 'auto'.

    Raises:
        UserError: the ranks cannot share the batch.
    """
    batch_size = _batch_size(config, rows, ranks, fits)
    micro_batch = _micro_batch(config, batch_size, ranks, fits)
    positives, weight_decay = config.positives, config.weight_decay
    if positives == AUTO:
        positives = "video" if videos >= batch_size else "frame"
        logger.info(
            "--positives auto: two views of one %s are a positive pair (%d frames as of %.0f videos)",
            *(positives, rows, videos),
        )
    return TrainingSettings(
        batch_size=batch_size,
        micro_batch=micro_batch,
        learning_rate=config.learning_rate or default_learning_rate(config.optimizer, batch_size),
        weight_decay=default_weight_decay(config.optimizer) if weight_decay is None else weight_decay,
        warmup_epochs=resolve_warmup(config),
        positives=positives,
        precision=config.precision,
    )


def resolve_warmup(config: PretrainConfig) -> float:
    """Epochs of the warm-up, at most all."""
    if config.warmup_epochs is not None:
        return min(config.warmup_epochs, config.epochs)
    return min(MAX_WARMUP_EPOCHS, WARMUP_FRACTION * config.epochs)


def log_settings(config: PretrainConfig, settings: TrainingSettings) -> None:
    """Log what the pretraining will be done with."""
    logger.info(
        "%s in %s: batches of %d frames, peak learning rate %.3g, warm-up %.3g epochs, weight decay %.3g",
        *(config.optimizer, settings.precision, settings.batch_size),
        *(settings.learning_rate, settings.warmup_epochs, settings.weight_decay),
    )


def _batch_size(config: PretrainConfig, rows: int, ranks: int, fits: FitsPredicate | None) -> int:
    """Frames of a batch, of all ranks together; at most all rows.

    Raises:
        UserError: the ranks cannot share them.
    """
    if config.batch_size == AUTO:
        assert fits is not None
        micro_batch = BATCH_SIZES[0] if config.micro_batch == AUTO else _explicit_size(config.micro_batch)
        fitting = ranks * largest_batch(fits, micro_batch=micro_batch)
        max_for_steps = max(BATCH_SIZES[0], rows // MIN_STEPS_PER_EPOCH)  # for an epoch to have its batches
        size = max((n for n in BATCH_SIZES if n <= min(fitting, max_for_steps, rows)), default=rows)
        size = size // ranks * ranks
        logger.info(
            "--batch-size auto: %d; %d fit in memory, and %d frames make %d such batches an epoch",
            *(size, fitting, rows, rows // max(1, size)),
        )
    else:
        size = int(config.batch_size)
        if size % ranks:
            raise UserError(
                f"--batch-size {size} cannot be shared by {ranks} processes; wanted a multiple of {ranks}"
            )
        if size > rows:
            size = rows // ranks * ranks
            logger.info(
                "NOTICE --batch-size %s is more than the %d frames to pretrain on: %d is used",
                *(config.batch_size, rows, size),
            )
    if size < 2 * ranks:
        raise UserError(f"{rows} frames to pretrain on are too few for {ranks} process(es)")
    return size


def _micro_batch(
    config: PretrainConfig, batch_size: int, ranks: int, fits: FitsPredicate | None
) -> int | None:
    """Frames of a rank's batch that go through the network at once; None for all.

    Raises:
        UserError: not even they fit in memory.
    """
    size, per_rank = _explicit_size(config.micro_batch), batch_size // ranks
    if config.micro_batch == AUTO:
        assert fits is not None
        size = largest_micro_batch(fits, per_rank)
    if size and size < per_rank:
        logger.info(
            "pieces of at most %d frames: BatchNorm's statistics are those of a piece; the negatives and the "
            "gradient are those of the whole batch",
            size,
        )
    is_auto = AUTO in (config.batch_size, config.micro_batch)
    if is_auto and fits is not None and not fits(per_rank, size):
        raise UserError(
            f"not even {size or batch_size} frames at once fit into the memory that is free; use a smaller "
            "--image-size"
        )
    return size


def _explicit_size(count: int | str | None) -> int | None:
    return None if count is None or count == AUTO else int(count)
