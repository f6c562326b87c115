"""Intervals by a bootstrap over groups: frames of a patient are not independent, so whole groups are drawn.

Everything follows from each group's confusion matrix, so a resample is a weighted sum of these.

Notation: n samples, C classes, G groups, R resamples.
"""

import warnings
from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
SCORES = (
    "accuracy",
    "balanced_accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "specificity_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
)  # those that follow from a confusion matrix


def intervals(
    true: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    shown: Sequence[int],
    n_classes: int,
    *,
    seed: int,
) -> dict[str, list[float] | None]:
    """95 % percentile intervals; None with fewer than two groups.

    Args:
        true: (n,) class indices.
        predicted: (n,) class indices.
        groups: (n,) groups.
        shown: classes that count.
        n_classes: C.
        seed: of the resamples.

    Returns:
        {score: [low, high]} for the scores that follow from a confusion matrix.
    """
    if len(np.unique(groups)) < 2:
        return dict.fromkeys(SCORES)
    found = resampled(true, predicted, groups, shown, n_classes, seed=seed)
    return {name: bounds(values) for name, values in found.items()}


def resampled(
    true: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    shown: Sequence[int],
    n_classes: int,
    *,
    seed: int,
) -> dict[str, np.ndarray]:
    """{score: (R,)} of R resamples of groups; the same groups and seed give the same resamples."""
    names, group = np.unique(groups, return_inverse=True)
    of_groups = np.zeros((len(names), n_classes, n_classes))
    np.add.at(of_groups, (group, true, predicted), 1)
    drawn = np.random.default_rng([seed, 6]).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES
    )  # (R, G) how often each group
    return from_confusions(np.einsum("rg,gtp->rtp", drawn, of_groups), shown)


def bounds(values: np.ndarray) -> list[float] | None:
    """The middle 95 % of (R,) values, those that are not defined left out; None if none is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a score undefined in every resample stays NaN
        low, high = np.nanpercentile(values, [2.5, 97.5])
    return None if np.isnan(low) else [float(low), float(high)]


def from_confusions(confusions: np.ndarray, shown: Sequence[int]) -> dict[str, np.ndarray]:
    """Scores of R confusion matrices at once: (R, C, C), true by predicted -> {score: (R,)}.

    Classes without samples in a resample do not count in its averages.
    """
    shown = list(shown)
    total = confusions.sum(axis=(1, 2))[:, None]
    support = confusions.sum(axis=2)[:, shown]  # (R, C')
    said = confusions.sum(axis=1)[:, shown]
    hits = np.einsum("rcc->rc", confusions)[:, shown]
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = hits / support
        precision = np.where(support > 0, np.where(said > 0, hits / said, 0), np.nan)
        f1 = np.where(support > 0, 2 * hits / (support + said), np.nan)
        specificity = np.where(support > 0, (total - support - said + hits) / (total - support), np.nan)

    def macro(values: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.nanmean(values, axis=1)

    def weighted(values: np.ndarray) -> np.ndarray:
        weight = np.where(np.isnan(values), 0, support)
        with np.errstate(invalid="ignore"):
            return (np.nan_to_num(values) * weight).sum(axis=1) / weight.sum(axis=1)

    return {
        "accuracy": hits.sum(axis=1) / total[:, 0],
        "balanced_accuracy": macro(recall),
        "precision_macro": macro(precision),
        "recall_macro": macro(recall),
        "f1_macro": macro(f1),
        "specificity_macro": macro(specificity),
        "precision_weighted": weighted(precision),
        "recall_weighted": weighted(recall),
        "f1_weighted": weighted(f1),
    }
