"""What stands beside the model must be honest, too: nothing of the test part decides about a score."""

from types import SimpleNamespace

import numpy as np
import pytest

from simclr_rhd import baselines, evaluation
from simclr_rhd.labels import TASKS

N, CLASSES = 240, ["a", "b"]


def dataset(frames, true, *, missing=()):
    """240 frames of 60 patients; every fourth patient is in the test part."""
    patient = np.arange(N) // 4
    part = np.where(patient % 4 == 0, "test", np.where(patient % 4 == 1, "val", "train"))
    rows = {name: np.flatnonzero(part == name) for name in ("train", "val", "test")}
    return SimpleNamespace(
        store=SimpleNamespace(frames=frames, keys=[f"f{number}.png" for number in range(N)]),
        labels=SimpleNamespace(
            classes=dict.fromkeys(TASKS, CLASSES),
            values=dict.fromkeys(TASKS, true),
            videos=[f"v{number // 2}" for number in range(N)],
        ),
        groups=np.array([f"p{number}" for number in patient]),
        part=part,
        split_by="patient",
        leaky=False,
        not_evaluable={task: [{"class": name, "reason": "few"} for name in missing] for task in TASKS},
        of_part=lambda name: {"frames": len(rows[name]), "groups": 15},
    )


@pytest.fixture
def study():
    """Frames whose brightness tells the class."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, N)
    frames = (rng.integers(0, 100, (N, 3, 16, 16)) + 60 * true[:, None, None, None]).astype(np.uint8)
    return frames, true


def evaluated(frames, true, **options):
    found = dataset(frames, true, **options)
    probabilities = {"view": np.eye(2)[true] * 0.8 + 0.1}
    return found, evaluation.evaluate(found, np.arange(N), probabilities, seed=0, synthetic=False)


def test_pixels_learn_from_the_training_part_alone(study):
    frames, true = study
    found, metrics = evaluated(frames, true)
    assert metrics["tasks"]["view"]["baselines"]["pixels"]["balanced_accuracy"] > 0.9
    test = found.part == "test"
    flipped = np.where(test, 1 - true, true)
    metrics = evaluated(frames, flipped)[1]
    assert metrics["tasks"]["view"]["baselines"]["pixels"]["balanced_accuracy"] < 0.1


def test_the_majority_is_that_of_the_training_part(study):
    frames, _ = study
    part = dataset(frames, np.zeros(N, int)).part
    true = np.where(part == "test", np.arange(N) % 6 == 0, np.arange(N) % 6 > 0).astype(int)
    majority = evaluated(frames, true)[1]["tasks"]["view"]["baselines"]["majority"]
    assert majority["accuracy"] < 0.3 and majority["balanced_accuracy"] == pytest.approx(0.5)


def test_the_majority_is_a_class_that_can_be_evaluated(study):
    """The commonest class of all, when it is in no test frame, would be right never and look beaten."""
    assert baselines.majority(np.array([0, 0, 1]), 2, 3).argmax(axis=1).tolist() == [0, 0]
    frames, true = study
    found = dataset(frames, true, missing=["a"])
    metrics = evaluation.evaluate(found, np.arange(N), {"view": np.eye(2)[true]}, seed=0, synthetic=False)
    majority = metrics["tasks"]["view"]["baselines"]["majority"]
    assert np.array(majority["confusion"])[:, 0].sum() == 0


def test_predictions_are_of_the_test_part_and_agree_with_the_probabilities(study):
    found, _ = evaluated(*study)
    header = evaluation.prediction_header(found)
    probabilities = {"view": np.tile([0.2, 0.8], (N, 1))}
    rows = list(evaluation.prediction_rows(found, np.arange(N), probabilities))
    assert {row[0] for row in rows} == {f"f{number}.png" for number in np.flatnonzero(found.part == "test")}
    for row in rows:
        named = dict(zip(header, row, strict=True))
        assert named["predicted"] == "b" and named["p:a"] == 0.2 and named["true"] in CLASSES


def test_a_task_without_predictions_says_why(study):
    _, metrics = evaluated(*study)
    assert "fewer than two classes" in metrics["tasks"]["severity"]["skipped"]
