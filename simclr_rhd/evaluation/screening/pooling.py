"""From the frames of an exam to one logit of the exam: fixed ways; a learnt one is in `attention`.

Notation: n frames of U exams, D features, V other outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import logit

from simclr_rhd.evaluation.config import MEAN, NOISY_OR, TOP_QUARTER
from simclr_rhd.evaluation.scores.samples import MEAN_DECIMALS

TOP_SHARE = 0.25  # of an exam's frames, the most probable ones
ALMOST_1 = 1 - 1e-12  # its logarithm is finite
EDGE = 1e-6  # least distance of a probability from 0 and 1: its logit is finite


@dataclass(frozen=True)
class FrameEvidence:
    """Evidence of n frames for a screening question.

    Attributes:
        probability: (n,) that a frame is positive.
        prevalence: (n,) share of positive frames that this holds for.
        videos: (n,) names.
        features: (n, D) float32 of the encoder.
        others: (n, V) probabilities of the other tasks, such as of the views.
    """

    probability: np.ndarray
    prevalence: np.ndarray
    videos: np.ndarray
    features: np.ndarray
    others: np.ndarray

    def select(self, rows: np.ndarray) -> "FrameEvidence":
        """That of some frames."""
        return FrameEvidence(*(values[rows] for values in vars(self).values()))


def concatenate(parts: Sequence[FrameEvidence]) -> FrameEvidence:
    """The evidence of all parts' frames."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return FrameEvidence(*(np.concatenate(column) for column in columns))


class Pooling(Protocol):
    """A way to put the frames of an exam together."""

    @property
    def name(self) -> str:
        """As it stands in files and on pages."""

    def logits(self, frames: FrameEvidence, exam: np.ndarray) -> np.ndarray:
        """(U,) logits that exams are positive, if half of all are.

        Args:
            frames: evidence of n frames.
            exam: (n,) the exam of each, from 0 to U - 1.
        """


@dataclass(frozen=True)
class FixedPooling:
    """A way that learns nothing.

    Attributes:
        name: as it stands in files.
        pool: evidence of n frames and (n,) exams -> (U,) probabilities.
    """

    name: str
    pool: Callable[[FrameEvidence, np.ndarray], np.ndarray]

    def logits(self, frames: FrameEvidence, exam: np.ndarray) -> np.ndarray:
        """See `Pooling.logits`: the pooled probability's logit, less that of the share of positive frames."""
        prevalence = np.bincount(exam, weights=frames.prevalence) / np.bincount(exam)
        pooled = self.pool(frames, exam).clip(EDGE, 1 - EDGE)
        difference: np.ndarray = logit(pooled) - logit(prevalence.clip(EDGE, 1 - EDGE))
        return difference


def mean(frames: FrameEvidence, exam: np.ndarray) -> np.ndarray:
    """(U,) means over an exam's frames."""
    return _means(frames.probability, exam)


def mean_of_top_quarter(frames: FrameEvidence, exam: np.ndarray) -> np.ndarray:
    """(U,) means over the quarter of an exam's frames that are most probably positive, one at least."""
    order, counts = np.lexsort((-frames.probability, exam)), np.bincount(exam)
    rank = np.arange(len(exam)) - np.repeat(np.cumsum(counts) - counts, counts)
    top = order[rank < np.repeat(np.ceil(TOP_SHARE * counts), counts)]
    return _means(frames.probability[top], exam[top])


def noisy_or(frames: FrameEvidence, exam: np.ndarray) -> np.ndarray:
    """(U,) probabilities that one video of an exam or more is positive, were they independent (Pearl 1988).

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


MEAN_POOLING = FixedPooling(MEAN, mean)
FIXED_POOLINGS = (
    MEAN_POOLING,
    FixedPooling(TOP_QUARTER, mean_of_top_quarter),
    FixedPooling(NOISY_OR, noisy_or),
)
