"""Runs that are finished, as the files in their folders tell them.

A folder may hold anything: each value is looked at before it is used (`records`), and files that do not fit
one another are refused.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import HISTORY, METRICS, RUN_RECORD
from simclr_rhd.core.records import (
    RECOVERY_ADVICE,
    RUN_FOLDER_WANTED,
    JsonObject,
    parse_json,
    read_json_object,
    read_text,
    shorten,
)
from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.report.compare.predictions import TestPredictions, read_predictions

EPOCH_MEASURES = ("loss", "val_loss", "alignment", "uniformity", "rank")  # of a pretraining epoch

EpochCurve = dict[int, float]  # {epoch: value}, of the epochs in which it was measured
CurveKey = tuple[str, str]  # figure, and the task or ''


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: where it is, as the user wrote it.
        finished: when.
        data: 'location' and 'fingerprint'.
        flags: {field of the configuration that decides the result: value}.
        training_settings: {what the program decided itself, such as the batch size: value}.
        environment: {'commit', 'device' and each package: version}.
        best_epoch: of the weights in the model; None where no epoch is marked.
        curves: {(figure, task or ''): curve}; figures are those of `EPOCH_MEASURES`, 'knn', and 'head', the
            validation loss of a task's head.
        results: of its tests.
        predictions: {name of a target: those for its tested frames}.
    """

    folder: Path
    finished: str
    data: dict[str, str]
    flags: dict[str, Any]
    training_settings: dict[str, Any]
    environment: dict[str, Any]
    best_epoch: int | None
    curves: dict[CurveKey, EpochCurve]
    results: RunResults
    predictions: dict[str, TestPredictions]

    @property
    def epochs(self) -> int:
        """Epochs of pretraining."""
        return max(self.curves["loss", ""])


Runs = Mapping[str, FinishedRun]  # by short name; the first is the reference


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
    metrics, data = read_json_object(folder / METRICS), run.object("data")
    results = RunResults.from_json(metrics.fields, metrics.where)
    curves, best_epoch = _read_history(folder / HISTORY, results.tasks)
    return FinishedRun(
        folder=folder,
        finished=run.text("finished"),
        data={name: data.text(name) for name in ("location", "fingerprint")},
        flags=run.object("signature").fields,
        training_settings=run.object("settled").fields if "settled" in run.fields else {},
        environment={name: run.fields.get(name) for name in ("commit", "device")}
        | run.object("versions").fields,
        best_epoch=best_epoch,
        curves=curves,
        results=results,
        predictions=read_predictions(folder, results),
    )


def _read_history(path: Path, tasks: Collection[str]) -> tuple[dict[CurveKey, EpochCurve], int | None]:
    """The curves of all epochs, and the epoch of pretraining that was kept."""
    curves: dict[CurveKey, EpochCurve] = {}
    best_epoch = None
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            row = JsonObject(parse_json(line), f"{path}: line {number}")
        except ValueError as error:
            raise UserError(
                f"{path}: line {number} is cut off, or no JSON ({error}); {RECOVERY_ADVICE}"
            ) from None
        phase = row.text("phase")
        epoch = row.count("epoch", 0 if phase == "finetune" else 1)  # 0: before any fine-tuning
        values: dict[CurveKey, float | None] = {}
        if phase == "simclr":
            values = {(name, ""): row.number(name) for name in EPOCH_MEASURES}
            if row.fields.get("knn") is not None:
                votes = row.object("knn")
                values |= {("knn", task): votes.number(task) for task in votes.fields}
            best_epoch = epoch if row.fields.get("best") is True else best_epoch
        elif phase in tasks:
            values = {("head", phase): row.number("val_loss")}
        for key, value in values.items():
            curves.setdefault(key, {})
            if value is not None:
                curves[key][epoch] = value
    if not curves.get(("loss", "")):
        raise UserError(f"{path}: found no loss of a pretraining epoch, wanted one a line; {RECOVERY_ADVICE}")
    return curves, best_epoch
