"""A simulated shortcut: each site crops the frames of its ill children in a way of its own."""

from dataclasses import replace

import numpy as np
import pytest
from results import metrics, results, task_result
from simulated import FAST
from untrained_run import make_dataset

from simclr_rhd.data.attributes.division import FramesToSplit, site_folds
from simclr_rhd.data.attributes.header import header_features
from simclr_rhd.data.labelled_set import LabelledSet, build_labelled_set
from simclr_rhd.data.splits.split import group_k_fold
from simclr_rhd.evaluation.checks.shortcuts import explaining_shortcuts
from simclr_rhd.evaluation.results import RunResults, SplitInfo, TaskResult
from simclr_rhd.evaluation.targets import evaluate
from simclr_rhd.heads.baselines import mask_features, pixel_features
from simclr_rhd.heads.cross_validation import CrossValidation, FeatureSet
from simclr_rhd.report.summary import summary
from simclr_rhd.ssl.encoder.model import FEATURE_DIM

SITES, PATIENTS, FRAMES, SIDE = 4, 12, 3, 24


class Study:
    """Frames of noise, in which a black strip, at another place in each site, is the only sign of a class."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        n = SITES * PATIENTS * FRAMES
        patient = np.arange(n) // FRAMES
        self.site, self.true = patient // PATIENTS, patient % 2
        self.groups = np.array([f"p{number:02d}" for number in patient])
        self.frames = rng.integers(60, 200, (n, 1, SIDE, SIDE)).astype(np.uint8)
        for row in np.flatnonzero(self.true):
            first = 6 * self.site[row]
            self.frames[row, :, :, first : first + 4] = 0

    def labelled_set(self, folding):
        return LabelledSet(
            paths=[f"{name}_{number}.png" for number, name in enumerate(self.groups)],
            videos=self.groups,
            patients=self.groups,
            groups=self.groups,
            values={"severity": self.true},
            classes={"severity": ["Normal", "Definite RHD"]},
            folds=group_k_fold(self.groups, [self.true], folding, seed=0),
        )

    def results(self, folding):
        """Of heads on random features of the mask, in place of an encoder."""
        rows = np.arange(len(self.true))
        cells = pixel_features(self.frames, rows)[:, :: 48 * 48 // 576]
        mask = mask_features(self.frames, rows)
        rng = np.random.default_rng(1)
        x = (mask @ rng.normal(size=(mask.shape[1], FEATURE_DIM)) / SIDE).astype(np.float32)
        labelled_set = self.labelled_set(folding)
        pictures = {"pixels": cells, "mask": mask}
        features = FeatureSet({"features": x}, [x] * len(labelled_set.folds), {}, pictures)
        cv = CrossValidation(labelled_set, features, replace(FAST, linear_epochs=40))
        trained = cv.fit_folds(features.per_fold)
        found = evaluate(cv.labelled_set, cv.predict_all(trained), seed=0)["severity"]
        split = SplitInfo("patient", False, len(cv.labelled_set.folds), {}, "once")
        task = TaskResult(found.classes, [], {"": found})
        audit = results(metrics()).audit
        return found, RunResults(synthetic=False, split=split, tasks={"severity": task}, audit=audit)


def test_the_mask_finds_a_shortcut_and_the_first_lines_say_so():
    found, run = Study().results(4)
    score = found.baseline_score("mask", "video")
    assert score.value > 0.95 and score.low > 0.85
    assert explaining_shortcuts(found) == ["mask"]
    first = " ".join(summary(run, save_dir="models").splitlines()[:3])
    assert first.startswith("A SHORTCUT MAY EXPLAIN THE SCORE of severity: the mask of black and not black")
    assert "NOT BETTER THAN A MASK" not in first  # not the same once more


def test_leaving_one_site_out_falls_to_chance():
    study = Study()
    found, run = study.results(study.site)
    score = found.test["video"]["balanced_accuracy"]
    assert score.low <= 0.5 <= score.high
    mask = found.baseline_score("mask", "video")
    assert mask.low <= 0.5 <= mask.high
    assert explaining_shortcuts(found) == [] and "SHORTCUT" not in summary(run, save_dir="models")


def test_the_folds_of_the_sites_are_those_of_the_command():
    study = Study()
    keys = [f"{number}.png" for number in range(len(study.true))]
    frames = FramesToSplit(keys, study.groups, np.ones(len(keys), bool), [study.true])
    names = np.array([f"site {number}" for number in study.site])
    assert (site_folds(frames, names, "--folds-by SITE") == study.site).all()


@pytest.mark.parametrize(
    ("low", "margin_low", "expected"),
    [(0.7, -0.1, ["mask"]), (0.7, 0.02, []), (0.45, -0.1, []), (None, -0.1, [])],
)
def test_a_shortcut_is_above_chance_and_not_beaten(low, margin_low, expected):
    found = metrics(severity=task_result(0.9, 0.5, low=0.8))
    task = found["tasks"]["severity"]
    task["baselines"]["mask"] = task_result(0.8, 0.5, low=low)["test"]["frame"] | {
        "video": task_result(0.8, 0.5, low=low)["test"]["video"],
        "patient": task_result(0.8, 0.5)["test"]["patient"],
    }
    task["margins"]["mask"] = {
        level: {"balanced_accuracy": 0.1, "ci95": [margin_low, 0.3]}
        for level in ("frame", "video", "patient")
    }
    assert explaining_shortcuts(results(found).targets["severity"]) == expected


def test_the_header_is_what_is_known_without_the_picture():
    dataset = make_dataset({"view": ["a", "b"]})
    site = np.array(["A", "B", ""])[np.arange(len(dataset.part)) % 3]
    sizes = dataset.store.sizes.copy()
    sizes[::5] = (800, 600)
    store = replace(dataset.store, sizes=sizes)
    rows = np.array([0, 1, 2, 5, 9])
    x = header_features(store, {"SITE": site}, rows)
    distinct = {tuple(row) for row in x.tolist()}
    assert len(distinct) == len({(site[row], row % 5 == 0) for row in rows}) and x.dtype == np.float32
    assert set(x.sum(axis=1)) == {4}  # site, type, size, colour
    assert len(np.unique(header_features(dataset.store, {}, rows), axis=0)) == 1


def test_a_class_that_the_size_of_the_picture_tells_is_found_by_the_header():
    dataset = make_dataset({"view": ["a", "b"]})
    sizes = dataset.store.sizes.copy()
    sizes[dataset.labels.values["view"] == 1] = (800, 600)
    labelled_set, rows = build_labelled_set(dataset, multilabel=False), dataset.labelled()
    x = header_features(replace(dataset.store, sizes=sizes), {}, rows)
    cv = CrossValidation(labelled_set, FeatureSet({"features": x}, [x], {}, {"header": x}), FAST)
    train, val, test = (labelled_set.rows(0, part) for part in ("train", "val", "test"))
    predicted = cv.predict_from_pictures("header", train, val)["view"].argmax(axis=1)
    assert len(test) and (predicted[test] == labelled_set.values["view"][test]).all()
