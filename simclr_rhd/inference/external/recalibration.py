"""Recalibration of a model on another data set, by cross-fitting: no group is calibrated by its own labels.

Notation: n labelled frames, C classes or lesions of a task.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, softmax

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities
from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.evaluation.scores.records import Record
from simclr_rhd.heads.calibration import Scaling, fit_scaling

N_FOLDS, MIN_GROUPS = 5, 10  # folds, and groups below which nothing is fitted
SMALLEST = 1e-12  # probability, of which the logarithm is taken


@dataclass(frozen=True)
class ScalingRecord(Record):
    """The temperature and biases that fit all groups of a data set; figures are of cross-fitted ones.

    Attributes:
        temperature: above 1 where the model is too sure here.
        bias: {class or lesion: bias}.
        prevalence: {class or lesion: share in this data set that the probabilities hold for then}.
    """

    temperature: float
    bias: dict[str, float]
    prevalence: dict[str, float]


@dataclass(frozen=True)
class Recalibration:
    """Recalibrated probabilities.

    Attributes:
        table: of the n frames, each by what is fitted to other groups; the tasks of `reasons` as they were.
        scalings: {task: what fits all groups}.
        reasons: {task: why nothing could be fitted}.
    """

    table: Probabilities
    scalings: dict[str, ScalingRecord]
    reasons: dict[str, str]


def recalibrate(labelled_set: LabelledSet, table: Probabilities, *, seed: int) -> Recalibration:
    """Fit a temperature and biases to a data set, and apply them to groups that they are not fitted to.

    Args:
        labelled_set: the n frames.
        table: their probabilities by the model.
        seed: of the folds.
    """
    result, scalings, reasons = dict(table), dict[str, ScalingRecord](), dict[str, str]()
    names, group = np.unique(labelled_set.groups, return_inverse=True)
    fold = (make_rng(seed, Stream.RECALIBRATION).permutation(len(names)) % N_FOLDS)[group]
    for task, true in labelled_set.target_values().items():
        known: np.ndarray = true >= 0 if true.ndim == 1 else np.all(true >= 0, axis=1)
        if reason := _reason_against(true[known], group[known], fold[known]):
            reasons[task] = reason
            continue
        logits = _balanced_logits(table[task], table[prevalence_key(task)], several=true.ndim == 2)
        fitted, prevalence = np.empty_like(logits), np.empty_like(logits)
        for number in range(N_FOLDS):
            scaling = _fit(logits, true, group, known & (fold != number))
            rows = fold == number
            scaled = logits[rows] / scaling.temperature + scaling.bias
            fitted[rows] = softmax(scaled, axis=1) if true.ndim == 1 else expit(scaled)
            prevalence[rows] = scaling.prevalence
        result |= {task: fitted, prevalence_key(task): prevalence}
        scalings[task] = _to_record(_fit(logits, true, group, known), labelled_set.outputs()[task])
    return Recalibration(result, scalings, reasons)


def _reason_against(true: np.ndarray, group: np.ndarray, fold: np.ndarray) -> str:
    """Reason why a task cannot be recalibrated; "" where it can."""
    n_groups = len(np.unique(group))
    if n_groups < MIN_GROUPS:
        return f"its {n_groups} groups are too few; wanted {MIN_GROUPS}"
    for number in range(N_FOLDS):
        if len(np.unique(true[fold != number])) < 2:
            return "all frames are of one class in some folds"
    return ""


def _balanced_logits(probabilities: np.ndarray, prevalence: np.ndarray, *, several: bool) -> np.ndarray:
    """(n, C) logits for classes that are equally frequent, as `fit_scaling` takes them."""
    p, share = (np.clip(x, SMALLEST, 1 - SMALLEST) for x in (probabilities, prevalence))
    logits: np.ndarray = logit(p) - logit(share) if several else np.log(p) - np.log(share)
    return logits


def _fit(logits: np.ndarray, true: np.ndarray, group: np.ndarray, rows: np.ndarray) -> Scaling:
    return fit_scaling(logits[rows], true[rows], n_independent=len(np.unique(group[rows])))


def _to_record(scaling: Scaling, names: list[str]) -> ScalingRecord:
    return ScalingRecord(
        scaling.temperature,
        dict(zip(names, scaling.bias.tolist(), strict=True)),
        dict(zip(names, scaling.prevalence.tolist(), strict=True)),
    )
