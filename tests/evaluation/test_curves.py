import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from simclr_rhd.evaluation import curves
from simclr_rhd.evaluation.scores.samples import ClassSet, Samples


def roc_and_pr_curves(true, p, names, *, evaluable):
    samples = Samples(true, p, np.zeros(len(true)))
    return curves.roc_and_pr_curves(samples, ClassSet(names, evaluable))


def answers(n=60, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), n).round(2)  # ties
    return rng.integers(0, classes, n), p


def test_the_areas_are_the_scores():
    true, p = answers()
    found = roc_and_pr_curves(true, p, ["a", "b", "c"], evaluable=[0, 1, 2])
    for number, name in enumerate("abc"):
        x, y = found["roc"][name]
        assert auc(x, y) == pytest.approx(roc_auc_score(true == number, p[:, number]))
        recall, precision = found["precision-recall"][name]
        assert np.all(np.diff(recall) >= 0)
        area = np.dot(np.diff(recall), precision[1:])  # what steps before each point draw
        assert area == pytest.approx(average_precision_score(true == number, p[:, number]))


def test_classes_that_do_not_count_are_no_samples_and_no_curves():
    true, p = answers()
    kept = true != 2
    assert roc_and_pr_curves(true, p, ["a", "b", "c"], evaluable=[0, 1]) == roc_and_pr_curves(
        true[kept], p[kept], ["a", "b", "c"], evaluable=[0, 1]
    )
    assert (
        set(roc_and_pr_curves(true[true == 0], p[true == 0], ["a", "b", "c"], evaluable=[0, 1])["roc"])
        == set()
    )


def test_long_curves_are_thinned_and_keep_their_ends():
    rng = np.random.default_rng(1)
    p = rng.random((5000, 2))
    x, y = roc_and_pr_curves(rng.integers(0, 2, 5000), p, ["a", "b"], evaluable=[0, 1])["roc"]["a"]
    assert len(x) <= 120 and (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_precision_is_drawn_from_where_something_is_found_to_where_all_is():
    true = np.array([1, 0, 1, 0, 0])
    p = np.array([0.1, 0.9, 0.5, 0.3, 0.05])  # of class 0: a wrong one of class 1 is surer than no other
    recall, precision = roc_and_pr_curves(true, np.stack([1 - p, p], 1), ["a", "b"], evaluable=[0, 1])[
        "precision-recall"
    ]["b"]
    assert recall == [0, 0.5, 0.5, 1] and precision == pytest.approx([0.5, 0.5, 1 / 3, 0.5])
