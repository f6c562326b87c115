"""A run's data: frames in the store, labels, groups and parts, put together and written down.

Notation: M frames in all, n of a part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import CONFLICTS, REJECTED, SPLIT
from simclr_rhd.core.files import write_rows
from simclr_rhd.data.decoding.decode import OK
from simclr_rhd.data.decoding.image import evenly_spaced, is_frame
from simclr_rhd.data.labels.labels import NOT_ANNOTATED, TASKS, Labels
from simclr_rhd.data.labels.pseudonyms import Pseudonyms
from simclr_rhd.data.labels.table import is_only_number
from simclr_rhd.data.splits.groups import explain_largest_group, make_groups
from simclr_rhd.data.splits.split import (
    PARTS,
    UNLABELLED,
    assign_unlabelled,
    check_disjoint,
    group_k_fold,
    group_train_val_test_split,
    not_evaluable,
    train_val_split,
)
from simclr_rhd.data.store.store import Store

DRY_RUN_FRAMES, DRY_RUN_GROUPS_PER_CLASS = (
    16,
    3,
)  # frames to pretrain on, and groups of each class, of a dress rehearsal


@dataclass(frozen=True)
class SplitAssignment:
    """One way to divide the frames.

    Attributes:
        part: (M,) 'train', 'val', 'test', 'unlabelled' (for pretraining) or 'held-out'.
        ssl_val: (M,) bool, held-out frames on which the contrastive loss is watched.
    """

    part: np.ndarray
    ssl_val: np.ndarray


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
        ssl_val: (M,) bool, held-out frames on which the contrastive loss is watched.
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
    ssl_val: np.ndarray
    folds: tuple[SplitAssignment, ...]
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
        return replace(self, part=self.folds[number].part, ssl_val=self.folds[number].ssl_val)

    def per_fold_datasets(self) -> list["Dataset"]:
        """The data as each fold divides them, where each fold has an encoder of its own."""
        return [] if self.pretrained_once else [self.in_fold(number) for number in range(len(self.folds))]

    def effective_videos(self) -> float:
        """How many videos the frames to pretrain on are of; of encoders of their own, the fewest.

        Counted by their frames: as many videos of one length as would make two random frames as seldom be of
        one video (the inverse of Simpson's index). One long clip among many stills is hardly more than one.
        """
        codes, ways = self.video_codes(), (self, *self.per_fold_datasets())
        counts = [np.unique(codes[divided.rows(UNLABELLED)], return_counts=True)[1] for divided in ways]
        return min(float(of.sum() ** 2 / (of**2).sum()) for of in counts)

    def describe_pretraining(self) -> str:
        """On which frames the encoder is pretrained, in words, and why that matters."""
        if len(self.folds) == 1:
            return "once, without the unlabelled frames of validation and test groups"
        if self.pretrained_once:
            return (
                "once, on unlabelled frames of groups without any label: no fold's encoder has seen a frame "
                "of a group that it is tested on"
            )
        return (
            "anew for each fold, without the unlabelled frames of its validation and test groups; the model "
            "that is kept has one of its own, and is itself tested on none"
        )

    def pseudonyms(self) -> Pseudonyms:
        """What frames and patients are called where others may look."""
        return Pseudonyms(self.store.keys, self.labels.patients, self.labels.table_patients)

    def display_part(self) -> np.ndarray:
        """(M,) parts as `split.csv` tells them: of labelled frames, with folds, the one that tests it."""
        told = self.part.copy()
        if len(self.folds) > 1:
            for number, fold in enumerate(self.folds, start=1):
                told[fold.part == "test"] = str(number)
        return told

    def tasks(self) -> list[str]:
        """The tasks that can be learnt: at least two classes in the training part, of every fold, too."""
        return [
            task
            for task in TASKS
            if all(self._count_train_classes(task, part) >= 2 for part in self._trained_parts())
        ]

    def _trained_parts(self) -> list[np.ndarray]:
        return [self.part, *(fold.part for fold in self.folds)]

    def _count_train_classes(self, task: str, part: np.ndarray) -> int:
        return len(set(self.labels.values[task][part == "train"].tolist()) - {NOT_ANNOTATED})

    def video_codes(self) -> np.ndarray:
        """(M,) int64: equal for frames of one video."""
        return np.unique(self.labels.videos, return_inverse=True)[1]

    def subset(self, rows: np.ndarray) -> "Dataset":
        """The data of some frames, with the split they have; the pictures are held in memory."""
        store, labels = self.store, self.labels
        few_store = replace(
            store,
            frames=store.frames[rows],
            keys=[store.keys[row] for row in rows],
            files=[store.files[row] for row in rows],
            color_modes=store.color_modes[rows],
            content_flags=store.content_flags[rows],
            digests=store.digests[rows],
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
            ssl_val=self.ssl_val[rows],
            folds=tuple(SplitAssignment(fold.part[rows], fold.ssl_val[rows]) for fold in self.folds),
        )

    def dry_run_subset(self, *, at_least: int = 0) -> "Dataset":
        """A few frames in which every part, or fold, has each class that it has, from several groups.

        Args:
            at_least: frames to pretrain on, where there are so many.
        """
        chosen: list[int] = []
        for rows in (self.rows(UNLABELLED), np.flatnonzero(self.ssl_val)):
            chosen += [
                *rows[evenly_spaced(len(rows), min(len(rows), max(DRY_RUN_FRAMES, at_least)))]
            ]  # of many videos
        told, labelled = self.display_part(), self.labelled()
        for part in np.unique(told[labelled]):
            for values in self.labels.values.values():
                for number in np.unique(values[values >= 0]):
                    here = labelled[(told[labelled] == part) & (values[labelled] == number)]
                    _, firsts = np.unique(self.groups[here], return_index=True)
                    chosen += [*here[firsts[:DRY_RUN_GROUPS_PER_CLASS]]]
        return self.subset(np.unique(chosen))

    def parts(self, *more: str) -> dict[str, dict[str, int]]:
        """Frames and groups of each part of `display_part` that has labels, and of `more` parts."""
        told = self.display_part()
        folds = range(1, len(self.folds) + 1)
        names = list(PARTS) if len(self.folds) == 1 else [str(number) for number in folds]
        return {
            part: {"frames": int((told == part).sum()), "groups": len(np.unique(self.groups[told == part]))}
            for part in (*names, *more)
        }

    def class_info(self) -> dict[str, dict[str, Any]]:
        """{task: its classes, and those that cannot be evaluated}."""
        return {
            task: {"classes": self.labels.classes[task], "not_evaluable": self.not_evaluable[task]}
            for task in TASKS
        }


def build_dataset(
    store: Store,
    labels: Labels,
    fingerprint: str,
    *,
    group_by: str,
    folds: int,
    pretrain_per_fold: bool,
    seed: int,
) -> Dataset:
    """Groups and parts; the arguments as of `load.read_dataset`.

    Raises:
        UserError: there are too few groups.
    """
    pictures = [
        (video, digest)
        for video, digest, look in zip(
            labels.videos, store.digests.tolist(), store.content_flags, strict=True
        )
        if look == OK  # any two black frames are the same picture
    ]
    names, split_by = make_groups(
        labels.videos,
        labels.patients,
        group_by,
        ambiguous_patients=labels.ambiguous_patients,
        pictures=pictures,
    )
    groups, labelled = np.array(names), labels.annotated()
    try:
        kept, divided = _make_splits(
            groups,
            labelled,
            [labels.values[task][labelled] for task in TASKS],
            folds=folds,
            pretrain_per_fold=pretrain_per_fold,
            seed=seed,
        )
    except UserError as error:
        why = explain_largest_group(labels.videos, labels.patients, pictures) or _numbered_stills_note(
            [store.files[row] for row in np.flatnonzero(labelled).tolist()]
        )
        raise UserError(f"{error}. {why}".strip()) from None
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
        ssl_val=kept.ssl_val,
        folds=divided,
        pretrained_once=folds == 1 or not pretrain_per_fold,
        leaky=False,
        not_evaluable=missing,
        fingerprint=fingerprint,
    )
    known = labels.videos, labels.patients
    return replace(dataset, leaky=any(_is_leaky(of, parts.part) for of in known for parts in divided))


def _numbered_stills_note(files: Sequence[str]) -> str:
    """A sentence on labelled files most of which are stills with only a number for a name; "" elsewhere."""
    numbered = [file for file in files if is_frame(file) and is_only_number(file)]
    if 2 * len(numbered) <= len(files):
        return ""
    return (
        f"{len(numbered)} labelled stills, such as {numbered[0]}, have only a number for a name, and so are "
        "of the video that their folder is called: give each clip a folder, or call a frame "
        "<video>_frame<number>"
    )


def _make_splits(
    groups: np.ndarray,
    labelled: np.ndarray,
    values: list[np.ndarray],
    *,
    folds: int,
    pretrain_per_fold: bool,
    seed: int,
) -> tuple[SplitAssignment, tuple[SplitAssignment, ...]]:
    """The parts of the model that is kept, and those of each fold; `values` are of the labelled frames."""
    of_labelled = groups[labelled].tolist()
    if folds == 1:
        kept = SplitAssignment(
            *assign_unlabelled(
                groups, labelled, group_train_val_test_split(of_labelled, values, seed=seed), seed=seed
            )
        )
        return kept, (kept,)
    ways = [
        train_val_split(of_labelled, values, seed=[seed, 9]),
        *group_k_fold(of_labelled, values, folds, seed=seed),
    ]
    if pretrain_per_fold:
        divided = [SplitAssignment(*assign_unlabelled(groups, labelled, parts, seed=seed)) for parts in ways]
    else:  # every labelled group is tested by some fold, so the one encoder may see none of them
        tested = np.full(len(of_labelled), "test")
        part, ssl_val = assign_unlabelled(groups, labelled, tested, seed=seed)
        divided = []
        for parts in ways:
            part = part.copy()
            part[labelled] = parts
            divided.append(SplitAssignment(part, ssl_val))
    return divided[0], tuple(divided[1:])


def _is_leaky(names: list[str], part: np.ndarray) -> bool:
    """Whether frames of one video or patient are both learnt from (labelled or not) and tested on."""
    sides = [
        {name for name, on in zip(names, np.isin(part, side), strict=True) if on and name}
        for side in (("train", UNLABELLED), ("val",), ("test",))
    ]
    return bool(sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def write_tables(dataset: Dataset, save_dir: Path) -> None:
    """`rejected.csv`, `conflicts.csv` and `split.csv`: what was left out, what disagrees, what went where."""
    store, labels = dataset.store, dataset.labels
    write_rejected(store, save_dir / REJECTED)
    write_rows(
        save_dir / CONFLICTS,
        ["path", "task", "readings", "users", "times", "used"],
        [
            (c.file, c.task, " | ".join(c.readings), " | ".join(c.users), " | ".join(c.times), c.used)
            for c in labels.conflicts
        ],
    )
    write_rows(
        save_dir / SPLIT,
        ["path", "video", "patient", "group", "part"],
        zip(store.keys, labels.videos, labels.patients, dataset.groups, dataset.display_part(), strict=True),
    )


def write_rejected(store: Store, path: Path) -> None:
    """`rejected.csv`: what could not be read, and why."""
    write_rows(path, ["path", "reason"], store.rejected)
