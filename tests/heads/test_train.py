from unittest.mock import patch

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.labels.prevalence import balanced_choice
from simclr_rhd.heads.config import HeadConfig
from simclr_rhd.heads.losses import HeadTargets, class_weights
from simclr_rhd.heads.model import predict
from simclr_rhd.heads.train import robust_std, train_heads
from simclr_rhd.ssl.encoder.model import FEATURE_DIM


def problem(n=90, seed=0):
    """Features of which every third tells the class of the task 'easy'; 'none' has no annotated rows."""
    rng = np.random.default_rng(seed)
    easy = rng.integers(0, 3, n)
    features = rng.normal(0, 0.5, (n, FEATURE_DIM)).astype(np.float32)
    features += 4 * (np.arange(FEATURE_DIM) % 3 == easy[:, None])
    return features, {"easy": easy, "none": np.full(n, -1)}


def fit(features, values, train, val, *, groups=None, l2=(1e-3,), **flags):
    defaults = {"linear_epochs": 12, "classifier_lr": 1e-3, "seed": 0, "head_seeds": 1}
    targets = HeadTargets(values, {"easy": 3, "none": 2}, groups)
    with patch("simclr_rhd.heads.train.L2_GRID", l2):
        return train_heads(features, targets, train, val, HeadConfig(**defaults | flags))


def test_learns_what_is_there_and_survives_a_task_without_labels():
    features, values = problem()
    trained = fit(features, values, np.arange(60), np.arange(60, 90))
    heads, history = trained.heads, trained.history
    assert (predict(heads, features)["easy"][60:].argmax(axis=1) == values["easy"][60:]).mean() > 0.9
    assert len(history) == 24
    assert all(row["loss"] is None for row in history if row["phase"] == "none")


def test_rows_without_annotation_do_not_count():
    features, values = problem()
    some = values | {"easy": np.where(np.arange(90) % 3 == 0, -1, values["easy"])}
    noise = features.copy()
    noise[::3] = np.random.default_rng(1).normal(0, 9, noise[::3].shape)
    train, val = np.flatnonzero(np.arange(60) % 3), np.arange(60, 90)
    one, other = (fit(x, some, train, val).heads for x in (features, noise))
    assert torch.equal(one.linear["easy"].weight, other.linear["easy"].weight)


def test_the_last_epoch_is_kept_even_where_validation_prefers_an_early_one():
    """The validation loss of a few groups jumps, and the rate has fallen to 0 at the end alone."""
    features, values = problem()
    wrong = values | {"easy": np.concatenate([values["easy"][:60], (values["easy"][60:] + 1) % 3])}
    trained = fit(features, wrong, np.arange(60), np.arange(60, 90), classifier_lr=0.01)
    losses = [row["val_loss"] for row in trained.history if row["phase"] == "easy"]
    assert losses[-1] > min(losses)
    trained.heads.uncalibrate()
    probabilities = predict(trained.heads, features)["easy"][60:]
    weights = class_weights(torch.from_numpy(wrong["easy"][:60]), 3, "balanced").numpy()[wrong["easy"][60:]]
    of_true = -np.log(probabilities[np.arange(30), wrong["easy"][60:]])
    assert np.average(of_true, weights=weights) == pytest.approx(losses[-1], rel=1e-4)


def test_the_penalty_of_lowest_validation_loss_is_chosen():
    """A hundred noisy rows of 960 features: without a strong penalty the head learns the noise."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, 160)
    features = rng.normal(0, 1, (160, FEATURE_DIM)).astype(np.float32)
    features[:, 0] += 1.5 * true
    values, train, val = {"easy": true, "none": true}, np.arange(100), np.arange(100, 160)
    options = {"classifier_lr": 0.01, "linear_epochs": 40}

    def last_loss(trained):
        return [row["val_loss"] for row in trained.history if row["phase"] == "easy"][-1]

    alone = {l2: last_loss(fit(features, values, train, val, l2=(l2,), **options)) for l2 in (1e-4, 0.3)}
    chosen = fit(features, values, train, val, l2=(1e-4, 0.3), **options)
    assert alone[0.3] < alone[1e-4] and chosen.l2["easy"] == 0.3
    assert last_loss(chosen) == pytest.approx(alone[0.3])


def test_variants_trained_side_by_side_are_those_trained_alone():
    features, values = problem()
    train, val = np.arange(60), np.arange(60, 90)
    together = fit(features, values, train, val, l2=(1e-3, 1e-1), head_seeds=2)
    alone = fit(features, values, train, val, l2=(together.l2["easy"],), head_seeds=1)
    ours = together.per_seed[0].linear["easy"].weight
    torch.testing.assert_close(ours, alone.heads.linear["easy"].weight, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, together.per_seed[1].linear["easy"].weight, atol=1e-3)


def test_the_heads_of_several_seeds_are_averaged():
    features, values = problem()
    trained = fit(features, values, np.arange(60), np.arange(60, 90), head_seeds=3)
    x = torch.from_numpy(features)
    with torch.inference_mode():
        mean = torch.stack([heads(x)["easy"] for heads in trained.per_seed]).mean(dim=0)
        torch.testing.assert_close(trained.heads(x)["easy"], mean, rtol=1e-4, atol=1e-4)


def test_without_validation_rows_a_middling_penalty_is_kept():
    features, values = problem()
    trained = fit(features, values, np.arange(60), np.arange(0), l2=(1e-4, 1e-2, 1.0))
    assert trained.l2["easy"] == 1e-2
    assert fit(features, values, np.arange(60), np.arange(0), head_l2=0.0).l2["easy"] == 0
    assert all(row["val_loss"] is None for row in trained.history)
    assert (trained.heads.temperature == 1).all()


def test_lesions_are_learnt_each_for_itself():
    rng = np.random.default_rng(0)
    present = rng.integers(0, 2, (120, 2))
    features = rng.normal(0, 0.5, (120, FEATURE_DIM)).astype(np.float32)
    features[:, :200] += 2 * present[:, :1]
    features[:, 200:400] += 2 * present[:, 1:]
    targets = {"condition": np.where(np.arange(120)[:, None] % 10 == 0, -1, present)}
    config = HeadConfig(linear_epochs=20, classifier_lr=1e-3, seed=0, head_seeds=1)
    condition = HeadTargets(targets, {"condition": 2})
    trained = train_heads(features, condition, np.arange(80), np.arange(80, 120), config)
    found = predict(trained.heads, features)["condition"]
    assert ((found > 0.5) == present)[80:].mean() > 0.95
    assert (found.sum(axis=1) > 1.5).any(), "both at once"


def rare(seed=0, n=600):
    """Three classes of 85, 10 and 5 %, 6 frames a patient; balanced weights raise the rare ones."""
    rng = np.random.default_rng(seed)
    true = rng.choice(3, n // 6, p=(0.85, 0.1, 0.05)).repeat(6)
    features = rng.normal(0, 1, (n, FEATURE_DIM)).astype(np.float32)
    features[:, :60] += 0.4 * np.eye(3)[true].repeat(20, axis=1)
    return features, {"easy": true, "none": np.full(n, -1)}, np.arange(n) // 6


def test_the_mean_probability_on_validation_is_the_frequency_and_the_choice_stays():
    features, values, groups = rare()
    train, val = np.arange(300), np.arange(300, 600)
    heads = fit(features, values, train, val, groups=groups, seed=1).heads
    table, true = predict(heads, features), values["easy"][val]
    frequency = np.bincount(true, minlength=3) / 300
    np.testing.assert_allclose(table["easy"][val].mean(axis=0), frequency, atol=0.03)
    np.testing.assert_allclose(table["prevalence of easy"], np.tile(frequency, (600, 1)), atol=0.01)
    predicted = balanced_choice(table["easy"], table["prevalence of easy"])
    heads.uncalibrate()
    bare = predict(heads, features)["easy"]
    assert np.abs(bare[val].mean(axis=0) - frequency).max() > 0.1, "balanced weights alone"
    assert (predicted == bare.argmax(axis=1)).mean() > 0.9
    assert (heads.bias == 0).all() and (heads.temperature == 1).all()


def test_calibration_leaves_a_task_alone_whose_validation_rows_have_one_class():
    features, values, _ = rare()
    values["easy"][300:] = 0
    heads = fit(features, values, np.arange(300), np.arange(300, 600)).heads
    assert (heads.temperature == 1).all() and (heads.bias == 0).all()
    assert heads.prevalence.tolist() == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)


def test_same_seed_same_heads_another_seed_others():
    features, values = problem()
    train, val = np.arange(60), np.arange(60, 90)
    one, again, other = (
        fit(features, values, train, val, seed=seed).heads.linear["easy"].weight for seed in (0, 0, 1)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_a_temperature_of_few_groups_is_held_near_one():
    features, values = problem()
    train, val = np.arange(60), np.arange(60, 90)
    one, all_alone = (
        abs(np.log(float(fit(features, values, train, val, groups=groups).heads.temperature[0])))
        for groups in (np.zeros(90), None)
    )
    assert one < 0.8 * all_alone


def test_features_are_standardised_by_the_training_rows_only():
    features, values = problem()
    shifted = features.copy()
    shifted[60:] += 100
    heads = fit(shifted, values, np.arange(60), np.arange(60, 90)).heads
    np.testing.assert_allclose(heads.mean.numpy(), features[:60].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(heads.std.numpy(), features[:60].std(axis=0), rtol=1e-4)


def test_weights_balance_classes_and_leave_out_absent_ones():
    labels = torch.tensor([0, 0, 0, 2, -1])
    assert class_weights(labels, 3, "balanced").tolist() == pytest.approx([2 / 3, 0.0, 2.0])
    assert class_weights(labels, 3, "none").tolist() == pytest.approx([1.0, 0.0, 1.0])
    root = class_weights(labels, 3, "sqrt")
    assert (root[2] / root[0]).item() == pytest.approx(3**0.5)
    assert (3 * root[0] + root[2]).item() == pytest.approx(4)


def test_weights_of_lesions_balance_absence_and_presence():
    present = torch.tensor([[1, 0], [0, 0], [0, 0], [0, 0], [-1, -1]])
    assert class_weights(present, 2, "balanced").flatten().tolist() == pytest.approx([2 / 3, 2.0, 1.0, 0.0])


def test_probabilities_sum_to_one():
    features, values = problem()
    heads = fit(features, values, np.arange(60), np.arange(60, 90), linear_epochs=1).heads
    for table in predict(heads, features).values():
        np.testing.assert_allclose(table.sum(axis=1), 1)


def test_a_feature_that_hardly_varies_in_training_does_not_decide_elsewhere():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32))
    x[:, 0], x[:, 1] = 0.3, x[:, 1] * 1e-6
    std = robust_std(x)
    assert std.min() >= 0.05 and torch.allclose(std[2:], x[:, 2:].std(dim=0, correction=0))
    assert (robust_std(torch.ones(5, 3)) == 1).all()


def test_a_loss_that_is_not_finite_is_a_users_error():
    features, values = problem()
    features[70] = np.inf
    with pytest.raises(
        UserError, match="easy head: the loss of epoch 1 is not finite; lower --classifier-lr"
    ):
        fit(features, values, np.arange(60), np.arange(60, 90))


def test_test_rows_change_nothing():
    features, values = problem()
    one = fit(features, values, np.arange(40), np.arange(40, 60)).heads
    features[60:], values["easy"][60:] = 0, 0
    other = fit(features, values, np.arange(40), np.arange(40, 60)).heads
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_the_default_rate_and_epochs_come_near_the_lowest_loss():
    """Correlated features, as an encoder's are; the lowest loss is that of scikit-learn's L-BFGS."""
    rng, n, l2 = np.random.default_rng(0), 400, 0.1
    latent = rng.normal(size=(n, 40))
    true = (latent[:, :3] + rng.gumbel(size=(n, 3)) / 2).argmax(axis=1)
    mixed = latent @ rng.normal(size=(40, FEATURE_DIM)) + rng.normal(size=(n, FEATURE_DIM)) / 2
    features = mixed.astype(np.float32)
    config = HeadConfig(head_l2=l2, head_seeds=1, seed=0)
    none = np.array([], dtype=int)
    heads = train_heads(features, HeadTargets({"a": true}, {"a": 3}), np.arange(n), none, config).heads
    x = ((features - heads.mean.numpy()) / heads.std.numpy()).astype(np.float64)
    weights = class_weights(torch.from_numpy(true), 3, "balanced").numpy()[true]

    def objective(weight, bias):
        losses = log_loss(true, softmax(x @ weight.T + bias, axis=1), sample_weight=weights)
        return losses + l2 / 2 * (weight**2).sum()

    lowest = LogisticRegression(C=1 / (n * l2), class_weight="balanced", max_iter=1000).fit(x, true)
    parameters = [heads.linear["a"].get_parameter(name).detach().numpy() for name in ("weight", "bias")]
    assert 1 <= objective(*parameters) / objective(lowest.coef_, lowest.intercept_) < 1.01
