"""Every figure of a classifier, of many resamples at once; of the samples themselves with `each_group_once`.

Notation: C' classes that occur, G groups, R resamples, K degrees of a scale.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simclr_rhd.evaluation.scores.bootstrap import resample_sums
from simclr_rhd.evaluation.scores.calibration_errors import calibration_gaps, squared_errors
from simclr_rhd.evaluation.scores.confusions import (
    CONFUSION_METRICS,
    average_over_classes,
    class_metrics,
    cohen_kappa,
    group_confusions,
    ordinal_predictions,
    sample_confusions,
)
from simclr_rhd.evaluation.scores.ranking import ranking_metrics
from simclr_rhd.evaluation.scores.samples import Samples


class Figures(NamedTuple):
    """The figures of R resamples; NaN where a resample does not define one.

    Attributes:
        of_classes: {figure: (R, C')}, of PER_CLASS_METRICS.
        averages: {average: (R,)}, of AVERAGE_METRICS.
    """

    of_classes: dict[str, np.ndarray]
    averages: dict[str, np.ndarray]


def compute_figures(samples: Samples, ordered: Sequence[int], counts: np.ndarray) -> Figures:
    """Every figure of every resample.

    Args:
        samples: of two or more classes.
        ordered: classes that form a scale, lowest first; may be none.
        counts: (R, G) how often each group counts.
    """
    true, probabilities, group, present = samples.true, samples.probabilities, samples.group, samples.present
    confusions = resample_sums(counts, sample_confusions(samples))  # (R, C, C)
    size = confusions.sum(axis=(1, 2))  # (R,)
    of_classes = class_metrics(confusions, present)
    areas = [ranking_metrics(true == number, probabilities[:, number], group, counts) for number in present]
    of_classes["auroc"], of_classes["average_precision"] = np.array(areas).transpose(1, 2, 0)
    averages = average_over_classes(of_classes, confusions.sum(axis=2)[:, present])
    averages |= {name: of.compute(confusions) for name, of in CONFUSION_METRICS.items()}
    squares = np.bincount(group, weights=squared_errors(true, probabilities))
    gaps = resample_sums(counts, calibration_gaps(true, probabilities, group))
    return Figures(
        of_classes,
        averages
        | {
            "balanced_accuracy": averages["recall_macro"],
            "kappa": cohen_kappa(confusions),
            "quadratic_kappa": _quadratic_kappa(samples, ordered, counts),
            "brier": resample_sums(counts, squares) / size,
            "ece": np.abs(gaps).sum(axis=1) / size,
        },
    )


def _quadratic_kappa(samples: Samples, ordered: Sequence[int], counts: np.ndarray) -> np.ndarray:
    """(R,); NaN where samples are of fewer than two degrees."""
    on_scale = np.isin(samples.true, ordered)
    true, group = samples.true[on_scale], samples.group[on_scale]
    if len(np.unique(true)) < 2:
        return np.full(len(counts), np.nan)
    predicted = ordinal_predictions(true, samples.predicted[on_scale], ordered)
    per_group = group_confusions(true, predicted, group, samples.n_groups, samples.n_classes)
    of_scale = per_group[:, ordered][:, :, ordered]  # (G, K, K)
    return cohen_kappa(resample_sums(counts, of_scale), quadratic=True)
