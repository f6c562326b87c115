"""Output after each epoch of pretraining: a line for people, one for programs, and figures for trackers."""

import logging
import math
from collections.abc import Sequence

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core.file_names import HISTORY
from simclr_rhd.core.files import write_lines
from simclr_rhd.core.logs import format_duration
from simclr_rhd.runs.context import RunContext
from simclr_rhd.ssl.config import PretrainConfig
from simclr_rhd.ssl.encoder.model import EMBEDDING_DIM
from simclr_rhd.ssl.monitoring.collapse import collapse_warnings
from simclr_rhd.ssl.monitoring.epoch_record import EpochRecord
from simclr_rhd.ssl.schedule import size_per_epoch, sizes_of

logger = logging.getLogger("simclr_rhd")


class EpochLogger:
    """Logger of the epochs, called with the history after each of them; the leader alone writes.

    Args:
        run: gives the folder of `history.jsonl`, and the trackers.
        config: sizes of the views as planned, monitor of early stopping.
    """

    def __init__(self, run: RunContext, config: PretrainConfig) -> None:
        self.run, self.monitor = run, config.monitor
        self.sizes = size_per_epoch(sizes_of(config), config.epochs)

    def __call__(self, history: list[EpochRecord]) -> None:
        """Write and log the last epoch."""
        if not ranks.is_main_process():
            return
        records = [record.to_json() for record in history]
        write_lines(self.run.save_dir / HISTORY, records)
        logger.info(epoch_line(history, self.sizes, self.monitor))
        last = history[-1]
        for warning in collapse_warnings(last, dim=EMBEDDING_DIM):
            logger.warning("WARNING %s", warning)
        self.run.tracking.log_epochs(self.run.series, records)


def epoch_line(history: Sequence[EpochRecord], sizes: Sequence[int], monitor: str) -> str:
    """One readable line for the log, from the last record; an epoch's time goes with its views' area."""
    last, epochs = history[-1], history[-1].last_epoch
    area = sum(max(size, last.size) ** 2 for size in sizes[last.epoch : epochs])
    left = area * sum(row.seconds for row in history) / sum(row.size**2 for row in history)
    whole = math.isclose(math.exp(last.uniform) % 2, 1, abs_tol=1e-6)  # no negative was left out
    parts = [
        f"simclr epoch {last.epoch}/{epochs}: loss {last.loss:.4f} (uniform {'ln(2N-1) = ' * whole}"
        f"{last.uniform:.4f}, perfect {last.perfect:.4f})"
    ]
    if last.val_loss is not None:
        parts.append(f"held-out {last.val_loss:.4f} (uniform {last.val_uniform:.4f})")
    parts.append(
        f"alignment {last.alignment:.3f}, uniformity {last.uniformity:.3f}, "
        f"rank {last.rank:.1f} of {min(EMBEDDING_DIM, 2 * last.measured_frames)}"
    )
    if votes := [f"{task} {score:.2f}" for task, score in (last.knn or {}).items() if score is not None]:
        parts.append(f"kNN {' '.join(votes)}")
    if last.annealing:
        parts.append("annealing")
    elif last.best:
        parts.append(f"best {monitor.replace('-', ' ')}")
    parts.append(
        f"{last.frames_per_s:.0f} frames/s, {format_duration(last.seconds)}, "
        f"about {format_duration(left)} left"
    )
    return ", ".join(parts)
