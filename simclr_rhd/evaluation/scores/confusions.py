"""Scores of many confusion matrices at once, one of each resample.

Notation: n samples, C classes, C' of them that count, K degrees of a scale, G groups, R matrices.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from simclr_rhd.evaluation.scores.records import AVERAGED_METRICS
from simclr_rhd.evaluation.scores.samples import Samples


class ConfusionMetric(NamedTuple):
    """A score of a whole confusion matrix.

    Attributes:
        compute: (R, C, C) matrices, true by predicted -> (R,); NaN where it is not defined.
        lowest: the least that it can be; the most is 1.
    """

    compute: Callable[[np.ndarray], np.ndarray]
    lowest: float = 0.0


def accuracy(confusions: np.ndarray) -> np.ndarray:
    """Share of the samples whose class is predicted, (R, C, C) -> (R,)."""
    share: np.ndarray = np.trace(confusions, axis1=1, axis2=2) / confusions.sum(axis=(1, 2))
    return share


# Each stands in `metrics.json` under its name, which `records.AVERAGE_METRICS` lists, too.
CONFUSION_METRICS = {"accuracy": ConfusionMetric(accuracy)}


def sample_confusions(samples: Samples) -> np.ndarray:
    """(G, C, C) int64, the confusion matrix of each group of some samples, true by predicted."""
    confusions = np.zeros((samples.n_groups, samples.n_classes, samples.n_classes), dtype=np.int64)
    np.add.at(confusions, (samples.group, samples.true, samples.predicted), 1)
    return confusions


def total_confusion(samples: Samples) -> np.ndarray:
    """(1, C, C) int64, the confusion matrix of all samples."""
    total: np.ndarray = sample_confusions(samples).sum(axis=0, keepdims=True)
    return total


def class_metrics(confusions: np.ndarray, present: list[int]) -> dict[str, np.ndarray]:
    """Each class that counts against the rest.

    Args:
        confusions: (R, C, C) float64, true by predicted.
        present: the C' classes.

    Returns:
        {figure: (R, C')}; NaN where a matrix has no sample of the class, and where a quotient is 0 / 0.
    """
    total = confusions.sum(axis=(1, 2))[:, None]
    support, predicted = (confusions.sum(axis=axis)[:, present] for axis in (2, 1))
    hits = np.diagonal(confusions, axis1=1, axis2=2)[:, present]
    negatives = total - support
    with np.errstate(divide="ignore", invalid="ignore"):
        figures = {
            "accuracy": (total - support - predicted + 2 * hits) / total,
            "precision": hits / predicted,
            "recall": hits / support,
            "f1": 2 * hits / (support + predicted),
            "specificity": (negatives - predicted + hits) / negatives,
        }
    return {name: np.where(support > 0, values, np.nan) for name, values in figures.items()}


def average_over_classes(metrics: Mapping[str, np.ndarray], support: np.ndarray) -> dict[str, np.ndarray]:
    """Averages over classes, plain (`_macro`) and weighted by support (`_weighted`).

    A class without samples does not count, nor one whose figure is not defined; only the precision of a class
    that is never predicted counts 0.

    Args:
        metrics: {figure: (..., C')}, some or all of AVERAGED; others are not averaged.
        support: (..., C') samples of each class.

    Returns:
        {average: (...)}; NaN where no class counts.
    """
    averages = {}
    for name in (name for name in AVERAGED_METRICS if name in metrics):
        values = metrics[name]
        counts = (support > 0) & (~np.isnan(values) | (name == "precision"))
        for how, weight in (("macro", counts), ("weighted", counts * support)):
            with np.errstate(invalid="ignore"):
                averages[f"{name}_{how}"] = (np.nan_to_num(values) * weight).sum(axis=-1) / weight.sum(
                    axis=-1
                )
    return averages


def balanced_accuracy(confusions: np.ndarray, present: list[int]) -> np.ndarray:
    """Mean recall of the classes that count, (R, C, C) -> (R,)."""
    support = confusions.sum(axis=2)[:, present]
    return average_over_classes(class_metrics(confusions, present), support)["recall_macro"]


def ordinal_confusions(confusions: np.ndarray, ordered: Sequence[int]) -> np.ndarray:
    """Confusion matrices of samples whose class is a degree of a scale, (R, C, C) -> (R, K, K).

    A prediction that is no degree counts as the degree farthest from the truth, of two that are as far as the
    lower. Left out, it would cost nothing: nine of ten Definite called "Not Applicable" would be perfect.

    Args:
        confusions: true by predicted.
        ordered: the K classes that are degrees, lowest first.
    """
    of_degrees = confusions[:, list(ordered)]  # (R, K, C)
    ordinal = of_degrees[:, :, list(ordered)]
    place, highest = np.arange(len(ordered)), len(ordered) - 1
    farthest = np.where(highest - place > place, highest, 0)
    ordinal[:, place, farthest] += of_degrees.sum(axis=2) - ordinal.sum(axis=2)
    return ordinal


def cohen_kappa(confusions: np.ndarray, *, quadratic: bool = False) -> np.ndarray:
    """Cohen's kappa of each matrix, (R, K, K) -> (R,); NaN where chance alone agrees fully.

    1 less the disagreement over that expected by chance, each weighted by the squared distance of the degrees
    if `quadratic` (Cohen 1968), else alike.
    """
    degrees = np.arange(confusions.shape[1])
    apart = degrees[:, None] - degrees
    weight = apart**2 if quadratic else apart != 0  # (K, K)
    rows, columns = confusions.sum(axis=2), confusions.sum(axis=1)  # (R, K)
    observed = (confusions * weight).sum(axis=(1, 2))
    expected = np.einsum("rt,tp,rp->r", rows, weight.astype(np.float64), columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa: np.ndarray = 1 - observed * rows.sum(axis=1) / expected
    return kappa
