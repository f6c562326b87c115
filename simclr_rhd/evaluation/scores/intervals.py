"""The interval of each figure of a classifier, by a bootstrap over groups.

Notation: n samples, C classes, C' of them that occur, G groups, R resamples.
"""

from collections.abc import Sequence

import numpy as np

from simclr_rhd.evaluation.scores.bootstrap import percentile_interval, resample_counts
from simclr_rhd.evaluation.scores.calibration_errors import expected_calibration_error
from simclr_rhd.evaluation.scores.confusions import CONFUSION_METRICS, sample_confusions
from simclr_rhd.evaluation.scores.figures import compute_figures
from simclr_rhd.evaluation.scores.records import AVERAGED_METRICS, Interval
from simclr_rhd.evaluation.scores.samples import Samples


def bootstrap_intervals(
    samples: Samples, ordered: Sequence[int], *, seed: int
) -> tuple[dict[str, list[Interval]], dict[str, Interval]]:
    """95 % intervals over groups.

    Resamples add a chance deviation of their own to the calibration error, whose distances have no sign; that
    much is taken off, so that its interval lies about the figure.

    Args:
        samples: of two or more classes.
        ordered: classes that form a scale, lowest first; may be none.
        seed: of the resamples.

    Returns:
        {figure: C' intervals} and {average: interval}; None where a figure rests on fewer than two groups or
        is defined in no resample.
    """
    n_groups = samples.n_groups
    n_effective, n_effective_averages = effective_groups(samples)
    figures, averages = compute_figures(samples, ordered, resample_counts(n_groups, seed))
    ece = expected_calibration_error(samples.true, samples.probabilities)
    averages["ece"] = (averages["ece"] + (ece - averages["ece"].mean())).clip(min=0)
    on_scale = np.isin(samples.true, ordered)
    n_effective_averages["quadratic_kappa"] = len(np.unique(samples.group[on_scale]))
    ranges = _non_proportion_ranges(samples.true, ordered)
    return (
        {
            name: [
                percentile_interval(*of_class, proportion=True)
                for of_class in zip(values.T, n_effective[name], strict=True)
            ]
            for name, values in figures.items()
        },
        {
            name: percentile_interval(
                values,
                n_effective_averages.get(name, n_groups),
                proportion=name not in ranges,
                value_range=ranges.get(name, (0.0, 1.0)),
            )
            for name, values in averages.items()
        },
    )


def _non_proportion_ranges(true: np.ndarray, ordered: Sequence[int]) -> dict[str, tuple[float, float]]:
    """{average that is no proportion: the ends of its scale}."""
    degrees = np.array([list(ordered).index(number) for number in true[np.isin(true, ordered)]])
    worst_weight = max(1, len(ordered) - 1) ** 2
    signed = {name: (of.lowest, 1.0) for name, of in CONFUSION_METRICS.items() if of.lowest < 0}
    return signed | {
        "brier": (0.0, 2.0),
        "ece": (0.0, 1.0),
        "kappa": (_min_kappa(true, worst_weight=1), 1.0),
        "quadratic_kappa": (_min_kappa(degrees, worst_weight=worst_weight), 1.0),
    }


def _min_kappa(true: np.ndarray, *, worst_weight: int) -> float:
    """The kappa of an answer that is as wrong as can be everywhere, and each class as often as it is.

    Args:
        true: (n,) classes or degrees.
        worst_weight: the weight of the worst mistake.
    """
    if not len(true):
        return -1.0
    distances = (
        np.abs(true[:, None] - np.unique(true)) if worst_weight > 1 else true[:, None] != np.unique(true)
    )
    share = np.unique(true, return_counts=True)[1] / len(true)
    expected = float((distances.astype(np.float64) ** 2 @ share).mean())
    return 1 - worst_weight / expected if expected else -1.0


def effective_groups(samples: Samples) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Number of groups that a figure rests on: those without which it would be the same do not count.

    A mean over classes rests on as many groups as would give it the same variance if each class had its share
    of them: the number of classes times the harmonic mean of their groups, and on G at most.

    Returns:
        {figure: (C',)} and, for the macro averages, {average: number}; other averages rest on all G groups.
    """
    per_group, present, n_groups = sample_confusions(samples), samples.present, samples.n_groups
    support = per_group.sum(axis=2)  # (G, C)
    others = support.sum(axis=1, keepdims=True) - support
    predicted = per_group.sum(axis=1)
    groups_with_class, groups_without_class, groups_predicting = (
        (counts[:, present] > 0).sum(axis=0) for counts in (support, others, predicted)
    )  # (C',)
    figures = {
        "accuracy": np.full(len(present), n_groups),
        "precision": groups_predicting,
        "recall": groups_with_class,
        "f1": groups_with_class,
        "specificity": groups_without_class,
        "auroc": np.minimum(groups_with_class, groups_without_class),
        "average_precision": np.minimum(groups_with_class, groups_without_class),
    }
    averages = {
        f"{name}_macro": min(n_groups, len(present) ** 2 / (1 / np.maximum(groups, 1)).sum())
        for name, groups in figures.items()
        if name in AVERAGED_METRICS
    }
    return figures, averages | {"balanced_accuracy": averages["recall_macro"]}
