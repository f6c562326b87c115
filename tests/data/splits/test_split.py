import numpy as np
import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.splits.split import (
    HELD_OUT,
    PARTS,
    UNLABELLED,
    check_disjoint,
    group_k_fold,
    group_train_val_test_split,
    not_evaluable,
    train_val_split,
)
from simclr_rhd.data.splits.unlabelled import assign_unlabelled


def study(n_groups=41, classes=4, seed=0):
    """Frames of groups of odd sizes; a group has one class per task, and some frames are not annotated."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, n_groups)
    groups = np.repeat([f"g{number:02d}" for number in range(n_groups)], sizes)
    values = [np.repeat(rng.integers(0, n, n_groups), sizes) for n in (classes, 3, 2)]
    values[1][rng.random(len(groups)) < 0.3] = -1
    return groups, values


@pytest.mark.parametrize("seed", range(20))
def test_no_group_stands_on_two_sides_and_every_frame_has_a_part(seed):
    groups, values = study(seed=seed)
    part = group_train_val_test_split(groups, values, seed=seed)
    assert set(part) == set(PARTS)
    for one in PARTS:
        for other in set(PARTS) - {one}:
            assert np.intersect1d(groups[part == one], groups[part == other]).size == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_split_does_not_depend_on_the_order_of_the_rows(seed):
    groups, values = study(seed=seed)
    part = group_train_val_test_split(groups, values, seed=42)
    order = np.random.default_rng(seed).permutation(len(groups))
    assert (
        group_train_val_test_split(groups[order], [value[order] for value in values], seed=42) == part[order]
    ).all()


def test_another_seed_is_another_split():
    groups, values = study()
    assert (
        group_train_val_test_split(groups, values, seed=1)
        != group_train_val_test_split(groups, values, seed=2)
    ).any()
    assert (
        group_train_val_test_split(groups, values, seed=1)
        == group_train_val_test_split(groups, values, seed=1)
    ).all()


def test_shares_are_near_70_15_15_and_every_class_is_everywhere():
    groups, values = study(n_groups=150)
    part = group_train_val_test_split(groups, values, seed=0)
    for name, share in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
        assert abs((part == name).mean() - share) < 0.05
        for task in values:
            for number in np.unique(task[task >= 0]):
                within = (part == name)[task == number].mean()
                assert abs(within - share) < 0.1, f"class {number} has {within:.2f} in {name}"


def test_a_class_of_two_groups_is_learnt_and_tested():
    groups = np.array([f"g{number}" for number in range(20)])
    rare = np.zeros(20, dtype=np.int64)
    rare[[3, 11]] = 1
    for seed in range(20):
        part = group_train_val_test_split(groups, [rare], seed=seed)
        assert set(part[[3, 11]]) == {"train", "test"}


def test_a_class_of_one_group_is_named_and_put_into_training():
    groups = np.array([f"g{number}" for number in range(20)])
    rare = np.zeros(20, dtype=np.int64)
    rare[5] = 1
    part = group_train_val_test_split(groups, [rare], seed=0)
    assert part[5] == "train"
    (named,) = not_evaluable(rare, ["common", "rare"], groups, [part])
    assert named["class"] == "rare" and "1 group(s), none in test; at least 2" in named["reason"]


def test_a_class_that_no_split_has_room_for_is_named_with_another_reason():
    groups, parts = np.array(["g", "h", "i"]), np.array(["train", "train", "test"])
    (named,) = not_evaluable(np.array([1, 1, 0]), ["common", "rare"], groups, [parts])[1:]
    assert "2 group(s), none in test" in named["reason"] and "at least 2" not in named["reason"]


def test_too_few_groups():
    with pytest.raises(UserError, match=r"2 group\(s\) \(a, b\); training, validation and test need"):
        group_train_val_test_split(["a", "b", "b"], [np.array([0, 1, 1])], seed=0)


@pytest.mark.parametrize("seed", range(50))
def test_folds_test_every_group_once_and_learn_from_no_frame_of_it(seed):
    groups, values = study(seed=seed)
    folds = 2 + seed % 4
    parts = group_k_fold(groups, values, folds, seed=seed)
    assert (np.sum([part == "test" for part in parts], axis=0) == 1).all()
    for part in parts:
        sides = [set(groups[part == name]) for name in PARTS]
        assert all(sides) and not sides[0] & sides[1] and not (sides[0] | sides[1]) & sides[2]


def test_folds_are_balanced_and_the_groups_to_choose_on_are_a_fair_share():
    groups, values = study(n_groups=150)
    for part in group_k_fold(groups, values, 5, seed=0):
        assert abs((part == "test").mean() - 0.2) < 0.04
        assert abs((part == "val").mean() - 0.8 * 0.15 / 0.85) < 0.04
        for task in values:
            for number in np.unique(task[task >= 0]):
                assert abs((part == "test")[task == number].mean() - 0.2) < 0.08


@pytest.mark.parametrize("seed", range(20))
def test_a_class_of_two_groups_stands_in_two_folds_and_is_learnt_when_it_is_tested(seed):
    groups = np.array([f"g{number}" for number in range(20)])
    rare, other = np.zeros(20, dtype=np.int64), np.arange(20) % 3
    rare[[3, 11]] = 1
    parts = group_k_fold(groups, [rare, other], 5, seed=seed)
    tested = [set(np.flatnonzero(part == "test")) & {3, 11} for part in parts]
    assert sorted(map(len, tested)) == [0, 0, 0, 1, 1]
    assert not not_evaluable(rare, ["common", "rare"], groups, parts)


def test_a_class_of_one_group_is_named_with_what_would_be_needed():
    groups = np.array([f"g{number}" for number in range(20)])
    rare = np.zeros(20, dtype=np.int64)
    rare[5] = 1
    parts = group_k_fold(groups, [rare], 4, seed=0)
    (named,) = not_evaluable(rare, ["common", "rare"], groups, parts)
    assert "1 group(s), none in training when it is tested; at least 2" in named["reason"]


def test_folds_do_not_depend_on_the_order_of_the_rows():
    groups, values = study()
    order = np.random.default_rng(1).permutation(len(groups))
    there = group_k_fold(groups[order], [value[order] for value in values], 3, seed=5)
    for one, other in zip(group_k_fold(groups, values, 3, seed=5), there, strict=True):
        assert (one[order] == other).all()


def test_too_few_groups_for_the_folds():
    with pytest.raises(UserError, match=r"4 group\(s\) .*; --folds 5 needs at least 5"):
        group_k_fold(list("abcd"), [np.array([0, 1, 0, 1])], 5, seed=0)
    assert len(group_k_fold(list("abc"), [np.array([0, 1, 0])], 2, seed=0)) == 2


def test_one_group_is_learnt_from_and_nothing_is_left_to_choose_on():
    assert set(train_val_split(["a", "a"], [np.array([0, 1])], rng=np.random.default_rng(0))) == {"train"}


@pytest.mark.parametrize("seed", range(10))
def test_unlabelled_frames_of_test_and_validation_groups_are_held_out(seed):
    rng = np.random.default_rng(seed)
    groups = np.array([f"g{number:02d}" for number in rng.integers(0, 30, 300)])
    labelled = rng.random(300) < 0.4
    parts = group_train_val_test_split(groups[labelled], [rng.integers(0, 3, labelled.sum())], seed=seed)
    part, ssl_val = assign_unlabelled(groups, labelled, parts, seed=seed)
    assert (part[labelled] == parts).all()
    away = np.isin(groups, groups[np.isin(part, ["val", "test"])])
    assert (part[~labelled & away] == HELD_OUT).all()
    assert not (ssl_val & np.isin(groups, groups[part == "test"])).any(), (
        "test groups never measure the pretraining"
    )
    assert (part[ssl_val] == HELD_OUT).all() and ssl_val.any()
    check_disjoint(groups, part)


def test_without_validation_frames_whole_unlabelled_groups_validate():
    groups = np.array(["a", "b", "c"] + [f"u{number // 5}" for number in range(100)])
    labelled = np.arange(103) < 3
    part, ssl_val = assign_unlabelled(groups, labelled, np.array(PARTS), seed=0)
    assert 10 <= ssl_val.sum() <= 15
    assert not np.intersect1d(groups[ssl_val], groups[part == UNLABELLED]).size


def test_a_very_large_group_is_trained_on_and_does_not_validate():
    groups = np.array(["a", "b", "c"] + ["large"] * 500 + ["s"] * 10 + ["t"] * 10)
    for seed in range(5):
        part, ssl_val = assign_unlabelled(groups, np.arange(523) < 3, np.array(PARTS), seed=seed)
        assert (part[groups == "large"] == UNLABELLED).all() and 10 <= ssl_val.sum() <= 20


def test_the_disjointness_check_can_fail():
    with pytest.raises(AssertionError):
        check_disjoint(np.array(["a", "a"]), np.array([UNLABELLED, "test"]))
    check_disjoint(np.array(["a", "a", "b", "b"]), np.array([UNLABELLED, "train", HELD_OUT, "test"]))
