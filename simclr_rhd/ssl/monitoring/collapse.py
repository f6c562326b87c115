"""Warnings in plain words of a pretraining that collapses or learns nothing.

Notation: D the embeddings' dimension.
"""

import math
from collections.abc import Mapping
from typing import Any

from simclr_rhd.ssl.monitoring.epoch_record import EpochRecord

GRACE_EPOCHS = 3  # epochs at the start in which a high loss or a low rank means nothing yet
COLLAPSE_UNIFORMITY = -0.1  # uniformity of squared distances of 0.05; they are 2 where evenly spread
MIN_RANK = 4  # directions
MIN_RANK_FRACTION = 0.05  # of those there are: below the larger of the two too few are used
NO_PROGRESS_FRACTION = 0.01  # of the uniform value: a loss less far below it has not fallen
CLEAR_PROGRESS_FRACTION = 0.1  # of the uniform value: a loss this far below it clearly has


def collapse_warnings(record: EpochRecord, *, dim: int) -> list[str]:
    """Warnings of one epoch: the figure, what it means, what to do.

    Args:
        record: of the epoch; a figure that is None or not finite warns of nothing.
        dim: D.

    Returns:
        One or two sentences each; the first cause only where one brings about the others.
    """
    if record.epoch <= GRACE_EPOCHS:
        return []
    values = {key: _finite_or_none(value) for key, value in vars(record).items()}
    spread, rank = values["uniformity"], values["rank"]
    max_rank = min(dim, 2 * record.measured_frames)
    warnings = []
    if spread is not None and spread > COLLAPSE_UNIFORMITY:
        return [
            f"uniformity {spread:.2f}: all embeddings are nearly alike (collapse), they tell no frame from "
            "another. Try a lower --learning-rate or a larger --batch-size."
        ]
    if rank is not None and rank < min(max(MIN_RANK, MIN_RANK_FRACTION * max_rank), max_rank / 2):
        warnings.append(
            f"effective rank {rank:.1f} of {max_rank}: the embeddings use very few directions (dimensional "
            "collapse). Try a lower --temperature, a larger --batch-size or other views "
            "(--crop-min, --jitter)."
        )
    return warnings + _loss_warnings(values)


def _loss_warnings(values: Mapping[str, float | None]) -> list[str]:
    loss, uniform, ideal = (values[key] for key in ("loss", "uniform", "perfect"))
    val_loss, val_uniform = values["val_loss"], values["val_uniform"]
    if loss is None or not uniform:
        return []
    if loss > (1 - NO_PROGRESS_FRACTION) * uniform:
        if ideal is not None and ideal > (1 - 3 * NO_PROGRESS_FRACTION) * uniform:
            return [
                f"training loss {loss:.3f}: the temperature is so high that even perfect embeddings would "
                f"only reach {ideal:.3f} ({uniform:.3f} is no knowledge). Try a lower --temperature."
            ]
        return [
            f"training loss {loss:.3f}: still that of no knowledge ({uniform:.3f}), nothing is learnt. "
            "Try a lower --temperature, another --learning-rate, or milder views (higher --crop-min and "
            "--window-min, lower --jitter)."
        ]
    if loss > (1 - CLEAR_PROGRESS_FRACTION) * uniform or val_loss is None or not val_uniform:
        return []
    if val_loss > (1 - NO_PROGRESS_FRACTION) * val_uniform:
        return [
            f"held-out loss {val_loss:.3f}: that of no knowledge ({val_uniform:.3f}), though the "
            f"training loss has fallen to {loss:.3f}: what is learnt does not carry over to other groups. "
            "Try more data, or stronger views (lower --crop-min and --window-min, higher "
            "--jitter)."
        ]
    return []


def _finite_or_none(value: Any) -> float | None:
    """A finite number, else None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
