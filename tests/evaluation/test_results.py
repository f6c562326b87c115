"""`metrics.json` is the typed results, and back."""

import json

import numpy as np
import pytest
from results import metrics, scores, task_result
from simulated import make_cross_validation, make_features, make_labelled_set

from simclr_rhd.core.errors import UserError
from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.evaluation.scores.records import Score, Scores, mean_scores
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


def test_a_missing_field_is_no_default():
    found = metrics(view=task_result(0.9, 0.8))
    del found["tasks"]["view"]["folds"]
    with pytest.raises(UserError, match="metrics.json: tasks: view: folds: found nothing, wanted a list"):
        RunResults.from_json(found)


def test_the_mean_of_draws_is_none_where_one_has_none():
    one, other = (Scores.from_json(scores(value, "ab", low)) for value, low in ((0.5, 0.2), (0.7, 0.4)))
    mean = mean_scores([one, other])
    assert mean["accuracy"] == Score(np.mean([0.5, 0.7]), np.mean([0.2, 0.4]), 1.0) and mean.n == 40
    assert mean_scores([one, Scores.from_json(scores(None, "ab"))])["accuracy"] == Score()
