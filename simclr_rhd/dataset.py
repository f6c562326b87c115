"""A run's data: frames in the store, labels, groups and parts, put together and written down.

Notation: M frames in all, n of a part.
"""

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simclr_rhd.clips import evenly
from simclr_rhd.errors import UserError
from simclr_rhd.files import write_rows
from simclr_rhd.groups import make_groups
from simclr_rhd.labels import NOT_ANNOTATED, TASKS, Labels, read_labels
from simclr_rhd.listing import Entry, Source
from simclr_rhd.media import ORDINARY
from simclr_rhd.split import (
    PARTS,
    UNLABELLED,
    WATCHED_SHARE,
    check_disjoint,
    choosing_split,
    fold_groups,
    not_evaluable,
    part_of_all,
    split_groups,
)
from simclr_rhd.store import Store, check_rejected, is_there, open_store, sample, stored_side

logger = logging.getLogger("simclr_rhd")

HANDFUL, GROUPS_OF_CLASS = 16, 3  # frames to pretrain on, and groups of each class, of a dress rehearsal


@dataclass(frozen=True)
class Parts:
    """One way to divide the frames.

    Attributes:
        part: (M,) 'train', 'val', 'test', 'unlabelled' (for pretraining) or 'held-out'.
        watched: (M,) bool, held-out frames on which the contrastive loss is watched.
    """

    part: np.ndarray
    watched: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Everything that is known of the frames before anything is learnt.

    Attributes:
        store: M decoded frames.
        labels: their labels, videos and patients.
        groups: (M,) names; frames of one group never stand on two sides.
        split_by: what the groups are: 'patient', 'video' or 'frame'.
        part: (M,) 'train', 'val', 'test', 'unlabelled' (for pretraining) or 'held-out': of the model that is
            kept. In cross-validation that model is tested on nothing, but learns from all groups.
        watched: (M,) bool, held-out frames on which the contrastive loss is watched.
        folds: how the frames are divided in each fold; a single split is one fold, with the parts above.
        pretrained_once: whether all folds have one encoder, which has seen no frame of a labelled group
            (True for a single split).
        leaky: whether frames of one patient or video stand on two sides.
        not_evaluable: {task: [{"class", "reason"}]}.
        fingerprint: hash of all frames' contents and of the label table.
    """

    store: Store
    labels: Labels
    groups: np.ndarray
    split_by: str
    part: np.ndarray
    watched: np.ndarray
    folds: tuple[Parts, ...]
    pretrained_once: bool
    leaky: bool
    not_evaluable: dict[str, list[dict[str, str]]]
    fingerprint: str

    def rows(self, *parts: str) -> np.ndarray:
        """(n,) indices of the frames of some parts."""
        return np.flatnonzero(np.isin(self.part, parts))

    def labelled(self) -> np.ndarray:
        """(N,) indices of the frames with a label, of whatever part."""
        return self.rows(*PARTS)

    def in_fold(self, number: int) -> "Dataset":
        """The same data, divided as in a fold."""
        return replace(self, part=self.folds[number].part, watched=self.folds[number].watched)

    def told_part(self) -> np.ndarray:
        """(M,) parts as `split.csv` tells them: of labelled frames, with folds, the one that tests it."""
        told = self.part.copy()
        if len(self.folds) > 1:
            for number, fold in enumerate(self.folds, start=1):
                told[fold.part == "test"] = str(number)
        return told

    def tasks(self) -> list[str]:
        """The tasks that can be learnt: at least two classes in the training part, of every fold, too."""
        return [task for task in TASKS if all(self._classes_of(task, part) >= 2 for part in self._trained())]

    def _trained(self) -> list[np.ndarray]:
        return [self.part, *(fold.part for fold in self.folds)]

    def _classes_of(self, task: str, part: np.ndarray) -> int:
        return len(set(self.labels.values[task][part == "train"].tolist()) - {NOT_ANNOTATED})

    def video_codes(self) -> np.ndarray:
        """(M,) int64: equal for frames of one video."""
        return np.unique(self.labels.videos, return_inverse=True)[1]

    def some(self, rows: np.ndarray) -> "Dataset":
        """The data of some frames, with the split they have; the pictures are held in memory."""
        store, labels = self.store, self.labels
        few_store = replace(
            store,
            frames=store.frames[rows],
            keys=[store.keys[row] for row in rows],
            files=[store.files[row] for row in rows],
            kinds=store.kinds[rows],
            looks=store.looks[rows],
            digests=[store.digests[row] for row in rows],
        )
        few_labels = replace(
            labels,
            values={task: values[rows] for task, values in labels.values.items()},
            videos=[labels.videos[row] for row in rows],
            patients=[labels.patients[row] for row in rows],
        )
        return replace(
            self,
            store=few_store,
            labels=few_labels,
            groups=self.groups[rows],
            part=self.part[rows],
            watched=self.watched[rows],
            folds=tuple(Parts(fold.part[rows], fold.watched[rows]) for fold in self.folds),
        )

    def handful(self) -> "Dataset":
        """A few frames in which every part, or fold, has each class that it has, from several groups."""
        chosen: list[int] = []
        for rows in (self.rows(UNLABELLED), np.flatnonzero(self.watched)):
            chosen += [*rows[evenly(len(rows), min(len(rows), HANDFUL))]]  # of many videos
        told, labelled = self.told_part(), self.labelled()
        for part in np.unique(told[labelled]):
            for values in self.labels.values.values():
                for number in np.unique(values[values >= 0]):
                    here = labelled[(told[labelled] == part) & (values[labelled] == number)]
                    _, firsts = np.unique(self.groups[here], return_index=True)
                    chosen += [*here[firsts[:GROUPS_OF_CLASS]]]
        return self.some(np.unique(chosen))

    def parts(self, *more: str) -> dict[str, dict[str, int]]:
        """Frames and groups of each part of `told_part` that has labels, and of `more` parts."""
        told = self.told_part()
        folds = range(1, len(self.folds) + 1)
        names = list(PARTS) if len(self.folds) == 1 else [str(number) for number in folds]
        return {
            part: {"frames": int((told == part).sum()), "groups": len(np.unique(self.groups[told == part]))}
            for part in (*names, *more)
        }

    def known(self) -> dict[str, dict[str, Any]]:
        """{task: its classes, and those that cannot be evaluated}."""
        return {
            task: {"classes": self.labels.classes[task], "not_evaluable": self.not_evaluable[task]}
            for task in TASKS
        }


class Listed(NamedTuple):
    """What a source has: labelled and unlabelled files, the table, and all files of frames, by key."""

    labelled: list[Entry]
    unlabelled: list[Entry]
    table: Entry
    frames: list[Entry]


def list_files(source: Source, *, labelled_prefix: str, unlabelled_prefix: str, labels_csv: str) -> Listed:
    """Find a source's files; arguments as of `read_dataset`.

    Raises:
        UserError: there are none, or no table.
    """
    labelled = source.files(labelled_prefix, flag="--labelled-prefix")
    unlabelled = source.files(unlabelled_prefix, flag="--unlabelled-prefix")
    table = source.entry(labels_csv)
    entries = {entry.key: entry for entry in (*labelled, *unlabelled) if entry.key != table.key}
    return Listed(labelled, unlabelled, table, [entries[key] for key in sorted(entries)])


@dataclass(frozen=True)
class Ahead:
    """What is known of data that are not decoded yet, from their listing and a sample.

    Attributes:
        labelled: labelled frames, about.
        rows: frames to pretrain on, about.
        watched: frames held out of it, about.
        grey: whether all frames seen are grey.
        files: to be fetched and decoded.
        bytes: of the files where they are.
        decoded: bytes of the decoded frames.
        seconds: to fetch and decode them.
    """

    labelled: int
    rows: int
    watched: int
    grey: bool
    files: int
    bytes: int
    decoded: float
    seconds: float


def look_ahead(
    source: Source,
    *,
    labelled_prefix: str,
    unlabelled_prefix: str,
    labels_csv: str,
    image_size: int,
    cache_dir: Path,
    frames_per_clip: int | None,
) -> Ahead | None:
    """What `read_dataset`, of these arguments, would have to do; None where the decoded frames are at hand.

    Raises:
        UserError: there are no files.
    """
    found = list_files(
        source, labelled_prefix=labelled_prefix, unlabelled_prefix=unlabelled_prefix, labels_csv=labels_csv
    )
    how: dict[str, Any] = {
        "side": stored_side(image_size),
        "cache_dir": cache_dir,
        "most": frames_per_clip,
    }
    if is_there(source, found.frames, **how):
        return None
    inside = {entry.key for entry in found.labelled}
    parts = found.labelled, [entry for entry in found.unlabelled if entry.key not in inside]
    samples = [sample(source, part, **how) for part in parts]
    labelled, unlabelled = (
        round(len(part) * of_file.frames) for part, of_file in zip(parts, samples, strict=True)
    )
    return Ahead(
        labelled=labelled,
        rows=round(unlabelled * (1 - WATCHED_SHARE)),
        watched=round(unlabelled * WATCHED_SHARE),
        grey=all(of_file.grey for of_file in samples),
        files=len(found.frames),
        bytes=sum(entry.size for entry in found.frames),
        decoded=sum(len(part) * of_file.bytes for part, of_file in zip(parts, samples, strict=True)),
        seconds=sum(len(part) * of_file.seconds for part, of_file in zip(parts, samples, strict=True)),
    )


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
    folds: int,
    pretrain_per_fold: bool,
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
        folds: of the cross-validation; 1 for a single split.
        pretrain_per_fold: whether each fold has an encoder of its own.
        seed: of the split.
        rejected_csv: where the unreadable frames are listed if they are too many.

    Raises:
        UserError: something of this cannot be used.
    """
    listed = list_files(
        source, labelled_prefix=labelled_prefix, unlabelled_prefix=unlabelled_prefix, labels_csv=labels_csv
    )
    labelled, unlabelled = listed.labelled, listed.unlabelled
    logger.info("data: %s: %d labelled, %d unlabelled files", source.location, len(labelled), len(unlabelled))
    table = _fetch_table(source, listed.table)

    store = open_store(
        source,
        listed.frames,
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
    dataset = _split(
        store,
        labels,
        fingerprint,
        group_by=group_by,
        folds=folds,
        pretrain_per_fold=pretrain_per_fold,
        seed=seed,
    )
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
        zip(store.keys, labels.videos, labels.patients, dataset.groups, dataset.told_part(), strict=True),
    )


def _write_rejected(store: Store, path: Path) -> None:
    write_rows(path, ["path", "reason"], store.rejected)


def _split(
    store: Store,
    labels: Labels,
    fingerprint: str,
    *,
    group_by: str,
    folds: int,
    pretrain_per_fold: bool,
    seed: int,
) -> Dataset:
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
    try:
        kept, divided = _divide(
            groups,
            labelled,
            [labels.values[task][labelled] for task in TASKS],
            folds=folds,
            pretrain_per_fold=pretrain_per_fold,
            seed=seed,
        )
    except UserError as error:
        raise UserError(
            f"{error}. Videos with a patient or a picture in common are one group: a title card that stands "
            "in every clip joins them all"
        ) from None
    for parts in (kept, *divided):
        check_disjoint(groups, parts.part)
    of_labelled = [parts.part[labelled] for parts in divided]
    missing = {
        task: not_evaluable(
            labels.values[task][labelled], labels.classes[task], groups[labelled], of_labelled
        )
        for task in TASKS
    }
    dataset = Dataset(
        store=store,
        labels=labels,
        groups=groups,
        split_by=split_by,
        part=kept.part,
        watched=kept.watched,
        folds=divided,
        pretrained_once=folds == 1 or not pretrain_per_fold,
        leaky=False,
        not_evaluable=missing,
        fingerprint=fingerprint,
    )
    told = dataset.told_part()[labelled]
    leaky = any(_spans_parts(np.array(of)[labelled], told) for of in (labels.videos, labels.patients))
    return replace(dataset, leaky=leaky)


def _divide(
    groups: np.ndarray,
    labelled: np.ndarray,
    values: list[np.ndarray],
    *,
    folds: int,
    pretrain_per_fold: bool,
    seed: int,
) -> tuple[Parts, tuple[Parts, ...]]:
    """The parts of the model that is kept, and those of each fold; `values` are of the labelled frames."""
    of_labelled = groups[labelled].tolist()
    if folds == 1:
        kept = Parts(*part_of_all(groups, labelled, split_groups(of_labelled, values, seed=seed), seed=seed))
        return kept, (kept,)
    ways = [
        choosing_split(of_labelled, values, seed=[seed, 9]),
        *fold_groups(of_labelled, values, folds, seed=seed),
    ]
    if pretrain_per_fold:
        divided = [Parts(*part_of_all(groups, labelled, parts, seed=seed)) for parts in ways]
    else:  # every labelled group is tested by some fold, so the one encoder may see none of them
        tested = np.full(len(of_labelled), "test")
        part, watched = part_of_all(groups, labelled, tested, seed=seed)
        divided = []
        for parts in ways:
            part = part.copy()
            part[labelled] = parts
            divided.append(Parts(part, watched))
    return divided[0], tuple(divided[1:])


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
