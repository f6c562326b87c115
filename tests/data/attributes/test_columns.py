"""The columns by which results are broken down, and their values."""

import numpy as np
import pytest

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.attributes.attributes import read_attributes
from simclr_rhd.data.attributes.column_spec import Column, is_column, is_column_list, parse_columns
from simclr_rhd.data.attributes.columns import MAX_VALUES, range_name, read_column, sorted_values
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.labels.matching import LabelledFiles
from simclr_rhd.data.labels.table import Row, read_rows

KEYS = [f"labelled/v{number}_frame1.png" for number in range(30)]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("SITE", [Column("SITE")]),
        ("site, Sex", [Column("SITE"), Column("SEX")]),
        ("AGE", [Column("AGE", (10, 15, 20, 40))]),
        ("SITE,AGE=12.5/18", [Column("SITE"), Column("AGE", (12.5, 18))]),
    ],
)
def test_columns_are_parsed(text, columns):
    assert parse_columns(text) == columns and is_column_list(text)


@pytest.mark.parametrize("text", ["", "SITE,", "AGE=", "AGE=20/10", "AGE=10/10", "AGE=old", "SITE,site"])
def test_what_is_no_list_of_columns_is_refused(text):
    assert not is_column_list(text) and not is_column(text)


def test_the_folds_are_of_one_column():
    assert is_column("SITE") and is_column("AGE=10") and not is_column("SITE,SEX") and not is_column("none")


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (3, "below 10"),
        (10, "10 to below 15"),
        (14.9, "10 to below 15"),
        (15, "15 or more"),
        (90, "15 or more"),
    ],
)
def test_a_number_lies_in_one_range(number, name):
    assert range_name(number, (10, 15)) == name


def test_ranges_stand_in_their_order():
    names = [range_name(number, (5, 10, 40)) for number in (50, 7, 1, 20)]
    assert sorted_values(np.array([*names, ""])) == [
        "below 5",
        "5 to below 10",
        "10 to below 40",
        "40 or more",
    ]


def values(cells, column, flag="--subgroups"):
    rows = {f"f{at}": [Row({column.name: cell}) for cell in of] for at, of in enumerate(cells)}
    return read_column(column, rows, "t.csv", flag)


def test_spellings_of_one_value_are_one():
    assert values([["Gulu"], ["gulu "], ["GULU"], ["n/a"], ["-"], [""]], Column("SITE")) == dict.fromkeys(
        ("f0", "f1", "f2"), "GULU"
    )
    assert [*values([["F"], ["female"], ["Girl"], ["M"]], Column("SEX")).values()] == ["female"] * 3 + [
        "male"
    ]


def test_ages_are_read_as_people_and_dicom_write_them():
    cells = [["9"], ["012Y"], ["12,5"], ["006M"], ["520W"], ["14 years"], ["unknown"]]
    found = values(cells, Column("AGE", (10, 13)))
    assert [*found.values()] == [
        *("below 10", "10 to below 13", "10 to below 13", "below 10", "below 10", "13 or more")
    ]


def test_rows_of_one_file_that_disagree_give_no_value(caplog):
    assert values([["A", "B"], ["A", "a"]], Column("SITE")) == {"f1": "A"}
    assert "of 1 files" in caplog.text


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        ([["A"]], Column("PATIENT"), "names files or patients"),
        ([["eleven"]], Column("AGE", (10,)), "a cell is no number"),
        ([[f"Ms {number}"] for number in range(MAX_VALUES + 1)], Column("NAME"), "21 different values"),
    ],
)
def test_columns_that_must_not_or_cannot_be_shown_are_refused_without_their_values(cells, column, message):
    with pytest.raises(UserError, match=message) as error:
        values(cells, column)
    assert "eleven" not in str(error.value) and "Ms" not in str(error.value)


def read(columns, **options):
    header = ",".join(("FILENAME,VIEW-APP,CONDITION,SEVERITY", *columns))
    rows = [
        ",".join((key, "a,x,u", *(str(of(number)) for of in columns.values())))
        for number, key in enumerate(KEYS)
    ]
    files = LabelledFiles(KEYS, KEYS, ("labelled", "unlabelled"))
    tables = read_rows("\n".join((header, *rows)).encode(), "t.csv"), []
    return read_attributes(tables, b"", KEYS, files, DataConfig(**options))


def test_known_columns_of_the_table_are_used_and_others_only_where_they_are_named(caplog):
    columns = {"SITE": lambda n: "AB"[n % 2], "DEVICE": str, "WARD": lambda n: "xyz"[n % 3]}
    assert [*read(columns).columns] == ["SITE"]  # too many devices
    assert "column DEVICE is not used: " in caplog.text and "30 different values" in caplog.text
    assert [*read(columns, subgroups="WARD").columns] == ["WARD"]
    origin = read(columns, subgroups="none").origin  # of the shortcut check, whatever is shown
    assert len(set(origin["DEVICE"])) == 30 and set(origin["SITE"]) == {"a", "b"}
    assert [*read(columns, subgroups="none").columns] == []
    with pytest.raises(UserError, match="there is no split of your own; drop the flag"):
        read(columns, allow_leak=True)
    with pytest.raises(UserError, match="--subgroups DEVICE: .*30 different values"):
        read(columns, subgroups="DEVICE")
    with pytest.raises(UserError, match="has no such column; it has .*SITE.*WARD"):
        read(columns, subgroups="HOSPITAL")


def test_the_column_of_the_folds_is_a_subgroup_too():
    found = read({"WARD": lambda n: "xyz"[n % 3]}, folds_by="WARD")
    assert found.fold_column == "WARD" and (found.fold_values == found.columns["WARD"]).all()
    assert found.fold_names(np.ones(len(KEYS), bool)) == ["x", "y", "z"]
