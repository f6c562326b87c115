"""From the probabilities of an exam's frames to one score of the exam.

Notation: n frames of U exams.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simclr_rhd.evaluation.scores.samples import MEAN_DECIMALS

TOP_SHARE = 0.25  # of an exam's frames, the most probable ones
ALMOST_1 = 1 - 1e-12  # its logarithm is finite


@dataclass(frozen=True)
class FrameEvidence:
    """Evidence of n frames for a screening question.

    Attributes:
        probability: (n,) that a frame is positive.
        prevalence: (n,) share of positive frames that this holds for.
        videos: (n,) names.
    """

    probability: np.ndarray
    prevalence: np.ndarray
    videos: np.ndarray

    def select(self, rows: np.ndarray) -> "FrameEvidence":
        """That of some frames."""
        return FrameEvidence(*(values[rows] for values in vars(self).values()))


# evidence of n frames, and (n,) their exams from 0 to U - 1 -> (U,) scores in [0, 1]
Pooling = Callable[[FrameEvidence, np.ndarray], np.ndarray]


def mean(frames: FrameEvidence, exam: np.ndarray) -> np.ndarray:
    """The mean over an exam's frames."""
    return _means(frames.probability, exam)


def mean_of_top_quarter(frames: FrameEvidence, exam: np.ndarray) -> np.ndarray:
    """The mean over the quarter of an exam's frames that are most probably positive, one at least."""
    order, counts = np.lexsort((-frames.probability, exam)), np.bincount(exam)
    rank = np.arange(len(exam)) - np.repeat(np.cumsum(counts) - counts, counts)
    top = order[rank < np.repeat(np.ceil(TOP_SHARE * counts), counts)]
    return _means(frames.probability[top], exam[top])


def noisy_or(frames: FrameEvidence, exam: np.ndarray) -> np.ndarray:
    """The probability that one video of an exam or more is positive, were they independent (Pearl 1988).

    A video has the mean of its frames.
    """
    _, named = np.unique(frames.videos, return_inverse=True)
    keys = exam * (named.max(initial=0) + 1) + named
    _, first, video = np.unique(keys, return_index=True, return_inverse=True)
    none = np.bincount(exam[first], weights=np.log1p(-_means(frames.probability, video).clip(max=ALMOST_1)))
    score: np.ndarray = -np.expm1(none)
    return score.round(MEAN_DECIMALS)


def _means(values: np.ndarray, exam: np.ndarray) -> np.ndarray:
    """(U,); rounded, as the mean of equal numbers must not depend on how many there are."""
    means: np.ndarray = np.bincount(exam, weights=values) / np.bincount(exam)
    return means.round(MEAN_DECIMALS)


MEAN = "mean"
POOLINGS: dict[str, Pooling] = {
    MEAN: mean,
    "mean of the top quarter": mean_of_top_quarter,
    "noisy-or of videos": noisy_or,
}
