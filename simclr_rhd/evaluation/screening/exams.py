"""Exams: all frames of a patient, or of a video where the patient is not known, with one score.

Notation: n frames of U exams.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from simclr_rhd.data.labelled_set import LabelledSet, Probabilities
from simclr_rhd.evaluation.scores.samples import MEAN_DECIMALS
from simclr_rhd.evaluation.screening.pooling import FrameEvidence, Pooling
from simclr_rhd.evaluation.screening.positives import NEITHER, POSITIVE, ScreeningQuestion
from simclr_rhd.evaluation.screening.rates import ScreeningScores
from simclr_rhd.heads.calibration import Scaling, fit_scaling

PATIENT, VIDEO, MIXED = "patient", "video", "patient or video"


def frame_evidence(
    question: ScreeningQuestion,
    table: Probabilities,
    tasks: Iterable[str],
    *,
    videos: np.ndarray,
    features: np.ndarray,
) -> FrameEvidence:
    """The evidence of n frames for a question.

    Args:
        question: of the screening.
        table: of probabilities.
        tasks: all that the table has.
        videos: (n,) names.
        features: (n, D) of the frames.
    """
    others = [table[task] for task in tasks if task != question.task]
    return FrameEvidence(
        question.probability(table),
        question.prevalence(table),
        videos,
        features,
        np.concatenate([np.zeros((len(features), 0)), *others], axis=1),
    )


def labelled_evidence(
    labelled_set: LabelledSet, question: ScreeningQuestion, table: Probabilities, features: np.ndarray
) -> FrameEvidence:
    """The evidence of all labelled frames."""
    videos = np.asarray(labelled_set.videos)
    return frame_evidence(question, table, labelled_set.outputs(), videos=videos, features=features)


@dataclass(frozen=True)
class Exams:
    """The exams of some frames; those whose status is not known are left out.

    Attributes:
        positive: (U,) bool; a positive frame makes an exam positive, else a negative one makes it negative.
        groups: (U,) names.
        rows: (n,) frames of these exams, indices of the labelled set.
        exam: (n,) index of each frame's exam.
        left_out: exams without a positive or negative frame, and undecided ones.
        undecided: exams without a positive frame that have a frame of which it is not known what it shows.
    """

    positive: np.ndarray
    groups: np.ndarray
    rows: np.ndarray
    exam: np.ndarray
    left_out: int
    undecided: int = 0

    def values(self, of_frames: np.ndarray) -> np.ndarray:
        """(U,) the value that all frames of an exam have, "" where they have several.

        Args:
            of_frames: values of all labelled frames.
        """
        names, code = np.unique(of_frames[self.rows], return_inverse=True)
        low, high = np.full(len(self.positive), len(names)), np.full(len(self.positive), -1)
        np.minimum.at(low, self.exam, code)
        np.maximum.at(high, self.exam, code)
        return np.array([names[a] if a == b else "" for a, b in zip(low, high, strict=True)], dtype=object)

    def scores(self, score: np.ndarray) -> ScreeningScores:
        """The exams with (U,) scores."""
        return ScreeningScores(self.positive, score, self.groups)


def exam_unit(labelled_set: LabelledSet) -> str:
    """PATIENT, VIDEO or MIXED: the exams of a labelled set."""
    known = np.asarray(labelled_set.patients) != ""
    return PATIENT if known.all() else MIXED if known.any() else VIDEO


def make_exams(
    labelled_set: LabelledSet,
    question: ScreeningQuestion,
    rows: np.ndarray,
    undecided: np.ndarray | None = None,
) -> Exams:
    """The exams that some frames are of, with all their frames among these.

    Args:
        labelled_set: the frames.
        question: of the screening.
        rows: (m,) indices.
        undecided: (m,) bool: frames that may be positive; an exam with one is positive or left out.
    """
    patients, videos = np.asarray(labelled_set.patients)[rows], np.asarray(labelled_set.videos)[rows]
    # a prefix keeps a patient apart from a video of the same name
    keys = np.where(patients != "", np.char.add("p", patients), np.char.add("v", videos))
    names, first, exam = np.unique(keys, return_index=True, return_inverse=True)
    status = np.full(len(names), NEITHER)
    np.maximum.at(status, exam, question.status(labelled_set.target_values()[question.task][rows]))
    doubtful = np.zeros(len(names), dtype=bool)
    if undecided is not None:
        doubtful[exam[undecided]] = True
        doubtful &= status != POSITIVE
    known = (status != NEITHER) & ~doubtful
    inside, place = known[exam], np.cumsum(known) - 1
    return Exams(
        positive=status[known] == POSITIVE,
        groups=np.asarray(labelled_set.groups)[rows][first[known]],
        rows=rows[inside],
        exam=place[exam[inside]],
        left_out=int((~known).sum()),
        undecided=int(doubtful.sum()),
    )


@dataclass(frozen=True)
class ExamScorer:
    """A score for each exam, from the probabilities of its frames, calibrated on validation exams.

    Attributes:
        pooling: of frames to an exam.
        scaling: from its logit to that of the probability that the exam is positive.
    """

    pooling: Pooling
    scaling: Scaling

    @classmethod
    def fit(cls, pooling: Pooling, evidence: FrameEvidence, validation: Exams) -> "ExamScorer":
        """Calibrate on validation exams; without any the pooled probabilities stay as they are."""
        if not len(validation.positive):
            return cls(pooling, Scaling(1.0, np.zeros(1), np.full(1, 1 / 2)))
        pooled = pooling.logits(evidence.select(validation.rows), validation.exam)
        true = validation.positive[:, None].astype(np.int64)
        scaling = fit_scaling(pooled[:, None], true, n_independent=len(np.unique(validation.groups)))
        return cls(pooling, scaling)

    def score(self, evidence: FrameEvidence, exams: Exams) -> np.ndarray:
        """(U,) probability that an exam is positive, at the share of positive validation exams."""
        return self.probability(evidence.select(exams.rows), exams.exam)

    def probability(self, frames: FrameEvidence, exam: np.ndarray) -> np.ndarray:
        """(U,) the same of n frames and (n,) their exams, from 0 to U - 1."""
        pooled = self.pooling.logits(frames, exam)
        probability: np.ndarray = expit(pooled / self.scaling.temperature + self.scaling.bias[0])
        return probability.round(MEAN_DECIMALS)
