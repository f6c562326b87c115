"""From a source to a data set: list, fetch, decode, label; or foresee what that would take."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.dataset import Dataset, divide, write_rejected
from simclr_rhd.data.decoding.image import stored_side
from simclr_rhd.data.decoding.limits import MAX_PIXELS
from simclr_rhd.data.labels.labels import read_labels, videos_of
from simclr_rhd.data.labels.table import OF_PATIENTS, read_rows, table_bytes
from simclr_rhd.data.sources.base import Entry, Source
from simclr_rhd.data.splits.split import WATCHED_SHARE
from simclr_rhd.data.store.store import check_rejected, is_there, open_store, sample

logger = logging.getLogger("simclr_rhd")


class Listed(NamedTuple):
    """What a source has: labelled and unlabelled files, the table, and all files of frames, by key."""

    labelled: list[Entry]
    unlabelled: list[Entry]
    table: Entry
    frames: list[Entry]


def list_files(source: Source, *, labelled_prefix: str, unlabelled_prefix: str, labels_csv: str) -> Listed:
    """Find a source's files; arguments as of `read_dataset`.

    Raises:
        UserError: there are none, or no table.
    """
    labelled = source.files(labelled_prefix, flag="--labelled-prefix")
    unlabelled = source.files(unlabelled_prefix, flag="--unlabelled-prefix")
    table = source.entry(labels_csv)
    entries = {entry.key: entry for entry in (*labelled, *unlabelled) if entry.key != table.key}
    return Listed(labelled, unlabelled, table, [entries[key] for key in sorted(entries)])


@dataclass(frozen=True)
class Ahead:
    """What is known of data that are not decoded yet, from their listing and a sample.

    Attributes:
        labelled: labelled frames, about.
        rows: frames to pretrain on, about.
        watched: frames held out of it, about.
        videos: of the frames without labels.
        grey: whether all frames seen are grey.
        files: to be fetched and decoded.
        bytes: of the files where they are.
        decoded: bytes of the decoded frames.
        seconds: to fetch and decode them.
    """

    labelled: int
    rows: int
    watched: int
    videos: int
    grey: bool
    files: int
    bytes: int
    decoded: float
    seconds: float


def look_ahead(
    source: Source,
    *,
    labelled_prefix: str,
    unlabelled_prefix: str,
    labels_csv: str,
    image_size: int,
    cache_dir: Path,
    frames_per_clip: int | None,
    max_pixels: int = MAX_PIXELS,
) -> Ahead | None:
    """What `read_dataset`, of these arguments, would have to do; None where the decoded frames are at hand.

    Raises:
        UserError: there are no files.
    """
    found = list_files(
        source, labelled_prefix=labelled_prefix, unlabelled_prefix=unlabelled_prefix, labels_csv=labels_csv
    )
    how: dict[str, Any] = {
        "side": stored_side(image_size),
        "cache_dir": cache_dir,
        "most": frames_per_clip,
        "max_pixels": max_pixels,
    }
    if is_there(source, found.frames, **how):
        return None
    inside = {entry.key for entry in found.labelled}
    parts = found.labelled, [entry for entry in found.unlabelled if entry.key not in inside]
    samples = [sample(source, part, **how) for part in parts]
    labelled, unlabelled = (
        round(len(part) * of_file.frames) for part, of_file in zip(parts, samples, strict=True)
    )
    return Ahead(
        labelled=labelled,
        rows=round(unlabelled * (1 - WATCHED_SHARE)),
        watched=round(unlabelled * WATCHED_SHARE),
        videos=len(set(videos_of([entry.key for entry in parts[1]], (labelled_prefix, unlabelled_prefix)))),
        grey=all(of_file.grey for of_file in samples),
        files=len(found.frames),
        bytes=sum(entry.size for entry in found.frames),
        decoded=sum(len(part) * of_file.bytes for part, of_file in zip(parts, samples, strict=True)),
        seconds=sum(len(part) * of_file.seconds for part, of_file in zip(parts, samples, strict=True)),
    )


def read_dataset(
    source: Source,
    *,
    labelled_prefix: str,
    unlabelled_prefix: str,
    labels_csv: str,
    image_size: int,
    cache_dir: Path,
    frames_per_clip: int | None,
    max_rejected: float,
    label_conflict: str,
    group_by: str,
    folds: int,
    pretrain_per_fold: bool,
    seed: int,
    rejected_csv: Path,
    max_pixels: int = MAX_PIXELS,
    patients_csv: str | None = None,
) -> Dataset:
    """List, fetch, decode, label, group and split.

    Args:
        source: a folder or a bucket.
        labelled_prefix: folder of the labelled frames.
        unlabelled_prefix: folder of the unlabelled frames.
        labels_csv: the label table.
        image_size: pixels of a view's side.
        cache_dir: where fetched and decoded frames are kept.
        frames_per_clip: evenly spaced frames of a clip or DICOM file at most; None for all.
        max_rejected: share of unreadable files allowed.
        label_conflict: what to do where rows of one file disagree.
        group_by: what never stands on two sides.
        folds: of the cross-validation; 1 for a single split.
        pretrain_per_fold: whether each fold has an encoder of its own.
        seed: of the split.
        max_pixels: of a frame.
        rejected_csv: where the unreadable frames are listed if they are too many.
        patients_csv: a table of this machine that names the patients of files and folders.

    Raises:
        UserError: something of this cannot be used.
    """
    listed = list_files(
        source, labelled_prefix=labelled_prefix, unlabelled_prefix=unlabelled_prefix, labels_csv=labels_csv
    )
    labelled, unlabelled = listed.labelled, listed.unlabelled
    logger.info("data: %s: %d labelled, %d unlabelled files", source.location, len(labelled), len(unlabelled))
    table = _fetch_table(source, listed.table)
    patients = table_bytes(Path(patients_csv), f"--patients-csv {patients_csv}") if patients_csv else b""
    people = read_rows(patients, f"--patients-csv {patients_csv}", needed=OF_PATIENTS) if patients else []

    store = open_store(
        source,
        listed.frames,
        side=stored_side(image_size),
        cache_dir=cache_dir,
        most=frames_per_clip,
        max_pixels=max_pixels,
    )
    try:
        check_rejected(store, max_rejected)
    except UserError as error:
        write_rejected(store, rejected_csv)
        raise UserError(f"{error}\nAll are listed in {rejected_csv}") from None

    labels = read_labels(
        table,
        labels_csv,
        files=store.files,
        listed=[entry.key for entry in labelled],
        prefixes=(labelled_prefix, unlabelled_prefix),
        hashed_patients=store.patients,
        patients=people,
        policy=label_conflict,
    )
    fingerprint = hashlib.sha256(store.fingerprint.encode() + table + patients).hexdigest()
    dataset = divide(
        store,
        labels,
        fingerprint,
        group_by=group_by,
        folds=folds,
        pretrain_per_fold=pretrain_per_fold,
        seed=seed,
    )
    if not dataset.tasks():
        raise UserError(
            f"--labels-csv {labels_csv}: there is nothing to learn: in the training part no task has "
            f"two classes. Found: {labels.classes}"
        )
    return dataset


def _fetch_table(source: Source, entry: Entry) -> bytes:
    paths, failed = source.fetch([entry])
    if failed:
        raise UserError(f"--labels-csv {entry.key}: could not be fetched: {failed[entry.key]}")
    return table_bytes(paths[entry.key], f"--labels-csv {entry.key}")
