import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_simclr import small_networks
from untrained_run import evaluate_run, make_dataset

from simclr_rhd.inference import classifier
from simclr_rhd.inference.external.external_set import wide_table
from simclr_rhd.inference.external.labelled_data import ExternalData
from simclr_rhd.inference.external.predictions import external_header, external_rows
from simclr_rhd.inference.external.scoring import (
    NO_SHARED_LABEL,
    NOT_IN_MODEL,
    classify_frames,
    count_foreign,
    score_external,
)
from simclr_rhd.runs.test_evaluations import digest_test_part

CLASSES = {"view": ["A4C", "PLAX", "PSAX"], "condition": ["MR", "AR", "AR + MR", "Not Applicable"]}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset():
    return make_dataset(CLASSES, patients=36)


@pytest.fixture(scope="module", params=["classes", "multilabel"])
def run(request, dataset, tmp_path_factory):
    """A finished run: its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        evaluate_run(dataset, folder, patch, "--condition-mode", request.param, "--no-figures")
    return folder


def external_data(dataset, rows):
    part = dataset.subset(rows)
    n = np.arange(len(rows))
    return ExternalData(part.store, part.labels, part.groups, part.split_by, n, part.fingerprint)


def scored(folder, data, seed=42, **changes):
    """A model's scores on data, by the file that a run wrote."""
    with small_networks():
        model = classifier.load(folder / "model.pt")
        for name, value in changes.items():
            setattr(model, name, value)
        outputs = classify_frames(model, data.store.frames, data.rows, CPU)
    labelled_set = data.labelled_set(multilabel=bool(model.heads.multilabel))
    return score_external(model, labelled_set, outputs.table, seed=seed), outputs


def figures(value, path=()):
    """{place: number} of all numbers in a JSON value."""
    if isinstance(value, dict):
        return {k: v for name, of in value.items() for k, v in figures(of, (*path, name)).items()}
    if isinstance(value, list):
        return {k: v for name, of in enumerate(value) for k, v in figures(of, (*path, name)).items()}
    return {path: value}


def test_the_test_part_of_a_run_scores_as_in_the_run(run, dataset):
    metrics = json.loads((run / "metrics.json").read_text())["tasks"]
    scores, _ = scored(run, external_data(dataset, dataset.rows("test")))
    assert {task: "skipped" in of for task, of in metrics.items()} == {
        task: of.skipped is not None for task, of in scores.tasks.items()
    }
    compared = 0
    for task, result in scores.tasks.items():
        of_run = metrics[task].get("lesions", {"": metrics[task]})
        for name, target in result.targets.items():
            here = json.loads(json.dumps(target.to_json()))
            for key in ("test", "selective"):
                expected, found = figures(of_run[name][key]), figures(here[key])
                assert expected.keys() == found.keys()
                for place, value in expected.items():
                    assert found[place] == (
                        pytest.approx(value, abs=1e-9) if type(value) is float else value
                    ), (name, key, place)
                    compared += type(value) is float
            majority = here["baselines"]["majority"]["balanced_accuracy"]
            assert majority == pytest.approx(of_run[name]["baselines"]["majority"]["balanced_accuracy"])
    assert compared > 300


def test_pictures_are_the_same_whatever_their_labels_and_their_order(dataset):
    rows = dataset.rows("test")
    data = external_data(dataset, rows)
    relabelled = replace(data, fingerprint="of another table", rows=data.rows[::-1])
    assert data.pictures() == relabelled.pictures() == digest_test_part(dataset)
    assert data.pictures() != replace(data, rows=data.rows[1:]).pictures()


def test_a_task_that_one_side_lacks_is_named(run, dataset):
    data = external_data(dataset, dataset.rows("test"))
    labels = replace(data.labels, values=data.labels.values | {"view": np.full(len(data.rows), -1)})
    scores, _ = scored(run, replace(data, labels=labels))
    assert scores.tasks["view"].skipped == NO_SHARED_LABEL
    assert scores.tasks["severity"].skipped == NOT_IN_MODEL
    assert scores.tasks["condition"].targets


def test_frames_of_a_class_that_the_model_does_not_know_are_wrong_in_the_second_figure(run, dataset):
    rows = dataset.rows("test")
    data = external_data(dataset, rows)
    known, _ = scored(run, data)
    values = data.labels.values["view"].copy()
    renamed = np.flatnonzero(values == 2)
    labels = replace(data.labels, classes=data.labels.classes | {"view": ["a4c", "PLAX", "Sideways"]})
    scores, outputs = scored(run, replace(data, labels=labels))
    comparison, result = scores.mapped["view"].comparison, scores.tasks["view"].targets[""]
    assert comparison.shared == ["A4C", "PLAX"] and comparison.only_in_model == ["PSAX"]
    assert comparison.unknown == {
        "Sideways": {"frames": len(renamed), "groups": len(set(data.groups[renamed]))}
    }
    assert result.missing_classes == ["PSAX"]
    wide = scores.details["view"].unknown_as_wrong["frame"]
    right = np.array(known.tasks["view"].targets[""].test["frame"].confusion).diagonal()[:2].sum()
    assert wide.n == len(rows) and wide["accuracy"].value == pytest.approx(right / len(rows))
    assert wide.per_class["Sideways"]["recall"].value == 0
    assert result.test["frame"].n == len(rows) - len(renamed)
    padded = wide_table(outputs.table, scores.labelled_set, scores.wide)
    header = external_header(scores.labelled_set)
    table = [
        dict(zip(header, row, strict=True))
        for row in external_rows(scores.labelled_set, scores.wide, outputs.table, padded)
    ]
    truths = [row["true"] for row in table if row["task"] == "view"]
    assert truths.count("Sideways") == len(renamed) and "p:Sideways" not in header and "p:PSAX" in header
    counted = count_foreign(outputs.novelty, data.plain(), scores.wide)
    assert counted.per_class["view"]["Sideways"]["frames"] == len(renamed) and counted.frames == len(rows)


def test_a_class_without_training_frames_does_not_count(run, dataset):
    data = external_data(dataset, dataset.rows("test"))
    with small_networks():
        record = classifier.load(run / "model.pt").record
    counts = record.class_frames | {"view": {"A4C": 9, "PLAX": 30, "PSAX": 0}}
    scores, _ = scored(run, data, record=replace(record, class_frames=counts))
    result = scores.tasks["view"].targets[""]
    assert result.missing_classes == ["PSAX"] and "learnt from no frame" in result.not_evaluable[0]["reason"]
    majority = result.baselines["majority"]["frame"]
    assert majority.per_class["PLAX"]["recall"].value == 1 and majority.per_class["A4C"]["recall"].value == 0
    assert scores.details["view"].unknown_as_wrong["frame"].n == len(data.rows)


def test_a_model_of_an_older_version_has_its_majority_from_the_validation_groups(run, dataset):
    scores, _ = scored(run, external_data(dataset, dataset.rows("test")), record=None)
    assert scores.majority_of == "validation groups"
    assert scores.tasks["view"].targets[""].test["frame"]["accuracy"].value is not None
