"""Label efficiency: what is reached with a part of the labelled groups, the reason for self-supervision.

Notation: n labelled frames, K folds.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.vocabulary import NOT_ANNOTATED
from simclr_rhd.evaluation.target_details import EfficiencyPoint
from simclr_rhd.evaluation.targets import video_balanced_accuracy
from simclr_rhd.heads.cross_validation import OURS, PIXELS, CrossValidation, out_of_fold
from simclr_rhd.heads.model import predict

N_REPEATS = 3  # times that the groups of a fraction are drawn

Learner = Callable[..., Probabilities]  # fold, rows to learn from, rows to choose on
Draw = list[tuple[np.ndarray, np.ndarray]]  # of each fold, rows to learn from and rows to choose on


def learning_curves(
    cv: CrossValidation, fractions: Sequence[float]
) -> dict[str, dict[str, list[EfficiencyPoint]]]:
    """Balanced accuracy per video on the whole test part, by the share of labelled groups that is used.

    Of ours, raw pixels and the encoders to compare with, whose draws count alike. Groups to choose on are as
    scarce as groups to learn from. The groups of a smaller fraction are among those of a larger one. Each
    fraction below 1 is drawn three times.

    Args:
        cv: the frames and their features.
        fractions: in (0, 1].

    Returns:
        {target's name: {method: points}}.
    """
    labelled_set = cv.labelled_set
    learners: dict[str, list[Learner]] = {
        OURS: [lambda fold, *rows: _predict_with_heads(cv, cv.features.per_fold[fold], *rows)],
        **{
            name: [lambda fold, *rows, x=x: _predict_with_heads(cv, x, *rows) for x in drawn]
            for name, drawn in cv.features.baseline_encoders.items()
        },
        PIXELS: [lambda fold, *rows: cv.predict_from_pictures(PIXELS, *rows)],
    }
    points: dict[str, dict[str, list[EfficiencyPoint]]] = {
        target.name: {name: [] for name in learners} for target in labelled_set.targets()
    }
    for fraction in fractions:
        draws = [
            [_subsample_fold(cv, fold, fraction, draw) for fold in cv.folds()]
            for draw in range(n_repeats(fraction))
        ]
        groups = _mean_train_groups(labelled_set, draws)
        for name, learning in learners.items():
            tables = [
                (
                    draw,
                    out_of_fold(labelled_set, [learn(fold, *rows) for fold, rows in enumerate(draw)], "test"),
                )
                for learn in learning
                for draw in draws
            ]
            for target in labelled_set.targets():
                scores = [
                    video_balanced_accuracy(labelled_set, target, table) if _can_learn(target, draw) else None
                    for draw, table in tables
                ]
                points[target.name][name].append(_make_point(fraction, groups, scores))
    return points


def _mean_train_groups(labelled_set: LabelledSet, draws: Sequence[Draw]) -> float:
    return float(np.mean([len(np.unique(labelled_set.groups[train])) for draw in draws for train, _ in draw]))


def n_repeats(fraction: float) -> int:
    """Number of times that the groups of a fraction are drawn: all of them, once."""
    return N_REPEATS if fraction < 1 else 1


def _can_learn(target: Target, folds: Draw) -> bool:
    """Return True if every fold has two classes to learn from."""
    return all(len(set(target.true[train].tolist()) - {NOT_ANNOTATED}) >= 2 for train, _ in folds)


def _predict_with_heads(
    cv: CrossValidation, x: np.ndarray, train: np.ndarray, val: np.ndarray
) -> Probabilities:
    return predict(cv.fit(x, train, val).heads, x)


def _make_point(fraction: float, groups: float, scores: Sequence[float | None]) -> EfficiencyPoint:
    known = [score for score in scores if score is not None]
    if not known:
        return EfficiencyPoint(fraction, groups, None, None, None)
    return EfficiencyPoint(fraction, groups, float(np.mean(known)), min(known), max(known))


def _subsample_fold(
    cv: CrossValidation, fold: int, fraction: float, draw: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a share of the groups of a fold's training and validation part."""
    train, val = (
        subsample_groups(
            cv.labelled_set,
            cv.labelled_set.rows(fold, part),
            fraction,
            rng=make_rng(cv.config.seed, Stream.LABEL_FRACTIONS, draw, fold, number),
        )
        for number, part in enumerate(("train", "val"))
    )
    return train, val


def subsample_groups(
    labelled_set: LabelledSet, rows: np.ndarray, fraction: float, *, rng: np.random.Generator
) -> np.ndarray:
    """The rows of a share of their groups, rounded up; first come groups that bring the rarest classes."""
    names, group = np.unique(labelled_set.groups[rows], return_inverse=True)
    place = np.argsort(rng.permutation(len(names)))  # of each group in the draw
    first = []  # of each class, the rarest first
    for values in labelled_set.values.values():
        for number in np.unique(values[rows][values[rows] >= 0]):
            groups_with_class = np.unique(group[values[rows] == number])
            first.append((len(groups_with_class), groups_with_class[place[groups_with_class].argmin()]))
    order = dict.fromkeys([*(number for _, number in sorted(first)), *np.argsort(place).tolist()])
    chosen = list(order)[: math.ceil(fraction * len(names))]
    return rows[np.isin(group, chosen)]
