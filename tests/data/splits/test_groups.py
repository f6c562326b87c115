import numpy as np
import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.splits.groups import explain_largest_group, is_anonymous_id, make_groups
from simclr_rhd.data.splits.split import group_k_fold, group_train_val_test_split


def test_groups_by_patient_join_videos_and_patients():
    videos = ["v1", "v1", "v2", "v3", "v4", "v4", "v5"]
    patients = ["p1", "", "p1", "", "p2", "p3", "p3"]
    groups, by = make_groups(videos, patients, "auto")
    assert by == "patient"
    assert groups[0] == groups[1] == groups[2], "v1 and v2 are of p1"
    assert groups[4] == groups[5] == groups[6], "p2 and p3 share v4"
    assert len(set(groups)) == 3


def test_a_frame_of_two_patients_joins_them():
    videos, patients = ["v1", "v2", "still"], ["p1", "p2", ""]
    groups, _ = make_groups(
        videos, patients, "patient", ambiguous_patients=[("still", "p1"), ("still", "p2")]
    )
    assert len(set(groups)) == 1


def test_a_patient_and_a_video_of_one_name_are_two_groups():
    groups, _ = make_groups(["a", "1"], ["1", ""], "auto")
    assert groups == ["patient 1", "video 1"]


@pytest.mark.parametrize("by", ["patient", "video"])
def test_videos_that_share_a_picture_are_one_group(by):
    videos, patients = ["v1", "v2", "v3"], ["p1", "p2", "p3"]
    groups, _ = make_groups(videos, patients, by, pictures=[("v1", "aa"), ("v2", "bb"), ("v3", "aa")])
    assert groups[0] == groups[2] != groups[1]


def test_a_hashed_patient_joins_and_names_nothing():
    """The hash differs from machine to machine, the split must not."""
    found = [
        make_groups(["v2", "v1", "v3"], [hashed, hashed, ""], "patient") for hashed in ("dicom-0", "dicom-f")
    ]
    assert found[0] == found[1] == (["video v1", "video v1", "video v3"], "patient")


def test_groups_by_video_and_by_frame():
    videos, nobody = ["v1", "v1", "v2"], ["", "", ""]
    by_video = (["video v1", "video v1", "video v2"], "video")
    assert make_groups(videos, nobody, "auto") == by_video
    assert make_groups(videos, ["p", "p", "p"], "video") == by_video
    groups, by = make_groups(videos, nobody, "frame")
    assert by == "frame" and len(set(groups)) == 3
    with pytest.raises(UserError, match="--group-by patient"):
        make_groups(videos, nobody, "patient")


@pytest.mark.parametrize("seed", range(50))
def test_no_patient_and_no_copy_of_a_frame_stands_on_two_sides(seed):
    """Patients with several videos; some frames are in another patient's video, too, under another name."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(30), rng.integers(2, 9, 30))
    n = len(patient)
    video = patient * 3 + rng.integers(0, 3, n)
    picture = np.arange(n)
    copied = rng.choice(n, 8, replace=False)
    picture[copied[:4]] = picture[copied[4:]]
    groups, _ = make_groups(
        [f"v{number}" for number in video],
        [f"p{number}" for number in patient],
        "auto",
        pictures=[(f"v{v}", f"{p}") for v, p in zip(video, picture, strict=True)],
    )
    values = [rng.integers(0, 3, n), rng.integers(-1, 2, n)]
    folds = group_k_fold(groups, values, 2 + seed % 4, seed=seed)
    for part in (group_train_val_test_split(groups, values, seed=seed), *folds):
        for unit in (patient, video, picture):
            sides = [set(unit[part == name]) for name in ("train", "val", "test")]
            assert not sides[0] & sides[1] and not (sides[0] | sides[1]) & sides[2]


def test_what_joins_most_is_named_and_no_patient_is():
    videos, patients = ["1", "1", "1", "2"], ["Ann", "Bob", "Cy", "Ann"]
    assert "3 patients are called as of one video, '1'" in explain_largest_group(videos, patients, [])
    assert "Ann" not in explain_largest_group(videos, patients, [])
    pictures = [(name, 5) for name in "abcd"]
    assert "One picture stands in 4 videos" in explain_largest_group(
        list("abcd"), ["p", "q", "r", "s"], pictures
    )
    hashed = explain_largest_group(list("abcd"), ["dicom-ffff"] * 4, [])
    assert "4 videos have one patient identifier" in hashed and "ffff" not in hashed
    assert explain_largest_group(list("abcd"), ["p"] * 4, [("a", 1), ("b", 1)]) == "", (
        "a patient may have many videos"
    )


PLACEHOLDERS = (
    "REMOVED,DEIDENTIFIED,De-Identified,ANONYMIZED,anonymised,Anonymous^Patient,NOID,NO ID,No Patient ID,"
    "xxxx,XXX-XXX,00000000,0,***,---,99999999,Patient,PatientID,ID REMOVED,not available,N/A,none,nan,"
    "unk,UNKN,not set,Not Entered,SANITIZED,scrubbed,Removed by CTP,null^null,Doe^John,JANE DOE,111111,TBD,"
    "redacted,UNKNOWN PATIENT,confidential,Deleted by PHI,anon,,unidentified,masked"
)
SOMEBODY = "ANON017,0001,P0,12345,Xavier,Nadia,Nana,Nona,Noa Idris,11111,Unka,Doe^Jim,anon-a,99,Noname7"


@pytest.mark.parametrize("identifier", PLACEHOLDERS.split(","))
def test_placeholders_stand_for_nobody(identifier):
    assert is_anonymous_id(identifier)


@pytest.mark.parametrize("identifier", [*SOMEBODY.split(","), "id" * 5000 + "y", "x" * 5000 + "y"])
def test_identifiers_of_their_own_stand_for_somebody(identifier):
    assert not is_anonymous_id(identifier)


def test_a_typed_zero_may_be_the_first_patient():
    assert not is_anonymous_id("0", typed=True) and not is_anonymous_id("X", typed=True)
    assert is_anonymous_id("Unknown", typed=True) and is_anonymous_id(" - ", typed=True)
