"""Fit a screening test: how an exam's frames are put together, its calibration, its thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simclr_rhd.data.labelled_set import LabelledSet, Probabilities
from simclr_rhd.evaluation.config import ScreeningConfig
from simclr_rhd.evaluation.screening.attention import AttentionPooling
from simclr_rhd.evaluation.screening.discrimination import auroc, auroc_difference
from simclr_rhd.evaluation.screening.exams import Exams, ExamScorer, labelled_evidence, make_exams
from simclr_rhd.evaluation.screening.pooling import FIXED_POOLINGS, MEAN, FrameEvidence, Pooling
from simclr_rhd.evaluation.screening.positives import ScreeningQuestion, screening_questions
from simclr_rhd.evaluation.screening.thresholds import choose_threshold, operating_goals


@dataclass(frozen=True)
class ScreeningTest:
    """A screening question as a model answers it.

    Attributes:
        question: of the screening.
        scorer: of exams.
        thresholds: {goal: probability from which on an exam is sent on}; None where no validation exam is
            positive, or all are.
    """

    question: ScreeningQuestion
    scorer: ExamScorer
    thresholds: dict[str, float | None]


def fit_screening_tests(
    config: ScreeningConfig,
    labelled_set: LabelledSet,
    table: Probabilities,
    features: np.ndarray,
    part: np.ndarray,
    *,
    seed: int,
) -> list[ScreeningTest]:
    """A test for each question, fitted on the training and validation exams of a model.

    Args:
        config: of the screening.
        labelled_set: the frames.
        table: the model's probabilities.
        features: (n, D) of the model's encoder.
        part: (n,) 'train', 'val' or 'test' of the model.
        seed: of the bootstrap over groups.
    """
    tests = []
    for question in screening_questions(labelled_set, config.positive):
        evidence = labelled_evidence(labelled_set, question, table, features)
        training, validation = (
            make_exams(labelled_set, question, np.flatnonzero(part == name)) for name in ("train", "val")
        )
        scorer = fit_scorer(evidence, training, validation, seed=seed)
        scores = validation.scores(scorer.score(evidence, validation))
        thresholds = {goal.name: choose_threshold(scores, goal) for goal in operating_goals(config)}
        tests.append(ScreeningTest(question, scorer, thresholds))
    return tests


def fit_scorer(evidence: FrameEvidence, training: Exams, validation: Exams, *, seed: int) -> ExamScorer:
    """Learn a pooling, choose among all, and calibrate.

    Args:
        evidence: of all labelled frames.
        training: exams that the attention learns on.
        validation: exams that the pooling is chosen and calibrated on.
        seed: of the bootstrap over groups.
    """
    learnt = AttentionPooling.fit(evidence, training)
    candidates: list[Pooling] = [*FIXED_POOLINGS[1:], *([learnt] if learnt else [])]
    pooling = choose_pooling(candidates, evidence, validation, seed=seed)
    return ExamScorer.fit(pooling, evidence, validation)


def choose_pooling(
    candidates: Sequence[Pooling], evidence: FrameEvidence, validation: Exams, *, seed: int
) -> Pooling:
    """The candidate of largest AUROC among those that are better than the mean by more than chance.

    The intervals of all differences to the mean hold together; without one above 0 the mean is kept.

    Args:
        candidates: other ways than the mean.
        evidence: of all labelled frames.
        validation: exams.
        seed: of the bootstrap over groups.
    """
    if not len(validation.positive):
        return MEAN
    frames = evidence.select(validation.rows)
    by_mean = validation.scores(MEAN.logits(frames, validation.exam))
    best: tuple[float, Pooling] = (auroc(by_mean, seed=seed).value or 0.0, MEAN)
    for pooling in candidates:
        scores = validation.scores(pooling.logits(frames, validation.exam))
        difference = auroc_difference(scores, [by_mean], seed=seed, n_comparisons=len(candidates))
        area = auroc(scores, seed=seed).value
        if area is not None and area > best[0] and difference.low is not None and difference.low > 0:
            best = area, pooling
    return best[1]
