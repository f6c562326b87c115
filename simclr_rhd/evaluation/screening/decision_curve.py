"""Decision curves (Vickers & Elkin 2006): what a test is worth to those who weigh a miss against an alarm.

Who is sent on at a threshold probability p accepts (1 - p) / p false positives for one true positive. The net
benefit is the share of true positives, less that of false positives at that rate.

Notation: n units, G groups, R resamples, T threshold probabilities.
"""

from dataclasses import dataclass

import numpy as np

from simclr_rhd.evaluation.scores.bootstrap import percentile_interval, resample_counts, resample_sums
from simclr_rhd.evaluation.scores.records import Record, Score
from simclr_rhd.evaluation.screening.rates import ScreeningScores

THRESHOLDS = tuple(percent / 100 for percent in range(1, 21))


@dataclass(frozen=True)
class DecisionPoint(Record):
    """Net benefits at a threshold probability, a share of all units.

    Attributes:
        threshold: the probability from which on one is sent on.
        model: net benefit of sending on by the model.
        everyone: of sending everyone on; that of sending no one on is 0.
        advantage: the model's less the larger of the two.
    """

    threshold: float
    model: Score
    everyone: float
    advantage: Score


def decision_curve(scores: ScreeningScores, *, seed: int) -> list[DecisionPoint]:
    """The curve from 1 to 20 %, with 95 % intervals over groups.

    Args:
        scores: of tested units; the scores are probabilities that hold for the share of ill units there.
        seed: of the resamples.

    Returns:
        T points; none where no unit is ill, or all are.
    """
    if not scores.n_positive or not scores.n_negative:
        return []
    names, group = np.unique(scores.groups, return_inverse=True)
    counts = resample_counts(len(names), seed)
    points = []
    for threshold in THRESHOLDS:
        sent_on = scores.score >= threshold
        events = np.stack([scores.positive & sent_on, ~scores.positive & sent_on, scores.positive], axis=1)
        cells = np.zeros((len(names), 4))  # by group: true and false positives, ill, all
        np.add.at(cells, group, np.column_stack([events, np.ones(len(sent_on))]))
        benefits = net_benefits(cells.sum(axis=0, keepdims=True), threshold)
        resampled = net_benefits(resample_sums(counts, cells), threshold)
        model = _score(benefits[:, 0], resampled[:, 0], len(names))
        advantage = _score(_advantage(benefits), _advantage(resampled), len(names))
        points.append(DecisionPoint(threshold, model, float(benefits[0, 1]), advantage))
    return points


def _score(value: np.ndarray, resampled: np.ndarray, n_groups: int) -> Score:
    return Score.of(float(value[0]), percentile_interval(resampled, n_groups, value_range=(-np.inf, 1.0)))


def net_benefits(cells: np.ndarray, threshold: float) -> np.ndarray:
    """Net benefit of the model and of sending everyone on.

    Args:
        cells: (R, 4) true positives, false positives, ill units, all units.
        threshold: probability, between 0 and 1.

    Returns:
        (R, 2).
    """
    true_positives, false_positives, ill, n = cells.T
    weight = threshold / (1 - threshold)
    by_model, by_everyone = true_positives - weight * false_positives, ill - weight * (n - ill)
    benefits: np.ndarray = np.stack([by_model, by_everyone], axis=1) / n[:, None]
    return benefits


def _advantage(benefits: np.ndarray) -> np.ndarray:
    best: np.ndarray = benefits[:, 0] - benefits[:, 1].clip(min=0)
    return best
