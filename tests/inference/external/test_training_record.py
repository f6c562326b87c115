from dataclasses import replace

import numpy as np
import pytest
import torch
from simulated import make_labelled_set

from simclr_rhd.data.decoding.decode import NEAR_BLACK, OK
from simclr_rhd.inference.external.training_record import (
    TrainingFrames,
    TrainingRecord,
    derive_salt,
    record_training,
)

SALT, SECRET = derive_salt("weights", "data"), b"secret"
PARTS = ["train", "val", "test", "unlabelled", "held-out", "held-out", "train"]
PATIENTS = ["Ann B", "Bea", "Cleo", "", "Dora", "Eve", "dicom-1"]


def make_record(salt=SALT):
    frames = TrainingFrames(
        digests=np.arange(7, dtype=np.uint64),
        content_flags=np.array([OK] * 6 + [NEAR_BLACK], dtype=np.uint8),
        patients=PATIENTS,
        part=np.array(PARTS),
        held_out=np.arange(7) == 5,
    )
    labelled_set = make_labelled_set(patients=10, frames=2)
    return record_training(
        frames, labelled_set, labelled_set.folds[0], salt=salt, secret=SECRET
    ), labelled_set


def test_what_was_learnt_from_or_chosen_on_is_known():
    record, _ = make_record()
    digests = np.arange(9, dtype=np.uint64)
    assert record.knows_frames(digests).tolist() == [True, True, False, True, False, True, *[False] * 3]
    assert record.has_tested(digests).tolist() == [False, False, True, *[False] * 6]
    names = ["ann  b", "ANN B", "Bea", "Cleo", "Dora", "Eve", "Fay", "dicom-1"]
    assert record.knows_patients(names).tolist() == [True, True, True, False, False, True, False, True]


def test_the_classes_of_the_training_part_are_counted():
    record, labelled_set = make_record()
    (target,) = labelled_set.targets()
    train = labelled_set.folds[0] == "train"
    expected = {name: int((target.true[train] == n).sum()) for n, name in enumerate(target.classes)}
    assert record.class_frames == {"view": expected} and sum(expected.values()) == train.sum()


def test_two_models_have_no_hash_in_common_and_none_is_an_identifier():
    record, other = make_record()[0], make_record(derive_salt("others", "data"))[0]
    assert not record.frames & other.frames and not record.patients & other.patients
    saved = record.to_saved()
    everything = b"".join(saved[name].numpy().tobytes() for name in ("frames", "patients", "tested", "cache"))
    assert not any(name.encode() in everything for name in PATIENTS if name) and SECRET not in everything


def test_the_secret_of_the_cache_is_recognised():
    record, _ = make_record()
    assert record.shares_secret(SECRET) and not record.shares_secret(b"other")
    assert not replace(record, cache=b"").shares_secret(SECRET)


def test_a_record_comes_back_as_it_was_and_in_an_order_that_says_nothing():
    record, _ = make_record()
    saved = record.to_saved()
    assert TrainingRecord.from_saved(saved) == record
    assert saved["frames"].dtype == torch.uint8 and saved["frames"].shape == (4, 16)
    rows = [row.tobytes() for row in saved["frames"].numpy()]
    assert rows == sorted(rows)


@pytest.mark.parametrize(
    "change",
    [
        {"frames": torch.zeros(3, 8, dtype=torch.uint8)},
        {"patients": torch.zeros(3, 16)},
        {"salt": torch.zeros(2, 32, dtype=torch.uint8)},
        {"class_frames": {"view": {"a": -1}}},
        {"class_frames": ["view"]},
        {"tested": "x"},
    ],
)
def test_a_damaged_record_is_refused(change):
    saved = make_record()[0].to_saved()
    with pytest.raises((ValueError, TypeError, AttributeError)):
        TrainingRecord.from_saved(saved | change)
