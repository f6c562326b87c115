"""The results of a run: scores beside baselines, calibration, abstention, label efficiency, leakage."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from simclr_rhd.core.file_names import LEAK_AUDIT, METRICS, PREDICTIONS
from simclr_rhd.core.files import write_json, write_rows
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.vocabulary import target_name
from simclr_rhd.evaluation import targets
from simclr_rhd.evaluation.checks import leakage
from simclr_rhd.evaluation.checks.label_doubts import write_label_doubts
from simclr_rhd.evaluation.checks.subgroups import break_down
from simclr_rhd.evaluation.config import EvaluationConfig
from simclr_rhd.evaluation.label_efficiency import learning_curves
from simclr_rhd.evaluation.predictions_csv import prediction_header, prediction_rows
from simclr_rhd.evaluation.results import AuditSummary, RunResults, SplitInfo, TargetResult, TaskResult
from simclr_rhd.evaluation.scores.metrics import scores
from simclr_rhd.evaluation.scores.records import Scores
from simclr_rhd.evaluation.screening.panel import evaluate_screening
from simclr_rhd.evaluation.selective import evaluate_selective
from simclr_rhd.evaluation.target_details import HeadDetails, ReaderAgreement
from simclr_rhd.heads.cross_validation import OURS, CrossValidation, out_of_fold, predict_folds
from simclr_rhd.heads.model import Heads
from simclr_rhd.heads.train import TrainedHeads

SKIPPED_REASON = "fewer than two classes in the training part"

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class FoldOutcome:
    """Outcome of the cross-validation.

    Attributes:
        cv: the labelled frames and their folds.
        trained: the heads of each fold.
        predictions: {method: K tables of probabilities}.
        tuned: the epochs of the fine-tuning, none without it.
    """

    cv: CrossValidation
    trained: Sequence[TrainedHeads]
    predictions: Mapping[str, Sequence[Probabilities]]
    tuned: Sequence[Mapping[str, Any]] = ()


def evaluate_run(
    config: EvaluationConfig,
    dataset: Dataset,
    outcome: FoldOutcome,
    save_dir: Path,
    *,
    init: str,
    synthetic: bool,
) -> RunResults:
    """The results of a run; writes `leak_audit.csv`.

    Args:
        config: of the evaluation.
        dataset: the frames.
        outcome: of the cross-validation.
        save_dir: the run's folder.
        init: what the pretraining began with, as of `describe_split`.
        synthetic: whether the frames are drawn by the program.
    """
    by_target = evaluate_targets(config, outcome)
    return RunResults(
        synthetic=synthetic,
        split=describe_split(dataset, init),
        tasks=results_by_task(outcome.cv.labelled_set, by_target, dataset),
        audit=write_leak_audit(dataset, outcome.cv, save_dir),
        screening=evaluate_screening(config, outcome.cv, outcome.predictions),
    )


def evaluate_targets(config: EvaluationConfig, outcome: FoldOutcome) -> dict[str, TargetResult]:
    """{target's name: result} of our heads, of baselines, and of what the flags ask for."""
    cv, tuned, predictions = outcome.cv, outcome.tuned, outcome.predictions
    labelled_set = cv.labelled_set
    epochs = {row["way"]: row["epoch"] for row in tuned if row["best"]}  # the last one of each
    epochs_kept = list(epochs.values())[-len(labelled_set.folds) :]
    results = targets.evaluate(labelled_set, predictions, seed=cv.config.seed)
    selective = evaluate_selective(labelled_set, predictions[OURS])
    heads = describe_heads(labelled_set, outcome.trained, cv.features.per_fold)
    curves = learning_curves(cv, config.label_fractions) if config.label_fractions else {}
    leaks = frame_split_scores(cv) if config.show_leak else {}
    levels = {name: result.primary_level for name, result in results.items()}
    subgroups = break_down(labelled_set, predictions[OURS], levels, seed=cv.config.seed)
    return {
        name: replace(
            result,
            finetuned=replace(result.finetuned, epochs_kept=epochs_kept)
            if result.finetuned and tuned
            else result.finetuned,
            selective=selective[name],
            head=heads[name],
            label_efficiency=curves.get(name),
            leak=leaks.get(name),
            subgroups=subgroups.get(name),
        )
        for name, result in results.items()
    }


def describe_heads(
    labelled_set: LabelledSet, trained: Sequence[TrainedHeads], features: Sequence[np.ndarray]
) -> dict[str, HeadDetails]:
    """{target's name: penalty and calibration of each fold, and what each seed alone would score}."""
    tasks = list(labelled_set.values)
    seed_predictions = [
        out_of_fold(labelled_set, predict_folds([fold.per_seed[seed] for fold in trained], features), "test")
        for seed in range(len(trained[0].per_seed))
    ]
    details = {}
    for target in labelled_set.targets():
        place = tasks.index(target.task)
        details[target.name] = HeadDetails(
            l2=[fold.l2[target.task] for fold in trained],
            temperature=[float(fold.heads.temperature[place]) for fold in trained],
            bias=[_class_values(target, fold.heads, fold.heads.bias) for fold in trained],
            prevalence=[_class_values(target, fold.heads, fold.heads.prevalence) for fold in trained],
            balanced_accuracy_of_seeds=[
                targets.video_balanced_accuracy(labelled_set, target, predictions)
                for predictions in seed_predictions
            ],
        )
    return details


def _class_values(target: Target, heads: Heads, values: Tensor) -> dict[str, float]:
    """{class: its value}; of a lesion the value of its presence."""
    of_task = heads.split_by_task(values)[target.task].tolist()
    if target.lesion is not None:
        return {target.classes[1]: of_task[target.lesion]}
    return dict(zip(target.classes, of_task, strict=True))


def frame_split_scores(cv: CrossValidation) -> dict[str, Scores]:
    """{target's name: scores per frame} of the same heads under a split over frames of the same sizes.

    Each frame is a group: frames of one patient stand on both sides, so the figures show how much that
    flatters, and nothing else.
    """
    other = cv.with_frame_split()
    labelled_set = other.labelled_set
    heads = [fold.heads for fold in other.fit_folds(other.features.per_fold)]
    table = out_of_fold(labelled_set, predict_folds(heads, other.features.per_fold), "test")
    leaks = {}
    for target in labelled_set.targets():
        rows = targets.annotated_rows(labelled_set, target, "test")
        frames = targets.target_predictions(labelled_set, target, table, rows).frames
        leaks[target.name] = scores(frames, targets.class_set(target), seed=cv.config.seed)
    return leaks


def results_by_task(
    labelled_set: LabelledSet,
    results: Mapping[str, TargetResult],
    dataset: Dataset,
) -> dict[str, TaskResult]:
    """The results under their tasks, lesions below the task of theirs.

    Args:
        labelled_set: the frames.
        results: {target's name: result}.
        dataset: the classes of all tasks, also of those that cannot be learnt, and the annotators' agreement.
    """
    tasks, class_info = {}, dataset.class_info()
    for task in (of_run.name for of_run in labelled_set.tasks):
        if task not in labelled_set.values:
            tasks[task] = TaskResult(**class_info[task], skipped=SKIPPED_REASON)
        else:
            tasks[task] = task_result(labelled_set, task, results)
    pairs = dataset.labels.agreement
    return {task: replace(of, readers=ReaderAgreement.of(task, pairs)) for task, of in tasks.items()}


def task_result(labelled_set: LabelledSet, task: str, results: Mapping[str, TargetResult]) -> TaskResult:
    """The result of a task of some frames, of {target's name: result}."""
    if not (lesions := labelled_set.lesions(task)):
        result = results[task]
        return TaskResult(result.classes, result.not_evaluable, {"": result})
    of_lesions = {lesion: results[target_name(task, lesion)] for lesion in lesions}
    missing = [
        row | {"class": lesion} for lesion, result in of_lesions.items() for row in result.not_evaluable[:1]
    ]
    return TaskResult(lesions, missing, of_lesions, multilabel=True)


def describe_split(dataset: Dataset, init: str) -> SplitInfo:
    """Describe the division of the frames, and what the encoder has seen.

    `init` is 'random', 'imagenet' or the file that the pretraining began with.
    """
    init_note = (
        f"; it began with the weights of {Path(init).name}, and what those have seen is not known here"
    )
    return SplitInfo(
        by=dataset.split_by,
        leaky=dataset.leaky,
        folds=len(dataset.folds),
        parts=dataset.parts(),
        pretraining=dataset.describe_pretraining() + init_note * (init not in ("random", "imagenet")),
        own=True if dataset.attributes.split else None,
        folds_by=dataset.attributes.fold_column or None,
        fold_names=dataset.attributes.fold_names(dataset.labels.annotated()) or None,
    )


def write_leak_audit(dataset: Dataset, cv: CrossValidation, save_dir: Path) -> AuditSummary:
    """Look for the same patient on two sides: write `leak_audit.csv`; the summary of it."""
    frames = leakage.AuditedFrames(
        dataset.store.keys, dataset.groups, [fold.part for fold in dataset.folds], dataset.labelled()
    )
    thumbs = leakage.thumbnails(dataset.store.frames, np.arange(len(dataset.part)))
    audit = leakage.audit_leakage(cv.features.per_fold, thumbs, frames)
    write_rows(save_dir / LEAK_AUDIT, leakage.HEADER, audit.rows)
    if n_alike := audit.summary.near_identical.found:
        logger.warning(f"WARNING {leakage.NEAR_DUPLICATES_WARNING}; see leak_audit.csv", n_alike)
    return audit.summary


def write_metrics(
    save_dir: Path, results: RunResults, cv: CrossValidation, ours: Sequence[Probabilities], data: str
) -> None:
    """Write `metrics.json` and, of our heads' K tables, `predictions.csv` and the labels in doubt.

    Args:
        save_dir: the run's folder.
        results: of the run.
        cv: the labelled frames.
        ours: the K tables.
        data: the place that --data names.
    """
    write_json(save_dir / METRICS, results.to_json())
    write_rows(
        save_dir / PREDICTIONS,
        prediction_header(cv.labelled_set),
        prediction_rows(cv.labelled_set, ours),
    )
    write_label_doubts(save_dir, cv.labelled_set, ours, data)
