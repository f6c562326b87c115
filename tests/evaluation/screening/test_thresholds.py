import numpy as np
import pytest

from simclr_rhd.evaluation.screening.rates import ScreeningScores
from simclr_rhd.evaluation.screening.thresholds import (
    SENSITIVITY,
    SPECIFICITY,
    OperatingGoal,
    choose_threshold,
)


def scores_of(ill, well):
    positive = np.repeat([True, False], [len(ill), len(well)])
    return ScreeningScores(positive, np.array([*ill, *well], dtype=float), np.arange(len(positive)))


def rates(scores, threshold):
    sent_on = scores.score >= threshold
    return sent_on[scores.positive].mean(), (~sent_on[~scores.positive]).mean()


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 1.0])
def test_a_goal_is_reached_and_the_other_rate_is_the_best(seed, share):
    """Against all thresholds that make a difference, ties among the scores."""
    rng = np.random.default_rng(seed)
    scores = scores_of(
        *(
            rng.integers(0, 9, size) / 9 + more
            for size, more in zip(rng.integers(1, 25, 2), (0.2, 0), strict=True)
        )
    )
    steps = [*np.unique(scores.score), 9.0]
    for rate, own, other in ((SENSITIVITY, 0, 1), (SPECIFICITY, 1, 0)):
        reached = rates(scores, choose_threshold(scores, OperatingGoal(rate, share)))
        assert reached[own] >= share - 1e-9
        fitting = [rates(scores, step) for step in steps]
        assert reached[other] == max(of[other] for of in fitting if of[own] >= share - 1e-9)


def test_nine_of_ten_are_enough_for_a_share_of_nine_tenths():
    """0.9 x 10 is 9.000000000000002 in floating point for some shares."""
    scores = scores_of(np.arange(10) / 10, [0.0])
    assert choose_threshold(scores, OperatingGoal(SENSITIVITY, 0.1 * 9)) == 0.1


def test_without_ill_or_without_others_there_is_none():
    for ill, well in (([], [0.1]), ([0.2], [])):
        for rate in (SENSITIVITY, SPECIFICITY):
            assert choose_threshold(scores_of(ill, well), OperatingGoal(rate, 0.9)) is None


def test_a_goal_has_a_name():
    assert OperatingGoal(SENSITIVITY, 0.9).name == "sensitivity 0.90"
