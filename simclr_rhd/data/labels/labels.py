"""The labels of the frames: the rows of the label table, matched with files and resolved to one reading."""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.labels.annotators import (
    Agreement,
    Conflict,
    Readings,
    inter_annotator_agreement,
    make_time_parser,
    resolve_conflict,
)
from simclr_rhd.data.labels.matching import LabelledFiles, log_labels_outside, merge_rows, no_match_reason
from simclr_rhd.data.labels.patients import dicom_patients, make_patient_parser
from simclr_rhd.data.labels.table import (
    FILE_COLUMN,
    PATIENT_COLUMN,
    TIME_COLUMN,
    Row,
    label_columns,
    read_rows,
)
from simclr_rhd.data.labels.tasks.classes import make_task_parser
from simclr_rhd.data.labels.tasks.notices import log_column_notices
from simclr_rhd.data.labels.video_ids import assign_videos
from simclr_rhd.data.labels.vocabulary import DEFAULT_TASKS, NOT_ANNOTATED, Task

logger = logging.getLogger("simclr_rhd")

PATIENT = "patient"  # stands beside the tasks where a table is read
MAX_CLASSES = 1_000  # of a task


@dataclass(frozen=True)
class Labels:
    """One row per frame, in the order of the frames.

    Attributes:
        classes: class names of each task, in clinical order; a task with fewer than two cannot be learnt.
        values: {task: (N,) int64 index into `classes`, -1 = not annotated}.
        videos: N names of videos.
        patients: N patients: of the table, else of the DICOM file, "" where unknown.
        table_patients: all patients of the table, those without a frame, too.
        ambiguous_patients: (video, patient) that may belong together: of frames whose rows name several
            patients, and of those that have a patient in the table and another name for it in the file.
        conflicts: where rows of one file disagree. Not annotated for that task, unless the policy finds a
            reading; where they disagree on the patient, not annotated at all.
        rows_without_file: names in the tables that no file or folder, or more than one, has.
        files_without_row: files of the labelled folder that the table does not name.
        agreement: Cohen's kappa of each pair of annotators.
        tasks: of the run, in the order of `classes`.
    """

    classes: dict[str, list[str]]
    values: dict[str, np.ndarray]
    videos: list[str]
    patients: list[str]
    table_patients: list[str]
    ambiguous_patients: list[tuple[str, str]]
    conflicts: list[Conflict]
    rows_without_file: list[str]
    files_without_row: list[str]
    agreement: list[Agreement]
    tasks: tuple[Task, ...] = DEFAULT_TASKS

    def annotated(self) -> np.ndarray:
        """(N,) bool: frames with a label for at least one task."""
        known: np.ndarray = np.any([values >= 0 for values in self.values.values()], axis=0)
        return known

    def without(self, rows: np.ndarray) -> "Labels":
        """The same with the labels of some frames, (N,) bool, dropped."""
        values = {task: np.where(rows, NOT_ANNOTATED, values) for task, values in self.values.items()}
        return replace(self, values=values)

    def subset(self, rows: np.ndarray) -> "Labels":
        """The labels of some frames."""
        return replace(
            self,
            values={task: values[rows] for task, values in self.values.items()},
            videos=[self.videos[row] for row in rows],
            patients=[self.patients[row] for row in rows],
        )


def read_labels(
    table: bytes,
    name: str,
    files: LabelledFiles,
    *,
    patient_rows: Sequence[Row] = (),
    policy: str = "drop",
    tasks: tuple[Task, ...] = DEFAULT_TASKS,
) -> Labels:
    """Match the rows of a label table with frames, and resolve each file's rows to one reading.

    A row that names a file outside the labelled prefix, or a folder, gives the patient there.

    Args:
        table: the CSV file.
        name: what to call the table in messages.
        files: that it can name.
        patient_rows: of a table of patients, of any files and folders.
        policy: what to do where rows of one file disagree: 'drop', 'latest' or 'majority'.
        tasks: whose columns are read.

    Raises:
        UserError: the table cannot be read, lacks a column, or names none of the files.
    """
    rows = read_rows(table, name, required_columns=label_columns(tasks))
    labelled, outside = _match(rows, name, files)
    all_rows = (*rows, *patient_rows)
    patients = [row.get(PATIENT_COLUMN) or "" for row in all_rows]
    parsers = {task.name: make_task_parser(task, rows, name) for task in tasks}
    parsers[PATIENT] = make_patient_parser(patients)
    log_labels_outside(outside, files, tasks, name)
    rows_of_patients = merge_rows(labelled, outside, *files.match(patient_rows))
    readings = {task.name: _parse_column(labelled, task.column, parsers[task.name]) for task in tasks}
    agreement = inter_annotator_agreement(readings)
    readings[PATIENT] = _parse_column(rows_of_patients, PATIENT_COLUMN, parsers[PATIENT])
    parse_time = make_time_parser([row.get(TIME_COLUMN) or "" for row in rows])
    resolved, conflicts = _resolve(readings, policy, parse_time)
    _warn_unreadable_times(conflicts, policy, parse_time, name)
    doubtful = _drop_doubtful(resolved, conflicts)
    classes = {task.name: _sorted_classes(task, resolved[task.name].values(), name) for task in tasks}
    log_column_notices(rows, tasks, classes, name)
    hashed = dicom_patients(files.patients, resolved[PATIENT])
    videos = assign_videos(files.frames, files.prefixes)
    video_of = dict(zip(files.frames, videos, strict=True))
    used = {id(row) for of_file in rows_of_patients.values() for row in of_file}
    return Labels(
        classes=classes,
        values={task: _encode(resolved[task], names, files.frames) for task, names in classes.items()},
        videos=videos,
        patients=[resolved[PATIENT].get(file) or hashed.get(file, "") for file in files.frames],
        table_patients=sorted(set().union(*map(parsers[PATIENT], patients))),
        ambiguous_patients=[
            (video_of[file], patient) for file, patient in (*doubtful, *hashed.items()) if file in video_of
        ],
        conflicts=conflicts,
        rows_without_file=sorted({row[FILE_COLUMN] for row in all_rows if id(row) not in used}),
        files_without_row=sorted(set(files.frames) & set(files.listed) - set(labelled)),
        agreement=agreement,
        tasks=tasks,
    )


def _match(
    rows: Sequence[Row], name: str, files: LabelledFiles
) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    labelled, outside = files.match(rows)
    if not labelled:
        raise UserError(f"{name}: {no_match_reason(rows, files)}")
    return labelled, outside


def _parse_column(
    rows_of: Mapping[str, Sequence[Row]], column: str, parse: Callable[[str], set[str]]
) -> dict[str, Readings]:
    """The readings of a column by file."""
    return {file: [(parse(row.get(column) or ""), row) for row in rows] for file, rows in rows_of.items()}


def _resolve(
    readings: Mapping[str, Mapping[str, Readings]], policy: str, parse_time: Callable[[str], float]
) -> tuple[dict[str, dict[str, str]], list[Conflict]]:
    """{column: {file: its one reading}}, and the conflicts by file."""
    resolved: dict[str, dict[str, str]] = {column: {} for column in readings}
    conflicts: list[Conflict] = []
    files = sorted({*itertools.chain(*readings.values())})
    for file, column in itertools.product(files, readings):
        of_file = readings[column].get(file, ())
        distinct = set().union(*(classes for classes, _ in of_file))
        if len(distinct) == 1:
            resolved[column][file] = distinct.pop()
        elif distinct:
            choice = "" if column == PATIENT else resolve_conflict(of_file, policy, parse_time)
            conflicts.append(Conflict.from_readings(file, column, of_file, choice))
            resolved[column] |= {file: choice} if choice else {}
    return resolved, conflicts


def _drop_doubtful(
    resolved: dict[str, dict[str, str]], conflicts: Sequence[Conflict]
) -> list[tuple[str, str]]:
    """Drop the labels of files whose rows disagree on the patient; their (file, patient)."""
    doubtful = [conflict for conflict in conflicts if conflict.task == PATIENT]
    for conflict, column in itertools.product(doubtful, resolved.keys() - {PATIENT}):
        resolved[column].pop(conflict.file, None)
    return [(conflict.file, patient) for conflict in doubtful for patient in conflict.readings]


def _sorted_classes(task: Task, names: Iterable[str], table: str) -> list[str]:
    classes = sorted(set(names), key=task.clinical_order)
    if len(classes) > MAX_CLASSES:
        raise UserError(
            f"{table}: column {task.column} has {len(classes)} classes, such as "
            f"{classes[0]!r}; wanted at most {MAX_CLASSES}: is it a column of notes?"
        )
    return classes


def _encode(class_of: Mapping[str, str], classes: Sequence[str], files: Sequence[str]) -> np.ndarray:
    """(N,) int64 index into the classes, -1 = not annotated."""
    index = {name: number for number, name in enumerate(classes)} | {"": NOT_ANNOTATED}
    return np.array([index[class_of.get(file, "")] for file in files], dtype=np.int64)


def _warn_unreadable_times(
    conflicts: Sequence[Conflict], policy: str, parse_time: Callable[[str], float], name: str
) -> None:
    """Warn of times of rows that disagree, where they cannot be read and so resolve nothing."""
    if policy != "latest":
        return
    times = [time for conflict in conflicts if conflict.task != PATIENT for time in conflict.times]
    if unread := [time for time in times if math.isnan(parse_time(time))]:
        shown = next(filter(None, unread), "")
        logger.warning(
            "WARNING --label-conflict latest: %d of the %d times of rows that disagree in %s cannot be read "
            "and are ignored%s. Write 2021-09-21 07:07 in a column %s",
            *(len(unread), len(times), name),
            f", the first: {shown!r} (day or month first?)" if shown else ": there is none",
            TIME_COLUMN,
        )
