"""Read a data set from a source: list, fetch, decode, label; or estimate that work."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from simclr_rhd.core.distributed import world_size
from simclr_rhd.core.errors import MissingColumnsError, UserError
from simclr_rhd.core.files import cache_folder
from simclr_rhd.data.attributes.attributes import read_attributes
from simclr_rhd.data.config import OWN_SPLIT_AUTO, OWN_SPLIT_NONE, DataConfig, LabelledDataConfig
from simclr_rhd.data.dataset import Dataset, build_dataset
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.data.labels.labels import Labels, read_labels
from simclr_rhd.data.labels.matching import LabelledFiles
from simclr_rhd.data.labels.table import (
    FILE_COLUMN,
    PATIENT_TABLE_COLUMNS,
    Row,
    label_columns,
    read_rows,
    read_table_bytes,
)
from simclr_rhd.data.labels.tasks.flag import parse_tasks, tasks_text
from simclr_rhd.data.labels.video_ids import assign_videos
from simclr_rhd.data.labels.vocabulary import Task
from simclr_rhd.data.sources.base import FileEntry, Source
from simclr_rhd.data.splits.unlabelled import SSL_VAL_FRACTION
from simclr_rhd.data.store.probe import probe_files
from simclr_rhd.data.store.store import Store, check_rejected, open_store, store_path
from simclr_rhd.data.store.together import open_store_together
from simclr_rhd.data.summary.tables import write_rejected

logger = logging.getLogger("simclr_rhd")


class FileListing(NamedTuple):
    """The files of a source: labelled and unlabelled files, the table, and all files of frames, by key."""

    labelled: list[FileEntry]
    unlabelled: list[FileEntry]
    table: FileEntry
    frames: list[FileEntry]


def list_files(source: Source, config: DataConfig) -> FileListing:
    """Find a source's files; a `UserError` where there are none, or no table."""
    labelled = source.files(config.labelled_prefix, flag="--labelled-prefix")
    unlabelled = source.files(config.unlabelled_prefix, flag="--unlabelled-prefix")
    table = source.entry(config.labels_csv)
    entries = {entry.key: entry for entry in (*labelled, *unlabelled) if entry.key != table.key}
    return FileListing(labelled, unlabelled, table, [entries[key] for key in sorted(entries)])


@dataclass(frozen=True)
class DataEstimate:
    """An estimate of data that are not decoded yet, from their listing and a sample.

    Attributes:
        labelled: labelled frames, about.
        rows: frames to pretrain on, about.
        ssl_val: frames held out of it, about.
        videos: of the frames without labels.
        grey: whether all frames seen are grey.
        files: to be fetched and decoded.
        bytes: of the files where they are.
        decoded: bytes of the decoded frames.
        seconds: to fetch and decode them.
    """

    labelled: int
    rows: int
    ssl_val: int
    videos: int
    grey: bool
    files: int
    bytes: int
    decoded: float
    seconds: float


def estimate_data(source: Source, config: DataConfig) -> DataEstimate | None:
    """Estimate the work of `read_dataset`; None where the decoded frames are at hand.

    Raises:
        UserError: there are no files.
    """
    listed, options = list_files(source, config), _decode_options(config, config.size)
    if store_path(source, listed.frames, options, cache_dir=cache_folder(config.cache_dir)).is_dir():
        return None
    labelled_keys = {entry.key for entry in listed.labelled}
    prefixes = config.labelled_prefix, config.unlabelled_prefix
    parts = listed.labelled, [entry for entry in listed.unlabelled if entry.key not in labelled_keys]
    samples = [(len(part), probe_files(source, part, options)) for part in parts]
    labelled, unlabelled = (round(files * mean.frames) for files, mean in samples)
    return DataEstimate(
        labelled=labelled,
        rows=round(unlabelled * (1 - SSL_VAL_FRACTION)),
        ssl_val=round(unlabelled * SSL_VAL_FRACTION),
        videos=len(set(assign_videos([entry.key for entry in parts[1]], prefixes))),
        grey=all(mean.grey for _, mean in samples),
        files=len(listed.frames),
        bytes=sum(entry.size for entry in listed.frames),
        decoded=sum(files * mean.bytes for files, mean in samples),
        seconds=sum(files * mean.seconds for files, mean in samples),
    )


def _decode_options(config: LabelledDataConfig, size: int) -> DecodeOptions:
    return DecodeOptions(storage_size(size), config.frames_per_clip, config.max_pixels)


def read_dataset(source: Source, config: DataConfig, *, rejected_csv: Path) -> Dataset:
    """List, fetch, decode, label, group and split.

    Args:
        source: a folder or a bucket.
        config: of the data.
        rejected_csv: where the unreadable frames are listed if they are too many.

    Raises:
        UserError: something of this cannot be used.
    """
    listed = list_files(source, config)
    logger.info(
        "data: %s: %d labelled, %d unlabelled files",
        *(source.location, len(listed.labelled), len(listed.unlabelled)),
    )
    split = _read_split_file(config)
    prefixes = config.labelled_prefix, config.unlabelled_prefix
    data = _read_frames(source, listed, config, prefixes, size=config.size, rejected_csv=rejected_csv)
    attributes = read_attributes(data.tables, split, data.store.keys, data.files, config)
    fingerprint = hashlib.sha256(data.fingerprint.encode() + split).hexdigest() if split else data.fingerprint
    dataset = build_dataset(data.store, data.labels, fingerprint, config, attributes)
    if not dataset.tasks():
        raise UserError(
            f"--labels-csv {config.labels_csv}: there is nothing to learn: in the training part no task has "
            f"two classes. Found: {data.labels.classes}"
        )
    return dataset


@dataclass(frozen=True)
class FrameData:
    """Frames and their labels, not divided into parts.

    Attributes:
        store: N decoded frames.
        labels: of them.
        fingerprint: hash of all frames' contents and of the label table.
        files: that the tables can name.
        tables: rows of the label table and of the table of patients.
    """

    store: Store
    labels: Labels
    fingerprint: str
    files: LabelledFiles
    tables: tuple[list[Row], list[Row]]


def read_labelled_frames(
    source: Source, config: LabelledDataConfig, *, size: int, rejected_csv: Path
) -> FrameData:
    """List, fetch, decode and label the frames of the labelled folder.

    Args:
        source: a folder or a bucket.
        config: of the data.
        size: pixels of a view's side, for which the frames are stored.
        rejected_csv: where the unreadable frames are listed if they are too many.

    Raises:
        UserError: something of this cannot be used.
    """
    files = source.files(config.labelled_prefix, flag="--labelled-prefix")
    table = source.entry(config.labels_csv)
    logger.info("data: %s: %d labelled files", source.location, len(files))
    listed = FileListing(files, [], table, [entry for entry in files if entry.key != table.key])
    prefixes = config.labelled_prefix, config.labelled_prefix
    return _read_frames(source, listed, config, prefixes, size=size, rejected_csv=rejected_csv)


def _read_frames(
    source: Source,
    listed: FileListing,
    config: LabelledDataConfig,
    prefixes: tuple[str, str],
    *,
    size: int,
    rejected_csv: Path,
) -> FrameData:
    table, tasks = _fetch_table(source, listed.table), parse_tasks(config.tasks)
    # a column that it lacks is known before anything is decoded
    rows = _read_label_rows(table, config.labels_csv, tasks)
    name = f"--patients-csv {config.patients_csv}"
    patients = read_table_bytes(Path(config.patients_csv), name) if config.patients_csv else b""
    patient_rows = read_rows(patients, name, required_columns=PATIENT_TABLE_COLUMNS) if patients else []
    open_it = open_store if world_size() == 1 else open_store_together
    options, cache_dir = _decode_options(config, size), cache_folder(config.cache_dir)
    store = open_it(source, listed.frames, options, cache_dir=cache_dir)
    try:
        check_rejected(store, config.max_rejected)
    except UserError as error:
        write_rejected(store, rejected_csv)
        raise UserError(f"{error}\nAll are listed in {rejected_csv}") from None
    files = LabelledFiles(
        frames=store.files,
        listed=[entry.key for entry in listed.labelled],
        prefixes=prefixes,
        patients=store.patients,
    )
    labels = read_labels(
        table,
        config.labels_csv,
        files,
        patient_rows=patient_rows,
        policy=config.label_conflict,
        tasks=tasks,
    )
    fingerprint = hashlib.sha256(store.fingerprint.encode() + table + patients).hexdigest()
    return FrameData(store, labels, fingerprint, files, (rows, patient_rows))


def _read_label_rows(table: bytes, name: str, tasks: tuple[Task, ...]) -> list[Row]:
    try:
        return read_rows(table, name, required_columns=label_columns(tasks))
    except MissingColumnsError as error:
        present = [task for task in tasks if task.column not in error.missing]
        if not present or FILE_COLUMN in error.missing:
            raise
        raise UserError(f'{error}. To use the others alone: --tasks "{tasks_text(present)}"') from None


def _read_split_file(config: DataConfig) -> bytes:
    if config.split in (OWN_SPLIT_AUTO, OWN_SPLIT_NONE):
        return b""
    return read_table_bytes(Path(config.split), f"--split {config.split}")


def _fetch_table(source: Source, entry: FileEntry) -> bytes:
    paths, failed = source.fetch([entry])
    if failed:
        raise UserError(f"--labels-csv {entry.key}: could not be fetched: {failed[entry.key]}")
    return read_table_bytes(paths[entry.key], f"--labels-csv {entry.key}")
