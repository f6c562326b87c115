"""The figures of a study are those of its truth: nothing of the test part decides, no leak is hidden."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest
from simulated import make_cross_validation, make_features, make_labelled_set
from sklearn.metrics import balanced_accuracy_score

from simclr_rhd.data.labelled_set import Target
from simclr_rhd.data.labels.annotators import Agreement
from simclr_rhd.data.labels.vocabulary import VOCABULARY
from simclr_rhd.evaluation import predictions_csv, run_metrics, targets
from simclr_rhd.evaluation.scores.differences import paired_differences
from simclr_rhd.evaluation.scores.metrics import score_levels
from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.evaluation.scores.samples import ClassSet, FramePredictions, Units
from simclr_rhd.heads.cross_validation import OURS, out_of_fold


def evaluated(a_study, seed=0):
    predictions = a_study.predict_all(a_study.fit_folds(a_study.features.per_fold))
    results = targets.evaluate(a_study.labelled_set, predictions, seed=seed)
    return predictions, {name: result.to_json() for name, result in results.items()}


@pytest.mark.parametrize("folds", [1, 4])
def test_features_that_know_the_patient_and_not_the_class_score_chance_and_a_leak_hides_that(folds):
    """The truth is 0.5; a split over frames finds 0.9 and more, and says that it is a leak."""
    a_cohort = make_labelled_set(patients=60, folds=folds)
    a_study = make_cross_validation(a_cohort, make_features(a_cohort.groups))
    result = evaluated(a_study)[1]["view"]
    for level in ("frame", "video", "patient"):
        low, high = result["test"][level]["ci95"]["balanced_accuracy"]
        assert low <= 0.5 <= high, f"chance is outside the interval per {level}: {low:.2f} to {high:.2f}"
    leak = run_metrics.frame_split_scores(a_study)["view"]["balanced_accuracy"]
    assert leak.value >= 0.9 and leak.low > 0.85, "and an interval that is too narrow"


def test_features_that_know_the_class_are_found_in_every_fold():
    a_cohort = make_labelled_set(folds=4)
    x = make_features(a_cohort.groups, signal=2.0, true=a_cohort.values["view"])
    predictions, results = evaluated(make_cross_validation(a_cohort, x))
    result = results["view"]
    assert result["test"]["frame"]["balanced_accuracy"] > 0.95
    assert result["test"]["frame"]["n"] == len(a_cohort.paths), "every frame is tested once"
    assert [fold["fold"] for fold in result["folds"]] == [1, 2, 3, 4]
    assert sum(fold["n"] for fold in result["folds"]) == len(a_cohort.paths)
    table = out_of_fold(a_cohort, predictions[OURS], "test")["view"]
    expected = balanced_accuracy_score(a_cohort.values["view"], table.argmax(axis=1))
    assert result["test"]["frame"]["balanced_accuracy"] == pytest.approx(expected)


def test_what_is_pooled_was_learnt_without_the_frame():
    """The labels of a fold's test groups are turned round: what is said of them must not change."""
    a_cohort = make_labelled_set(folds=3)
    x = make_features(a_cohort.groups, signal=1.0, true=a_cohort.values["view"])
    predictions, _ = evaluated(make_cross_validation(a_cohort, x))
    rows = a_cohort.rows(1, "test")
    a_cohort.values["view"][rows] = 1 - a_cohort.values["view"][rows]
    other, _ = evaluated(make_cross_validation(a_cohort, x))
    for method in set(predictions) - {"majority"}:  # which is one for all folds
        assert np.array_equal(predictions[method][1]["view"], other[method][1]["view"]), method
    assert not np.array_equal(predictions[OURS][0]["view"], other[OURS][0]["view"]), (
        "there they are learnt from"
    )


def test_pooled_takes_each_frame_from_the_fold_that_tests_it():
    a_cohort = make_labelled_set(patients=12, folds=3)
    tables = [{"view": np.full((len(a_cohort.paths), 2), float(fold))} for fold in range(3)]
    table = out_of_fold(a_cohort, tables, "test")["view"]
    for fold in range(3):
        assert (table[a_cohort.rows(fold, "test")] == fold).all()
    times = np.sum([part == "val" for part in a_cohort.folds], axis=0)
    val = out_of_fold(a_cohort, tables, "val")["view"][:, 0]
    assert np.isnan(val[times == 0]).all() and not np.isnan(val[times > 0]).any()


def test_margins_and_verdict_levels_are_beside_every_baseline():
    a_cohort = make_labelled_set(patients=60, folds=2)
    x = make_features(a_cohort.groups, signal=2.0, true=a_cohort.values["view"])
    noise = make_features(a_cohort.groups, seed=9)
    _, results = evaluated(make_cross_validation(a_cohort, x, baselines={"random encoder": noise}))
    result = results["view"]
    assert set(result["baselines"]) == {"majority", "pixels", "mask", "neighbours", "random encoder"}
    margin = result["margins"]["random encoder"]["frame"]
    gap = (
        result["test"]["frame"]["balanced_accuracy"]
        - result["baselines"]["random encoder"]["balanced_accuracy"]
    )
    assert margin["balanced_accuracy"] == pytest.approx(gap)
    assert margin["ci95"][0] > 0, "the same groups are drawn for both"
    assert result["baselines"]["majority"]["balanced_accuracy"] == pytest.approx(0.5)


def test_a_class_of_one_patient_is_named_and_has_no_figure():
    a_cohort = make_labelled_set(patients=21, classes=2, folds=3)
    a_cohort.values["view"][a_cohort.groups == "p004"] = 2
    a_cohort.classes["view"].append("rare")
    x = make_features(a_cohort.groups, signal=2.0, true=a_cohort.values["view"])
    result = evaluated(make_cross_validation(a_cohort, x))[1]["view"]
    (named,) = result["not_evaluable"]
    assert named["class"] == "rare" and "at least 2 groups are needed" in named["reason"]
    assert result["test"]["frame"]["per_class"]["rare"]["recall"] is None
    assert result["test"]["frame"]["n"] == len(a_cohort.paths) - 6
    assert result["groups"]["rare"]["groups"] == 1 and result["groups"]["rare"]["frames"] == 6


def test_the_majority_is_a_class_that_can_be_evaluated():
    """The commonest class of all, when it is in no test frame, would be right never and look beaten."""
    a_cohort = make_labelled_set(patients=20)
    part = a_cohort.folds[0]
    a_cohort.values["view"][part == "train"] = np.where(np.arange((part == "train").sum()) < 10, [0], 2)
    a_cohort.values["view"][part == "train"][10:20] = 1
    a_cohort.classes["view"].append("only in training")
    a_study = make_cross_validation(a_cohort, make_features(a_cohort.groups))
    predictions = a_study.predict_all(a_study.fit_folds(a_study.features.per_fold))
    assert set(predictions["majority"][0]["view"].argmax(axis=1)) <= {0, 1}


@pytest.mark.parametrize("folds", [5, 20])
def test_the_majority_of_folds_is_chance_and_nothing_to_be_beaten(folds):
    """A majority of each fold's training groups would be the class that its test groups lack: 0 of 1."""
    a_cohort = make_labelled_set(patients=20, folds=folds)
    a_study = make_cross_validation(a_cohort, make_features(a_cohort.groups), linear_epochs=2)
    table = out_of_fold(
        a_cohort, a_study.predict_all(a_study.fit_folds(a_study.features.per_fold))["majority"], "test"
    )["view"]
    assert balanced_accuracy_score(a_cohort.values["view"], table.argmax(axis=1)) == 0.5


def test_power_is_wilsons_interval():
    true, one = np.array([0, 1]), np.zeros(2)
    samples = FramePredictions(true, np.eye(2)[true], Units(one, one, one))
    empty = score_levels(samples, ClassSet("ab", [0, 1]), seed=0)["video"]

    def note_of(accuracy, groups):
        scores = replace(empty, groups=groups, averages=empty.averages | {"accuracy": Score(accuracy)})
        return targets.sample_size_note({"video": scores})

    note = note_of(0.8, 25)
    interval = binomtest(20, 25).proportion_ci(method="wilson")
    assert note.half_width == pytest.approx((interval.high - interval.low) / 2, abs=1e-6)
    assert 50 < note.groups_needed < 65
    assert note_of(None, 0).to_json() == {
        "groups": 0,
        "accuracy": 0.8,
        "assumed": True,
        "half_width": None,
        "groups_needed": note.groups_needed,
    }


def test_calibration_is_told_before_and_after():
    a_cohort = make_labelled_set(patients=60)
    x = make_features(a_cohort.groups, signal=0.3, true=a_cohort.values["view"])
    a_study = make_cross_validation(a_cohort, x, head_l2=1e-4, linear_epochs=40)
    trained = a_study.fit_folds(a_study.features.per_fold)
    result = targets.evaluate(a_cohort, a_study.predict_all(trained), seed=0)["view"].to_json()
    before, after = result["calibration"]["before"], result["calibration"]["after"]
    assert after["ece"] == pytest.approx(result["test"]["frame"]["ece"])
    assert before["ece"] != after["ece"]
    assert sum(after["count"]) == result["test"]["frame"]["n"]
    facts = run_metrics.describe_heads(a_cohort, trained, a_study.features.per_fold)["view"]
    assert facts.temperature[0] != 1 and facts.l2 == [1e-4]


def test_each_seed_alone_is_told():
    a_cohort = make_labelled_set(patients=30, folds=3)
    a_study = make_cross_validation(a_cohort, make_features(a_cohort.groups), head_seeds=3)
    trained = a_study.fit_folds(a_study.features.per_fold)
    facts = run_metrics.describe_heads(a_cohort, trained, a_study.features.per_fold)["view"]
    assert len(facts.balanced_accuracy_of_seeds) == 3 and len(facts.l2) == 3


def test_predictions_have_one_row_a_tested_frame_and_task():
    a_cohort = make_labelled_set(patients=12, folds=3)
    tables = [{"view": np.tile([0.25, 0.75], (len(a_cohort.paths), 1))} for _ in range(3)]
    header, rows = (
        predictions_csv.prediction_header(a_cohort),
        list(predictions_csv.prediction_rows(a_cohort, tables)),
    )
    assert header == ["path", "video", "group", "task", "true", "predicted", "p:class 0", "p:class 1", "fold"]
    assert [row[0] for row in rows] == a_cohort.paths
    assert rows[0][4:8] == [f"class {a_cohort.values['view'][0]}", "class 1", 0.25, 0.75]
    assert {row[-1] for row in rows} == {1, 2, 3}


def test_lesions_are_told_below_their_task_and_in_words():
    names = ["Not Applicable", "Mitral Valve Regurgitation", "Mitral Valve Regurgitation + X"]
    a_cohort = make_labelled_set(patients=30, classes=3, multilabel=True, names=names)
    x = make_features(a_cohort.groups, signal=3.0, true=a_cohort.values["condition"])
    a_study = make_cross_validation(a_cohort, x)
    predictions = a_study.predict_all(a_study.fit_folds(a_study.features.per_fold))
    results = targets.evaluate(a_cohort, predictions, seed=0)
    assert list(results) == ["condition: Mitral Valve Regurgitation", "condition: X"]
    missing = {"classes": [], "not_evaluable": []}
    agreement = [Agreement("condition", ["a", "b"], 12, 0.6), Agreement("condition", ["a", "c"], 8, 0.4)]
    dataset = SimpleNamespace(
        class_info=lambda: {"view": missing, "severity": missing}, labels=SimpleNamespace(agreement=agreement)
    )
    by_task = run_metrics.results_by_task(a_cohort, results, dataset)
    tasks = {task: result.to_json() for task, result in by_task.items()}
    assert list(tasks["condition"]["lesions"]) == ["Mitral Valve Regurgitation", "X"]
    kappas = {"kappa": 0.5, "lowest": 0.4, "highest": 0.6}
    assert tasks["condition"]["readers"] == {"pairs": 2, "files": 20} | kappas
    assert "readers" not in tasks["view"]
    found = tasks["condition"]["lesions"]["X"]
    assert found["classes"] == ["absent", "present"]
    assert found["test"]["frame"]["per_class"]["present"]["recall"] > 0.9
    rows = list(predictions_csv.prediction_rows(a_cohort, predictions[OURS]))
    assert {row[4] for row in rows} == {"no lesion", *names[1:]}
    right = np.mean([row[4] == row[5] for row in rows])
    assert right > 0.9


def test_a_question_knows_the_order_of_degrees():
    classes = ["Not Applicable", "Normal", "Borderline RHD", "Definite RHD"]
    severity = VOCABULARY["severity"]
    question = Target("severity", "severity", None, classes, np.zeros(1, int), [], severity)
    assert question.ordered() == [1, 2, 3]
    assert Target("view", "view", None, classes, np.zeros(1, int), [], VOCABULARY["view"]).ordered() == []


@pytest.mark.parametrize("multilabel", [False, True])
def test_probabilities_stand_beside_frequencies_and_what_is_said_is_the_balanced_choice(multilabel):
    """Four in five patients are of one class; class weights would take both for equally frequent."""
    names = ["Not Applicable", "Mitral Valve Regurgitation"]
    a_cohort = make_labelled_set(patients=240, multilabel=multilabel, names=names)
    (task,) = a_cohort.values
    true = (np.unique(a_cohort.groups, return_inverse=True)[1] % 5 == 0).astype(int)
    a_cohort.values[task] = true
    a_study = make_cross_validation(
        a_cohort, make_features(a_cohort.groups, signal=0.15, true=true, noise=1.0)
    )
    predictions, results = evaluated(a_study)
    (result,) = results.values()
    for part in (result["calibration"], result["calibration"]["validation"]):
        before, after = part["before"], part["after"]
        assert after["classwise_ece"] < 0.5 * before["classwise_ece"]
    gaps = [abs(row["frequency"] - row["mean_probability"]) for row in after["classes"].values()]
    assert max(gaps) < 0.03, "on the validation groups that it was fitted on"
    (question,) = a_cohort.targets()
    rows, table = (
        targets.annotated_rows(a_cohort, question, "test"),
        out_of_fold(a_cohort, predictions[OURS], "test"),
    )
    share = question.prevalence(table)[rows]
    np.testing.assert_allclose(share.sum(axis=1), 1)
    chosen = (question.probabilities(table)[rows] / share).argmax(axis=1)
    expected = balanced_accuracy_score(question.true[rows], chosen)
    assert result["test"]["frame"]["balanced_accuracy"] == pytest.approx(expected)
    assert (chosen != question.probabilities(table)[rows].argmax(axis=1)).any(), "the rare class has a say"
    written = {row[0]: row[5] for row in predictions_csv.prediction_rows(a_cohort, predictions[OURS])}
    lesion = {0: "no lesion" if multilabel else names[0], 1: names[1]}
    assert [written[a_cohort.paths[row]] for row in rows] == [lesion[number] for number in chosen]


def test_a_perfect_model_on_many_patients_beats_who_always_says_one_class():
    """The difference is the same in every resample, and not by chance."""
    true = np.repeat([0, 1], 20)
    names = [str(number) for number in range(40)]
    ours, theirs = (
        FramePredictions(true, p, Units(names, names, names))
        for p in (np.eye(2)[true], np.tile([0.9, 0.1], (40, 1)))
    )
    low = 0.025 ** (1 / 40)
    margin = paired_differences(ours, [theirs], [0, 1], seed=0)["video"]
    assert margin.ci95 == [pytest.approx(low - 0.5), pytest.approx(1.5 - low)] and margin.ci95[0] > 0
    test = score_levels(ours, ClassSet(["a", "b"], [0, 1]), seed=0)["video"]
    for name in ("kappa", "brier", "ece", "balanced_accuracy"):
        assert test[name].low < test[name].high, f"{name} of 40 patients is not known exactly"
    same = paired_differences(ours, [ours], [0, 1], seed=0)["video"]
    assert same.ci95[0] < 0 < same.ci95[1] and same.same_answers


def test_the_random_encoder_is_the_mean_of_its_draws_and_the_family_of_a_task_is_held():
    a_cohort = make_labelled_set(patients=60, folds=2)
    true, groups = a_cohort.values["view"], a_cohort.groups
    x = make_features(groups, signal=0.5, true=true)
    drawn = np.stack([make_features(groups, signal=s, true=true, seed=s) for s in (0, 1, 3)])
    a_study = make_cross_validation(a_cohort, x, baselines={"random encoder": drawn})
    predictions, results = evaluated(a_study)
    result = results["view"]
    assert result["draws"]["random encoder"] == 3 and result["comparisons"] == 5 == len(result["margins"])
    tables = [
        out_of_fold(a_cohort, predictions[f"random encoder{draw}"], "test")
        for draw in ("", ", draw 2", ", draw 3")
    ]
    (question,) = a_cohort.targets()
    each = [balanced_accuracy_score(true, question.predicted(table)) for table in tables]
    assert result["baselines"]["random encoder"]["balanced_accuracy"] == pytest.approx(np.mean(each))
    margin = result["margins"]["random encoder"]["frame"]
    ours = result["test"]["frame"]["balanced_accuracy"]
    assert margin["balanced_accuracy"] == pytest.approx(ours - np.mean(each))

    def interval(tables, **options):
        rows = np.arange(len(true))
        ours, *theirs = (
            targets.target_predictions(a_cohort, question, table, rows)
            for table in (out_of_fold(a_cohort, predictions[OURS], "test"), *tables)
        )
        return np.ptp(paired_differences(ours, theirs, [0, 1], seed=0, **options)["frame"].ci95)

    assert np.ptp(margin["ci95"]) == pytest.approx(interval(tables, n_comparisons=5))
    assert interval(tables, n_comparisons=5) > 1.1 * interval(tables), "a family of five"
    assert interval(tables) > 1.2 * interval([tables[1]] * 3), "the draws' own chance is in it"
