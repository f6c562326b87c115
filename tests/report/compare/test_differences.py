"""Runs are written by what a real run writes them with, and read back by `compare`."""

import dataclasses
import html
import json
import pickle
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pictures import record_figures

import main
from simclr_rhd.cli.arguments import CompareArgs
from simclr_rhd.cli.command_line import parse
from simclr_rhd.config import Config
from simclr_rhd.core import config as core_config
from simclr_rhd.core.files import write_json, write_lines, write_rows
from simclr_rhd.data.labelled_set import LabelledSet
from simclr_rhd.data.labels.tasks.flag import parse_tasks
from simclr_rhd.data.labels.vocabulary import DEFAULT_TASKS
from simclr_rhd.evaluation import predictions_csv, run_metrics, targets
from simclr_rhd.evaluation.results import AuditSummary, NearDuplicates, RunResults, SplitInfo
from simclr_rhd.evaluation.scores.bootstrap import percentile_interval, resample_counts
from simclr_rhd.report.compare import differences as compare
from simclr_rhd.report.compare import page as comparison
from simclr_rhd.report.compare import sentences, settings
from simclr_rhd.report.compare.charts import charts
from simclr_rhd.report.compare.load_run import read_run, read_runs

VIEWS = ["A4C", "PLAX"]
LESIONS = ["Healthy", "AR late", "AR late + AR"]  # the name of one is part of another
SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'
FLAGS = {"epochs": 3, "temperature": 0.5, "batch_size": 64, "flip": None, "finetune": False}


def cohort(*, classes=VIEWS, groups=24, first=0, multilabel=False):
    """Groups of one video with two frames each, classes in turn; the later half of the groups is tested."""
    group = np.repeat(np.arange(groups), 2)
    names = np.array([f"patient secret-{first + number}" for number in group])
    task = "condition" if multilabel else "view"
    return LabelledSet(
        paths=[f"frames/{name}-{frame % 2}.png" for frame, name in enumerate(names)],
        videos=np.array([f"video-of-{name}" for name in names]),
        patients=names,
        groups=names,
        values={task: group % len(classes)},
        classes={task: list(classes)},
        folds=[np.where(group < groups // 2, "train", "test")],
        multilabel=multilabel,
    )


def table(of, wrong=()):
    """Right answers, but for all frames of some groups, whose numbers in the test part are given."""
    (task,) = of.values
    tested = np.flatnonzero(of.folds[0] == "test")
    target = of.target_values()[task]
    if target.ndim == 2:  # lesions: all of a wrong frame's are told the other way
        found = np.where(target > 0, 0.9, 0.2)
    else:
        found = np.where(np.arange(len(of.classes[task])) == target[:, None], 0.75, 0.25)
    for number in wrong:
        rows = tested[2 * number : 2 * number + 2]
        found[rows] = 1 - found[rows]
    return {task: found}


EVALUATED = {}  # of this file's tests


def evaluated(of, predictions):
    """The results of a run; many tests save the same one."""
    key = pickle.dumps((of, predictions))
    if key not in EVALUATED:
        EVALUATED[key] = targets.evaluate(of, predictions, seed=3)
    return EVALUATED[key]


def save(folder, of, wrong=(), *, flags=None, by="patient", leaky=False, **facts):
    """A finished run's folder."""
    folder.mkdir(parents=True)
    ours, rest = table(of, wrong), table(of, range(4))
    predictions = {"simclr": [ours], "pixels": [rest], "majority": [rest]}
    known = dict.fromkeys((task.name for task in DEFAULT_TASKS), {"classes": [], "not_evaluable": []})
    dataset = SimpleNamespace(class_info=lambda: known, labels=SimpleNamespace(agreement=[]))
    results = run_metrics.results_by_task(of, evaluated(of, predictions), dataset)
    split, audit = SplitInfo(by, leaky, 1, {}, ""), AuditSummary([], NearDuplicates(0, 0, 0.0))
    run = {
        "status": "finished",
        "finished": "2031-05-04 03:02:01",
        "versions": {"torch": "9.8"},
        "commit": "c0ffee",
        "device": "CPU",
        "signature": FLAGS | (flags or {}),
        "data": {"location": "somewhere", "fingerprint": "f00d"},
    }
    write_json(folder / "run.json", run | facts)
    write_json(folder / "metrics.json", RunResults(False, split, results, audit).to_json())
    losses = [{"phase": "simclr", "epoch": n, "loss": loss} for n, loss in enumerate((4, 2, 3), start=1)]
    heads = [{"phase": task, "epoch": 1, "loss": 1.0, "val_loss": 0.5, "best": True} for task in of.values]
    losses[1] |= {"best": True, "knn": {"view": 0.5}}
    write_lines(folder / "history.jsonl", [*losses, *heads])
    header, rows = predictions_csv.prediction_header(of), predictions_csv.prediction_rows(of, [ours])
    write_rows(folder / "predictions.csv", header, rows)
    return folder


def compared(*folders):
    runs = compare.name_runs(read_runs(folders))
    return runs, compare.compare_runs(runs)


def one_difference(first, other, question="view"):
    runs, found = compared(first, other)
    return found[question][list(runs)[1]]


def page_of(tmp_path, *folders):
    out = tmp_path / "page.html"
    comparison.write_comparison_page(out, compare.name_runs(read_runs(folders)))
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run to make copies of."""
    return save(tmp_path_factory.mktemp("saved") / "run", cohort())


A_WRONG = [0, 2, 4, 6, 8]  # five of the six tested groups whose class is the first one


def test_a_paired_difference_by_hand(tmp_path):
    # the first run finds 1/6 of A4C and all of PLAX, the other one all of both: 1 - (1/6 + 1) / 2 = 5/12
    of = cohort()
    found = one_difference(save(tmp_path / "a", of, A_WRONG), save(tmp_path / "b", of))
    assert found.margin.balanced_accuracy == pytest.approx(5 / 12)
    assert (found.level, found.groups, found.classes, found.outcome) == ("video", 12, 2, "better")
    back = one_difference(tmp_path / "b", tmp_path / "a")
    assert back.margin.balanced_accuracy == pytest.approx(-5 / 12) and back.outcome == "worse"


def test_the_interval_is_over_groups_drawn_for_both_runs_alike(tmp_path):
    of = cohort()
    found = one_difference(save(tmp_path / "a", of, A_WRONG), save(tmp_path / "b", of))
    names = sorted({f"patient secret-{number}" for number in range(12, 24)})
    place = [names.index(f"patient secret-{12 + number}") for number in range(12)]
    gains = []
    for drawn in resample_counts(12, compare.SEED)[:, place]:
        of_a4c, of_plax = drawn[0::2].sum(), drawn[1::2].sum()
        gain = drawn[A_WRONG].sum() / of_a4c if of_a4c else np.nan
        if of_a4c and of_plax:
            gains.append(gain / 2)
        else:  # one class is in the resample: it alone counts
            gains.append(gain if of_a4c else 0.0)
    assert found.margin.ci95 == pytest.approx(percentile_interval(np.array(gains), 12))


@pytest.mark.parametrize(
    ("wrong", "groups", "says"),
    [([0], 24, "may be chance"), ([], 24, "no difference"), ([0, 2], 8, "too few groups to tell")],
)
def test_what_an_interval_says(tmp_path, wrong, groups, says):
    of = cohort(groups=groups)
    assert one_difference(save(tmp_path / "a", of, wrong), save(tmp_path / "b", of)).outcome == says


def test_the_order_of_classes_and_frames_does_not_matter(tmp_path):
    of = cohort()
    turned = dataclasses.replace(of, values={"view": 1 - of.values["view"]}, classes={"view": VIEWS[::-1]})
    first = save(tmp_path / "a", of, A_WRONG)
    straight = one_difference(first, save(tmp_path / "b", of, [1]))
    other = save(tmp_path / "c", turned, [1])
    header, *rows = (other / "predictions.csv").read_text().splitlines()
    (other / "predictions.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    assert one_difference(first, other) == straight


def relabelled(of):
    values = of.values["view"].copy()
    values[-3:] = 1 - values[-3:]
    return dataclasses.replace(of, values={"view": values})


def in_other_groups(of):
    groups = of.groups.copy()
    groups[-2:] = "patient secret-22"
    return dataclasses.replace(of, groups=groups)


def some_frames(of):
    kept = np.arange(len(of.paths) - 1)
    return dataclasses.replace(
        of,
        paths=of.paths[:-1],
        **{name: getattr(of, name)[kept] for name in ("videos", "patients", "groups")},
        values={"view": of.values["view"][kept]},
        folds=[of.folds[0][kept]],
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda of: cohort(first=5), "tested on other patients: 7 of 17 in common"),
        (some_frames, "tested on other frames: 23 of 24 in common"),
        (relabelled, "labels differ on 3 frames"),
        (in_other_groups, "groups differ on 2 frames"),
        (lambda of: cohort(classes=["A4C", "PLAX", "PSAX"]), "other classes: 2 of 3 in common"),
        (
            lambda of: cohort(classes=LESIONS, multilabel=True),
            "only in the first run, skipped otherwise: fewer than two classes in the training part",
        ),
    ],
)
def test_runs_that_were_tested_otherwise_have_a_reason_and_no_difference(tmp_path, change, reason):
    of = cohort()
    found = one_difference(save(tmp_path / "a", of), save(tmp_path / "b", change(of)))
    assert (found.reason, found.margin, found.outcome) == (reason, None, "")


def test_runs_grouped_otherwise_have_a_reason(tmp_path):
    of = cohort()
    found = one_difference(save(tmp_path / "a", of), save(tmp_path / "b", of, by="video"))
    assert found.reason == "grouped otherwise: by patient in the first run, by video in this one"


def test_tasks_that_one_run_or_none_has_learnt_are_told(tmp_path):
    first, other = save(tmp_path / "a", cohort()), save(tmp_path / "b", cohort())
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["tasks"]["view"] = {"classes": VIEWS, "not_evaluable": [], "skipped": "one class"}
    write_json(other / "metrics.json", metrics)
    assert one_difference(first, other).reason == "only in the first run, skipped otherwise: one class"
    assert one_difference(other, first).reason == "only in this run, skipped otherwise: one class"
    runs, found = compared(first, other)
    assert list(found) == ["view"]
    assert sentences.notes(runs, found)[0].startswith("condition: skipped in all runs, fewer than two")


def test_only_classes_that_count_in_both_runs_count(tmp_path):
    of = cohort(classes=["A4C", "PLAX", "PSAX"])
    first, other = save(tmp_path / "a", of, [1]), save(tmp_path / "b", of, [0])
    metrics = json.loads((other / "metrics.json").read_text())
    view = metrics["tasks"]["view"]
    view["not_evaluable"] = [{"class": "PSAX", "reason": "too few"}]
    view["test"]["frame"] |= {"n": 16, "balanced_accuracy": 1 - 1 / 8}
    write_json(other / "metrics.json", metrics)
    found = one_difference(first, other)  # one of four groups of PLAX, against one of four of A4C
    assert found.classes == 2 and found.groups == 8
    assert found.margin.balanced_accuracy == pytest.approx(0)


def test_lesions_are_compared_one_by_one(tmp_path):
    of = cohort(classes=LESIONS, multilabel=True)
    first, other = save(tmp_path / "a", of, range(12)), save(tmp_path / "b", of)
    _, found = compared(first, other)
    assert list(found) == ["condition: AR late", "condition: AR"]
    assert [of["b"].margin.balanced_accuracy for of in found.values()] == pytest.approx([1, 1])


def test_the_scores_are_those_of_the_run(tmp_path):
    of = cohort()
    view = read_run(save(tmp_path / "a", of, A_WRONG)).results.targets["view"]
    assert view.primary_level == "video"
    assert view.test["video"]["balanced_accuracy"].value == pytest.approx(7 / 12)
    assert view.baseline_score("pixels", "video").value == pytest.approx(2 / 3)


def test_names_tell_runs_apart(tmp_path):
    of = cohort()
    long = "an-experiment-whose-name-is-long-"
    names = ["x/models", "y/models", "z", f"{long}1", f"{long}2", "q\x1b[31m"]
    folders = [save(tmp_path / name, of) for name in names]
    found = list(compare.name_runs(read_runs(folders)))
    assert found[:3] == ["x/models", "y/models", "z"]
    assert found[3].endswith("long-1") and found[4].endswith("long-2") and found[5] == "q?[31m"
    assert max(map(len, found)) <= compare.MAX_RUN_NAME_CHARS


def test_settings_that_differ_are_told_in_the_flags_spelling(tmp_path):
    of = cohort()
    flags = {"batch_size": 128, "flip": 0.5, "finetune": True, "label_fractions": [0.1, 1]}
    first, other = save(tmp_path / "a", of), save(tmp_path / "b", of, flags=flags, device="H100")
    runs, _ = compared(first, other)
    assert settings.differing_settings(runs) == {
        "--batch-size": ["64", "128"],
        "--flip": ["default", "0.5"],
        "--finetune": ["off", "on"],
        "--label-fractions": ["-", "0.1,1"],
    }
    assert settings.differing_environment(runs) == {"device": ["CPU", "H100"]}


def test_equal_runs_are_said_to_be_equal(tmp_path):
    of = cohort()
    text = page_of(tmp_path, save(tmp_path / "a", of), save(tmp_path / "b", of))
    assert "No flag that decides a result differs." in text
    assert "with the same commit and the same packages, on the same device" in text
    assert "the same frames and labels as of a" in text


def test_a_fine_tuned_run_whose_history_has_an_epoch_0_is_read(tmp_path):
    folder = save(tmp_path / "a", cohort())
    with (folder / "history.jsonl").open("a") as stream:
        stream.write(
            '{"phase": "finetune", "epoch": 0, "loss": null, "val_loss": 0.5, "best": true, "way": 1}\n'
        )
    assert list(read_run(folder).curves["loss", ""]) == [1, 2, 3]


def test_an_older_run_without_what_was_added_since_is_read(tmp_path, saved):
    first, older = (shutil.copytree(saved, tmp_path / name) for name in "ab")
    whole = json.loads((older / "metrics.json").read_text())
    del whole["audit"], whole["split"]["pretraining"]
    view = whole["tasks"]["view"]
    for name in ("comparisons", "draws", "margins", "power", "folds", "groups", "val"):
        del view[name]
    view["head"] = {"l2": [0.01], "temperature": [1.0]}  # neither bias nor prevalence
    write_json(older / "metrics.json", whole)
    assert one_difference(first, older).outcome == "no difference"
    assert (read_run(older).predictions["view"].prevalence == 1).all()


def test_leaky_and_synthetic_runs_are_alarms(tmp_path):
    of = cohort()
    first, other = save(tmp_path / "a", of), save(tmp_path / "b", of, leaky=True)
    runs, _ = compared(first, other)
    assert [alarm[:8] for alarm in sentences.alarms(runs)] == ["b: LEAKY"]
    before, _, rest = page_of(tmp_path, first, other).partition('<dl class="verdict">')
    assert 'class="alarm"><strong>b: LEAKY' in before and 'class="alarm"><strong>b: LEAKY' in rest


def test_the_verdict_is_three_sentences_at_most(tmp_path):
    of = cohort()
    others = [
        save(tmp_path / "b", of),
        save(tmp_path / "c", of, [0, 2, 4, 6]),
        save(tmp_path / "d", cohort(first=3)),
    ]
    runs, found = compared(save(tmp_path / "a", of, A_WRONG), *others)
    sentence_of = sentences.conclusions(runs, found)
    assert sentence_of["shown"].startswith("Against a, b is better at view (+0.42 [")
    assert sentence_of["not_shown"] == "Differences to a that are not shown: may be chance: c at view."
    assert sentence_of["incomparable"] == (
        "Cannot be compared with a: d at view (tested on other patients: 9 of 15 in common)."
    )


def test_runs_of_which_the_same_is_said_are_named_together(tmp_path):
    others = [save(tmp_path / name, cohort()) for name in "bcdef"]
    runs, found = compared(save(tmp_path / "a", cohort(), A_WRONG), *others)
    assert sentences.conclusions(runs, found)["shown"] == "Against a, b, c, d, e and f are better at view."


def test_what_cannot_be_scored_is_a_dash(tmp_path):
    of = cohort()
    values = np.where(of.folds[0] == "test", 0, of.values["view"])
    one_class = dataclasses.replace(of, values={"view": values})
    first, other = save(tmp_path / "a", one_class), save(tmp_path / "b", one_class)
    runs, found = compared(first, other)
    assert found["view"]["b"].margin is None
    lines = [line.split() for line in sentences.to_text(runs)]
    assert ["a", "-", "-", "-", "the", "first", "run"] in lines
    assert "0.00" not in page_of(tmp_path, first, other)


def test_hostile_names_are_text(tmp_path):
    of = cohort(classes=[SCRIPT, IMAGE])
    data = {"location": IMAGE, "fingerprint": SCRIPT}
    facts = {"device": SCRIPT, "versions": {IMAGE: SCRIPT}, "data": data}
    first = save(tmp_path / "<script>alert(1)", of, flags={"init": SCRIPT, IMAGE: 1}, **facts)
    task = json.loads((first / "metrics.json").read_text())["tasks"]["view"]
    metrics = json.loads((first / "metrics.json").read_text()) | {"tasks": {IMAGE: task}}
    write_json(first / "metrics.json", metrics)
    csv_path = first / "predictions.csv"
    csv_path.write_text(csv_path.read_text().replace(",view,", ',"""><img src=x onerror=alert(1)>",'))
    other = save(tmp_path / '"><img src=x onerror=alert(1)>', of)
    text = page_of(tmp_path, first, other)
    assert "<script" not in text and "<img src=x" not in text
    shown = {html.unescape(part.strip()) for part in re.findall(">([^<]+)<", text)}
    assert {SCRIPT, IMAGE} <= shown


def test_no_patient_frame_or_video_is_named(tmp_path, capsys):
    first, other = save(tmp_path / "a", cohort(), [0]), save(tmp_path / "b", cohort(first=3))
    assert main.main(["compare", str(first), str(other), "--out", str(tmp_path / "page.html")]) == 0
    printed = capsys.readouterr()
    for text in ((tmp_path / "page.html").read_text(), printed.out, printed.err):
        assert "secret" not in text


def test_the_page_is_one_file_that_fetches_nothing(tmp_path):
    text = page_of(tmp_path, save(tmp_path / "a", cohort()), save(tmp_path / "b", cohort()))
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["page.html"]


def test_charts_state_first_last_and_best_of_each_run():
    runs = {"a": {("loss", ""): {1: 4.0, 2: 2.0, 3: 3.0}}, "b": {("knn", "view"): {5: 0.5, 10: 0.25}}}
    loss, knn = charts(runs, differing=["--seed", "--temperature"])
    assert loss.alt_text == "a: first 4 (epoch 1), last 3 (epoch 3), best 2 (epoch 2). b: not measured."
    assert "not on one scale: --temperature differs" in loss.caption
    assert knn.alt_text.endswith("b: first 0.5 (epoch 5), last 0.25 (epoch 10), best 0.5 (epoch 5).")
    assert "scale" not in knn.caption and "other frames: --seed differs" in knn.caption
    assert knn.title == "view: kNN" and knn.image.startswith("data:image/svg+xml;base64,")


def test_every_knob_of_a_run_that_changes_the_views_is_named(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class LargerConfig(Config):
        contrast: float = core_config.flag(0.0, "of frames", changes=core_config.VIEWS)

    monkeypatch.setattr("simclr_rhd.report.compare.charts.Config", LargerConfig)
    (chart,) = charts({"a": {("alignment", ""): {1: 0.5}}}, differing=["--contrast", "--blur", "--epochs"])
    assert chart.caption.endswith("Runs not on one scale: --contrast and --blur differ.")


def test_a_setting_that_the_program_decided_counts_like_its_flag():
    (chart,) = charts({"a": {("alignment", ""): {1: 0.5}}}, differing=["--positives, as used", "--patience"])
    assert chart.caption.endswith("Runs not on one scale: --positives, as used differs.")


def test_legends_of_many_runs_leave_room_for_the_curves(monkeypatch):
    figures = record_figures(monkeypatch)
    charts({f"_run {n}": {("loss", ""): {1: 1.0 * n, 2: 2.0}} for n in range(15)}, differing=[])
    (figure,) = figures
    (axes,), (legend,) = figure.axes, figure.legends
    assert len(legend.get_texts()) == 15
    assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines}) == 15
    assert axes.get_window_extent().height / figure.dpi > 1.5
    assert not axes.get_window_extent().overlaps(legend.get_window_extent())


def test_runs_are_compared_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(Path("a"), cohort(), A_WRONG), save(Path("b"), cohort())
    assert main.main(["compare", "a", "b"]) == 0
    lines = [line.split("  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith("Against a, b is better at view (+0.42 [")
    assert lines[-1] == "Look at comparison.html" and Path("comparison.html").exists()
    assert max(map(len, lines)) <= 110


def test_the_command_line_of_compare():
    assert parse(["compare", "a", "--out", "x.html", "b"]) == CompareArgs(("a", "b"), "x.html")
    assert parse(["compare", "a", "b"]).out == "comparison.html"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "two or more finished runs, got 0"),
        (["a"], "two or more finished runs, got 1"),
        (["a", "b", "--epochs", "3"], "unrecognized arguments: --epochs"),
        (["a", "b", "--ou", "x.html"], "unrecognized arguments: --ou"),
        (["a", "b", "--out", "run.json"], "wanted a file whose name ends in .html"),
        (["a", "a"], "is the same folder as a; name each run once"),
        (["a", "./link"], "is the same folder as a; name each run once"),
        (["a", "nowhere"], "nowhere: is not there; wanted the folder of a finished run"),
        (["a", "a/run.json"], "a/run.json: is a file; wanted the folder"),
        (["a", "empty"], "empty/run.json: is not there; wanted the folder"),
        (["a", "b", "--out", "folder.html"], "--out folder.html: is a folder"),
        (["a", "b", "--out", "a/run.json/x.html"], "--out a/run.json"),
        (["a", "b", "--out", "a/report.html"], "is the report of a run"),
    ],
)
def test_words_that_cannot_be_are_refused(tmp_path, saved, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved, "a"), shutil.copytree(saved, "b")
    Path("link").symlink_to("a")
    Path("empty").mkdir(), Path("folder.html").mkdir()
    assert main.main(["compare", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert not list(tmp_path.rglob("*.html*/*")) and not Path("comparison.html").exists()


def with_json(name, *keys, value):
    """A file in which one value is another."""

    def change(folder):
        whole = json.loads((folder / name).read_text())
        at = whole
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value
        (folder / name).write_text(json.dumps(whole))

    return change


def of_run(*keys, value):
    return with_json("run.json", *keys, value=value)


def of_metrics(*keys, value):
    return with_json("metrics.json", *keys, value=value)


def of_view(*keys, value):
    return of_metrics("tasks", "view", *keys, value=value)


def with_text(name, old, new):
    """A file in which the first of some words is another."""

    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def in_predictions(old, new):
    return with_text("predictions.csv", old, new)


def holding(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut(name, share=0.6):
    def change(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return change


def without(name):
    return lambda folder: (folder / name).unlink()


def a_folder(name):
    return lambda folder: (without(name)(folder), (folder / name).mkdir())


def without_last_line(folder):
    lines = (folder / "predictions.csv").read_text().splitlines(keepends=True)
    (folder / "predictions.csv").write_text("".join(lines[:-1]))


BAD = {
    "unfinished": (of_run("status", value="unfinished"), "its run is not finished"),
    "status": (of_run("status", value=3), "run.json: status: found 3, wanted text"),
    "no finish": (with_text("run.json", '"finished":', '"begun":'), "run.json: finished: found nothing"),
    "run cut": (cut("run.json"), "run.json: is cut off, or no JSON"),
    "run a list": (holding("run.json", b"[]"), "run.json: found a list, wanted an object"),
    "run deep": (holding("run.json", b"[" * 99999), "nested too deep"),
    "run binary": (holding("run.json", b"\xff\xfe\0"), "run.json: is no text in UTF-8"),
    "run a folder": (a_folder("run.json"), "run.json: cannot be read"),
    "signature": (of_run("signature", value="x"), 'signature: found "x", wanted an object'),
    "fingerprint": (of_run("data", "fingerprint", value=None), "data: fingerprint: found null"),
    "no metrics": (without("metrics.json"), "metrics.json: is not there"),
    "metrics cut": (cut("metrics.json"), "metrics.json: is cut off"),
    "no tasks": (of_metrics("tasks", value=[]), "metrics.json: tasks: found a list"),
    "task of text": (of_metrics("tasks", "view", value="x"), 'tasks: view: found "x"'),
    "folds": (of_metrics("split", "folds", value=True), "folds: found true, wanted a whole number"),
    "leaky": (of_metrics("split", "leaky", value="no"), 'leaky: found "no", wanted true or false'),
    "classes": (of_view("classes", value=["a", "a"]), "wanted a list of different names"),
    "other classes": (of_view("classes", value=["a", "b"]), "no column p:a"),
    "not evaluable": (of_view("not_evaluable", value=[3]), "not_evaluable: found 3, wanted an object"),
    "no frames": (of_view("test", "frame", value=None), "test: frame: found null"),
    "score": (of_view("test", "video", "balanced_accuracy", value=7), "found 7, wanted a number from 0 to 1"),
    "interval": (
        of_view("test", "video", "ci95", "balanced_accuracy", value=[0, "x"]),
        "found a list, wanted two numbers from 0 to 1",
    ),
    "count": (of_view("test", "frame", "n", value=-1), "n: found -1, wanted a whole number"),
    "other run": (of_view("test", "frame", "balanced_accuracy", value=0.1), "files are of different runs"),
    "no history": (without("history.jsonl"), "history.jsonl: is not there"),
    "history empty": (holding("history.jsonl", b""), "history.jsonl: found no loss"),
    "history cut": (cut("history.jsonl"), "is cut off, or no JSON"),
    "epoch": (with_text("history.jsonl", '"epoch": 1', '"epoch": "1"'), 'line 1: epoch: found "1"'),
    "loss": (with_text("history.jsonl", '"loss": 4', '"loss": 1e999'), "line 1: loss: found Infinity"),
    "knn": (with_text("history.jsonl", '"view": 0.5', '"view": []'), "line 2: knn: view: found a list"),
    "no predictions": (without("predictions.csv"), "predictions.csv: is not there"),
    "predictions empty": (holding("predictions.csv", b""), "has no column path"),
    "predictions cut": (cut("predictions.csv"), "cells, wanted 9"),
    "predictions shorter": (without_last_line, "found 23 annotated frames for 'view', metrics.json has 24"),
    "no group": (in_predictions("group", "grouch"), "has no column group"),
    "columns alike": (in_predictions("p:PLAX", "p:A4C"), "two columns have one name"),
    "probability": (in_predictions("0.75", "much"), 'line 2: p:A4C: found "much", wanted 0 to 1'),
    "not a number": (in_predictions("0.75", "nan"), 'found "nan"'),
    "class": (in_predictions(",A4C", ",Z9"), "line 2: true 'Z9' is no class"),
    "frame twice": (in_predictions("12-1.png", "12-0.png"), "line 3: its frame has a row of this task"),
    "open quote": (in_predictions("frames/", '"frames/'), "is cut off, or no CSV"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_not_a_runs_are_refused_in_words(tmp_path, saved, capsys, name):
    change, message = BAD[name]
    shutil.copytree(saved, tmp_path / "a"), shutil.copytree(saved, tmp_path / "b")
    change(tmp_path / "b")
    out = tmp_path / "page.html"
    assert main.main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert message in err and str(tmp_path / "b") in err and "Traceback" not in err
    assert len(err.splitlines()) == 1 and not out.exists()


def test_a_task_of_the_users_own_is_compared_as_the_others_are(tmp_path):
    views = cohort(classes=["thin", "thick"])
    own = dataclasses.replace(
        views,
        values={"wall": views.values["view"]},
        classes={"wall": views.classes["view"]},
        tasks=parse_tasks("view,wall=WALL=thin<thick"),
    )
    first, other = save(tmp_path / "a", own, range(6)), save(tmp_path / "b", own)
    assert one_difference(first, other, "wall").outcome == compare.BETTER
    assert "<h3>wall</h3>" in page_of(tmp_path, first, other)
    assert read_run(first).results.targets["wall"].test["frame"]["quadratic_kappa"].value is not None
    without = save(tmp_path / "c", views)
    assert one_difference(first, without, "wall").reason == "only in the first run"
