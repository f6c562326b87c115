"""What of the configuration the data and the machine decide, where no flag does."""

import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, get_type_hints

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.records import Record
from simclr_rhd.planning.precision import PRECISIONS
from simclr_rhd.planning.run_estimate import BATCHES, Fits, largest_batch, largest_piece
from simclr_rhd.ssl.optim import default_learning_rate, default_weight_decay

logger = logging.getLogger("simclr_rhd")

AUTO = "auto"
STEPS_OF_EPOCH = 20  # batches an epoch should have, for 'auto': larger ones learn less from the same frames
LEAST = {"batch_size": 2, "micro_batch": 1}
CHOICES = {"positives": ("frame", "video"), "precision": tuple(PRECISIONS)}
WARMUP_SHARE, WARMUP_MOST = 0.1, 10.0  # of the epochs; epochs


@dataclass(frozen=True)
class Settled:
    """The figures of a pretraining run.

    Attributes:
        batch_size: frames of a batch.
        micro_batch: frames of a piece of it; None for the whole batch.
        learning_rate: the peak.
        weight_decay: of weights.
        warmup_epochs: while the learning rate rises.
        positives: 'frame' or 'video', of which two views are a positive pair.
        precision: of the network's arithmetic, a key of `precision.PRECISIONS`.
    """

    batch_size: int
    micro_batch: int | None
    learning_rate: float
    weight_decay: float
    warmup_epochs: float
    positives: str
    precision: str


def recorded(value: object, where: str) -> Settled:
    """The figures in the record of a run that is gone on with.

    Args:
        value: what stands there.
        where: the file, and the place in it.

    Raises:
        UserError: a figure is missing, or is none.
    """
    record, kinds = Record(value, where), get_type_hints(Settled)
    wanted = "what a run of this version writes"
    return Settled(
        **{name: record.of(name, partial(_is_figure, name, kind), wanted) for name, kind in kinds.items()}
    )


def _is_figure(name: str, kind: Any, value: object) -> bool:
    """Whether a field of `Settled` may have a value."""
    if isinstance(value, bool) or not isinstance(value, kind | int if kind is float else kind):
        return False
    if isinstance(value, int | float):
        return LEAST.get(name, 0) <= value < math.inf
    return value in CHOICES.get(name, (value,))


def settle(
    *,
    batch_size: int | str,
    micro_batch: int | str | None,
    optimizer: str,
    learning_rate: float | None,
    weight_decay: float | None,
    warmup_epochs: float | None,
    epochs: int,
    positives: str,
    precision: str,
    rows: int,
    videos: float,
    ranks: int,
    fits: Fits | None,
) -> Settled:
    """Fill in what is 'auto' or None.

    Args:
        batch_size: a number, or 'auto': the largest that fits and leaves an epoch its batches.
        micro_batch: a number, None, or 'auto': the largest piece that fits.
        optimizer: whose rules and defaults count.
        learning_rate: None: by the optimizer's rule.
        weight_decay: None: the optimizer's default.
        warmup_epochs: None: a tenth of the epochs, at most 10.
        epochs: at most.
        positives: 'frame', 'video', or 'auto': of a video, unless a batch had too many frames of each, of
            which none would be a negative of another.
        precision: as `precision.pick_precision` gives it.
        rows: frames to pretrain on.
        videos: that they are of, counted by their frames (`Dataset.videos_to_pretrain`).
        ranks: processes that share a batch.
        fits: whether a process can take so many pairs at once; None where nothing is 'auto'.

    Raises:
        UserError: the ranks cannot share the batch.
    """
    if batch_size == AUTO:
        assert fits is not None
        fitting = ranks * largest_batch(
            fits, in_pieces=BATCHES[0] if micro_batch == AUTO else _number(micro_batch)
        )
        leaves = max(BATCHES[0], rows // STEPS_OF_EPOCH)  # for an epoch to have its batches
        chosen = max((n for n in BATCHES if n <= min(fitting, leaves, rows)), default=rows)
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
    piece = _number(micro_batch)
    if micro_batch == AUTO:
        assert fits is not None
        piece = largest_piece(fits, chosen // ranks)
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
    warmup = min(WARMUP_MOST, WARMUP_SHARE * epochs) if warmup_epochs is None else warmup_epochs
    settled = Settled(
        batch_size=chosen,
        micro_batch=piece,
        learning_rate=learning_rate or default_learning_rate(optimizer, chosen),
        weight_decay=default_weight_decay(optimizer) if weight_decay is None else weight_decay,
        warmup_epochs=warmup,
        positives=("video" if videos >= chosen else "frame") if positives == AUTO else positives,
        precision=precision,
    )
    if positives == AUTO:
        logger.info(
            "--positives auto: two views of one %s are a positive pair (%d frames as of %.0f videos)",
            *(settled.positives, rows, videos),
        )
    logger.info(
        "%s in %s: batches of %d frames, peak learning rate %.3g, warm-up %.3g epochs, weight decay %.3g",
        *(optimizer, precision, chosen, settled.learning_rate, settled.warmup_epochs, settled.weight_decay),
    )
    return settled


def _number(count: int | str | None) -> int | None:
    return None if count is None or count == AUTO else int(count)
