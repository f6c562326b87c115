"""Read a data set from a source: list, fetch, decode, label; or estimate that work."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import cache_folder
from simclr_rhd.data.attributes.attributes import read_attributes
from simclr_rhd.data.config import OWN_SPLIT_AUTO, OWN_SPLIT_NONE, DataConfig
from simclr_rhd.data.dataset import Dataset, build_dataset
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.image import storage_size
from simclr_rhd.data.labels.labels import read_labels
from simclr_rhd.data.labels.matching import LabelledFiles
from simclr_rhd.data.labels.table import PATIENT_TABLE_COLUMNS, label_columns, read_rows, read_table_bytes
from simclr_rhd.data.labels.tasks.flag import parse_tasks
from simclr_rhd.data.labels.video_ids import assign_videos
from simclr_rhd.data.sources.base import FileEntry, Source
from simclr_rhd.data.splits.unlabelled import SSL_VAL_FRACTION
from simclr_rhd.data.store.probe import probe_files
from simclr_rhd.data.store.store import check_rejected, open_store, store_path
from simclr_rhd.data.summary.tables import write_rejected

logger = logging.getLogger("simclr_rhd")


class FileListing(NamedTuple):
    """The files of a source: labelled and unlabelled files, the table, and all files of frames, by key."""

    labelled: list[FileEntry]
    unlabelled: list[FileEntry]
    table: FileEntry
    frames: list[FileEntry]


def list_files(source: Source, config: DataConfig) -> FileListing:
    """Find a source's files.

    Raises:
        UserError: there are none, or no table.
    """
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
    listed, options = list_files(source, config), _decode_options(config)
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


def _decode_options(config: DataConfig) -> DecodeOptions:
    return DecodeOptions(storage_size(config.size), config.frames_per_clip, config.max_pixels)


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
    labels_csv, labelled, unlabelled = config.labels_csv, listed.labelled, listed.unlabelled
    logger.info("data: %s: %d labelled, %d unlabelled files", source.location, len(labelled), len(unlabelled))
    table, tasks = _fetch_table(source, listed.table), parse_tasks(config.tasks)
    # a column that it lacks is known before anything is decoded
    rows = read_rows(table, labels_csv, required_columns=label_columns(tasks))
    name = f"--patients-csv {config.patients_csv}"
    patients = read_table_bytes(Path(config.patients_csv), name) if config.patients_csv else b""
    patient_rows = read_rows(patients, name, required_columns=PATIENT_TABLE_COLUMNS) if patients else []
    split = _read_split_file(config)
    cache_dir = cache_folder(config.cache_dir)
    store = open_store(source, listed.frames, _decode_options(config), cache_dir=cache_dir)
    try:
        check_rejected(store, config.max_rejected)
    except UserError as error:
        write_rejected(store, rejected_csv)
        raise UserError(f"{error}\nAll are listed in {rejected_csv}") from None

    files = LabelledFiles(
        frames=store.files,
        listed=[entry.key for entry in labelled],
        prefixes=(config.labelled_prefix, config.unlabelled_prefix),
        patients=store.patients,
    )
    labels = read_labels(
        table,
        labels_csv,
        files,
        patient_rows=patient_rows,
        policy=config.label_conflict,
        tasks=tasks,
    )
    attributes = read_attributes((rows, patient_rows), split, store.keys, files, config)
    fingerprint = hashlib.sha256(store.fingerprint.encode() + table + patients + split).hexdigest()
    dataset = build_dataset(store, labels, fingerprint, config, attributes)
    if not dataset.tasks():
        raise UserError(
            f"--labels-csv {labels_csv}: there is nothing to learn: in the training part no task has "
            f"two classes. Found: {labels.classes}"
        )
    return dataset


def _read_split_file(config: DataConfig) -> bytes:
    if config.split in (OWN_SPLIT_AUTO, OWN_SPLIT_NONE):
        return b""
    return read_table_bytes(Path(config.split), f"--split {config.split}")


def _fetch_table(source: Source, entry: FileEntry) -> bytes:
    paths, failed = source.fetch([entry])
    if failed:
        raise UserError(f"--labels-csv {entry.key}: could not be fetched: {failed[entry.key]}")
    return read_table_bytes(paths[entry.key], f"--labels-csv {entry.key}")
