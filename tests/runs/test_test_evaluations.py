import json
from types import SimpleNamespace

import numpy as np
import pytest

from simclr_rhd.runs.test_evaluations import PastEvaluations, digest_test_part

SIGNATURE = {"seed": 42, "folds": 1}


def leave(folder, status, *, n=1, signature=SIGNATURE, scored=True):
    record = {"status": status, "signature": signature, "test_part": "abc", "test_evaluations": n}
    (folder / "run.json").write_text(json.dumps(record))
    if scored:
        (folder / "metrics.json").touch()


def count(folder, *, signature=SIGNATURE, again=False, test_part="abc"):
    return PastEvaluations.from_folder(folder, signature, evaluate_again=again).count(test_part)


def test_a_first_run_is_the_first_to_score_its_test_part(tmp_path):
    assert count(tmp_path) == 1
    (tmp_path / "run.json").write_text("{half")
    assert count(tmp_path) == 1


@pytest.mark.parametrize(
    ("status", "signature", "again", "expected"),
    [
        ("finished", SIGNATURE, True, 4),  # --evaluate-again, on the same flags or on others
        ("finished", {"seed": 42, "linear_epochs": 9}, True, 4),
        ("finished", {"seed": 42, "epochs": 9}, False, 4),  # --overwrite with other settings
        ("finished", SIGNATURE, False, 3),  # figures are added to a finished run
        ("unfinished", SIGNATURE, False, 3),  # a run is continued
        ("unfinished", SIGNATURE, True, 3),  # a repetition that was interrupted is continued
    ],
)
def test_each_look_at_a_test_part_is_counted_once(tmp_path, status, signature, again, expected):
    leave(tmp_path, status, n=3)
    assert count(tmp_path, signature=signature, again=again) == expected


def test_a_run_that_stopped_before_it_scored_anything_does_not_count(tmp_path):
    leave(tmp_path, "unfinished", scored=False)
    assert count(tmp_path, signature={"seed": 7}) == 1


def test_another_test_part_is_counted_anew(tmp_path):
    leave(tmp_path, "finished", n=5)
    assert count(tmp_path, signature={"seed": 7}, test_part="other") == 1


def test_a_test_part_is_known_by_its_pictures_and_not_by_their_order():
    digests = np.array([7, 5, 3, 1], dtype=np.uint64)

    def digest(parts, order=slice(None)):
        store = SimpleNamespace(digests=digests[order])
        folds = [SimpleNamespace(part=np.array(part)[order]) for part in parts]
        return digest_test_part(SimpleNamespace(store=store, folds=folds))

    single = digest([["test", "train", "test", "unlabelled"]])
    assert single == digest([["test", "train", "test", "unlabelled"]], slice(None, None, -1))
    assert single == digest([["test", "train", "val", "x"], ["val", "train", "test", "x"]])  # two folds
    assert single != digest([["test", "test", "train", "unlabelled"]])
