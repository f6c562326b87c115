"""What of the configuration the data and the machine decide, where no flag does."""

import logging
from dataclasses import dataclass

from simclr_rhd.costs import BATCHES, Cost
from simclr_rhd.optim import default_learning_rate, default_weight_decay

logger = logging.getLogger("simclr_rhd")

AUTO = "auto"
STEPS_OF_EPOCH = 20  # batches an epoch should have, for 'auto': larger ones learn less from the same frames
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
    """

    batch_size: int
    micro_batch: int | None
    learning_rate: float
    weight_decay: float
    warmup_epochs: float


def settle(
    *,
    batch_size: int | str,
    micro_batch: int | str | None,
    optimizer: str,
    learning_rate: float | None,
    weight_decay: float | None,
    warmup_epochs: float | None,
    epochs: int,
    rows: int,
    cost: Cost | None,
    free: int,
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
        rows: frames to pretrain on.
        cost: of the steps; None where nothing is 'auto'.
        free: bytes of memory that steps may take.
    """
    if batch_size == AUTO:
        assert cost is not None
        fits = cost.largest(free, BATCHES[0] if micro_batch == AUTO else _number(micro_batch))
        chosen = min(fits, max(BATCHES[0], rows // STEPS_OF_EPOCH), rows)
        chosen = max((n for n in BATCHES if n <= chosen), default=chosen)
        why = "the largest that fits" if chosen == fits else f"{fits} would fit, an epoch has {rows} frames"
        logger.info("--batch-size auto: %d (%s)", chosen, why)
    else:
        chosen = min(int(batch_size), rows)
        if chosen < int(batch_size):
            logger.info(
                "NOTICE --batch-size %s is more than the %d frames to pretrain on: %d is used",
                *(batch_size, rows, chosen),
            )
    piece = _number(micro_batch)
    if micro_batch == AUTO:
        assert cost is not None
        piece = cost.largest_piece(free, chosen)
    if piece and piece < chosen:
        logger.info(
            "pieces of %d frames: BatchNorm's statistics are those of a piece, as with --batch-size %d; "
            "the negatives and the gradient are those of the whole batch",
            *(piece, piece),
        )
    warmup = min(WARMUP_MOST, WARMUP_SHARE * epochs) if warmup_epochs is None else warmup_epochs
    settled = Settled(
        batch_size=chosen,
        micro_batch=piece,
        learning_rate=learning_rate or default_learning_rate(optimizer, chosen),
        weight_decay=default_weight_decay(optimizer) if weight_decay is None else weight_decay,
        warmup_epochs=warmup,
    )
    logger.info(
        "%s: batches of %d frames, peak learning rate %.3g, warm-up %.3g epochs, weight decay %.3g",
        *(optimizer, chosen, settled.learning_rate, settled.warmup_epochs, settled.weight_decay),
    )
    return settled


def _number(count: int | str | None) -> int | None:
    return None if count is None or count == AUTO else int(count)
