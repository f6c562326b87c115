"""Figures of resamples against those of the same samples, repeated one by one."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from simclr_rhd.evaluation.scores.bootstrap import resample_counts
from simclr_rhd.evaluation.scores.calibration_errors import expected_calibration_error
from simclr_rhd.evaluation.scores.confusions import group_confusions
from simclr_rhd.evaluation.scores.intervals import bootstrap_intervals, effective_groups, resample_metrics
from simclr_rhd.evaluation.scores.ranking import ranking_metrics
from simclr_rhd.evaluation.scores.samples import Samples

ORDERED = [2, 0, 3]


def sample(seed, n=60, groups=9):
    """Four classes; every second sample has ties, and every third never says class 1."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(4), n)
    if seed % 2:
        probabilities = np.round(probabilities, 1)
    if seed % 3 == 0:
        probabilities[:, 1] = 0
    return rng.integers(0, 4, n), probabilities, rng.integers(0, groups, n)


def by_scikit_learn(true, probabilities):
    """{average: value} and {(class, figure): value}; a class that is not there has none."""
    predicted, labels = probabilities.argmax(axis=1), np.unique(true).tolist()
    scale = np.isin(true, ORDERED)
    farthest = {2: 3, 0: 2, 3: 2}  # of the degrees 2 < 0 < 3; the lower where two are as far
    degree = [b if b in ORDERED else farthest.get(a, b) for a, b in zip(true, predicted, strict=True)]
    averages = {
        "accuracy": sk.accuracy_score(true, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(true, predicted),
        "kappa": sk.cohen_kappa_score(true, predicted),
        "quadratic_kappa": sk.cohen_kappa_score(
            true[scale], np.array(degree)[scale], labels=ORDERED, weights="quadratic"
        ),
        "brier": sum(sk.brier_score_loss(true == k, probabilities[:, k]) for k in range(4)),
        "ece": expected_calibration_error(true, probabilities),
    }
    one_hot = np.eye(4)[true][:, labels]
    figures = {}
    for how in ("macro", "weighted"):
        options = {"labels": labels, "average": how, "zero_division": 0}
        averages[f"precision_{how}"] = sk.precision_score(true, predicted, **options)
        averages[f"recall_{how}"] = sk.recall_score(true, predicted, **options)
        averages[f"f1_{how}"] = sk.f1_score(true, predicted, **options)
        averages[f"auroc_{how}"] = sk.roc_auc_score(one_hot, probabilities[:, labels], average=how)
        areas = sk.average_precision_score(one_hot, probabilities[:, labels], average=how)
        averages[f"average_precision_{how}"] = areas
        specificity = [sk.recall_score(true != k, predicted != k) for k in labels]
        weights = one_hot.sum(axis=0) if how == "weighted" else None
        averages[f"specificity_{how}"] = np.average(specificity, weights=weights)
    for k in labels:
        figures |= {
            (k, "accuracy"): sk.accuracy_score(true == k, predicted == k),
            (k, "precision"): sk.precision_score(true == k, predicted == k, zero_division=np.nan),
            (k, "recall"): sk.recall_score(true == k, predicted == k),
            (k, "f1"): sk.f1_score(true == k, predicted == k),
            (k, "specificity"): sk.recall_score(true != k, predicted != k),
            (k, "auroc"): sk.roc_auc_score(true == k, probabilities[:, k]),
            (k, "average_precision"): sk.average_precision_score(true == k, probabilities[:, k]),
        }
    return averages, figures


@pytest.mark.parametrize("seed", range(6))
def test_resamples_equal_scikit_learn_on_the_same_samples_repeated(seed):
    true, probabilities, group = sample(seed, n=[25, 60][seed % 2])
    shown = np.unique(true).tolist()
    samples = Samples(true, probabilities, group)
    drawn = resample_counts(samples.n_groups, seed)[:5]
    figures, averages = resample_metrics(samples, ORDERED, drawn)
    for number, weights in enumerate(drawn):
        rows = np.repeat(np.arange(len(true)), weights[samples.group])
        if len(np.unique(true[rows])) < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted, of_classes = by_scikit_learn(true[rows], probabilities[rows])
        assert wanted.keys() == averages.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(averages[name][number], value, atol=1e-9, err_msg=name)
        for (k, name), value in of_classes.items():
            np.testing.assert_allclose(figures[name][number, shown.index(k)], value, atol=1e-9, err_msg=name)
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


def test_a_figure_rests_on_the_groups_without_which_it_would_be_another():
    """Class 0 in groups 0 to 3, class 1 in groups 3 and 4; class 1 is said in group 0 only."""
    group = np.array([0, 1, 2, 3, 3, 4, 0])
    true = np.array([0, 0, 0, 0, 1, 1, 0])
    predicted = np.array([1, 0, 0, 0, 0, 0, 0])
    figures, averages = effective_groups(group_confusions(true, predicted, group, 5, 2), [0, 1])
    assert {name: values.tolist() for name, values in figures.items()} == {
        "accuracy": [5, 5],
        "precision": [5, 1],
        "recall": [4, 2],
        "f1": [4, 2],
        "specificity": [2, 4],
        "auroc": [2, 2],
        "average_precision": [2, 2],
    }
    assert averages["recall_macro"] == averages["balanced_accuracy"] == 5, "2² / (1/4 + 1/2), but 5 at most"
    assert averages["auroc_macro"] == 4 and averages["precision_macro"] == pytest.approx(4 / 1.2)


def test_the_bound_of_a_class_rests_on_its_own_groups():
    """Ten groups, all right; class 1 is in two of them."""
    true = np.repeat([0, 0, 0, 0, 0, 0, 0, 0, 1, 1], 3)
    samples = Samples(true, np.eye(2)[true], np.repeat(np.arange(10), 3))
    found, averages = bootstrap_intervals(samples, (), seed=0)
    assert found["recall"] == [[pytest.approx(0.025 ** (1 / 8)), 1.0], [pytest.approx(0.025 ** (1 / 2)), 1.0]]
    assert averages["accuracy"] == [pytest.approx(0.025 ** (1 / 10)), 1.0]
    assert averages["balanced_accuracy"] == [pytest.approx(0.025 ** (1 / 6.4)), 1.0], "2² / (1/8 + 1/2)"
    low = 0.025 ** (1 / 10)  # of ten trials
    assert averages["brier"] == [0.0, pytest.approx(2 * (1 - low))]
    assert averages["ece"] == [0.0, pytest.approx(1 - low)]
    expected = 2 * 0.8 * 0.2  # disagreement by chance
    assert averages["kappa"] == [pytest.approx(1 - (1 - low) / expected), 1.0]


def test_the_bootstrap_draws_groups_not_frames():
    """Two groups, one all right and one all wrong: resamples are 0, 0.5 or 1, with any number of frames."""
    true = np.tile([0, 1], 500)
    probabilities = np.eye(2)[np.concatenate([true[:500], 1 - true[500:]])]

    def accuracy(groups):
        return bootstrap_intervals(Samples(true, probabilities, groups), (), seed=0)[1]["accuracy"]

    assert accuracy(np.repeat(["g", "h"], 500)) == [0.0, 1.0]
    assert accuracy(np.arange(1000))[0] > 0.46
    assert accuracy(np.zeros(1000)) is None
