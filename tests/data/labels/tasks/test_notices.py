import logging

import numpy as np
import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.labels.labels import read_labels
from simclr_rhd.data.labels.matching import LabelledFiles
from simclr_rhd.data.labels.tasks.flag import parse_tasks
from simclr_rhd.data.labels.vocabulary import DEFAULT_TASKS

HEADER = ("FILENAME", "VIEW-APP", "CONDITION", "SEVERITY")


def read(columns, *, n=40, tasks=DEFAULT_TASKS):
    """Labels of n files; `columns` are {title: cells, in turn}."""
    titles = [*HEADER, *(title for title in columns if title not in HEADER)]
    cells = {"FILENAME": [f"f{i}_frame1.png" for i in range(n)], "VIEW-APP": ["PLAX", "PSAX"]} | columns
    lines = [",".join(titles)]
    for row in range(n):
        lines.append(",".join(of[row % len(of)] if (of := cells.get(title)) else "" for title in titles))
    files = [f"lab/{name}" for name in cells["FILENAME"]]
    return read_labels(
        "\n".join(lines).encode(), "table.csv", LabelledFiles(files, files, ("lab", "un")), tasks=tasks
    )


def test_other_columns_that_look_like_labels_are_offered_by_their_names_alone(caplog):
    caplog.set_level("INFO", "simclr_rhd")
    columns = {
        "Thickness": ["Not thick", "Thick"],
        "VIDEO QUALITY": ["good", "fair", "poor"],
        "DOCTOR": ["Ada", "Bob"],
        "DATE": ["2020-01-01", "2020-01-02"],
        "AGE": ["7", "8"],
        "NAME": [f"person {i}" for i in range(40)],
        "NOTE": ["a long story", *[""] * 39],
        "SAME": ["x"],
        "A=B": ["1", "2"],
        "$(rm x)": ["1", "2"],
    }
    read(columns)
    (message,) = caplog.messages
    assert "not learnt: THICKNESS, VIDEO QUALITY. To learn them: --tasks" in message
    text = message.split('--tasks "')[1].removesuffix('"')
    assert text.endswith("severity=SEVERITY,thickness=THICKNESS,video-quality=VIDEO QUALITY")
    assert [task.name for task in parse_tasks(text)][3:] == ["thickness", "video-quality"]
    assert not any(value in message for value in ("Ada", "good", "person", "2020"))
    caplog.clear()
    read(columns, tasks=parse_tasks(text))
    assert caplog.messages == []


def test_a_column_that_is_not_there_is_named_beside_those_of_the_table():
    with pytest.raises(UserError, match=r"no column THICKNES; its columns are: FILENAME, VIEW-APP"):
        read({}, tasks=parse_tasks("view,thick=THICKNES"))


def test_a_table_needs_only_the_columns_of_its_tasks():
    table = b"FILENAME,Lv_Function\na_frame1.png,good\nb_frame1.png,bad\n"
    files = ["lab/a_frame1.png", "lab/b_frame1.png"]
    tasks = parse_tasks("function=LV FUNCTION=bad<good")
    labels = read_labels(table, "t", LabelledFiles(files, files, ("lab", "un")), tasks=tasks)
    assert labels.classes == {"function": ["bad", "good"]} and labels.tasks == tasks
    np.testing.assert_array_equal(labels.values["function"], [1, 0])


def test_degrees_of_two_scales_have_no_order_and_a_warning(caplog):
    caplog.set_level(logging.WARNING, logger="simclr_rhd")
    labels = read({"SEVERITY": ["Normal", "Definite RHD", "Stage A", "Stage C"]})
    (message,) = caplog.messages
    assert "SEVERITY has degrees of several scales: WHF 2012, WHF 2023" in message
    assert '--tasks "severity=SEVERITY=LOW<HIGH"' in message
    assert labels.tasks[2].ordinal_classes(labels.classes["severity"]) == []
    caplog.clear()
    ordered = parse_tasks("severity=SEVERITY=Normal<Stage A<Definite RHD<Stage C")
    labels = read({"SEVERITY": ["Normal", "Definite RHD", "Stage A", "Stage C"]}, tasks=ordered)
    assert caplog.messages == [] and labels.classes["severity"] == [
        "Normal",
        "Stage A",
        "Definite RHD",
        "Stage C",
    ]
    assert labels.tasks[0].ordinal_classes(labels.classes["severity"]) == [0, 1, 2, 3]


def test_stages_are_in_order_and_none_beside_them_is_a_degree():
    labels = read({"SEVERITY": ["WHF D", "None", "stage B", "Stage-A RHD", "stage C"]})
    assert labels.classes["severity"] == ["None", "Stage A", "Stage B", "Stage C", "Stage D"]
    assert labels.tasks[2].ordinal_classes(labels.classes["severity"]) == [0, 1, 2, 3, 4]
    assert np.all(labels.values["severity"] >= 0)


def test_degrees_that_no_cell_has_are_named_and_a_column_with_none_of_them_is_refused(caplog):
    caplog.set_level("INFO", "simclr_rhd")
    labels = read({"GRADE": ["low", "high", "odd"]}, tasks=parse_tasks("view,grade=GRADE=low<middle<high"))
    assert caplog.messages[0] == "NOTICE table.csv: column GRADE has no middle"
    assert labels.classes["grade"] == ["low", "high", "odd"]
    assert labels.tasks[1].ordinal_classes(labels.classes["grade"]) == [0, 1]
    with pytest.raises(
        UserError, match="column GRADE of table.csv has none of the degrees 1, 2; its classes are"
    ):
        read({"GRADE": ["low", "high"]}, tasks=parse_tasks("view,grade=GRADE=1<2"))


def test_numbers_are_degrees_by_their_value():
    tasks = parse_tasks("view,grade=GRADE=-1<0<1<1.5<15")
    labels = read({"GRADE": ["-1", "0.0", "1.0", "1.5", "15"]}, tasks=tasks)
    assert labels.classes["grade"] == ["-1", "0", "1", "1.5", "15"]
    assert labels.tasks[1].ordinal_classes(labels.classes["grade"]) == [0, 1, 2, 3, 4]
    plain = read({"GRADE": ["-1", "0.0", "1.0", "1.5", "15"]}, tasks=parse_tasks("view,grade=GRADE"))
    assert len(plain.classes["grade"]) == 5


def test_two_columns_of_lists():
    tasks = parse_tasks("condition,findings")
    labels = read({"CONDITION": ["MR"], "FINDINGS": ["AMVL thickening; flail", "normal"]}, tasks=tasks)
    assert labels.classes["findings"] == ["Healthy", "Anterior Mitral Leaflet Thickening + Flail Leaflet"]
    assert labels.classes["condition"] == ["Mitral Valve Regurgitation"]
