"""The screening panel: whom the model would send on, and whom it would miss, over the tested exams.

Notation: n labelled frames, K folds, U exams.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from simclr_rhd.data.labelled_set import LabelledSet, Probabilities
from simclr_rhd.evaluation.config import ScreeningConfig
from simclr_rhd.evaluation.scores.bootstrap import trials_needed
from simclr_rhd.evaluation.scores.records import mean_scores
from simclr_rhd.evaluation.screening.decision_curve import decision_curve
from simclr_rhd.evaluation.screening.discrimination import auroc, auroc_difference, roc_curve
from simclr_rhd.evaluation.screening.exams import Exams, ExamScorer, exam_unit, labelled_evidence, make_exams
from simclr_rhd.evaluation.screening.fit import fit_scorer
from simclr_rhd.evaluation.screening.pooling import MEAN
from simclr_rhd.evaluation.screening.positives import ScreeningQuestion, screening_questions
from simclr_rhd.evaluation.screening.rates import ScreeningScores, rates_at
from simclr_rhd.evaluation.screening.records import OperatingPoint, ScoreHistogram, ScreeningResult
from simclr_rhd.evaluation.screening.thresholds import OperatingGoal, choose_threshold, operating_goals
from simclr_rhd.evaluation.targets import FINETUNED
from simclr_rhd.heads.cross_validation import DRAW_SUFFIX, MAJORITY, OURS, UNCALIBRATED, CrossValidation

HISTOGRAM_BINS = 20
SENSITIVITY_TO_SHOW, HALF_WIDTH_TO_SHOW = 0.90, 0.05  # of the note on how many positives it takes
FoldPredictions = Sequence[Probabilities]


def evaluate_screening(
    config: ScreeningConfig, cv: CrossValidation, predictions: Mapping[str, FoldPredictions]
) -> dict[str, ScreeningResult]:
    """{question: result} of all questions.

    Args:
        config: of the panel.
        cv: the labelled frames, their folds and features.
        predictions: {method: K tables}, as of `CrossValidation.predict_all`.
    """
    return {
        question.name: _Panel(config, cv, question, predictions).result()
        for question in screening_questions(cv.labelled_set, config.positive)
    }


@dataclass(frozen=True)
class _FoldScores:
    """The scores of a fold's validation and test exams, by one method."""

    pooling: str
    validation: ScreeningScores
    test: ScreeningScores


@dataclass(frozen=True)
class _Panel:
    """A question, and what it is answered from."""

    config: ScreeningConfig
    cv: CrossValidation
    question: ScreeningQuestion
    predictions: Mapping[str, FoldPredictions]

    @property
    def labelled_set(self) -> LabelledSet:
        return self.cv.labelled_set

    @property
    def seed(self) -> int:
        return self.cv.config.seed

    def result(self) -> ScreeningResult:
        folds = self.score_folds(OURS, choose=True)
        tested = _tested(folds)
        result = ScreeningResult(
            task=self.question.task,
            positive=list(self.question.positive),
            negative=list(self.question.negative),
            unit=exam_unit(self.labelled_set),
            n_positive=tested.n_positive,
            n_negative=tested.n_negative,
            left_out=sum(exams.left_out for exams in self.exams("test")),
            poolings=[fold.pooling for fold in folds],
            positives_needed=trials_needed(SENSITIVITY_TO_SHOW, HALF_WIDTH_TO_SHOW),
        )
        if not tested.n_positive or not tested.n_negative:
            return replace(
                result, reason=f"no tested exam is {'negative' if tested.n_positive else 'positive'}"
            )
        draws = {
            baseline: [_tested(self.score_folds(draw)) for draw in of_baseline]
            for baseline, of_baseline in self.draws.items()
        }
        return replace(
            result,
            auroc=auroc(tested, seed=self.seed),
            baselines={
                name: mean_scores([auroc(draw, seed=self.seed) for draw in of_baseline])
                for name, of_baseline in draws.items()
            },
            differences={
                name: auroc_difference(tested, of_baseline, seed=self.seed, n_comparisons=len(draws))
                for name, of_baseline in draws.items()
            },
            operating_points=[self.operating_point(goal, folds) for goal in operating_goals(self.config)],
            decision_curve=decision_curve(tested, seed=self.seed),
            roc=roc_curve(tested, seed=self.seed),
            histogram=_histogram(tested),
        )

    def exams(self, part: str) -> list[Exams]:
        """The exams of a part of each fold."""
        return [
            make_exams(self.labelled_set, self.question, self.labelled_set.rows(fold, part))
            for fold in self.cv.folds()
        ]

    @property
    def draws(self) -> dict[str, list[str]]:
        """{baseline: its draws}; the majority class has no ranking."""
        draws: dict[str, list[str]] = {}
        for method in self.predictions:
            if method not in (OURS, UNCALIBRATED, FINETUNED, MAJORITY):
                draws.setdefault(method.split(DRAW_SUFFIX)[0], []).append(method)
        return draws

    def score_folds(self, method: str, *, choose: bool = False) -> list[_FoldScores]:
        """Score the exams by a method, the frames put together by their mean or by a chosen way."""
        folds = []
        parts = zip(*(self.exams(part) for part in ("train", "val", "test")), strict=True)
        for table, features, (training, validation, test) in zip(
            self.predictions[method], self.cv.features.per_fold, parts, strict=True
        ):
            evidence = labelled_evidence(self.labelled_set, self.question, table, features)
            if choose:
                scorer = fit_scorer(evidence, training, validation, seed=self.seed)
            else:
                scorer = ExamScorer.fit(MEAN, evidence, validation)
            scores = [exams.scores(scorer.score(evidence, exams)) for exams in (validation, test)]
            folds.append(_FoldScores(scorer.pooling.name, *scores))
        return folds

    def operating_point(self, goal: OperatingGoal, folds: Sequence[_FoldScores]) -> OperatingPoint:
        """Rates at the thresholds that each fold's validation exams give."""
        thresholds = [choose_threshold(fold.validation, goal) for fold in folds]
        usable = [pair for pair in zip(folds, thresholds, strict=True) if pair[1] is not None]
        tested = _tested([fold for fold, _ in usable])
        limits = np.repeat([limit for _, limit in usable], [len(fold.test.score) for fold, _ in usable])
        rates = rates_at(tested, limits, seed=self.seed)
        at = [rates.at_prevalence(share) for share in self.config.prevalence]
        return OperatingPoint(
            goal.name, thresholds, tested.n_positive, tested.n_negative, rates, [of for of in at if of]
        )


def _tested(folds: Sequence[_FoldScores]) -> ScreeningScores:
    """The test exams of all folds."""
    parts = [vars(fold.test).values() for fold in folds]
    if not parts:
        return ScreeningScores(np.zeros(0, dtype=bool), np.zeros(0), np.zeros(0, dtype=str))
    return ScreeningScores(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _histogram(scores: ScreeningScores) -> ScoreHistogram:
    counts = [
        np.histogram(scores.score[which], bins=HISTOGRAM_BINS, range=(0, 1))[0].tolist()
        for which in (scores.positive, ~scores.positive)
    ]
    return ScoreHistogram(*counts)
