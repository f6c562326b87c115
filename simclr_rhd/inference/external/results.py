"""The results of a model on another data set: what its `metrics.json` holds.

Its scores stand where those of a run stand; what only such an evaluation has is below "external".
"""

from dataclasses import dataclass, field
from typing import ClassVar

from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.evaluation.scores.records import Levels, Record
from simclr_rhd.inference.external.class_mapping import ClassComparison
from simclr_rhd.inference.external.overlap import Overlap
from simclr_rhd.inference.external.recalibration import ScalingRecord

TRAINING_MAJORITY, VALIDATION_MAJORITY = "training part", "validation groups"


@dataclass(frozen=True)
class ExternalDetails(Record):
    """Results of a target beside the scores of the model as it is, over the classes that both sides know.

    Attributes:
        unknown_as_wrong: scores over all classes of the data set: frames of those that the model does not
            know, or has not learnt, are wrong; None where there are none.
        recalibrated: scores after recalibration; None where it could not be fitted.
        scaling: of the recalibration, fitted to all groups.
        not_recalibrated: why it could not be fitted.
        unscored: {"video", "patient": how many have no score, as a frame of them is of an unknown class}.
    """

    unknown_as_wrong: Levels | None = None
    recalibrated: Levels | None = None
    scaling: ScalingRecord | None = None
    not_recalibrated: str | None = None
    unscored: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Novelty(Record):
    """Frames that are unlike those learnt from.

    Attributes:
        known: whether the model has a detector.
        frames: that were evaluated.
        foreign: of these, out of distribution, near-black or of one colour.
        per_class: {task: {class: its "frames" and "foreign" ones}}.
    """

    known: bool
    frames: int
    foreign: int
    per_class: dict[str, dict[str, dict[str, int]]]


@dataclass(frozen=True)
class ModelSource(Record):
    """The model that was evaluated.

    Attributes:
        sha256: of its file.
        version: of its file's format.
        data: fingerprint of the data that it learnt from.
        init: weights that its pretraining began with, as of `KNOWN_STARTS` or `OTHER_START`; "" if unknown.
        classes: {task: its classes, or lesions}.
        screening: questions of its screening tests.
    """

    sha256: str
    version: int
    data: str
    init: str
    classes: dict[str, list[str]]
    screening: list[str]


@dataclass(frozen=True)
class ExternalFacts(Record):
    """Everything of an evaluation that no run has.

    Attributes:
        model: that was evaluated.
        data: fingerprint of the data set.
        evaluations: how many times this model has been evaluated on these frames, this one counted.
        overlap: with what the model has learnt from.
        classes: {task: the classes of both sides}.
        majority_of: what the most frequent class is of.
        novelty: frames unlike those learnt from.
        targets: {target: details}.
        own_test: {target: balanced accuracy per level in the test part of the model's own run}; empty where
            its metrics.json does not lie beside the model.
        own_evaluations: those of `evaluations` by the model's own run, whose test part these frames are.
    """

    model: ModelSource
    data: str
    evaluations: int
    overlap: Overlap
    classes: dict[str, ClassComparison]
    majority_of: str
    novelty: Novelty
    targets: dict[str, ExternalDetails]
    own_test: dict[str, dict[str, float | None]]
    own_evaluations: int = 0


@dataclass(frozen=True)
class ExternalResults(Record):
    """The results: scores in the form of a run's, and the facts of the evaluation."""

    required: ClassVar = ("run", "external")

    run: RunResults
    external: ExternalFacts

    def to_json(self) -> dict[str, object]:
        """The content of `metrics.json`; there is no leak audit."""
        record = self.run.to_json()
        del record["audit"]
        return record | {"external": self.external.to_json()}

    def scored(self) -> list[str]:
        """The targets with a score."""
        return [name for name, result in self.run.targets.items() if result.primary_level]
