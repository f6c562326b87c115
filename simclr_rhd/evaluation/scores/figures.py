"""Every figure of a classifier, of many resamples at once; of the samples themselves with `each_group_once`.

Notation: C' classes that occur, G groups, R resamples.
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
    ordinal_confusions,
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
    averages["balanced_accuracy"] = averages["recall_macro"]
    averages["kappa"] = cohen_kappa(confusions)
    averages["quadratic_kappa"] = np.full(len(counts), np.nan)
    if len(set(ordered) & set(present)) > 1:
        of_degrees = ordinal_confusions(confusions, ordered)
        averages["quadratic_kappa"] = cohen_kappa(of_degrees, quadratic=True)
    squares = np.bincount(group, weights=squared_errors(true, probabilities))
    averages["brier"] = resample_sums(counts, squares) / size
    gaps = resample_sums(counts, calibration_gaps(true, probabilities, group))
    averages["ece"] = np.abs(gaps).sum(axis=1) / size
    return Figures(of_classes, averages)
