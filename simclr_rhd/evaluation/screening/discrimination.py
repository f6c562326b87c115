"""Discrimination of the ill from the others: ROC curve, AUROC, and its difference to another method's.

Notation: n units, G groups, R resamples, T points of a curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simclr_rhd.evaluation.scores.bootstrap import (
    TAIL_PROBABILITY,
    difference_interval,
    each_group_once,
    percentile_interval,
    resample_counts,
)
from simclr_rhd.evaluation.scores.differences import mean_of_draws
from simclr_rhd.evaluation.scores.ranking import ranking_metrics
from simclr_rhd.evaluation.scores.records import Record, Score
from simclr_rhd.evaluation.screening.rates import ScreeningScores

ROC_GRID = np.linspace(0, 1, 51)  # of 1 - specificity
MAX_CELLS = 2**20  # numbers of resampled curves at a time: bounds the memory


@dataclass(frozen=True)
class RocCurve(Record):
    """Sensitivity at T shares of false positives, each with its own 95 % interval over groups."""

    false_positive_rate: list[float]
    sensitivity: list[float]
    low: list[float]
    high: list[float]


def auroc(scores: ScreeningScores, *, seed: int) -> Score:
    """The area under the ROC curve with its 95 % interval over groups; none with one kind of units alone."""
    values = _resampled_auroc(scores, seed)
    if np.isnan(values[0]):
        return Score()
    interval = percentile_interval(values[1:], _effective_groups(scores), proportion=True)
    return Score.of(float(values[0]), interval)


def auroc_difference(
    ours: ScreeningScores, draws: Sequence[ScreeningScores], *, seed: int, n_comparisons: int = 1
) -> Score:
    """The area of ours less the mean of another method's draws, on the same units and resamples.

    The intervals of all comparisons hold together with 95 % (Bonferroni).
    """
    values = _resampled_auroc(ours, seed)
    if np.isnan(values[0]):
        return Score()
    others = np.stack([_resampled_auroc(of, seed) for of in draws], axis=1)
    differences = values - mean_of_draws(others, seed=seed)
    tail = TAIL_PROBABILITY / n_comparisons
    interval = difference_interval(differences[1:], _effective_groups(ours), tail=tail)
    return Score.of(float(differences[0]), interval)


def roc_curve(scores: ScreeningScores, *, seed: int) -> RocCurve | None:
    """The curve with its pointwise band; None with one kind of units alone."""
    if not scores.n_positive or not scores.n_negative:
        return None
    groups, group = np.unique(scores.groups, return_inverse=True)
    counts = np.vstack([each_group_once(len(groups)), resample_counts(len(groups), seed)])
    order = np.argsort(-scores.score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores.score[order]) != 0, True))  # of each tie
    positive = scores.positive[order]
    curves = []
    for some in np.array_split(counts, -(-counts.shape[0] * len(order) // MAX_CELLS)):
        weights = some[:, group[order]].astype(np.float64)  # (r, n)
        hits, alarms = ((weights * which).cumsum(axis=1)[:, ends] for which in (positive, ~positive))
        curves += [_sensitivities(*pair) for pair in zip(hits, alarms, strict=True)]
    whole, resampled = curves[0], np.stack(curves[1:])
    n_groups = _effective_groups(scores)
    bands = [percentile_interval(column, n_groups, proportion=True) for column in resampled.T]
    low, high = zip(*(band or (0.0, 1.0) for band in bands), strict=True)
    return RocCurve(ROC_GRID.tolist(), whole.tolist(), list(low), list(high))


def _sensitivities(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    """(T,) highest sensitivity at most at each share of false positives; NaN where a kind was not drawn.

    Args:
        hits: (m,) positives from the highest score down to each of m scores.
        alarms: (m,) negatives, likewise.
    """
    if not hits[-1] or not alarms[-1]:
        return np.full(len(ROC_GRID), np.nan)
    rate = np.concatenate([[0.0], alarms / alarms[-1]])
    sensitivity = np.concatenate([[0.0], hits / hits[-1]])
    reached: np.ndarray = sensitivity[np.searchsorted(rate, ROC_GRID + 1e-12, side="right") - 1]
    return reached


def _resampled_auroc(scores: ScreeningScores, seed: int) -> np.ndarray:
    """(1 + R,) the area of the units themselves, and of each resample."""
    groups, group = np.unique(scores.groups, return_inverse=True)
    if not scores.n_positive or not scores.n_negative:
        return np.full(1, np.nan)
    counts = np.vstack([each_group_once(len(groups)), resample_counts(len(groups), seed)])
    areas, _ = ranking_metrics(scores.positive, scores.score, group, counts)
    return areas


def _effective_groups(scores: ScreeningScores) -> int:
    """Groups that the rarer kind of units has."""
    return min(len(np.unique(scores.groups[which])) for which in (scores.positive, ~scores.positive))
