"""Attention pooling: an exam is as its most telling frames are, and which these are is learnt.

Ilse, Tomczak & Welling 2018, "Attention-based Deep Multiple Instance Learning". One linear score is used both
for what a frame shows and for how much it counts: exams are few, and a network would overfit them.

Notation: n frames of U exams, D features, V other outputs.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import logit
from sklearn.linear_model import Ridge
from torch import Tensor
from torch.nn.functional import softplus

from simclr_rhd.evaluation.config import ATTENTION
from simclr_rhd.evaluation.screening.exams import Exams
from simclr_rhd.evaluation.screening.pooling import EDGE, FrameEvidence

MIN_EXAMS = 10  # of each kind in training; with fewer it is not tried
# Penalties of changes from the start (benchmarks/pooling.py): of the weights of standardised features; of the
# logarithm of the sharpness and the weights of the other outputs
L2, L2_ATTENTION = 1.0, 0.1
RIDGE = 1e-3  # penalty of the start's weights
MAX_STEPS = 200


@dataclass(frozen=True)
class AttentionPooling:
    """A learnt pooling.

    An exam's logit is the mean of its frames' scores, weighted by a softmax over them of the score times the
    sharpness, plus what the other outputs add. Learning starts from the scores of the frames' own head.

    Attributes:
        centre: (D,) mean of the training features.
        scale: (D,) deviation of these, above 0.
        weights: (D,) of a standardised feature in a frame's score.
        offset: of the score.
        sharpness: how much more a frame of higher score counts, above 0.
        attention: (V,) how much more a frame counts by the other outputs, such as its view.
    """

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    offset: float
    sharpness: float
    attention: np.ndarray

    name = ATTENTION

    @classmethod
    def fit(cls, evidence: FrameEvidence, training: Exams) -> "AttentionPooling | None":
        """Learn from training exams, both kinds with equal weight; None where one has too few.

        Args:
            evidence: of all labelled frames.
            training: the exams.
        """
        positive = training.positive
        if min(positive.sum(), (~positive).sum()) < MIN_EXAMS:
            return None
        frames = evidence.select(training.rows)
        centre, scale = frames.features.mean(axis=0), frames.features.std(axis=0).clip(min=1e-6)
        standardised = (frames.features - centre) / scale
        frame_logits = logit(frames.probability.clip(EDGE, 1 - EDGE))
        head = Ridge(alpha=len(frame_logits) * RIDGE).fit(standardised, frame_logits)
        start = np.concatenate([head.coef_, [head.intercept_, 0.0], np.zeros(frames.others.shape[1])])
        problem = _Problem(
            torch.from_numpy(standardised),
            torch.from_numpy(frames.others.astype(np.float32)),
            torch.from_numpy(training.exam),
            torch.from_numpy(positive.astype(np.float32)),
            torch.from_numpy(start.astype(np.float32)),
        )
        options = {"maxiter": MAX_STEPS}
        solution = minimize(problem.loss, start, jac=True, method="L-BFGS-B", options=options).x
        weights, offset, log_sharpness, attention = problem.split(solution)
        return cls(centre, scale, weights, float(offset), float(np.exp(log_sharpness)), attention)

    def score(self, frames: FrameEvidence) -> tuple[np.ndarray, np.ndarray]:
        """(n,) scores of frames, and (n,) what the other outputs add to their attention."""
        score = (frames.features - self.centre) / self.scale @ self.weights + self.offset
        return score, frames.others @ self.attention

    def logits(self, frames: FrameEvidence, exam: np.ndarray) -> np.ndarray:
        """See `Pooling.logits`."""
        score, attention = self.score(frames)
        attention = self.sharpness * score + attention
        highest = np.full(exam.max() + 1, -np.inf)
        np.maximum.at(highest, exam, attention)
        share = np.exp(attention - highest[exam])
        pooled: np.ndarray = np.bincount(exam, weights=share * score) / np.bincount(exam, weights=share)
        return pooled


@dataclass(frozen=True)
class _Problem:
    """The loss of a pooling's parameters on training exams.

    Attributes:
        features: (n, D) float32, standardised.
        others: (n, V) float32.
        exam: (n,) int64.
        positive: (U,) float32, 0 or 1.
        start: (D + 2 + V,) float32 parameters.
    """

    features: Tensor
    others: Tensor
    exam: Tensor
    positive: Tensor
    start: Tensor

    def split(self, parameters: np.ndarray) -> list[np.ndarray]:
        """The weights, offset, logarithm of the sharpness, and attention in a vector of parameters."""
        dim = self.features.shape[1]
        weights, offset, log_sharpness, attention = np.split(parameters, [dim, dim + 1, dim + 2])
        return [weights, offset[0], log_sharpness[0], attention]

    def loss(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Cross-entropy with both kinds of equal weight, plus penalties; and its gradient."""
        vector = torch.tensor(parameters, dtype=torch.float32, requires_grad=True)
        dim = self.features.shape[1]
        weights, offset, log_sharpness, attention = vector.split([dim, 1, 1, self.others.shape[1]])
        score = self.features @ weights + offset
        importance = log_sharpness.exp() * score + self.others @ attention
        zeros = torch.zeros_like(self.positive)
        highest = zeros.scatter_reduce(0, self.exam, importance.detach(), "amax", include_self=False)
        share = (importance - highest[self.exam]).exp()
        pooled = zeros.index_add(0, self.exam, share * score) / zeros.index_add(0, self.exam, share)
        half = torch.where(self.positive > 0, self.positive.mean(), 1 - self.positive.mean())
        errors = softplus(torch.where(self.positive > 0, -pooled, pooled)) / (2 * half)
        change = (vector - self.start).square()
        penalty = L2 * change[:dim].sum() + L2_ATTENTION * change[dim + 1 :].sum()
        total = errors.mean() + penalty / 2
        total.backward()
        return total.item(), vector.grad.double().numpy() if vector.grad is not None else np.zeros(0)
