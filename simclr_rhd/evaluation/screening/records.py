"""Results of a screening question: what `metrics.json` holds of it below "screening"."""

from dataclasses import dataclass, field
from typing import ClassVar

from simclr_rhd.evaluation.scores.records import Record, Score
from simclr_rhd.evaluation.screening.decision_curve import DecisionPoint
from simclr_rhd.evaluation.screening.discrimination import RocCurve
from simclr_rhd.evaluation.screening.rates import PredictiveValues, Rates


@dataclass(frozen=True)
class OperatingPoint(Record):
    """A test that sends on from a threshold on, chosen on validation exams.

    Attributes:
        goal: the rate that it was chosen for, such as 'sensitivity 0.90'.
        thresholds: of the folds; None where no validation exam is positive, or all are.
        n_positive: positive exams of the folds that have a threshold.
        n_negative: negative ones.
        rates: of these tested exams.
        predictive_values: at each prevalence that was asked for.
    """

    goal: str
    thresholds: list[float | None]
    n_positive: int
    n_negative: int
    rates: Rates
    predictive_values: list[PredictiveValues]


@dataclass(frozen=True)
class ScoreHistogram(Record):
    """Counts of tested exams by their probability, in bins of equal width from 0 to 1."""

    positive: list[int]
    negative: list[int]


@dataclass(frozen=True)
class SubgroupRates(Record):
    """Rates of the exams of one value of a column, at the first threshold of each fold."""

    n_positive: int
    n_negative: int
    sensitivity: Score
    specificity: Score


@dataclass(frozen=True)
class ScreeningResult(Record):
    """Results of a screening question, over tested exams.

    Attributes:
        task: its task.
        positive: classes that make an exam positive.
        negative: classes that make it negative.
        unit: what an exam is of: 'patient', 'video', or one of both.
        n_positive: positive exams.
        n_negative: negative exams.
        left_out: exams without a frame of one of these classes, and undecided ones.
        undecided: exams without a positive frame that have one of a class that the model does not know.
        poolings: of each fold: how the frames of an exam are put together, chosen on validation exams.
        exams_needed: exams of a kind that an interval of ± 0.05 about a rate of 0.90 would take.
        auroc: area under the ROC curve.
        by_pooling: {way to put the frames of an exam together: its area}, of the tested exams.
        baselines: {baseline: its area}.
        differences: {baseline: our area less its own}; their intervals hold together.
        subgroups: {column: {value: rates}}; an exam of which frames have several values is in none.
        reason: why there are no figures; None where there are.
    """

    required: ClassVar = ("task", "positive", "unit", "n_positive", "n_negative")

    task: str
    positive: list[str]
    negative: list[str]
    unit: str
    n_positive: int
    n_negative: int
    left_out: int
    poolings: list[str]
    exams_needed: int
    auroc: Score = Score()
    undecided: int = 0
    by_pooling: dict[str, Score] = field(default_factory=dict)
    baselines: dict[str, Score] = field(default_factory=dict)
    differences: dict[str, Score] = field(default_factory=dict)
    operating_points: list[OperatingPoint] = field(default_factory=list)
    decision_curve: list[DecisionPoint] = field(default_factory=list)
    roc: RocCurve | None = None
    histogram: ScoreHistogram | None = None
    subgroups: dict[str, dict[str, SubgroupRates]] = field(default_factory=dict)
    reason: str | None = None
