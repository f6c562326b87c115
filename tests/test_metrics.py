import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from simclr_rhd.bootstrap import from_confusions, intervals
from simclr_rhd.metrics import AVERAGES, levels, margins, pool_videos, scores

CLASSES = ["a", "b", "c", "d"]


def sample(seed, n=37, classes=4):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), n)
    return rng.integers(0, classes, n), probabilities, [f"g{k}" for k in rng.integers(0, 9, n)]


def score(true, probabilities, groups, evaluable=None):
    classes = CLASSES[: probabilities.shape[1]]
    return scores(
        true,
        probabilities,
        classes,
        groups,
        seed=0,
        evaluable=range(len(classes)) if evaluable is None else evaluable,
    )


def same(ours, theirs):
    assert (ours is None and math.isnan(theirs)) or ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_scores_equal_scikit_learn_on_random_and_degenerate_cases(seed):
    true, probabilities, groups = sample(seed, n=[5, 9, 37][seed % 3])
    if seed % 4 == 1:
        true[true == 2] = 0  # a class absent from the test
    if seed % 4 == 2:
        probabilities[:, 1] = 0  # a class never predicted
    if seed % 4 == 3:
        probabilities = np.round(probabilities, 1)  # ties
    labels = np.unique(true).tolist()
    if len(labels) < 2:
        pytest.skip("one class only")
    found, said = score(true, probabilities, groups), probabilities.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same(found["accuracy"], sk.accuracy_score(true, said))
        same(found["balanced_accuracy"], sk.balanced_accuracy_score(true, said))
        for average in ("macro", "weighted"):
            for name, function in (
                ("precision", sk.precision_score),
                ("recall", sk.recall_score),
                ("f1", sk.f1_score),
            ):
                same(
                    found[f"{name}_{average}"],
                    function(true, said, labels=labels, average=average, zero_division=0),
                )
        for number in labels:
            row, so, called = found["per_class"][CLASSES[number]], true == number, said == number
            same(row["accuracy"], sk.accuracy_score(so, called))
            same(row["precision"], sk.precision_score(so, called, zero_division=np.nan))
            same(row["recall"], sk.recall_score(so, called))
            same(row["f1"], sk.f1_score(so, called))
            same(row["specificity"], sk.recall_score(~so, ~called))
            same(row["auroc"], sk.roc_auc_score(so, probabilities[:, number]))
            assert row["support"] == so.sum()
    assert found["confusion"] == sk.confusion_matrix(true, said, labels=range(4)).tolist()


def test_a_class_absent_from_the_test_keeps_its_row_without_figures():
    true, probabilities, groups = sample(1)
    true[true == 2] = 0
    row = score(true, probabilities, groups)["per_class"]["c"]
    assert row == {
        "accuracy": None,
        "precision": None,
        "recall": None,
        "f1": None,
        "specificity": None,
        "auroc": None,
        "support": 0,
    }


def test_frames_of_a_class_that_cannot_be_evaluated_falsify_nothing():
    true, probabilities, groups = sample(2)
    found = score(true, probabilities, groups, evaluable=[0, 1, 3])
    kept = true != 2
    assert found["n"] == kept.sum()
    assert found["accuracy"] == pytest.approx(
        sk.accuracy_score(true[kept], probabilities[kept].argmax(axis=1))
    )
    assert found["per_class"]["c"]["recall"] is None and found["per_class"]["c"]["support"] == (~kept).sum()
    assert sum(map(sum, found["confusion"])) == len(true), "the confusion matrix shows all frames"


@pytest.mark.parametrize("evaluable", [[], [0]])
def test_one_class_alone_has_no_scores(evaluable):
    true, probabilities, groups = sample(3)
    found = score(true, probabilities, groups, evaluable=evaluable)
    assert all(found[name] is None for name in AVERAGES) and "fewer than two classes" in found["reason"]


def test_an_empty_part_has_no_scores():
    found = score(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), [])
    assert found["n"] == 0 and found["accuracy"] is None and found["confusion"] == [[0] * 4] * 4


def test_a_video_has_the_mean_probability_and_the_commonest_class():
    true = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    pooled = pool_videos(true, probabilities, ["g", "g", "h", "h"], ["v", "v", "w", "w"])
    assert pooled[0].tolist() == [0, 1] and pooled[2] == ["g", "h"]
    np.testing.assert_allclose(pooled[1], [[0.55, 0.45], [0.45, 0.55]])
    video = levels(
        true, probabilities, ["a", "b"], ["g", "g", "h", "h"], ["v", "v", "w", "w"], evaluable=[0, 1], seed=0
    )["video"]
    assert video["accuracy"] == 1.0 and video["n"] == 2


def test_the_bootstrap_draws_groups_not_frames():
    """Two groups, one all right and one all wrong: resamples are 0, 0.5 or 1, with any number of frames."""
    true = np.tile([0, 1], 500)
    predicted = np.concatenate([true[:500], 1 - true[500:]])
    groups = np.repeat(["g", "h"], 500)
    assert intervals(true, predicted, groups, [0, 1], 2, seed=0)["accuracy"] == [0.0, 1.0]
    assert intervals(true, predicted, np.arange(1000), [0, 1], 2, seed=0)["accuracy"][0] > 0.46
    assert intervals(true, predicted, np.zeros(1000), [0, 1], 2, seed=0)["accuracy"] is None


@pytest.mark.parametrize("seed", range(8))
def test_scores_from_confusions_equal_the_scores_of_the_same_frames(seed):
    true, probabilities, groups = sample(seed, n=11 if seed % 2 else 60)
    said, shown = probabilities.argmax(axis=1), np.unique(true).tolist()
    found = from_confusions(sk.confusion_matrix(true, said, labels=range(4))[None], shown)
    direct = score(true, probabilities, groups)
    for name, values in found.items():
        same(direct[name], values[0])


def test_intervals_hold_the_figure_and_repeat():
    true, probabilities, groups = sample(5, n=200)
    found, again = score(true, probabilities, groups), score(true, probabilities, groups)
    assert found == again
    for name, (low, high) in found["ci95"].items():
        assert low <= found[name] <= high


def test_a_margin_is_the_difference_on_the_same_samples():
    true, ours, groups = sample(6, n=120)
    theirs, videos = sample(7, n=120)[1], [f"{group} {number % 3}" for number, group in enumerate(groups)]
    found = margins(true, ours, theirs, groups, videos, evaluable=range(4), seed=0)
    scored = [levels(true, p, CLASSES, groups, videos, evaluable=range(4), seed=0) for p in (ours, theirs)]
    for level, margin in found.items():
        difference = scored[0][level]["balanced_accuracy"] - scored[1][level]["balanced_accuracy"]
        assert margin["balanced_accuracy"] == pytest.approx(difference)
        assert margin["ci95"][0] <= difference <= margin["ci95"][1]


def test_the_interval_of_a_margin_is_paired():
    """Frames that both get wrong widen each score's interval, not that of the difference."""
    rng = np.random.default_rng(0)
    true = np.arange(200) % 2
    said = np.where(rng.random(200) < np.repeat(rng.random(20), 10), true, 1 - true)
    p = np.eye(2)[said]
    groups = np.repeat([f"g{number}" for number in range(20)], 10).tolist()
    margin = margins(true, p, p, groups, groups, evaluable=[0, 1], seed=0)["frame"]
    assert margin == {"balanced_accuracy": 0.0, "ci95": [0.0, 0.0]}
    low, high = intervals(true, said, np.array(groups), [0, 1], 2, seed=0)["balanced_accuracy"]
    assert high - low > 0.1


def test_a_margin_that_cannot_be_computed_is_none():
    true, ours, groups = sample(3)
    nothing = {"balanced_accuracy": None, "ci95": None}
    assert margins(true, ours, ours, groups, groups, evaluable=[0], seed=0)["frame"] == nothing
    one = margins(true, ours, ours, ["g"] * len(true), groups, evaluable=range(4), seed=0)["frame"]
    assert one == {"balanced_accuracy": 0.0, "ci95": None}
