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
from simclr_rhd.core.records import RECOVERY_ADVICE, read_text, shorten
from simclr_rhd.core.text import from_cell
from simclr_rhd.data.labels.vocabulary import LESION_SEPARATOR

REQUIRED_COLUMNS = ("path", "video", "group", "task", "true", "predicted")  # columns of predictions.csv

Row = Mapping[str, str]  # {column: cell}


@dataclass(frozen=True)
class TestPredictions:
    """Predictions for the tested frames that are annotated.

    Attributes:
        paths: n names of frames, all different.
        videos: n names.
        groups: n names.
        true: n names of classes.
        probabilities: (n, C).
        prevalence: (n, C) that they hold for.
    """

    paths: list[str]
    videos: list[str]
    groups: list[str]
    true: list[str]
    probabilities: np.ndarray
    prevalence: np.ndarray


def read_predictions(path: Path) -> dict[str, list[Row]]:
    """{task: its rows}; each row has the columns of the file, and 'line'.

    Raises:
        UserError: it is missing, cut off, or another table.
    """
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


def parse_predictions(
    rows: Sequence[Row],
    classes: list[str],
    path: Path,
    lesion: str | None,
    prevalences: Sequence[Sequence[float]] = (),
) -> TestPredictions:
    """The rows of a task that are annotated; of a lesion, whether it is among those named.

    Args:
        rows: of one task.
        classes: C names; absent and present for a lesion.
        path: the file that the rows are of.
        lesion: the one that is asked for; None for a choice among classes.
        prevalences: of each fold, the C shares that its probabilities hold for; empty where a run has none.

    Raises:
        UserError: there are other classes, or no probabilities.
    """
    rows = [row for row in rows if row["true"]]
    columns = classes if lesion is None else [lesion]
    if missing := [name for name in columns if rows and f"p:{name}" not in rows[0]]:
        raise UserError(f"{path}: has no column p:{missing[0]}; {RECOVERY_ADVICE}")
    true = [
        row["true"] if lesion is None else classes[lesion in row["true"].split(LESION_SEPARATOR)]
        for row in rows
    ]
    for row, name in zip(rows, true, strict=True):
        if name not in classes:
            raise UserError(
                f"{path}: line {row['line']}: true {name!r} is no class in metrics.json; {RECOVERY_ADVICE}"
            )
    p = [[_probability(row, f"p:{name}", path) for name in columns] for row in rows]
    probabilities = np.array(p, dtype=np.float64).reshape(len(rows), len(columns))
    prevalence = np.array([_fold_prevalence(row, prevalences, path) for row in rows if prevalences])
    return TestPredictions(
        paths=[row["path"] for row in rows],
        videos=[row["video"] for row in rows],
        groups=[row["group"] for row in rows],
        true=true,
        probabilities=probabilities
        if lesion is None
        else np.concatenate([1 - probabilities, probabilities], axis=1),
        prevalence=prevalence.reshape(len(rows), len(classes))
        if prevalences
        else np.ones((len(rows), len(classes))),
    )


def _fold_prevalence(row: Row, prevalences: Sequence[Sequence[float]], path: Path) -> Sequence[float]:
    fold = row.get("fold", "")
    if not (fold.isdecimal() and 1 <= int(fold) <= len(prevalences)):
        raise UserError(
            f"{path}: line {row['line']}: fold: found {shorten(fold)}, wanted 1 to {len(prevalences)}; "
            f"{RECOVERY_ADVICE}"
        )
    return prevalences[int(fold) - 1]


def _probability(row: Row, column: str, path: Path) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        cell = shorten(row[column])
        raise UserError(
            f"{path}: line {row['line']}: {column}: found {cell}, wanted 0 to 1; {RECOVERY_ADVICE}"
        )
    return value
