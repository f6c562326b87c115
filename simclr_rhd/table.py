"""The label table as a file: its encoding, its columns, and which frame each row names."""

import codecs
import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from simclr_rhd.errors import UserError

COLUMNS = {"view": "VIEW-APP", "condition": "CONDITION", "severity": "SEVERITY"}
FILE_COLUMN, PATIENT_COLUMN = "FILENAME", "PATIENT"
USER_COLUMN, TIME_COLUMN = "USER", "TIMESTAMP"  # who filled in a row, and when
NEEDED = (FILE_COLUMN, *COLUMNS.values())
Row = dict[str, str]  # cells by column name


def read_rows(table: bytes, name: str, *, needed: Sequence[str] = NEEDED) -> list[Row]:
    """The table's rows by column name; `needed` are the columns without which it is refused.

    Raises:
        UserError: it is no CSV file, has no rows, or lacks a column that is needed.
    """
    text = _decoded(table)
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
        reader.fieldnames = [column.strip().upper() for column in reader.fieldnames or []]
        rows = []
        for row in reader:
            if any("\n" in (row.get(column) or "") for column in needed):
                raise UserError(
                    f"{name}: the row that ends in line {reader.line_num} has a cell of several lines; "
                    "a quotation mark is missing or too many there"
                )
            if any(cell.strip() for cell in row.get(None) or ()):
                raise UserError(
                    f"{name}: line {reader.line_num} has more cells than there are columns; put a cell that "
                    "holds a comma, such as a list, between quotation marks: \"['A', 'B']\""
                )
            if (row.get(FILE_COLUMN) or "").strip():
                rows.append(row)
    except csv.Error as error:
        raise UserError(f"{name}: not a CSV table ({error})") from None
    if missing := [column for column in needed if column not in reader.fieldnames]:
        raise UserError(
            f"{name}: no column {', '.join(missing)}; its columns are: "
            f"{', '.join(reader.fieldnames) or 'none'}. Wanted: {', '.join(needed)}"
            + f" (and {PATIENT_COLUMN} where known)"
            * (PATIENT_COLUMN not in needed)
        )
    if twice := [
        column for column in dict.fromkeys((*needed, PATIENT_COLUMN)) if reader.fieldnames.count(column) > 1
    ]:
        raise UserError(f"{name}: column {', '.join(twice)} stands there more than once")
    if not rows:
        raise UserError(f"{name}: no rows with a {FILE_COLUMN}")
    return rows


def _decoded(table: bytes) -> str:
    """A table's text in any of the encodings that spreadsheets write, without their marks at its start."""
    if table.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = table.decode("utf-16", errors="replace")
    else:
        try:
            text = table.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = table.decode("cp1252", errors="replace")
    text = re.sub(r"\Asep=.\r?\n", "", text)
    # What is not seen must not make two names of one, nor turn the direction in which figures are read.
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cf")


def match(rows: list[Row], listed: Sequence[str]) -> tuple[dict[str, list[Row]], list[str]]:
    """Rows by the key of their file, and the file names that no file, or more than one, has.

    A row's folders only decide between files of one name: tables and buckets are sorted differently.
    """
    by_name = defaultdict(list)
    for key in listed:
        by_name[_nfc(PurePosixPath(key).name)].append(key)
    rows_of, unmatched = defaultdict(list), []
    for row in rows:
        wanted = _nfc(row[FILE_COLUMN].strip().replace("\\", "/"))
        keys = by_name.get(PurePosixPath(wanted).name, [])
        if len(keys) > 1:
            keys = [key for key in keys if _nfc("/" + key).endswith("/" + wanted.lstrip("./"))]
        if len(keys) == 1:
            rows_of[keys[0]].append(row)
        else:
            unmatched.append(row[FILE_COLUMN])
    return dict(rows_of), sorted(set(unmatched))


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)  # some systems list "é" as two characters
