"""The results of a run: what `metrics.json` holds.

The classes' fields are its keys; a field with the default None stands there only where it is known.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Self

from simclr_rhd.core.config import Check
from simclr_rhd.core.file_names import METRICS
from simclr_rhd.core.records import JsonObject, Names
from simclr_rhd.data.labels.vocabulary import target_name
from simclr_rhd.evaluation.scores.records import Levels, Margins, Record, Score, Scores, as_json
from simclr_rhd.evaluation.screening.records import ScreeningResult
from simclr_rhd.evaluation.target_details import (
    CalibrationResult,
    EfficiencyPoint,
    FinetunedResult,
    FoldScore,
    HeadDetails,
    ReaderAgreement,
    SampleSize,
    SelectiveResult,
    SubgroupResult,
)

LEVELS = ("patient", "video", "frame")
JUDGED_LEVELS = ("video", "frame")  # the first that can be scored is judged

JudgedLevels = Annotated[Levels, Check(lambda of: {*JUDGED_LEVELS} <= {*of}, "scores per video and frame")]
# {"class", "reason"} of a class that cannot be both learnt and tested
NotEvaluable = Annotated[dict[str, str], Check(lambda row: "class" in row, "the name of a class")]


@dataclass(frozen=True)
class TargetResult(Record):
    """Results of a target: a task, or one of its lesions.

    Attributes:
        classes: C names.
        not_evaluable: those that cannot be both learnt and tested.
        groups: {class: {"frames", "groups", and the groups of each part or fold}}.
        power: what the tested groups can tell.
        val: scores of the validation part.
        test: scores of the tested samples.
        baselines: {baseline: its scores}.
        margins: {baseline: the model's balanced accuracy less the baseline's}.
        comparisons: how many intervals of margins hold together.
        draws: {baseline: how many draws its scores are the mean of}.
        folds: each fold alone.
        leak: scores per frame under a split over frames.
        subgroups: {column: results broken down by its values}.
    """

    required: ClassVar = ("classes", "not_evaluable", "test", "baselines")

    classes: Names
    not_evaluable: list[NotEvaluable]
    groups: dict[str, dict[str, int]]
    power: SampleSize
    val: Levels
    test: JudgedLevels
    baselines: dict[str, JudgedLevels]
    margins: dict[str, Margins]
    comparisons: int
    draws: dict[str, int]
    folds: list[FoldScore]
    calibration: CalibrationResult | None = None
    finetuned: FinetunedResult | None = None
    selective: SelectiveResult | None = None
    head: HeadDetails | None = None
    label_efficiency: dict[str, list[EfficiencyPoint]] | None = None
    leak: Scores | None = None
    subgroups: dict[str, SubgroupResult] | None = None

    @property
    def missing_classes(self) -> list[str]:
        """Classes that cannot be evaluated."""
        return [row["class"] for row in self.not_evaluable]

    @property
    def evaluable(self) -> frozenset[str]:
        """Classes that count."""
        return frozenset(self.classes) - set(self.missing_classes)

    @property
    def primary_level(self) -> str | None:
        """The level that is judged: per video where that is known, else per frame; None where neither is."""
        known = (x for x in JUDGED_LEVELS if self.test[x]["balanced_accuracy"].value is not None)
        return next(known, None)

    def chance_accuracy(self, level: str) -> float:
        """Balanced accuracy of guessing: 1 / number of the classes that are tested and count."""
        rows = self.test[level].per_class.items()
        return 1 / max(1, sum(row.support > 0 and name not in self.missing_classes for name, row in rows))

    def baseline_score(self, baseline: str, level: str) -> Score:
        """Balanced accuracy of a baseline; without a value where there is none."""
        levels = self.baselines.get(baseline)
        return levels[level]["balanced_accuracy"] if levels else Score()

    def to_json(self) -> dict[str, Any]:
        """The object; scores of baselines per frame stand at the top, the others below their level."""
        record = super().to_json()
        record["baselines"] = {
            name: levels["frame"] | {level: levels[level] for level in ("video", "patient")}
            for name, levels in record["baselines"].items()
        }
        if self.leak:
            record["leak"] = {"leaky": True, "frame": record["leak"]}
        return record

    @classmethod
    def from_json(cls, value: object, where: str = METRICS) -> Self:
        """The result of a target in `metrics.json`."""
        record = JsonObject(value, where)
        baselines = {
            name: {"frame": of.fields} | {level: of.fields[level] for level in LEVELS if level in of.fields}
            for name, of in record.object("baselines").items()
        }
        leak = {"leak": record.object("leak").fields.get("frame")} if "leak" in record.fields else {}
        return super().from_json({**record.fields, "baselines": baselines, **leak}, where)


Lesion = Annotated[TargetResult, Check(lambda of: len(of.classes) == 2, "the classes absent and present")]


@dataclass(frozen=True)
class TaskResult(Record):
    """Results of a task.

    Attributes:
        classes: of the task; of a multi-label one its lesions.
        not_evaluable: those that cannot be both learnt and tested.
        targets: {lesion: result}; {"": result} of a task without lesions; none where it was skipped.
        skipped: why it was not learnt; None where it was.
        multilabel: whether the targets are lesions.
        readers: agreement of its annotators; None where no two of them have labelled the same files.
    """

    classes: Names
    not_evaluable: list[NotEvaluable]
    targets: dict[str, TargetResult] = field(default_factory=dict)
    skipped: str | None = None
    multilabel: bool = False
    readers: ReaderAgreement | None = None

    def to_json(self) -> dict[str, Any]:
        """The object of a skipped task, of one with lesions, or of the only target."""
        rows = {"classes": self.classes, "not_evaluable": self.not_evaluable}
        readers = {"readers": self.readers.to_json()} if self.readers else {}
        if self.skipped is not None:
            return rows | {"skipped": self.skipped} | readers
        if self.multilabel:
            return {"mode": "multilabel"} | rows | {"lesions": as_json(self.targets)} | readers
        return next(iter(self.targets.values())).to_json() | readers

    @classmethod
    def from_json(cls, value: object, where: str = METRICS) -> Self:
        """The result of a task in `metrics.json`."""
        record, task = JsonObject(value, where), super().from_json(value, where)
        if task.skipped is not None:
            return task
        if "lesions" not in record.fields:
            return replace(task, targets={"": TargetResult.from_json(value, where)})
        return replace(task, targets=record.typed("lesions", dict[str, Lesion]), multilabel=True)


@dataclass(frozen=True)
class SplitInfo(Record):
    """Division of the frames, and what the encoder has seen.

    Attributes:
        by: what the split never divides, such as 'patient'.
        leaky: whether frames of one patient or video stand on two sides.
        folds: 1 for a single split.
        parts: {part or fold: its "frames" and "groups"}.
        pretraining: what the encoder has seen, in words.
        own: whether the split is the user's own.
        folds_by: the column whose values are the folds.
        fold_names: these values, in the order of the folds.
        test_evaluations: how often these frames were scored in the run's folder, this run included.
    """

    required: ClassVar = ("by", "leaky", "folds")

    by: str
    leaky: bool
    folds: int
    parts: dict[str, dict[str, int]]
    pretraining: str
    own: bool | None = None
    folds_by: str | None = None
    fold_names: list[str] | None = None
    test_evaluations: int | None = None

    def name_folds(self) -> str:
        """The folds in words: '5 folds', '3 folds, the values of SITE: A, B, C'."""
        names = f", the values of {self.folds_by}: {', '.join(self.fold_names or [])}"
        return f"{self.folds} folds{names * (self.folds_by is not None)}"


@dataclass(frozen=True)
class NearDuplicates(Record):
    """Pairs of frames that look nearly identical: how many there are in all, and the first ones."""

    found: int
    listed: int
    threshold: float
    pairs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class AuditSummary(Record):
    """The leak audit: its pairs that are closest in feature space, and those that look nearly identical."""

    closest: list[dict[str, Any]]
    near_identical: NearDuplicates


@dataclass(frozen=True)
class RunResults(Record):
    """The content of `metrics.json`; `screening` holds {question: result}."""

    required: ClassVar = ("synthetic", "split", "tasks")

    synthetic: bool
    split: SplitInfo
    tasks: dict[str, TaskResult]
    audit: AuditSummary
    screening: dict[str, ScreeningResult] = field(default_factory=dict)

    def with_test_evaluations(self, n: int | None) -> Self:
        """The results with how often their test part was scored, this time included; None if unknown."""
        return replace(self, split=replace(self.split, test_evaluations=n))

    @property
    def targets(self) -> dict[str, TargetResult]:
        """{name: result} of each target that was evaluated: a task, or 'task: lesion'."""
        return {
            target_name(task, name): result
            for task, of_task in self.tasks.items()
            for name, result in of_task.targets.items()
        }

    @property
    def skipped(self) -> dict[str, str]:
        """{task: why it was not learnt}."""
        return {task: of.skipped for task, of in self.tasks.items() if of.skipped is not None}
