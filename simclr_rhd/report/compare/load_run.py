"""Runs that are finished, as the files in their folders tell them.

A folder may hold anything: each value is looked at before it is used (`records`), and files that do not fit
one another are refused.

Notation: C classes of a question.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import HISTORY, METRICS, PREDICTIONS, RUN_RECORD
from simclr_rhd.core.records import (
    RECOVERY_ADVICE,
    RUN_FOLDER_WANTED,
    JsonObject,
    is_fraction,
    parse_json,
    read_json_object,
    read_text,
    shorten,
)
from simclr_rhd.data.labels.prevalence import balanced_choice
from simclr_rhd.report.compare.predictions import Row, TestPredictions, parse_predictions, read_predictions

LEVELS = ("video", "frame")  # the first that can be scored is judged, as in summary.judged
EPOCH_MEASURES = ("loss", "val_loss", "alignment", "uniformity", "rank")  # of a pretraining epoch

Curve = dict[int, float]  # {epoch: value}, of the epochs in which it was measured


@dataclass(frozen=True)
class Score:
    """A balanced accuracy in [0, 1] with its 95 % interval; None where it cannot be computed."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class TargetResult:
    """A question that a run was tested with: a task, or one of its lesions.

    Attributes:
        classes: C names, all different.
        evaluable: those that count.
        level: what is judged, 'video' or 'frame'; None where neither could be scored.
        ours: {level: the run's score}.
        pixels: {level: the score of raw pixels}.
        chance: {level: the score of always saying one class}.
        answers: the run's answers.
    """

    classes: list[str]
    evaluable: frozenset[str]
    level: str | None
    ours: dict[str, Score]
    pixels: dict[str, Score]
    chance: dict[str, Score]
    predictions: TestPredictions


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: where it is, as the user wrote it.
        finished: when.
        data: 'location', 'fingerprint' and 'synthetic'.
        flags: {field of the configuration that decides the result: value}.
        training_settings: {what the program settled, such as the batch size: value}.
        made_with: {'commit', 'device' and each package: version}.
        split_by: what is never divided by the split, such as 'patient'.
        leaky: whether frames of one patient or video stand on two sides.
        folds: 1 for a single split.
        best_epoch: of the weights in the model; None where no epoch is marked.
        curves: {(figure, task or ''): curve}; figures are those of `EPOCH_MEASURES`, 'knn', and 'head', the
            validation loss of a task's head.
        results: {name of a target: its result}.
        skipped: {task: why it was not learnt}.
    """

    folder: Path
    finished: str
    data: dict[str, Any]
    flags: dict[str, Any]
    training_settings: dict[str, Any]
    environment: dict[str, Any]
    split_by: str
    leaky: bool
    folds: int
    best_epoch: int | None
    curves: dict[tuple[str, str], Curve]
    results: dict[str, TargetResult]
    skipped: dict[str, str]

    @property
    def epochs(self) -> int:
        """Epochs of pretraining."""
        return max(self.curves["loss", ""])


def read_runs(folders: Sequence[Path]) -> list[FinishedRun]:
    """The runs of two or more folders, in their order.

    Raises:
        UserError: a folder is named twice, or does not hold a finished run.
    """
    seen: dict[str, Path] = {}
    for folder in folders:
        real = os.path.realpath(folder)
        if real in seen:
            raise UserError(f"{folder}: is the same folder as {seen[real]}; name each run once")
        seen[real] = folder
    return [read_run(folder) for folder in folders]


def read_run(folder: Path) -> FinishedRun:
    """The run of a folder.

    Raises:
        UserError: it holds none, or one that is not finished, or its files are not those of a run.
    """
    if not os.path.isdir(folder):  # False for names that no folder can have, too
        raise UserError(
            f"{folder}: {'is a file' if os.path.exists(folder) else 'is not there'}; {RUN_FOLDER_WANTED}"
        )
    run = read_json_object(folder / RUN_RECORD)
    if run.text("status") != "finished":
        raise UserError(
            f"{folder}: its run is not finished (run.json: status {shorten(run.text('status'))}); run the "
            "same command again, which goes on from where it stopped, and compare then"
        )
    metrics = read_json_object(folder / METRICS)
    split, data = metrics.object("split"), run.object("data")
    asked, skipped = _read_targets(metrics.object("tasks"), folder / PREDICTIONS)
    curves, kept = _read_history(folder / HISTORY, metrics.object("tasks").fields)
    return FinishedRun(
        folder=folder,
        finished=run.text("finished"),
        data={name: data.text(name) for name in ("location", "fingerprint")}
        | {"synthetic": metrics.boolean("synthetic")},
        flags=run.object("signature").fields,
        training_settings=run.object("settled").fields if "settled" in run.fields else {},
        environment={name: run.fields.get(name) for name in ("commit", "device")}
        | run.object("versions").fields,
        split_by=split.text("by"),
        leaky=split.boolean("leaky"),
        folds=split.count("folds", 1),
        best_epoch=kept,
        curves=curves,
        results=asked,
        skipped=skipped,
    )


def _read_history(path: Path, tasks: Mapping[str, Any]) -> tuple[dict[tuple[str, str], Curve], int | None]:
    """The curves of all epochs, and the epoch of pretraining that was kept."""
    curves: dict[tuple[str, str], Curve] = {}
    kept = None
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            row = JsonObject(parse_json(line), f"{path}: line {number}")
        except ValueError as error:
            raise UserError(
                f"{path}: line {number} is cut off, or no JSON ({error}); {RECOVERY_ADVICE}"
            ) from None
        phase, epoch = row.text("phase"), row.count("epoch", 1)
        found: dict[tuple[str, str], float | None] = {}
        if phase == "simclr":
            found = {(name, ""): row.number(name) for name in EPOCH_MEASURES}
            if row.fields.get("knn") is not None:
                votes = row.object("knn")
                found |= {("knn", task): votes.number(task) for task in votes.fields}
            kept = epoch if row.fields.get("best") is True else kept
        elif phase in tasks:
            found = {("head", phase): row.number("val_loss")}
        for key, value in found.items():
            curves.setdefault(key, {})
            if value is not None:
                curves[key][epoch] = value
    if not curves.get(("loss", "")):
        raise UserError(f"{path}: found no loss of a pretraining epoch, wanted one a line; {RECOVERY_ADVICE}")
    return curves, kept


def _read_targets(tasks: JsonObject, predictions: Path) -> tuple[dict[str, TargetResult], dict[str, str]]:
    """{name: question} of those that were tested, and {task: why it was not learnt}."""
    rows = read_predictions(predictions)
    asked, skipped = {}, {}
    for task, of in tasks.items():
        if "skipped" in of.fields:
            skipped[task] = of.text("skipped")
        elif "lesions" in of.fields:
            for lesion, result in of.object("lesions").items():
                asked[f"{task}: {lesion}"] = _read_target(
                    result, rows.get(task, []), predictions, lesion=lesion
                )
        else:
            asked[task] = _read_target(of, rows.get(task, []), predictions)
    return asked, skipped


def _read_target(
    result: JsonObject, rows: Sequence[Row], path: Path, lesion: str | None = None
) -> TargetResult:
    classes = result.names("classes")
    if lesion is not None and len(classes) != 2:
        raise UserError(
            f"{result.where}: classes: found {len(classes)}, wanted absent and present; {RECOVERY_ADVICE}"
        )
    missing = result.get("not_evaluable", lambda x: isinstance(x, list), "a list")
    missing = {JsonObject(row, f"{result.where}: not_evaluable").text("class") for row in missing}
    evaluable = frozenset(classes) - missing
    test, baselines = result.object("test"), result.object("baselines")
    ours = {level: _score(test.object(level)) for level in LEVELS}
    answers = parse_predictions(rows, classes, path, lesion, _fold_prevalences(result, classes))
    tested, n = sum(true in evaluable for true in answers.true), test.object("frame").count("n")
    question = result.where.partition(": tasks: ")[2]
    if tested != n:
        raise UserError(
            f"{path}: found {tested} annotated frames for '{question}', metrics.json "
            f"has {n}: one of the files is cut off or of another run; {RECOVERY_ADVICE}"
        )
    told = ours["frame"].value
    if told is not None and not (
        tested and abs(_balanced_accuracy(answers, classes, evaluable) - told) < 1e-6
    ):
        raise UserError(
            f"{path}: the balanced accuracy of its answers to '{question}' is not that in metrics.json: the "
            f"files are of different runs; {RECOVERY_ADVICE}"
        )
    return TargetResult(
        classes=classes,
        evaluable=evaluable,
        level=next((level for level in LEVELS if ours[level].value is not None), None),
        ours=ours,
        pixels=_baseline_scores(baselines, "pixels"),
        chance=_baseline_scores(baselines, "majority"),
        predictions=answers,
    )


def _fold_prevalences(result: JsonObject, classes: list[str]) -> list[list[float]]:
    """Of each fold, the shares of the classes that its probabilities hold for; none in an older run."""
    head = result.fields.get("head")
    if not isinstance(head, dict) or "prevalence" not in head:
        return []
    found = []
    for of_fold in result.object("head").get("prevalence", lambda x: isinstance(x, list), "a list"):
        record = JsonObject(of_fold, f"{result.where}: head: prevalence")
        names = list(record.fields)
        shares = [record.get(name, _is_positive_share, "a share above 0") for name in names]
        if names == classes[1:] and len(classes) == 2:  # of a lesion
            names, shares = classes, [1 - shares[0], shares[0]]
        if names != classes:
            raise UserError(f"{record.where}: is of other classes; {RECOVERY_ADVICE}")
        found.append(shares)
    return found


def _is_positive_share(value: object) -> bool:
    return isinstance(value, float) and 0 < value < 1


def _balanced_accuracy(answers: TestPredictions, classes: list[str], evaluable: frozenset[str]) -> float:
    """Mean recall per frame, of the classes that count."""
    said = np.array(classes)[balanced_choice(answers.probabilities, answers.prevalence)]
    true = np.array(answers.true)
    return float(np.mean([(said[true == name] == name).mean() for name in evaluable & set(answers.true)]))


def _baseline_scores(baselines: JsonObject, name: str) -> dict[str, Score]:
    """Scores of a comparator: those per frame stand at the top, those per video below."""
    if name not in baselines.fields:
        return dict.fromkeys(LEVELS, Score())
    found = baselines.object(name)
    return {"frame": _score(found), "video": _score(found.object("video"))}


def _score(scores: JsonObject) -> Score:
    value, bounds = scores.fraction("balanced_accuracy"), None
    if scores.fields.get("ci95") is not None:
        bounds = scores.object("ci95").get(
            "balanced_accuracy", _is_interval, "two numbers from 0 to 1, or null"
        )
    return Score(value, *(bounds or ()))


def _is_interval(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and len(value) == 2 and None not in value and all(map(is_fraction, value))
