"""Selective prediction: a threshold on the confidence above which a low share of errors is proved.

Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks".

Notation: n samples, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.prevalence import balanced_choice
from simclr_rhd.evaluation.scores.samples import Samples, at_level
from simclr_rhd.evaluation.target_details import SelectiveLevel, SelectiveResult
from simclr_rhd.evaluation.targets import target_predictions

SELECTIVE_LEVELS = ("frame", "video")
MAX_CURVE_POINTS = 200  # of a curve
TARGET_RISK = 0.10  # share of a patient's accepted predictions that may be wrong, in the mean
PROOF_CONFIDENCE = 0.90  # confidence with which that is proved
THRESHOLDS = tuple(percent / 100 for percent in range(99, -1, -1))  # in the order in which they are tried
GUARANTEE = (
    f"with {PROOF_CONFIDENCE:.0%} confidence at most {TARGET_RISK:.0%} of a patient's accepted "
    "predictions are wrong, in the mean"
)
ABSTAIN_ALWAYS = 2.0  # above any confidence: no prediction is accepted


def confidence_scores(probabilities: np.ndarray, prevalence: np.ndarray | None = None) -> np.ndarray:
    """(n, C) -> (n,): the probability of the predicted class, the balanced choice."""
    rows, predicted = np.arange(len(probabilities)), balanced_choice(probabilities, prevalence)
    confidence: np.ndarray = probabilities[rows, predicted]
    return confidence


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coverage (share accepted) and risk (share of these that is wrong) at every threshold.

    Args:
        confidence: (n,).
        correct: (n,) bool.

    Returns:
        thresholds (m,) from the highest; coverage (m,), 0 to 1; risk (m,), 0 to 1; m different confidences.
    """
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], ~correct[order]
    last = np.flatnonzero(np.append(np.diff(confidence) != 0, True)[: len(confidence)])  # of each tie
    n_accepted = last + 1
    return confidence[last], n_accepted / max(1, len(confidence)), np.cumsum(wrong)[last] / n_accepted


@dataclass(frozen=True)
class AbstentionThreshold:
    """The confidence from which on predictions are accepted.

    Attributes:
        threshold: 0 to 1; ABSTAIN_ALWAYS where nothing is proved.
        reason: why nothing is proved; "" where something is.
    """

    threshold: float
    reason: str = ""


def choose_threshold(
    confidence: np.ndarray, correct: np.ndarray, patients: np.ndarray, *, target_risk: float = TARGET_RISK
) -> AbstentionThreshold:
    """The lowest confidence from which on at most `target_risk` of the predictions are wrong, by a proof.

    The risk is the share of a patient's accepted predictions that is wrong, in the mean over patients with
    any. With a chance of 1 - PROOF_CONFIDENCE at most the true risk at the threshold is above `target_risk`:
    thresholds of a fixed sequence are tried from the highest on until one fails (fixed-sequence testing,
    Angelopoulos et al. 2021, "Learn then Test", section 2.3). Those at which too few patients for a proof, or
    fewer than half of them, have an accepted prediction are passed over: this number does not depend on how
    many predictions are right.

    Args:
        confidence: (n,) of validation samples.
        correct: (n,) bool.
        patients: (n,) or other groups of which each is one observation.
        target_risk: 0 to 1.
    """
    names, patient, size = np.unique(patients, return_inverse=True, return_counts=True)
    # patients without a mistake
    needed = math.ceil(math.log(1 - PROOF_CONFIDENCE) / math.log1p(-target_risk))
    if len(names) < needed:
        return AbstentionThreshold(
            ABSTAIN_ALWAYS,
            f"{len(names)} validation groups are too few; a proof takes {needed} without a mistake",
        )
    lowest = AbstentionThreshold(ABSTAIN_ALWAYS)
    for threshold in THRESHOLDS:
        accepted = confidence >= threshold
        n_accepted = np.bincount(patient[accepted], minlength=len(names))
        with_accepted = n_accepted > 0
        if with_accepted.sum() < max(needed, len(names) / 2):
            continue
        wrong = np.bincount(patient[accepted & ~correct], minlength=len(names))[with_accepted]
        shares = wrong / n_accepted[with_accepted]
        if _risk_is_proved(shares, target_risk, single=bool(size.max() == 1)):
            lowest = AbstentionThreshold(threshold)
        elif lowest.threshold < ABSTAIN_ALWAYS:
            return lowest
        else:
            why = (
                f"of the most confident predictions of {with_accepted.sum()} validation groups "
                f"{shares.mean():.1%} are wrong"
            )
            return AbstentionThreshold(ABSTAIN_ALWAYS, f"{why}, which is too many for a proof")
    return lowest


def _risk_is_proved(wrong: np.ndarray, target_risk: float, *, single: bool) -> bool:
    """Return True if the mean of n independent shares is at most `target_risk`, with PROOF_CONFIDENCE.

    Where each patient has one prediction, by the exact binomial bound (Clopper & Pearson 1934). Otherwise let
    each patient draw one of their predictions: the number of wrong ones is binomial, and at most the sum of
    the shares, rounded up, in half of the draws (Jogdeo & Samuels 1968), so that the bound holds with half
    the error.
    """
    mistakes = math.ceil(wrong.sum() - 1e-9)
    error = (1 - PROOF_CONFIDENCE) / (1 if single or mistakes == 0 else 2)
    return bool(binom.cdf(mistakes, len(wrong), target_risk) <= error)


def coverage_and_risk(
    confidence: np.ndarray, correct: np.ndarray, threshold: np.ndarray | float
) -> tuple[float | None, float | None]:
    """Coverage and risk at a threshold: shares accepted, and of these wrong; None without any."""
    accepted = confidence >= threshold
    risk = float((~correct[accepted]).mean()) if accepted.any() else None
    return (float(accepted.mean()) if len(accepted) else None), risk


def confidence_thresholds(
    labelled_set: LabelledSet, predictions: Probabilities, part: np.ndarray
) -> dict[str, dict[str, AbstentionThreshold]]:
    """{target: {"frame", "video": what is proved on the validation part}}.

    Args:
        labelled_set: the labelled frames.
        predictions: of the heads that are kept.
        part: (n,) 'train', 'val' or 'test' of these heads.
    """
    rows = np.flatnonzero(part == "val")
    return {
        target.name: {
            level: _proved_threshold(_annotated_samples(labelled_set, target, predictions, rows, level))
            for level in SELECTIVE_LEVELS
        }
        for target in labelled_set.targets()
    }


def evaluate_selective(
    labelled_set: LabelledSet, fold_predictions: Sequence[Probabilities]
) -> dict[str, SelectiveResult]:
    """{target: what thresholds that are chosen on validation groups do to the tested ones}, fold by fold.

    Args:
        labelled_set: the labelled frames.
        fold_predictions: of the heads of each fold.
    """
    return {
        target.name: SelectiveResult(
            TARGET_RISK,
            PROOF_CONFIDENCE,
            *(_evaluate_level(labelled_set, target, fold_predictions, level) for level in SELECTIVE_LEVELS),
        )
        for target in labelled_set.targets()
    }


def _evaluate_level(
    labelled_set: LabelledSet, target: Target, fold_predictions: Sequence[Probabilities], level: str
) -> SelectiveLevel:
    chosen, tested, limits = [], [], []
    for fold, table in enumerate(fold_predictions):
        validation, test = (
            _annotated_samples(labelled_set, target, table, labelled_set.rows(fold, part), level)
            for part in ("val", "test")
        )
        chosen.append(_proved_threshold(validation))
        tested.append(test)
        limits.append(np.full(len(test.true), chosen[-1].threshold))
    confidence = np.concatenate([_confidence(samples) for samples in tested])
    correct = np.concatenate([samples.predicted == samples.true for samples in tested])
    _, coverage, risk = risk_coverage(confidence, correct)
    shown = evenly_spaced(len(coverage), MAX_CURVE_POINTS)
    return SelectiveLevel(
        [of.threshold for of in chosen],
        [of.reason for of in chosen],
        {"coverage": coverage[shown].tolist(), "risk": risk[shown].tolist()},
        *coverage_and_risk(confidence, correct, np.concatenate(limits)),
    )


def _annotated_samples(
    labelled_set: LabelledSet, target: Target, table: Probabilities, rows: np.ndarray, level: str
) -> Samples:
    """The annotated frames or videos of some rows."""
    rows = rows[target.true[rows] >= 0]
    return at_level(target_predictions(labelled_set, target, table, rows), level)


def _confidence(samples: Samples) -> np.ndarray:
    return confidence_scores(samples.probabilities, samples.prevalence)


def _proved_threshold(samples: Samples) -> AbstentionThreshold:
    return choose_threshold(_confidence(samples), samples.predicted == samples.true, samples.groups)
