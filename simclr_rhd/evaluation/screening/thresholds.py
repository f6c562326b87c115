"""Thresholds of a screening test, chosen on validation units for a sensitivity or a specificity.

Who has at least the threshold's score is sent on.
"""

import math
from dataclasses import dataclass

import numpy as np

from simclr_rhd.evaluation.config import ScreeningConfig
from simclr_rhd.evaluation.screening.rates import ScreeningScores

SENSITIVITY, SPECIFICITY = "sensitivity", "specificity"
ROUNDING = 1e-9  # units that a share may lack by rounding


@dataclass(frozen=True)
class OperatingGoal:
    """A rate that a test shall have.

    Attributes:
        rate: 'sensitivity' or 'specificity'.
        at_least: share, above 0 and at most 1.
    """

    rate: str
    at_least: float

    @property
    def name(self) -> str:
        """As it stands in files: 'sensitivity 0.90', 'sensitivity 0.995'."""
        digits = f"{self.at_least:.2f}"
        return f"{self.rate} {digits if float(digits) == self.at_least else f'{self.at_least:g}'}"


def operating_goals(config: ScreeningConfig) -> list[OperatingGoal]:
    """The goals that the flags name."""
    return [OperatingGoal(SENSITIVITY, share) for share in config.sensitivity] + [
        OperatingGoal(SPECIFICITY, share) for share in config.specificity
    ]


def choose_threshold(scores: ScreeningScores, goal: OperatingGoal) -> float | None:
    """The threshold that reaches a goal on some units and costs the other rate least.

    Args:
        scores: of validation units.
        goal: that shall be reached there.

    Returns:
        The highest one of that sensitivity, or the lowest one of that specificity; None where no unit is ill,
        or all are.
    """
    ill, well = np.sort(scores.score[scores.positive]), np.sort(scores.score[~scores.positive])
    if not len(ill) or not len(well):
        return None
    if goal.rate == SENSITIVITY:
        return float(ill[len(ill) - _units(goal.at_least, len(ill))])
    highest_kept = well[_units(goal.at_least, len(well)) - 1]
    above = scores.score[scores.score > highest_kept]
    return float(above.min() if len(above) else np.nextafter(highest_kept, math.inf))


def _units(share: float, n: int) -> int:
    """The fewest of n units that are at least a share of them, and one at least."""
    return max(1, math.ceil(share * n - ROUNDING))
