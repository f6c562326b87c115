"""ROC and precision-recall curves: what other thresholds than the largest probability would give.

Notation: n samples, C classes, T thresholds.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from simclr_rhd.data.labelled_set import Probabilities, Target
from simclr_rhd.evaluation.aggregate import aggregate

MAX_POINTS = 120  # points of a curve

Curve = tuple[list[float], list[float]]  # T values on the x axis, T on the y axis


def roc_and_pr_curves(
    true: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], *, evaluable: Sequence[int]
) -> dict[str, dict[str, Curve]]:
    """Each class against the rest, over the samples of classes that count.

    Args:
        true: (n,) class indices.
        probabilities: (n, C).
        classes: C names.
        evaluable: indices of the classes that count.

    Returns:
        {"roc": {class: (1 - specificity, sensitivity)}, "precision-recall": {class: (recall, precision)}}, of
        the classes that some samples have and some have not.
    """
    counts = np.isin(true, evaluable)
    true, probabilities = true[counts], probabilities[counts]
    found: dict[str, dict[str, Curve]] = {"roc": {}, "precision-recall": {}}
    for number in evaluable:
        is_so = true == number
        if not 0 < is_so.sum() < len(is_so):
            continue
        fpr, tpr, _ = roc_curve(is_so, probabilities[:, number])
        precision, recall, _ = precision_recall_curve(is_so, probabilities[:, number])
        found["roc"][classes[number]] = _subsample(fpr, tpr)
        found["precision-recall"][classes[number]] = _subsample(
            *_trim_precision_recall(recall[::-1], precision[::-1])
        )
    return found


def target_curves(
    target: Target,
    predictions: Probabilities,
    rows: np.ndarray,
    level: str,
    *,
    groups: np.ndarray,
    videos: np.ndarray,
) -> dict[str, dict[str, Curve]]:
    """The curves of a target's predictions for some rows, per 'frame' or per 'video'.

    Args:
        target: of n frames.
        predictions: see `labelled_set.Probabilities`.
        rows: indices of annotated frames.
        level: 'frame' or 'video'.
        groups: (n,) names.
        videos: (n,) names.
    """
    nobody = [""] * len(rows)
    of_rows = target.true[rows], target.probabilities(predictions)[rows]
    true, probabilities, _ = aggregate(*of_rows, groups[rows].tolist(), videos[rows].tolist(), nobody)[level]
    return roc_and_pr_curves(true, probabilities, target.classes, evaluable=target.evaluable())


def _trim_precision_recall(recall: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a curve in which something is found, up to where all is; recalls rise.

    Before, precision is 1 by convention or 0 by one wrong sample; after, it only falls to the class's share.
    """
    first, last = int(np.argmax(recall > 0)), int(np.argmax(recall == 1))
    recall, precision = recall[first : last + 1], precision[first : last + 1]
    return np.concatenate([[0.0], recall]), np.concatenate([precision[:1], precision])


def _subsample(x: np.ndarray, y: np.ndarray) -> Curve:
    """As many points as are drawn, evenly spaced along the curve: what is steep has its share."""
    if len(x) <= MAX_POINTS:
        return x.tolist(), y.tolist()
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], MAX_POINTS)).clip(max=len(x) - 1))
    return x[kept].tolist(), y[kept].tolist()
