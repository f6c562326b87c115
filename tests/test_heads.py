import numpy as np
import pytest
import torch

from simclr_rhd.errors import UserError
from simclr_rhd.heads import balanced_weights, deviation, predict, train_heads
from simclr_rhd.model import FEATURES


def problem(n=90, seed=0):
    """Features of which every third tells the class of the task 'easy'; 'none' has no annotated rows."""
    rng = np.random.default_rng(seed)
    easy = rng.integers(0, 3, n)
    features = rng.normal(0, 0.5, (n, FEATURES)).astype(np.float32)
    features += 4 * (np.arange(FEATURES) % 3 == easy[:, None])
    return features, {"easy": easy, "none": np.full(n, -1)}


def fit(features, values, train, val, **options):
    return train_heads(
        features,
        values,
        {"easy": 3, "none": 2},
        train,
        val,
        **{"epochs": 12, "learning_rate": 1e-3, "seed": 0} | options,
    )


def test_learns_what_is_there_and_survives_a_task_without_labels():
    features, values = problem()
    heads, history = fit(features, values, np.arange(60), np.arange(60, 90))
    assert (predict(heads, features)["easy"][60:].argmax(axis=1) == values["easy"][60:]).mean() > 0.9
    assert len(history) == 24
    assert all(row["loss"] is None for row in history if row["phase"] == "none")


def test_rows_without_annotation_do_not_count():
    features, values = problem()
    some = values | {"easy": np.where(np.arange(90) % 3 == 0, -1, values["easy"])}
    noise = features.copy()
    noise[::3] = np.random.default_rng(1).normal(0, 9, noise[::3].shape)
    train, val = np.flatnonzero(np.arange(60) % 3), np.arange(60, 90)
    one, _ = fit(features, some, train, val)
    other, _ = fit(noise, some, train, val)
    assert torch.equal(one.linear["easy"].weight, other.linear["easy"].weight)


def test_the_best_epoch_by_validation_loss_is_kept():
    features, values = problem()
    wrong = values | {"easy": np.concatenate([values["easy"][:60], (values["easy"][60:] + 1) % 3])}
    heads, history = fit(features, wrong, np.arange(60), np.arange(60, 90), learning_rate=0.01)
    losses = [row["val_loss"] for row in history if row["phase"] == "easy"]
    best = [row["epoch"] for row in history if row["phase"] == "easy" and row["best"]][-1]
    assert best == 1 + int(np.argmin(losses)) < 12, (
        "validation contradicts training, so an early epoch is best"
    )
    probabilities = predict(heads, features)["easy"][60:]
    weights = balanced_weights(torch.from_numpy(wrong["easy"][:60]), 3).numpy()[wrong["easy"][60:]]
    picked = -np.log(probabilities[np.arange(30), wrong["easy"][60:]])
    assert np.average(picked, weights=weights) == pytest.approx(min(losses), abs=1e-4)


def test_same_seed_same_heads_another_seed_others():
    features, values = problem()
    train, val = np.arange(60), np.arange(60, 90)
    one, again, other = (
        fit(features, values, train, val, seed=seed)[0].linear["easy"].weight for seed in (0, 0, 1)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_features_are_standardised_by_the_training_rows_only():
    features, values = problem()
    shifted = features.copy()
    shifted[60:] += 100
    heads, _ = fit(shifted, values, np.arange(60), np.arange(60, 90))
    np.testing.assert_allclose(heads.mean.numpy(), features[:60].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(heads.std.numpy(), features[:60].std(axis=0), rtol=1e-4)


def test_weights_balance_classes_and_leave_out_absent_ones():
    weights = balanced_weights(torch.tensor([0, 0, 0, 2, -1]), 3)
    assert weights.tolist() == pytest.approx([2 / 3, 0.0, 2.0])


def test_probabilities_sum_to_one():
    features, values = problem()
    heads, _ = fit(features, values, np.arange(60), np.arange(60, 90), epochs=1)
    for table in predict(heads, features).values():
        np.testing.assert_allclose(table.sum(axis=1), 1)


def test_a_feature_that_hardly_varies_in_training_does_not_decide_elsewhere():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32))
    x[:, 0], x[:, 1] = 0.3, x[:, 1] * 1e-6
    std = deviation(x)
    assert std.min() >= 0.05 and torch.allclose(std[2:], x[:, 2:].std(dim=0, correction=0))
    assert (deviation(torch.ones(5, 3)) == 1).all()


def test_a_loss_that_is_not_finite_is_a_users_error():
    features, values = problem()
    features[70] = np.inf
    with pytest.raises(UserError, match="easy head is not finite.*--classifier-lr"):
        fit(features, values, np.arange(60), np.arange(60, 90))


def test_test_rows_change_nothing():
    features, values = problem()
    one, _ = fit(features, values, np.arange(40), np.arange(40, 60))
    features[60:], values["easy"][60:] = 0, 0
    other, _ = fit(features, values, np.arange(40), np.arange(40, 60))
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
