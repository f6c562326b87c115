"""When to give no answer: answers are taken from a confidence on of which few are proved to be wrong.

Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks".

Notation: n samples, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binom

from simclr_rhd.core.files import to_jsonable
from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.prevalence import balanced_choice
from simclr_rhd.evaluation.aggregate import levels_of

LEVELS = ("frame", "video")
MOST_POINTS = 200  # of a curve
MOST_WRONG = 0.10  # share of a patient's answers that may be wrong, in the mean
SURE = 0.90  # confidence with which that is proved
THRESHOLDS = tuple(percent / 100 for percent in range(99, -1, -1))  # in the order in which they are tried
RULE = f"with {SURE:.0%} confidence at most {MOST_WRONG:.0%} of a patient's answers are wrong, in the mean"
NEVER = 2.0  # a confidence that no answer has


def confidence_of(probabilities: np.ndarray, prevalence: np.ndarray | None = None) -> np.ndarray:
    """(n, C) -> (n,): the probability of what is said, the balanced choice."""
    return probabilities[np.arange(len(probabilities)), balanced_choice(probabilities, prevalence)]


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What share is answered, and what share of that is wrong, at every threshold.

    Args:
        confidence: (n,).
        right: (n,) bool.

    Returns:
        thresholds (m,) from the highest; coverage (m,), 0 to 1; risk (m,), 0 to 1; m different confidences.
    """
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], ~right[order]
    last = np.flatnonzero(np.append(np.diff(confidence) != 0, True)[: len(confidence)])  # of each tie
    answered = last + 1
    return confidence[last], answered / max(1, len(confidence)), np.cumsum(wrong)[last] / answered


@dataclass(frozen=True)
class Limit:
    """From which confidence on answers are taken.

    Attributes:
        threshold: 0 to 1; NEVER where nothing is proved.
        reason: why nothing is proved; "" where something is.
    """

    threshold: float
    reason: str = ""


def choose_threshold(
    confidence: np.ndarray, right: np.ndarray, patients: np.ndarray, *, most_wrong: float = MOST_WRONG
) -> Limit:
    """The lowest confidence of which it is proved that at most `most_wrong` of the answers are wrong.

    The risk is the share of a patient's answers that is wrong, in the mean over patients with an answer. With
    a chance of 1 - SURE at most the true risk at the threshold is above `most_wrong`: thresholds of a fixed
    sequence are tried from the highest on until one fails (fixed-sequence testing, Angelopoulos et al. 2021,
    "Learn then Test", section 2.3). Those at which too few patients have an answer for a proof, or fewer than
    half of them, are passed over: how many answer does not depend on how many are right.

    Args:
        confidence: (n,) of validation samples.
        right: (n,) bool.
        patients: (n,) or other groups of which each is one observation.
        most_wrong: 0 to 1.
    """
    names, patient, size = np.unique(patients, return_inverse=True, return_counts=True)
    needed = math.ceil(math.log(1 - SURE) / math.log1p(-most_wrong))  # patients without a mistake
    if len(names) < needed:
        return Limit(
            NEVER, f"{len(names)} validation groups are too few; a proof takes {needed} without a mistake"
        )
    found = Limit(NEVER)
    for threshold in THRESHOLDS:
        answered = confidence >= threshold
        of_patients = np.bincount(patient[answered], minlength=len(names))
        asked = of_patients > 0
        if asked.sum() < max(needed, len(names) / 2):
            continue
        wrong = np.bincount(patient[answered & ~right], minlength=len(names))[asked] / of_patients[asked]
        if _proved(wrong, most_wrong, single=bool(size.max() == 1)):
            found = Limit(threshold)
            continue
        why = f"of the surest answers of {asked.sum()} validation groups {wrong.mean():.1%} are wrong"
        return found if found.threshold < NEVER else Limit(NEVER, f"{why}, which is too many for a proof")
    return found


def _proved(wrong: np.ndarray, most_wrong: float, *, single: bool) -> bool:
    """Whether the mean of n independent shares is at most `most_wrong`, with confidence SURE.

    Where each patient has one answer, by the exact binomial bound (Clopper & Pearson 1934). Otherwise let
    each patient draw one of their answers: the number of wrong ones is binomial, and at most the sum of the
    shares, rounded up, in half of the draws (Jogdeo & Samuels 1968), so that the bound holds with half the
    error.
    """
    mistakes = math.ceil(wrong.sum() - 1e-9)
    error = (1 - SURE) / (1 if single or mistakes == 0 else 2)
    return bool(binom.cdf(mistakes, len(wrong), most_wrong) <= error)


def at_threshold(
    confidence: np.ndarray, right: np.ndarray, threshold: np.ndarray | float
) -> dict[str, float]:
    """{"coverage", "risk": NaN without an answer} of the answers at or above a threshold."""
    answered = confidence >= threshold
    risk = float((~right[answered]).mean()) if answered.any() else float("nan")
    return {"coverage": float(answered.mean()) if len(answered) else float("nan"), "risk": risk}


def limits_of(cohort: LabelledSet, table: Probabilities, part: np.ndarray) -> dict[str, dict[str, Limit]]:
    """{question: {"frame", "video": what is proved on the validation part}}.

    Args:
        cohort: the labelled frames.
        table: what the heads that are kept say of them.
        part: (n,) 'train', 'val' or 'test' of these heads.
    """
    rows = np.flatnonzero(part == "val")
    return {
        question.name: {
            level: choose_threshold(*_units(cohort, question, table, rows, level)) for level in LEVELS
        }
        for question in cohort.targets()
    }


def selective(cohort: LabelledSet, tables: Sequence[Probabilities]) -> dict[str, dict[str, Any]]:
    """What thresholds that are chosen on validation groups do to the tested ones, fold by fold.

    Args:
        cohort: the labelled frames.
        tables: what the heads of each fold say of them.

    Returns:
        {question: {"most_wrong", "confidence" of the proof, and per "frame" and "video": {"thresholds" of the
        folds, "reasons" why one is NEVER, "coverage", "risk" of the tested samples, None without any, and
        "curve": {"coverage", "risk"} at every threshold}}}.
    """
    found = {}
    for question in cohort.targets():
        found[question.name] = {"most_wrong": MOST_WRONG, "confidence": SURE} | {
            level: _at_level(cohort, question, tables, level) for level in LEVELS
        }
    return found


def _at_level(
    cohort: LabelledSet, question: Target, tables: Sequence[Probabilities], level: str
) -> dict[str, Any]:
    confidence, right, limit, chosen_on = [], [], [], []
    for fold, table in enumerate(tables):
        found = choose_threshold(*_units(cohort, question, table, cohort.rows(fold, "val"), level))
        sure, is_right, _ = _units(cohort, question, table, cohort.rows(fold, "test"), level)
        chosen_on.append(found)
        confidence.append(sure)
        right.append(is_right)
        limit.append(np.full(len(sure), found.threshold))
    sure, is_right = np.concatenate(confidence), np.concatenate(right)
    _, coverage, risk = risk_coverage(sure, is_right)
    shown = evenly_spaced(len(coverage), MOST_POINTS)
    at = at_threshold(sure, is_right, np.concatenate(limit))
    curve = {"coverage": coverage[shown].tolist(), "risk": risk[shown].tolist()}
    facts = {"thresholds": [of.threshold for of in chosen_on], "reasons": [of.reason for of in chosen_on]}
    return facts | {"curve": curve} | {name: to_jsonable(value) for name, value in at.items()}


def _units(
    cohort: LabelledSet, question: Target, table: Probabilities, rows: np.ndarray, level: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(m,) confidence, (m,) whether it is right, (m,) group, of annotated frames or videos of some rows."""
    rows = rows[question.true[rows] >= 0]
    if not len(rows):
        return np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0, dtype=str)
    whose = cohort.groups[rows].tolist(), cohort.videos[rows].tolist(), [""] * len(rows)
    (true, p, groups), (_, prevalence, _) = (
        levels_of(question.true[rows], of[rows], *whose)[level]
        for of in (question.probabilities(table), question.prevalence(table))
    )
    return confidence_of(p, prevalence), balanced_choice(p, prevalence) == true, np.array(groups)
