"""The attributes of the frames, from the tables: all but their classes.

Notation: M frames.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.attributes.column_spec import ORIGIN_COLUMNS, Column, parse_columns
from simclr_rhd.data.attributes.columns import read_column, read_raw, sorted_values, subgroup_columns
from simclr_rhd.data.attributes.own_split import SPLIT_COLUMN, OwnSplit, read_split
from simclr_rhd.data.config import OWN_SPLIT_AUTO, DataConfig
from simclr_rhd.data.labels.labels import Labels
from simclr_rhd.data.labels.matching import LabelledFiles, merge_rows
from simclr_rhd.data.labels.table import Row
from simclr_rhd.data.splits.split import PARTS

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class FrameAttributes:
    """Attributes of M frames, from the tables.

    Attributes:
        columns: {column: (M,) values, "" where unknown} to break results down by.
        split: the user's own; None without one.
        fold_values: (M,) values of the column that is the folds, "" where unknown; None without one.
        fold_column: name of that column.
        origin: {column: (M,) values} of site and device, however many there are, for the baseline of what is
            known without the picture; never shown.
    """

    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    split: OwnSplit | None = None
    fold_values: np.ndarray | None = None
    fold_column: str = ""
    origin: Mapping[str, np.ndarray] = field(default_factory=dict)

    def fold_names(self, labelled: np.ndarray) -> list[str]:
        """The values that are the folds, in their order; none without a column. `labelled` is (M,) bool."""
        return [] if self.fold_values is None else sorted_values(self.fold_values[labelled])

    def pretraining_note(self, *, once: bool) -> str:
        """Note on whether the encoder has seen other patients of a tested site; "" without sites."""
        seen = "seen: --pretrain-per-fold keeps them out" if once else "kept out, too"
        note = f"; unlabelled frames of other groups with the tested value of {self.fold_column} are {seen}"
        return note * bool(self.fold_column)

    def subset(self, rows: np.ndarray) -> "FrameAttributes":
        """The attributes of some frames; their split has been made."""
        columns, origin = (
            {name: values[rows] for name, values in of.items()} for of in (self.columns, self.origin)
        )
        return FrameAttributes(columns, origin=origin)

    def restrict(self, labels: Labels) -> Labels:
        """Return the labels without those of frames that no part and no fold has a place for."""
        if self.split:
            placed = np.isin(self.split.parts, PARTS)
        elif self.fold_values is not None:
            placed = self.fold_values != ""
        else:
            return labels
        if left_out := int((labels.annotated() & ~placed).sum()):
            logger.warning(
                "WARNING %d frames with labels have no %s: they are left out of training and evaluation",
                *(left_out, "part in the split" if self.split else "value in the column of --folds-by"),
            )
        return labels.without(~placed)


NO_ATTRIBUTES = FrameAttributes()


def read_attributes(
    tables: tuple[Sequence[Row], Sequence[Row]],
    split_table: bytes,
    keys: Sequence[str],
    files: LabelledFiles,
    config: DataConfig,
) -> FrameAttributes:
    """Read the attributes of the frames from the tables.

    Args:
        tables: rows of the label table and of the table of patients.
        split_table: content of the file of `--split`, empty without one.
        keys: M names of the frames.
        files: that the rows can name.
        config: which columns.

    Raises:
        UserError: a column or a split cannot be used.
    """
    chosen, named = subgroup_columns(config.subgroups, tables[0])
    has_split = any(SPLIT_COLUMN in row for row in tables[0][:1]) or config.split != OWN_SPLIT_AUTO
    if config.allow_leak and not has_split:
        raise UserError(
            f"--allow-leak: --labels-csv {config.labels_csv} has no column {SPLIT_COLUMN}, and no --split "
            "names a file: there is no split of your own; drop the flag"
        )
    origins = [column for column in ORIGIN_COLUMNS if tables[0] and column in tables[0][0]]
    if not (chosen or origins or has_split or config.folds_by):
        return NO_ATTRIBUTES
    rows_of = merge_rows(*files.match(tables[0]), *files.match(tables[1]))
    name = f"--labels-csv {config.labels_csv}"

    def by_frame(of_file: Mapping[str, str]) -> np.ndarray:
        # objects, which share their texts: a million frames have few values
        return np.array([of_file.get(file, "") for file in files.frames], dtype=object)

    def frames_of(column: Column, flag: str) -> np.ndarray:
        return by_frame(read_column(column, rows_of, name, flag))

    columns: dict[str, np.ndarray] = {}
    for column in chosen:
        try:
            columns[column.name] = frames_of(column, "--subgroups")
        except UserError as error:
            if named:
                raise
            logger.warning("WARNING column %s is not used: %s", column.name, error)
    split = read_split(rows_of, split_table, keys, files, config)
    origin = {column: by_frame(read_raw(column, rows_of)) for column in origins}
    if not config.folds_by:
        return FrameAttributes(columns, split, origin=origin)
    (column,) = parse_columns(config.folds_by)
    fold_values = frames_of(column, "--folds-by")
    columns.setdefault(column.name, fold_values)  # each fold is a subgroup
    return FrameAttributes(columns, split, fold_values, column.name, origin)
