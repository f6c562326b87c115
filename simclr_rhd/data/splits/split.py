"""The split: whole groups to training, validation and test, or to folds, balanced over all tasks' classes.

Notation: N labelled frames, M frames in all, G groups, C classes of all tasks together, P parts.
"""

from collections.abc import Callable, Sequence

import numpy as np

from simclr_rhd.core.errors import UserError

PARTS = ("train", "val", "test")
FRACTIONS = np.array([0.70, 0.15, 0.15])
VAL_FRACTION = 0.15 / 0.85  # of the groups that a fold does not test
UNLABELLED, HELD_OUT = "unlabelled", "held-out"
RESTARTS = 30
SSL_VAL_FRACTION = 0.1  # of the unlabelled frames, at least

Weights = tuple[np.ndarray, np.ndarray]  # (G, 2C+1) shares of what each group holds, (G, C) bool
Assignment = tuple[tuple[int, int, float], np.ndarray]  # cost, (G,) part of each group


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
    return np.array(PARTS)[_best_assignment(groups, values, FRACTIONS, (train, test, val), seed=[seed, 3])]


def group_k_fold(
    groups: Sequence[str], values: Sequence[np.ndarray], folds: int, *, seed: int
) -> list[np.ndarray]:
    """Cross-validation: every group is tested once, by what is learnt from the groups of the other folds.

    A class of two groups or more stands in two folds or more, so that it can be tested. The groups that a
    fold does not test are split once more: some are for choosing (validation), the others to learn from.

    Args:
        groups: N names.
        values: (N,) class indices of each task, -1 = not annotated.
        folds: K, at least 2.
        seed: of the orders that are tried.

    Returns:
        K times (N,) parts: 'train', 'val' or 'test'.

    Raises:
        UserError: fewer groups than folds, or than three.
    """
    _require_groups(groups, max(folds, len(PARTS)), f"--folds {folds} needs")
    fold = _best_assignment(groups, values, np.full(folds, 1 / folds), (), seed=[seed, 8])
    parts = []
    for number in range(folds):
        others = np.flatnonzero(fold != number)
        part = np.full(len(fold), "test", dtype="<U5")
        part[others] = train_val_split(
            np.asarray(groups)[others], [task[others] for task in values], seed=[seed, 9, number]
        )
        parts.append(part)
    return parts


def train_val_split(
    groups: Sequence[str] | np.ndarray, values: Sequence[np.ndarray], *, seed: Sequence[int]
) -> np.ndarray:
    """(N,) 'train' and 'val': groups to learn from, and some to choose on where there are two or more."""
    if len(np.unique(groups)) < 2:
        return np.full(len(groups), "train", dtype="<U5")
    shares = np.array([1 - VAL_FRACTION, VAL_FRACTION])
    return np.array(PARTS[:2])[_best_assignment(groups, values, shares, (0, 1), seed=seed)]


def _require_groups(groups: Sequence[str], minimum: int, subject: str) -> None:
    names = sorted(set(np.asarray(groups).tolist()))
    if len(names) < minimum:
        some = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
        raise UserError(
            f"the labelled frames come from {len(names)} group(s) ({some}); {subject} at least {minimum}"
        )


def _best_assignment(
    groups: Sequence[str] | np.ndarray,
    values: Sequence[np.ndarray],
    fractions: np.ndarray,
    priority: tuple[int, ...],
    *,
    seed: Sequence[int],
) -> np.ndarray:
    """(N,) part of each frame, of the best assignment out of several seeded orders.

    Greedy, the rarest class first as in iterative stratification (Sechidis et al. 2011). The result does not
    depend on the order of the frames.
    """
    names, group = np.unique(groups, return_inverse=True)
    onehot = np.concatenate([task[:, None] == np.unique(task[task >= 0]) for task in values], 1)  # (N, C)
    frames = np.zeros((len(names), onehot.shape[1]))
    np.add.at(frames, group, onehot)
    present = frames > 0  # (G, C)
    sizes = np.bincount(group)[:, None]
    weights = np.concatenate([held / held.sum(axis=0) for held in (frames, present, sizes)], axis=1)
    rarity = np.where(present, present.sum(axis=0), len(names)).min(axis=1)  # groups of its rarest class
    rng = np.random.default_rng(seed)
    assign: Callable[[np.ndarray], Assignment] = (
        (lambda order: _assign_by_priority((weights, present), fractions, priority, order))
        if priority
        else (lambda order: _assign_equally((weights, present), fractions, order))
    )
    candidates = []
    for _ in range(RESTARTS):
        order = rng.permutation(len(names))
        candidates.append(assign(order[np.argsort(rarity[order], kind="stable")]))
    _, part_of = min(candidates, key=lambda candidate: candidate[0])
    return part_of[group]


def _assign_by_priority(
    held: Weights, fractions: np.ndarray, priority: tuple[int, ...], order: np.ndarray
) -> Assignment:
    """One greedy assignment of the groups in `order` to parts in which a class is of use one after the other.

    A group that brings a class to the next part of the chain goes there, any other to the part that lacks
    most of what the group holds.
    """
    weights, present = held
    turns = np.array(priority)
    reached = np.zeros(present.shape[1], dtype=np.int64)  # (C,) how far along the chain each class is
    filled = np.zeros((len(fractions), weights.shape[1]))
    part_of = np.empty(len(order), dtype=np.int64)
    for g in order:
        step = reached[present[g]].min(initial=len(turns))
        part = (
            int(turns[step])
            if step < len(turns)
            else int(_imbalance_changes(filled, weights[g], fractions).argmin())
        )
        part_of[g] = part
        filled[part] += weights[g]
        reached += present[g] & (turns[np.minimum(reached, len(turns) - 1)] == part) & (reached < len(turns))
    return _cost(part_of, filled, fractions, missing=int((len(turns) - reached).sum())), part_of


def _assign_equally(held: Weights, fractions: np.ndarray, order: np.ndarray) -> Assignment:
    """One greedy assignment of the groups in `order` to parts of equal standing.

    A group goes to the part that lacks most of what it holds, if it can to another one than the only part in
    which a class of it stands.
    """
    weights, present = held
    has = np.zeros((len(fractions), present.shape[1]), dtype=bool)  # (P, C)
    filled = np.zeros((len(fractions), weights.shape[1]))
    part_of = np.empty(len(order), dtype=np.int64)
    for g in order:
        alone = has[:, present[g] & (has.sum(axis=0) == 1)].any(axis=1)
        gaps = _imbalance_changes(filled, weights[g], fractions)
        part = int(np.where(alone & ~alone.all(), np.inf, gaps).argmin())
        part_of[g] = part
        filled[part] += weights[g]
        has[part] |= present[g]
    short = np.minimum(present.sum(axis=0), 2) - np.minimum(has.sum(axis=0), 2)
    return _cost(part_of, filled, fractions, missing=int(short.sum())), part_of


def _imbalance_changes(filled: np.ndarray, more: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """(P,) how much worse (or, below 0, better) the balance gets if `more` goes to each part."""
    gap = (filled + more - fractions[:, None]) ** 2 - (filled - fractions[:, None]) ** 2
    return gap.sum(axis=1) / fractions


def _cost(
    part_of: np.ndarray, filled: np.ndarray, fractions: np.ndarray, *, missing: int
) -> tuple[int, int, float]:
    """Empty parts, then classes that are missing where they are of use, then how far from balance."""
    empty = len(fractions) - len(np.unique(part_of))
    return empty, missing, float(((filled - fractions[:, None]) ** 2).sum())


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


def assign_unlabelled(
    groups: Sequence[str] | np.ndarray,
    labelled: np.ndarray,
    parts: np.ndarray,
    *,
    seed: int,
    fraction: float = SSL_VAL_FRACTION,
) -> tuple[np.ndarray, np.ndarray]:
    """The part of every frame, and which frames the contrastive loss is watched on.

    Unlabelled frames of validation and test groups are kept out of pretraining. Early stopping watches those
    of the validation groups; where they are fewer than `share` of the unlabelled frames, whole unlabelled
    groups are held out beside them. Test groups are never watched.

    Args:
        groups: M groups, of all frames.
        labelled: (M,) bool, N of them true.
        parts: (N,) parts of the labelled frames.
        seed: seed of the choice of groups.
        fraction: of the unlabelled frames outside test groups, to be watched.

    Returns:
        (M,) parts with 'unlabelled' (for pretraining) and 'held-out', and (M,) bool, the watched frames.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)  # (G,) in order, (M,) numbers
    part = np.full(len(group), UNLABELLED, dtype="<U10")
    part[labelled] = parts
    of_part = {name: np.zeros(len(names), dtype=bool) for name in ("val", "test")}
    for name, has in of_part.items():
        has[group[part == name]] = True
    in_part = {name: has[group] for name, has in of_part.items()}
    part[~labelled & (in_part["val"] | in_part["test"])] = HELD_OUT
    ssl_val = ~labelled & in_part["val"] & ~in_part["test"]
    wanted, found = fraction * (~labelled & ~in_part["test"]).sum(), ssl_val.sum()
    frames = np.bincount(group[~labelled], minlength=len(names))  # (G,) without a label
    free = np.setdiff1d(group[part == UNLABELLED], group[labelled])
    chosen = np.zeros(len(names), dtype=bool)
    for number in np.random.default_rng([seed, 4]).permutation(free)[: max(0, len(free) - 1)]:
        if found >= wanted:
            break
        if found + frames[number] <= 2 * wanted:  # a very large group is better used for training
            chosen[number] = True
            found += frames[number]
    ssl_val |= chosen[group]
    part[ssl_val] = HELD_OUT
    return part, ssl_val


def check_disjoint(groups: np.ndarray, part: np.ndarray) -> None:
    """Assert that no group stands on two sides: training and pretraining, validation, test."""
    sides = [
        set(groups[np.isin(part, side)].tolist()) for side in (("train", UNLABELLED), ("val",), ("test",))
    ]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2]), "a group on two sides"
