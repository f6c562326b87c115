"""Calibration errors: how far probabilities are from frequencies.

Guo et al. 2017, "On Calibration of Modern Neural Networks".

Notation: n samples, C classes.
"""

from typing import Any

import numpy as np

N_BINS = 10


def squared_errors(true: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(n,) sums over the classes of (p - y)², 0 to 2; their mean is the Brier score (Brier 1950)."""
    errors: np.ndarray = ((probabilities - np.eye(probabilities.shape[1])[true]) ** 2).sum(axis=1)
    return errors


def top_labels(
    true: np.ndarray, probabilities: np.ndarray, bins: int = N_BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each sample's bin, the probability of its most probable class, and whether it is of that class.

    Bin m of M holds the probabilities in ((m-1)/M, m/M].

    Args:
        true: (n,) class indices.
        probabilities: (n, C), rows sum to 1.
        bins: M, of equal width.

    Returns:
        (n,) int64 0 to M-1, (n,) float64, (n,) bool.
    """
    confidence = probabilities.max(axis=1)
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(edges, confidence), confidence, probabilities.argmax(axis=1) == true


def expected_calibration_error(true: np.ndarray, probabilities: np.ndarray, bins: int = N_BINS) -> float:
    """Mean distance of accuracy and confidence in a bin, weighted by its samples (equation 3).

    Args:
        true: (n,) class indices, n ≥ 1.
        probabilities: (n, C), rows sum to 1.
        bins: of equal width.

    Returns:
        0 (as often right as predicted) to 1.
    """
    bin_of, confidence, right = top_labels(true, probabilities, bins)
    return float(np.abs(np.bincount(bin_of, weights=right - confidence)).sum() / len(true))


def reliability(
    true: np.ndarray, probabilities: np.ndarray, bins: int = N_BINS
) -> dict[str, list[float | None] | list[int]]:
    """The reliability diagram (figure 1): mean confidence, accuracy and number of the samples in each bin.

    Args:
        true: (n,) class indices.
        probabilities: (n, C), rows sum to 1.
        bins: of equal width.

    Returns:
        {"confidence", "accuracy": None for an empty bin, "count"}, each of one value a bin.
    """
    bin_of, confidence, right = top_labels(true, probabilities, bins)
    count = np.bincount(bin_of, minlength=bins).tolist()

    def means(values: np.ndarray) -> list[float | None]:
        sums = np.bincount(bin_of, weights=values, minlength=bins).tolist()
        return [total / n if n else None for total, n in zip(sums, count, strict=True)]

    return {"confidence": means(confidence), "accuracy": means(right), "count": count}


def classwise_calibration_error(true: np.ndarray, probabilities: np.ndarray, bins: int = N_BINS) -> float:
    """Mean over the classes of how far a class's probability is from its frequency, bin by bin.

    Kull et al. 2019, "Beyond temperature scaling", section 2. The error of the most probable class alone does
    not see a rare class that is predicted with ten times its frequency.

    Args:
        true: (n,) class indices, n ≥ 1.
        probabilities: (n, C), rows sum to 1.
        bins: of equal width.

    Returns:
        0 to 1.
    """
    is_so = np.eye(probabilities.shape[1])[true]
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probabilities)  # (n, C)
    cell = bin_of + bins * np.arange(probabilities.shape[1])
    gaps = np.bincount(cell.ravel(), weights=(is_so - probabilities).ravel())
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
