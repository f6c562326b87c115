"""Columns of the label table by which results are broken down: site, device, age, sex, or others.

Their values stand in results, so a column of names must not get there: only columns that the user names, or
that are called as one of `KNOWN_COLUMNS`, and of these only those with few values.

Notation: M frames.
"""

import itertools
import logging
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.text import printable
from simclr_rhd.data.attributes.column_spec import (
    AGE,
    DEFAULT_EDGES,
    KNOWN_COLUMNS,
    NO_SUBGROUPS,
    SEX,
    Column,
    parse_columns,
)
from simclr_rhd.data.labels.table import FILE_COLUMN, PATIENT_COLUMN, Row

IDENTIFIERS = (FILE_COLUMN, PATIENT_COLUMN)
MAX_VALUES = 20  # different values of a column; more are a column of names, or of numbers without edges
UNKNOWN_VALUE = re.compile(r"(?:[-?.]*|na|n/a|nan|none|null|unknown|missing)", re.IGNORECASE)
SEXES = {"f": "female", "female": "female", "girl": "female", "m": "male", "male": "male", "boy": "male"}
# A number of years, or a DICOM age such as 012Y and 006M (PS3.5, value representation AS)
AGE_FORMAT = re.compile(r"(\d+(?:\.\d+)?)\s*(y|yr|yrs|years?|m|months?|w|weeks?|d|days?)?\.?", re.IGNORECASE)
UNITS_PER_YEAR = {"y": 1.0, "m": 12.0, "w": 52.18, "d": 365.25}

logger = logging.getLogger("simclr_rhd")


def subgroup_columns(wanted: str | None, rows: Sequence[Row]) -> tuple[list[Column], bool]:
    """The columns to break results down by, and whether the user named them; else known ones of the table."""
    if wanted == NO_SUBGROUPS:
        return [], True
    if wanted:
        return parse_columns(wanted), True
    present = set(rows[0]) if rows else set()
    return [Column(name, DEFAULT_EDGES.get(name, ())) for name in KNOWN_COLUMNS if name in present], False


def read_column(column: Column, rows_of: Mapping[str, Sequence[Row]], name: str, flag: str) -> dict[str, str]:
    """{file: value} of a column, of the files that have one.

    A file whose rows disagree has none, and is counted in the log.

    Args:
        column: to read.
        rows_of: {file: its rows}.
        name: of the table, for messages.
        flag: that names the column.

    Raises:
        UserError: there is no such column, it identifies files or patients, a cell is no number, or there are
            too many different values.
    """
    if column.name in IDENTIFIERS:
        raise UserError(
            f"{flag} {column.name}: names files or patients; wanted a column of what they have in common"
        )
    cells = {
        file: {" ".join(printable(row.get(column.name, "")).split()) for row in rows}
        for file, rows in rows_of.items()
    }
    if not any(column.name in row for rows in rows_of.values() for row in rows):
        columns = sorted({key for rows in rows_of.values() for row in rows for key in row} - {*IDENTIFIERS})
        raise UserError(f"{flag} {column.name}: {name} has no such column; it has {', '.join(columns)}")
    format_value = _Formatter(column, itertools.chain.from_iterable(cells.values()), f"{name}: {flag}")
    formatted = {file: {format_value(cell) for cell in of_file} - {""} for file, of_file in cells.items()}
    values = {next(iter(of_file)) for of_file in formatted.values() if len(of_file) == 1}
    if len(values) > MAX_VALUES:
        raise UserError(
            f"{flag} {column.name}: {name} has {len(values)} different values in that column, wanted at most "
            f"{MAX_VALUES}. Of numbers, give the edges of their ranges: --subgroups {column.name}=10/20"
        )
    if contradicted := sum(len(of_file) > 1 for of_file in formatted.values()):
        logger.warning(
            "WARNING %s: rows of one file disagree in column %s, of %d files: unknown there",
            *(name, column.name, contradicted),
        )
    return {file: next(iter(of_file)) for file, of_file in formatted.items() if len(of_file) == 1}


def read_raw(name: str, rows_of: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """{file: cell} of a column, of the first row of each file; case and blanks do not count."""
    return {
        file: " ".join(rows[0].get(name, "").split()).casefold() for file, rows in rows_of.items() if rows
    }


class _Formatter:
    """The value of a cell as results show it, "" for none; spellings that differ only in case are one."""

    def __init__(self, column: Column, cells: Iterable[str], where: str) -> None:
        self.column, self.where = column, where
        self.spelling: dict[str, str] = {}
        for cell in sorted(cells):
            self.spelling.setdefault(cell.casefold(), cell)

    def __call__(self, cell: str) -> str:
        if UNKNOWN_VALUE.fullmatch(cell):
            return ""
        if self.column.edges:
            return range_name(self._number(cell), self.column.edges)
        value = self.spelling[cell.casefold()]
        return SEXES.get(value.casefold(), value) if self.column.name == SEX else value

    def _number(self, cell: str) -> float:
        match = AGE_FORMAT.fullmatch(cell.replace(",", "."))
        if match and (self.column.name == AGE or not match[2]):
            return float(match[1]) / UNITS_PER_YEAR[(match[2] or "y")[0].lower()]
        raise UserError(
            f"{self.where} {self.column.name}: a cell is no number, so that it cannot be put into a range; "
            "wanted numbers such as 12 or 12.5, ages also as 012Y and 006M, or an empty cell"
        )


def range_name(number: float, edges: Sequence[float]) -> str:
    """The range that a number lies in: 'below 10', '10 to below 15', '40 or more'."""
    at = bisect_right(edges, number)
    if at == 0:
        return f"below {edges[0]:g}"
    return f"{edges[-1]:g} or more" if at == len(edges) else f"{edges[at - 1]:g} to below {edges[at]:g}"


def sorted_values(values: np.ndarray) -> list[str]:
    """The values of a column without the unknown one; ranges in their order, others by name."""

    def order(value: str) -> tuple[float, int, str]:
        number = re.match(r"(?:below )?(\d+(?:\.\d+)?)(?: to below .*| or more)?\Z", value)
        return (float(number[1]), not value.startswith("below"), value) if number else (np.inf, 0, value)

    return sorted(set(values.tolist()) - {""}, key=order)
