"""Label efficiency: what is reached with a part of the labelled groups, the reason for self-supervision.

Notation: n labelled frames, K folds.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from simclr_rhd.cohort import Cohort, Table
from simclr_rhd.evaluation import balanced_accuracy
from simclr_rhd.heads import predict
from simclr_rhd.study import OURS, PIXELS, Study, pooled

DRAWS = 3  # times that the groups of a fraction are drawn

Learn = Callable[..., Table]  # fold, rows to learn from, rows to choose on


def curves(study: Study, fractions: Sequence[float]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Balanced accuracy per video on the whole test part, by the share of labelled groups that is used.

    Of ours, raw pixels and the random encoder. Groups to choose on are as scarce as groups to learn from. The
    groups of a smaller fraction are among those of a larger one. Each fraction below 1 is drawn three times.

    Args:
        study: the frames and their features.
        fractions: in (0, 1].

    Returns:
        {question's name: {who: points}}; a point has the fraction, the groups it learns from (mean over
        folds), the mean balanced_accuracy over the draws, and its low and high, their range; None where it
        cannot be computed.
    """
    cohort, seed = study.cohort, study.heads["seed"]
    learners: dict[str, Learn] = {
        OURS: lambda fold, *rows: _heads(study, study.encoded.folds[fold], *rows),
        **{
            name: lambda fold, *rows, x=x: _heads(study, x, *rows) for name, x in study.encoded.rivals.items()
        },
        PIXELS: lambda fold, *rows: study.by_pixels(*rows),
    }
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        question.name: {name: [] for name in learners} for question in cohort.questions()
    }
    for fraction in fractions:
        used = [
            [_some(cohort, fold, fraction, seed=[seed, 11, draw, fold]) for fold in range(len(cohort.folds))]
            for draw in range(draws_of(fraction))
        ]
        groups = float(np.mean([len(np.unique(cohort.groups[train])) for of in used for train, _ in of]))
        for name, learn in learners.items():
            draws = [
                pooled(cohort, [learn(fold, *rows) for fold, rows in enumerate(of_draw)], "test")
                for of_draw in used
            ]
            for question in cohort.questions():
                point = _point([balanced_accuracy(cohort, question, table) for table in draws])
                found[question.name][name].append({"fraction": fraction, "groups": groups} | point)
    return found


def draws_of(fraction: float) -> int:
    """How often the groups of a fraction are drawn: all of them, once."""
    return DRAWS if fraction < 1 else 1


def _heads(study: Study, x: np.ndarray, train: np.ndarray, val: np.ndarray) -> Table:
    return predict(study.fit(x, train, val).heads, x)


def _point(scores: Sequence[float | None]) -> dict[str, float | None]:
    known = [score for score in scores if score is not None]
    if not known:
        return dict.fromkeys(("balanced_accuracy", "low", "high"))
    return {"balanced_accuracy": float(np.mean(known)), "low": min(known), "high": max(known)}


def _some(cohort: Cohort, fold: int, fraction: float, *, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a share of the groups of a fold's training and validation part."""
    return (
        some_groups(cohort, cohort.rows(fold, "train"), fraction, seed=seed),
        some_groups(cohort, cohort.rows(fold, "val"), fraction, seed=seed),
    )


def some_groups(cohort: Cohort, rows: np.ndarray, fraction: float, *, seed: Sequence[int]) -> np.ndarray:
    """The rows of a share of their groups, rounded up; first come groups that bring the rarest classes."""
    names = np.random.default_rng(list(seed)).permutation(np.unique(cohort.groups[rows]))
    of_group = {name: rows[cohort.groups[rows] == name] for name in names}
    held = {
        (task, number): [name for name in names if (values[of_group[name]] == number).any()]
        for task, values in cohort.values.items()
        for number in np.unique(values[rows][values[rows] >= 0])
    }
    first = [homes[0] for homes in sorted(held.values(), key=len)]
    order = list(dict.fromkeys([*first, *names]))
    chosen = order[: math.ceil(fraction * len(order))]
    return rows[np.isin(cohort.groups[rows], chosen)]
