"""From answers to the content of `metrics.json` and `predictions.csv`.

Notation: n labelled frames, C classes of a target, K folds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, recall_score
from torch import Tensor

from simclr_rhd.data.labelled_set import CONDITION, LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.labels import TASKS, format_label
from simclr_rhd.data.labels.prevalence import balanced_choice, prevalence_key
from simclr_rhd.evaluation.aggregate import pool
from simclr_rhd.evaluation.metrics import mean_of_scores, paired_differences, score_levels, scores
from simclr_rhd.heads.calibration import (
    class_frequencies,
    classwise_calibration_error,
    expected_calibration_error,
    reliability,
)
from simclr_rhd.heads.cross_validation import (
    DRAW_SUFFIX,
    OURS,
    UNCALIBRATED,
    CrossValidation,
    out_of_fold,
    predict_folds,
)
from simclr_rhd.heads.model import Heads
from simclr_rhd.heads.train import TrainedHeads

FINETUNED = "finetuned"
SKIPPED_REASON = "fewer than two classes in the training part"
ASSUMED_ACCURACY = 0.8  # accuracy of the power note where there is none yet
Z_95 = 1.959964  # of 95 %
TARGET_HALF_WIDTH = 0.1  # half an interval's width that a power note asks the groups for


def evaluate(
    labelled_set: LabelledSet, predictions: Mapping[str, Sequence[Probabilities]], *, seed: int
) -> dict[str, dict[str, Any]]:
    """The result of each target.

    Args:
        labelled_set: the frames.
        predictions: {method: K tables}: "simclr" (ours), "uncalibrated" (ours, before calibration), and
            those to compare with; "finetuned", where it is among them, stands apart.
        seed: of the bootstrap.

    Returns:
        {target's name: result as in `metrics.json`}.
    """
    pooled = {
        (method, part): out_of_fold(labelled_set, predictions[method], part)
        for method in predictions
        for part in ("test", "val")
    }
    return {
        target.name: _evaluate_target(labelled_set, target, pooled, seed=seed)
        for target in labelled_set.targets()
    }


def _evaluate_target(
    labelled_set: LabelledSet,
    target: Target,
    predictions: Mapping[tuple[str, str], Probabilities],
    *,
    seed: int,
) -> dict[str, Any]:
    evaluable = target.evaluable()
    at = {part: annotated_rows(labelled_set, target, part) for part in ("test", "val")}

    def units_of(part: str) -> list[list[str]]:
        return [
            of[at[part]].tolist() for of in (labelled_set.groups, labelled_set.videos, labelled_set.patients)
        ]

    def probabilities_of(method: str, part: str = "test") -> np.ndarray:
        return target.probabilities(predictions[method, part])[at[part]]

    def prevalence_of(method: str, part: str = "test") -> np.ndarray:
        return target.prevalence(predictions[method, part])[at[part]]

    def levels_of(method: str, part: str = "test") -> dict[str, Any]:
        return score_levels(
            target.true[at[part]],
            probabilities_of(method, part),
            target.classes,
            *units_of(part),
            evaluable=evaluable,
            ordered=target.ordered(),
            seed=seed,
            prevalence=prevalence_of(method, part),
        )

    methods = [method for method, part in predictions if part == "test"]
    families: dict[str, list[str]] = {}  # the draws of each comparator
    for method in methods:
        families.setdefault(method.split(DRAW_SUFFIX)[0], []).append(method)
    baselines = [method for method in families if method not in (OURS, UNCALIBRATED, FINETUNED)]
    of_task = sum(other.task == target.task for other in labelled_set.targets())
    comparisons = (len(baselines) + (FINETUNED in families)) * of_task

    def difference_of(method: str, baseline: str) -> dict[str, Any]:
        theirs, prevalences = (
            np.stack([of(draw) for draw in families[baseline]]) for of in (probabilities_of, prevalence_of)
        )
        return paired_differences(
            *(target.true[at["test"]], probabilities_of(method), theirs, *units_of("test")),
            evaluable=evaluable,
            seed=seed,
            prevalences=(prevalence_of(method), prevalences),
            n_comparisons=comparisons,
        )

    ours = levels_of(OURS)
    baseline_levels = {
        method: mean_of_scores([levels_of(draw) for draw in families[method]]) for method in baselines
    }
    result = {
        "classes": target.classes,
        "not_evaluable": target.not_evaluable,
        "groups": class_counts(labelled_set, target),
        "power": sample_size_note(ours),
        "val": levels_of(OURS, "val"),
        "test": ours,
        "baselines": {
            method: of["frame"] | {"video": of["video"], "patient": of["patient"]}
            for method, of in baseline_levels.items()
        },
        "margins": {method: difference_of(OURS, method) for method in baselines},
        "comparisons": comparisons,
        "draws": {method: len(families[method]) for method in baselines},
        "folds": per_fold_scores(labelled_set, target, predictions[OURS, "test"]),
    }
    if (UNCALIBRATED, "test") in predictions and ours["frame"]["accuracy"] is not None:
        counted = np.isin(target.true[at["test"]], evaluable)
        true = target.true[at["test"]][counted]
        result["calibration"] = {
            when: _calibration_errors(true, probabilities_of(method)[counted], target.classes)
            for when, method in (("before", UNCALIBRATED), ("after", OURS))
        } | {"validation": _validation_calibration(target, predictions, at["val"])}
    if (FINETUNED, "test") in predictions:
        result["finetuned"] = {"test": levels_of(FINETUNED), "margin": difference_of(FINETUNED, OURS)}
    return result


def annotated_rows(labelled_set: LabelledSet, target: Target, part: str) -> np.ndarray:
    """Rows annotated for a target that stand in a part of some fold."""
    inside = np.any([of_fold == part for of_fold in labelled_set.folds], axis=0)
    return np.flatnonzero(inside & (target.true >= 0))


def _calibration_errors(true: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> dict[str, Any]:
    return {
        "ece": expected_calibration_error(true, probabilities),
        "classwise_ece": classwise_calibration_error(true, probabilities),
        "classes": class_frequencies(true, probabilities, classes),
    } | reliability(true, probabilities)


def _validation_calibration(
    target: Target, predictions: Mapping[tuple[str, str], Probabilities], rows: np.ndarray
) -> dict[str, Any] | None:
    """The same of the frames that the calibration was fitted on; None without any."""
    if not len(rows):
        return None
    true = target.true[rows]
    return {
        when: {
            "classwise_ece": classwise_calibration_error(true, p),
            "classes": class_frequencies(true, p, target.classes),
        }
        for when, method in (("before", UNCALIBRATED), ("after", OURS))
        for p in [target.probabilities(predictions[method, "val"])[rows]]
    }


def class_counts(labelled_set: LabelledSet, target: Target) -> dict[str, dict[str, int]]:
    """Frames and groups of each class: in all, and in each part (with folds: groups that each one tests)."""
    found = {}
    for number, name in enumerate(target.classes):
        here = target.true == number
        of_class = {"frames": int(here.sum()), "groups": _n_groups(labelled_set, here)}
        if len(labelled_set.folds) == 1:
            for part in ("train", "val", "test"):
                of_class[part] = _n_groups(labelled_set, here & (labelled_set.folds[0] == part))
        else:
            for fold, part_of in enumerate(labelled_set.folds, start=1):
                of_class[f"fold {fold}"] = _n_groups(labelled_set, here & (part_of == "test"))
        found[name] = of_class
    return found


def _n_groups(labelled_set: LabelledSet, mask: np.ndarray) -> int:
    return len(np.unique(labelled_set.groups[mask]))


def sample_size_note(levels: Mapping[str, Any]) -> dict[str, Any]:
    """How exact an accuracy can be with the groups that are tested, each counted as one trial.

    Wilson's interval (1927): frames of a group add little, so the groups are what counts.

    Args:
        levels: LEVELS of the test part.

    Returns:
        groups, accuracy (the one found per video; where it cannot be computed 0.8, "assumed"), half_width of
        its 95 % interval (None without groups), and the groups_needed for a half width of 0.1.
    """
    scores = levels["video"]
    groups = scores["groups"]
    accuracy = ASSUMED_ACCURACY if scores["accuracy"] is None else scores["accuracy"]
    needed = next(n for n in range(1, 1000) if _half_width(accuracy, n) <= TARGET_HALF_WIDTH)
    half = _half_width(accuracy, groups) if groups else None
    return {
        "groups": groups,
        "accuracy": accuracy,
        "assumed": scores["accuracy"] is None,
        "half_width": half,
        "groups_needed": needed,
    }


def _half_width(accuracy: float, n: int) -> float:
    return Z_95 * math.sqrt(accuracy * (1 - accuracy) / n + Z_95**2 / (4 * n**2)) / (1 + Z_95**2 / n)


def per_fold_scores(
    labelled_set: LabelledSet, target: Target, predictions: Probabilities
) -> list[dict[str, Any]]:
    """Accuracy and balanced accuracy per video of each fold alone, over the classes that it tests."""
    found = []
    for number, part in enumerate(labelled_set.folds, start=1):
        rows = np.flatnonzero((part == "test") & np.isin(target.true, target.evaluable()))
        accuracy, balanced = _video_accuracies(labelled_set, target, predictions, rows)
        groups = len(np.unique(labelled_set.groups[rows]))
        row = {"fold": number, "n": len(rows), "groups": groups}
        found.append(row | {"accuracy": accuracy, "balanced_accuracy": balanced})
    return found


def balanced_accuracy(labelled_set: LabelledSet, target: Target, predictions: Probabilities) -> float | None:
    """Per video, of all tested frames of classes that count; None with fewer than two classes."""
    rows = annotated_rows(labelled_set, target, "test")
    rows = rows[np.isin(target.true[rows], target.evaluable())]
    return _video_accuracies(labelled_set, target, predictions, rows)[1]


def _video_accuracies(
    labelled_set: LabelledSet, target: Target, predictions: Probabilities, rows: np.ndarray
) -> tuple[float | None, float | None]:
    """Accuracy and balanced accuracy of some rows; None where fewer than two classes are."""
    groups, videos = labelled_set.groups[rows].tolist(), labelled_set.videos[rows].tolist()
    (true, probabilities, _), (_, prevalence, _) = (
        pool(target.true[rows], of[rows], groups, videos)
        for of in (target.probabilities(predictions), target.prevalence(predictions))
    )
    shown = np.unique(true)
    if len(shown) < 2:
        return None, None
    predicted = balanced_choice(probabilities, prevalence)
    recall = recall_score(true, predicted, labels=shown, average="macro")
    return float(accuracy_score(true, predicted)), float(recall)


def describe_heads(
    labelled_set: LabelledSet, trained: Sequence[TrainedHeads], features: Sequence[np.ndarray]
) -> dict[str, dict[str, Any]]:
    """{target's name: penalty and calibration of each fold, and what each seed alone would score}."""
    tasks = list(labelled_set.values)
    predictions_of_seeds = [
        out_of_fold(
            labelled_set, predict_folds([of_fold.per_seed[seed] for of_fold in trained], features), "test"
        )
        for seed in range(len(trained[0].per_seed))
    ]
    details = {}
    for target in labelled_set.targets():
        place = tasks.index(target.task)
        details[target.name] = {
            "l2": [of_fold.l2[target.task] for of_fold in trained],
            "temperature": [float(of_fold.heads.temperature[place]) for of_fold in trained],
            "bias": [_values_by_class(target, of_fold.heads, of_fold.heads.bias) for of_fold in trained],
            "prevalence": [
                _values_by_class(target, of_fold.heads, of_fold.heads.prevalence) for of_fold in trained
            ],
            "balanced_accuracy_of_seeds": [
                balanced_accuracy(labelled_set, target, predictions) for predictions in predictions_of_seeds
            ],
        }
    return details


def _values_by_class(target: Target, heads: Heads, values: Tensor) -> dict[str, float]:
    """{class: its value}; of a lesion the value of its presence."""
    of_task = heads.split_by_task(values)[target.task].tolist()
    if target.lesion is not None:
        return {target.classes[1]: of_task[target.lesion]}
    return dict(zip(target.classes, of_task, strict=True))


def frame_split_scores(cv: CrossValidation) -> dict[str, dict[str, Any]]:
    """What the same heads would score under a split over frames of the same sizes, each frame a group.

    Returns:
        {target's name: {"leaky": True, "frame": SCORES}}: frames of one patient stand on both sides, so the
        figures show how much that flatters, and nothing else.
    """
    other = cv.with_frame_split()
    labelled_set, seed = other.labelled_set, cv.config.seed
    fold_predictions = predict_folds(
        [of_fold.heads for of_fold in other.fit_folds(other.features.per_fold)], other.features.per_fold
    )
    predictions, results = out_of_fold(labelled_set, fold_predictions, "test"), {}
    for target in labelled_set.targets():
        rows = annotated_rows(labelled_set, target, "test")
        results[target.name] = {
            "leaky": True,
            "frame": scores(
                target.true[rows],
                target.probabilities(predictions)[rows],
                target.classes,
                labelled_set.groups[rows].tolist(),
                evaluable=target.evaluable(),
                ordered=target.ordered(),
                seed=seed,
                prevalence=target.prevalence(predictions)[rows],
            ),
        }
    return results


def results_by_task(
    labelled_set: LabelledSet, results: Mapping[str, dict[str, Any]], class_info: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """`metrics.json`'s "tasks": the results under their tasks, lesions below the condition.

    Args:
        labelled_set: the frames.
        results: {target's name: result}.
        class_info: {task: {"classes", "not_evaluable"}} of all tasks, also of those that cannot be learnt.
    """
    tasks: dict[str, Any] = {}
    for task in TASKS:
        if task not in labelled_set.values:
            tasks[task] = class_info[task] | {"skipped": SKIPPED_REASON}
        elif task == CONDITION and labelled_set.lesions():
            lesion_targets = [target for target in labelled_set.targets() if target.task == task]
            tasks[task] = {
                "mode": "multilabel",
                "classes": labelled_set.lesions(),
                "not_evaluable": [
                    row | {"class": lesion}
                    for lesion, target in zip(labelled_set.lesions(), lesion_targets, strict=True)
                    for row in target.not_evaluable[:1]
                ],
                "lesions": {
                    lesion: results[target.name]
                    for lesion, target in zip(labelled_set.lesions(), lesion_targets, strict=True)
                },
            }
        else:
            tasks[task] = results[task]
    return tasks


def prediction_header(labelled_set: LabelledSet) -> list[str]:
    """Columns of `predictions.csv`: one probability column per class or lesion of any task, and the fold."""
    names = dict.fromkeys(name for outputs in labelled_set.outputs().values() for name in outputs)
    of_row = ["path", "video", "group", "task", "true", "predicted"]
    return [*of_row, *(f"p:{name}" for name in names), "fold"]


def prediction_rows(
    labelled_set: LabelledSet, fold_predictions: Sequence[Probabilities]
) -> Iterator[list[Any]]:
    """One row per tested frame and task; `true` is empty where the frame is not annotated for the task."""
    header, outputs, targets = (
        prediction_header(labelled_set),
        labelled_set.outputs(),
        labelled_set.target_values(),
    )
    for row, fold in enumerate(labelled_set.test_fold()):
        for task, names in outputs.items() if fold >= 0 else ():
            probabilities, prevalence = (
                fold_predictions[fold][task][row],
                fold_predictions[fold].get(prevalence_key(task)),
            )
            prior = None if prevalence is None else prevalence[row]
            by_column = {f"p:{name}": float(p) for name, p in zip(names, probabilities, strict=True)}
            if targets[task].ndim == 2:
                predicted = (probabilities >= (0.5 if prior is None else prior)).astype(int)
            else:
                predicted = balanced_choice(probabilities[None], prior)[0]
            yield [
                *(labelled_set.paths[row], labelled_set.videos[row], labelled_set.groups[row], task),
                *(format_label(value, names) for value in (targets[task][row], predicted)),
                *(by_column.get(column, "") for column in header[6:-1]),
                fold + 1,
            ]
