"""The result of a screening question, from the probabilities of its tested exams.

Notation: U exams.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from simclr_rhd.data.attributes.columns import sorted_values
from simclr_rhd.evaluation.config import PrevalenceConfig
from simclr_rhd.evaluation.scores.bootstrap import trials_needed
from simclr_rhd.evaluation.scores.records import mean_scores
from simclr_rhd.evaluation.screening.decision_curve import decision_curve
from simclr_rhd.evaluation.screening.discrimination import auroc, auroc_difference, roc_curve
from simclr_rhd.evaluation.screening.positives import ScreeningQuestion
from simclr_rhd.evaluation.screening.rates import ScreeningScores, join_scores, rates_at
from simclr_rhd.evaluation.screening.records import (
    OperatingPoint,
    ScoreHistogram,
    ScreeningResult,
    SubgroupRates,
)

HISTOGRAM_BINS = 20
SENSITIVITY_TO_SHOW, HALF_WIDTH_TO_SHOW = 0.90, 0.05  # of the note on how many exams it takes


@dataclass(frozen=True)
class FoldScores:
    """The tested exams of a fold as one method scores them.

    Attributes:
        test: their probabilities.
        pooling: how the frames of an exam are put together.
        thresholds: {goal: threshold} from the fold's validation exams, as of `ScreeningTest`.
        left_out: exams whose status is not known.
        columns: {column: the value of each tested exam}.
    """

    test: ScreeningScores
    pooling: str
    thresholds: Mapping[str, float | None]
    left_out: int
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


def screening_result(
    config: PrevalenceConfig,
    question: ScreeningQuestion,
    folds: Sequence[FoldScores],
    baselines: Mapping[str, Sequence[ScreeningScores]],
    *,
    unit: str,
    seed: int,
) -> ScreeningResult:
    """The result of a question over the tested exams of all folds.

    Args:
        config: of the prevalences.
        question: of the screening.
        folds: scores of the model.
        baselines: {baseline: each draw's scores of the same exams}.
        unit: what an exam is of.
        seed: of the bootstrap.
    """
    tested = join_scores([fold.test for fold in folds])
    result = ScreeningResult(
        task=question.task,
        positive=list(question.positive),
        negative=list(question.negative),
        unit=unit,
        n_positive=tested.n_positive,
        n_negative=tested.n_negative,
        left_out=sum(fold.left_out for fold in folds),
        poolings=[fold.pooling for fold in folds],
        exams_needed=trials_needed(SENSITIVITY_TO_SHOW, HALF_WIDTH_TO_SHOW),
    )
    if not tested.n_positive or not tested.n_negative:
        kind = "negative" if tested.n_positive else "positive"
        return replace(result, reason=f"no tested exam is {kind}")
    return replace(
        result,
        auroc=auroc(tested, seed=seed),
        baselines={
            name: mean_scores([auroc(draw, seed=seed) for draw in draws]) for name, draws in baselines.items()
        },
        differences={
            name: auroc_difference(tested, draws, seed=seed, n_comparisons=len(baselines))
            for name, draws in baselines.items()
        },
        operating_points=[_operating_point(config, goal, folds, seed) for goal in folds[0].thresholds],
        decision_curve=decision_curve(tested, seed=seed),
        roc=roc_curve(tested, seed=seed),
        histogram=_histogram(tested),
        subgroups=_subgroups(folds, seed) if folds[0].thresholds else {},
    )


def _operating_point(
    config: PrevalenceConfig, goal: str, folds: Sequence[FoldScores], seed: int
) -> OperatingPoint:
    """Rates at the thresholds of the folds; of those without one nothing is counted."""
    thresholds = [fold.thresholds[goal] for fold in folds]
    tested, limits = _with_limits(folds, goal)
    rates = rates_at(tested, limits, seed=seed)
    at = [rates.at_prevalence(share) for share in config.prevalence]
    return OperatingPoint(
        goal, thresholds, tested.n_positive, tested.n_negative, rates, [of for of in at if of]
    )


def _with_limits(folds: Sequence[FoldScores], goal: str) -> tuple[ScreeningScores, np.ndarray]:
    """The tested exams of the folds that have a threshold, and the threshold of each exam."""
    usable = [(fold.test, limit) for fold in folds if (limit := fold.thresholds[goal]) is not None]
    limits = np.repeat([limit for _, limit in usable], [len(test.score) for test, _ in usable])
    return join_scores([test for test, _ in usable]), limits


def _subgroups(folds: Sequence[FoldScores], seed: int) -> dict[str, dict[str, SubgroupRates]]:
    """{column: {value: rates at the first threshold}}."""
    goal = next(iter(folds[0].thresholds))
    usable = [fold for fold in folds if fold.thresholds[goal] is not None]
    if not usable:
        return {}
    tested, limits = _with_limits(usable, goal)
    subgroups: dict[str, dict[str, SubgroupRates]] = {}
    for column in usable[0].columns:
        values = np.concatenate([fold.columns[column] for fold in usable])
        subgroups[column] = {}
        for value in sorted_values(values):
            here = values == value
            part = ScreeningScores(*(of[here] for of in vars(tested).values()))
            rates = rates_at(part, limits[here], seed=seed)
            subgroups[column][value] = SubgroupRates(
                part.n_positive, part.n_negative, rates.sensitivity, rates.specificity
            )
    return subgroups


def _histogram(scores: ScreeningScores) -> ScoreHistogram:
    counts = [
        np.histogram(scores.score[which], bins=HISTOGRAM_BINS, range=(0, 1))[0].tolist()
        for which in (scores.positive, ~scores.positive)
    ]
    return ScoreHistogram(*counts)
