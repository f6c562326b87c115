"""Results of each target: its scores beside those of baselines, margins, calibration, and folds.

Notation: n labelled frames, C classes of a target, K folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.evaluation.results import TargetResult
from simclr_rhd.evaluation.scores.bootstrap import trials_needed, wilson
from simclr_rhd.evaluation.scores.calibration_errors import (
    class_frequencies,
    classwise_calibration_error,
    expected_calibration_error,
    reliability,
)
from simclr_rhd.evaluation.scores.confusions import accuracy, balanced_accuracy, total_confusion
from simclr_rhd.evaluation.scores.differences import paired_differences
from simclr_rhd.evaluation.scores.metrics import score_levels
from simclr_rhd.evaluation.scores.records import Levels, Margins, mean_scores
from simclr_rhd.evaluation.scores.samples import ClassSet, FramePredictions, Samples, Units, pool
from simclr_rhd.evaluation.target_details import (
    Calibration,
    CalibrationResult,
    FinetunedResult,
    FoldScore,
    SampleSize,
)
from simclr_rhd.heads.cross_validation import DRAW_SUFFIX, OURS, UNCALIBRATED, out_of_fold

FINETUNED = "finetuned"
ASSUMED_ACCURACY = 0.8  # accuracy of the power note where there is none yet
TARGET_HALF_WIDTH = 0.1  # half an interval's width that a power note asks the groups for
CALIBRATION_STEPS = {"before": UNCALIBRATED, "after": OURS}


def evaluate(
    labelled_set: LabelledSet, predictions: Mapping[str, Sequence[Probabilities]], *, seed: int
) -> dict[str, TargetResult]:
    """The result of each target, {target's name: result}.

    Args:
        labelled_set: the frames.
        predictions: {method: K tables}: "simclr" (ours), "uncalibrated" (ours, before calibration), and
            those to compare with; "finetuned", where it is among them, stands apart.
        seed: of the bootstrap.
    """
    tables = {
        (method, part): out_of_fold(labelled_set, predictions[method], part)
        for method in predictions
        for part in ("test", "val")
    }
    return {
        target.name: _TargetEvaluation(labelled_set, target, tables, seed).result()
        for target in labelled_set.targets()
    }


@dataclass(frozen=True)
class _TargetEvaluation:
    """The evaluation of a target; tables are {(method, part): probabilities}."""

    labelled_set: LabelledSet
    target: Target
    tables: Mapping[tuple[str, str], Probabilities]
    seed: int

    def predictions(self, method: str, part: str = "test") -> FramePredictions:
        rows = annotated_rows(self.labelled_set, self.target, part)
        return target_predictions(self.labelled_set, self.target, self.tables[method, part], rows)

    def levels(self, method: str, part: str = "test") -> Levels:
        return score_levels(self.predictions(method, part), class_set(self.target), seed=self.seed)

    @cached_property
    def draws(self) -> dict[str, list[str]]:
        """{method: those of its draws}, of all that are to compare with."""
        draws: dict[str, list[str]] = {}
        for method, part in self.tables:
            if part == "test":
                draws.setdefault(method.split(DRAW_SUFFIX)[0], []).append(method)
        return draws

    @property
    def baselines(self) -> list[str]:
        return [method for method in self.draws if method not in (OURS, UNCALIBRATED, FINETUNED)]

    @cached_property
    def n_comparisons(self) -> int:
        """The differences of the task, whose intervals hold together."""
        of_task = sum(other.task == self.target.task for other in self.labelled_set.targets())
        return (len(self.baselines) + (FINETUNED in self.draws)) * of_task

    def margins(self, method: str, baseline: str) -> Margins:
        return paired_differences(
            self.predictions(method),
            [self.predictions(draw) for draw in self.draws[baseline]],
            self.target.evaluable(),
            seed=self.seed,
            n_comparisons=self.n_comparisons,
        )

    def baseline_levels(self, baseline: str) -> Levels:
        """The mean of the baseline's draws."""
        draws = [self.levels(draw) for draw in self.draws[baseline]]
        return {level: mean_scores([draw[level] for draw in draws]) for level in draws[0]}

    def result(self) -> TargetResult:
        ours = self.levels(OURS)
        finetuned = FINETUNED in self.draws
        calibrated = UNCALIBRATED in self.draws and ours["frame"]["accuracy"].value is not None
        return TargetResult(
            classes=self.target.classes,
            not_evaluable=self.target.not_evaluable,
            groups=class_counts(self.labelled_set, self.target),
            power=sample_size_note(ours),
            val=self.levels(OURS, "val"),
            test=ours,
            baselines={baseline: self.baseline_levels(baseline) for baseline in self.baselines},
            margins={baseline: self.margins(OURS, baseline) for baseline in self.baselines},
            comparisons=self.n_comparisons,
            draws={baseline: len(self.draws[baseline]) for baseline in self.baselines},
            folds=per_fold_scores(self.labelled_set, self.target, self.tables[OURS, "test"]),
            calibration=self.calibration() if calibrated else None,
            finetuned=FinetunedResult(self.levels(FINETUNED), self.margins(FINETUNED, OURS))
            if finetuned
            else None,
        )

    def calibration(self) -> CalibrationResult:
        tested, validated = (
            {when: self.predictions(method, part).frames for when, method in CALIBRATION_STEPS.items()}
            for part in ("test", "val")
        )
        return CalibrationResult(
            **{when: self._calibration(frames) for when, frames in tested.items()},
            validation={when: self._classwise_calibration(frames) for when, frames in validated.items()}
            if len(validated["after"].true)
            else None,
        )

    def _calibration(self, frames: Samples) -> Calibration:
        frames = frames.of_classes(self.target.evaluable())
        bins: dict[str, Any] = reliability(frames.true, frames.probabilities)
        bins["ece"] = expected_calibration_error(frames.true, frames.probabilities)
        return Calibration(**bins, **self._classwise_calibration(frames))

    def _classwise_calibration(self, frames: Samples) -> dict[str, Any]:
        true, probabilities = frames.true, frames.probabilities
        return {
            "classwise_ece": classwise_calibration_error(true, probabilities),
            "classes": class_frequencies(true, probabilities, self.target.classes),
        }


def annotated_rows(labelled_set: LabelledSet, target: Target, part: str) -> np.ndarray:
    """Rows annotated for a target that stand in a part of some fold."""
    inside = np.any([of_fold == part for of_fold in labelled_set.folds], axis=0)
    return np.flatnonzero(inside & (target.true >= 0))


def class_set(target: Target) -> ClassSet:
    """The classes of a target."""
    return ClassSet(target.classes, target.evaluable(), target.ordered())


def target_predictions(
    labelled_set: LabelledSet, target: Target, table: Probabilities, rows: np.ndarray
) -> FramePredictions:
    """The predictions of a table of probabilities for some annotated rows."""
    videos, patients = labelled_set.videos_of(target.task), labelled_set.patients_of(target.task)
    units = Units(labelled_set.groups, videos, patients).select(rows)
    probabilities, prevalence = (of(table)[rows] for of in (target.probabilities, target.prevalence))
    return FramePredictions(target.true[rows], probabilities, units, prevalence, target.ordered())


def class_counts(labelled_set: LabelledSet, target: Target) -> dict[str, dict[str, int]]:
    """Frames and groups of each class: in all, and in each part (with folds: groups that each one tests)."""
    if len(labelled_set.folds) == 1:
        parts = {part: labelled_set.folds[0] == part for part in ("train", "val", "test")}
    else:
        parts = {f"fold {fold}": part == "test" for fold, part in enumerate(labelled_set.folds, start=1)}
    counts = {}
    for number, name in enumerate(target.classes):
        here = target.true == number
        inside = {"groups": here} | {part: here & of_part for part, of_part in parts.items()}
        groups = {part: len(np.unique(labelled_set.groups[rows])) for part, rows in inside.items()}
        counts[name] = {"frames": int(here.sum())} | groups
    return counts


def sample_size_note(levels: Levels) -> SampleSize:
    """Precision of an accuracy with the groups that are tested, each counted as one trial.

    Wilson's interval (1927): frames of a group add little, so the groups are what counts.

    Args:
        levels: scores of the test part.
    """
    groups, known = levels["video"].groups, levels["video"]["accuracy"].value
    accuracy = ASSUMED_ACCURACY if known is None else known
    return SampleSize(
        groups=groups,
        accuracy=accuracy,
        assumed=known is None,
        half_width=wilson(accuracy, groups)[1] if groups else None,
        groups_needed=trials_needed(accuracy, TARGET_HALF_WIDTH),
    )


def per_fold_scores(labelled_set: LabelledSet, target: Target, predictions: Probabilities) -> list[FoldScore]:
    """Accuracy and balanced accuracy per video of each fold alone, over the classes that it tests."""
    folds = []
    for number, part in enumerate(labelled_set.folds, start=1):
        rows = np.flatnonzero((part == "test") & np.isin(target.true, target.evaluable()))
        groups = len(np.unique(labelled_set.groups[rows]))
        accuracies = _video_accuracies(target_predictions(labelled_set, target, predictions, rows))
        folds.append(FoldScore(number, len(rows), groups, *accuracies))
    return folds


def video_balanced_accuracy(
    labelled_set: LabelledSet, target: Target, predictions: Probabilities
) -> float | None:
    """Per video, of all tested frames of classes that count; None with fewer than two classes."""
    rows = annotated_rows(labelled_set, target, "test")
    rows = rows[np.isin(target.true[rows], target.evaluable())]
    return _video_accuracies(target_predictions(labelled_set, target, predictions, rows))[1]


def _video_accuracies(predictions: FramePredictions) -> tuple[float | None, float | None]:
    """Accuracy and balanced accuracy; None with fewer than two classes."""
    videos = pool(predictions, predictions.units.videos)
    if len(videos.present) < 2:
        return None, None
    confusion = total_confusion(videos)
    return float(accuracy(confusion)[0]), float(balanced_accuracy(confusion, videos.present)[0])
