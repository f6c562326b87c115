"""From frames to what they are of: one row per video, one per patient.

Notation: n samples, C classes, G groups.
"""

from collections.abc import Sequence

import numpy as np

MEAN_DECIMALS = 12  # of a mean probability

Samples = tuple[np.ndarray, np.ndarray, list[str]]  # class, probabilities and group of each


def aggregate(
    true: np.ndarray,
    probabilities: np.ndarray,
    groups: Sequence[str],
    videos: Sequence[str],
    patients: Sequence[str],
) -> dict[str, Samples]:
    """`{"frame": ROWS, "video": ROWS, "patient": ROWS}`; of patients only those of a single class.

    Args:
        true: (n,) class indices, no -1.
        probabilities: (n, C).
        groups: n groups.
        videos: n videos.
        patients: n patients, "" where unknown.
    """
    single = np.flatnonzero(single_class_patients(true, patients)[0]).tolist()
    return {
        "frame": (true, probabilities, list(groups)),
        "video": pool(true, probabilities, groups, videos),
        "patient": pool(
            true[single],
            probabilities[single],
            [groups[index] for index in single],
            [patients[index] for index in single],
        ),
    }


def pool(true: np.ndarray, probabilities: np.ndarray, groups: Sequence[str], units: Sequence[str]) -> Samples:
    """One row per unit: its most frequent class, mean probabilities, group.

    A unit of which two classes are equally frequent has no row and is not evaluated: which of them is its own
    is not known, and the first in clinical order would be the milder one.
    """
    names, first, unit = np.unique(units, return_index=True, return_inverse=True)
    votes = np.zeros((len(names), probabilities.shape[1]))
    np.add.at(votes, (unit, true), 1)
    sums = np.zeros_like(votes)
    np.add.at(sums, unit, probabilities)
    # Rounded, since the mean of equal numbers depends on how many there are, and a rank must not.
    means = (sums / votes.sum(axis=1, keepdims=True)).round(MEAN_DECIMALS)
    plain = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1
    return votes.argmax(axis=1)[plain], means[plain], [groups[index] for index in first[plain]]


def single_class_patients(true: np.ndarray, patients: Sequence[str]) -> tuple[np.ndarray, int, int]:
    """Whose frames are all of one class: a patient's own class is known only then.

    Args:
        true: (n,) class indices.
        patients: n patients, "" where unknown.

    Returns:
        (n,) bool, whether a frame is of such a patient; how many patients are known; and how many of them
        have frames of several classes.
    """
    seen: dict[str, set[int]] = {}
    for patient, number in zip(patients, true.tolist(), strict=True):
        if patient:
            seen.setdefault(patient, set()).add(number)
    mixed = {patient for patient, numbers in seen.items() if len(numbers) > 1}
    single = np.array([patient in seen and patient not in mixed for patient in patients], dtype=bool)
    return single, len(seen), len(mixed)
