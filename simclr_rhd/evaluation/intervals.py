"""Every figure of a classifier on the resamples of a bootstrap over groups, and from them its interval.

Notation: n samples, C classes, C' of them that count, G groups, R resamples.
"""

from collections.abc import Sequence

import numpy as np

from simclr_rhd.evaluation.bootstrap import Interval, percentile_interval, resample_counts, resample_sums
from simclr_rhd.evaluation.confusions import (
    AVERAGED_METRICS,
    average_over_classes,
    cohen_kappa,
    group_confusions,
    ordinal_predictions,
    per_class,
)
from simclr_rhd.evaluation.ranking import ranking_metrics
from simclr_rhd.heads.calibration import N_BINS, expected_calibration_error, squared_errors, top_labels

NON_PROPORTION_RANGES = {
    "brier": (0.0, 2.0),
    "ece": (0.0, 1.0),
}  # and the kappas; with the ends of their scales


def bootstrap_intervals(
    true: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    *,
    present_classes: Sequence[int],
    ordered: Sequence[int],
    seed: int,
) -> tuple[dict[str, list[Interval]], dict[str, Interval]]:
    """95 % intervals over groups.

    Resamples add a chance deviation of their own to the calibration error, whose distances have no sign; that
    much is taken off, so that its interval lies about the figure.

    Args:
        true: (n,) class indices, all of them in `present_classes`.
        predicted: (n,) class indices.
        probabilities: (n, C), rows sum to 1.
        groups: (n,) names.
        present_classes: the C' classes that occur, two or more.
        ordered: classes that form a scale, lowest first; may be none.
        seed: of the resamples.

    Returns:
        {figure: C' intervals} and {average: interval}; None where a figure rests on fewer than two groups or
        is defined in no resample.
    """
    names, group = np.unique(groups, return_inverse=True)
    of_groups = group_confusions(true, predicted, group, len(names), probabilities.shape[1])
    n_effective, n_effective_averages = effective_groups(of_groups, present_classes)
    of_classes, averages = resample_metrics(
        true,
        predicted,
        probabilities,
        group,
        resample_counts(len(names), seed),
        present_classes=present_classes,
        ordered=ordered,
    )
    averages["ece"] += expected_calibration_error(true, probabilities) - averages["ece"].mean()
    averages["ece"] = averages["ece"].clip(min=0)
    kept = np.isin(true, ordered)
    n_effective_averages["quadratic_kappa"] = len(np.unique(group[kept]))
    degrees = np.array([list(ordered).index(number) for number in true[kept]])
    ends = NON_PROPORTION_RANGES | {
        "kappa": (_min_kappa(true, worst_weight=1), 1.0),
        "quadratic_kappa": (_min_kappa(degrees, worst_weight=max(1, len(ordered) - 1) ** 2), 1.0),
    }
    return (
        {
            name: [
                percentile_interval(*one, proportion=True)
                for one in zip(values.T, n_effective[name], strict=True)
            ]
            for name, values in of_classes.items()
        },
        {
            name: percentile_interval(
                values,
                n_effective_averages.get(name, len(names)),
                proportion=name not in ends,
                value_range=ends.get(name, (0.0, 1.0)),
            )
            for name, values in averages.items()
        },
    )


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


def resample_metrics(
    true: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    group: np.ndarray,
    counts: np.ndarray,
    *,
    present_classes: Sequence[int],
    ordered: Sequence[int],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Every figure of every resample.

    Args:
        true: (n,) class indices, all of them in `present_classes`.
        predicted: (n,) class indices.
        probabilities: (n, C), rows sum to 1.
        group: (n,) indices of groups.
        counts: (R, G) how often each group counts.
        present_classes: the C' classes that occur.
        ordered: classes that form a scale, lowest first; may be none.

    Returns:
        {figure: (R, C')} and {average: (R,)}; NaN where a resample does not define it.
    """
    n_groups, n_classes = counts.shape[1], probabilities.shape[1]
    confusions = resample_sums(
        counts, group_confusions(true, predicted, group, n_groups, n_classes)
    )  # (R, C, C)
    size = confusions.sum(axis=(1, 2))  # (R,)
    figures = per_class(confusions, present_classes)
    areas = [
        ranking_metrics(true == number, probabilities[:, number], group, counts) for number in present_classes
    ]
    figures["auroc"], figures["average_precision"] = np.array(areas).transpose(1, 2, 0)
    averages = average_over_classes(figures, confusions.sum(axis=2)[:, list(present_classes)])
    averages["balanced_accuracy"] = averages["recall_macro"]
    averages["accuracy"] = np.trace(confusions, axis1=1, axis2=2) / size
    averages["kappa"] = cohen_kappa(confusions)
    if ordered:
        kept, ordinal = np.isin(true, ordered), ordinal_predictions(true, predicted, ordered)
        of_scale = group_confusions(true[kept], ordinal[kept], group[kept], n_groups, n_classes)
        of_scale = resample_sums(counts, of_scale[:, ordered][:, :, ordered])
        averages["quadratic_kappa"] = cohen_kappa(of_scale, quadratic=True)
    squares = np.bincount(group, weights=squared_errors(true, probabilities), minlength=n_groups)
    averages["brier"] = resample_sums(counts, squares) / size
    bin_of, confidence, right = top_labels(true, probabilities)
    gaps = np.zeros((n_groups, N_BINS))
    np.add.at(gaps, (group, bin_of), right - confidence)
    averages["ece"] = np.abs(resample_sums(counts, gaps)).sum(axis=1) / size
    return figures, averages


def effective_groups(
    per_group: np.ndarray, present_classes: Sequence[int]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """How many groups a figure rests on: those without which it would be the same do not count.

    A mean over classes rests on as many groups as would give it the same variance if each class had its share
    of them: the number of classes times the harmonic mean of their groups, and on G at most.

    Args:
        per_group: (G, C, C) confusion matrices, true by predicted.
        present_classes: the C' classes that occur.

    Returns:
        {figure: (C',)} and, for the macro averages, {average: number}; other averages rest on all G groups.
    """
    present_classes = list(present_classes)
    support = per_group.sum(axis=2)  # (G, C)
    others = support.sum(axis=1, keepdims=True) - support
    having, lacking = ((counts[:, present_classes] > 0).sum(axis=0) for counts in (support, others))  # (C',)
    saying = (per_group.sum(axis=1)[:, present_classes] > 0).sum(axis=0)
    figures = {
        "accuracy": np.full(len(present_classes), len(per_group)),
        "precision": saying,
        "recall": having,
        "f1": having,
        "specificity": lacking,
        "auroc": np.minimum(having, lacking),
        "average_precision": np.minimum(having, lacking),
    }
    averages = {
        f"{name}_macro": min(len(per_group), len(present_classes) ** 2 / (1 / np.maximum(groups, 1)).sum())
        for name, groups in figures.items()
        if name in AVERAGED_METRICS
    }
    return figures, averages | {"balanced_accuracy": averages["recall_macro"]}
