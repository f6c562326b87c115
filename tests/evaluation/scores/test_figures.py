"""Figures of samples and of resamples against scikit-learn's of the same samples, repeated one by one."""

import numpy as np
import pytest
from scikit_learn_scores import by_scikit_learn

from simclr_rhd.evaluation.scores.bootstrap import each_group_once, resample_counts
from simclr_rhd.evaluation.scores.figures import compute_figures
from simclr_rhd.evaluation.scores.ranking import ranking_metrics
from simclr_rhd.evaluation.scores.samples import Samples

ORDERED = [2, 0, 3]
EXACT = {"rtol": 0, "atol": 1e-12}


def sample(seed, n=60, groups=9):
    """Four classes; every second sample has ties, and every third never predicts class 1."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(4), n)
    if seed % 2:
        probabilities = np.round(probabilities, 1)
    if seed % 3 == 0:
        probabilities[:, 1] = 0
    return rng.integers(0, 4, n), probabilities, rng.integers(0, groups, n)


@pytest.mark.parametrize("seed", range(12))
def test_figures_equal_scikit_learn_on_the_same_samples_repeated(seed):
    true, probabilities, group = sample(seed, n=[25, 60][seed % 2])
    shown = np.unique(true).tolist()
    samples = Samples(true, probabilities, group)
    drawn = np.vstack([each_group_once(samples.n_groups), resample_counts(samples.n_groups, seed)[:5]])
    figures, averages = compute_figures(samples, ORDERED, drawn)
    for number, weights in enumerate(drawn):
        rows = np.repeat(np.arange(len(true)), weights[samples.group])
        if len(np.unique(true[rows])) < 2:
            continue
        wanted, of_classes = by_scikit_learn(true[rows], probabilities[rows], ORDERED)
        assert wanted.keys() == averages.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(averages[name][number], value, **EXACT, err_msg=name)
        for (k, name), value in of_classes.items():
            np.testing.assert_allclose(figures[name][number, shown.index(k)], value, **EXACT, err_msg=name)
        for k in set(shown) - set(true[rows].tolist()):
            assert all(np.isnan(values[number, shown.index(k)]) for values in figures.values())


def test_areas_do_not_depend_on_how_many_resamples_are_worked_on_at_once(monkeypatch):
    true, probabilities, group = sample(1)
    arguments = true == 2, probabilities[:, 2], group, resample_counts(9, 0)[:50]
    whole = ranking_metrics(*arguments)
    monkeypatch.setattr("simclr_rhd.evaluation.scores.ranking.MAX_CELLS", 1)
    np.testing.assert_array_equal(ranking_metrics(*arguments), whole)


def test_nothing_is_ranked_in_a_resample_of_one_class():
    drawn = np.array([[2, 0], [0, 2], [1, 1]])
    areas = ranking_metrics(np.array([True, False]), np.array([0.7, 0.2]), np.array([0, 1]), drawn)
    np.testing.assert_array_equal(areas, [[np.nan, np.nan, 1], [np.nan, np.nan, 1]])


def test_a_scale_of_which_one_degree_is_there_has_no_kappa():
    true = np.array([0, 0, 1, 1, 2])
    samples = Samples(true, np.eye(4)[[2, 0, 1, 1, 3]], np.arange(5))
    drawn = np.vstack([each_group_once(5), resample_counts(5, 0)])
    for ordered in ([], [2, 3], [3]):
        assert np.isnan(compute_figures(samples, ordered, drawn).averages["quadratic_kappa"]).all()
