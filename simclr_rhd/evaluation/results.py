"""From answers to the content of `metrics.json` and `predictions.csv`.

Notation: n labelled frames, C classes of a question, K folds.
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
from simclr_rhd.evaluation.metrics import levels, margins, mean_of_scores, scores
from simclr_rhd.heads.calibration import (
    classwise_calibration_error,
    expected_calibration_error,
    reliability,
    shares,
)
from simclr_rhd.heads.cross_validation import DRAW, OURS, UNCALIBRATED, Study, answers, pooled
from simclr_rhd.heads.train import Trained
from simclr_rhd.ssl.model import Heads

FINETUNED = "finetuned"
SKIPPED = "fewer than two classes in the training part"
TYPICAL = 0.8  # accuracy of the power note where there is none yet
Z = 1.959964  # of 95 %
WIDTH = 0.1  # half an interval's width that a power note asks the groups for


def evaluate(
    cohort: LabelledSet, said: Mapping[str, Sequence[Probabilities]], *, seed: int
) -> dict[str, dict[str, Any]]:
    """The result of each question.

    Args:
        cohort: the frames.
        said: {who answers: K tables}: "simclr" (ours), "uncalibrated" (ours, before calibration), and
            those to compare with; "finetuned", where it is among them, is told apart.
        seed: of the bootstrap.

    Returns:
        {question's name: result as in `metrics.json`}.
    """
    tables = {(who, part): pooled(cohort, said[who], part) for who in said for part in ("test", "val")}
    return {question.name: _result(cohort, question, tables, seed=seed) for question in cohort.targets()}


def _result(
    cohort: LabelledSet, question: Target, tables: Mapping[tuple[str, str], Probabilities], *, seed: int
) -> dict[str, Any]:
    evaluable = question.evaluable()
    at = {part: annotated(cohort, question, part) for part in ("test", "val")}

    def who_they_are(part: str) -> list[list[str]]:
        return [of[at[part]].tolist() for of in (cohort.groups, cohort.videos, cohort.patients)]

    def by(who: str, part: str = "test") -> np.ndarray:
        return question.probabilities(tables[who, part])[at[part]]

    def held(who: str, part: str = "test") -> np.ndarray:
        return question.prevalence(tables[who, part])[at[part]]

    def scored(who: str, part: str = "test") -> dict[str, Any]:
        return levels(
            question.true[at[part]],
            by(who, part),
            question.classes,
            *who_they_are(part),
            evaluable=evaluable,
            ordered=question.ordered(),
            seed=seed,
            prevalence=held(who, part),
        )

    whos = [who for who, part in tables if part == "test"]
    families: dict[str, list[str]] = {}  # the draws of each comparator
    for who in whos:
        families.setdefault(who.split(DRAW)[0], []).append(who)
    rivals = [who for who in families if who not in (OURS, UNCALIBRATED, FINETUNED)]
    of_task = sum(other.task == question.task for other in cohort.targets())
    comparisons = (len(rivals) + (FINETUNED in families)) * of_task

    def margin(who: str, over: str) -> dict[str, Any]:
        theirs, held_by = (np.stack([of(draw) for draw in families[over]]) for of in (by, held))
        return margins(
            *(question.true[at["test"]], by(who), theirs, *who_they_are("test")),
            evaluable=evaluable,
            seed=seed,
            prevalences=(held(who), held_by),
            comparisons=comparisons,
        )

    ours = scored(OURS)
    flat = {who: mean_of_scores([scored(draw) for draw in families[who]]) for who in rivals}
    result = {
        "classes": question.classes,
        "not_evaluable": question.not_evaluable,
        "groups": groups_of_classes(cohort, question),
        "power": power(ours),
        "val": scored(OURS, "val"),
        "test": ours,
        "baselines": {
            who: of["frame"] | {"video": of["video"], "patient": of["patient"]} for who, of in flat.items()
        },
        "margins": {who: margin(OURS, who) for who in rivals},
        "comparisons": comparisons,
        "draws": {who: len(families[who]) for who in rivals},
        "folds": spread(cohort, question, tables[OURS, "test"]),
    }
    if (UNCALIBRATED, "test") in tables and ours["frame"]["accuracy"] is not None:
        counted = np.isin(question.true[at["test"]], evaluable)
        true = question.true[at["test"]][counted]
        result["calibration"] = {
            when: _calibration(true, by(who)[counted], question.classes)
            for when, who in (("before", UNCALIBRATED), ("after", OURS))
        } | {"validation": _in_validation(question, tables, at["val"])}
    if (FINETUNED, "test") in tables:
        result["finetuned"] = {"test": scored(FINETUNED), "margin": margin(FINETUNED, OURS)}
    return result


def annotated(cohort: LabelledSet, question: Target, part: str) -> np.ndarray:
    """Rows annotated for a question that stand in a part of some fold."""
    inside = np.any([of_fold == part for of_fold in cohort.folds], axis=0)
    return np.flatnonzero(inside & (question.true >= 0))


def _calibration(true: np.ndarray, probabilities: np.ndarray, classes: list[str]) -> dict[str, Any]:
    return {
        "ece": expected_calibration_error(true, probabilities),
        "classwise_ece": classwise_calibration_error(true, probabilities),
        "classes": shares(true, probabilities, classes),
    } | reliability(true, probabilities)


def _in_validation(
    question: Target, tables: Mapping[tuple[str, str], Probabilities], rows: np.ndarray
) -> dict[str, Any] | None:
    """The same of the frames that the calibration was fitted on; None without any."""
    if not len(rows):
        return None
    true = question.true[rows]
    return {
        when: {
            "classwise_ece": classwise_calibration_error(true, p),
            "classes": shares(true, p, question.classes),
        }
        for when, who in (("before", UNCALIBRATED), ("after", OURS))
        for p in [question.probabilities(tables[who, "val"])[rows]]
    }


def groups_of_classes(cohort: LabelledSet, question: Target) -> dict[str, dict[str, int]]:
    """Frames and groups of each class: in all, and in each part (with folds: groups that each one tests)."""
    found = {}
    for number, name in enumerate(question.classes):
        here = question.true == number
        of_class = {"frames": int(here.sum()), "groups": _n_groups(cohort, here)}
        if len(cohort.folds) == 1:
            for part in ("train", "val", "test"):
                of_class[part] = _n_groups(cohort, here & (cohort.folds[0] == part))
        else:
            for fold, part_of in enumerate(cohort.folds, start=1):
                of_class[f"fold {fold}"] = _n_groups(cohort, here & (part_of == "test"))
        found[name] = of_class
    return found


def _n_groups(cohort: LabelledSet, here: np.ndarray) -> int:
    return len(np.unique(cohort.groups[here]))


def power(found: Mapping[str, Any]) -> dict[str, Any]:
    """How exact an accuracy can be with the groups that are tested, each counted as one trial.

    Wilson's interval (1927): frames of a group add little, so the groups are what counts.

    Args:
        found: LEVELS of the test part.

    Returns:
        groups, accuracy (the one found per video; where it cannot be computed 0.8, "assumed"), half_width of
        its 95 % interval (None without groups), and the groups_needed for a half width of 0.1.
    """
    scores = found["video"]
    groups = scores["groups"]
    accuracy = TYPICAL if scores["accuracy"] is None else scores["accuracy"]
    needed = next(n for n in range(1, 1000) if _half_width(accuracy, n) <= WIDTH)
    half = _half_width(accuracy, groups) if groups else None
    return {
        "groups": groups,
        "accuracy": accuracy,
        "assumed": scores["accuracy"] is None,
        "half_width": half,
        "groups_needed": needed,
    }


def _half_width(accuracy: float, n: int) -> float:
    return Z * math.sqrt(accuracy * (1 - accuracy) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)


def spread(cohort: LabelledSet, question: Target, table: Probabilities) -> list[dict[str, Any]]:
    """Accuracy and balanced accuracy per video of each fold alone, over the classes that it tests."""
    found = []
    for number, part in enumerate(cohort.folds, start=1):
        rows = np.flatnonzero((part == "test") & np.isin(question.true, question.evaluable()))
        accuracy, balanced = _per_video(cohort, question, table, rows)
        groups = len(np.unique(cohort.groups[rows]))
        row = {"fold": number, "n": len(rows), "groups": groups}
        found.append(row | {"accuracy": accuracy, "balanced_accuracy": balanced})
    return found


def balanced_accuracy(cohort: LabelledSet, question: Target, table: Probabilities) -> float | None:
    """Per video, of all tested frames of classes that count; None with fewer than two classes."""
    rows = annotated(cohort, question, "test")
    rows = rows[np.isin(question.true[rows], question.evaluable())]
    return _per_video(cohort, question, table, rows)[1]


def _per_video(
    cohort: LabelledSet, question: Target, table: Probabilities, rows: np.ndarray
) -> tuple[float | None, float | None]:
    """Accuracy and balanced accuracy of some rows; None where fewer than two classes are."""
    groups, videos = cohort.groups[rows].tolist(), cohort.videos[rows].tolist()
    (true, probabilities, _), (_, prevalence, _) = (
        pool(question.true[rows], of[rows], groups, videos)
        for of in (question.probabilities(table), question.prevalence(table))
    )
    shown = np.unique(true)
    if len(shown) < 2:
        return None, None
    said = balanced_choice(probabilities, prevalence)
    recall = recall_score(true, said, labels=shown, average="macro")
    return float(accuracy_score(true, said)), float(recall)


def head_facts(
    cohort: LabelledSet, trained: Sequence[Trained], features: Sequence[np.ndarray]
) -> dict[str, dict[str, Any]]:
    """{question's name: penalty and calibration of each fold, and what each seed alone would score}."""
    tasks = list(cohort.values)
    alone = [
        pooled(cohort, answers([of_fold.of_seeds[seed] for of_fold in trained], features), "test")
        for seed in range(len(trained[0].of_seeds))
    ]
    found = {}
    for question in cohort.targets():
        place = tasks.index(question.task)
        found[question.name] = {
            "l2": [of_fold.l2[question.task] for of_fold in trained],
            "temperature": [float(of_fold.heads.temperature[place]) for of_fold in trained],
            "bias": [_of_classes(question, of_fold.heads, of_fold.heads.bias) for of_fold in trained],
            "prevalence": [
                _of_classes(question, of_fold.heads, of_fold.heads.prevalence) for of_fold in trained
            ],
            "balanced_accuracy_of_seeds": [balanced_accuracy(cohort, question, table) for table in alone],
        }
    return found


def _of_classes(question: Target, heads: Heads, values: Tensor) -> dict[str, float]:
    """{class: its value}; of a lesion the value of its presence."""
    of_task = heads.split_by_task(values)[question.task].tolist()
    if question.lesion is not None:
        return {question.classes[1]: of_task[question.lesion]}
    return dict(zip(question.classes, of_task, strict=True))


def leak(study: Study) -> dict[str, dict[str, Any]]:
    """What the same heads would score under a split over frames of the same sizes, each frame a group.

    Returns:
        {question's name: {"leaky": True, "frame": SCORES}}: frames of one patient stand on both sides, so the
        figures show how much that flatters, and nothing else.
    """
    other = study.with_frame_split()
    cohort, seed = other.cohort, study.heads["seed"]
    tables = answers([of_fold.heads for of_fold in other.fit_folds(other.encoded.folds)], other.encoded.folds)
    table, found = pooled(cohort, tables, "test"), {}
    for question in cohort.targets():
        rows = annotated(cohort, question, "test")
        found[question.name] = {
            "leaky": True,
            "frame": scores(
                question.true[rows],
                question.probabilities(table)[rows],
                question.classes,
                cohort.groups[rows].tolist(),
                evaluable=question.evaluable(),
                ordered=question.ordered(),
                seed=seed,
                prevalence=question.prevalence(table)[rows],
            ),
        }
    return found


def by_task(
    cohort: LabelledSet, results: Mapping[str, dict[str, Any]], known: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """`metrics.json`'s "tasks": the results under their tasks, lesions below the condition.

    Args:
        cohort: the frames.
        results: {question's name: result}.
        known: {task: {"classes", "not_evaluable"}} of all tasks, also of those that cannot be learnt.
    """
    tasks: dict[str, Any] = {}
    for task in TASKS:
        if task not in cohort.values:
            tasks[task] = known[task] | {"skipped": SKIPPED}
        elif task == CONDITION and cohort.lesions():
            asked = [question for question in cohort.targets() if question.task == task]
            tasks[task] = {
                "mode": "multilabel",
                "classes": cohort.lesions(),
                "not_evaluable": [
                    row | {"class": lesion}
                    for lesion, question in zip(cohort.lesions(), asked, strict=True)
                    for row in question.not_evaluable[:1]
                ],
                "lesions": {
                    lesion: results[question.name]
                    for lesion, question in zip(cohort.lesions(), asked, strict=True)
                },
            }
        else:
            tasks[task] = results[task]
    return tasks


def prediction_header(cohort: LabelledSet) -> list[str]:
    """Columns of `predictions.csv`: one probability column per class or lesion of any task, and the fold."""
    names = dict.fromkeys(name for outputs in cohort.outputs().values() for name in outputs)
    of_row = ["path", "video", "group", "task", "true", "predicted"]
    return [*of_row, *(f"p:{name}" for name in names), "fold"]


def prediction_rows(cohort: LabelledSet, tables: Sequence[Probabilities]) -> Iterator[list[Any]]:
    """One row per tested frame and task; `true` is empty where the frame is not annotated for the task."""
    header, outputs, targets = prediction_header(cohort), cohort.outputs(), cohort.target_values()
    for row, fold in enumerate(cohort.test_fold()):
        for task, names in outputs.items() if fold >= 0 else ():
            found, held = tables[fold][task][row], tables[fold].get(prevalence_key(task))
            prior = None if held is None else held[row]
            by_column = {f"p:{name}": float(p) for name, p in zip(names, found, strict=True)}
            if targets[task].ndim == 2:
                said = (found >= (0.5 if prior is None else prior)).astype(int)
            else:
                said = balanced_choice(found[None], prior)[0]
            yield [
                *(cohort.paths[row], cohort.videos[row], cohort.groups[row], task),
                *(format_label(value, names) for value in (targets[task][row], said)),
                *(by_column.get(column, "") for column in header[6:-1]),
                fold + 1,
            ]
