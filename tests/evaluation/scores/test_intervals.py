"""Intervals of figures: of which groups they are, and how wide."""

import numpy as np
import pytest

from simclr_rhd.evaluation.scores.intervals import bootstrap_intervals, effective_groups
from simclr_rhd.evaluation.scores.samples import Samples


def test_a_figure_rests_on_the_groups_without_which_it_would_be_another():
    """Class 0 in groups 0 to 3, class 1 in groups 3 and 4; class 1 is predicted in group 0 only."""
    group = np.array([0, 1, 2, 3, 3, 4, 0])
    true = np.array([0, 0, 0, 0, 1, 1, 0])
    predicted = np.array([1, 0, 0, 0, 0, 0, 0])
    figures, averages = effective_groups(Samples(true, np.eye(2)[predicted], group))
    assert {name: values.tolist() for name, values in figures.items()} == {
        "accuracy": [5, 5],
        "precision": [5, 1],
        "recall": [4, 2],
        "f1": [4, 2],
        "specificity": [2, 4],
        "auroc": [2, 2],
        "average_precision": [2, 2],
    }
    assert averages["recall_macro"] == averages["balanced_accuracy"] == 5, "2² / (1/4 + 1/2), but 5 at most"
    assert averages["auroc_macro"] == 4 and averages["precision_macro"] == pytest.approx(4 / 1.2)


def test_the_bound_of_a_class_rests_on_its_own_groups():
    """Ten groups, all right; class 1 is in two of them."""
    true = np.repeat([0, 0, 0, 0, 0, 0, 0, 0, 1, 1], 3)
    samples = Samples(true, np.eye(2)[true], np.repeat(np.arange(10), 3))
    found, averages = bootstrap_intervals(samples, (), seed=0)
    assert found["recall"] == [[pytest.approx(0.025 ** (1 / 8)), 1.0], [pytest.approx(0.025 ** (1 / 2)), 1.0]]
    assert averages["accuracy"] == [pytest.approx(0.025 ** (1 / 10)), 1.0]
    assert averages["balanced_accuracy"] == [pytest.approx(0.025 ** (1 / 6.4)), 1.0], "2² / (1/8 + 1/2)"
    low = 0.025 ** (1 / 10)  # of ten trials
    assert averages["brier"] == [0.0, pytest.approx(2 * (1 - low))]
    assert averages["ece"] == [0.0, pytest.approx(1 - low)]
    expected = 2 * 0.8 * 0.2  # disagreement by chance
    assert averages["kappa"] == [pytest.approx(1 - (1 - low) / expected), 1.0]


def test_the_bootstrap_draws_groups_not_frames():
    """Two groups, one all right and one all wrong: resamples are 0, 0.5 or 1, with any number of frames."""
    true = np.tile([0, 1], 500)
    probabilities = np.eye(2)[np.concatenate([true[:500], 1 - true[500:]])]

    def accuracy(groups):
        return bootstrap_intervals(Samples(true, probabilities, groups), (), seed=0)[1]["accuracy"]

    assert accuracy(np.repeat(["g", "h"], 500)) == [0.0, 1.0]
    assert accuracy(np.arange(1000))[0] > 0.46
    assert accuracy(np.zeros(1000)) is None
