"""A run's data: frames in the store, labels, groups and parts, put together and written down.

Notation: M frames in all, n of a part.
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simclr_rhd.errors import UserError
from simclr_rhd.files import write_rows
from simclr_rhd.labels import NOT_ANNOTATED, TASKS, Labels, read_labels
from simclr_rhd.listing import Entry, Source
from simclr_rhd.media import ORDINARY
from simclr_rhd.split import (
    check_disjoint,
    make_groups,
    not_evaluable,
    part_of_all,
    split_groups,
)
from simclr_rhd.store import Store, check_rejected, open_store, stored_side

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class Dataset:
    """Everything that is known of the frames before anything is learnt.

    Attributes:
        store: M decoded frames.
        labels: their labels, videos and patients.
        groups: (M,) names; frames of one group never stand on two sides.
        split_by: what the groups are: 'patient', 'video' or 'frame'.
        part: (M,) 'train', 'val', 'test', 'unlabelled' (for pretraining) or 'held-out'.
        watched: (M,) bool, held-out frames on which the contrastive loss is watched.
        leaky: whether frames of one patient or video stand in two of train, val and test.
        not_evaluable: {task: [{"class", "reason"}]}.
        fingerprint: hash of all frames' contents and of the label table.
    """

    store: Store
    labels: Labels
    groups: np.ndarray
    split_by: str
    part: np.ndarray
    watched: np.ndarray
    leaky: bool
    not_evaluable: dict[str, list[dict[str, str]]]
    fingerprint: str

    def rows(self, *parts: str) -> np.ndarray:
        """(n,) indices of the frames of some parts."""
        return np.flatnonzero(np.isin(self.part, parts))

    def tasks(self) -> list[str]:
        """The tasks that can be learnt: at least two classes in the training part."""
        train = self.rows("train")
        return [
            task
            for task in TASKS
            if len(set(self.labels.values[task][train].tolist()) - {NOT_ANNOTATED}) >= 2
        ]

    def of_part(self, part: str) -> dict[str, int]:
        """Frames and groups of a part."""
        rows = self.rows(part)
        return {"frames": len(rows), "groups": len(set(self.groups[rows].tolist()))}


def read_dataset(
    source: Source,
    *,
    labelled_prefix: str,
    unlabelled_prefix: str,
    labels_csv: str,
    image_size: int,
    cache_dir: Path,
    frames_per_clip: int | None,
    max_rejected: float,
    label_conflict: str,
    group_by: str,
    seed: int,
    rejected_csv: Path,
) -> Dataset:
    """List, fetch, decode, label, group and split.

    Args:
        source: a folder or a bucket.
        labelled_prefix: folder of the labelled frames.
        unlabelled_prefix: folder of the unlabelled frames.
        labels_csv: the label table.
        image_size: pixels of a view's side.
        cache_dir: where fetched and decoded frames are kept.
        frames_per_clip: evenly spaced frames of a clip or DICOM file at most; None for all.
        max_rejected: share of unreadable files allowed.
        label_conflict: what to do where rows of one file disagree.
        group_by: what never stands on two sides.
        seed: of the split.
        rejected_csv: where the unreadable frames are listed if they are too many.

    Raises:
        UserError: something of this cannot be used.
    """
    labelled = source.files(labelled_prefix, flag="--labelled-prefix")
    unlabelled = source.files(unlabelled_prefix, flag="--unlabelled-prefix")
    table_entry = source.entry(labels_csv)
    entries = {entry.key: entry for entry in (*labelled, *unlabelled) if entry.key != table_entry.key}
    logger.info("data: %s: %d labelled, %d unlabelled files", source.location, len(labelled), len(unlabelled))
    table = _fetch_table(source, table_entry)

    store = open_store(
        source,
        [entries[key] for key in sorted(entries)],
        side=stored_side(image_size),
        cache_dir=cache_dir,
        most=frames_per_clip,
    )
    try:
        check_rejected(store, max_rejected)
    except UserError as error:
        _write_rejected(store, rejected_csv)
        raise UserError(f"{error}\nAll are listed in {rejected_csv}") from None

    labels = read_labels(
        table,
        labels_csv,
        files=store.files,
        listed=[entry.key for entry in labelled],
        prefixes=(labelled_prefix, unlabelled_prefix),
        hashed_patients=store.patients,
        policy=label_conflict,
    )
    fingerprint = hashlib.sha256(store.fingerprint.encode() + table).hexdigest()
    dataset = _split(store, labels, fingerprint, group_by=group_by, seed=seed)
    if not dataset.tasks():
        raise UserError(
            f"--labels-csv {labels_csv}: there is nothing to learn: in the training part no task has "
            f"two classes. Found: {labels.classes}"
        )
    return dataset


def write_tables(dataset: Dataset, save_dir: Path) -> None:
    """`rejected.csv`, `conflicts.csv` and `split.csv`: what was left out, what disagrees, what went where."""
    store, labels = dataset.store, dataset.labels
    _write_rejected(store, save_dir / "rejected.csv")
    write_rows(
        save_dir / "conflicts.csv",
        ["path", "task", "readings", "users", "times", "used"],
        [
            (c.file, c.task, " | ".join(c.readings), " | ".join(c.users), " | ".join(c.times), c.used)
            for c in labels.conflicts
        ],
    )
    write_rows(
        save_dir / "split.csv",
        ["path", "video", "patient", "group", "part"],
        zip(store.keys, labels.videos, labels.patients, dataset.groups, dataset.part, strict=True),
    )


def _write_rejected(store: Store, path: Path) -> None:
    write_rows(path, ["path", "reason"], store.rejected)


def _split(store: Store, labels: Labels, fingerprint: str, *, group_by: str, seed: int) -> Dataset:
    names, split_by = make_groups(
        labels.videos,
        labels.patients,
        group_by,
        doubts=labels.doubts,
        pictures=[
            (video, digest)
            for video, digest, look in zip(labels.videos, store.digests, store.looks, strict=True)
            if look == ORDINARY  # any two black frames are the same picture
        ],
    )
    groups, labelled = np.array(names), labels.annotated()
    values = {task: labels.values[task][labelled] for task in TASKS}
    try:
        parts = split_groups(groups[labelled], list(values.values()), seed=seed)
    except UserError as error:
        raise UserError(
            f"{error}. Videos with a patient or a picture in common are one group: a title card that stands "
            "in every clip joins them all"
        ) from None
    part, watched = part_of_all(names, labelled, parts, seed=seed)
    check_disjoint(groups, part)
    missing = {
        task: not_evaluable(values[task], labels.classes[task], groups[labelled], parts) for task in TASKS
    }
    leaky = any(_spans_parts(np.array(of)[labelled], parts) for of in (labels.videos, labels.patients))
    return Dataset(store, labels, groups, split_by, part, watched, leaky, missing, fingerprint)


def _spans_parts(names: np.ndarray, parts: np.ndarray) -> bool:
    """Whether frames of one video or patient stand in two parts."""
    pairs = {(name, part) for name, part in zip(names.tolist(), parts.tolist(), strict=True) if name}
    return len(pairs) > len({name for name, _ in pairs})


def _fetch_table(source: Source, entry: Entry) -> bytes:
    paths, failed = source.fetch([entry])
    if failed:
        raise UserError(f"--labels-csv {entry.key}: could not be fetched: {failed[entry.key]}")
    try:
        return paths[entry.key].read_bytes()
    except OSError as error:
        raise UserError(f"--labels-csv {entry.key}: {error.strerror}") from None
