"""Parts of a target's result that stand beside its scores: calibration, abstention, folds, heads, labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from simclr_rhd.data.labels.annotators import Agreement
from simclr_rhd.evaluation.scores.records import Interval, Levels, Margins, Record


@dataclass(frozen=True)
class SampleSize(Record):
    """Precision of an accuracy with the groups that are tested.

    Attributes:
        groups: that are tested.
        accuracy: per video.
        assumed: whether the accuracy is assumed, as none could be computed.
        half_width: of its 95 % interval; None without groups.
        groups_needed: for a half width of 0.1.
    """

    groups: int
    accuracy: float
    assumed: bool
    half_width: float | None
    groups_needed: int


@dataclass(frozen=True)
class ReaderAgreement(Record):
    """Agreement of the annotators of a task with each other, on the files that two of them have labelled.

    Attributes:
        pairs: of annotators.
        files: of these pairs, together.
        kappa: Cohen's kappa, the mean over the pairs (Light 1971); None where no pair has one.
        lowest: of the pairs.
        highest: of the pairs.
    """

    pairs: int
    files: int
    kappa: float | None
    lowest: float | None
    highest: float | None

    @classmethod
    def of(cls, task: str, agreement: Sequence[Agreement]) -> Self | None:
        """The agreement of a task, of that of each pair; None where no two have labelled the same files."""
        pairs = [pair for pair in agreement if pair.task == task]
        if not pairs:
            return None
        files, kappas = sum(pair.files for pair in pairs), [of.kappa for of in pairs if of.kappa is not None]
        if not kappas:
            return cls(len(pairs), files, None, None, None)
        return cls(len(pairs), files, sum(kappas) / len(kappas), min(kappas), max(kappas))


@dataclass(frozen=True)
class FoldScore(Record):
    """A fold alone: per video, over the classes that it tests; None with fewer than two of them."""

    fold: int
    n: int
    groups: int
    accuracy: float | None
    balanced_accuracy: float | None


@dataclass(frozen=True)
class Reliability(Record):
    """The bins of a reliability diagram; None for the means of an empty bin.

    Attributes:
        ece: expected calibration error.
        confidence: mean of each of B bins.
        accuracy: share that is right in each bin.
        count: predictions in each bin.
    """

    ece: float | None
    confidence: list[float | None]
    accuracy: list[float | None]
    count: list[int]


@dataclass(frozen=True)
class Calibration(Reliability):
    """Calibration of the tested frames: of the most probable class, and of each class.

    Attributes:
        classwise_ece: calibration error over all classes.
        classes: {class: its "n", "frequency" and "mean_probability"}.
    """

    classwise_ece: float
    classes: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The object, in the order of `metrics.json`."""
        return dict.fromkeys(("ece", "classwise_ece", "classes")) | super().to_json()


@dataclass(frozen=True)
class CalibrationResult(Record):
    """Probabilities before and after the calibration.

    Attributes:
        before: uncalibrated.
        after: calibrated.
        validation: {"before", "after": class-wise error and classes} of the frames that the calibration was
            fitted on; None without any.
    """

    before: Calibration
    after: Calibration
    validation: dict[str, Any] | None


@dataclass(frozen=True)
class FinetunedResult(Record):
    """Scores of the fine-tuned network, its margins over the linear head, and the epochs that were kept."""

    test: Levels
    margin: Margins
    epochs_kept: list[int] | None = None


@dataclass(frozen=True)
class SelectiveLevel(Record):
    """Abstention per frame or video.

    Attributes:
        thresholds: of the folds.
        reasons: why a fold's threshold is not proved; "" where it is.
        curve: {"coverage", "risk"} at every threshold.
        coverage: share of the tested samples whose prediction is accepted; None without any.
        risk: share of these predictions that is wrong; None without any.
    """

    thresholds: list[float]
    reasons: list[str]
    curve: dict[str, list[float]]
    coverage: float | None
    risk: float | None


@dataclass(frozen=True)
class SelectiveResult(Record):
    """Abstention: the risk that is aimed at, the confidence of its proof, and what the thresholds do."""

    most_wrong: float
    confidence: float
    frame: SelectiveLevel
    video: SelectiveLevel

    def level(self, level: str) -> SelectiveLevel:
        """Per 'frame' or 'video'."""
        return self.video if level == "video" else self.frame


@dataclass(frozen=True)
class HeadDetails(Record):
    """Penalty and calibration of each fold's head, and what each seed alone would score."""

    l2: list[float]
    temperature: list[float]
    bias: list[dict[str, float]]
    prevalence: list[dict[str, float]]
    balanced_accuracy_of_seeds: list[float | None]


@dataclass(frozen=True)
class SubgroupScore(Record):
    """Balanced accuracy of the tested samples that have one value in a column.

    Attributes:
        n: samples of classes that count.
        groups: of these samples.
        balanced_accuracy: over the classes that occur; None with fewer than two.
        ci95: [low, high].
        too_small: the reason why it is too small; "" where it is large enough to be compared.
    """

    n: int
    groups: int
    balanced_accuracy: float | None
    ci95: Interval
    too_small: str


@dataclass(frozen=True)
class SubgroupGap(Record):
    """The largest difference of balanced accuracy between two values of a column.

    Attributes:
        higher: the value with the higher score.
        lower: the other one.
        classes: that both have, over which the two are compared.
        difference: of the scores, at least 0.
        ci95: [low, high], widened for all differences of the task that were looked at.
    """

    higher: str
    lower: str
    classes: list[str]
    difference: float
    ci95: Interval


@dataclass(frozen=True)
class SubgroupResult(Record):
    """Results broken down by a column.

    Attributes:
        level: of the samples, 'video' or 'frame'.
        values: {value: its score}.
        unknown: tested samples without a value.
        comparisons: pairs of values of the task whose differences were looked at (Bonferroni).
        gap: the largest difference; None where fewer than two values can be compared.
    """

    level: str
    values: dict[str, SubgroupScore]
    unknown: int
    comparisons: int
    gap: SubgroupGap | None


@dataclass(frozen=True)
class EfficiencyPoint(Record):
    """Balanced accuracy with a share of the labelled groups: the mean over its draws, and their range."""

    fraction: float
    groups: float
    balanced_accuracy: float | None
    low: float | None
    high: float | None
