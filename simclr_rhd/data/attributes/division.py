"""The division of the frames: by the user's own split, by the values of a column, or by ours.

Notation: M frames in all, N labelled ones.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.data.attributes.attributes import FrameAttributes
from simclr_rhd.data.attributes.columns import sorted_values
from simclr_rhd.data.attributes.own_split import OwnSplit
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.splits.split import HELD_OUT, PARTS, Folds, train_val_split
from simclr_rhd.data.splits.unlabelled import SplitAssignment, assign_unlabelled, make_splits

MAX_SHOWN_GROUPS = 3  # in a message
GROUPS_NOTE = "groups (a patient, a video, or videos that share a picture)"

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class FramesToSplit:
    """The frames that are divided.

    Attributes:
        keys: M names.
        groups: (M,) names of groups.
        labelled: (M,) bool, N of them true.
        values: (N,) class indices of each task, -1 = not annotated.
    """

    keys: Sequence[str]
    groups: np.ndarray
    labelled: np.ndarray
    values: list[np.ndarray]


def divide(
    frames: FramesToSplit, attributes: FrameAttributes, config: DataConfig
) -> tuple[SplitAssignment, tuple[SplitAssignment, ...]]:
    """The split of the final model, and that of each fold.

    Raises:
        UserError: there are too few groups, or the user's own split or folds cannot be used.
    """
    if attributes.split:
        single = complete_split(frames, attributes.split, seed=config.seed)
        return single, (single,)
    folds: Folds = config.folds
    if attributes.fold_values is not None:
        folds = site_folds(frames, attributes.fold_values, f"--folds-by {config.folds_by}")
    final, of_folds = make_splits(frames.groups, frames.labelled, frames.values, config, folds)
    if attributes.fold_values is not None and config.pretrain_per_fold:
        names = attributes.fold_names(frames.labelled)
        for name, split in zip(names, of_folds, strict=True):  # its encoder must not know the site either
            here = ~frames.labelled & (attributes.fold_values == name)
            split.part[here], split.ssl_val[here] = HELD_OUT, False
    return final, of_folds


def complete_split(frames: FramesToSplit, own: OwnSplit, *, seed: int) -> SplitAssignment:
    """The division of all frames that the user's own one implies; each labelled frame has a part there.

    Unlabelled frames are held out of pretraining as in a split of ours: those of groups that are validated or
    tested, and those that the user put there. Without a validation part, whole groups of the training part
    are taken for it.

    Raises:
        UserError: a group stands on two sides and that is not allowed, or a part is empty.
    """
    if not own.allow_leak:
        _refuse_shared_groups(
            frames,
            np.where(np.isin(own.parts, PARTS), own.parts, ""),
            f"{own.name}: {{n}} {GROUPS_NOTE} stand on two sides of the split: the scores would be too good",
            "Put each group on one side; or pass --allow-leak, which marks all results as leaky",
        )
    labelled = frames.labelled
    parts = np.where(labelled, own.parts, "").astype("<U10")
    if empty := [part for part in ("train", "test") if not (parts == part).any()]:
        raise UserError(
            f"{own.name}: no labelled frame is in the part {' or '.join(empty)}; wanted frames of train and "
            "of test, and best of val, too"
        )
    if not (parts == "val").any():
        to_learn = parts == "train"
        rng, values = make_rng(seed, Stream.FINAL_VALIDATION), frames.values
        of_training = [task[to_learn[labelled]] for task in values]
        parts[to_learn] = train_val_split(frames.groups[to_learn], of_training, rng=rng)
        logger.info(
            "NOTICE %s has no part val: %d of its training groups are taken for it",
            *(own.name, len(np.unique(frames.groups[parts == "val"]))),
        )
    unlabelled = ~labelled & np.isin(own.parts, ("val", "test"))
    parts[unlabelled] = own.parts[unlabelled]
    split = assign_unlabelled(frames.groups, parts != "", parts[parts != ""], seed=seed)
    split.part[unlabelled | (~labelled & (own.parts == HELD_OUT))] = HELD_OUT
    split.ssl_val[unlabelled & (parts == "val")] = True
    return split


def site_folds(frames: FramesToSplit, fold_values: np.ndarray, flag: str) -> np.ndarray:
    """(N,) the fold that tests each labelled frame: the number of its value in a column.

    Args:
        frames: to divide.
        fold_values: (M,) values of the column, known for all labelled frames.
        flag: that names the column, for messages.

    Raises:
        UserError: there are fewer than two values, a group has several, or what a site has can be learnt
            nowhere else.
    """
    of_labelled = fold_values[frames.labelled]
    names = sorted_values(of_labelled)
    if len(names) < 2:
        raise UserError(
            f"{flag}: the labelled frames have {len(names)} value(s) there "
            f"({', '.join(names) or 'none'}); wanted at least 2, each of which is tested by the others"
        )
    _refuse_shared_groups(
        frames,
        np.where(frames.labelled, fold_values, ""),
        f"{flag}: {{n}} {GROUPS_NOTE} have several values there, and would be both learnt from and tested",
        "Give all frames of a group one value, or leave the cells of one of them empty",
    )
    fold = np.array([names.index(value) for value in of_labelled], dtype=np.int64)
    for number, name in enumerate(names):
        here = fold == number
        if not any(set(task[here]) & set(task[~here]) - {-1} for task in frames.values):
            raise UserError(
                f"{flag}: no class of {name} stands at another value, so that nothing of it can be tested; "
                "leave its cells empty, or give it and another one the same value"
            )
    return fold


def _refuse_shared_groups(frames: FramesToSplit, sides: np.ndarray, problem: str, advice: str) -> None:
    """Refuse groups whose frames stand on several sides.

    Args:
        frames: to divide.
        sides: (M,) side of each frame, "" for none.
        problem: what is wrong, with the place {n} for the number of groups.
        advice: what to do.

    Raises:
        UserError: there are such groups; with the first frames of the first ones.
    """
    rows_of = defaultdict[str, dict[str, int]](dict)  # {group: {side: its first frame}}
    for row in np.flatnonzero(sides != "").tolist():
        rows_of[frames.groups[row]].setdefault(str(sides[row]), row)
    shared = {group: of_side for group, of_side in rows_of.items() if len(of_side) > 1}
    if not shared:
        return
    n_frames = int((np.isin(frames.groups, [*shared]) & (sides != "")).sum())
    examples = [
        ", ".join(f"{frames.keys[row]} ({side})" for side, row in of_side.items())
        for of_side in [*shared.values()][:MAX_SHOWN_GROUPS]
    ]
    more = ["..."] * (len(shared) > MAX_SHOWN_GROUPS)
    lines = "".join(f"\n  {line}" for line in (*examples, *more))
    raise UserError(f"{problem.format(n=len(shared))} ({n_frames} frames):{lines}\n{advice}")
