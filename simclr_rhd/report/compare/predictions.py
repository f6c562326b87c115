"""Predictions of a finished run for the frames that it tested: `predictions.csv`.

Notation: n tested frames annotated for a target, C classes of it.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import METRICS, PREDICTIONS
from simclr_rhd.core.records import RECOVERY_ADVICE, read_text, wrong_value
from simclr_rhd.core.text import from_cell
from simclr_rhd.data.labels.prevalence import balanced_choice
from simclr_rhd.data.labels.vocabulary import LESION_SEPARATOR, target_name
from simclr_rhd.evaluation.results import RunResults, TargetResult

REQUIRED_COLUMNS = ("path", "video", "group", "task", "true", "predicted")  # columns of predictions.csv

Row = Mapping[str, str]  # {column: cell}


@dataclass(frozen=True)
class TestPredictions:
    """Predictions for the tested frames that are annotated.

    Attributes:
        classes: C names, all different.
        paths: n names of frames, all different.
        videos: n names.
        groups: n names.
        true: n names of classes.
        probabilities: (n, C).
        prevalence: (n, C) that they hold for.
    """

    classes: list[str]
    paths: list[str]
    videos: list[str]
    groups: list[str]
    true: list[str]
    probabilities: np.ndarray
    prevalence: np.ndarray


def read_predictions(folder: Path, results: RunResults) -> dict[str, TestPredictions]:
    """The predictions of a run for each target of its results.

    Raises:
        UserError: the table is missing, cut off, or does not fit the results.
    """
    path = folder / PREDICTIONS
    rows = _read_rows(path)
    predictions = {}
    for task, of_task in results.tasks.items():
        for name, result in of_task.targets.items():
            target = target_name(task, name)
            prevalences = _fold_prevalences(result, f"{folder / METRICS}: tasks: {target}: head: prevalence")
            predictions[target] = _parse(rows.get(task, []), result.classes, path, name, prevalences)
            _check_scores(predictions[target], result, path, target)
    return predictions


def _read_rows(path: Path) -> dict[str, list[Row]]:
    """{task: its rows}; each row has the columns of the file, and 'line'."""
    reader = csv.reader(read_text(path).splitlines(keepends=True), strict=True)
    tasks: dict[str, list[Row]] = {}
    seen = set()
    try:
        header = list(map(from_cell, next(reader, [])))
        if missing := [name for name in REQUIRED_COLUMNS if name not in header]:
            raise UserError(f"{path}: has no column {', '.join(missing)}; {RECOVERY_ADVICE}")
        if len(set(header)) < len(header):
            raise UserError(f"{path}: two columns have one name; {RECOVERY_ADVICE}")
        for cells in reader:
            where = f"{path}: line {reader.line_num}"
            if len(cells) != len(header):
                raise UserError(f"{where}: found {len(cells)} cells, wanted {len(header)}; {RECOVERY_ADVICE}")
            row = dict(zip(header, map(from_cell, cells), strict=True)) | {"line": str(reader.line_num)}
            if (row["task"], row["path"]) in seen:
                raise UserError(f"{where}: its frame has a row of this task already; {RECOVERY_ADVICE}")
            seen.add((row["task"], row["path"]))
            tasks.setdefault(row["task"], []).append(row)
    except csv.Error as error:
        raise UserError(
            f"{path}: line {reader.line_num}: is cut off, or no CSV ({error}); {RECOVERY_ADVICE}"
        ) from None
    return tasks


def _parse(
    rows: Sequence[Row],
    classes: list[str],
    path: Path,
    lesion: str,
    prevalences: Sequence[Sequence[float]],
) -> TestPredictions:
    """The rows of a task that are annotated; of a lesion, whether it is among those named.

    Args:
        rows: of one task.
        classes: C names; absent and present for a lesion.
        path: the file that the rows are of.
        lesion: "" for a choice among classes.
        prevalences: of each fold, the C shares that its probabilities hold for; empty where a run has none.
    """
    rows = [row for row in rows if row["true"]]
    columns = [lesion] if lesion else classes
    if missing := [name for name in columns if rows and f"p:{name}" not in rows[0]]:
        raise UserError(f"{path}: has no column p:{missing[0]}; {RECOVERY_ADVICE}")
    true = [classes[lesion in row["true"].split(LESION_SEPARATOR)] if lesion else row["true"] for row in rows]
    for row, name in zip(rows, true, strict=True):
        if name not in classes:
            raise UserError(
                f"{path}: line {row['line']}: true {name!r} is no class in metrics.json; {RECOVERY_ADVICE}"
            )
    p = [[_probability(row, f"p:{name}", path) for name in columns] for row in rows]
    probabilities = np.array(p, dtype=np.float64).reshape(len(rows), len(columns))
    prevalence = np.array([_fold_prevalence(row, prevalences, path) for row in rows if prevalences])
    return TestPredictions(
        classes=classes,
        paths=[row["path"] for row in rows],
        videos=[row["video"] for row in rows],
        groups=[row["group"] for row in rows],
        true=true,
        probabilities=np.concatenate([1 - probabilities, probabilities], axis=1) if lesion else probabilities,
        prevalence=prevalence.reshape(len(rows), len(classes))
        if prevalences
        else np.ones((len(rows), len(classes))),
    )


def _fold_prevalence(row: Row, prevalences: Sequence[Sequence[float]], path: Path) -> Sequence[float]:
    fold = row.get("fold", "")
    if not (fold.isdecimal() and 1 <= int(fold) <= len(prevalences)):
        raise wrong_value(fold, f"1 to {len(prevalences)}", f"{path}: line {row['line']}: fold")
    return prevalences[int(fold) - 1]


def _probability(row: Row, column: str, path: Path) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise wrong_value(row[column], "0 to 1", f"{path}: line {row['line']}: {column}")
    return value


def _fold_prevalences(result: TargetResult, where: str) -> list[list[float]]:
    """Of each fold, the shares of the classes that its probabilities hold for; none in an older run."""
    prevalences = []
    for of_fold in result.head.prevalence if result.head else []:
        names, shares = list(of_fold), list(of_fold.values())
        for share in shares:
            if not 0 < share < 1:
                raise wrong_value(share, "a share above 0", where)
        if names == result.classes[1:] and len(result.classes) == 2:  # of a lesion
            names, shares = result.classes, [1 - shares[0], shares[0]]
        if names != result.classes:
            raise UserError(f"{where}: is of other classes; {RECOVERY_ADVICE}")
        prevalences.append(shares)
    return prevalences


def _check_scores(predictions: TestPredictions, result: TargetResult, path: Path, target: str) -> None:
    """Refuse predictions that are not those of the results, by the frames' number and balanced accuracy."""
    recorded, present = result.test["frame"], result.evaluable & set(predictions.true)
    if (tested := sum(true in present for true in predictions.true)) != recorded.n:
        raise UserError(
            f"{path}: found {tested} annotated frames for '{target}', metrics.json "
            f"has {recorded.n}: one of the files is cut off or of another run; {RECOVERY_ADVICE}"
        )
    score = recorded["balanced_accuracy"].value
    if score is None:
        return
    choice = balanced_choice(predictions.probabilities, predictions.prevalence)
    predicted, true = np.array(result.classes)[choice], np.array(predictions.true)
    recalls = [(predicted[true == name] == name).mean() for name in present]
    if not (recalls and abs(np.mean(recalls) - score) < 1e-6):
        raise UserError(
            f"{path}: the balanced accuracy of its answers to '{target}' is not that in metrics.json: the "
            f"files are of different runs; {RECOVERY_ADVICE}"
        )
