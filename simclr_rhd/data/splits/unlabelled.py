"""The split of all frames: which unlabelled frames the encoder is pretrained on, in one split or in folds.

Notation: N labelled frames, M frames in all, G groups.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.splits.split import (
    HELD_OUT,
    UNLABELLED,
    Folds,
    group_k_fold,
    group_train_val_test_split,
    train_val_split,
)

SSL_VAL_FRACTION = 0.1  # of the unlabelled frames, at least


class SplitAssignment(NamedTuple):
    """One division of the frames.

    Attributes:
        part: (M,) 'train', 'val', 'test', 'unlabelled' (for pretraining) or 'held-out'.
        ssl_val: (M,) bool, held-out frames of the contrastive validation loss.
    """

    part: np.ndarray
    ssl_val: np.ndarray

    def subset(self, rows: np.ndarray) -> "SplitAssignment":
        """The division of some frames."""
        return SplitAssignment(self.part[rows], self.ssl_val[rows])


def assign_unlabelled(
    groups: Sequence[str] | np.ndarray,
    labelled: np.ndarray,
    parts: np.ndarray,
    *,
    seed: int,
    fraction: float = SSL_VAL_FRACTION,
) -> SplitAssignment:
    """Extend a split of the labelled frames to all frames.

    Unlabelled frames of validation and test groups are left out of pretraining. Early stopping uses those
    of the validation groups; where they are fewer than `fraction` of the unlabelled frames, whole unlabelled
    groups are held out beside them. Test groups are never used.

    Args:
        groups: M groups, of all frames.
        labelled: (M,) bool, N of them true.
        parts: (N,) parts of the labelled frames.
        seed: seed of the choice of groups.
        fraction: of the unlabelled frames outside test groups, for the contrastive validation loss.
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
    wanted, chosen_frames = fraction * (~labelled & ~in_part["test"]).sum(), ssl_val.sum()
    frames = np.bincount(group[~labelled], minlength=len(names))  # (G,) without a label
    free = np.setdiff1d(group[part == UNLABELLED], group[labelled])
    chosen = np.zeros(len(names), dtype=bool)
    for number in make_rng(seed, Stream.UNLABELLED_VALIDATION).permutation(free)[: max(0, len(free) - 1)]:
        if chosen_frames >= wanted:
            break
        if chosen_frames + frames[number] <= 2 * wanted:  # a very large group is better used for training
            chosen[number] = True
            chosen_frames += frames[number]
    ssl_val |= chosen[group]
    part[ssl_val] = HELD_OUT
    return SplitAssignment(part, ssl_val)


def make_splits(
    groups: np.ndarray, labelled: np.ndarray, values: list[np.ndarray], config: DataConfig, folding: Folds
) -> tuple[SplitAssignment, tuple[SplitAssignment, ...]]:
    """The split of the final model, and that of each fold.

    Arguments as of `assign_unlabelled`; `values` has (N,) class indices of each task, -1 = not annotated,
    and `folding` is 1 for a single split.

    Raises:
        UserError: there are too few groups.
    """
    of_labelled, seed = groups[labelled].tolist(), config.seed
    if np.array_equal(folding, 1):
        parts = group_train_val_test_split(of_labelled, values, seed=seed)
        single = assign_unlabelled(groups, labelled, parts, seed=seed)
        return single, (single,)
    divisions = [
        train_val_split(of_labelled, values, rng=make_rng(seed, Stream.FINAL_VALIDATION)),
        *group_k_fold(of_labelled, values, folding, seed=seed),
    ]
    if config.pretrain_per_fold:
        final, *folds = (assign_unlabelled(groups, labelled, parts, seed=seed) for parts in divisions)
        return final, tuple(folds)
    # every labelled group is tested by some fold, so the one encoder may see none of them
    tested = assign_unlabelled(groups, labelled, np.full(len(of_labelled), "test"), seed=seed)
    final, *folds = (_replace_labelled(tested, labelled, parts) for parts in divisions)
    return final, tuple(folds)


def _replace_labelled(split: SplitAssignment, labelled: np.ndarray, parts: np.ndarray) -> SplitAssignment:
    part = split.part.copy()
    part[labelled] = parts
    return SplitAssignment(part, split.ssl_val)
