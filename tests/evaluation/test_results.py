"""`metrics.json` is the typed results, and back."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from results import metrics, scores, task_result
from simulated import make_cross_validation, make_features, make_labelled_set

from simclr_rhd.core.errors import UserError
from simclr_rhd.evaluation import run_metrics
from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.evaluation.scores.records import Score, Scores, mean_scores
from simclr_rhd.evaluation.target_details import EfficiencyPoint, SelectiveLevel, SelectiveResult
from simclr_rhd.evaluation.targets import evaluate


def test_real_results_are_read_back_as_they_were_written():
    labelled_set = make_labelled_set(patients=12, folds=3)
    cv = make_cross_validation(labelled_set, make_features(labelled_set.groups), linear_epochs=2)
    predictions = cv.predict_all(cv.fit_folds(cv.features.per_fold))
    (result,) = evaluate(labelled_set, predictions, seed=0).values()
    written = json.dumps(result.to_json())
    assert json.dumps(type(result).from_json(json.loads(written)).to_json()) == written


def test_tasks_that_are_skipped_or_have_lesions_are_flattened_and_nested_again():
    lesions = {name: task_result(0.9, 0.8, classes=("absent", "present")) for name in ("MR", "AR")}
    found = metrics(
        view=task_result(0.9, 0.8, low=0.7) | {"leak": {"leaky": True, "frame": scores(0.97, "ab")}},
        condition={"mode": "multilabel", "classes": ["MR", "AR"], "not_evaluable": [], "lesions": lesions},
        severity={"classes": ["a"], "not_evaluable": [], "skipped": "one class"},
    )
    results = RunResults.from_json(found)
    assert list(results.targets) == ["view", "condition: MR", "condition: AR"]
    assert results.skipped == {"severity": "one class"}
    assert results.targets["view"].leak["accuracy"].value == 0.97
    again = results.to_json()
    assert list(again["tasks"]["condition"]["lesions"]) == ["MR", "AR"]
    assert again["tasks"]["severity"] == found["tasks"]["severity"]
    assert again["tasks"]["view"]["leak"]["leaky"] is True
    assert RunResults.from_json(again) == results


REQUIRED = re.compile(
    r"synthetic|split|split (by|leaky|folds)|tasks|tasks view (classes|not_evaluable|test|baselines)|"
    r"tasks view (test (frame|video)|baselines \w+ video|not_evaluable 0 class)"
)
OF_ANY_TYPE = re.compile(r"audit closest 0 .*|.* calibration \w+ classes .*|.* validation .*|.* leak leaky")


@pytest.fixture(scope="module")
def whole():
    """A `metrics.json` with all that a run may write."""
    labelled_set = make_labelled_set(patients=12, folds=3)
    study = make_cross_validation(labelled_set, make_features(labelled_set.groups), linear_epochs=2)
    trained = study.fit_folds(study.features.per_fold)
    predictions = study.predict_all(trained)
    predictions = {name: predictions[name] for name in ("simclr", "uncalibrated", "pixels")}
    predictions["finetuned"] = predictions["simclr"]
    (result,) = evaluate(labelled_set, predictions, seed=0).values()
    (head,) = run_metrics.describe_heads(labelled_set, trained, study.features.per_fold).values()
    level = SelectiveLevel([0.5], [""], {"coverage": [1.0], "risk": [0.1]}, 1.0, 0.1)
    details = {"head": head, "selective": SelectiveResult(0.1, 0.95, level, level)}
    details |= {"leak": result.test["frame"], "not_evaluable": [{"class": "z", "reason": "of one group"}]}
    details["label_efficiency"] = {"simclr": [EfficiencyPoint(0.5, 6.0, 0.7, 0.6, 0.8)]}
    record = json.loads(json.dumps(replace(result, **details).to_json()))
    record["val"] = record["finetuned"]["test"] = record["leak"]["frame"] = {}  # of many keys, as "test" has
    return metrics() | {"tasks": {"view": record}}


def paths(value, *above):
    """Places of all keys of a JSON value, in lists those of the first item."""
    if isinstance(value, list):
        for item in value[:1]:
            yield from paths(item, *above, 0)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield *above, name
            yield from paths(item, *above, name)


def changed(value, path, change):
    """A copy of a JSON value after a change of the object that holds a path's last key."""
    copy = json.loads(json.dumps(value))
    at = copy
    for name in path[:-1]:
        at = at[name]
    change(at, path[-1])
    return copy


def test_each_key_may_be_missing_in_an_older_run_but_those_that_compare_needs(whole):
    refused = set()
    for path in paths(whole):
        try:
            RunResults.from_json(changed(whole, path, dict.pop))
        except UserError:
            refused.add(" ".join(map(str, path)))
    every = {" ".join(map(str, path)) for path in paths(whole)}
    added = ("comparisons", "head prevalence", "selective most_wrong", "calibration after classwise_ece")
    assert {"audit", *(f"tasks view {name}" for name in added)} < every
    assert refused == {path for path in every if REQUIRED.fullmatch(path)}


def test_a_value_of_another_type_is_refused(whole):
    for path in paths(whole):
        wrong = changed(whole, path, lambda at, name: at.update({name: math.inf}))
        if not OF_ANY_TYPE.fullmatch(" ".join(map(str, path))):
            with pytest.raises(UserError, match="metrics.json: .*found Infinity, wanted"):
                RunResults.from_json(wrong)


def test_the_mean_of_draws_is_none_where_one_has_none():
    one, other = (Scores.from_json(scores(value, "ab", low)) for value, low in ((0.5, 0.2), (0.7, 0.4)))
    mean = mean_scores([one, other])
    assert mean["accuracy"] == Score(np.mean([0.5, 0.7]), np.mean([0.2, 0.4]), 1.0) and mean.n == 40
    assert mean_scores([one, Scores.from_json(scores(None, "ab"))])["accuracy"] == Score()


def test_the_mean_of_draws_is_of_values_that_no_file_need_hold():
    """Infinity is no figure of a file: a fault of ours must not read as one of the user's."""
    one = Scores.from_json(scores(0.5, "ab", 0.2))
    averages = one.averages | {"brier": Score(np.inf)}
    one = replace(one, averages=averages, reasons={"b": "only here", "a": "both"})
    other = replace(one, reasons={"a": "in other words"}, confusion=[[2, 1], [1, 4]])
    mean = mean_scores([one, other])
    assert mean["brier"] == Score(np.inf) and mean["f1_macro"] == one["f1_macro"]
    assert mean.reasons == {"b": None, "a": "both"} and mean.confusion == [[1.5, 1], [1, 2.5]]
