"""Fit a screening test: how an exam's frames are put together, its calibration, its thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simclr_rhd.core.config import AUTO
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities
from simclr_rhd.evaluation.config import MEAN, ScreeningConfig
from simclr_rhd.evaluation.screening.attention import AttentionPooling
from simclr_rhd.evaluation.screening.discrimination import auroc, auroc_difference
from simclr_rhd.evaluation.screening.exams import Exams, ExamScorer, labelled_evidence, make_exams
from simclr_rhd.evaluation.screening.pooling import FIXED_POOLINGS, FrameEvidence, Pooling
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
        scorers = fit_scorers(evidence, training, validation)
        scorer = choose_scorer(config.pooling, scorers, evidence, validation, seed=seed)
        scores = validation.scores(scorer.score(evidence, validation))
        thresholds = {goal.name: choose_threshold(scores, goal) for goal in operating_goals(config)}
        tests.append(ScreeningTest(question, scorer, thresholds))
    return tests


def fit_scorers(evidence: FrameEvidence, training: Exams, validation: Exams) -> dict[str, ExamScorer]:
    """{pooling: scorer, calibrated on validation exams}; no attention where it has too few to learn from.

    Args:
        evidence: of all labelled frames.
        training: exams that the attention learns on.
        validation: exams that each is calibrated on.
    """
    learnt = AttentionPooling.fit(evidence, training)
    poolings: list[Pooling] = [*FIXED_POOLINGS, *([learnt] if learnt else [])]
    return {pooling.name: ExamScorer.fit(pooling, evidence, validation) for pooling in poolings}


def choose_scorer(
    choice: str,
    scorers: Mapping[str, ExamScorer],
    evidence: FrameEvidence,
    validation: Exams,
    *,
    seed: int,
) -> ExamScorer:
    """The scorer that `--pooling` names, the mean where there is none.

    By default it is that of largest AUROC among those that rank validation exams better than the mean by
    more than chance: the intervals of all differences to the mean hold together; without one above 0 it is
    the mean.

    Args:
        choice: of the flag.
        scorers: of `fit_scorers`.
        evidence: of all labelled frames.
        validation: exams.
        seed: of the bootstrap over groups.
    """
    if choice != AUTO or not len(validation.positive):
        return scorers.get(choice, scorers[MEAN])
    scores = {name: validation.scores(of.score(evidence, validation)) for name, of in scorers.items()}
    best, best_area = MEAN, auroc(scores[MEAN], seed=seed).value or 0.0
    for name in [name for name in scorers if name != MEAN]:
        difference = auroc_difference(scores[name], [scores[MEAN]], seed=seed, n_comparisons=len(scorers) - 1)
        area = auroc(scores[name], seed=seed).value
        if area is not None and area > best_area and difference.low is not None and difference.low > 0:
            best, best_area = name, area
    return scorers[best]
