"""The split: whole groups to training, validation and test, balanced over the classes of all tasks.

Notation: N labelled frames, M frames in all, G groups, C classes of all tasks together.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from simclr_rhd.errors import UserError

PARTS = ("train", "val", "test")
SHARES = np.array([0.70, 0.15, 0.15])
UNLABELLED, HELD_OUT = "unlabelled", "held-out"
HASHED = "dicom-"  # begins a patient's name that is a salted hash
RESTARTS = 30
WATCHED_SHARE = 0.1  # of the unlabelled frames, at least


def make_groups(
    videos: Sequence[str],
    patients: Sequence[str],
    by: str,
    *,
    doubts: Iterable[tuple[str, str]] = (),
    pictures: Iterable[tuple[str, str]] = (),
) -> tuple[list[str], str]:
    """The group of each frame: frames of one group never stand on two sides.

    By patient, a video without a patient is a group of its own, frames of a video have one patient, and
    patients that share a video are one group. Videos that share a picture are one group, too.

    Args:
        videos: N names.
        patients: N names, "" where unknown.
        by: 'auto' (patient where any is known, else video), 'patient', 'video', 'frame'.
        doubts: (video, patient) that may belong together: where it is in doubt, one group.
        pictures: (video, hash of a picture in it).

    Returns:
        N names of groups, and what they were made by.

    Raises:
        UserError: by patient, and no patient is known.
    """
    if by == "patient" and not any(patients):
        raise UserError("--group-by patient: the label table has no PATIENT column, or it is empty")
    if by == "auto":
        by = "patient" if any(patients) else "video"
    if by == "frame":
        return [f"{video} #{number}" for number, video in enumerate(videos)], by
    parent: dict[str, str] = {}  # union-find over videos and patients; roots are the smallest names

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    shared = {(video, f"~picture {digest}") for video, digest in pictures}
    if by == "patient":
        named = {*zip(videos, patients, strict=True), *doubts}
        shared |= {(video, _node(patient)) for video, patient in named if patient}
    for video, other in shared:
        roots = root(f"video {video}"), root(other)
        parent[max(roots)] = min(roots)
    return [root(f"video {video}") for video in videos], by


def _node(patient: str) -> str:
    """A patient's node. Hashes sort last and so name no group: they differ from machine to machine."""
    return f"{'~' if patient.startswith(HASHED) else ''}patient {patient}"


def split_groups(groups: Sequence[str], values: Sequence[np.ndarray], *, seed: int) -> np.ndarray:
    """Assign whole groups to parts so that each class has its share of frames and groups in each part.

    Greedy, the rarest class first as in iterative stratification (Sechidis et al. 2011), from several seeded
    orders; the best is kept. The result does not depend on the order of the frames.

    Args:
        groups: N names.
        values: (N,) class indices of each task, -1 = not annotated.
        seed: seed of the orders.

    Returns:
        (N,) parts: 'train', 'val' or 'test'.

    Raises:
        UserError: fewer groups than parts.
    """
    names, group = np.unique(groups, return_inverse=True)
    if len(names) < len(PARTS):
        raise UserError(
            f"the labelled frames come from {len(names)} group(s) ({', '.join(names)}); "
            f"training, validation and test need at least {len(PARTS)}"
        )
    onehot = np.concatenate([task[:, None] == np.unique(task[task >= 0]) for task in values], 1)  # (N, C)
    frames = np.zeros((len(names), onehot.shape[1]))
    np.add.at(frames, group, onehot)
    present = frames > 0  # (G, C)
    sizes = np.bincount(group)[:, None]
    weights = np.concatenate([held / held.sum(axis=0) for held in (frames, present, sizes)], axis=1)
    rarity = np.where(present, present.sum(axis=0), len(names)).min(axis=1)  # groups of its rarest class
    rng = np.random.default_rng([seed, 3])
    candidates = []
    for _ in range(RESTARTS):
        order = rng.permutation(len(names))
        candidates.append(_assign(weights, present, order[np.argsort(rarity[order], kind="stable")]))
    _, part_of = min(candidates, key=lambda candidate: candidate[0])
    return np.array(PARTS)[part_of[group]]


def _assign(
    weights: np.ndarray, present: np.ndarray, order: np.ndarray
) -> tuple[tuple[int, int, float], np.ndarray]:
    """One greedy assignment of the groups in `order`: its cost, and the part of each group, (G,) int.

    A class is of use in training first, then in test, then in validation: a group that brings a class to the
    next of these goes there, any other to the part that lacks most of what the group holds.
    """
    train, val, test = range(len(PARTS))
    chain = np.array([train, test, val])
    reached = np.zeros(present.shape[1], dtype=np.int64)  # (C,) how far along the chain each class is
    filled = np.zeros((len(PARTS), weights.shape[1]))
    part_of = np.empty(len(order), dtype=np.int64)
    for g in order:
        step = reached[present[g]].min(initial=len(chain))
        if step < len(chain):
            part = int(chain[step])
        else:
            gap = (filled + weights[g] - SHARES[:, None]) ** 2 - (filled - SHARES[:, None]) ** 2
            part = int((gap.sum(axis=1) / SHARES).argmin())
        part_of[g] = part
        filled[part] += weights[g]
        reached += present[g] & (chain[np.minimum(reached, len(chain) - 1)] == part) & (reached < len(chain))
    empty = len(PARTS) - len(np.unique(part_of))
    missing = int((len(chain) - reached).sum())
    return (empty, missing, float(((filled - SHARES[:, None]) ** 2).sum())), part_of


def not_evaluable(
    values: np.ndarray, classes: Sequence[str], groups: np.ndarray, parts: np.ndarray
) -> list[dict[str, str]]:
    """The classes of a task that the split cannot have in both training and test, with the reason.

    Args:
        values: (N,) class indices, -1 = not annotated.
        classes: names.
        groups: (N,) groups.
        parts: (N,) parts.
    """
    reasons = []
    for number, name in enumerate(classes):
        here = values == number
        n = len(np.unique(groups[here]))
        absent = [part for part in ("train", "test") if not (here & (parts == part)).any()]
        if absent:
            where = " and ".join({"train": "training", "test": "test"}[part] for part in absent)
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


def part_of_all(
    groups: Sequence[str],
    labelled: np.ndarray,
    parts: np.ndarray,
    *,
    seed: int,
    share: float = WATCHED_SHARE,
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
        share: of the unlabelled frames outside test groups, to be watched.

    Returns:
        (M,) parts with 'unlabelled' (for pretraining) and 'held-out', and (M,) bool, the watched frames.
    """
    group = np.asarray(groups)
    part = np.full(len(group), UNLABELLED, dtype="<U10")
    part[labelled] = parts
    in_part = {name: np.isin(group, group[part == name]) for name in ("val", "test")}
    part[~labelled & (in_part["val"] | in_part["test"])] = HELD_OUT
    watched = ~labelled & in_part["val"] & ~in_part["test"]
    wanted = share * (~labelled & ~in_part["test"]).sum()
    free = np.unique(group[part == UNLABELLED])
    free = free[~np.isin(free, group[labelled])]
    for name in np.random.default_rng([seed, 4]).permutation(free)[: max(0, len(free) - 1)]:
        if watched.sum() >= wanted:
            break
        more = ~labelled & (group == name)
        if watched.sum() + more.sum() <= 2 * wanted:  # a very large group is better used for training
            watched |= more
    part[watched] = HELD_OUT
    return part, watched


def check_disjoint(groups: np.ndarray, part: np.ndarray) -> None:
    """Assert that no group stands on two sides: training and pretraining, validation, test."""
    sides = [
        set(groups[np.isin(part, side)].tolist()) for side in (("train", UNLABELLED), ("val",), ("test",))
    ]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2]), "a group on two sides"
