import pytest

from simclr_rhd.errors import UserError
from simclr_rhd.groups import make_groups


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
    groups, _ = make_groups(videos, patients, "patient", doubts=[("still", "p1"), ("still", "p2")])
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
