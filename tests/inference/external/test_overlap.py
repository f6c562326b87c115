from dataclasses import replace

import numpy as np
import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.decoding.decode import CONSTANT, OK
from simclr_rhd.data.labels.pseudonyms import Pseudonyms
from simclr_rhd.inference.external.overlap import (
    ComparedFrames,
    find_overlap,
    overlap_sentences,
    refuse_known,
)
from simclr_rhd.inference.external.training_record import (
    CACHE,
    FRAME,
    PATIENT,
    TrainingRecord,
    hash_text,
    keyed_hash,
)

SALT = b"s" * 32


def hashed_frames(*digests):
    return frozenset(keyed_hash(SALT, FRAME, digest.to_bytes(8, "little")) for digest in digests)


RECORD = TrainingRecord(
    salt=SALT,
    frames=hashed_frames(1, 2, 6),
    patients=frozenset([hash_text(SALT, PATIENT, "p1"), hash_text(SALT, PATIENT, "dicom-9")]),
    tested=hashed_frames(4),
    cache=keyed_hash(SALT, CACHE, b"secret"),
    class_frames={},
)
FRAMES = ComparedFrames(
    digests=np.array([1, 3, 4, 5, 6], dtype=np.uint64),
    content_flags=np.array([OK, OK, OK, OK, CONSTANT], dtype=np.uint8),
    patients=["p0", "P1", "p2", "dicom-9", ""],
    secret=b"secret",
)


def test_known_frames_and_patients_are_found_and_plain_frames_are_not_compared():
    overlap, known = find_overlap(RECORD, FRAMES, ignore_patients=False)
    assert known.tolist() == [True, True, False, True, False]
    assert (overlap.known_frames, overlap.known_patients, overlap.tested_frames) == (1, 2, 1)
    assert (overlap.frames, overlap.frames_compared) == (5, 4)
    assert (overlap.patients, overlap.patients_compared, overlap.patients_not_compared) == (4, 4, "")


def test_patients_of_dicom_files_need_the_same_cache_folder():
    overlap, known = find_overlap(RECORD, replace(FRAMES, secret=b"other"), ignore_patients=False)
    assert known.tolist() == [True, True, False, False, False]
    assert overlap.patients_compared == 3 and "cache folder" in overlap.patients_not_compared
    assert any(line.startswith("WARNING 1 of 4 patients") for line in overlap_sentences(overlap))


def test_identifiers_of_another_hospital_can_be_ignored():
    overlap, known = find_overlap(RECORD, FRAMES, ignore_patients=True)
    assert known.tolist() == [True, *[False] * 4] and overlap.patients_compared == 0
    assert "--ignore-patient-ids" in overlap.patients_not_compared


def test_an_older_model_says_that_nothing_could_be_checked():
    overlap, known = find_overlap(None, FRAMES, ignore_patients=False)
    assert not known.any() and not overlap.recorded and overlap.frames_compared == 0
    (line,) = overlap_sentences(overlap)
    assert line.startswith("WARNING") and "could not be checked" in line


def test_known_frames_are_refused_by_the_names_of_files_without_patients():
    overlap, known = find_overlap(RECORD, FRAMES, ignore_patients=False)
    names = Pseudonyms(["a/case0-1.png", "P1-x.png", "c.png", "d.png", "e.png"], [*FRAMES.patients])
    with pytest.raises(UserError) as refused:
        refuse_known("/data/of/b", overlap, known, names, np.arange(5))
    text = str(refused.value)
    assert "1 of these 5 labelled frames, and from 2 of their patients" in text
    assert "case0-1.png" in text and "[patient 2]-x.png" in text and "P1-x" not in text
    assert "--exclude-known" in text and "--ignore-patient-ids" in text
    refuse_known("/data", overlap, np.zeros(5, dtype=bool), names, np.arange(5))
