"""The split: whole groups to training, validation and test, or to folds, balanced over all tasks' classes.

Notation: N labelled frames, M frames in all, K folds.
"""

from collections.abc import Sequence

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.data.splits.assignment import best_assignment

PARTS = ("train", "val", "test")
FRACTIONS = np.array([0.70, 0.15, 0.15])
VAL_FRACTION = 0.15 / 0.85  # of the groups that a fold does not test
UNLABELLED, HELD_OUT = "unlabelled", "held-out"
Folds = int | np.ndarray  # K, or (N,) the fold, from 0 on, that tests each frame
SIDES = (("train", UNLABELLED), ("val",), ("test",))  # parts between which no group may be shared


def group_train_val_test_split(
    groups: Sequence[str], values: Sequence[np.ndarray], *, seed: int
) -> np.ndarray:
    """Assign whole groups to parts so that each class has its share of frames and groups in each part.

    A class is of use in training first, then in test, then in validation.

    Args:
        groups: N names.
        values: (N,) class indices of each task, -1 = not annotated.
        seed: of the orders that are tried.

    Returns:
        (N,) parts: 'train', 'val' or 'test'.

    Raises:
        UserError: fewer groups than parts.
    """
    _require_groups(groups, len(PARTS), "training, validation and test need")
    train, val, test = range(len(PARTS))
    rng, priority = make_rng(seed, Stream.SPLIT), (train, test, val)
    part: np.ndarray = np.array(PARTS)[best_assignment(groups, values, FRACTIONS, rng=rng, priority=priority)]
    return part


def group_k_fold(
    groups: Sequence[str], values: Sequence[np.ndarray], folds: Folds, *, seed: int
) -> list[np.ndarray]:
    """Cross-validation: every group is tested once, by what is learnt from the groups of the other folds.

    A class of two groups or more stands in two folds or more, so that it can be tested. The groups that a
    fold does not test are split once more: some are for choosing (validation), the others to learn from.

    Args:
        groups: N names.
        values: (N,) class indices of each task, -1 = not annotated.
        folds: K, at least 2, or the fold that tests each frame.
        seed: of the orders that are tried.

    Returns:
        K times (N,) parts: 'train', 'val' or 'test'.

    Raises:
        UserError: fewer groups than folds, or than three.
    """
    if isinstance(folds, int):
        _require_groups(groups, max(folds, len(PARTS)), f"--folds {folds} needs")
        folds = best_assignment(groups, values, np.full(folds, 1 / folds), rng=make_rng(seed, Stream.FOLDS))
    parts = []
    for number in range(folds.max() + 1):
        others = np.flatnonzero(folds != number)
        part = np.full(len(folds), "test", dtype="<U5")
        part[others] = train_val_split(
            np.asarray(groups)[others],
            [task[others] for task in values],
            rng=make_rng(seed, Stream.FOLD_VALIDATION, number),
        )
        parts.append(part)
    return parts


def train_val_split(
    groups: Sequence[str] | np.ndarray, values: Sequence[np.ndarray], *, rng: np.random.Generator
) -> np.ndarray:
    """(N,) 'train' and 'val': groups to learn from, and some to choose on where there are two or more."""
    if len(np.unique(groups)) < 2:
        return np.full(len(groups), "train", dtype="<U5")
    shares = np.array([1 - VAL_FRACTION, VAL_FRACTION])
    part: np.ndarray = np.array(PARTS[:2])[best_assignment(groups, values, shares, rng=rng, priority=(0, 1))]
    return part


def _require_groups(groups: Sequence[str], minimum: int, subject: str) -> None:
    names = sorted(set(np.asarray(groups).tolist()))
    if len(names) < minimum:
        some = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
        raise UserError(
            f"the labelled frames come from {len(names)} group(s) ({some}); {subject} at least {minimum}"
        )


def not_evaluable(
    values: np.ndarray, classes: Sequence[str], groups: np.ndarray, folds: Sequence[np.ndarray]
) -> list[dict[str, str]]:
    """The classes of a task that cannot be both learnt and tested, with the reason and what would be needed.

    A class counts if it is tested somewhere, and learnt wherever it is tested.

    Args:
        values: (N,) class indices, -1 = not annotated.
        classes: names.
        groups: (N,) groups.
        folds: (N,) parts of each fold; one fold for a single split.
    """
    reasons = []
    for number, name in enumerate(classes):
        here = values == number
        n = len(np.unique(groups[here]))
        tested = [part for part in folds if (here & (part == "test")).any()]
        learnt = [(here & (part == "train")).any() for part in tested or folds]
        absent = ["training"] * (not all(learnt)) + ["test"] * (not tested)
        if absent:
            where = " and ".join(absent) + (" when it is tested" if len(folds) > 1 and tested else "")
            why = (
                "at least 2 groups are needed, 10 or more are better"
                if n < 2
                else "beside the other classes this split has no room for it there; more groups are needed"
            )
            reasons.append(
                {
                    "class": name,
                    "reason": f"its {here.sum()} frames come from {n} group(s), none in {where}; {why}",
                }
            )
    return reasons


def crosses_sides(names: np.ndarray, part: np.ndarray) -> bool:
    """Return whether one of (M,) names other than "" stands on two sides: training, validation, test."""
    train, val, test = (set(names[np.isin(part, side)].tolist()) - {""} for side in SIDES)
    return bool(train & val or train & test or val & test)


def check_disjoint(groups: np.ndarray, part: np.ndarray) -> None:
    """Assert that no group stands on two sides."""
    assert not crosses_sides(groups, part), "a group on two sides"
