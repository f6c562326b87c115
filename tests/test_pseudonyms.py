import pytest

from simclr_rhd.pseudonyms import Pseudonyms

KEYS = [
    "a/pt7_4CH_frame1.png",
    "a/PT7-x_frame2.png",
    "a/lung_frame1.png",
    "b/of-pt71_frame1.png",
    "b/clip.mp4#3",
]
NAMES = Pseudonyms(KEYS, ["pt7", "pt7", "pt71", "", ""])


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (0, "P1_4CH_frame1.png"),
        (1, "P1-x_frame2.png"),  # however it is written
        (2, "lung_frame1.png"),
        (3, "of-P2_frame1.png"),  # of a patient that only another frame's row names
        (4, "clip.mp4#3"),
    ],
)
def test_a_name_has_a_number_in_the_identifiers_place(row, shown):
    assert NAMES.frame(row) == shown


def test_an_identifier_is_a_whole_word():
    names = Pseudonyms(["10.33.21 hrs_frame1.png", "p1_frame1.png"], ["1", "p"])
    assert [names.frame(row) for row in (0, 1)] == ["10.33.21 hrs_frame1.png", "p1_frame1.png"]


def test_the_longest_identifier_goes_first():
    names = Pseudonyms(["x", "y"], ["ab", "ab-c"])
    assert names.file("deep/down/ab-c_frame1.png") == "P2_frame1.png" and names.file("ab_c.png") == "P1_c.png"


def test_identifiers_are_no_patterns():
    names = Pseudonyms(["z/a.b(c_frame1.png", "z/aXb(c_frame1.png"], ["a.b(c", "other"])
    assert names.frame(0) == "P1_frame1.png" and names.file("aXb(c.png") == "aXb(c.png"


def test_lines_are_those_of_the_table_with_its_header():
    assert NAMES.line(0) == 2 and NAMES.patient(2) == "P2" and NAMES.patient(4) == ""
