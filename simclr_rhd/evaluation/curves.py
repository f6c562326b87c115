"""ROC and precision-recall curves: what other thresholds than the largest probability would give.

Notation: n samples, C classes, T thresholds.
"""

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from simclr_rhd.evaluation.scores.samples import ClassSet, Samples

MAX_POINTS = 120  # points of a curve

Curve = tuple[list[float], list[float]]  # T values on the x axis, T on the y axis


def roc_and_pr_curves(samples: Samples, classes: ClassSet) -> dict[str, dict[str, Curve]]:
    """Each class against the rest, over the samples of classes that count.

    Returns:
        {"roc": {class: (1 - specificity, sensitivity)}, "precision-recall": {class: (recall, precision)}}, of
        the classes that some samples have and some have not.
    """
    counted = samples.of_classes(classes.evaluable)
    curves: dict[str, dict[str, Curve]] = {"roc": {}, "precision-recall": {}}
    for number in classes.evaluable:
        name, is_class = classes.names[number], counted.true == number
        if not 0 < is_class.sum() < len(is_class):
            continue
        probability = counted.probabilities[:, number]
        fpr, tpr, _ = roc_curve(is_class, probability)
        precision, recall, _ = precision_recall_curve(is_class, probability)
        curves["roc"][name] = _subsample(fpr, tpr)
        curves["precision-recall"][name] = _subsample(*_trim_precision_recall(recall[::-1], precision[::-1]))
    return curves


def _trim_precision_recall(recall: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a curve in which something is found, up to where all is; recalls rise.

    Before, precision is 1 by convention or 0 by one wrong sample; after, it only falls to the class's share.
    """
    first, last = int(np.argmax(recall > 0)), int(np.argmax(recall == 1))
    recall, precision = recall[first : last + 1], precision[first : last + 1]
    return np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])


def _subsample(x: np.ndarray, y: np.ndarray) -> Curve:
    """Take as many points as are drawn, evenly spaced along the curve: what is steep has its share."""
    if len(x) <= MAX_POINTS:
        return x.tolist(), y.tolist()
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    points = np.unique(np.searchsorted(along, np.linspace(0, along[-1], MAX_POINTS)).clip(max=len(x) - 1))
    return x[points].tolist(), y[points].tolist()
