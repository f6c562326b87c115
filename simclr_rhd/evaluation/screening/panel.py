"""The screening panel: whom the model would send on, and whom it would miss, over the tested exams.

Notation: n labelled frames, K folds, U exams.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from simclr_rhd.data.labelled_set import Probabilities
from simclr_rhd.evaluation.config import MEAN, POOLING_NAMES, ScreeningConfig
from simclr_rhd.evaluation.screening.discrimination import auroc
from simclr_rhd.evaluation.screening.exams import Exams, ExamScorer, exam_unit, labelled_evidence, make_exams
from simclr_rhd.evaluation.screening.fit import choose_scorer, fit_scorers
from simclr_rhd.evaluation.screening.pooling import MEAN_POOLING, FrameEvidence
from simclr_rhd.evaluation.screening.positives import ScreeningQuestion, screening_questions
from simclr_rhd.evaluation.screening.rates import ScreeningScores, join_scores
from simclr_rhd.evaluation.screening.records import (
    ScreeningResult,
)
from simclr_rhd.evaluation.screening.result import FoldScores, screening_result
from simclr_rhd.evaluation.screening.thresholds import choose_threshold, operating_goals
from simclr_rhd.evaluation.targets import FINETUNED
from simclr_rhd.heads.cross_validation import DRAW_SUFFIX, MAJORITY, OURS, UNCALIBRATED, CrossValidation

CHOSEN = "chosen"  # beside the names of the poolings
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
class _Panel:
    """A question, and what it is answered from."""

    config: ScreeningConfig
    cv: CrossValidation
    question: ScreeningQuestion
    predictions: Mapping[str, FoldPredictions]

    def result(self) -> ScreeningResult:
        folds = [self.score_fold(fold) for fold in self.cv.folds()]
        seed = self.cv.config.seed
        result = screening_result(
            self.config,
            self.question,
            [of_fold[CHOSEN] for of_fold in folds],
            {
                baseline: [join_scores(self.score_by_mean(draw)) for draw in draws]
                for baseline, draws in self.draws.items()
            },
            unit=exam_unit(self.cv.labelled_set),
            seed=seed,
        )
        if result.reason:
            return result
        # where an attention could not be learnt, the mean stands for it
        tested = {
            name: join_scores([of_fold.get(name, of_fold[MEAN]).test for of_fold in folds])
            for name in POOLING_NAMES
            if any(name in of_fold for of_fold in folds)
        }
        areas = {name: auroc(scores, seed=seed) for name, scores in tested.items()}
        return replace(result, by_pooling=areas)

    @property
    def draws(self) -> dict[str, list[str]]:
        """{baseline: its draws}; the majority class has no ranking."""
        draws: dict[str, list[str]] = {}
        for method in self.predictions:
            if method not in (OURS, UNCALIBRATED, FINETUNED, MAJORITY):
                draws.setdefault(method.split(DRAW_SUFFIX)[0], []).append(method)
        return draws

    def exams(self, fold: int) -> list[Exams]:
        """The training, validation and test exams of a fold."""
        labelled_set = self.cv.labelled_set
        return [
            make_exams(labelled_set, self.question, labelled_set.rows(fold, part))
            for part in ("train", "val", "test")
        ]

    def evidence(self, method: str, fold: int) -> FrameEvidence:
        """The evidence of all frames by a method."""
        table, features = self.predictions[method][fold], self.cv.features.per_fold[fold]
        return labelled_evidence(self.cv.labelled_set, self.question, table, features)

    def score_fold(self, fold: int) -> dict[str, FoldScores]:
        """{pooling, and CHOSEN: our scores}; of each pooling that could be fitted."""
        evidence, (training, validation, test) = self.evidence(OURS, fold), self.exams(fold)
        scorers = fit_scorers(evidence, training, validation)
        chosen = choose_scorer(self.config.pooling, scorers, evidence, validation, seed=self.cv.config.seed)
        frame_columns = self.cv.labelled_set.columns
        columns = {column: test.values(values) for column, values in frame_columns.items()}
        scores = {}
        for name, scorer in {**scorers, CHOSEN: chosen}.items():
            chosen_on, tested = (of.scores(scorer.score(evidence, of)) for of in (validation, test))
            goals = operating_goals(self.config)
            thresholds = {goal.name: choose_threshold(chosen_on, goal) for goal in goals}
            scores[name] = FoldScores(tested, scorer.pooling.name, thresholds, test.left_out, columns)
        return scores

    def score_by_mean(self, method: str) -> list[ScreeningScores]:
        """The tested exams of each fold by another method, with the mean over their frames."""
        scores = []
        for fold in self.cv.folds():
            evidence, (_, validation, test) = self.evidence(method, fold), self.exams(fold)
            scorer = ExamScorer.fit(MEAN_POOLING, evidence, validation)
            scores.append(test.scores(scorer.score(evidence, test)))
        return scores
