"""AUROC and average precision of many resamples at once.

Notation: n samples, G groups, R resamples, B distinct scores of the samples of a class.
"""

import numpy as np
from scipy.sparse import csr_array

MAX_CELLS = 2**15  # of one array at a time: they stay in the cache, and the memory is bounded


def ranking_metrics(
    positive: np.ndarray, score: np.ndarray, group: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both areas of one class against the rest, for each resample.

    The samples are sorted once; a resample only changes how often each counts. Both areas are sums over the
    samples of the class, so counts are wanted only at their B scores.

    Args:
        positive: (n,) bool, whether a sample is of the class; some must be.
        score: (n,) the higher the likelier.
        group: (n,) indices of groups.
        counts: (R, G) how often each group counts.

    Returns:
        (R,) AUROC, ties count half, and (R,) average precision; NaN where all or none are of the class.
    """
    ladder = np.unique(-score[positive])  # (B,) from the best score down
    step = np.searchsorted(ladder, -score)  # first step that is not above the sample's score; B below all
    tied = ~positive & np.isin(score, score[positive])

    def counted(which: np.ndarray) -> csr_array:
        where = (step[which], group[which])
        return csr_array((np.ones(which.sum()), where), shape=(len(ladder) + 1, counts.shape[1]))

    of_class, of_rest, of_tied = counted(positive), counted(~positive), counted(tied)
    parts = []
    size = max(1, MAX_CELLS // (len(ladder) + 1))
    for start in range(0, len(counts), size):
        weights = np.ascontiguousarray(counts[start : start + size].T, dtype=np.float64)  # (G, r)
        hits, rest, ties = of_class @ weights, of_rest @ weights, of_tied @ weights  # (B + 1, r)
        true_positives, false_positives = hits.cumsum(axis=0), rest.cumsum(axis=0)
        positives, negatives = true_positives[-1], false_positives[-1]
        with np.errstate(invalid="ignore"):
            below = negatives - false_positives + ties / 2
            auroc = (hits * below).sum(axis=0) / (positives * negatives)
            precision = np.nan_to_num(true_positives / (true_positives + false_positives))
            area = (hits * precision).sum(axis=0) / positives
        parts.append((auroc, np.where(np.isnan(auroc), np.nan, area)))
    aurocs, areas = zip(*parts, strict=True)
    return np.concatenate(aurocs), np.concatenate(areas)
