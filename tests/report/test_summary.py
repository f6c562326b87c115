import pytest
from results import margin, metrics, results, scores, task_result

from simclr_rhd.evaluation.results import TargetResult
from simclr_rhd.report import findings
from simclr_rhd.report import summary as words
from simclr_rhd.report.wording import TABLE_BASELINES


def summary(found):
    text = words.summary(results(found), save_dir="models")
    assert max(map(len, text.splitlines())) <= 110
    return text


def test_summary_has_both_levels_intervals_and_baselines():
    text = summary(
        metrics(view=task_result(0.91234, 0.72, low=0.85), severity=task_result(0.8, 0.6, low=0.7))
    )
    row = next(line for line in text.splitlines() if line.startswith("view per video"))
    assert row.split() == "view per video 40 7 0.91 [0.85, 1.00] 0.91 [0.85, 1.00] 0.50 0.72 - 0.50".split()
    assert sum(line.startswith(("view per", "severity per")) for line in text.splitlines()) == 4
    header = next(line for line in text.splitlines() if line.startswith("test part"))
    footnote = " ".join(text.split()).partition("* balanced accuracy of ")[2]
    for baseline in TABLE_BASELINES:
        assert f"{baseline.column}*" in header and baseline.description in footnote
    assert "Look at models/report.html" in text
    assert "SYNTHETIC" not in text and "LEAKY" not in text


def test_summary_says_dash_for_what_is_null():
    found = metrics(view=task_result(None, None))
    for level in ("frame", "video"):
        found["tasks"]["view"]["test"][level]["reason"] = (
            "fewer than two classes can be evaluated here (Normal)"
        )
    text = summary(found)
    row = next(line for line in text.splitlines() if line.startswith("view per frame"))
    assert row.split() == ["view", "per", "frame", "40", "7", "-", "-", "0.50", "-", "-", "0.50"]
    assert "fewer than two classes" in text and "0.00" not in text and "None" not in text
    assert words.verdicts(results(found)) == []


@pytest.mark.parametrize(
    ("ours", "pixels", "low", "says", "not_says"),
    [
        (0.70, 0.85, 0.60, "does NOT beat raw pixels (0.85); beats an untrained", "or raw"),
        (0.85, 0.85, 0.80, "does NOT beat raw pixels (0.85);", "chance"),
        (
            0.45,
            0.40,
            0.40,
            "does NOT beat an untrained encoder (0.50) or the most",
            "raw pixels;",
        ),
        (0.90, 0.85, 0.80, "is above raw pixels (0.85), but that may be chance", "NOT"),
        (
            *(0.90, 0.70, 0.80),
            "beats raw pixels (0.70), an untrained encoder (0.50) and the most frequent class (0.50).",
            "NOT",
        ),
    ],
)
def test_verdict_in_plain_words(ours, pixels, low, says, not_says):
    found = metrics(view=task_result(ours, pixels, low=low))
    (verdict,) = words.verdicts(results(found))
    assert says in verdict and not_says not in verdict
    assert verdict in " ".join(summary(found).split())


def test_a_task_that_the_mask_predicts_as_well_is_named_at_the_top():
    found = metrics(view=task_result(0.85, 0.5, low=0.8))
    found["tasks"]["view"]["baselines"]["mask"] = found["tasks"]["view"]["baselines"]["pixels"]
    found["tasks"]["view"]["margins"]["mask"] = {
        level: {"balanced_accuracy": -0.1, "ci95": [-0.2, 0.0]} for level in ("frame", "video", "patient")
    }
    assert "NOT BETTER THAN A MASK: view." in summary(found)


@pytest.mark.parametrize(
    ("ours", "low", "says"),
    [
        (0.80, 0.70, "NOT BETTER THAN RAW PIXELS: view."),
        (0.90, 0.80, "NOT SHOWN TO BE BETTER THAN RAW PIXELS: view."),
        (0.95, 0.90, None),
    ],
)
def test_what_does_not_beat_raw_pixels_is_said_at_the_top(ours, low, says):
    found = metrics(view=task_result(ours, 0.85, low=low), severity=task_result(0.99, 0.5, low=0.9))
    text = summary(found)
    if says is None:
        assert "RAW PIXELS" not in text
    else:
        assert text.startswith(says)


def test_a_task_without_any_figure_is_told_without_one():
    found = metrics(view=task_result(0.9, 0.8), severity=task_result(None, None))
    found["tasks"]["severity"]["power"] |= {"groups": 0, "half_width": None}
    text = summary(found)
    assert "severity: with" not in text and "view: with 7 patients" in text


def test_an_untrained_encoder_that_is_not_beaten_is_said_at_the_top():
    found = metrics(view=task_result(0.45, 0.3, low=0.4))
    assert summary(found).startswith("NOT BETTER THAN AN UNTRAINED ENCODER: view.")


@pytest.mark.parametrize(
    ("margin", "ci95", "warning"),
    [
        (-0.2, [-0.3, -0.1], "WORSE THAN {}: view."),
        (-0.2, [-0.3, 0.1], "NOT BETTER THAN {}: view."),
        (0.02, [-0.1, 0.2], "NOT SHOWN TO BE BETTER THAN {}: view."),
        (0.2, [0.1, 0.3], None),
    ],
)
@pytest.mark.parametrize(
    ("baseline", "name"),
    [("random encoder", "AN UNTRAINED ENCODER"), ("mask", "A MASK"), ("pixels", "RAW PIXELS")],
)
def test_each_baseline_that_is_not_beaten_is_named(margin, ci95, warning, baseline, name):
    of_view = task_result(0.9, 0.3, low=0.85)
    of_view["baselines"][baseline] = of_view["baselines"]["pixels"]
    of_view["margins"][baseline] = {"video": {"balanced_accuracy": margin, "ci95": ci95}}
    warnings = [text for text in findings.collect_warnings(results(metrics(view=of_view))) if name in text]
    assert [text.split(".")[0] + "." for text in warnings] == (
        [] if warning is None else [warning.format(name)]
    )


def test_what_was_asked_for_is_in_the_log():
    found = metrics(view=task_result(0.6, 0.5, low=0.55))
    of_view = found["tasks"]["view"]
    of_view["leak"] = {"leaky": True, "frame": scores(0.97, ("a", "b"))}
    of_view["finetuned"] = {
        "test": of_view["test"],
        "margin": of_view["margins"]["pixels"],
        "epochs_kept": [0],
    }
    of_view["finetuned"]["margin"] = dict.fromkeys(("frame", "video"), margin(0.7, 0.6, 0.5))
    points = [{"fraction": 0.25, "groups": 12.5, "balanced_accuracy": None, "low": None, "high": None}]
    of_view["label_efficiency"] = {"simclr": points}
    text = " ".join(summary(found).split())
    assert (
        "LEAKY, under a split over frames the same heads would score 0.97 per frame instead of 0.60" in text
    )
    assert "raise them by +0.37" in text and "epochs kept: 0 (0: as it was)" in text
    assert "with 25% of the labelled groups (12 to learn from) balanced accuracy per video -" in text


def test_lesions_are_told_one_by_one():
    lesions = {
        name: task_result(0.9, 0.8, low=0.85, classes=("absent", "present")) for name in ("MR", "A" * 40)
    }
    found = metrics(condition={"mode": "multilabel", "classes": [], "not_evaluable": [], "lesions": lesions})
    text = summary(found)
    assert "condition: MR: balanced accuracy per video 0.90" in text
    rows = [line[:30].rstrip() for line in text.splitlines() if " per frame" in line[:30]]
    assert rows == ["condition: MR per frame", f"{'A' * 17}… per frame"]


def test_folds_and_how_exact_a_figure_can_be_are_told():
    found = metrics(view=task_result(0.9, 0.8, low=0.85))
    found["split"] |= {"folds": 2, "pretraining": "anew for each fold"}
    found["tasks"]["view"]["folds"] *= 2
    text = " ".join(summary(found).split())
    assert "2 folds; balanced accuracy per video of the classes that each tests: view 0.90 0.90" in text
    assert "with 7 patients an accuracy of 0.90 has an interval of about ± 0.26; ± 0.10 would take 38" in text
    assert "pretrained anew for each fold" in text


def test_few_groups_cannot_tell():
    found = metrics(view=task_result(0.90, 0.70, low=0.80))
    found["tasks"]["view"]["test"]["video"]["groups"] = 4
    assert (
        "too few groups" in words.verdicts(results(found))[0]
        and "beats" not in words.verdicts(results(found))[0]
    )


def test_verdict_falls_back_to_frames():
    found = metrics(view=task_result(0.9, 0.8))
    found["tasks"]["view"]["test"]["video"]["balanced_accuracy"] = None
    assert "per frame" in words.verdicts(results(found))[0]


def test_warnings_come_first_and_what_is_left_out_is_named():
    classes = [f"Aortic Valve Regurgitation of the sort {number}" for number in range(14)]
    found = metrics(
        view={"classes": ["A4C"], "not_evaluable": [], "skipped": "one class in training"},
        condition=task_result(0.9, 0.8, classes=classes, not_evaluable=classes[2:]),
    )
    found["synthetic"] = found["split"]["leaky"] = True
    text = summary(found)
    assert text.startswith("SYNTHETIC") and "LEAKY" in text.splitlines()[1]
    shown = " ".join(text.split())
    assert "one class in training" in shown and all(name in shown for name in classes[2:])
    assert shown.index("SYNTHETIC") < shown.index("LEAKY") < shown.index("skipped")
    assert "condition: 2 of 14 classes are evaluated" in text


def test_a_test_part_that_was_scored_before_is_named_at_the_top():
    found = metrics(view=task_result(0.9, 0.8))
    found["split"]["test_evaluations"] = 1
    assert "has been scored" not in summary(found)
    found["split"]["test_evaluations"] = 3
    assert summary(found).startswith("The test part has been scored 3 times")


def test_summary_breaks_a_name_without_blanks():
    classes = ("x" * 300, "b", "c")
    assert "x" * 100 in summary(
        metrics(view=task_result(0.9, 0.8, classes=classes, not_evaluable=classes[:1]))
    )


@pytest.mark.parametrize(
    ("margin", "ci95", "groups", "how"),
    [
        (-0.2, [-0.3, -0.1], 20, "worse"),
        (-0.2, [-0.3, -0.1], 4, "not better"),  # too few groups to be sure of
        (-0.1, [-0.3, 0.1], 20, "not better"),
        (1e-16, [-0.1, 0.1], 20, "not better"),
        (0.1, [-0.1, 0.3], 20, "unsure"),
        (0.1, None, 20, "unsure"),
        (0.2, [0.1, 0.3], 4, "unsure"),
        (0.2, [0.1, 0.3], 20, "better"),
        (None, None, 20, None),
    ],
)
def test_how_the_model_stands_to_a_rival(margin, ci95, groups, how):
    result = task_result(0.7, 0.6, low=0.6)
    result["test"]["video"]["groups"] = groups
    result["margins"]["pixels"]["video"] = {"balanced_accuracy": margin, "ci95": ci95}
    assert findings.compare_to_baseline(TargetResult.from_json(result), "pixels", "video") == how


def test_worse_than_raw_pixels_stands_first():
    of_view = task_result(0.5, 0.7, low=0.4)
    of_view["margins"]["pixels"]["video"] = {"balanced_accuracy": -0.2, "ci95": [-0.3, -0.1]}
    found = metrics(view=of_view)
    assert findings.collect_warnings(results(found))[0].startswith("WORSE THAN RAW PIXELS: view.")
    assert "is WORSE than raw pixels (0.70), by more than chance" in words.verdicts(results(found))[0]


def subgroups(low, *, value="B"):
    score = {"n": 40, "groups": 20, "balanced_accuracy": 0.9, "ci95": [0.8, 1.0], "too_small": ""}
    gap = {"higher": "A", "lower": value, "classes": ["Normal"], "difference": 0.3, "ci95": [low, 0.5]}
    values = {"A": score, value: score | {"balanced_accuracy": 0.6}}
    return {"SITE": {"level": "video", "values": values, "unknown": 0, "comparisons": 3, "gap": gap}}


def test_a_gap_between_subgroups_stands_in_the_summary_where_it_is_more_than_chance():
    found = metrics(view=task_result(0.9, 0.6, low=0.8))
    found["tasks"]["view"]["subgroups"] = subgroups(0.1)
    text = " ".join(summary(found).split())
    assert (
        "view: it differs by SITE, by more than chance: balanced accuracy per video B 0.60 and A 0.90" in text
    )
    assert "+0.30 [+0.10, +0.50]" in text and "all 3 pairs" in text
    found["tasks"]["view"]["subgroups"] = subgroups(-0.01)
    assert "differs by SITE" not in summary(found)


def test_folds_that_are_sites_are_named():
    found = metrics(view=task_result(0.9, 0.6, low=0.8))
    found["split"] |= {"folds": 2, "folds_by": "SITE", "fold_names": ["Kampala", "Gulu"]}
    assert "2 folds, the values of SITE: Kampala, Gulu;" in " ".join(summary(found).split())
