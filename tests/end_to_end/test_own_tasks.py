"""Tasks of the user's own, from the flag to the report."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score
from small_simclr import small_networks
from untrained_run import evaluate_run, make_dataset

from simclr_rhd.data.labels.tasks.flag import parse_tasks
from simclr_rhd.inference import classifier
from simclr_rhd.runs.outputs import list_outputs

ROOT = Path(__file__).resolve().parents[2]
TASKS = "view,severity,grade=GRADE=low<middle<high,signs=SIGNS=[]"
CLASSES = {
    "view": ["Apical Four Chamber (A4C)", "Apical Four Chamber (A4C Colour)"],
    "severity": ["Normal", "Stage A", "Stage B"],
    "grade": ["low", "middle", "high"],
    "signs": ["Healthy", "Flail Leaflet", "Chordal Thickening + Flail Leaflet"],
}
KINDS = ("confusion_matrix", "comparison", "reliability", "tsne", "umap")


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The end of a run on four tasks, of which none is the condition."""
    save_dir = tmp_path_factory.mktemp("own") / "models"
    dataset = make_dataset(CLASSES, patients=36, frames=2, tasks=parse_tasks(TASKS))
    with pytest.MonkeyPatch.context() as patch:
        flags = ("--tasks", TASKS, "--condition-mode", "multilabel", "--no-figures")
        assert evaluate_run(dataset, save_dir, patch, *flags) == 0
    return save_dir


def test_every_table_has_the_tasks_of_the_run_and_no_others(folder):
    metrics = json.loads((folder / "metrics.json").read_text())["tasks"]
    assert list(metrics) == list(CLASSES)
    assert {row["task"] for row in rows(folder / "predictions.csv")} == set(CLASSES)
    assert list(metrics["signs"]["lesions"]) == ["Flail Leaflet", "Chordal Thickening"]
    phases = {json.loads(line)["phase"] for line in (folder / "history.jsonl").read_text().splitlines()}
    assert phases == {"simclr", *CLASSES}
    counts = json.loads((folder / "run.json").read_text())["counts"]["classes"]
    assert list(counts) == list(CLASSES)


def test_stages_and_the_users_degrees_have_an_ordinal_kappa_and_views_none(folder):
    metrics = json.loads((folder / "metrics.json").read_text())["tasks"]
    kappa = {
        task: metrics[task]["test"]["frame"]["quadratic_kappa"] for task in ("view", "severity", "grade")
    }
    assert kappa["view"] is None
    answers = rows(folder / "predictions.csv")
    for task, classes in {name: CLASSES[name] for name in ("severity", "grade")}.items():
        true, predicted = (
            [classes.index(row[column]) for row in answers if row["task"] == task]
            for column in ("true", "predicted")
        )
        assert kappa[task] == pytest.approx(cohen_kappa_score(true, predicted, weights="quadratic"))


def test_report_and_card_show_all_tasks_and_what_a_frame_alone_cannot_tell(folder):
    report, card = (folder / "report.html").read_text(), (folder / "model_card.md").read_text()
    assert "<h1>Heart ultrasound: view, severity, grade, signs</h1>" in report
    for task in CLASSES:
        assert f'id="{task}"' in report
    assert "frozen features: view, severity, grade, signs." in card
    for text in (report, card):
        assert "everity: stages (WHF 2023) depend on age and weight" in text
        assert "rade: stages" not in text


def test_a_model_has_its_tasks_and_is_read_again(folder):
    with small_networks():
        found = classifier.load(folder / "model.pt")
    assert list(found.facts.classes) == list(CLASSES)
    assert found.facts.classes["grade"] == CLASSES["grade"]
    assert found.heads.multilabel == {"signs"}
    assert parse_tasks(str(found.facts.trained_on["tasks"])) == parse_tasks(TASKS)


@pytest.mark.slow
def test_thickness_is_a_fourth_task_on_the_demo(tmp_path):
    words = "--data demo --demo-patients 24 --epochs 1 --linear-epochs 20 --batch-size 32 --image-size 32"
    tasks = "view=VIEW-APP,condition=CONDITION,severity=SEVERITY,thickness=THICKNESS"
    words += " --save-dir models --cache-dir cache --no-rehearsal"
    command = [sys.executable, str(ROOT / "main.py"), *words.split(), "--tasks", tasks]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "models" / "metrics.json").read_text())["tasks"]
    assert list(metrics) == ["view", "condition", "severity", "thickness"]
    assert metrics["thickness"]["classes"] == ["Not Applicable", "Not Thick", "Thick"]
    scores = metrics["thickness"]["test"]["video"]
    assert scores["quadratic_kappa"] is not None and scores["balanced_accuracy"] > 0.4, "chance is 0.33"
    pictures = {f"{kind}_thickness.png" for kind in KINDS} | {"classifier_thickness_loss.png"}
    assert pictures <= set(list_outputs(tmp_path / "models"))
