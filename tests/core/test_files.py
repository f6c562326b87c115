import csv
import json
import os

import numpy as np
import pytest

from simclr_rhd.core import files
from simclr_rhd.core.text import from_cell


def test_json_knows_no_nan_and_keeps_the_order(tmp_path):
    found = {"b": np.float32("nan"), "a": [np.int64(3), float("inf"), None], "c": np.array([0.5, np.nan])}
    files.write_json(tmp_path / "m.json", found)
    text = (tmp_path / "m.json").read_text()
    assert text.endswith("}\n") and list(json.loads(text)) == ["b", "a", "c"]
    assert json.loads(text) == {"b": None, "a": [3, None, None], "c": [0.5, None]}


def test_rows_survive_commas_quotes_and_breaks(tmp_path):
    rows = [["a,b", 'say "Ä"'], ["two\nlines", ""]]
    files.write_rows(tmp_path / "r.csv", ["x", "y"], rows)
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [["x", "y"], *rows]


def test_a_crash_while_writing_leaves_the_old_file_and_nothing_beside(tmp_path):
    path = tmp_path / "table.csv"
    files.write_rows(path, ["a"], [[1]])

    def broken():
        yield [2]
        raise OSError("No space left on device")

    with pytest.raises(OSError):
        files.write_rows(path, ["a"], broken())
    assert path.read_bytes() == b"a\r\n1\r\n"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_lines_hold_one_object_each(tmp_path):
    files.write_lines(tmp_path / "h.jsonl", [{"loss": float("nan")}, {"loss": np.float32(0.5)}])
    assert [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()] == [
        {"loss": None},
        {"loss": 0.5},
    ]


FORMULAS = [
    "=1+1",
    "+A1",
    "-A1",
    "@SUM(A1)",
    "\tx",
    "\r=1",
    "'=1",
    "''@x",
    "=HYPERLINK(1)",
    "-",
    "-1+2",
    "＝1",
]
ORDINARY = ["A4C", "-0.5", "+3", "-1e-05", "a=b", "'quoted'", "", "O'Neil", "1-2"]


def test_no_cell_is_a_formula_and_all_are_read_back(tmp_path):
    files.write_rows(tmp_path / "r.csv", ["path", "=x"], [[text, -1.5] for text in FORMULAS + ORDINARY])
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["path", "'=x"] and [row[1] for row in rows] == ["-1.5"] * len(rows)
    assert [row[0] for row in rows] == [f"'{text}" for text in FORMULAS] + ORDINARY
    assert [from_cell(row[0]) for row in rows] == FORMULAS + ORDINARY


def mode(path):
    return path.stat().st_mode & 0o777


def test_files_that_name_patients_are_their_owners_alone(tmp_path):
    plain = tmp_path / "moved-here"
    plain.write_text("x")
    for name in files.FILES_NAMING_PATIENTS:
        (tmp_path / name).write_text("of an earlier version")
        (tmp_path / name).chmod(0o644)
        with files.atomic_write(tmp_path / name) as part:
            assert mode(part) == 0o600, "before the first byte"
            part.write_text("new")
        assert mode(tmp_path / name) == 0o600
    with files.atomic_write(tmp_path / "split.csv") as part:
        plain.replace(part)
    files.write_rows(tmp_path / "any.csv", ["a"], [], private=True)
    files.write_json(tmp_path / "run.json", {})
    assert mode(tmp_path / "split.csv") == mode(tmp_path / "any.csv") == 0o600
    assert mode(tmp_path / "run.json") == 0o666 & ~umask()


def umask():
    before = os.umask(0)
    os.umask(before)
    return before
