"""Calibration of probabilities: a temperature and a bias for each class.

Guo et al. 2017, "On Calibration of Modern Neural Networks"; the bias: Alexandari et al. 2020, "Maximum
Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift Adaptation".

Notation: n samples, C classes, L labels of which several may hold.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit

MAX_TEMPERATURE = 20.0  # temperature; the lowest is 1 / 20
LOG_TEMPERATURE_STD = 0.5  # prior of log T: 95 % of temperatures within 0.4 to 2.7
BIAS_STD = 2.0  # the same of a bias, about the one that undoes the class weights
PSEUDO_GROUPS = 0.5  # groups of all classes alike that are added to those seen


@dataclass(frozen=True)
class Scaling:
    """Calibration of probabilities: softmax or sigmoid of logits / temperature + bias.

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
