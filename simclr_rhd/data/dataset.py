"""A run's data: frames in the store, labels, groups and parts.

Notation: M frames in all, n of a part.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.attributes.attributes import NO_ATTRIBUTES, FrameAttributes
from simclr_rhd.data.attributes.division import FramesToSplit, divide
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.decoding.file_types import is_frame
from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.labels.labels import Labels
from simclr_rhd.data.labels.pseudonyms import Pseudonyms
from simclr_rhd.data.labels.table import is_only_number
from simclr_rhd.data.labels.vocabulary import NOT_ANNOTATED
from simclr_rhd.data.splits.groups import explain_largest_group, make_groups
from simclr_rhd.data.splits.split import PARTS, UNLABELLED, check_disjoint, crosses_sides, not_evaluable
from simclr_rhd.data.splits.unlabelled import SplitAssignment
from simclr_rhd.data.store.store import Store

DRY_RUN_FRAMES, DRY_RUN_GROUPS_PER_CLASS = 16, 3  # frames to pretrain on, groups of each class


@dataclass(frozen=True)
class Dataset:
    """The frames, their labels and their split.

    Attributes:
        store: M decoded frames.
        labels: their labels, videos and patients.
        groups: (M,) names; frames of one group never stand on two sides.
        split_by: what the groups are: 'patient', 'video' or 'frame'.
        part: (M,) 'train', 'val', 'test', 'unlabelled' (for pretraining) or 'held-out': of the final
            model. In cross-validation that model is tested on nothing, but learns from all groups.
        ssl_val: (M,) bool, held-out frames of the contrastive validation loss.
        folds: the split of each fold; a single split is one fold, with the parts above.
        pretrained_once: whether all folds have one encoder, which has seen no frame of a labelled group
            (True for a single split).
        leaky: whether frames of one patient or video stand on two sides.
        not_evaluable: {task: [{"class", "reason"}]}.
        fingerprint: hash of all frames' contents and of the label table.
        attributes: of the frames, from the tables.
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
    attributes: FrameAttributes = NO_ATTRIBUTES

    def rows(self, *parts: str) -> np.ndarray:
        """(n,) indices of the frames of some parts."""
        return np.flatnonzero(np.isin(self.part, parts))

    def labelled(self) -> np.ndarray:
        """(N,) indices of the frames with a label, of whatever part."""
        return self.rows(*PARTS)

    def in_fold(self, number: int) -> "Dataset":
        """Return the data with the parts of one fold."""
        return replace(self, **self.folds[number]._asdict())

    def per_fold_datasets(self) -> list["Dataset"]:
        """The data as each fold divides them, where each fold has an encoder of its own."""
        return [] if self.pretrained_once else [self.in_fold(number) for number in range(len(self.folds))]

    def effective_videos(self) -> float:
        """The number of videos to pretrain on; of encoders of their own, the fewest.

        Counted by their frames: as many videos of one length as would make two random frames as seldom be of
        one video (the inverse of Simpson's index). One long clip among many stills is hardly more than one.
        """
        codes, datasets = self.video_codes(), (self, *self.per_fold_datasets())
        counts = [np.unique(codes[dataset.rows(UNLABELLED)], return_counts=True)[1] for dataset in datasets]
        return min(float(frames.sum() ** 2 / (frames**2).sum()) for frames in counts)

    def describe_pretraining(self) -> str:
        """A sentence on the frames that the encoder is pretrained on, and why that matters."""
        if len(self.folds) == 1:
            return "once, without the unlabelled frames of validation and test groups"
        note = self.attributes.pretraining_note(once=self.pretrained_once)
        if self.pretrained_once:
            return (
                "once, on unlabelled frames of groups without any label: no fold's encoder has seen a frame "
                f"of a group that it is tested on{note}"
            )
        return (
            "anew for each fold, without the unlabelled frames of its validation and test groups; the model "
            f"that is kept has one of its own, and is itself tested on none{note}"
        )

    def pseudonyms(self) -> Pseudonyms:
        """The names of frames and patients in files that may be sent on."""
        return Pseudonyms(self.store.keys, self.labels.patients, self.labels.table_patients)

    def display_part(self) -> np.ndarray:
        """(M,) parts as in `split.csv`: of labelled frames, with folds, that which tests it."""
        part = self.part.copy()
        if len(self.folds) > 1:
            for number, fold in enumerate(self.folds, start=1):
                part[fold.part == "test"] = str(number)
        return part

    def tasks(self) -> list[str]:
        """The tasks that can be learnt: at least two classes in the training part, of every fold, too."""
        splits = [self.part, *(fold.part for fold in self.folds)]
        return [
            task
            for task in self.labels.classes
            if all(self._n_train_classes(task, part) > 1 for part in splits)
        ]

    def _n_train_classes(self, task: str, part: np.ndarray) -> int:
        return len(set(self.labels.values[task][part == "train"].tolist()) - {NOT_ANNOTATED})

    def video_codes(self) -> np.ndarray:
        """(M,) int64: equal for frames of one video."""
        return np.unique(self.labels.videos, return_inverse=True)[1]

    def subset(self, rows: np.ndarray) -> "Dataset":
        """The data of some frames, with the split they have; the pictures are in memory."""
        return replace(
            self,
            store=self.store.subset(rows),
            labels=self.labels.subset(rows),
            groups=self.groups[rows],
            part=self.part[rows],
            ssl_val=self.ssl_val[rows],
            folds=tuple(fold.subset(rows) for fold in self.folds),
            attributes=self.attributes.subset(rows),
        )

    def dry_run_subset(self, *, at_least: int = 0) -> "Dataset":
        """Select a few frames of each class from each part or fold, from several groups.

        Args:
            at_least: frames to pretrain on, where there are so many.
        """
        chosen: list[int] = []
        for rows in (self.rows(UNLABELLED), np.flatnonzero(self.ssl_val)):
            chosen += [*rows[evenly_spaced(len(rows), max(DRY_RUN_FRAMES, at_least))]]  # of many videos
        parts, labelled = self.display_part(), self.labelled()
        for part in np.unique(parts[labelled]):
            for values in self.labels.values.values():
                for number in np.unique(values[values >= 0]):
                    here = labelled[(parts[labelled] == part) & (values[labelled] == number)]
                    _, firsts = np.unique(self.groups[here], return_index=True)
                    chosen += [*here[firsts[:DRY_RUN_GROUPS_PER_CLASS]]]
        return self.subset(np.unique(chosen))

    def parts(self, *more: str) -> dict[str, dict[str, int]]:
        """Frames and groups of each part of `display_part` that has labels, and of `more` parts."""
        assigned, folds = self.display_part(), range(1, len(self.folds) + 1)
        names = list(PARTS) if len(self.folds) == 1 else [str(number) for number in folds]
        return {
            part: {
                "frames": int((assigned == part).sum()),
                "groups": len(np.unique(self.groups[assigned == part])),
            }
            for part in (*names, *more)
        }

    def class_info(self) -> dict[str, dict[str, Any]]:
        """{task: its classes, and those that cannot be evaluated}."""
        return {
            task: {"classes": self.labels.classes[task], "not_evaluable": self.not_evaluable[task]}
            for task in self.labels.classes
        }


def build_dataset(
    store: Store,
    labels: Labels,
    fingerprint: str,
    config: DataConfig,
    attributes: FrameAttributes = NO_ATTRIBUTES,
) -> Dataset:
    """Group the frames and split them.

    Raises:
        UserError: there are too few groups, or the user's own split or folds cannot be used.
    """
    labels = attributes.restrict(labels)
    pictures = store.pictures(labels.videos)
    names, unit = make_groups(
        labels.videos,
        labels.patients,
        config.group_by,
        ambiguous_patients=labels.ambiguous_patients,
        pictures=pictures,
    )
    groups, labelled = np.array(names), labels.annotated()
    values = {task: of_task[labelled] for task, of_task in labels.values.items()}
    frames = FramesToSplit(store.keys, groups, labelled, list(values.values()))
    try:
        final, folds = divide(frames, attributes, config)
    except UserError as error:
        reason = explain_largest_group(labels.videos, labels.patients, pictures)
        reason = reason or _numbered_stills_note(store, labelled)
        raise UserError(f"{error}. {reason}" if reason else str(error)) from None
    if not (attributes.split and attributes.split.allow_leak):
        for split in (final, *folds):
            check_disjoint(groups, split.part)
    origins = np.array(labels.videos), np.array(labels.patients), groups
    labelled_parts = [fold.part[labelled] for fold in folds]
    return Dataset(
        store=store,
        labels=labels,
        groups=groups,
        split_by=unit,
        part=final.part,
        ssl_val=final.ssl_val,
        folds=folds,
        pretrained_once=len(folds) == 1 or not config.pretrain_per_fold,
        leaky=any(crosses_sides(names_of, fold.part) for names_of in origins for fold in folds),
        not_evaluable={
            task: not_evaluable(values[task], labels.classes[task], groups[labelled], labelled_parts)
            for task in labels.classes
        },
        fingerprint=fingerprint,
        attributes=attributes,
    )


def _numbered_stills_note(store: Store, labelled: np.ndarray) -> str:
    """A sentence on labelled files most of which are stills with only a number for a name; "" elsewhere."""
    files = [store.files[row] for row in np.flatnonzero(labelled).tolist()]
    numbered = [file for file in files if is_frame(file) and is_only_number(file)]
    if 2 * len(numbered) <= len(files):
        return ""
    return (
        f"{len(numbered)} labelled stills, such as {numbered[0]}, have only a number for a name, and so are "
        "of the video that their folder is called: give each clip a folder, or call a frame "
        "<video>_frame<number>"
    )
