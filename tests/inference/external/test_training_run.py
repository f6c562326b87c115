import json

import pytest
from results import metrics, task_result

from simclr_rhd.inference.external.training_run import own_test_evaluations, own_test_scores


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(view=task_result(0.8, 0.6))))
    (tmp_path / "run.json").write_text(json.dumps({"data": {"fingerprint": "f"}}))
    return tmp_path


def test_the_scores_of_the_models_own_run_are_found_beside_it(folder):
    assert own_test_scores(folder / "model.pt", "f")["view"] == {"patient": None, "video": 0.8, "frame": 0.8}
    assert own_test_scores(folder / "model_finetuned.pt", "f") == {"view": {}}


def test_a_run_on_other_data_or_a_damaged_one_is_not_the_models_own(folder):
    assert own_test_scores(folder / "model.pt", "g") == {}
    assert own_test_scores(folder / "elsewhere" / "model.pt", "f") == {}
    (folder / "metrics.json").write_text('{"tasks": 5}')
    assert own_test_scores(folder / "model.pt", "f") == {}


def test_tests_of_the_models_own_run_are_counted_where_the_pictures_are_its_test_part(folder):
    assert own_test_evaluations(folder / "model.pt", "abc") == 0
    record = {"status": "finished", "test_part": "abc", "test_evaluations": 3}
    (folder / "run.json").write_text(json.dumps(record))
    assert own_test_evaluations(folder / "model.pt", "abc") == 3
    assert own_test_evaluations(folder / "model.pt", "abd") == 0
