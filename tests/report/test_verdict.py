import pytest
from results import metrics, results, task_result

from simclr_rhd.report.verdict import verdict


def verdict_of(**tasks):
    return verdict(results(metrics(**tasks)))


def test_what_beats_everything_is_good():
    found = verdict_of(view=task_result(0.9, 0.7, low=0.8), severity=task_result(0.8, 0.6, low=0.7))
    assert found["finding"] == (
        "On patients that the model has never seen, view (balanced accuracy per video 0.90 [0.80, 1.00]) and "
        "severity (balanced accuracy per video 0.80 [0.70, 1.00]) are above everything that must be beaten, "
        "by more than chance."
    )
    assert (
        found["limits"]
        == "This run does not show how it would do on patients of another hospital or machine."
    )


@pytest.mark.parametrize(
    ("ours", "pixels", "low", "cannot"),
    [
        (0.60, 0.70, 0.55, "whether training helps to tell view"),  # pixels are better
        (0.90, 0.85, 0.80, "whether view is better than a simpler method, or that is chance"),
        (0.45, 0.30, 0.40, "whether training helps to tell view"),  # an untrained encoder has 0.50
    ],
)
def test_what_does_not_beat_everything_is_not_called_good(ours, pixels, low, cannot):
    found = verdict_of(view=task_result(ours, pixels, low=low))
    assert "nothing is shown to be better" in found["finding"] and "guessing has 0.50" in found["finding"]
    assert f"{ours:.2f}" in found["finding"] and f"{pixels:.2f} of raw pixels" in found["finding"]
    assert cannot in found["limits"]


def test_too_few_groups_show_nothing():
    of_view = task_result(0.9, 0.7, low=0.8)
    of_view["test"]["video"]["groups"] = 4
    assert verdict_of(view=of_view)["finding"].count("nothing is shown") == 1


def test_without_an_interval_nothing_is_shown():
    assert verdict_of(view=task_result(0.9, 0.7))["finding"].count("nothing is shown") == 1


def test_a_leak_spoils_everything():
    found = metrics(view=task_result(0.99, 0.7, low=0.98))
    found["split"]["leaky"] = True
    sentences = verdict(results(found))
    assert sentences["finding"].startswith("Nothing can be called good")
    assert "0.99" not in " ".join(sentences.values())
    assert "--group-by" in sentences["next_steps"]
    found["split"]["own"] = True
    assert verdict(results(found))["next_steps"].startswith(
        "Put all frames of a patient or video into one part"
    )


def test_a_shortcut_is_to_be_tested_at_another_site():
    found = metrics(view=task_result(0.9, 0.6, low=0.8))
    of_view = found["tasks"]["view"]
    of_view["baselines"]["mask"] = of_view["test"]["frame"] | {
        level: of_view["test"][level] for level in ("video", "patient")
    }
    of_view["margins"]["mask"] = dict.fromkeys(
        ("frame", "video"), {"balanced_accuracy": 0.0, "ci95": [-0.1, 0.1]}
    )
    assert "Test view with --folds-by SITE" in verdict(results(found))["next_steps"]
    found["split"] |= {"folds": 3, "folds_by": "SITE", "fold_names": ["A", "B", "C"]}
    assert "what tells view beside the heart" in verdict(results(found))["next_steps"]


def test_classes_of_too_few_groups_are_named_and_asked_for():
    names = [f"class {number}" for number in range(9)]
    found = verdict_of(condition=task_result(0.9, 0.7, low=0.8, classes=names, not_evaluable=names[2:]))
    for sentence in (found["limits"], found["next_steps"]):
        assert "class 2, class 3, class 4, class 5 and 3 other classes" in sentence
    assert found["next_steps"].startswith("Label frames of at least 10 patients with class 2")


def test_what_to_do_next_depends_on_what_was_done():
    found = metrics(view=task_result(0.9, 0.7, low=0.8))
    assert (
        verdict(results(found))["next_steps"]
        == "Use --folds 5, which tests every labelled group and narrows the intervals."
    )
    found["split"]["folds"] = 5
    assert (
        verdict(results(found))["next_steps"]
        == "Label the view of some 31 more patients (now 7), for an accuracy to ± 0.10."
    )
    found["tasks"]["view"]["power"]["half_width"] = 0.05
    assert "another hospital" in verdict(results(found))["next_steps"]
    found["audit"]["near_identical"]["found"] = 2
    assert "may be one patient under two names" in verdict(results(found))["next_steps"]


def test_synthetic_data_say_nothing_about_patients():
    found = metrics(view=task_result(0.9, 0.7, low=0.8))
    found["synthetic"] = True
    sentences = verdict(results(found))
    assert sentences["finding"].startswith("On synthetic patients") and "real patients" in sentences["limits"]
    assert sentences["next_steps"].startswith("On your own data: ")


def test_nothing_tested_nothing_good():
    skipped = {"classes": ["a"], "not_evaluable": [], "skipped": "one class in training"}
    found = verdict_of(view=skipped, severity=task_result(None, None))
    assert found["finding"] == "No task could be tested, so there is nothing to call good."
    assert "anything about view (one class in training)" in found["limits"]


def test_each_is_one_sentence():
    names = [f"class {number}" for number in range(9)]
    tasks = {
        "view": task_result(0.9, 0.85, low=0.8),
        "condition": task_result(0.4, 0.7, classes=names, not_evaluable=names[2:]),
    }
    for sentence in verdict_of(**tasks).values():
        assert sentence.endswith(".") and sentence[0].isupper() and ". " not in sentence


def test_what_a_simpler_method_does_better_is_said_so():
    of_view = task_result(0.5, 0.7, low=0.4)
    of_view["margins"]["pixels"] = dict.fromkeys(
        ("frame", "video"), {"balanced_accuracy": -0.2, "ci95": [-0.3, -0.1]}
    )
    found = verdict_of(view=of_view, severity=task_result(0.9, 0.7, low=0.8))
    assert found["limits"].startswith("At view a simpler method is better, by more than chance; beyond that")


def test_a_difference_that_is_zero_but_for_rounding_is_no_advantage():
    of_view = task_result(0.7, 0.7, low=0.6)
    of_view["margins"]["pixels"]["video"] = {"balanced_accuracy": 1e-16, "ci95": [-0.1, 0.1]}
    assert "whether training helps to tell view" in verdict_of(view=of_view)["limits"]


def test_all_that_stands_beside_the_score_must_be_beaten():
    of_view = task_result(0.9, 0.7, low=0.8)
    of_view["margins"]["imagenet encoder"] = dict.fromkeys(
        ("frame", "video"), {"balanced_accuracy": -0.05, "ci95": [-0.1, 0.02]}
    )
    of_view["baselines"]["imagenet encoder"] = of_view["baselines"]["pixels"]
    found = verdict_of(view=of_view)
    assert "nothing is shown" in found["finding"] and "of an encoder trained on ImageNet" in found["finding"]


def test_as_many_folds_are_advised_as_there_are_groups():
    found = metrics(view=task_result(0.9, 0.7, low=0.8))
    found["split"]["parts"] = {"train": {"groups": 2}, "val": {"groups": 1}, "test": {"groups": 1}}
    assert "--folds 4" in verdict(results(found))["next_steps"]
