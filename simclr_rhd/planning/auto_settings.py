"""What of the configuration the data and the machine decide, where no flag does."""

import logging
import math
from functools import partial
from typing import Any, get_type_hints

from simclr_rhd.core.config import AUTO
from simclr_rhd.core.errors import UserError
from simclr_rhd.core.records import JsonObject
from simclr_rhd.planning.run_estimate import BATCH_SIZES, FitsPredicate, largest_batch, largest_micro_batch
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
    """Whether a field of `TrainingSettings` may have a value."""
    if isinstance(value, bool) or not isinstance(value, kind | int if kind is float else kind):
        return False
    if isinstance(value, int | float):
        return MINIMA.get(name, 0) <= value < math.inf
    return value in CHOICES.get(name, (value,))


def resolve_settings(
    config: PretrainConfig, *, rows: int, videos: float, ranks: int, fits: FitsPredicate | None
) -> TrainingSettings:
    """Decide what is 'auto' or None.

    Args:
        config: of the pretraining; its precision is decided.
        rows: frames to pretrain on.
        videos: that they are of, counted by their frames (`Dataset.videos_to_pretrain`). With as many as a
            batch has frames, two frames of a video are a positive pair: fewer would leave few negatives.
        ranks: processes that share a batch.
        fits: whether a process can take so many pairs at once; None where nothing is 'auto'.

    Raises:
        UserError: the ranks cannot share the batch.
    """
    batch_size, micro_batch, positives = config.batch_size, config.micro_batch, config.positives
    if batch_size == AUTO:
        assert fits is not None
        fitting = ranks * largest_batch(
            fits, micro_batch=BATCH_SIZES[0] if micro_batch == AUTO else _explicit_size(micro_batch)
        )
        max_for_steps = max(BATCH_SIZES[0], rows // MIN_STEPS_PER_EPOCH)  # for an epoch to have its batches
        chosen = max((n for n in BATCH_SIZES if n <= min(fitting, max_for_steps, rows)), default=rows)
        chosen = chosen // ranks * ranks
        logger.info(
            "--batch-size auto: %d; %d fit in memory, and %d frames make %d such batches an epoch",
            *(chosen, fitting, rows, rows // max(1, chosen)),
        )
    else:
        chosen = int(batch_size)
        if chosen % ranks:
            raise UserError(
                f"--batch-size {chosen} cannot be shared by {ranks} processes; wanted a multiple of {ranks}"
            )
        if chosen > rows:
            chosen = rows // ranks * ranks
            logger.info(
                "NOTICE --batch-size %s is more than the %d frames to pretrain on: %d is used",
                *(batch_size, rows, chosen),
            )
    if chosen < 2 * ranks:
        raise UserError(f"{rows} frames to pretrain on are too few for {ranks} process(es)")
    piece = _explicit_size(micro_batch)
    if micro_batch == AUTO:
        assert fits is not None
        piece = largest_micro_batch(fits, chosen // ranks)
    if piece and piece < chosen // ranks:
        logger.info(
            "pieces of at most %d frames: BatchNorm's statistics are those of a piece; the negatives and the "
            "gradient are those of the whole batch",
            piece,
        )
    if AUTO in (batch_size, micro_batch) and fits is not None and not fits(chosen // ranks, piece):
        raise UserError(
            f"not even {piece or chosen} frames at once fit into the memory that is free; use a smaller "
            "--image-size"
        )
    warmup = config.warmup_epochs
    if warmup is None:
        warmup = min(MAX_WARMUP_EPOCHS, WARMUP_FRACTION * config.epochs)
    settings = TrainingSettings(
        batch_size=chosen,
        micro_batch=piece,
        learning_rate=config.learning_rate or default_learning_rate(config.optimizer, chosen),
        weight_decay=config.weight_decay
        if config.weight_decay is not None
        else default_weight_decay(config.optimizer),
        warmup_epochs=warmup,
        positives=("video" if videos >= chosen else "frame") if positives == AUTO else positives,
        precision=config.precision,
    )
    if positives == AUTO:
        logger.info(
            "--positives auto: two views of one %s are a positive pair (%d frames as of %.0f videos)",
            *(settings.positives, rows, videos),
        )
    logger.info(
        "%s in %s: batches of %d frames, peak learning rate %.3g, warm-up %.3g epochs, weight decay %.3g",
        *(
            config.optimizer,
            config.precision,
            chosen,
            settings.learning_rate,
            settings.warmup_epochs,
            settings.weight_decay,
        ),
    )
    return settings


def _explicit_size(count: int | str | None) -> int | None:
    return None if count is None or count == AUTO else int(count)
