"""Results broken down by the values of a column, and the interval of the gap between two of them."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulated import make_labelled_set

from simclr_rhd.evaluation.checks.subgroups import break_down, unpaired_gap
from simclr_rhd.evaluation.scores.differences import paired_differences
from simclr_rhd.evaluation.scores.samples import FramePredictions, Samples, Units
from simclr_rhd.evaluation.target_details import SubgroupResult


def samples_of(rng, recall, *, groups=24, frames=4, first=0, spread=0.0):
    """Two classes, one a group; a frame is predicted rightly with a probability that varies by the group."""
    right = np.clip(recall + spread * rng.normal(size=groups), 0, 1)
    group = np.repeat(np.arange(groups), frames)
    true = group % 2
    predicted = np.where(rng.random(len(group)) < right[group], true, 1 - true)
    return Samples(true, np.eye(2)[predicted], np.array([f"g{first + number:03d}" for number in group]))


def gap_of(one, other, **options):
    return unpaired_gap(("one", one), ("other", other), ["a", "b"], seed=0, **options)


def test_the_gap_is_the_difference_of_the_balanced_accuracies():
    rng = np.random.default_rng(0)
    one, other = samples_of(rng, 0.6), samples_of(rng, 0.9, first=100)

    def by_hand(samples):
        return np.mean([(samples.predicted == samples.true)[samples.true == c].mean() for c in (0, 1)])

    gap = gap_of(one, other)
    assert (gap.higher, gap.lower) == ("other", "one")
    assert gap.difference == pytest.approx(by_hand(other) - by_hand(one))
    assert gap.ci95[0] < gap.difference < gap.ci95[1]
    assert gap_of(other, one).difference == gap.difference


def test_the_interval_holds_the_true_gap_as_often_as_it_promises():
    """Of 80 studies; one standard error is 2.4 %. The benchmark has 400."""
    sys.path.append(str(Path(__file__).resolve().parents[3] / "benchmarks"))
    from subgroup_gap import MEANS, coverage

    apart, alike = (coverage(means, 80) for means in MEANS)
    assert 0.89 <= apart[0] < 1 and 0.89 <= alike[0] < 1
    assert apart[1] > 0.6 and alike[1] < 0.13


def test_more_differences_that_are_looked_at_widen_the_interval():
    rng = np.random.default_rng(1)
    one, other = samples_of(rng, 0.6), samples_of(rng, 0.8, first=100)
    alone, among_ten = gap_of(one, other).ci95, gap_of(one, other, n_comparisons=10).ci95
    assert among_ten[0] < alone[0] and among_ten[1] > alone[1]


def test_groups_with_both_values_are_drawn_together():
    rng = np.random.default_rng(2)
    one = samples_of(rng, 0.7, spread=0.3, groups=40)
    rows = rng.random(len(one.true)) < 0.9
    other = Samples(one.true, np.where(rows[:, None], one.probabilities, 1 - one.probabilities), one.groups)
    units = Units(one.groups, one.groups, one.groups)
    paired = paired_differences(
        FramePredictions(one.true, one.probabilities, units),
        [FramePredictions(other.true, other.probabilities, units)],
        [0, 1],
        seed=0,
    )["frame"]
    gap = gap_of(one, other)
    width = gap.ci95[1] - gap.ci95[0]
    assert gap.difference == pytest.approx(abs(paired.balanced_accuracy))
    assert width == pytest.approx(paired.ci95[1] - paired.ci95[0], rel=0.15)
    apart = replace(other, groups=np.array([f"x{name}" for name in other.groups]))
    assert gap_of(one, apart).ci95[1] - gap_of(one, apart).ci95[0] > 1.3 * width


def broken_down(column, *, patients=60, right=None, folds=3):
    labelled_set = make_labelled_set(patients, 4, folds=folds)
    number = np.array([int(name[1:]) for name in labelled_set.groups])
    labelled_set = replace(labelled_set, columns={"SITE": np.array([column(of) for of in number])})
    true = labelled_set.values["view"]
    predicted = true if right is None else np.where([right(of) for of in number], true, 1 - true)
    table = {"view": np.eye(2)[predicted]}
    return break_down(labelled_set, [table] * len(labelled_set.folds), {"view": "video"}, seed=0)["view"][
        "SITE"
    ]


def test_a_site_where_the_model_fails_stands_out():
    result = broken_down(lambda of: "AB"[of % 2], right=lambda of: of % 2 or of % 3)
    assert result.values["A"].n == 60 and result.values["A"].groups == 30
    assert result.values["B"].balanced_accuracy == 1
    assert (result.gap.higher, result.gap.lower, result.comparisons) == ("B", "A", 1)
    assert result.gap.ci95[0] > 0.05 and result.unknown == 0


def test_a_small_subgroup_is_shown_but_not_compared():
    result = broken_down(lambda of: "A" if of < 8 else "B" if of < 40 else "")
    assert result.values["A"].too_small == "8 groups, 10 are needed" and result.values["B"].too_small == ""
    assert result.gap is None and result.comparisons == 0 and result.unknown == 40


def test_all_pairs_count_as_looks_and_the_results_are_read_as_written():
    result = broken_down(lambda of: "ABC"[of % 3], patients=66)
    assert result.comparisons == 3
    assert SubgroupResult.from_json(result.to_json()) == result


def test_without_columns_nothing_is_broken_down():
    labelled_set = make_labelled_set(folds=2)
    table = {"view": np.eye(2)[labelled_set.values["view"]]}
    assert break_down(labelled_set, [table] * len(labelled_set.folds), {"view": "video"}, seed=0) == {}
