"""The main job with folds and with all that an evaluation can be asked for, as a user runs it."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_simclr import small_networks

import main
from simclr_rhd.data.demo.dataset import write_demo
from simclr_rhd.runs import checkpoint

SMALL = "--image-size 32 --epochs 1 --linear-epochs 3 --batch-size 32 --head-seeds 2 --no-rehearsal".split()
SMALL += ["--precision", "float32"]
TASKS = ("view", "condition", "severity")


@pytest.fixture(scope="module", autouse=True)
def network():
    with small_networks():
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def run(cache, folder, *more):
    return main.main([*SMALL, "--cache-dir", str(cache), "--save-dir", str(folder), *more])


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def everything(cache, tmp_path_factory):
    """Three folds, with fine-tuning, a leak and label fractions."""
    folder = tmp_path_factory.mktemp("everything")
    flags = "--demo-patients 12 --folds 3 --finetune --finetune-epochs 1 --show-leak --label-fractions 0.5,1"
    flags += " --no-figures"
    assert run(cache, folder, *flags.split()) == 0
    return folder, json.loads((folder / "metrics.json").read_text())


def test_every_labelled_frame_is_tested_once_and_no_patient_in_two_folds(everything):
    folder, metrics = everything
    split = rows(folder / "split.csv")
    assert {row["part"] for row in split} == {"1", "2", "3", "unlabelled", "held-out"}
    for unit in ("patient", "video", "group"):
        sides = [{row[unit] for row in split if row["part"] == part} - {""} for part in "123"]
        sides.append({row[unit] for row in split if row["part"] == "unlabelled"} - {""})
        assert sum(map(len, sides)) == len(set.union(*sides)), "pretraining sees no labelled group either"
    predictions = rows(folder / "predictions.csv")
    assert len({row["path"] for row in predictions}) == len([row for row in split if row["part"] in "123"])
    assert all(row["fold"] in "123" for row in predictions)
    part = {row["path"]: row["part"] for row in split}
    assert all(part[row["path"]] == row["fold"] for row in predictions)
    assert set(metrics["split"]["parts"]) == {"1", "2", "3"} and metrics["split"]["folds"] == 3
    assert metrics["split"]["pretraining"].startswith(
        "once, on unlabelled frames of groups without any label"
    )


def test_all_that_was_asked_for_is_beside_the_scores(everything):
    folder, metrics = everything
    for task in TASKS:
        result = metrics["tasks"][task]
        assert [fold["fold"] for fold in result["folds"]] == [1, 2, 3]
        assert result["leak"]["leaky"] is True and result["leak"]["frame"]["accuracy"] is not None
        assert set(result["finetuned"]) == {"test", "margin", "epochs_kept"}
        assert len(result["finetuned"]["epochs_kept"]) == 3
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    tuned = [(row["way"], row["epoch"]) for row in history if row["phase"] == "finetune"]
    assert tuned == [(way, epoch) for way in (1, 2, 3, 4) for epoch in (0, 1)], "the kept one, then each fold"
    for task in TASKS:
        result = metrics["tasks"][task]
        assert [point["fraction"] for point in result["label_efficiency"]["simclr"]] == [0.5, 1.0]
        full = result["label_efficiency"]["simclr"][1]["balanced_accuracy"]
        assert full == pytest.approx(result["test"]["video"]["balanced_accuracy"]), (
            "all labels: the same heads"
        )
        assert len(result["head"]["temperature"]) == 3
        assert len(result["head"]["balanced_accuracy_of_seeds"]) == 2
    page = (folder / "report.html").read_text()
    for words in ("LEAKY: the same heads", ">fine-tuned<", "nearest neighbours", "Each fold alone"):
        assert words in page


def test_the_models_that_are_kept_load_safely_and_know_their_classes(everything):
    folder, metrics = everything
    for name in ("model.pt", "model_finetuned.pt"):
        saved = checkpoint.load(folder / name)
        assert saved["classes"]["view"] == metrics["tasks"]["view"]["classes"] and saved["multilabel"] == []
        assert saved["heads"]["temperature"].shape == (3,)
    one, other = (checkpoint.load(folder / name)["encoder"] for name in ("model.pt", "model_finetuned.pt"))
    assert set(one) == set(other)


def test_the_leak_audit_names_frames_of_two_groups(everything):
    found = rows(everything[0] / "leak_audit.csv")
    assert found and all(row["test_group"] != row["other_group"] for row in found)
    values = [float(row["value"]) for row in found if row["kind"] == "nearest in feature space"]
    assert values == sorted(values, reverse=True)


def test_an_encoder_for_each_fold_has_not_seen_its_test_groups(cache, tmp_path, capfd):
    flags = "--demo-patients 24 --folds 2 --pretrain-per-fold --no-figures --condition-mode multilabel"
    assert run(cache, tmp_path, *flags.split()) == 0
    weights = [
        checkpoint.load(path / "simclr_best.pt")["model"]["encoder.conv1.weight"]
        for path in (tmp_path, tmp_path / "fold-1", tmp_path / "fold-2")
    ]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["split"]["pretraining"].startswith("anew for each fold")
    condition = metrics["tasks"]["condition"]
    assert condition["mode"] == "multilabel" and "Aortic Valve Regurgitation" in condition["lesions"]
    assert not any("+" in lesion or lesion == "Not Applicable" for lesion in condition["lesions"])
    for result in condition["lesions"].values():
        assert result["classes"] == ["absent", "present"]
    saved = checkpoint.load(tmp_path / "model.pt")
    assert saved["multilabel"] == ["condition"] and saved["classes"]["condition"] == list(
        condition["lesions"]
    )
    printed = capfd.readouterr().out
    assert "fold 2/2: its own pretraining" in printed and "AR per video" in printed
    assert sorted(path.name for path in tmp_path.glob("fold-*")) == ["fold-1", "fold-2"]


@pytest.mark.slow
def test_pictures_of_folds_of_lesions_and_of_label_efficiency(cache, tmp_path):
    flags = "--demo-patients 24 --folds 3 --condition-mode multilabel --label-fractions 0.5,1"
    assert run(cache, tmp_path, *flags.split()) == 0
    names = {path.name for path in tmp_path.glob("*.png")}
    assert {"label_efficiency.png", "comparison_view.png", "reliability_severity.png"} <= names
    for name in names:
        Image.open(tmp_path / name).verify()
    assert "Label efficiency" in (tmp_path / "report.html").read_text()


def test_what_follows_pretraining_can_be_repeated_and_nothing_else(cache, tmp_path, capfd):
    first = ["--demo-patients", "12", "--no-figures", "--label-fractions", "0.5,1"]
    assert run(cache, tmp_path, *first) == 0
    weights = (tmp_path / "simclr_best.pt").read_bytes()
    assert run(cache, tmp_path, *first) == 0
    printed = capfd.readouterr().out
    assert "This run was finished" in printed, "a list of numbers is the same list again"
    assert json.loads((tmp_path / "run.json").read_text())["test_evaluations"] == 1
    assert "has been scored" not in printed
    other = ["--demo-patients", "12", "--no-figures", "--class-weights", "none", "--show-leak"]
    assert run(cache, tmp_path, *other) == 2
    assert "pass --evaluate-again to keep its pretraining" in capfd.readouterr().err
    (tmp_path / "model_finetuned.pt").write_bytes(b"of an evaluation with --finetune")
    (tmp_path / "screening_2.png").write_bytes(b"of a question that is no longer asked")
    assert run(cache, tmp_path, *other, "--evaluate-again") == 0
    assert not (tmp_path / "model_finetuned.pt").exists() and not list(tmp_path.glob("*.png"))
    printed = capfd.readouterr().out
    assert "resumed after epoch 1" in printed and "LEAKY, under a split over frames" in printed
    assert (tmp_path / "simclr_best.pt").read_bytes() == weights
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["signature"]["class_weights"] == "none" and record["wall_s"]["pretraining"] < 60
    assert record["test_evaluations"] == 2 and "test part has been scored 2 times" in printed
    assert "Scored 2 times in this folder" in (tmp_path / "checklist.md").read_text()
    assert run(cache, tmp_path, *other, "--evaluate-again", "--seed", "7") == 2
    refusal = capfd.readouterr().err
    assert "--seed was 42, is 7" in refusal and "keep its pretraining" not in refusal


def test_weights_of_unknown_past_are_told(everything, cache, tmp_path):
    start = str(everything[0] / "simclr_best.pt")
    more = ["--demo-patients", "12", "--no-figures", "--folds", "3", "--init", start]
    assert run(cache, tmp_path, *more) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["split"]["pretraining"].endswith("what those have seen is not known here")


def real_layout(root, *, thin):
    """15 videos, nine of no condition and six of one each; counts as in a real export / `thin`."""
    write_demo(root, patients=12)
    folder, table = root / "supervised" / "annotated-final", root / "supervised" / "sorted_file.csv"
    frames = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
    for path in folder.glob("*.png"):
        path.unlink()
    lesions = {
        "['Aortic Valve Regurgitation']": 136,
        "['Mitral Valve Prolapse']": 120,
        "['Mitral Valve Regurgitation']": 160,
        "['Pulmonary Valve Regurgitation']": 90,
        "['Tricuspid Valve Regurgitation']": 100,
        "['Pulmonary Valve Regurgitation', 'Aortic Valve Regurgitation']": 60,
    }
    videos = [*lesions.items(), *[("['Not Applicable']", 220)] * 9]
    views = ["Parasternal long axis (PLAX)", "Parasternal short axis(PSAX)", "Apical Four Chamber(A4C)"]
    lines = [["FILENAME", "VIEW-APP", "CONDITION", "SEVERITY"]]
    rng = np.random.default_rng(0)
    for number, (condition, count) in enumerate(videos):
        base = frames[number * 3].astype(int)
        for index in range(count // thin):
            name = f"10.33.{number:02d} hrs __[{number:07d}]_frame{index}.png"
            noisy = np.clip(base + rng.integers(-9, 10, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / name)
            severity = "Definite rhd" if number < 6 else "Normal"
            lines.append([name, views[number % 3], condition, severity])
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(lines)


@pytest.mark.parametrize("folds", [1, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("thin", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_six_conditions_in_one_video_each_get_no_figure_and_are_named(tmp_path, folds, thin, capfd):
    real_layout(tmp_path / "data", thin=thin)
    flags = ["--data", str(tmp_path / "data"), "--folds", str(folds), "--no-figures"]
    assert run(tmp_path / "cache", tmp_path / "models", *flags) == 0
    result = json.loads((tmp_path / "models" / "metrics.json").read_text())["tasks"]["condition"]
    lesions = {name for name in result["classes"] if name != "Not Applicable"}
    assert len(lesions) == 6
    assert {row["class"] for row in result["not_evaluable"]} == lesions
    for row in result["not_evaluable"]:
        assert "1 group(s)" in row["reason"] and "at least 2 groups are needed" in row["reason"]
    for level in ("frame", "video", "patient"):
        scores = result["test"][level]
        assert scores["accuracy"] is None and scores["balanced_accuracy"] is None
        assert all(scores["per_class"][name]["recall"] is None for name in lesions)
    printed = " ".join(capfd.readouterr().out.split())
    assert "this split cannot evaluate Aortic Valve Regurgitation" in printed
    assert "at least 2 groups are needed, 10 or more are better" in printed
    assert "no scores per frame" in printed
    assert all(result["groups"][name]["groups"] == 1 for name in lesions)


def test_folds_that_cannot_be_are_refused_in_words(cache, tmp_path, capfd):
    assert run(cache, tmp_path, "--demo-patients", "12", "--folds", "40") == 2
    assert "--folds 40 needs at least 40" in capfd.readouterr().err
    assert run(cache, tmp_path, "--pretrain-per-fold") == 2
    assert run(cache, tmp_path, *"--folds 3 --monitor knn --knn-every 1".split()) == 2
    assert run(cache, tmp_path, *"--label-fractions 0.5,1.5".split()) == 2
    assert run(cache, tmp_path, *"--head-l2 -1".split()) == 2
    errors = capfd.readouterr().err
    for words in (
        "--pretrain-per-fold: there are no folds",
        "--monitor knn: all labelled groups are tested",
        "--label-fractions (0.5, 1.5): wanted numbers above 0",
        "--head-l2 -1",
    ):
        assert words in errors
