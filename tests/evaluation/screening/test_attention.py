import numpy as np
import pytest
from scipy.special import expit

from simclr_rhd.evaluation.screening.attention import AttentionPooling
from simclr_rhd.evaluation.screening.exams import Exams
from simclr_rhd.evaluation.screening.pooling import MEAN_POOLING, FrameEvidence

FRAMES, DIM = 10, 12


def simulate(rng, patients, shown, *, others=0):
    """Exams of ten frames, of which `shown` have a lesion in positive patients; weak evidence of it."""
    positive = np.arange(patients) % 2 == 0
    exam = np.repeat(np.arange(patients), FRAMES)
    shows = positive[exam] & (np.arange(len(exam)) % FRAMES < shown)
    features = rng.normal(size=(len(exam), DIM)).astype(np.float32)
    features[:, 0] += 3 * shows
    probability = expit(features[:, 0] - 3)
    views = np.eye(others + 1)[np.minimum(np.arange(len(exam)) % FRAMES, others)][:, :others]
    evidence = FrameEvidence(probability, np.full(len(exam), 0.5), exam.astype(str), features, views)
    return Exams(positive, np.arange(patients).astype(str), np.arange(len(exam)), exam, 0), evidence


def test_by_hand():
    pooling = AttentionPooling(np.zeros(2), np.ones(2), np.array([1.0, 0.0]), 0.5, 2.0, np.array([3.0]))
    features = np.array([[1, 9], [0, 9], [2, 9]], dtype=np.float32)
    none = np.zeros(3)
    frames = FrameEvidence(none, none, none.astype(str), features, np.array([[0.0], [1.0], [0.0]]))
    scores, importance = np.array([1.5, 0.5]), np.array([3.0, 1.0 + 3.0])
    weights = np.exp(importance) / np.exp(importance).sum()
    assert pooling.logits(frames, np.array([0, 0, 1])) == pytest.approx([weights @ scores, 2.5])


def test_a_lesion_in_one_frame_is_seen_better_than_by_the_mean():
    rng = np.random.default_rng(0)
    training, evidence = simulate(rng, 80, 1)
    pooling = AttentionPooling.fit(evidence, training)
    tested, new = simulate(rng, 400, 1)

    def rank_sum(logits):
        return (logits[tested.positive][:, None] > logits[~tested.positive]).mean()

    by_mean = rank_sum(MEAN_POOLING.logits(new, tested.exam))
    assert rank_sum(pooling.logits(new, tested.exam)) > by_mean + 0.03 and pooling.sharpness > 0


def test_a_view_in_which_lesions_are_seen_counts_more():
    """The second half of the frames says nothing, and another output tells which half it is."""
    rng = np.random.default_rng(0)
    training, evidence = simulate(rng, 80, 1, others=1)
    pooling = AttentionPooling.fit(evidence, training)
    assert pooling.attention.shape == (1,) and pooling.attention[0] > 0.1


def test_learning_is_deterministic_and_takes_ten_exams_of_each_kind():
    rng = np.random.default_rng(0)
    training, evidence = simulate(rng, 40, 1)
    one, other = (AttentionPooling.fit(evidence, training) for _ in range(2))
    assert np.array_equal(one.weights, other.weights) and one.sharpness == other.sharpness
    few, evidence = simulate(rng, 18, 1)
    assert AttentionPooling.fit(evidence, few) is None
