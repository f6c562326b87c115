"""Assignment of whole groups to parts, greedy, so that each class has its share of frames and groups in each.

Notation: N labelled frames, G groups, C classes of all tasks together, P parts.
"""

from collections.abc import Sequence

import numpy as np

RESTARTS = 30

Weights = tuple[np.ndarray, np.ndarray]  # (G, 2C+1) shares of what each group holds, (G, C) bool
Assignment = tuple[tuple[int, int, float], np.ndarray]  # cost, (G,) part of each group


def best_assignment(
    groups: Sequence[str] | np.ndarray,
    values: Sequence[np.ndarray],
    fractions: np.ndarray,
    *,
    rng: np.random.Generator,
    priority: tuple[int, ...] = (),
) -> np.ndarray:
    """(N,) part of each frame, of the best assignment out of several random orders.

    Greedy, the rarest class first as in iterative stratification (Sechidis et al. 2011). The result does not
    depend on the order of the frames.

    Args:
        groups: N names.
        values: (N,) class indices of each task, -1 = not annotated.
        fractions: (P,) of the frames and groups.
        rng: of the orders that are tried.
        priority: parts in the order in which a class is of use in them; none for parts of equal standing.
    """
    names, group = np.unique(groups, return_inverse=True)
    onehot = np.concatenate([task[:, None] == np.unique(task[task >= 0]) for task in values], 1)  # (N, C)
    frames = np.zeros((len(names), onehot.shape[1]))
    np.add.at(frames, group, onehot)
    present = frames > 0  # (G, C)
    sizes = np.bincount(group)[:, None]
    weights = np.concatenate([amount / amount.sum(axis=0) for amount in (frames, present, sizes)], axis=1)
    rarity = np.where(present, present.sum(axis=0), len(names)).min(axis=1)  # groups of its rarest class
    candidates: list[Assignment] = []
    for _ in range(RESTARTS):
        order = rng.permutation(len(names))
        order = order[np.argsort(rarity[order], kind="stable")]
        candidates.append(
            _assign_by_priority((weights, present), fractions, priority, order)
            if priority
            else _assign_equally((weights, present), fractions, order)
        )
    part_of: np.ndarray = min(candidates, key=lambda candidate: candidate[0])[1][group]
    return part_of


def _assign_by_priority(
    shares: Weights, fractions: np.ndarray, priority: tuple[int, ...], order: np.ndarray
) -> Assignment:
    """One greedy assignment of the groups in `order` to parts in which a class is of use one after the other.

    A group that brings a class to the next part of the chain goes there, any other to the part that lacks
    most of what the group holds.
    """
    weights, present = shares
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


def _assign_equally(shares: Weights, fractions: np.ndarray, order: np.ndarray) -> Assignment:
    """One greedy assignment of the groups in `order` to parts of equal standing.

    A group goes to the part that lacks most of what it holds, if it can to another one than the only part in
    which a class of it stands.
    """
    weights, present = shares
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
    changes: np.ndarray = gap.sum(axis=1) / fractions
    return changes


def _cost(
    part_of: np.ndarray, filled: np.ndarray, fractions: np.ndarray, *, missing: int
) -> tuple[int, int, float]:
    """Empty parts, then classes that are missing where they are of use, then how far from balance."""
    empty = len(fractions) - len(np.unique(part_of))
    return empty, missing, float(((filled - fractions[:, None]) ** 2).sum())
