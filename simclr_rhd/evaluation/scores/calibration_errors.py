"""Calibration errors: how far probabilities are from frequencies.

Guo et al. 2017, "On Calibration of Modern Neural Networks".

Notation: n samples, C classes, M bins of equal width; bin m holds what is in ((m-1)/M, m/M]. `true` is (n,)
class indices, `probabilities` (n, C), rows sum to 1, and `bins` M.
"""

from typing import Any

import numpy as np

N_BINS = 10


def squared_errors(true: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(n,) sums over the classes of (p - y)², 0 to 2; their mean is the Brier score (Brier 1950)."""
    errors: np.ndarray = ((probabilities - np.eye(probabilities.shape[1])[true]) ** 2).sum(axis=1)
    return errors


def calibration_gaps(
    true: np.ndarray, probabilities: np.ndarray, group: np.ndarray, bins: int = N_BINS
) -> np.ndarray:
    """(G, M) sums over a group's samples in a bin: 1 if right, else 0, less the confidence.

    `group` is (n,) indices of G groups, of which none is empty.
    """
    bin_of, confidence, right = _top_labels(true, probabilities, bins)
    gaps = np.zeros((group.max(initial=-1) + 1, bins))
    np.add.at(gaps, (group, bin_of), right - confidence)
    return gaps


def expected_calibration_error(true: np.ndarray, probabilities: np.ndarray, bins: int = N_BINS) -> float:
    """Mean distance of accuracy and confidence in a bin, weighted by its samples (equation 3), n ≥ 1.

    0 (as often right as predicted) to 1.
    """
    one_group = np.zeros_like(true)
    return float(np.abs(calibration_gaps(true, probabilities, one_group, bins)).sum() / len(true))


def reliability(
    true: np.ndarray, probabilities: np.ndarray, bins: int = N_BINS
) -> dict[str, list[float | None] | list[int]]:
    """The reliability diagram (figure 1): mean confidence, accuracy and number of the samples in each bin.

    Returns:
        {"confidence", "accuracy": None for an empty bin, "count"}, each of one value a bin.
    """
    bin_of, confidence, right = _top_labels(true, probabilities, bins)
    count = np.bincount(bin_of, minlength=bins).tolist()

    def means(values: np.ndarray) -> list[float | None]:
        sums = np.bincount(bin_of, weights=values, minlength=bins).tolist()
        return [total / n if n else None for total, n in zip(sums, count, strict=True)]

    return {"confidence": means(confidence), "accuracy": means(right), "count": count}


def classwise_calibration_error(true: np.ndarray, probabilities: np.ndarray, bins: int = N_BINS) -> float:
    """Mean over the classes of how far a class's probability is from its frequency, bin by bin; 0 to 1.

    Kull et al. 2019, "Beyond temperature scaling", section 2. The error of the most probable class alone does
    not see a rare class that is predicted with ten times its frequency. n ≥ 1.
    """
    n_classes = probabilities.shape[1]
    cell = _bin_of(probabilities, bins) + bins * np.arange(n_classes)  # (n, C)
    gaps = np.bincount(cell.ravel(), weights=(np.eye(n_classes)[true] - probabilities).ravel())
    return float(np.abs(gaps).sum() / probabilities.size)


def class_frequencies(
    true: np.ndarray, probabilities: np.ndarray, classes: list[str]
) -> dict[str, dict[str, Any]]:
    """{class: its frames "n", their "frequency", and its "mean_probability"}; (n,) indices, (n, C), n ≥ 1."""
    return {
        name: {
            "n": int((true == number).sum()),
            "frequency": float((true == number).mean()),
            "mean_probability": float(probabilities[:, number].mean()),
        }
        for number, name in enumerate(classes)
    }


def _top_labels(
    true: np.ndarray, probabilities: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) bin of the most probable class's probability, that probability, and whether the class is right."""
    confidence = probabilities.max(axis=1)
    return _bin_of(confidence, bins), confidence, probabilities.argmax(axis=1) == true


def _bin_of(probability: np.ndarray, bins: int) -> np.ndarray:
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability)
