"""Another labelled data set as it is read: frames, labels and groups, without any split."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import cache_folder
from simclr_rhd.data.config import LabelledDataConfig
from simclr_rhd.data.decoding.decode import OK
from simclr_rhd.data.decoding.salt import load_salt
from simclr_rhd.data.labelled_set import LabelledSet
from simclr_rhd.data.labels.labels import Labels
from simclr_rhd.data.labels.pseudonyms import Pseudonyms
from simclr_rhd.data.labels.tasks.flag import parse_tasks, tasks_text
from simclr_rhd.data.labels.vocabulary import DEFAULT_TASKS
from simclr_rhd.data.load import read_labelled_frames
from simclr_rhd.data.sources.base import Source
from simclr_rhd.data.splits.groups import make_groups
from simclr_rhd.data.store.store import Store
from simclr_rhd.data.summary.sentences import label_lines
from simclr_rhd.inference.classifier import Classifier
from simclr_rhd.inference.external.config import ExternalConfig
from simclr_rhd.inference.external.overlap import ComparedFrames, Overlap, find_overlap, refuse_known
from simclr_rhd.inference.external.training_record import is_hashed
from simclr_rhd.runs.test_evaluations import digest_pictures


@dataclass(frozen=True)
class ExternalData:
    """Another labelled data set.

    Attributes:
        store: N decoded frames.
        labels: of them.
        groups: (N,) names.
        split_by: what the groups are: 'patient', 'video' or 'frame'.
        rows: (n,) the labelled frames that are evaluated.
        fingerprint: hash of all frames' contents and of the label table.
    """

    store: Store
    labels: Labels
    groups: np.ndarray
    split_by: str
    rows: np.ndarray
    fingerprint: str

    def patients(self) -> list[str]:
        """The patient of each of the n frames, "" where unknown."""
        return [self.labels.patients[row] for row in self.rows.tolist()]

    def pictures(self) -> str:
        """A digest of the n pictures alone, without their labels."""
        return digest_pictures(self.store.digests[self.rows])

    def labelled_set(self, *, multilabel: bool) -> LabelledSet:
        """The n frames with the classes of their table; all are tested.

        Args:
            multilabel: whether conditions are predicted lesion by lesion.
        """
        rows, labels = self.rows, self.labels
        return LabelledSet(
            paths=[self.store.keys[row] for row in rows],
            videos=np.array(labels.videos)[rows],
            patients=np.array(labels.patients)[rows],
            groups=self.groups[rows],
            values={task: values[rows] for task, values in labels.values.items()},
            classes=labels.classes,
            folds=[np.full(len(rows), "test")],
            multilabel=multilabel,
            tasks=labels.tasks,
        )

    def sentences(self) -> list[str]:
        """The data set in sentences for the log."""
        labels, rows = self.labels, self.rows.tolist()
        videos, patients = ({names[row] for row in rows} - {""} for names in (labels.videos, labels.patients))
        resolved = sum(bool(conflict.used) for conflict in labels.conflicts)
        return [
            f"frames: {len(self.store.keys)}, {len(rows)} of them labelled and evaluated, of {len(videos)} "
            f"videos; {len(patients) or 'no'} patients; {len(self.store.rejected)} files left out or not "
            "whole (rejected.csv)",
            *label_lines(labels, {"found": len(labels.conflicts), "settled": resolved}),
        ]

    def plain(self) -> np.ndarray:
        """(n,) bool: frames that are near-black or of one colour."""
        flags: np.ndarray = self.store.content_flags[self.rows] != OK
        return flags


def read_external(
    source: Source, config: LabelledDataConfig, *, size: int, rejected_csv: Path
) -> ExternalData:
    """Read another labelled data set.

    Args:
        source: a folder or a bucket.
        config: of the data.
        size: pixels of a view's side, of the model.
        rejected_csv: where the unreadable frames are listed if they are too many.

    Raises:
        UserError: it cannot be used.
    """
    data = read_labelled_frames(source, config, size=size, rejected_csv=rejected_csv)
    labels = data.labels
    groups, unit = make_groups(
        labels.videos,
        labels.patients,
        config.group_by,
        ambiguous_patients=labels.ambiguous_patients,
        pictures=data.store.pictures(labels.videos),
    )
    rows = np.flatnonzero(labels.annotated())
    if not len(rows):
        raise UserError(f"--labels-csv {config.labels_csv}: no frame has a label that can be used")
    return ExternalData(data.store, labels, np.array(groups), unit, rows, data.fingerprint)


def check_against_training(
    data: ExternalData, model: Classifier, config: ExternalConfig
) -> tuple[ExternalData, Overlap]:
    """Refuse or leave out what the model has learnt from.

    Where a frame or a patient is known, the whole group is left out.

    Returns:
        The data that may be evaluated, and the overlap.

    Raises:
        UserError: some of it is known and is not to be left out, or nothing is left.
    """
    patients, rows = data.patients(), data.rows
    secret = load_salt(cache_folder(config.cache_dir)) if any(map(is_hashed, patients)) else b""
    frames = ComparedFrames(data.store.digests[rows], data.store.content_flags[rows], patients, secret)
    overlap, known = find_overlap(model.record, frames, ignore_patients=config.ignore_patient_ids)
    if not config.exclude_known:
        names = Pseudonyms(data.store.keys, data.labels.patients, data.labels.table_patients)
        refuse_known(config.data, overlap, known, names, rows)
    groups = data.groups[rows]
    left = ~np.isin(groups, groups[known])
    if not left.any():
        raise UserError(
            f"--data {config.data}: nothing is left to evaluate on: the model has learnt from all of its "
            f"{len(rows)} labelled frames, or from their patients"
        )
    return replace(data, rows=rows[left]), replace(overlap, left_out=int((~left).sum()))


def with_tasks(config: ExternalConfig, model: Classifier) -> ExternalConfig:
    """The configuration with the columns that the model has learnt, where no flag names others.

    Raises:
        UserError: the columns do not fit the model.
    """
    text = config.tasks or str(model.facts.trained_on.get("tasks") or tasks_text(DEFAULT_TASKS))
    try:
        tasks = parse_tasks(text)
    except ValueError as error:
        raise UserError(f"--tasks {text}: {error}") from None
    for task in tasks:
        by_lesion = task.multilabel and bool(model.heads.multilabel)
        if task.name in model.facts.classes and by_lesion != (task.name in model.heads.multilabel):
            raise UserError(
                f"--tasks {text}: of {task.name} the model has learnt "
                f"{'one class' if by_lesion else 'lists of findings'}; wanted the same here"
            )
    return replace(config, tasks=text)
