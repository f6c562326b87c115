"""Label efficiency: what is reached with a part of the labelled groups, the reason for self-supervision.

Notation: n labelled frames, K folds.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.labels import NOT_ANNOTATED
from simclr_rhd.evaluation.results import balanced_accuracy
from simclr_rhd.heads.cross_validation import OURS, PIXELS, Study, pooled
from simclr_rhd.heads.train import predict

DRAWS = 3  # times that the groups of a fraction are drawn

Learn = Callable[..., Probabilities]  # fold, rows to learn from, rows to choose on


def curves(study: Study, fractions: Sequence[float]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Balanced accuracy per video on the whole test part, by the share of labelled groups that is used.

    Of ours, raw pixels and the random encoders, whose draws count alike. Groups to choose on are as scarce as
    groups to learn from. The groups of a smaller fraction are among those of a larger one. Each fraction
    below 1 is drawn three times.

    Args:
        study: the frames and their features.
        fractions: in (0, 1].

    Returns:
        {question's name: {who: points}}; a point has the fraction, the groups it learns from (mean over
        folds), the mean balanced_accuracy over the draws, and its low and high, their range; None where it
        cannot be computed.
    """
    cohort, seed = study.cohort, study.heads["seed"]
    learners: dict[str, list[Learn]] = {
        OURS: [lambda fold, *rows: _heads(study, study.encoded.folds[fold], *rows)],
        **{
            name: [lambda fold, *rows, x=x: _heads(study, x, *rows) for x in drawn]
            for name, drawn in study.encoded.rivals.items()
        },
        PIXELS: [lambda fold, *rows: study.by_pixels(*rows)],
    }
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        question.name: {name: [] for name in learners} for question in cohort.targets()
    }
    for fraction in fractions:
        used = [
            [_some(cohort, fold, fraction, seed=[seed, 11, draw, fold]) for fold in range(len(cohort.folds))]
            for draw in range(draws_of(fraction))
        ]
        groups = float(np.mean([len(np.unique(cohort.groups[train])) for of in used for train, _ in of]))
        for name, learning in learners.items():
            draws = [
                pooled(cohort, [learn(fold, *rows) for fold, rows in enumerate(of_draw)], "test")
                for learn in learning
                for of_draw in used
            ]
            for question in cohort.targets():
                point = _point(
                    [
                        balanced_accuracy(cohort, question, table) if _can_learn(question, of_draw) else None
                        for table, of_draw in zip(draws, used * len(learning), strict=True)
                    ]
                )
                found[question.name][name].append({"fraction": fraction, "groups": groups} | point)
    return found


def draws_of(fraction: float) -> int:
    """How often the groups of a fraction are drawn: all of them, once."""
    return DRAWS if fraction < 1 else 1


def _can_learn(question: Target, folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether two classes are there to learn from in every fold."""
    return all(len(set(question.true[train].tolist()) - {NOT_ANNOTATED}) >= 2 for train, _ in folds)


def _heads(study: Study, x: np.ndarray, train: np.ndarray, val: np.ndarray) -> Probabilities:
    return predict(study.fit(x, train, val).heads, x)


def _point(scores: Sequence[float | None]) -> dict[str, float | None]:
    known = [score for score in scores if score is not None]
    if not known:
        return dict.fromkeys(("balanced_accuracy", "low", "high"))
    return {"balanced_accuracy": float(np.mean(known)), "low": min(known), "high": max(known)}


def _some(
    cohort: LabelledSet, fold: int, fraction: float, *, seed: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a share of the groups of a fold's training and validation part."""
    return (
        some_groups(cohort, cohort.rows(fold, "train"), fraction, seed=seed),
        some_groups(cohort, cohort.rows(fold, "val"), fraction, seed=seed),
    )


def some_groups(cohort: LabelledSet, rows: np.ndarray, fraction: float, *, seed: Sequence[int]) -> np.ndarray:
    """The rows of a share of their groups, rounded up; first come groups that bring the rarest classes."""
    names, group = np.unique(cohort.groups[rows], return_inverse=True)
    place = np.argsort(np.random.default_rng(list(seed)).permutation(len(names)))  # of each group in the draw
    first = []  # of each class, the rarest first
    for values in cohort.values.values():
        for number in np.unique(values[rows][values[rows] >= 0]):
            homes = np.unique(group[values[rows] == number])
            first.append((len(homes), homes[place[homes].argmin()]))
    order = dict.fromkeys([*(home for _, home in sorted(first)), *np.argsort(place).tolist()])
    chosen = list(order)[: math.ceil(fraction * len(names))]
    return rows[np.isin(group, chosen)]
