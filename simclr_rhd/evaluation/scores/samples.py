"""Predictions for frames, and for what frames are of: one sample per video, one per patient.

Notation: n samples, C classes, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from simclr_rhd.data.labels.prevalence import balanced_choice

MEAN_DECIMALS = 12  # of a mean probability

Names = Sequence[str] | np.ndarray


@dataclass(frozen=True)
class ClassSet:
    """The classes of a target.

    Attributes:
        names: C names.
        evaluable: indices of the classes that count.
        ordered: indices of the classes that form a scale, lowest first; may be none.
    """

    names: Sequence[str]
    evaluable: Sequence[int]
    ordered: Sequence[int] = ()


@dataclass(frozen=True)
class Units:
    """Names of the group, video and patient of each of n frames.

    "" stands for a patient who is not known, and for a video or patient whose class is not.
    """

    groups: Names
    videos: Names
    patients: Names

    def select(self, rows: np.ndarray) -> "Units":
        """Those of some frames."""
        return Units(*(np.asarray(names)[rows] for names in (self.groups, self.videos, self.patients)))


@dataclass(frozen=True)
class FramePredictions:
    """A classifier's predictions for n frames.

    Attributes:
        true: (n,) class indices, no -1.
        probabilities: (n, C), rows sum to 1.
        units: what the frames are of.
        prevalence: (n, C) that the probabilities hold for; None for classes that are equally frequent.
        ordered: indices of the classes that form a scale, lowest first; may be none.
    """

    true: np.ndarray
    probabilities: np.ndarray
    units: Units
    prevalence: np.ndarray | None = None
    ordered: Sequence[int] = ()

    def select(self, rows: np.ndarray) -> "FramePredictions":
        """Those for some frames."""
        prevalence = None if self.prevalence is None else self.prevalence[rows]
        return replace(
            self,
            true=self.true[rows],
            probabilities=self.probabilities[rows],
            units=self.units.select(rows),
            prevalence=prevalence,
        )

    @property
    def frames(self) -> "Samples":
        """One sample per frame."""
        return Samples(self.true, self.probabilities, np.asarray(self.units.groups), self.prevalence)


@dataclass(frozen=True)
class Samples:
    """Predictions for n frames, videos or patients, as of `FramePredictions`, with (n,) names of groups."""

    true: np.ndarray
    probabilities: np.ndarray
    groups: np.ndarray
    prevalence: np.ndarray | None = None

    @cached_property
    def predicted(self) -> np.ndarray:
        """(n,) class indices, see `prevalence.balanced_choice`."""
        return balanced_choice(self.probabilities, self.prevalence)

    @cached_property
    def present(self) -> list[int]:
        """The classes that occur."""
        return list(map(int, np.unique(self.true)))

    @cached_property
    def group(self) -> np.ndarray:
        """(n,) index of each sample's group, in the order of their names."""
        return np.unique(self.groups, return_inverse=True)[1]

    @property
    def n_groups(self) -> int:
        """G."""
        return len(np.unique(self.groups))

    @property
    def n_classes(self) -> int:
        """C."""
        return int(self.probabilities.shape[1])

    def of_classes(self, classes: Sequence[int]) -> "Samples":
        """Those of some classes."""
        rows = np.isin(self.true, classes)
        prevalence = None if self.prevalence is None else self.prevalence[rows]
        return Samples(self.true[rows], self.probabilities[rows], self.groups[rows], prevalence)


def aggregate(predictions: FramePredictions) -> dict[str, Samples]:
    """Samples per "frame", "video" and "patient"; of patients those whose class is known."""
    return {level: at_level(predictions, level) for level in ("frame", "video", "patient")}


def at_level(predictions: FramePredictions, level: str) -> Samples:
    """Samples per 'frame', 'video' or 'patient'."""
    if level == "frame":
        return predictions.frames
    if level == "patient":
        truth, _, _ = patient_truths(predictions)
        known = np.flatnonzero(truth >= 0)
        predictions = replace(predictions.select(known), true=truth[known])
    return pool(predictions, getattr(predictions.units, f"{level}s"))


def pool(predictions: FramePredictions, units: Names) -> Samples:
    """One sample per unit: its most frequent class, mean probabilities and prevalence, and its group.

    A unit of which two classes are equally frequent has no sample and is not evaluated: which of them is its
    own is not known, and the first in clinical order would be the milder one. Nor has a unit without a name.
    """
    names, first, unit = np.unique(np.asarray(units, dtype=str), return_index=True, return_inverse=True)
    votes = np.zeros((len(names), predictions.probabilities.shape[1]))
    np.add.at(votes, (unit, predictions.true), 1)
    plain = ((votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1) & (names != "")

    def means(values: np.ndarray) -> np.ndarray:
        sums = np.zeros_like(votes)
        np.add.at(sums, unit, values)
        # Rounded, since the mean of equal numbers depends on how many there are, and a rank must not.
        rounded: np.ndarray = (sums / votes.sum(axis=1, keepdims=True)).round(MEAN_DECIMALS)[plain]
        return rounded

    prevalence = None if predictions.prevalence is None else means(predictions.prevalence)
    groups = np.asarray(predictions.units.groups)[first[plain]]
    return Samples(votes.argmax(axis=1)[plain], means(predictions.probabilities), groups, prevalence)


def patient_truths(predictions: FramePredictions) -> tuple[np.ndarray, int, int]:
    """The class of each frame's patient: the highest degree of any of its frames, else the class of all.

    A lesion is seen in some frames of a patient and in others not, so the frames of lower degrees do not
    speak against it. A patient has no class of its own whose frames are of several classes without an order.

    Returns:
        (n,) class indices, -1 where the patient or its class is not known; how many patients are known; and
        how many of these have no class of their own.
    """
    names, patient = np.unique(np.asarray(predictions.units.patients, dtype=str), return_inverse=True)
    degree_of = np.full(predictions.probabilities.shape[1], -1)
    degree_of[list(predictions.ordered)] = np.arange(len(predictions.ordered))
    highest = np.full(len(names), -1)
    np.maximum.at(highest, patient, degree_of[predictions.true])
    low, high = np.full(len(names), len(degree_of)), np.full(len(names), -1)
    np.minimum.at(low, patient, predictions.true)
    np.maximum.at(high, patient, predictions.true)
    truth = np.where(low == high, low, -1)
    graded = highest >= 0
    truth[graded] = np.asarray(predictions.ordered, dtype=int)[highest[graded]]
    known = names != ""
    truth[~known] = -1
    return truth[patient], int(known.sum()), int((known & (truth < 0)).sum())
