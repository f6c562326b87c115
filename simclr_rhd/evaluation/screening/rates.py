"""Rates of a screening test: who is sent on, and who is missed.

Notation: n units (patients or videos), G groups, R resamples.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from simclr_rhd.evaluation.scores.bootstrap import TAIL_PROBABILITY, resample_counts, resample_sums, wilson
from simclr_rhd.evaluation.scores.records import Record, Score

SCREENED = 1000  # people


@dataclass(frozen=True)
class ScreeningScores:
    """The scores of n units.

    Attributes:
        positive: (n,) bool, whether a unit is ill.
        score: (n,) the higher the likelier.
        groups: (n,) names; units of a group are not independent.
    """

    positive: np.ndarray
    score: np.ndarray
    groups: np.ndarray

    @property
    def n_positive(self) -> int:
        """Units that are ill."""
        return int(self.positive.sum())

    @property
    def n_negative(self) -> int:
        """Units that are not."""
        return int((~self.positive).sum())


def join_scores(parts: Sequence[ScreeningScores]) -> ScreeningScores:
    """The units of all parts."""
    if not parts:
        return ScreeningScores(np.zeros(0, dtype=bool), np.zeros(0), np.zeros(0, dtype=str))
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return ScreeningScores(*(np.concatenate(column) for column in columns))


@dataclass(frozen=True)
class PredictiveValues(Record):
    """Predictive values of a test where a share of those screened is ill, and counts of 1,000 people.

    Attributes:
        prevalence: that share, between 0 and 1.
        ppv: the share of those sent on that are ill; None where none is sent on.
        npv: the share of the others that are not ill; None where all are sent on.
        sent_on: of 1,000 screened.
        ill_sent_on: of 1,000 screened.
        missed: of 1,000 screened.
    """

    prevalence: float
    ppv: Score
    npv: Score
    sent_on: float
    ill_sent_on: float
    missed: float


@dataclass(frozen=True)
class Rates(Record):
    """Rates of a test at a threshold: who has at least that score is sent on.

    Attributes:
        sensitivity: the share of the ill that are sent on.
        specificity: the share of the others that are not.
        lr_positive: sensitivity / (1 - specificity), the likelihood ratio of being sent on; may be infinite.
        lr_negative: (1 - sensitivity) / specificity, that of not being sent on; may be infinite.
    """

    sensitivity: Score
    specificity: Score
    lr_positive: Score
    lr_negative: Score

    def at_prevalence(self, prevalence: float) -> PredictiveValues | None:
        """Predictive values by Bayes' rule, their intervals by those of the likelihood ratios.

        Args:
            prevalence: between 0 and 1.

        Returns:
            None where a rate is not known.
        """
        sensitivity, specificity = self.sensitivity.value, self.specificity.value
        if sensitivity is None or specificity is None:
            return None
        odds, ill = prevalence / (1 - prevalence), SCREENED * prevalence
        ill_sent_on = ill * sensitivity
        return PredictiveValues(
            prevalence=prevalence,
            ppv=_mapped(self.lr_positive, lambda ratio: _share(odds * ratio)),
            npv=_mapped(self.lr_negative, lambda ratio: 1 - _share(odds * ratio)),
            sent_on=ill_sent_on + (SCREENED - ill) * (1 - specificity),
            ill_sent_on=ill_sent_on,
            missed=ill - ill_sent_on,
        )


def rates_at(scores: ScreeningScores, threshold: np.ndarray | float, *, seed: int) -> Rates:
    """Rates of those with a score of at least a threshold; of a class that no unit has there is none.

    Args:
        scores: of tested units.
        threshold: of all units or (n,) of each, chosen on others.
        seed: of the bootstrap over groups.
    """
    names, group = np.unique(scores.groups, return_inverse=True)
    cells = np.zeros((len(names), 2, 2))  # by group, ill or not, sent on or not
    np.add.at(cells, (group, scores.positive.astype(int), (scores.score >= threshold).astype(int)), 1)
    sensitivity = _proportion(cells[:, 1], 1, seed=seed)
    specificity = _proportion(cells[:, 0], 0, seed=seed)
    others = _mapped(specificity, lambda share: 1 - share)
    missed = _mapped(sensitivity, lambda share: 1 - share)
    return Rates(sensitivity, specificity, _ratio(sensitivity, others), _ratio(missed, specificity))


def _proportion(cells: np.ndarray, column: int, *, seed: int) -> Score:
    """A share of units with its 95 % interval over groups.

    Wilson's interval (1927) of as many independent units as would give the share the variance that it has
    over resamples of the groups (Korn & Graubard 1998), at most of all.

    Args:
        cells: (G, 2) counts.
        column: of those that are counted.
        seed: of the resamples.
    """
    cells = cells[cells.sum(axis=1) > 0]  # groups that have such units
    n, n_groups = cells.sum(), len(cells)
    if n == 0:
        return Score()
    share = float(cells[:, column].sum() / n)
    if n_groups < 2:
        return Score(share)
    sums = resample_sums(resample_counts(n_groups, seed), cells)
    variance = float((sums[:, column] / sums.sum(axis=1)).var()) * n_groups / (n_groups - 1)
    of_groups = (stdtrit(n - 1, TAIL_PROBABILITY) / stdtrit(n_groups - 1, TAIL_PROBABILITY)) ** 2
    independent = share * (1 - share) / variance * of_groups if variance > 0 else n_groups
    centre, half = wilson(share, min(independent, n))
    # exact at the ends, where a rounding error would make a ratio's bound finite
    low = 0.0 if share == 0 else max(0.0, centre - half)
    return Score(share, low, 1.0 if share == 1 else min(1.0, centre + half))


def _ratio(above: Score, below: Score) -> Score:
    """The ratio of two independent shares, its interval by theirs (MOVER, Donner & Zou 2012)."""
    if above.value is None or below.value is None or above.value == below.value == 0:
        return Score()
    value = above.value / below.value if below.value > 0 else math.inf
    if above.low is None or above.high is None or below.low is None or below.high is None:
        return Score(value)
    a, b = above.value, below.value
    return Score(
        value,
        _mover(a, b, above.low, below.high, sign=-1),
        _mover(a, b, above.high, below.low, sign=1),
    )


def _mover(a: float, b: float, a_bound: float, b_bound: float, *, sign: int) -> float:
    """A bound of a / b by the bounds of a and b that lie on its side."""
    below = b_bound * (2 * b - b_bound)
    root = math.sqrt(max(0.0, (a * b) ** 2 - a_bound * (2 * a - a_bound) * below))
    if below == 0:
        return math.inf if sign > 0 else a_bound * (2 * a - a_bound) / (2 * a * b) if a * b else 0.0
    return max(0.0, (a * b + sign * root) / below)


def _mapped(score: Score, function: Callable[[float], float]) -> Score:
    """A monotone function of a figure and of its bounds, the lower of these first."""
    if score.value is None:
        return score
    value = function(score.value)
    if score.low is None or score.high is None:
        return Score(value)
    return Score(value, *sorted((function(score.low), function(score.high))))


def _share(odds: float) -> float:
    return 1.0 if math.isinf(odds) else odds / (1 + odds)
