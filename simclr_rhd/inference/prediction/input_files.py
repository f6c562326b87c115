"""Files to classify: those of the paths that a user names, or of a run; and the patients in a table."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import RUN_RECORD
from simclr_rhd.core.records import read_json_object
from simclr_rhd.data.config import DataConfig, InputConfig
from simclr_rhd.data.labels.patients import make_patient_parser
from simclr_rhd.data.labels.table import (
    FILE_COLUMN,
    PATIENT_COLUMN,
    PATIENT_TABLE_COLUMNS,
    match_rows_to_files,
    read_rows,
    read_table_bytes,
)
from simclr_rhd.data.sources.base import BucketAccess, FileEntry, Source
from simclr_rhd.data.sources.open import open_data, open_path
from simclr_rhd.data.sources.remote import scheme_of

logger = logging.getLogger("simclr_rhd")


class InputFiles(NamedTuple):
    """Files of one source.

    Attributes:
        source: where they are.
        entries: of its listing.
        prefix: what stands before an entry's key where it is displayed.
    """

    source: Source
    entries: list[FileEntry]
    prefix: str


def find_inputs(paths: Sequence[str], access: BucketAccess) -> list[InputFiles]:
    """The files of the paths (files, folders, gs://BUCKET/... as typed); what is named twice is taken once.

    Raises:
        UserError: there is none of them.
    """
    inputs, seen = [], set[str]()
    for path in paths:
        source, entries, prefix = open_path(path, access)
        by_identity = {_identity(prefix + entry.key): entry for entry in entries}
        inputs.append(
            InputFiles(source, [by_identity[key] for key in by_identity if key not in seen], prefix)
        )
        seen |= by_identity.keys()
    return inputs


def _identity(path: str) -> str:
    return path if scheme_of(path) else os.path.realpath(path)


def labelled_of_run(save_dir: Path, inputs: InputConfig) -> InputFiles:
    """The labelled frames of the run that wrote into a folder.

    Raises:
        UserError: they are not at hand.
    """
    try:
        record = read_json_object(save_dir / RUN_RECORD).object("config")
        config = DataConfig(
            data=record.text("data"),
            labelled_prefix=record.text("labelled_prefix"),
            demo_patients=record.count("demo_patients", 12),
            demo_seed=record.count("demo_seed") if "demo_seed" in record.fields else 0,
            cache_dir=inputs.cache_dir,
            offline=inputs.offline or record.boolean("offline"),
            billing_project=inputs.billing_project,
        )
        source = open_data(config)
        return InputFiles(source, source.files(config.labelled_prefix, flag="--labelled-prefix"), "")
    except (OSError, UserError) as error:
        raise UserError(
            f"the frames of the run in {save_dir} are not at hand ({error}); name some with --frames PATH"
        ) from None


def read_patients(path: str | None, inputs: Sequence[InputFiles]) -> dict[str, str]:
    """{file as it is displayed: its patient}, of a table with columns FILENAME and PATIENT.

    Raises:
        UserError: the table cannot be read, or names none of the files.
    """
    if path is None:
        return {}
    flag = f"--patients-csv {path}"
    table = read_table_bytes(Path(path), flag)
    files = [place.prefix + entry.key for place in inputs for entry in place.entries]
    rows = read_rows(table, flag, required_columns=PATIENT_TABLE_COLUMNS)
    rows_of, unmatched = match_rows_to_files(rows, files)
    if not rows_of:
        raise UserError(f"{flag}: none of its rows names one of the {len(files)} files, or a folder of them")
    if unmatched:
        logger.warning(
            "WARNING %s: %d rows name no file or folder here, or more than one; the first: %s",
            *(flag, len(unmatched), unmatched[0][FILE_COLUMN]),
        )
    parse = make_patient_parser([row[PATIENT_COLUMN] for row in rows])
    patients = {
        file: set().union(*(parse(row[PATIENT_COLUMN]) for row in of_file))
        for file, of_file in rows_of.items()
    }
    if several := [file for file, names in patients.items() if len(names) > 1]:
        raise UserError(f"{flag}: {several[0]} has several patients")
    return {file: names.pop() for file, names in patients.items() if names}
