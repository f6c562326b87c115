from types import SimpleNamespace

import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.records import JsonObject
from simclr_rhd.inference.external.config import ExternalConfig
from simclr_rhd.inference.external.earlier_evaluations import (
    FOLDER,
    note_evaluation,
    now,
    past_evaluations,
    refuse_other,
)


def test_evaluations_are_counted_by_model_and_data_in_the_cache_and_in_the_output(tmp_path):
    assert past_evaluations(tmp_path, "model", "data", None) == []
    first, second = now(), now()
    assert first < second
    note_evaluation(tmp_path, "model", "data", [first])
    fields = {"model": {"sha256": "model"}, "data": {"pictures": "data"}, "evaluated": [first, second]}
    record = JsonObject(fields, "run.json")
    assert past_evaluations(tmp_path, "model", "data", record) == [first, second]
    assert past_evaluations(tmp_path, "model", "data", None) == [first]
    assert past_evaluations(tmp_path, "other", "data", record) == []  # --overwrite replaces it
    for damaged in ({"model": 3}, {"data": {}}, {"data": {"pictures": "others"}}):
        assert past_evaluations(tmp_path, "model", "data", JsonObject(fields | damaged, "run.json")) == [
            first
        ]
    assert past_evaluations(tmp_path, "model", "other", None) == []


def test_a_damaged_count_is_begun_anew(tmp_path):
    note_evaluation(tmp_path, "model", "data", ["2026-01-01"])
    (path,) = (tmp_path / FOLDER).iterdir()
    path.write_text('{"evaluated": 5}')
    assert past_evaluations(tmp_path, "model", "data", None) == []


RECORD = {
    "model": {"sha256": "model"},
    "data": {"fingerprint": "data"},
    "config": {"tasks": "view=VIEW-APP,severity"},
}


def refuse(record, tasks="severity=SEVERITY,view", **flags):
    """Return True if an evaluation of this model, data set and tasks may replace that of a record."""
    config = ExternalConfig(save_dir="out", tasks=tasks, **flags)
    model, data = SimpleNamespace(sha256="model"), SimpleNamespace(fingerprint="data")
    refuse_other(config, JsonObject(record, "run.json"), model, data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"sha256": "other"}}, "of another model"),
        ({"data": {}}, "on other data"),
        ({"config": {"tasks": "severity"}}, r"with other --tasks \(severity\);"),
        ({"config": {"tasks": "==="}}, r"with other --tasks \(===\);"),
        ({"config": None}, "with other --tasks;"),
    ],
    ids=str,
)
def test_another_evaluation_is_replaced_only_on_demand(change, words):
    refuse(RECORD)
    with pytest.raises(UserError, match=f"--save-dir out holds an evaluation {words}"):
        refuse(RECORD | change)
    refuse(RECORD | change, overwrite=True)
