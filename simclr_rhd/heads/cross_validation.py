"""A study: the heads and what they are compared with, each learnt and tested in every fold.

What answers for frames is a list of tables, one for each fold: the probabilities of all labelled frames by
what was learnt from that fold's training part.

Notation: n labelled frames, K folds, D features, P pixels.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simclr_rhd.data.labelled_set import LabelledSet, Probabilities
from simclr_rhd.heads import baselines as comparators
from simclr_rhd.heads.train import Trained, predict, train_heads
from simclr_rhd.ssl.model import Heads

OURS, UNCALIBRATED = "simclr", "uncalibrated"
MAJORITY, PIXELS, NEIGHBOURS = "majority", "pixels", "neighbours"
RANDOM, DRAWS, DRAW = "random encoder", 3, ", draw "  # of which there are so many


@dataclass(frozen=True)
class Encoded:
    """What encoders make of the labelled frames, each frame once.

    Attributes:
        described: {description: (n, D) float32} of the encoder that is kept, see
            `model.forward_with_ood_stats`.
        folds: K times (n, D): of the encoder that a fold is tested with; the same array where there is one.
        rivals: {name: (n, D) of each draw} of encoders to compare with; of a random one there are several,
            as one is a draw.
        pixels: (n, P) float32, the small pictures themselves.
    """

    described: dict[str, np.ndarray]
    folds: Sequence[np.ndarray]
    rivals: Mapping[str, Sequence[np.ndarray]]
    pixels: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """(n, D) float32 features of the encoder that is kept."""
        return self.described["features"]


@dataclass(frozen=True)
class Study:
    """What is learnt from the features of a cohort.

    Attributes:
        cohort: the frames, and how they are tested.
        encoded: their features.
        heads: how heads are trained: options of `train.train_heads`, `seed` among them.
    """

    cohort: LabelledSet
    encoded: Encoded
    heads: dict[str, Any]

    def folds(self) -> range:
        """Numbers of the folds."""
        return range(len(self.cohort.folds))

    def fit(self, x: np.ndarray, train: np.ndarray, val: np.ndarray) -> Trained:
        """Heads on (n, D) features that learn from some rows and choose on others."""
        cohort = self.cohort
        return train_heads(
            x, cohort.target_values(), cohort.n_outputs(), train, val, groups=cohort.groups, **self.heads
        )

    def fit_folds(self, features: Sequence[np.ndarray]) -> list[Trained]:
        """The heads of each fold."""
        rows = self.cohort.rows
        return [self.fit(features[fold], rows(fold, "train"), rows(fold, "val")) for fold in self.folds()]

    def fit_kept(self, part: np.ndarray) -> Trained:
        """The heads of the model that is kept, on its own (n,) parts."""
        return self.fit(self.encoded.kept, np.flatnonzero(part == "train"), np.flatnonzero(part == "val"))

    def said(self, trained: Sequence[Trained]) -> dict[str, list[Probabilities]]:
        """{who: K tables} of our heads, calibrated and not, and of all they are compared with.

        Of several draws of an encoder each is one, the second and later ones named by `draw_of`.
        """
        heads, features = [of_fold.heads for of_fold in trained], self.encoded.folds
        found = {
            OURS: answers(heads, features),
            UNCALIBRATED: answers([uncalibrated(of_fold) for of_fold in heads], features),
            **{name: [] for name in (MAJORITY, PIXELS, NEIGHBOURS)},
        }
        # One majority for all folds: that of a fold's training groups is the class its test groups lack.
        anywhere = np.flatnonzero(np.any([part == "train" for part in self.cohort.folds], axis=0))
        for fold in self.folds():
            rows = self.cohort.rows(fold, "train"), self.cohort.rows(fold, "val")
            counting = self.cohort.evaluable_target_values()
            found[MAJORITY].append(self._compared(comparators.majority, counting, anywhere, rows[1]))
            found[PIXELS].append(self.by_pixels(*rows))
            votes = comparators.neighbours(features[fold])
            found[NEIGHBOURS].append(self._compared(votes, self.cohort.target_values(), *rows))
        for name, drawn in self.encoded.rivals.items():
            for number, x in enumerate(drawn, start=1):
                same = [x for _ in self.folds()]
                heads = [of_fold.heads for of_fold in self.fit_folds(same)]
                found[draw_of(name, number)] = answers(heads, same)
        return found

    def by_pixels(self, train: np.ndarray, val: np.ndarray) -> Probabilities:
        """The table of a logistic regression on the principal components of the pixels."""
        x = comparators.components(self.encoded.pixels, train, seed=self.heads["seed"])
        return self._compared(comparators.regression(x), self.cohort.target_values(), train, val)

    def with_frame_split(self) -> "Study":
        """The same study under a split over frames: what a leak would make of it."""
        return replace(self, cohort=self.cohort.with_frame_split(seed=self.heads["seed"]))

    def _compared(
        self, fit: comparators.Fit, targets: Probabilities, train: np.ndarray, val: np.ndarray
    ) -> dict[str, np.ndarray]:
        return comparators.answer(fit, targets, self.cohort.n_outputs(), train, val)


def draw_of(name: str, number: int) -> str:
    """What the draws of a comparator are called, from 1 on: the first has its own name."""
    return name if number == 1 else f"{name}{DRAW}{number}"


def answers(heads: Sequence[Heads], features: Sequence[np.ndarray]) -> list[Probabilities]:
    """The tables of heads, one for each fold."""
    return [predict(of_fold, x) for of_fold, x in zip(heads, features, strict=True)]


def uncalibrated(heads: Heads) -> Heads:
    """The same heads without their calibration."""
    bare = copy.deepcopy(heads)
    bare.uncalibrate()
    return bare


def pooled(cohort: LabelledSet, tables: Sequence[Probabilities], part: str) -> Probabilities:
    """One table: each frame's mean over the folds in which it stands in a part, NaN where in none.

    For 'test' that is one fold at most: out-of-fold predictions.
    """
    here = np.stack([of_fold == part for of_fold in cohort.folds])  # (K, n)
    times = here.sum(axis=0)[:, None]
    with np.errstate(invalid="ignore"):
        return {
            task: sum(table[task] * rows[:, None] for table, rows in zip(tables, here, strict=True)) / times
            for task in tables[0]
        }
