import numpy as np
import pytest
from simulated import make_cross_validation, make_features, make_labelled_set

from simclr_rhd.evaluation.label_efficiency import learning_curves, subsample_groups


def test_a_larger_share_holds_a_smaller_one_and_each_class_comes_first():
    a_cohort = make_labelled_set(patients=40, classes=4)
    rows = a_cohort.rows(0, "train")
    before = set()
    for fraction in (0.1, 0.15, 0.5, 1.0):
        chosen = subsample_groups(a_cohort, rows, fraction, rng=np.random.default_rng(1))
        names = set(a_cohort.groups[chosen])
        assert before <= names and set(chosen) <= set(rows)
        assert len(names) == int(np.ceil(fraction * len(set(a_cohort.groups[rows]))))
        assert set(chosen) == set(rows[np.isin(a_cohort.groups[rows], list(names))]), "whole groups"
        before = names
    few = subsample_groups(a_cohort, rows, 4 / len(set(a_cohort.groups[rows])), rng=np.random.default_rng(1))
    assert len(set(a_cohort.values["view"][few])) == 4


def test_another_draw_is_of_other_groups():
    a_cohort = make_labelled_set(patients=40)
    rows = a_cohort.rows(0, "train")
    one, other = (
        set(subsample_groups(a_cohort, rows, 0.3, rng=np.random.default_rng(seed))) for seed in (1, 2)
    )
    assert one != other


@pytest.mark.parametrize("folds", [1, 3])
def test_curves_rise_with_labels_where_there_is_something_to_learn(folds):
    a_cohort = make_labelled_set(patients=60, frames=3, folds=folds)
    x = make_features(a_cohort.groups, signal=0.7, true=a_cohort.values["view"])
    noise = make_features(a_cohort.groups, seed=5)
    a_study = make_cross_validation(a_cohort, x, baselines={"random encoder": noise}, linear_epochs=8)
    found = learning_curves(a_study, (0.1, 1.0))["view"]
    assert list(found) == ["simclr", "random encoder", "pixels"]
    for points in found.values():
        assert [point.fraction for point in points] == [0.1, 1.0]
        assert points[0].low - 1e-9 <= points[0].balanced_accuracy <= points[0].high + 1e-9
        assert points[1].low == points[1].balanced_accuracy == points[1].high
    groups = [point.groups for point in found["simclr"]]
    assert groups[1] == pytest.approx(
        np.mean([len(set(a_cohort.groups[a_cohort.rows(fold, "train")])) for fold in range(folds)])
    )
    ours = found["simclr"]
    assert ours[1].balanced_accuracy > ours[0].balanced_accuracy
    assert ours[1].balanced_accuracy > found["random encoder"][1].balanced_accuracy + 0.1
