"""Predictions for frames, and for what frames are of: one sample per video, one per patient.

Notation: n samples, C classes, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
    """Names of the group, video and patient of each of n frames; "" for a patient who is not known."""

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
    """

    true: np.ndarray
    probabilities: np.ndarray
    units: Units
    prevalence: np.ndarray | None = None

    def select(self, rows: np.ndarray) -> "FramePredictions":
        """Those for some frames."""
        prevalence = None if self.prevalence is None else self.prevalence[rows]
        return FramePredictions(
            self.true[rows], self.probabilities[rows], self.units.select(rows), prevalence
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
    """Samples per "frame", "video" and "patient"; of patients only those of a single class."""
    return {level: at_level(predictions, level) for level in ("frame", "video", "patient")}


def at_level(predictions: FramePredictions, level: str) -> Samples:
    """Samples per 'frame', 'video' or 'patient'."""
    if level == "frame":
        return predictions.frames
    if level == "patient":
        single, _, _ = single_class_patients(predictions.true, predictions.units.patients)
        predictions = predictions.select(np.flatnonzero(single))
    return pool(predictions, getattr(predictions.units, f"{level}s"))


def pool(predictions: FramePredictions, units: Names) -> Samples:
    """One sample per unit: its most frequent class, mean probabilities and prevalence, and its group.

    A unit of which two classes are equally frequent has no sample and is not evaluated: which of them is its
    own is not known, and the first in clinical order would be the milder one.
    """
    names, first, unit = np.unique(units, return_index=True, return_inverse=True)
    votes = np.zeros((len(names), predictions.probabilities.shape[1]))
    np.add.at(votes, (unit, predictions.true), 1)
    plain = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1

    def means(values: np.ndarray) -> np.ndarray:
        sums = np.zeros_like(votes)
        np.add.at(sums, unit, values)
        # Rounded, since the mean of equal numbers depends on how many there are, and a rank must not.
        rounded: np.ndarray = (sums / votes.sum(axis=1, keepdims=True)).round(MEAN_DECIMALS)[plain]
        return rounded

    prevalence = None if predictions.prevalence is None else means(predictions.prevalence)
    groups = np.asarray(predictions.units.groups)[first[plain]]
    return Samples(votes.argmax(axis=1)[plain], means(predictions.probabilities), groups, prevalence)


def single_class_patients(true: np.ndarray, patients: Names) -> tuple[np.ndarray, int, int]:
    """Frames of patients whose frames are all of one class: a patient's own class is known only then.

    Args:
        true: (n,) class indices.
        patients: n patients, "" where unknown.

    Returns:
        (n,) bool, whether a frame is of such a patient; how many patients are known; and how many of them
        have frames of several classes.
    """
    classes: dict[str, set[int]] = {}
    for patient, number in zip(patients, true.tolist(), strict=True):
        if patient:
            classes.setdefault(patient, set()).add(number)
    mixed = {patient for patient, numbers in classes.items() if len(numbers) > 1}
    single = np.array([patient in classes and patient not in mixed for patient in patients], dtype=bool)
    return single, len(classes), len(mixed)
