"""The end of a run that has to end in time, as `--minutes` asks."""

from collections.abc import Mapping
from dataclasses import dataclass

from simclr_rhd.core import logs


@dataclass(frozen=True)
class TimeLimit:
    """The end of a run, and what its plan foresees. Times are seconds since the log's first line.

    Attributes:
        minutes: as `--minutes` has it.
        after_s: seconds that all takes that follows the pretraining.
        epoch_s: {pixels of a view's side: seconds of an epoch}.
    """

    minutes: float
    after_s: float
    epoch_s: Mapping[int, float]

    def left_s(self) -> float:
        """Seconds until the run has to end; negative from then on."""
        return 60 * self.minutes - logs.elapsed()

    def left_for_pretraining_s(self) -> float:
        """Seconds until the last pretraining has to end."""
        return self.left_s() - self.after_s
