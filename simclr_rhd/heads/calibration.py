"""Calibration of probabilities: a temperature and a bias for each class, and the errors that are left.

Guo et al. 2017, "On Calibration of Modern Neural Networks"; the bias: Alexandari et al. 2020, "Maximum
Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift Adaptation".

Notation: n samples, C classes, L labels of which several may hold.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit

N_BINS = 10
MAX_TEMPERATURE = 20.0  # temperature; the lowest is 1 / 20
LOG_TEMPERATURE_STD = 0.5  # prior of log T: 95 % of temperatures within 0.4 to 2.7
BIAS_STD = 2.0  # the same of a bias, about the one that undoes the class weights
PSEUDO_GROUPS = 0.5  # groups of all classes alike that are added to those seen


@dataclass(frozen=True)
class Scaling:
    """From logits to probabilities: softmax or sigmoid of logits / temperature + bias.

    Attributes:
        temperature: 1 / 20 to 20.
        bias: (C,) or (L,); of a softmax its mean is 0.
        prevalence: (C,) or (L,) shares of the samples, above 0, that the probabilities hold for.
    """

    temperature: float
    bias: np.ndarray
    prevalence: np.ndarray


def fit_scaling(logits: np.ndarray, true: np.ndarray, *, n_independent: int, power: float = 1.0) -> Scaling:
    """The temperature and biases that make validation data likeliest (Guo et al., section 4.2).

    Heads that learn with class weights give probabilities for classes that are equally frequent. A
    temperature cannot undo that: the bias can. It is held by a normal prior to log prevalence (for weights
    inverse to the counts), the prevalence to that of classes alike and T to 1: the fewer groups, the more.

    A small part of each label is spread over the classes as frequent as they are. Without that, data that are
    told apart without a mistake would make every probability 0 or 1 (Platt 1999, section 2.2).

    Args:
        logits: (n, C) of a softmax, or (n, L) of independent sigmoids; n ≥ 1.
        true: (n,) class indices of the softmax, or (n, L) 0 or 1 of the sigmoids.
        n_independent: independent observations that the rows amount to, such as patients.
        power: of a class's count that its weight in training was divided by.
    """
    logits, several = np.asarray(logits, dtype=np.float64), true.ndim == 2
    one_hot = true.astype(np.float64) if several else np.eye(logits.shape[1])[true]
    alike = 1 / 2 if several else 1 / logits.shape[1]
    prevalence = (n_independent * one_hot.mean(axis=0) + PSEUDO_GROUPS * alike) / (
        n_independent + PSEUDO_GROUPS
    )
    label_smoothing = 1 / (n_independent + 2)
    target = (1 - label_smoothing) * one_hot + label_smoothing * prevalence
    undone = power * (logit(prevalence) if several else np.log(prevalence))
    rows = logits.size if several else len(logits)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        slope, beyond = math.exp(-x[0]), x[1:]  # beyond the weights
        scaled = slope * logits + undone + beyond
        if several:
            error, cost = expit(scaled) - target, np.logaddexp(0, scaled) - target * scaled
        else:
            log_probabilities = log_softmax(scaled, axis=1)
            error, cost = np.exp(log_probabilities) - target, -target * log_probabilities
        weight = rows / len(logits) * n_independent  # of one softmax, or of all sigmoids
        prior = x[0] ** 2 / (2 * LOG_TEMPERATURE_STD**2 * n_independent) + (beyond**2).sum() / (
            2 * BIAS_STD**2 * weight
        )
        by_temperature = -slope * (error * logits).sum() / rows + x[0] / (
            LOG_TEMPERATURE_STD**2 * n_independent
        )
        by_bias = error.sum(axis=0) / rows + beyond / (BIAS_STD**2 * weight)
        return cost.sum() / rows + prior, np.append(by_temperature, by_bias)

    most = math.log(MAX_TEMPERATURE)
    start, ends = np.zeros(1 + logits.shape[1]), [(-most, most)] + [(None, None)] * logits.shape[1]
    options = {"gtol": 1e-9, "ftol": 1e-15, "maxiter": 1000}
    solution = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=ends, options=options).x
    bias = undone + solution[1:]
    return Scaling(math.exp(solution[0]), bias if several else bias - bias.mean(), prevalence)


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
