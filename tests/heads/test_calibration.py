import numpy as np
import pytest
from scipy import optimize
from scipy.special import expit, softmax

from simclr_rhd.data.labels.prevalence import adjust_prevalence, balanced_choice
from simclr_rhd.evaluation.scores.calibration_errors import classwise_calibration_error
from simclr_rhd.heads.calibration import fit_scaling

EXACT = {"xatol": 1e-7, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000}


def study(seed, *, n=4000, weights=(1, 1, 1), shares=(0.9, 0.07, 0.03)):
    """(logits, true): Bayes' own log posterior of classes with `shares`, taken over shares of `weights`."""
    rng = np.random.default_rng(seed)
    true = rng.choice(3, n, p=shares)
    x = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[true]
    return 1.5 * x + np.log(np.array(weights) / sum(weights)), true


def test_the_scaling_is_that_of_a_grid_search_in_which_each_sample_counts():
    logits, true = study(0, n=300)
    found = fit_scaling(2 * logits, true, n_independent=300)
    prevalence = (300 * np.bincount(true, minlength=3) / 300 + 0.5 / 3) / 300.5
    target = 301 / 302 * np.eye(3)[true] + prevalence / 302
    np.testing.assert_allclose(found.prevalence, prevalence)

    def loss(x):
        """By the definition; x: log T and the biases."""
        beyond = x[1:] - np.log(prevalence)
        predicted = np.log(softmax(2 * logits / np.exp(x[0]) + x[1:], axis=1))
        prior = (x[0] / 0.5) ** 2 / 2 / 300 + ((beyond / 2) ** 2).sum() / 2 / 300
        return prior - (target * predicted).sum(axis=1).mean()

    best = optimize.minimize(loss, np.append(0.0, np.log(prevalence)), method="Nelder-Mead", options=EXACT).x
    assert found.temperature == pytest.approx(np.exp(best[0]), rel=1e-3)
    np.testing.assert_allclose(found.bias, best[1:] - best[1:].mean(), atol=2e-3)


def test_the_sigmoids_are_scaled_together_and_each_has_its_bias():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 2)) * 2
    true = (expit(logits - 2) > rng.random(logits.shape)).astype(int)
    found = fit_scaling(2 * logits, true, n_independent=200)
    prevalence = (200 * true.mean(axis=0) + 0.25) / 200.5
    target = 201 / 202 * true + prevalence / 202

    def loss(x):
        p = expit(2 * logits / np.exp(x[0]) + x[1:])
        beyond = x[1:] - np.log(prevalence / (1 - prevalence))
        prior = (x[0] / 0.5) ** 2 / 2 / 200 + ((beyond / 2) ** 2).sum() / 2 / 400
        return prior - (target * np.log(p) + (1 - target) * np.log(1 - p)).mean()

    best = optimize.minimize(loss, np.zeros(3), method="Nelder-Mead", options=EXACT).x
    assert found.temperature == pytest.approx(np.exp(best[0]), rel=1e-3)
    np.testing.assert_allclose(found.bias, best[1:], atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_bias_for_each_class_undoes_the_weights_where_a_temperature_cannot(seed):
    """Bayes' answers for classes equally frequent, of which one is 30 times as frequent as another."""
    logits, true = study(seed)
    held, fresh = study(seed + 100)
    found = fit_scaling(logits, true, n_independent=400)
    p = softmax(held / found.temperature + found.bias, axis=1)
    before = softmax(held, axis=1)
    after = classwise_calibration_error(fresh, p)
    assert after < 0.02 < 0.5 * classwise_calibration_error(fresh, before)
    np.testing.assert_allclose(p.mean(axis=0), np.bincount(fresh) / len(fresh), atol=0.02)
    sure = before[:, 2] > 0.7
    assert (fresh[sure] == 2).mean() < 0.6, "said to be rare with 0.7 and more, and mostly not"
    sure = p[:, 2] > 0.7
    assert (fresh[sure] == 2).mean() > 0.7
    assert (balanced_choice(p, found.prevalence) == before.argmax(axis=1)).mean() > 0.95, "what is said stays"


def test_with_few_groups_there_is_hardly_a_bias_and_the_choice_stays():
    logits, true = study(0, n=200)
    few, many = (fit_scaling(logits, true, n_independent=units) for units in (1, 200))
    assert np.ptp(few.bias) < 0.75 * np.ptp(many.bias)
    assert few.prevalence.max() < 0.8 < many.prevalence.max()
    p = softmax(logits / few.temperature + few.bias, axis=1)
    assert (balanced_choice(p, few.prevalence) == logits.argmax(axis=1)).mean() > 0.9


def test_a_class_without_samples_is_neither_said_always_nor_never():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, 400)
    logits = 1.5 * (rng.normal(size=(400, 3)) + 1.5 * np.eye(3)[true])
    found = fit_scaling(logits, true, n_independent=20)
    p = softmax(logits / found.temperature + found.bias, axis=1)
    assert (found.prevalence > 0).all() and p[:, 2].mean() < 0.02
    often, was = (
        (predicted == 2).mean() for predicted in (balanced_choice(p, found.prevalence), logits.argmax(axis=1))
    )
    assert 0 < often <= 1.2 * was


@pytest.mark.parametrize("units", [10, 100])
def test_probabilities_are_not_certain_where_all_is_right(units):
    true = np.array([0, 1, 1, 2])
    found = fit_scaling(9.0 * np.eye(3)[true], true, n_independent=units)
    p = softmax(9 * np.eye(3)[true] / found.temperature + found.bias, axis=1)
    assert 1 - p.max() > 0.05 / units and 1 / 20 <= found.temperature <= 20


def test_the_balanced_choice_is_the_largest_probability_for_its_prevalence():
    p = np.array([[0.80, 0.15, 0.05], [0.95, 0.04, 0.01], [0.5, 0.1, 0.4]])
    assert balanced_choice(p, np.array([0.9, 0.07, 0.03])).tolist() == [1, 0, 2]
    assert balanced_choice(p).tolist() == [0, 0, 0]


def test_probabilities_move_with_the_prevalence_by_bayes():
    """Likelihoods of three findings, by hand: posterior = likelihood times share, over its sum."""
    likelihood = np.array([[0.5, 0.2, 0.1], [0.1, 0.3, 0.9], [0.4, 0.5, 0.0]])
    one, other = np.array([0.7, 0.2, 0.1]), np.array([0.2, 0.2, 0.6])
    p, q = (likelihood * of / (likelihood * of).sum(axis=1, keepdims=True) for of in (one, other))
    np.testing.assert_allclose(adjust_prevalence(p, one, other), q, atol=1e-12)
    np.testing.assert_array_equal(
        balanced_choice(p, one), balanced_choice(adjust_prevalence(p, one, other), other)
    )
