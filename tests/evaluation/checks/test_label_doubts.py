"""Labels in doubt: the ranks are those of a calculation by hand, and what was learnt from is not judged."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from simulated import make_labelled_set

from simclr_rhd.data.labelled_set import LabelledSet
from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.evaluation.checks.label_doubts import find_label_doubts, write_label_doubts
from simclr_rhd.evaluation.checks.label_studio import image_address

LESIONS = ["Healthy", "MR", "AR", "MR + AR"]


def labelled_set(values, *, classes, task="view", multilabel=False, train=8):
    """Frames of a group each: the first `train` of all classes in turn, to learn from; the rest is tested."""
    n = train + len(values)
    learnt = [number % len(classes) for number in range(train)]
    groups = np.array([f"g{number}" for number in range(n)])
    return LabelledSet(
        paths=[f"sub/{name}.png" for name in groups],
        videos=np.array([f"video {name}" for name in groups]),
        patients=groups,
        groups=groups,
        values={task: np.array([*learnt, *values])},
        classes={task: classes},
        folds=[np.array(["train"] * train + ["test"] * len(values))],
        multilabel=multilabel,
    )


def table(task, rows, prevalence, *, train=8):
    """Probabilities of the tested frames; of those learnt from, all contradict their labels."""
    p = np.full((train, len(prevalence)), 0.5)
    p = np.concatenate([p, np.array(rows, dtype=float)])
    return {task: p, prevalence_key(task): np.tile(np.array(prevalence, dtype=float), (len(p), 1))}


def test_doubts_are_ranked_by_the_margin_at_equal_prevalence():
    of = labelled_set([0, 0, 1, 1, -1], classes=["common", "rare"])
    rows = [(0.5, 0.5), (0.1, 0.9), (0.8, 0.2), (0.95, 0.05), (0.0, 1.0)]
    doubts = find_label_doubts(of, [table("view", rows, (0.9, 0.1))])
    # at equal prevalence 0.5, 0.5 is 0.1, 0.9; 0.8, 0.2 is 4/13, 9/13, as labelled; 0.95, 0.05 is 19/28, 9/28
    assert [(one.row - 8, one.label, one.predicted) for one in doubts] == [
        (1, "common", "rare"),
        (0, "common", "rare"),
        (3, "rare", "common"),
    ]
    by_hand = [1 / 82 - 81 / 82, 0.1 - 0.9, (9 - 19) / 28]
    assert [one.margin for one in doubts] == pytest.approx(by_hand)
    assert [(one.p_label, one.p_predicted) for one in doubts] == [(0.1, 0.9), (0.5, 0.5), (0.05, 0.95)]


def test_of_folds_each_frame_is_judged_by_the_heads_that_test_it():
    of = make_labelled_set(patients=12, folds=3)
    true = of.values["view"]
    right = np.eye(2)[true]
    # each fold's heads contradict all labels but those that they test
    tables = [{"view": np.where((part == "test")[:, None], right, 1 - right)} for part in (of.folds)]
    assert find_label_doubts(of, tables) == []
    doubted = int(of.rows(1, "test")[2])
    tables[1]["view"][doubted] = 1 - right[doubted]
    (doubt,) = find_label_doubts(of, tables)
    assert (doubt.row, doubt.fold, doubt.margin) == (doubted, 2, -1.0)


def test_a_class_that_was_not_learnt_is_no_doubt():
    of = labelled_set([2, 0], classes=["a", "b", "untrained"], train=6)
    of.values["view"][of.values["view"] == 2] = 0
    of.values["view"][6] = 2
    rows = [(0.9, 0.1, 0.0), (0.1, 0.9, 0.0)]
    doubts = find_label_doubts(of, [table("view", rows, (1 / 3, 1 / 3, 1 / 3), train=6)])
    assert [one.row for one in doubts] == [7]


def test_of_lesions_the_one_that_is_contradicted_most_counts():
    of = labelled_set([1, 3, 0], classes=LESIONS, task="condition", multilabel=True)
    rows = [(0.7, 0.1), (0.4, 0.1), (0.2, 0.6)]
    doubts = find_label_doubts(of, [table("condition", rows, (0.5, 0.5))])
    assert [(one.row - 8, one.label, one.predicted) for one in doubts] == [
        (1, "MR + AR", "no lesion"),
        (2, "no lesion", "AR"),
    ]
    assert [(one.p_label, one.p_predicted) for one in doubts] == [(0.1, 0.9), (0.4, pytest.approx(0.6))]
    assert [one.margin for one in doubts] == pytest.approx([-0.8, -0.2])


def test_the_files_of_a_run(tmp_path):
    of = labelled_set([0, 0, 1], classes=["=A4C", 'P"<LAX>'])
    of.paths[9] = "sub/clip.mp4#0003"
    of.paths[8] = "sub/a b&c.png"
    rows = [(0.2, 0.8), (0.1, 0.9), (0.9, 0.1)]
    write_label_doubts(tmp_path, of, [table("view", rows, (0.5, 0.5))], "some/folder")
    with (tmp_path / "label_doubts.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [(row["rank"], row["path"], row["label"]) for row in found] == [
        ("1", "sub/clip.mp4#0003", "'=A4C"),
        ("2", "sub/g10.png", 'P"<LAX>'),
        ("3", "sub/a b&c.png", "'=A4C"),
    ]
    assert {row["fold"] for row in found} == {"1"} and found[0]["video"] == "video g9"
    tasks = json.loads((tmp_path / "label_studio.json").read_text())
    assert [task["data"]["path"] for task in tasks] == ["sub/g10.png", "sub/a b&c.png"], "stills alone"
    config = ElementTree.fromstring((tmp_path / "label_studio.xml").read_text())
    follows_the_configuration(tasks, config)
    assert tasks[1]["data"]["image"] == "/data/local-files/?d=sub/a%20b%26c.png"
    assert tasks[1]["data"]["label_view"] == "=A4C"
    (prediction,) = tasks[1]["predictions"]
    assert prediction["score"] == 0.8 and prediction["result"][0]["value"] == {"choices": ['P"<LAX>']}
    for name in ("label_doubts.csv", "label_studio.json"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0, "a frame's name may name a patient"


def follows_the_configuration(tasks, config):
    """Each result names a control, its object and choices that the configuration has; so does the data."""
    (image,) = config.iter("Image")
    controls = {control.get("name"): control for control in config.iter("Choices")}
    for task in tasks:
        assert image.get("value").removeprefix("$") in task["data"]
        for header in config.iter("Header"):
            assert header.get("value").rpartition("$")[2] in task["data"]
        for prediction in task["predictions"]:
            for result in prediction["result"]:
                control = controls[result["from_name"]]
                assert result["to_name"] == control.get("toName") == image.get("name")
                assert result["type"] == control.tag.lower()
                choices = result["value"]["choices"]
                assert set(choices) <= {choice.get("value") for choice in control}
                assert control.get("choice") == "multiple" or len(choices) == 1


def test_a_frame_with_several_doubts_is_one_task_and_lesions_are_chosen_one_by_one(tmp_path):
    of = labelled_set([1, 0], classes=LESIONS, task="condition", multilabel=True)
    of.values["view"] = np.arange(10) % 2
    of.classes["view"] = ["A4C", "PLAX"]
    p = table("condition", [(0.1, 0.2), (0.9, 0.8)], (0.5, 0.5))
    p |= table("view", [(0.3, 0.7), (0.4, 0.6)], (0.5, 0.5))
    write_label_doubts(tmp_path, of, [p], "gs://bucket/study/")
    tasks = json.loads((tmp_path / "label_studio.json").read_text())
    follows_the_configuration(tasks, ElementTree.fromstring((tmp_path / "label_studio.xml").read_text()))
    chosen = [
        {result["from_name"]: result["value"]["choices"] for result in task["predictions"][0]["result"]}
        for task in tasks
    ]
    assert chosen == [
        {"condition": ["no lesion"], "view": ["PLAX"]},
        {"condition": ["MR", "AR"]},
    ]
    assert [task["data"]["image"] for task in tasks] == [
        f"gs://bucket/study/sub/g{number}.png" for number in (8, 9)
    ]


def test_addresses_of_images():
    assert image_address("demo", "sub/a.png") == "/data/local-files/?d=sub/a.png"
    assert image_address("gs://bucket", "sub/a b.png") == "gs://bucket/sub/a b.png"
