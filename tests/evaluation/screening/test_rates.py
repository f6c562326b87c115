import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from simclr_rhd.evaluation.screening.rates import ScreeningScores, rates_at


def make_scores(cases, seed=0):
    """One patient each: (ill, score)."""
    ill, score = zip(*cases, strict=True)
    return ScreeningScores(
        np.array(ill, dtype=bool), np.array(score, dtype=float), np.array([str(n) for n in range(len(ill))])
    )


def simulated(rng, n_ill, n_well, per_group=1):
    ill = np.repeat([True, False], [n_ill, n_well])
    own = np.repeat(rng.normal(size=-(-len(ill) // per_group)), per_group)[: len(ill)]
    score = 1 / (1 + np.exp(-(ill * rng.uniform(0, 3) + own + rng.normal(size=len(ill)) * 0.3)))
    return ScreeningScores(ill, score, np.arange(len(ill)) // per_group)


def by_hand(scores, threshold):
    cells = [[0, 0], [0, 0]]
    for ill, score in zip(scores.positive, scores.score, strict=True):
        cells[int(ill)][int(score >= threshold)] += 1
    return cells


@pytest.mark.parametrize("seed", range(50))
def test_rates_are_those_by_hand(seed):
    """Random cases and degenerate ones: few or no units of a kind, all or none sent on."""
    rng = np.random.default_rng(seed)
    scores = simulated(rng, *rng.integers(0, 12, 2) + (seed % 10 != 0))
    threshold = rng.choice([0.0, 0.3, 0.5, 0.7, 2.0])
    (passed, alarms), (missed, detected) = by_hand(scores, threshold)
    ill, well = missed + detected, passed + alarms
    rates = rates_at(scores, threshold, seed=0)
    assert rates.sensitivity.value == (pytest.approx(detected / ill) if ill else None)
    assert rates.specificity.value == (pytest.approx(passed / well) if well else None)
    if not ill or not well:
        assert rates.lr_positive.value is None and rates.at_prevalence(0.02) is None
        return
    ratio = detected / ill / (alarms / well) if alarms else math.inf if detected else None
    assert rates.lr_positive.value == (None if ratio is None else pytest.approx(ratio))
    prevalence = 0.02
    at = rates.at_prevalence(prevalence)
    true_alarms, false_alarms = prevalence * detected / ill, (1 - prevalence) * alarms / well
    left, left_ill = (1 - prevalence) * passed / well, prevalence * missed / ill
    none_sent_on, all_sent_on = not detected and not alarms, not passed and not missed
    assert at.ppv.value == (
        None if none_sent_on else pytest.approx(true_alarms / (true_alarms + false_alarms))
    )
    assert at.npv.value == (None if all_sent_on else pytest.approx(left / (left + left_ill)))
    assert at.sent_on == pytest.approx(1000 * (true_alarms + false_alarms))
    assert at.missed == pytest.approx(1000 * left_ill)
    assert at.ill_sent_on + at.missed == pytest.approx(1000 * prevalence)
    json.loads(json.dumps(rates.to_json(), allow_nan=False))


@pytest.mark.parametrize("seed", range(20))
def test_a_figure_lies_in_its_interval(seed):
    rng = np.random.default_rng(seed)
    rates = rates_at(simulated(rng, *rng.integers(2, 30, 2), per_group=1 + seed % 3), 0.6, seed=1)
    at = rates.at_prevalence(0.05)
    for score in (rates.sensitivity, rates.specificity, rates.lr_positive, rates.lr_negative, at.ppv, at.npv):
        if score.value is not None and score.low is not None:
            assert score.low - 1e-9 <= score.value <= score.high + 1e-9


def test_one_unit_a_group_has_nearly_the_interval_of_as_many_trials():
    scores = make_scores([(True, 0.9)] * 36 + [(True, 0.1)] * 4 + [(False, 0.1)] * 50)
    sensitivity = rates_at(scores, 0.5, seed=0).sensitivity
    exact = binomtest(36, 40).proportion_ci(method="wilson")
    assert sensitivity.low == pytest.approx(exact.low, abs=0.02) and sensitivity.high == pytest.approx(
        exact.high, abs=0.02
    )


def test_ten_equal_frames_of_a_patient_are_hardly_more_than_one():
    one = make_scores([(True, 0.9)] * 16 + [(True, 0.1)] * 4 + [(False, 0.1)] * 20)
    ten = ScreeningScores(*(np.repeat(values, 10) for values in (one.positive, one.score, one.groups)))
    single, repeated = (rates_at(scores, 0.5, seed=0).sensitivity for scores in (one, ten))
    assert repeated.high - repeated.low == pytest.approx(single.high - single.low, rel=0.1)
    alone = ScreeningScores(ten.positive, ten.score, np.arange(len(ten.score)))
    independent = rates_at(alone, 0.5, seed=0).sensitivity
    assert independent.high - independent.low < 0.5 * (repeated.high - repeated.low)


def test_no_false_alarm_gives_a_ratio_without_an_upper_bound():
    rates = rates_at(make_scores([(True, 0.9)] * 9 + [(True, 0.1)] + [(False, 0.1)] * 20), 0.5, seed=0)
    assert math.isinf(rates.lr_positive.value) and math.isinf(rates.lr_positive.high)
    assert 2 < rates.lr_positive.low < 20
    assert rates.to_json()["lr_positive"] == {"value": None, "low": rates.lr_positive.low, "high": None}
    at = rates.at_prevalence(0.01)
    assert at.ppv.value == at.ppv.high == 1 and 0.02 < at.ppv.low < 0.2


def test_likelihood_ratios_cover_the_truth():
    """Sensitivity 0.8, specificity 0.9 of 40 ill and 60 others: 8 and 0.222 lie in 95 % of the intervals."""
    rng, hits = np.random.default_rng(0), np.zeros(4)
    for _ in range(300):
        ill = np.repeat([True, False], [40, 60])
        sent_on = rng.random(100) < np.where(ill, 0.8, 0.1)
        rates = rates_at(ScreeningScores(ill, sent_on.astype(float), np.arange(100)), 0.5, seed=0)
        for number, (score, truth) in enumerate(
            zip(
                (rates.sensitivity, rates.specificity, rates.lr_positive, rates.lr_negative),
                (0.8, 0.9, 8.0, 0.2 / 0.9),
                strict=True,
            )
        ):
            hits[number] += score.low <= truth <= score.high
    assert (hits / 300 > 0.91).all() and (hits / 300 < 0.99).all()


@pytest.mark.parametrize("seed", range(60))
def test_every_figure_lies_between_its_bounds(seed):
    """Rates of 0 and 1 among them, whose ratios are infinite."""
    rng = np.random.default_rng(seed)
    scores = simulated(rng, *rng.integers(1, 9, 2), per_group=int(rng.integers(1, 3)))
    rates = rates_at(scores, rng.choice([0.0, 0.5, 0.8, 2.0]), seed=0)
    figures = [rates.sensitivity, rates.specificity, rates.lr_positive, rates.lr_negative]
    if at := rates.at_prevalence(0.02):
        figures += [at.ppv, at.npv]
    for figure in figures:
        if figure.value is not None and figure.low is not None:
            assert figure.low <= figure.value <= figure.high


def test_a_test_without_false_positives_may_have_any_likelihood_ratio_above_its_lower_bound():
    rates = rates_at(make_scores([(True, 0.9), (True, 0.1), (True, 0.2), *[(False, 0.0)] * 4]), 0.5, seed=0)
    ratio = rates.lr_positive
    assert ratio.value == ratio.high == math.inf and 0 < ratio.low < 1
    assert rates.at_prevalence(0.02).ppv.value == rates.at_prevalence(0.02).ppv.high == 1
