import pytest

from simclr_rhd.data.labels.pseudonyms import Pseudonyms

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
        (0, "[patient 1]_4CH_frame1.png"),
        (1, "[patient 1]-x_frame2.png"),  # however it is written
        (2, "lung_frame1.png"),
        (3, "of-[patient 2]_frame1.png"),  # of a patient that only another frame's row names
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
    assert (
        names.file("deep/down/ab-c_frame1.png") == "[patient 2]_frame1.png"
        and names.file("ab_c.png") == "[patient 1]_c.png"
    )


def test_identifiers_are_no_patterns():
    names = Pseudonyms(["z/a.b(c_frame1.png", "z/aXb(c_frame1.png"], ["a.b(c", "other"])
    assert names.frame(0) == "[patient 1]_frame1.png" and names.file("aXb(c.png") == "aXb(c.png"


def test_lines_are_those_of_the_table_with_its_header():
    assert NAMES.line(0) == 2 and NAMES.patient(2) == "[patient 2]" and NAMES.patient(4) == ""


@pytest.mark.parametrize(
    ("patient", "name"),
    [
        ("YILDIZ", "y\u0131ld\u0131z_frame1.png"),
        ("\u0130nci", "inci_frame1.png"),
        ("M\u00fcller 3", "Mu\u0308ller 3_frame1.png"),  # as macOS stores it
        ("Mu\u0308ller 3", "MULLER 3_frame1.png"),
        ("Weiss", "Wei\u00df_frame1.png"),
        ("x y", "x y_frame1.png"),
    ],
)
def test_spellings_that_differ_by_accents_and_capitals_are_one(patient, name):
    assert Pseudonyms([name], [patient]).frame(0) == "[patient 1]_frame1.png"


def test_other_patients_and_those_without_a_frame_are_not_named_either():
    names = Pseudonyms(
        ["Bob_Alice_frame1.png", "Alice.png", "7_12_frame1.png"], ["Bob", "Alice", "7"], ["PAT-9"]
    )
    assert names.frame(0) == "[patient 1]_[patient 2]_frame1.png"
    assert names.file("PAT-9_v_frame1.png") == "[patient 4]_v_frame1.png"
    assert (
        names.frame(2) == "[patient 3]_12_frame1.png"
        and names.file("12.7.20_frame1.png") == "12.7.20_frame1.png"
    )


def test_a_number_is_no_name_that_a_patient_may_have():
    names = Pseudonyms(["P1_frame1.png", "P2_frame1.png"], ["P2", "P1"])
    assert names.frame(0) == "[patient 2]_frame1.png" and names.frame(1) == "[patient 1]_frame1.png"


@pytest.mark.parametrize(
    ("patient", "name", "shown"),
    [
        ("PAT007", "xPAT007_frame1.png", "x[patient 1]_frame1.png"),
        ("PAT007", "echoPAT0073.png", "echo[patient 1]3.png"),
        ("4711", "US4711_frame3.png", "US[patient 1]_frame3.png"),
        ("4711", "2021471105_frame3.png", "2021[patient 1]05_frame3.png"),
        ("pt7", "USpt7_4CH_frame1.png", "US[patient 1]_4CH_frame1.png"),
        ("pt7", "pt7x.png", "[patient 1]x.png"),
        ("Ann", "scanann2.png", "scan[patient 1]2.png"),
        ("Smith", "DrSmithEcho.png", "Dr[patient 1]Echo.png"),
        ("Weiss", "xWEI\u00dfy.png", "x[patient 1]y.png"),
        ("M\u00fcller", "xMu\u0308llerb.png", "x[patient 1]b.png"),
        ("12", "P12.png", "P[patient 1].png"),
        ("12", "P12_frame12.png", "P[patient 1]_frame12.png"),
        ("P12", "P12_frame1.png", "[patient 1]_frame1.png"),
        ("P1", "P12_frame1.png", "P12_frame1.png"),  # another patient, whom no table names
        ("4", "A4C_frame4.png", "A4C_frame4.png"),
        ("12", "10.12.21 hrs_frame12.png", "10.12.21 hrs_frame12.png"),
        ("e1", "frame12.png", "frame12.png"),
        ("M\u00fcller", "M\\xfcller\\x07.png", "[patient 1]\\x07.png"),
        ("S-12", "deep/S-12/xS-12.png", "x[patient 1].png"),
    ],
)
def test_identifiers_give_way_wherever_they_stand_in_a_file_that_was_left_out(patient, name, shown):
    assert Pseudonyms(["x"], [patient]).file(name) == shown
