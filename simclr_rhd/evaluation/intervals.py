"""Every figure of a classifier on the resamples of a bootstrap over groups, and from them its interval.

Notation: n samples, C classes, C' of them that count, G groups, R resamples.
"""

from collections.abc import Sequence

import numpy as np

from simclr_rhd.evaluation.bootstrap import Bounds, bounds, draws, totals
from simclr_rhd.evaluation.confusions import AVERAGED, as_degrees, averaged, counted, kappa, per_class
from simclr_rhd.evaluation.ranking import ranking
from simclr_rhd.heads.calibration import BINS, expected_calibration_error, squared_errors, top_labels

NO_PROPORTIONS = {"brier": (0.0, 2.0), "ece": (0.0, 1.0)}  # and the kappas; with the ends of their scales


def intervals(
    true: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    *,
    shown: Sequence[int],
    ordered: Sequence[int],
    seed: int,
) -> tuple[dict[str, list[Bounds]], dict[str, Bounds]]:
    """95 % intervals over groups.

    Resamples add a chance deviation of their own to the calibration error, whose distances have no sign; that
    much is taken off, so that its interval lies about the figure.

    Args:
        true: (n,) class indices, all of them in `shown`.
        predicted: (n,) class indices.
        probabilities: (n, C), rows sum to 1.
        groups: (n,) names.
        shown: the C' classes that occur, two or more.
        ordered: classes that form a scale, lowest first; may be none.
        seed: of the resamples.

    Returns:
        {figure: C' intervals} and {average: interval}; None where a figure rests on fewer than two groups or
        is defined in no resample.
    """
    names, group = np.unique(groups, return_inverse=True)
    of_groups = counted(true, predicted, group, len(names), probabilities.shape[1])
    resting, resting_averages = rest_on(of_groups, shown)
    of_classes, averages = resampled(
        true, predicted, probabilities, group, draws(len(names), seed), shown=shown, ordered=ordered
    )
    averages["ece"] += expected_calibration_error(true, probabilities) - averages["ece"].mean()
    averages["ece"] = averages["ece"].clip(min=0)
    kept = np.isin(true, ordered)
    resting_averages["quadratic_kappa"] = len(np.unique(group[kept]))
    degrees = np.array([list(ordered).index(number) for number in true[kept]])
    ends = NO_PROPORTIONS | {
        "kappa": (_lowest_kappa(true, apart=1), 1.0),
        "quadratic_kappa": (_lowest_kappa(degrees, apart=max(1, len(ordered) - 1) ** 2), 1.0),
    }
    return (
        {
            name: [bounds(*one, proportion=True) for one in zip(values.T, resting[name], strict=True)]
            for name, values in of_classes.items()
        },
        {
            name: bounds(
                values,
                resting_averages.get(name, len(names)),
                proportion=name not in ends,
                ends=ends.get(name, (0.0, 1.0)),
            )
            for name, values in averages.items()
        },
    )


def _lowest_kappa(true: np.ndarray, *, apart: int) -> float:
    """The kappa of an answer that is as wrong as can be everywhere, and each class as often as it is.

    Args:
        true: (n,) classes or degrees.
        apart: the weight of the worst mistake.
    """
    if not len(true):
        return -1.0
    distances = np.abs(true[:, None] - np.unique(true)) if apart > 1 else true[:, None] != np.unique(true)
    share = np.unique(true, return_counts=True)[1] / len(true)
    expected = float((distances.astype(np.float64) ** 2 @ share).mean())
    return 1 - apart / expected if expected else -1.0


def resampled(
    true: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    group: np.ndarray,
    drawn: np.ndarray,
    *,
    shown: Sequence[int],
    ordered: Sequence[int],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Every figure of every resample.

    Args:
        true: (n,) class indices, all of them in `shown`.
        predicted: (n,) class indices.
        probabilities: (n, C), rows sum to 1.
        group: (n,) indices of groups.
        drawn: (R, G) how often each group counts.
        shown: the C' classes that occur.
        ordered: classes that form a scale, lowest first; may be none.

    Returns:
        {figure: (R, C')} and {average: (R,)}; NaN where a resample does not define it.
    """
    n_groups, n_classes = drawn.shape[1], probabilities.shape[1]
    confusions = totals(drawn, counted(true, predicted, group, n_groups, n_classes))  # (R, C, C)
    size = confusions.sum(axis=(1, 2))  # (R,)
    figures = per_class(confusions, shown)
    areas = [ranking(true == number, probabilities[:, number], group, drawn) for number in shown]
    figures["auroc"], figures["average_precision"] = np.array(areas).transpose(1, 2, 0)
    averages = averaged(figures, confusions.sum(axis=2)[:, list(shown)])
    averages["balanced_accuracy"] = averages["recall_macro"]
    averages["accuracy"] = np.trace(confusions, axis1=1, axis2=2) / size
    averages["kappa"] = kappa(confusions)
    if ordered:
        kept, said = np.isin(true, ordered), as_degrees(true, predicted, ordered)
        of_scale = counted(true[kept], said[kept], group[kept], n_groups, n_classes)
        of_scale = totals(drawn, of_scale[:, ordered][:, :, ordered])
        averages["quadratic_kappa"] = kappa(of_scale, quadratic=True)
    squares = np.bincount(group, weights=squared_errors(true, probabilities), minlength=n_groups)
    averages["brier"] = totals(drawn, squares) / size
    bin_of, confidence, right = top_labels(true, probabilities)
    gaps = np.zeros((n_groups, BINS))
    np.add.at(gaps, (group, bin_of), right - confidence)
    averages["ece"] = np.abs(totals(drawn, gaps)).sum(axis=1) / size
    return figures, averages


def rest_on(of_groups: np.ndarray, shown: Sequence[int]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """How many groups a figure rests on: those without which it would be the same do not count.

    A mean over classes rests on as many groups as would give it the same variance if each class had its share
    of them: the number of classes times the harmonic mean of their groups, and on G at most.

    Args:
        of_groups: (G, C, C) confusion matrices, true by predicted.
        shown: the C' classes that occur.

    Returns:
        {figure: (C',)} and, for the macro averages, {average: number}; other averages rest on all G groups.
    """
    shown = list(shown)
    support = of_groups.sum(axis=2)  # (G, C)
    others = support.sum(axis=1, keepdims=True) - support
    having, lacking = ((counts[:, shown] > 0).sum(axis=0) for counts in (support, others))  # (C',)
    saying = (of_groups.sum(axis=1)[:, shown] > 0).sum(axis=0)
    figures = {
        "accuracy": np.full(len(shown), len(of_groups)),
        "precision": saying,
        "recall": having,
        "f1": having,
        "specificity": lacking,
        "auroc": np.minimum(having, lacking),
        "average_precision": np.minimum(having, lacking),
    }
    averages = {
        f"{name}_macro": min(len(of_groups), len(shown) ** 2 / (1 / np.maximum(groups, 1)).sum())
        for name, groups in figures.items()
        if name in AVERAGED
    }
    return figures, averages | {"balanced_accuracy": averages["recall_macro"]}
