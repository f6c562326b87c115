"""A model of one hospital on the frames of another: trained on the demo, evaluated on another demo."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from small_run import arguments, run_small
from small_simclr import small_networks

import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "models"
    assert run_small(arguments(cache, folder, "--no-rehearsal", "--no-figures")) == 0
    return folder


def evaluate(trained, cache, out, *flags):
    words = ["--model", str(trained / "model.pt"), "--cache-dir", str(cache), "--save-dir", str(out)]
    with small_networks():
        return main.main(["evaluate", *words, "--data", "demo", "--demo-patients", "24", *flags])


@pytest.fixture(scope="module")
def other(trained, cache, tmp_path_factory):
    """The folder of an evaluation on another hospital of the demo."""
    out = tmp_path_factory.mktemp("other") / "out"
    assert evaluate(trained, cache, out, "--demo-seed", "7") == 0
    return out


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_another_hospital_has_scores_intervals_and_both_calibrations(other):
    metrics = json.loads((other / "metrics.json").read_text())
    assert metrics["external"]["overlap"]["known_frames"] == 0
    assert metrics["external"]["overlap"]["frames_compared"] == 216
    for task in ("view", "severity"):
        result, details = metrics["tasks"][task], metrics["external"]["targets"][task]
        for level in ("frame", "video"):
            scores = result["test"][level]
            low, high = scores["ci95"]["balanced_accuracy"]
            assert low <= scores["balanced_accuracy"] <= high and scores["groups"] == 18
        assert set(result["baselines"]) == {"majority"} and "frame" in details["recalibrated"]
        assert details["scaling"]["temperature"] > 0
        assert result["calibration"]["before"] != result["calibration"]["after"]
    assert metrics["external"]["own_test"]["view"]["video"] is not None


def test_every_promised_file_is_there(other, trained):
    report = (other / "report.html").read_text()
    for text in ("SYNTHETIC demo data", "recalibrated on other groups", "in the test part of its own run"):
        assert text in report
    assert {"confusion_matrix_view.png", "rejected.csv", "conflicts.csv"} <= {p.name for p in other.iterdir()}
    table = rows(other / "predictions.csv")
    assert len(table) == 3 * 216 and list(table[0])[:6] == "path video group task true predicted".split()
    card, before = ((folder / "model_card.md").read_text() for folder in (other, trained))
    assert "## External evaluation" in card and "External evaluation" not in before
    assert "It has not been tested on patients of another hospital" in before
    assert "It has not been tested on patients of another hospital" not in card
    front_matters = [yaml.safe_load(text.split("---\n")[1]) for text in (before, card)]
    home, both = (of["model-index"][0]["results"] for of in front_matters)
    assert both[: len(home)] == home and len(both) == 2 * len(home)
    assert [both[n]["dataset"]["split"] for n in (0, -1)] == [
        "test part, split by patient",
        "all labelled frames",
    ]
    record = json.loads((other / "run.json").read_text())
    assert record["status"] == "finished" and record["command"] == "evaluate"


def test_the_frames_of_the_training_are_refused_or_left_out(trained, cache, tmp_path, capsys):
    assert evaluate(trained, cache, tmp_path / "same") == 2
    message = capsys.readouterr().err
    assert "the model has learnt from" in message and "_frame0003.png" in message
    assert "synthetic-p" not in message and "Traceback" not in message
    assert not (tmp_path / "same" / "metrics.json").exists()
    assert evaluate(trained, cache, tmp_path / "left", "--exclude-known", "--no-figures") == 0
    metrics = json.loads((tmp_path / "left" / "metrics.json").read_text())
    of_run = json.loads((trained / "metrics.json").read_text())
    overlap, test = metrics["external"]["overlap"], of_run["split"]["parts"]["test"]
    assert overlap["left_out"] == overlap["frames"] - test["frames"] and overlap["tested_frames"] > 0
    here, there = (of["tasks"]["view"]["test"]["video"]["brier"] for of in (metrics, of_run))
    assert here == pytest.approx(there, abs=1e-9)


def test_evaluations_are_counted_and_another_one_is_not_replaced(other, trained, cache, tmp_path, capsys):
    flags = "--demo-seed", "7", "--no-figures"
    assert evaluate(trained, cache, tmp_path / "again", *flags) == 0
    metrics = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert metrics["external"]["evaluations"] == 2
    assert "2 times" in "".join(capsys.readouterr())
    before = Path(tmp_path / "again" / "metrics.json").read_bytes()
    assert evaluate(trained, cache, tmp_path / "again", "--demo-seed", "8") == 2
    assert "holds an evaluation on other data" in capsys.readouterr().err
    assert Path(tmp_path / "again" / "metrics.json").read_bytes() == before
