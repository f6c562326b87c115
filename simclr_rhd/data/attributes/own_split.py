"""The user's own split, of a file or of a column of the label table.

Notation: M frames.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.config import OWN_SPLIT_AUTO, OWN_SPLIT_NONE, DataConfig
from simclr_rhd.data.labels.matching import LabelledFiles, merge_rows
from simclr_rhd.data.labels.table import FILE_COLUMN, Row, read_rows, row_path
from simclr_rhd.data.splits.split import HELD_OUT

SPLIT_COLUMN = "SPLIT"
ALIASES = {"PATH": FILE_COLUMN, "PART": SPLIT_COLUMN}  # the columns of `split.csv`
PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    "heldout": HELD_OUT,
    **dict.fromkeys(("", "none", "na", "nan", "null", "unlabelled", "unlabeled"), ""),
}

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class OwnSplit:
    """The user's own split.

    Attributes:
        parts: (M,) 'train', 'val', 'test', 'held-out' (for frames without labels), or "" where none is named.
        name: of the flag or the column that it comes from, for messages.
        allow_leak: whether a group may stand on two sides.
    """

    parts: np.ndarray
    name: str
    allow_leak: bool


def read_split(
    rows_of: Mapping[str, Sequence[Row]],
    table: bytes,
    keys: Sequence[str],
    files: LabelledFiles,
    config: DataConfig,
) -> OwnSplit | None:
    """The split of `--split FILE`, or of the label table's column SPLIT; None without either.

    Args:
        rows_of: {file: its rows in the label table}.
        table: content of the file of `--split`.
        keys: M names of the frames.
        files: that the rows can name.
        config: of the data.

    Raises:
        UserError: a cell is no part, rows of one frame disagree, or the split goes with no folds.
    """
    if config.split == OWN_SPLIT_AUTO:
        name = f"--labels-csv {config.labels_csv}: column {SPLIT_COLUMN}"
        cells = {
            file: [row for row in rows if row.get(SPLIT_COLUMN, "").strip()] for file, rows in rows_of.items()
        }
        if not any(cells.values()):
            return None
        if config.folds > 1 or config.folds_by:
            raise UserError(
                f"{name}: a table with a split of its own cannot be divided into folds; pass --split none to "
                "leave the column unread, or drop --folds and --folds-by"
            )
        of_frame = _parse_parts(cells, name)
        parts = [of_frame.get(file, "") for file in files.frames]
    elif config.split == OWN_SPLIT_NONE:
        return None
    else:
        name = f"--split {config.split}"
        rows = read_rows(table, name, required_columns=(FILE_COLUMN, SPLIT_COLUMN), aliases=ALIASES)
        parts = _match_frames(rows, keys, files, name)
    return OwnSplit(np.array(parts, dtype="<U8"), name, config.allow_leak)


def _match_frames(rows: Sequence[Row], keys: Sequence[str], files: LabelledFiles, name: str) -> list[str]:
    """The part of each frame: of the row of its own name, else of that of its file or folder."""
    of_key = defaultdict(list)
    known, others = set(keys), []
    for row in rows:
        if row_path(row) in known:
            of_key[row_path(row)].append(row)
        else:
            others.append(row)
    of_file = merge_rows(*files.match(others))
    matched = {id(row) for of in of_file.values() for row in of}
    lost = [row for row in others if id(row) not in matched]
    if len(lost) == len(rows):
        raise UserError(
            f"{name}: none of its {len(rows)} rows names a frame of --data; the first row names "
            f"{rows[0][FILE_COLUMN]!r}, the first frame is {keys[0]!r}"
        )
    if lost:
        logger.warning(
            "WARNING %s: %d rows name no file, or more than one, the first: %s",
            *(name, len(lost), lost[0][FILE_COLUMN]),
        )
    part_of_key, part_of_file = _parse_parts(of_key, name), _parse_parts(of_file, name)
    return [
        part_of_key.get(key, part_of_file.get(file, "")) for key, file in zip(keys, files.frames, strict=True)
    ]


def _parse_parts(rows_of: Mapping[str, Sequence[Row]], name: str) -> dict[str, str]:
    parts = {}
    for of_name, rows in rows_of.items():
        named = {_parse_part(row, name) for row in rows} - {""}
        if len(named) > 1:
            raise UserError(f"{name}: rows of {of_name} name several parts: {', '.join(sorted(named))}")
        parts[of_name] = named.pop() if named else ""
    return parts


def _parse_part(row: Row, name: str) -> str:
    cell = row.get(SPLIT_COLUMN, "")
    part = PART_NAMES.get(re.sub(r"[\W_]", "", cell).casefold())
    if part is None:
        hint = (
            ". Folds of your own: put their numbers into a column of the label table, and name it with "
            "--folds-by"
        )
        unread = "; or pass --split none to leave the column unread"
        raise UserError(
            f"{name}: line {row.line} has the part {cell.strip()[:40]!r}; wanted train, val or test, or an "
            "empty cell for a frame that is left out"
            + hint * cell.strip().isdigit()
            + unread * ("column" in name)
        )
    return part
