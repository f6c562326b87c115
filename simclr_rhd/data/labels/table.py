"""The label table: its columns, its rows, and the file that each row names."""

import csv
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from simclr_rhd.core.errors import MissingColumnsError, UserError
from simclr_rhd.core.text import from_cell
from simclr_rhd.data.labels.encoding import MAX_TABLE_BYTES, decode_table, nfc
from simclr_rhd.data.labels.vocabulary import DEFAULT_TASKS, Task

FILE_COLUMN, PATIENT_COLUMN = "FILENAME", "PATIENT"
PATIENT_ID = "PATIENT ID"  # stands for PATIENT where there is none
USER_COLUMN, TIME_COLUMN = "USER", "TIMESTAMP"  # who filled in a row, and when
NUMBER_NAME = re.compile(
    r"[\s_.-]*(frames?|fr|frm|img|image|im|out|output|thumb|scene)?[\s_.#-]*[(\[]?\d+[)\]]?", re.IGNORECASE
)
MAX_SHOWN_CHARS = 300  # characters of a header in a message
NO_ALIASES: Mapping[str, str] = MappingProxyType({})
PATIENT_TABLE_COLUMNS = (FILE_COLUMN, PATIENT_COLUMN)  # what a table of patients needs


def label_columns(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Columns that a table of labels needs."""
    return (FILE_COLUMN, *(task.column for task in tasks))


REQUIRED_COLUMNS = label_columns(DEFAULT_TASKS)


class Row(dict[str, str]):
    """Cells by column name.

    Attributes:
        line: where the row begins in its file, 1 for the first line.
    """

    line = 0


def read_table_bytes(path: Path, name: str) -> bytes:
    """A table as it is on this machine; `name` is what messages call it.

    Raises:
        UserError: it cannot be read, or is larger than any table.
    """
    try:
        if (size := path.stat().st_size) > MAX_TABLE_BYTES:
            raise UserError(
                f"{name}: has {size} bytes, a table at most {MAX_TABLE_BYTES}; is it another file?"
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}") from None


def read_rows(
    table: bytes,
    name: str,
    *,
    required_columns: Sequence[str] = REQUIRED_COLUMNS,
    aliases: Mapping[str, str] = NO_ALIASES,
) -> list[Row]:
    """The table's rows by column name.

    Args:
        table: content of the file.
        name: of the table in messages.
        required_columns: without which it is refused.
        aliases: {title: the column that it stands for where there is none of that name}.

    Raises:
        UserError: it is no CSV file, has no rows, or lacks a column that is needed.
    """
    text = decode_table(table, name)
    header = next((line for line in io.StringIO(text) if line.strip(',;\t \r\n"')), "")
    delimiter = max(",;\t|", key=header.count)
    try:
        head, *records = list(_records(text, delimiter)) or [(1, [], "")]
    except csv.Error as error:  # above all of a cell that is larger than csv.field_size_limit()
        raise UserError(
            f"{name}: not a CSV table ({error}); is a quotation mark missing, or too many?"
        ) from None
    columns = [_column_name(column, required_columns) for column in head[1]]
    columns = [aliases[title] if aliases.get(title, title) not in columns else title for title in columns]
    if PATIENT_COLUMN not in columns:
        columns = [PATIENT_COLUMN if _same_title(column, PATIENT_ID) else column for column in columns]
    if missing := [column for column in required_columns if column not in columns]:
        raise MissingColumnsError(
            missing,
            f"{name}: no column {', '.join(missing)}; its columns are: "
            f"{', '.join(columns)[:MAX_SHOWN_CHARS] or 'none'}. Wanted: {', '.join(required_columns)}"
            + f" (and {PATIENT_COLUMN} where known)"
            * (PATIENT_COLUMN not in required_columns),
        )
    read = dict.fromkeys((*required_columns, PATIENT_COLUMN))
    if twice := [column for column in read if columns.count(column) > 1]:
        raise UserError(f"{name}: column {', '.join(twice)} stands there more than once")
    _refuse_stray_quotes([head, *records], delimiter, columns.index(FILE_COLUMN), name)
    rows = []
    for line, cells, _ in records:
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise UserError(
                f"{name}: line {line} has more cells than there are columns; put a cell that "
                "holds a comma, such as a list, between quotation marks: \"['A', 'B']\""
            )
        row = Row(itertools.zip_longest(columns, map(from_cell, cells[: len(columns)]), fillvalue=""))
        row.line = line
        if row[FILE_COLUMN].strip():
            rows.append(row)
    if not rows:
        raise UserError(f"{name}: no rows with a {FILE_COLUMN}")
    return rows


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """The first line of each record of a CSV file, its cells, and its text where it has several lines."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            taken.append(line)
            yield line

    reader = csv.reader(lines(), delimiter=delimiter)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num - len(taken) + 1, cells, "".join(taken) if len(taken) > 1 else ""
        taken.clear()


def _refuse_stray_quotes(
    records: Sequence[tuple[int, list[str], str]], delimiter: str, place: int, name: str
) -> None:
    """Refuse a quotation mark that makes one cell of the rows after it; a cell may have several lines.

    `records` are as of `_records`, the header first; `place` is the column of the file names.

    Raises:
        UserError: a cell goes on over lines that look like rows, or its quotation marks do not match.
    """
    endings = {_suffix(cells[place]) for _, cells, _ in records[1:] if len(cells) > place}
    width = max((len(cells) for _, cells, _ in records), default=0)

    def looks_like_a_row(line: str) -> bool:
        cells = line.split(delimiter)
        if not place < len(cells) or len(cells) < 2 or not cells[place].strip():
            return False
        ending = _suffix(cells[place])
        return ending in endings and (ending != "" or len(cells) >= width)

    for first, cells, text in records:
        if not text:
            continue
        within = [line for cell in cells for line in cell.splitlines()[1:]]
        problem = "a line inside its cell looks like a row of its own" * any(map(looks_like_a_row, within))
        try:
            next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        except csv.Error:
            problem = problem or "its quotation marks do not match"
        if len(cells) > place and len(cells[place].splitlines()) > 1:
            problem = problem or f"its {FILE_COLUMN} has several lines"
        if problem:
            last = first + text.count("\n") - text.endswith("\n")
            raise UserError(
                f"{name}: the row that begins in line {first} goes on to line {last}, and {problem}: a "
                "quotation mark is missing or too many there"
            )


def _suffix(name: str) -> str:
    """The extension of a file's name, "" for none and for the numbers of a DICOM identifier."""
    suffix = PurePosixPath(name.strip().replace("\\", "/")).suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _column_name(title: str, required: Sequence[str]) -> str:
    """A column's name: of known ones only letters count, in any case."""
    known = (*required, FILE_COLUMN, PATIENT_COLUMN, USER_COLUMN, TIME_COLUMN)
    return next((name for name in known if _same_title(title, name)), title.strip().upper())


def _same_title(title: str, name: str) -> bool:
    return re.sub(r"[\W_]", "", title).upper() == re.sub(r"[\W_]", "", name)


def match_rows_to_files(
    rows: Sequence[Row], listed: Sequence[str], *, prefixes: Sequence[str] = ()
) -> tuple[dict[str, list[Row]], list[Row]]:
    """Rows by the key of their file, and the rows that name no file, or more than one.

    A row's folders only decide between files of one name: tables and buckets are sorted differently. But of a
    name that is only a number, the folder is that of the clip, and must agree. A row that names a folder is
    one of all files below it.

    Args:
        rows: of a table.
        listed: keys of files.
        prefixes: folders that, like those above them, no row can mean.
    """
    by_name, below = defaultdict(list), defaultdict[str, list[str]](list)
    for key in listed:
        by_name[nfc(PurePosixPath(key).name)].append(key)
        for folder in PurePosixPath(key).parents:
            below[f"{folder}"].append(key)
    above = {
        f"{folder}" for path in prefixes for folder in (PurePosixPath(path), *PurePosixPath(path).parents)
    }
    folders = defaultdict(list)
    for path in below.keys() - above - {".", "/"}:
        folders[nfc(PurePosixPath(path).name)].append(path)

    def only(paths: Sequence[str], wanted: str) -> list[str]:
        if len(paths) > 1 or ("/" in wanted.lstrip("./") and is_only_number(wanted)):
            paths = [path for path in paths if nfc("/" + path).endswith("/" + wanted.lstrip("./"))]
        return [*paths] if len(paths) == 1 else []

    rows_of, unmatched = defaultdict(list), []
    for row in rows:
        wanted = row_path(row)
        last = PurePosixPath(wanted).name
        keys = only(by_name[last], wanted) if last in by_name else []
        if not keys and last in folders:
            keys = [key for folder in only(folders[last], wanted) for key in below[folder]]
        for key in keys:
            rows_of[key].append(row)
        if not keys:
            unmatched.append(row)
    return dict(rows_of), unmatched


def file_stem(name: str) -> str:
    """A file's name without its extension; numbers are none, but part of a DICOM identifier."""
    before, _, suffix = name.rpartition(".")
    return before if before and suffix and not suffix.isdigit() else name


def is_only_number(path: str) -> bool:
    """Return whether a file's name only numbers it: 'frame_0001.png', '12.jpg'."""
    return NUMBER_NAME.fullmatch(file_stem(PurePosixPath(path).name)) is not None


def row_path(row: Row) -> str:
    """The path in a row's FILENAME, with forward slashes."""
    return nfc(row[FILE_COLUMN].strip().replace("\\", "/"))
