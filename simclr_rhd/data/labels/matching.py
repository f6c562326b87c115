"""The match of a label table's rows with files."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from simclr_rhd.data.labels.table import FILE_COLUMN, Row, match_rows_to_files, row_path
from simclr_rhd.data.labels.vocabulary import Task

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class LabelledFiles:
    """The files that a label table can name.

    Attributes:
        frames: of each of the N frames the file it comes from; frames of one clip share its labels.
        listed: names of all files below the labelled prefix, the rejected ones too.
        prefixes: the folders of the labelled and of the unlabelled frames.
        patients: salted hashes by file, of DICOM files.
    """

    frames: Sequence[str]
    listed: Sequence[str]
    prefixes: tuple[str, str]
    patients: Mapping[str, str] = field(default_factory=dict)

    def match(self, rows: Sequence[Row]) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
        """Rows by file: of labelled files, and of others. A row that names a labelled file is of no other."""
        others = sorted(set(self.frames) - set(self.listed))
        names_of_others = set(others)
        candidates = [row for row in rows if row_path(row) not in names_of_others]
        labelled, _ = match_rows_to_files(candidates, self.listed, prefixes=self.prefixes)
        named = {
            id(row)
            for file, of_file in labelled.items()
            for row in of_file
            if PurePosixPath(file).name == PurePosixPath(row_path(row)).name
        }
        rest = [row for row in rows if id(row) not in named]
        return labelled, match_rows_to_files(rest, others, prefixes=self.prefixes)[0]


def no_match_reason(rows: Sequence[Row], files: LabelledFiles) -> str:
    """Explain that no row names a labelled file."""
    first = rows[0][FILE_COLUMN].strip()
    same_name = [key for key in files.listed if PurePosixPath(key).name == PurePosixPath(first).name]
    reason = f"the first file is {files.listed[0]!r}"
    if len(same_name) > 1:
        wanted = "/".join(PurePosixPath(same_name[0]).parts[-2:])
        reason = f"{len(same_name)} files are called so: put the folder before it, as in {wanted!r}"
    return (
        f"none of its {len(rows)} rows names a file below {files.prefixes[0]}. Its first "
        f"row names {first!r}; {reason}"
    )


def log_labels_outside(
    outside: Mapping[str, Sequence[Row]], files: LabelledFiles, tasks: Sequence[Task], name: str
) -> None:
    """Log how many rows of the table `name` have labels of files that are not in the labelled folder."""
    rows = {id(row): row for of_file in outside.values() for row in of_file}.values()
    if extra := sum(any(row.get(task.column, "").strip() for task in tasks) for row in rows):
        logger.info(
            "NOTICE %s: %d rows with labels name files outside %s: only their patient is used",
            name,
            extra,
            files.prefixes[0],
        )


def merge_rows(*tables: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """Rows of several tables by file."""
    return {
        file: list(itertools.chain.from_iterable(of.get(file, ()) for of in tables))
        for file in {*itertools.chain(*tables)}
    }
