import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, binomtest, norm, t

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.evaluation.scores.bootstrap import (
    N_RESAMPLES,
    difference_interval,
    percentile_interval,
    resample_counts,
    resample_sums,
)


def test_a_resample_draws_as_many_groups_as_there_are():
    drawn = resample_counts(7, seed=0)
    assert drawn.shape == (N_RESAMPLES, 7) and (drawn.sum(axis=1) == 7).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(drawn.var(axis=0), 6 / 7, atol=0.15)
    assert (resample_counts(7, seed=0) == drawn).all() and (resample_counts(7, seed=1) != drawn).any()
    whole = make_rng(0, Stream.BOOTSTRAP).multinomial(7, np.full(7, 1 / 7), size=N_RESAMPLES)
    assert (drawn == whole).all()


def test_totals_are_sums_over_the_groups_drawn():
    drawn, of_groups = resample_counts(5, seed=0)[:33], np.random.default_rng(0).random((5, 3, 2))
    explicit = [sum(n * table for n, table in zip(row, of_groups, strict=True)) for row in drawn.tolist()]
    np.testing.assert_allclose(resample_sums(drawn, of_groups), explicit)


@pytest.mark.parametrize("n_groups", [3, 8, 20, 400])
def test_percentiles_are_expanded_by_what_few_groups_make_too_narrow(n_groups):
    """Of a normal figure they are t √(G / (G-1)) standard deviations away, not 1.96."""
    values = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    far = t.ppf(0.975, n_groups - 1) * np.sqrt(n_groups / (n_groups - 1))
    far = min(far, values[-1])
    np.testing.assert_allclose(percentile_interval(values, n_groups), [-far, far], atol=0.03)


@pytest.mark.parametrize("n_groups", [2, 5, 40])
def test_where_all_is_right_the_bound_is_that_of_one_trial_a_group(n_groups):
    for value in (0, 1):
        exact = binomtest(value * n_groups, n_groups).proportion_ci(method="exact")
        found = percentile_interval(np.full(N_RESAMPLES, float(value)), n_groups, proportion=True)
        np.testing.assert_allclose(found, [exact.low, exact.high])
        np.testing.assert_allclose(
            percentile_interval(np.full(N_RESAMPLES, 2.0 * value), n_groups, value_range=(0, 2)),
            2 * np.array(found),
        )


@pytest.mark.parametrize("n_groups", [2, 4, 9])
def test_of_very_few_groups_a_proportion_is_no_surer_than_as_many_trials(n_groups):
    values = np.random.default_rng(0).normal(0.5, 0.01, N_RESAMPLES)
    hits = np.full(n_groups, 0.5).sum()
    found = percentile_interval(values, n_groups, proportion=True)
    exact = beta.ppf(0.025, hits, n_groups - hits + 1), beta.ppf(0.975, hits + 1, n_groups - hits)
    np.testing.assert_allclose(found, exact, atol=1e-3)
    narrow = percentile_interval(values, 10, proportion=True)
    assert narrow[1] - narrow[0] < 0.06, "ten groups are not that few"


def test_there_is_no_interval_of_one_group_or_of_nothing():
    assert percentile_interval(np.array([0.1, 0.2]), 1) is None
    assert percentile_interval(np.full(9, np.nan), 20) is None
    found = percentile_interval(np.array([0.5, np.nan, 0.5]), 20, proportion=True)
    assert found == [0.5, 0.5], "undefined resamples are left out"


@pytest.mark.parametrize("n_groups", [10, 40])
def test_a_difference_that_is_the_same_in_every_resample_has_an_interval(n_groups):
    """None of so many groups went another way: the exact interval of as many trials."""
    most = binomtest(0, n_groups).proportion_ci(method="exact").high
    for value in (-0.5, 0.0, 0.5):
        expected = [pytest.approx(value - most), pytest.approx(value + most)]
        assert difference_interval(np.full(N_RESAMPLES, value), n_groups) == expected
    assert difference_interval(np.ones(N_RESAMPLES), n_groups) == [pytest.approx(1 - most), 1.0]
    assert difference_interval(np.ones(N_RESAMPLES), 1) is None
    rounded = np.where(np.arange(N_RESAMPLES) % 2, 0.5, np.nextafter(0.5, 1))
    assert np.ptp(rounded) > 0
    assert difference_interval(rounded, n_groups) == pytest.approx(
        difference_interval(np.full(N_RESAMPLES, 0.5), n_groups)
    )
    values = np.linspace(-0.1, 0.1, N_RESAMPLES)
    assert difference_interval(values, n_groups) == percentile_interval(values, n_groups)


@pytest.mark.slow
def test_intervals_over_groups_hold_the_truth_as_often_as_they_say():
    sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from interval_coverage import coverage, rare_coverage

    for n_groups in (20, 40):
        for shares in coverage(n_groups, 200).values():
            assert 0.90 <= shares["over groups"] <= 0.98
            assert shares["over frames"] < 0.90
    for share in rare_coverage(20, 3, 200).values():
        assert share >= 0.90, "few groups of a class: too wide rather than too narrow"
