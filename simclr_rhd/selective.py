"""When to give no answer: only answers above a confidence are taken, so that few of them are wrong.

Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks".

Notation: n samples, C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from simclr_rhd.calibration import chosen
from simclr_rhd.clips import evenly
from simclr_rhd.cohort import Cohort, Question, Table
from simclr_rhd.files import plain
from simclr_rhd.pooling import levels_of

LEVELS = ("frame", "video")
MOST_POINTS = 200  # of a curve
MOST_WRONG = 0.10  # share of the validation answers that may be wrong
NEVER = 2.0  # a confidence that no answer has


def confidence_of(probabilities: np.ndarray, prevalence: np.ndarray | None = None) -> np.ndarray:
    """(n, C) -> (n,): the probability of what is said, the balanced choice."""
    return probabilities[np.arange(len(probabilities)), chosen(probabilities, prevalence)]


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


def choose_threshold(
    confidence: np.ndarray, right: np.ndarray, *, most_wrong: float = MOST_WRONG
) -> float | None:
    """The lowest confidence at which at most `most_wrong` of the answers are wrong; NEVER where none is.

    Args:
        confidence: (n,) of validation samples.
        right: (n,) bool.
        most_wrong: 0 to 1.

    Returns:
        None without samples.
    """
    if not len(confidence):
        return None
    thresholds, _, risk = risk_coverage(confidence, right)
    fine = np.flatnonzero(risk <= most_wrong)
    return float(thresholds[fine[-1]]) if len(fine) else NEVER


def at_threshold(
    confidence: np.ndarray, right: np.ndarray, threshold: np.ndarray | float
) -> dict[str, float]:
    """{"coverage", "risk": NaN without an answer} of the answers at or above a threshold."""
    answered = confidence >= threshold
    risk = float((~right[answered]).mean()) if answered.any() else float("nan")
    return {"coverage": float(answered.mean()) if len(answered) else float("nan"), "risk": risk}


def thresholds_of(cohort: Cohort, table: Table, part: np.ndarray) -> dict[str, dict[str, float | None]]:
    """{question: {"frame", "video": the threshold chosen on the validation part}}.

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
        for question in cohort.questions()
    }


def selective(cohort: Cohort, tables: Sequence[Table]) -> dict[str, dict[str, Any]]:
    """What thresholds that are chosen on validation groups do to the tested ones, fold by fold.

    Args:
        cohort: the labelled frames.
        tables: what the heads of each fold say of them.

    Returns:
        {question: {"most_wrong", and per "frame" and "video": {"thresholds" of the folds, "coverage", "risk"
        of the tested samples, None without any, and "curve": {"coverage", "risk"} at every threshold}}}.
    """
    found = {}
    for question in cohort.questions():
        found[question.name] = {"most_wrong": MOST_WRONG} | {
            level: _at_level(cohort, question, tables, level) for level in LEVELS
        }
    return found


def _at_level(cohort: Cohort, question: Question, tables: Sequence[Table], level: str) -> dict[str, Any]:
    confidence, right, limit, thresholds = [], [], [], []
    for fold, table in enumerate(tables):
        threshold = choose_threshold(*_units(cohort, question, table, cohort.rows(fold, "val"), level))
        sure, is_right = _units(cohort, question, table, cohort.rows(fold, "test"), level)
        thresholds.append(threshold)
        confidence.append(sure)
        right.append(is_right)
        limit.append(np.full(len(sure), 0.0 if threshold is None else threshold))
    sure, is_right = np.concatenate(confidence), np.concatenate(right)
    _, coverage, risk = risk_coverage(sure, is_right)
    shown = evenly(len(coverage), MOST_POINTS)
    at = at_threshold(sure, is_right, np.concatenate(limit))
    curve = {"coverage": coverage[shown].tolist(), "risk": risk[shown].tolist()}
    return {"thresholds": thresholds, "curve": curve} | {name: plain(value) for name, value in at.items()}


def _units(
    cohort: Cohort, question: Question, table: Table, rows: np.ndarray, level: str
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence (m,) and whether it is right (m,), of the annotated frames or videos among some rows."""
    rows = rows[question.true[rows] >= 0]
    if not len(rows):
        return np.zeros(0), np.zeros(0, dtype=bool)
    whose = cohort.groups[rows].tolist(), cohort.videos[rows].tolist(), [""] * len(rows)
    (true, p, _), (_, prevalence, _) = (
        levels_of(question.true[rows], of[rows], *whose)[level]
        for of in (question.probabilities(table), question.prevalence(table))
    )
    return confidence_of(p, prevalence), chosen(p, prevalence) == true
