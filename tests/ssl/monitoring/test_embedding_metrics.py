import math

import numpy as np
import pytest
import torch
from scipy import integrate

from simclr_rhd.ssl.loss import nt_xent
from simclr_rhd.ssl.monitoring import embedding_metrics as diagnostics
from simclr_rhd.ssl.monitoring.embedding_metrics import (
    alignment,
    effective_rank,
    ideal_loss,
    knn_scores,
    uniformity,
)


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_mean_by_quadrature(dim, temperature):
    """log E[e^(cos/τ)] over angles to a fixed direction, whose density is sin^(D-2)."""

    def integral(power):
        def integrand(angle):
            return math.exp((math.cos(angle) - 1) * power) * math.sin(angle) ** (dim - 2)

        return integrate.quad(integrand, 0, math.pi, epsabs=0, epsrel=1e-11, limit=500)[0]

    return 1 / temperature + math.log(integral(1 / temperature) / integral(0))


# --- alignment and uniformity


def test_alignment_has_closed_forms():
    z = torch.eye(4)
    assert alignment(z, 3 * z) == 0
    assert alignment(z, z.roll(1, dims=0)) == pytest.approx(2)
    assert alignment(z, -z) == pytest.approx(4)


def test_uniformity_has_closed_forms():
    assert uniformity(torch.ones(5, 3)) == 0
    assert uniformity(torch.eye(2)) == pytest.approx(-4)
    assert uniformity(torch.eye(7)) == pytest.approx(-4)
    assert uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8)


@pytest.mark.parametrize("d", [2, 5, 17])
def test_both_equal_explicit_loops(d):
    z0, z1 = (gaussian(7, d, seed) for seed in (0, 1))
    u0, u1 = (z / z.norm(dim=1, keepdim=True) for z in (z0, z1))
    gaps = [float((u0[i] - u1[i]).norm() ** 2) for i in range(7)]
    kernels = [
        math.exp(-2 * float((u0[i] - u0[j]).norm() ** 2)) for i in range(7) for j in range(7) if i != j
    ]
    assert alignment(z0, z1) == pytest.approx(np.mean(gaps))
    assert uniformity(z0) == pytest.approx(math.log(np.mean(kernels)))


@pytest.mark.parametrize("d", [2, 8, 64])
def test_uniform_points_have_the_uniformity_of_the_sphere(d):
    """exp(-2 |a - b|²) = e^-4 e^(4 cos): what `ideal_loss` knows at a temperature of 1/4."""
    expected = -4 + log_mean_by_quadrature(d, 0.25)
    assert uniformity(gaussian(2000, d)) == pytest.approx(expected, abs=0.01)


def test_length_and_precision_of_rows_do_not_matter():
    z0, z1 = (gaussian(7, 5, seed) for seed in (0, 1))
    lengths = torch.arange(1, 8)[:, None]
    assert alignment(z0 * lengths, z1) == pytest.approx(alignment(z0, z1))
    assert alignment(z1, z0) == pytest.approx(alignment(z0, z1))
    assert uniformity(z0 * lengths) == pytest.approx(uniformity(z0))
    assert uniformity(z0.bfloat16()) == pytest.approx(uniformity(z0), abs=0.02)
    assert alignment(z0, z1[torch.tensor([1, 2, 3, 4, 5, 6, 0])]) != pytest.approx(alignment(z0, z1))


def test_gradients_and_inputs_are_left_alone():
    z = gaussian(5, 3).requires_grad_()
    before = z.detach().clone()
    assert all(isinstance(value, float) for value in (alignment(z, z), uniformity(z), effective_rank(z)))
    torch.testing.assert_close(z.detach(), before, rtol=0, atol=0)


# --- effective rank


@pytest.mark.parametrize("k", [1, 2, 5])
def test_as_many_directions_as_are_used_alike(k):
    z = torch.cat([torch.eye(k, 6), -torch.eye(k, 6)])
    assert effective_rank(z) == pytest.approx(k)
    assert effective_rank(1e-6 * z) == pytest.approx(k), "the scale does not matter"


def test_rank_one_and_nothing_at_all():
    assert effective_rank(torch.arange(1, 8)[:, None] * torch.tensor([[1.0, -2, 3]])) == pytest.approx(1)
    assert effective_rank(torch.ones(4, 3)) == pytest.approx(1)
    assert effective_rank(torch.zeros(4, 3)) == 0


def test_a_weak_direction_counts_for_little():
    """Singular values 3 and 1: the entropy of (3/4, 1/4)."""
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(expected)


def test_rank_does_not_depend_on_axes_or_order():
    z = gaussian(31, 6)
    rotation = torch.linalg.qr(gaussian(6, 6, seed=1)).Q
    assert effective_rank(z @ rotation) == pytest.approx(effective_rank(z))
    assert effective_rank(z.flip(0)) == pytest.approx(effective_rank(z))
    assert effective_rank(z) == effective_rank(z)
    assert 5 < effective_rank(z) < 6


@pytest.mark.parametrize(
    "measure",
    [
        lambda: alignment(torch.ones(3, 4), torch.ones(2, 4)),
        lambda: alignment(torch.ones(3), torch.ones(3)),
        lambda: alignment(torch.ones(0, 4), torch.ones(0, 4)),
        lambda: uniformity(torch.ones(1, 4)),
        lambda: uniformity(torch.full((3, 4), math.nan)),
        lambda: effective_rank(torch.ones(0, 4)),
        lambda: effective_rank(torch.ones(4, 0)),
        lambda: effective_rank(torch.full((3, 4), math.inf)),
    ],
)
def test_refuses_what_has_no_meaning(measure):
    with pytest.raises(ValueError):
        measure()


# --- the loss of perfect embeddings


@pytest.mark.parametrize("dim", [2, 3, 8, 50])
@pytest.mark.parametrize("temperature", [0.02, 0.1, 0.5, 2.0, 1000])
def test_perfect_loss_equals_quadrature(dim, temperature):
    m = 63
    mean = log_mean_by_quadrature(dim, temperature)
    expected = np.logaddexp(1 / temperature, math.log(m - 1) + mean) - 1 / temperature
    assert ideal_loss([m], dim, temperature) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("temperature", [0.001, 0.07, 1.0, 1000])
def test_perfect_loss_on_the_ordinary_sphere_has_a_closed_form(temperature):
    """For D = 3 the mean of e^(κ cos) is sinh(κ) / κ."""
    kappa = 1 / temperature
    mean = kappa + math.log1p(-math.exp(-2 * kappa)) - math.log(2 * kappa)
    expected = np.logaddexp(kappa, math.log(126) + mean) - kappa
    assert ideal_loss(127, 3, temperature) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(("dim", "temperature"), [(4, 0.3), (16, 0.2), (128, 0.5), (128, 0.1)])
def test_perfect_loss_is_that_of_random_directions_on_the_mean(dim, temperature):
    """NT-Xent itself on large batches of coinciding pairs; chance makes it lower, by little."""
    n = 1000
    losses = [float(nt_xent(z, z, temperature)) for z in (gaussian(n, dim, seed) for seed in range(3))]
    assert np.mean(losses) == pytest.approx(ideal_loss(2 * n - 1, dim, temperature), rel=0.01)


@pytest.mark.parametrize("dim", [2, 128, 4096])
def test_perfect_loss_is_finite_and_grows_with_temperature(dim):
    losses = [ideal_loss([127], dim, temperature) for temperature in np.geomspace(0.001, 1000, 61)]
    assert np.isfinite(losses).all() and min(losses) >= 0
    assert (np.diff(losses) >= 0).all()
    assert losses[-1] == pytest.approx(math.log(127), abs=2e-3), "at a high temperature nothing can be told"


def test_many_dimensions_are_orthogonal_pairs():
    expected = math.log(math.e**2 + 126) - 2
    assert ideal_loss([127], 4096, 0.5) == pytest.approx(expected, rel=1e-3)


def test_the_rows_of_a_batch_are_averaged():
    one, other = ideal_loss([9], 8, 0.5), ideal_loss([31], 8, 0.5)
    assert ideal_loss([9, 31, 31], 8, 0.5) == pytest.approx((one + 2 * other) / 3)
    assert ideal_loss(np.array([1]), 8, 0.5) == 0, "without negatives nothing is left to lose"
    assert one < math.log(9)


@pytest.mark.parametrize(
    ("candidates", "dim", "temperature"),
    [([], 8, 0.5), ([3, 0], 8, 0.5), ([3], 0, 0.5), ([3], 8, 0), ([3], 8, math.nan), ([3], 8, math.inf)],
)
def test_perfect_loss_refuses_what_has_no_meaning(candidates, dim, temperature):
    with pytest.raises(ValueError):
        ideal_loss(candidates, dim, temperature)


# --- neighbours


def explicit_knn(features, labels, groups, n_classes, k, temperature):
    """Leave one group out, row by row and vote by vote."""
    centred = features.astype(np.float64) - features.astype(np.float64).mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    homes = {c: {g for g, label in zip(groups, labels, strict=True) if label == c} for c in range(n_classes)}
    right = {c: [] for c in range(n_classes) if len(homes[c]) >= 2}
    for i in range(len(labels)):
        if labels[i] not in right:
            continue
        others = [j for j in range(len(labels)) if labels[j] >= 0 and groups[j] != groups[i]]
        nearest = sorted(others, key=lambda j: -float(unit[i] @ unit[j]))[:k]
        votes = [0.0] * n_classes
        for j in nearest:
            votes[labels[j]] += math.exp(float(unit[i] @ unit[j]) / temperature)
        right[labels[i]].append(votes.index(max(votes)) == labels[i])
    return float(np.mean([np.mean(found) for found in right.values()])) if len(right) >= 2 else None


def clusters(seed=0, *, n=90, n_classes=3, spread=2.0):
    """Frames of 12 videos whose class shows a little; features are not negative, as after a ReLU."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    groups = np.array([f"v{number}" for number in rng.integers(0, 12, n)])
    features = 10 + np.eye(n_classes, 7)[labels] + spread * rng.random((n, 7))
    return features.astype(np.float32), labels, groups


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.5), (1000, 0.07)])
def test_equals_the_explicit_vote(seed, k, temperature, monkeypatch):
    monkeypatch.setattr(diagnostics, "QUERIES_AT_ONCE", 17)
    features, labels, groups = clusters(seed)
    labels[::4] = -1
    found = knn_scores(features, {"view": labels}, {"view": 3}, groups, k=k, temperature=temperature)
    assert found["view"] == pytest.approx(explicit_knn(features, labels, groups, 3, k, temperature))
    assert found["view"] > 0.4, "the features tell something"


def test_a_neighbour_is_never_of_ones_own_group():
    """Each group is a tight cluster, its class drawn by lot: own neighbours would know it all."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 10)
    labels = rng.permutation(np.arange(60) % 2)[group]
    features = (rng.normal(size=(60, 32))[group] + 0.01 * rng.normal(size=(600, 32))).astype(np.float32)
    within = knn_scores(features, {"view": labels}, {"view": 2}, np.arange(600), k=5)["view"]
    across = knn_scores(features, {"view": labels}, {"view": 2}, group, k=5)["view"]
    assert within == 1.0
    assert 0.3 < across < 0.7


def test_what_all_groups_share_is_found():
    features, labels, groups = clusters(spread=0.1)
    assert knn_scores(features, {"view": labels}, {"view": 3}, groups) == {"view": 1.0}


def test_unannotated_rows_say_nothing():
    features, labels, groups = clusters()
    bare = np.flatnonzero(np.arange(90) % 3 == 0)
    labels[bare] = -1
    moved, renamed = features.copy(), groups.copy()
    moved[bare], renamed[bare] = features[np.roll(bare, 1)], "elsewhere"  # the mean stays the same
    found = knn_scores(features, {"view": labels}, {"view": 3}, groups)
    assert knn_scores(moved, {"view": labels}, {"view": 3}, renamed) == found


def test_classes_of_one_group_do_not_count_but_vote():
    features, labels, groups = clusters(spread=0.1)
    alone = labels.copy()
    alone[labels == 2] = np.where(groups[labels == 2] == groups[0], 2, -1)
    assert (alone == 2).any()
    assert knn_scores(features, {"view": alone}, {"view": 3}, groups) == {"view": 1.0}
    alone[labels == 1] = -1
    assert knn_scores(features, {"view": alone}, {"view": 3}, groups) == {"view": None}


def test_nothing_to_compute_is_none():
    features, labels, groups = clusters()
    nobody = np.full(90, -1)
    values, sizes = {"view": labels, "severity": nobody}, {"view": 3, "severity": 4}
    assert knn_scores(features, values, sizes, groups)["severity"] is None
    assert knn_scores(features, values, sizes, ["one"] * 90) == {"view": None, "severity": None}
    assert knn_scores(features[:0], {"view": labels[:0]}, {"view": 3}, []) == {"view": None}
    assert knn_scores(features, {"view": np.zeros(90, int)}, {"view": 1}, groups) == {"view": None}


def test_equal_features_are_worth_a_guess():
    features, labels, groups = clusters()
    same = np.full_like(features, 3)
    assert knn_scores(same, {"view": labels}, {"view": 3}, groups)["view"] == pytest.approx(1 / 3, abs=0.1)


def test_the_order_of_rows_does_not_matter_where_many_are_as_near():
    """Directions of a small grid: many neighbours are as near as the k-th, and all of them vote."""
    _, labels, groups = clusters()
    corners = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    features = corners[np.r_[np.arange(88) % 4, 0, 2]]  # their mean is 0
    found = knn_scores(features, {"view": labels}, {"view": 3}, groups, k=4)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(90)
        values = {"view": labels[order]}
        assert knn_scores(features[order], values, {"view": 3}, groups[order], k=4) == found


def test_an_offset_shared_by_all_features_changes_nothing():
    features, labels, groups = clusters()
    values, sizes = {"view": labels}, {"view": 3}
    assert knn_scores(features + 64, values, sizes, groups) == knn_scores(features, values, sizes, groups)


@pytest.mark.parametrize("changes", [{"k": 0}, {"temperature": 0}, {"groups": ["v"]}, {"features": np.nan}])
def test_knn_refuses_what_has_no_meaning(changes):
    features, labels, groups = clusters()
    features = np.full_like(features, changes.pop("features", 1))
    groups = changes.pop("groups", groups)
    with pytest.raises(ValueError):
        knn_scores(features, {"view": labels}, {"view": 3}, groups, **changes)
