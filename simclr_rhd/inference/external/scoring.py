"""Scores of a model on another data set, by the code that scores a run.

Notation: n labelled frames, C classes or lesions of a task.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.data.store.shards import Frames
from simclr_rhd.evaluation import targets
from simclr_rhd.evaluation.results import TargetResult, TaskResult
from simclr_rhd.evaluation.run_metrics import task_result
from simclr_rhd.evaluation.scores.metrics import score_levels
from simclr_rhd.evaluation.scores.records import Levels
from simclr_rhd.evaluation.scores.samples import at_level
from simclr_rhd.evaluation.selective import (
    ABSTAIN_ALWAYS,
    MAX_CURVE_POINTS,
    PROOF_CONFIDENCE,
    SELECTIVE_LEVELS,
    TARGET_RISK,
    confidence_scores,
    coverage_and_risk,
    risk_coverage,
)
from simclr_rhd.evaluation.target_details import SelectiveLevel, SelectiveResult
from simclr_rhd.heads.cross_validation import MAJORITY, OURS, UNCALIBRATED
from simclr_rhd.heads.model import predict
from simclr_rhd.inference.classifier import Classifier
from simclr_rhd.inference.external.class_mapping import MappedTask, map_tasks
from simclr_rhd.inference.external.external_set import (
    ExternalSet,
    external_set,
    learnt_classes,
    majority_table,
    wide_set,
    wide_table,
)
from simclr_rhd.inference.external.recalibration import Recalibration, recalibrate
from simclr_rhd.inference.external.results import (
    TRAINING_MAJORITY,
    VALIDATION_MAJORITY,
    ExternalDetails,
    Novelty,
)
from simclr_rhd.ssl.encoder.features import extract_with_ood_stats

NOT_IN_MODEL = "the model was not trained for it"
NO_SHARED_LABEL = "no frame of this data set has a label that the model knows"


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs of a model for n frames.

    Attributes:
        table: probabilities, and the prevalences that they hold for.
        features: (n, D) float32.
        novelty: (n,), above 1 for a frame unlike those learnt from; NaN where the model cannot tell.
    """

    table: Probabilities
    features: np.ndarray
    novelty: np.ndarray


@torch.inference_mode()
def classify_frames(
    model: Classifier, frames: np.ndarray | Frames, rows: np.ndarray, device: torch.device
) -> ModelOutputs:
    """Classify some frames of a store, in the same way as a run classifies its test part.

    Args:
        model: in eval mode.
        frames: (N, C, S, S) uint8.
        rows: (n,) which of them.
        device: where the encoder runs.
    """
    described = extract_with_ood_stats(
        model.encoder.to(device), frames, rows, size=model.facts.image_size, device=device
    )
    novelty = np.full(len(rows), np.nan)
    if model.novelty is not None:
        tensors = {name: torch.from_numpy(values) for name, values in described.items()}
        novelty = model.novelty.cpu()(tensors).numpy().astype(np.float64)
        novelty[np.isnan(novelty)] = np.inf  # a distance that cannot be computed is a far one
    features = described["features"]
    return ModelOutputs(predict(model.heads.cpu(), features), features, novelty)


@dataclass(frozen=True)
class ExternalScores:
    """The scores of a model on another data set.

    Attributes:
        labelled_set: the frames, with the model's classes.
        wide: the same with the classes that it does not know.
        mapped: {task: the classes of both sides}.
        tasks: the results, in the form of a run's.
        details: {target: what stands beside them}.
        majority_of: what the most frequent class is of.
    """

    labelled_set: ExternalSet
    wide: ExternalSet
    mapped: dict[str, MappedTask]
    tasks: dict[str, TaskResult]
    details: dict[str, ExternalDetails]
    majority_of: str


def score_external(
    model: Classifier, data: LabelledSet, table: Probabilities, *, seed: int
) -> ExternalScores:
    """Score a model on labelled frames.

    Args:
        model: the model.
        data: the n frames, with the classes of their table; `multilabel` as the model has it.
        table: the model's probabilities for them.
        seed: of the bootstrap and of the recalibration.
    """
    counts: Mapping[str, Mapping[str, float]] = model.record.class_frames if model.record else {}
    mapped = map_tasks(model.facts.classes, data, multilabel=data.multilabel)
    shared = external_set(data, mapped, learnt_classes(model.record.class_frames) if model.record else {})
    wide = wide_set(data, mapped, shared)
    majority = majority_table(shared, counts or _prevalences(model, shared))
    shipped = targets.evaluate(shared, {OURS: [table], MAJORITY: [majority]}, seed=seed)
    fitted = recalibrate(shared, table, seed=seed)
    after = targets.evaluate(shared, {OURS: [fitted.table], UNCALIBRATED: [table]}, seed=seed)
    wide_probabilities = wide_table(table, shared, wide)
    wide_targets = {target.name: target for target in wide.targets()}
    results, details = {}, {}
    for target in shared.targets():
        name = target.name
        recalibrated = target.task not in fitted.reasons
        results[name] = replace(
            shipped[name],
            calibration=after[name].calibration if recalibrated else None,
            selective=_selective(model, shared, target, table),
        )
        unscored = shared.unscored(target.task)
        details[name] = replace(_details(fitted, target, after[name]), unscored=unscored)
        if _counts_more(target, wide_targets[name]):
            levels = _levels(wide, wide_targets[name], wide_probabilities, seed=seed)
            details[name] = replace(details[name], unknown_as_wrong=levels)
    return ExternalScores(
        shared,
        wide,
        mapped,
        _tasks(shared, results, model.facts.classes),
        details,
        TRAINING_MAJORITY if counts else VALIDATION_MAJORITY,
    )


def count_foreign(novelty: np.ndarray, plain: np.ndarray, wide: LabelledSet) -> Novelty:
    """Count the frames that are unlike those learnt from.

    Args:
        novelty: (n,), see `ModelOutputs`.
        plain: (n,) bool, near-black or of one colour.
        wide: the n frames, with all classes of both sides.
    """
    known = not np.isnan(novelty).all()
    foreign = (np.nan_to_num(novelty, posinf=np.inf) > 1) | plain
    per_class = {
        task: {
            name: {"frames": int(rows.sum()), "foreign": int((rows & foreign).sum())}
            for number, name in enumerate(wide.classes[task])
            if (rows := values == number).any()
        }
        for task, values in wide.values.items()
    }
    return Novelty(known, len(novelty), int(foreign.sum()), per_class)


def _counts_more(target: Target, wide: Target) -> bool:
    """Return True if frames of classes that do not count for a target count for the wide one."""
    return target.lesion is None and len(wide.evaluable()) > len(target.evaluable())


def _details(fitted: Recalibration, target: Target, after: TargetResult) -> ExternalDetails:
    if reason := fitted.reasons.get(target.task):
        return ExternalDetails(not_recalibrated=reason)
    return ExternalDetails(recalibrated=after.test, scaling=fitted.scalings[target.task])


def _levels(labelled_set: LabelledSet, target: Target, table: Probabilities, *, seed: int) -> Levels:
    rows = targets.annotated_rows(labelled_set, target, "test")
    predictions = targets.target_predictions(labelled_set, target, table, rows)
    return score_levels(predictions, targets.class_set(target), seed=seed)


def _prevalences(model: Classifier, labelled_set: ExternalSet) -> dict[str, dict[str, float]]:
    """{target: {class: its share in the validation groups}}, where the training part is not recorded."""
    outputs, shares = model.task_outputs(), dict[str, dict[str, float]]()
    for target in labelled_set.targets():
        prevalence = outputs[target.task].prevalence
        if target.lesion is not None:
            prevalence = np.array([1 - prevalence[target.lesion], prevalence[target.lesion]])
        shares[target.name] = dict(zip(target.classes, prevalence.tolist(), strict=True))
    return shares


def _selective(
    model: Classifier, labelled_set: LabelledSet, target: Target, table: Probabilities
) -> SelectiveResult | None:
    """Abstention by the model's own thresholds; None where it has none."""
    limits = model.facts.thresholds.get(target.name)
    if not limits:
        return None
    rows = targets.annotated_rows(labelled_set, target, "test")
    predictions = targets.target_predictions(labelled_set, target, table, rows)
    levels = []
    for level in SELECTIVE_LEVELS:
        samples, limit = at_level(predictions, level), limits.get(level)
        confidence = confidence_scores(samples.probabilities, samples.prevalence)
        correct = samples.predicted == samples.true
        _, coverage, risk = risk_coverage(confidence, correct)
        shown = evenly_spaced(len(coverage), MAX_CURVE_POINTS)
        threshold = ABSTAIN_ALWAYS if limit is None else limit
        levels.append(
            SelectiveLevel(
                [threshold],
                [model.facts.unproved.get(target.name, {}).get(level, "")],
                {"coverage": coverage[shown].tolist(), "risk": risk[shown].tolist()},
                *coverage_and_risk(confidence, correct, threshold),
            )
        )
    return SelectiveResult(TARGET_RISK, PROOF_CONFIDENCE, *levels)


def _tasks(
    labelled_set: ExternalSet, results: Mapping[str, TargetResult], classes: Mapping[str, list[str]]
) -> dict[str, TaskResult]:
    """The results under their tasks; of tasks without any, the reason."""
    tasks = {}
    for task in dict.fromkeys([*(task.name for task in labelled_set.tasks), *classes]):
        if task in labelled_set.values:
            tasks[task] = task_result(labelled_set, task, results)
        else:
            reason = NO_SHARED_LABEL if task in classes else NOT_IN_MODEL
            tasks[task] = TaskResult(classes.get(task, []), [], skipped=reason)
    return tasks
