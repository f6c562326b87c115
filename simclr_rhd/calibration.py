"""Can the probabilities be taken at their word? Temperature scaling, and how far they are off.

Guo et al. 2017, "On Calibration of Modern Neural Networks".

Notation: n samples, C classes, L labels of which several may hold.
"""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 10
HIGHEST = 20.0  # temperature; the lowest is 1 / 20
PRIOR = 0.5  # standard deviation of log T before anything is seen: 95 % of temperatures within 0.4 to 2.7


def fit_temperature(
    logits: np.ndarray, true: np.ndarray, *, doubt: float = 0.0, units: int | None = None
) -> float:
    """The temperature T by which to divide logits, so that the validation data are likeliest (section 4.2).

    It minimises the mean negative log likelihood, which has one minimum in log T.

    Args:
        logits: (n, C) of a softmax, or (n, L) of independent sigmoids.
        true: (n,) class indices of the softmax, or (n, L) 0 or 1 of the sigmoids.
        doubt: share of each label that is spread over all classes, 0 to 1. Without any, data that are told
            apart without a mistake would make every probability 0 or 1 (Platt 1999, section 2.2).
        units: independent observations that the rows amount to, such as patients. The fewer, the more T is
            held to 1, by a normal prior on log T; None for no prior.

    Returns:
        1 / 20 to 20; 1 with n = 0.
    """
    if len(true) == 0:
        return 1.0
    logits = np.asarray(logits, dtype=np.float64)

    def loss(log_temperature: float) -> float:
        prior = log_temperature**2 / (2 * PRIOR**2 * units) if units else 0.0
        scaled = logits * math.exp(-log_temperature)
        if true.ndim == 1:
            said = log_softmax(scaled, axis=1)
            right = (1 - doubt) * said[np.arange(len(true)), true] + doubt * said.mean(axis=1)
            return prior - right.mean()
        return prior + (np.logaddexp(0, scaled) - ((1 - doubt) * true + doubt / 2) * scaled).mean()

    most = math.log(HIGHEST)
    found = minimize_scalar(loss, bounds=(-most, most), method="bounded", options={"xatol": 1e-8})
    return math.exp(found.x)


def squared_errors(true: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(n,) sums over the classes of (p - y)², 0 to 2; their mean is the Brier score (Brier 1950)."""
    return ((probabilities - np.eye(probabilities.shape[1])[true]) ** 2).sum(axis=1)


def top_labels(
    true: np.ndarray, probabilities: np.ndarray, bins: int = BINS
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


def expected_calibration_error(true: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of accuracy and confidence in a bin, weighted by its samples (equation 3).

    Args:
        true: (n,) class indices, n ≥ 1.
        probabilities: (n, C), rows sum to 1.
        bins: of equal width.

    Returns:
        0 (as often right as said) to 1.
    """
    bin_of, confidence, right = top_labels(true, probabilities, bins)
    return float(np.abs(np.bincount(bin_of, weights=right - confidence)).sum() / len(true))


def reliability(
    true: np.ndarray, probabilities: np.ndarray, bins: int = BINS
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
