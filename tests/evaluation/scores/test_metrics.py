import math

import numpy as np
import pytest
from scikit_learn_scores import by_scikit_learn
from sklearn import metrics as sk

from simclr_rhd.evaluation.scores import differences, metrics
from simclr_rhd.evaluation.scores.records import AVERAGE_METRICS, PER_CLASS_METRICS
from simclr_rhd.evaluation.scores.samples import (
    ClassSet,
    FramePredictions,
    Samples,
    Units,
    patient_truths,
    pool,
)

CLASSES = ["a", "b", "c", "d"]


def sample(seed, n=37, classes=4):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), n)
    return rng.integers(0, classes, n), probabilities, [f"g{k}" for k in rng.integers(0, 9, n)]


def score(true, probabilities, groups, evaluable=None, ordered=()):
    names = CLASSES[: probabilities.shape[1]]
    classes = ClassSet(names, range(len(names)) if evaluable is None else evaluable, ordered)
    return metrics.scores(Samples(true, probabilities, np.asarray(groups)), classes, seed=0).to_json()


def score_levels(true, probabilities, names, *units, evaluable, ordered=()):
    classes = ClassSet(names, evaluable, ordered)
    levels = metrics.score_levels(FramePredictions(true, probabilities, Units(*units)), classes, seed=0)
    return {level: scores.to_json() for level, scores in levels.items()}


def paired_differences(true, ours, theirs, *units, evaluable):
    one, other = (FramePredictions(true, p, Units(*units)) for p in (ours, theirs))
    margins = differences.paired_differences(one, [other], evaluable, seed=0)
    return {level: margin.to_json() for level, margin in margins.items()}


def same(ours, theirs):
    assert (ours is None and math.isnan(theirs)) or ours == pytest.approx(theirs, rel=0, abs=1e-12)


@pytest.fixture
def few_resamples(monkeypatch):
    """Where only the figures are looked at, not their intervals."""
    monkeypatch.setattr("simclr_rhd.evaluation.scores.bootstrap.N_RESAMPLES", 20)


@pytest.mark.parametrize("seed", range(200))
def test_scores_equal_scikit_learn_on_random_and_degenerate_cases(seed, few_resamples):
    true, probabilities, groups = sample(seed, n=[5, 9, 37][seed % 3])
    if seed % 4 == 1:
        true[true == 2] = 0  # a class absent from the test
    if seed % 4 == 2:
        probabilities[:, 1] = 0  # a class never predicted
    if seed % 4 == 3:
        probabilities = np.round(probabilities, 1)  # ties
    if seed % 20 == 0:
        true[:] = seed // 20 % 4
    labels, ordered = np.unique(true).tolist(), [[3, 1, 2], [2, 0, 3, 1]][seed % 2]
    found, said = score(true, probabilities, groups, ordered=ordered), probabilities.argmax(axis=1)
    assert found["confusion"] == sk.confusion_matrix(true, said, labels=range(4)).tolist()
    if len(labels) < 2:
        assert all(found[name] is None for name in AVERAGE_METRICS) and "two classes" in found["reason"]
        return
    averages, of_classes = by_scikit_learn(true, probabilities, ordered)
    if len(set(labels) & set(ordered)) < 2:
        averages["quadratic_kappa"] = math.nan
        assert "fewer than two" in found["reasons"]["quadratic_kappa"]
    assert averages.keys() == set(AVERAGE_METRICS)
    for name, value in averages.items():
        same(found[name], value)
    for (number, name), value in of_classes.items():
        same(found["per_class"][CLASSES[number]][name], value)
    for number, name in enumerate(CLASSES):
        assert found["per_class"][name]["support"] == (true == number).sum()


def test_a_class_absent_from_the_test_keeps_its_row_without_figures():
    true, probabilities, groups = sample(1)
    true[true == 2] = 0
    found = score(true, probabilities, groups)
    nothing = dict.fromkeys(PER_CLASS_METRICS)
    assert found["per_class"]["c"] == nothing | {"support": 0, "ci95": nothing}
    assert found["reasons"]["c"] == "no sample of it here"


def test_what_cannot_be_computed_says_why():
    true, probabilities, _ = sample(1)
    probabilities[:, 1] = 0
    groups = np.where(true == 3, "one", np.arange(len(true))).tolist()
    found = score(true, probabilities, groups, evaluable=[0, 1, 3])
    assert found["per_class"]["b"]["precision"] is None and found["per_class"]["b"]["recall"] == 0
    assert found["per_class"]["d"]["recall"] is not None and found["per_class"]["d"]["ci95"]["recall"] is None
    assert found["ci95"]["quadratic_kappa"] is None
    assert found["reasons"] == {
        "quadratic_kappa": "the classes have no order",
        "precision of b": "never predicted",
        "c": "cannot be evaluated",
        **{
            f"interval of {name} of d": "rests on one group"
            for name in ("recall", "f1", "auroc", "average_precision")
        },
    }
    alone = score(true, probabilities, ["g"] * len(true))
    assert alone["reasons"]["intervals"] == "fewer than two groups" and alone["accuracy"] is not None
    assert not any(alone["ci95"].values())


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
    assert (
        all(found[name] is None for name in AVERAGE_METRICS) and "fewer than two classes" in found["reason"]
    )


def test_an_empty_part_has_no_scores():
    found = score(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), [])
    assert found["n"] == 0 and found["accuracy"] is None and found["confusion"] == [[0] * 4] * 4


def test_a_video_has_the_mean_probability_and_the_commonest_class():
    true = np.array([0, 0, 1, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4], [0.0, 1.0], [1.0, 0.0]])
    groups, videos = list("gghhhh"), list("vvwwxx")
    pooled = pool(FramePredictions(true, probabilities, Units(groups, videos, videos)), videos)
    assert pooled.true.tolist() == [0, 1], "on a tie the class is not known"
    assert pooled.groups.tolist() == ["g", "h"]
    np.testing.assert_allclose(pooled.probabilities, [[0.55, 0.45], [0.45, 0.55]])
    options = {"evaluable": [0, 1], "ordered": [0, 1]}
    video = score_levels(true, probabilities, "ab", groups, videos, [""] * 6, **options)["video"]
    assert video["accuracy"] == video["quadratic_kappa"] == 1.0
    assert video["n"] == 2 and video["groups"] == 2


def test_videos_that_are_all_ties_have_no_scores():
    true, videos = np.array([0, 1, 2, 1]), list("vvww")
    probabilities, options = np.eye(3)[true], {"evaluable": [0, 1, 2], "ordered": [0, 1, 2]}
    video = score_levels(true, probabilities, "abc", videos, videos, [""] * 4, **options)["video"]
    assert video["n"] == 0 and video["accuracy"] is None


def truths(true, patients, ordered=()):
    p, names = np.full((len(true), 4), 0.25), [str(number) for number in range(len(true))]
    return patient_truths(FramePredictions(np.array(true), p, Units(names, names, patients), ordered=ordered))


def test_a_patient_of_several_degrees_has_the_highest_one():
    """Class 3 is no degree, and 2 is a lower one than 1."""
    patients = ["p", "p", "q", "q", "r", "s", "s", "", "t", "t"]
    true, ordered = [0, 1, 3, 2, 3, 3, 3, 1, 1, 2], [0, 2, 1]
    truth, known, unknown = truths(true, patients, ordered)
    assert truth.tolist() == [1, 1, 2, 2, 3, 3, 3, -1, 1, 1] and (known, unknown) == (5, 0)
    truth, known, unknown = truths(true, patients)  # without an order
    assert truth.tolist() == [-1] * 4 + [3, 3, 3, -1, -1, -1] and (known, unknown) == (5, 3)


def test_of_degrees_all_known_patients_are_scored_by_their_highest():
    true, patients = np.array([0, 1, 0, 0, 1, 0]), list("ppqqrr")
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7]])
    predictions = FramePredictions(
        true, probabilities, Units(patients, list("uvwxyz"), patients), None, [0, 1]
    )
    found = metrics.score_levels(predictions, ClassSet(["Normal", "Severe"], [0, 1], [0, 1]), seed=0)[
        "patient"
    ]
    assert (found.n, found.left_out, found.confusion) == (3, 0, [[1, 0], [1, 1]])


def test_a_patient_counts_whose_frames_are_of_one_class():
    """p and q have one class each, r has two, the last frame has no patient."""
    true = np.array([0, 0, 1, 1, 1, 0, 0])
    probabilities = np.array(
        [[0.9, 0.1], [0.3, 0.7], [0.3, 0.7], [0.6, 0.4], [0.4, 0.6], [1.0, 0.0], [0.2, 0.8]]
    )
    patients = ["p", "p", "q", "q", "r", "r", ""]
    truth, known, mixed = truths(true, patients)
    assert truth.tolist() == [0, 0, 1, 1, -1, -1, -1] and (known, mixed) == (3, 1)
    found = score_levels(true, probabilities, "ab", patients, list("vwxyzzu"), patients, evaluable=[0, 1])
    found = found["patient"]
    assert found["n"] == 2 and found["groups"] == 2 and found["left_out"] == 1
    assert found["confusion"] == [[1, 0], [0, 1]] and "reason" not in found
    squares = 2 * np.array([0.4, 0.45]) ** 2  # mean probabilities 0.6 and 0.55 of the own class
    assert found["brier"] == pytest.approx(squares.mean())


def test_patients_that_cannot_be_scored_say_why():
    true, probabilities, groups = sample(3)

    def of(patients):
        found = score_levels(true, probabilities, CLASSES, groups, groups, patients, evaluable=range(4))
        return found["patient"]

    unknown = of([""] * len(true))
    assert unknown["reason"] == "no patient is known" and unknown["left_out"] == 0 and unknown["n"] == 0
    assert of(["p", *["q"] * (len(true) - 1)])["reason"] == (
        f"fewer than two classes can be evaluated here ({CLASSES[true[0]]}); "
        "1 of 2 patients have frames of several classes"
    )


@pytest.mark.parametrize("n", [37, 200])
def test_intervals_hold_the_figure_and_repeat(n):
    for seed in range(10):
        true, probabilities, groups = sample(seed, n=n)
        found = score(true, probabilities, groups, ordered=[0, 1, 2])
        for row in (found, *found["per_class"].values()):
            for name, bounds in row["ci95"].items():
                assert bounds[0] <= row[name] <= bounds[1], name
    assert found == score(true, probabilities, groups, ordered=[0, 1, 2])


def test_figures_that_are_all_right_are_not_said_to_be_sure():
    true = np.arange(20) % 2
    found = score(true, np.eye(2)[true], [f"g{number // 4}" for number in range(20)])
    assert found["per_class"]["a"]["recall"] == 1
    for interval in (found["ci95"]["accuracy"], found["per_class"]["a"]["ci95"]["recall"]):
        assert interval == [pytest.approx(0.025 ** (1 / 5)), 1.0]


def test_ten_thousand_samples_of_as_many_groups_take_little_memory():
    import tracemalloc

    rng = np.random.default_rng(0)
    n = 10_000
    arguments = rng.integers(0, 3, n), rng.dirichlet(np.ones(3), n), [str(number) for number in range(n)]
    tracemalloc.start()
    score(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6


def test_a_margin_is_the_difference_on_the_same_samples():
    true, ours, groups = sample(6, n=120)
    theirs, videos = sample(7, n=120)[1], [f"{group} {number % 3}" for number, group in enumerate(groups)]
    true[:60], patients = 2, ["p" if number < 60 else name for number, name in enumerate(videos)]
    names = groups, videos, patients
    found = paired_differences(true, ours, theirs, *names, evaluable=range(4))
    scored = [score_levels(true, p, CLASSES, *names, evaluable=range(4)) for p in (ours, theirs)]
    assert set(found) == {"frame", "video", "patient"}
    for level, margin in found.items():
        difference = scored[0][level]["balanced_accuracy"] - scored[1][level]["balanced_accuracy"]
        assert margin["balanced_accuracy"] == pytest.approx(difference)
        assert margin["ci95"][0] <= difference <= margin["ci95"][1]


def test_the_interval_of_a_margin_is_paired():
    """Frames that both get wrong widen each score's interval, not that of the difference."""
    rng = np.random.default_rng(0)
    true = np.arange(200) % 2
    predicted = np.where(rng.random(200) < np.repeat(rng.random(20), 10), true, 1 - true)
    p = np.eye(2)[predicted]
    groups = np.repeat([f"g{number}" for number in range(20)], 10).tolist()
    margin = paired_differences(true, p, p, groups, groups, groups, evaluable=[0, 1])["frame"]
    assert margin["balanced_accuracy"] == 0 and margin["same_answers"] and margin["ci95"][0] < 0
    low, high = score(true, p, groups)["ci95"]["balanced_accuracy"]
    assert high - low > 0.1 and margin["ci95"][1] == pytest.approx(1 - 0.025 ** (1 / 20), abs=0.01)


def test_a_margin_that_cannot_be_computed_is_none():
    true, ours, groups = sample(3)
    nothing = {"balanced_accuracy": None, "ci95": None, "same_answers": None}
    assert paired_differences(true, ours, ours, groups, groups, groups, evaluable=[0])["frame"] == nothing
    one = paired_differences(true, ours, ours, ["g"] * len(true), groups, groups, evaluable=range(4))["frame"]
    assert one == {"balanced_accuracy": 0.0, "ci95": None, "same_answers": True}


def test_a_constant_answer_is_constant_in_videos_of_any_length():
    videos = [f"v{n}" for n in range(12) for _ in range(n + 1)]
    p = np.tile([0.1, 0.7, 0.2], (len(videos), 1))
    pooled = pool(
        FramePredictions(np.zeros(len(videos), dtype=int), p, Units(videos, videos, videos)), videos
    )
    assert len(np.unique(pooled.probabilities, axis=0)) == 1


def test_who_calls_the_severe_not_applicable_does_not_agree_on_the_degree():
    """Nine of ten Definite are called "Not Applicable", all else is right: 1.00 over the degrees said."""
    classes = ["Not Applicable", "Normal", "Borderline", "Definite"]
    true = np.repeat([0, 1, 2, 3], 10)
    said = np.where((true == 3) & (np.arange(40) < 39), 0, true)
    samples = Samples(true, np.eye(4)[said], np.arange(40))
    found = metrics.scores(samples, ClassSet(classes, range(4), [1, 2, 3]), seed=0).to_json()
    counted = np.where((true == 3) & (said == 0), 1, said)  # as Normal, the farthest from Definite
    wanted = sk.cohen_kappa_score(true[10:], counted[10:], labels=[1, 2, 3], weights="quadratic")
    assert found["quadratic_kappa"] == pytest.approx(wanted) and wanted < 0.4
    low, high = found["ci95"]["quadratic_kappa"]
    assert low < wanted < high < 0.8
