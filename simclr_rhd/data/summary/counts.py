"""The counts of a run's data, for its record."""

import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.decoding.decode import CONSTANT, NEAR_BLACK
from simclr_rhd.data.decoding.source_files import FETCH_FAILED
from simclr_rhd.data.labels.annotators import Agreement
from simclr_rhd.data.sources.base import Source
from simclr_rhd.data.splits.split import HELD_OUT, UNLABELLED
from simclr_rhd.data.summary.flow import DataFlow, count_flow


@dataclass(frozen=True)
class DataSummary:
    """The counts of a run's data, as `run.json` has them.

    Attributes:
        files: listed, fetched, taken from the cache, decoded and used.
        frames: in all.
        rejected: files by the reason that they are left out.
        quality: see `quality`.
        videos: in all.
        patients: known ones.
        labelled: frames with a label.
        conflicts: files whose rows disagree, and those of them with a reading.
        agreement: Cohen's kappa of each pair of annotators.
        rows_without_file: names in the tables that no file has.
        files_without_row: labelled files that the table does not name.
        parts: frames and groups of each part.
        val_frames: frames of the contrastive validation loss.
        kept_out: see `held_out_counts`.
        classes: {task: {class: {part: frames}}}.
        flow: what becomes of the files.
    """

    files: dict[str, int]
    frames: int
    rejected: dict[str, int]
    quality: dict[str, int]
    videos: int
    patients: int
    labelled: int
    conflicts: dict[str, int]
    agreement: list[Agreement]
    rows_without_file: int
    files_without_row: int
    parts: dict[str, dict[str, int]]
    val_frames: int
    kept_out: dict[str, int]
    classes: dict[str, dict[str, dict[str, int]]]
    flow: DataFlow

    def to_json(self) -> dict[str, Any]:
        """The record in `run.json`."""
        return {"watched" if name == "val_frames" else name: value for name, value in asdict(self).items()}


def summarize(dataset: Dataset, source: Source) -> DataSummary:
    """Count a run's data."""
    store, labels = dataset.store, dataset.labels
    names = dataset.pseudonyms()  # these counts are on the page that may be sent on
    reasons = {
        file: names.redact(re.sub("after [0-9]+ frames", "after some frames", reason).split(" (")[0])
        for file, reason in store.rejected
    }
    lost = sum(reason.startswith(FETCH_FAILED) for _, reason in store.rejected)
    return DataSummary(
        files={
            "listed": source.listed,
            "fetched": source.fetched,
            "from_cache": source.listed - source.fetched - lost if source.remote else 0,
            "decoded": store.decoded,
            "used": len(set(store.files)),
        },
        frames=len(store.keys),
        rejected=dict(Counter(reasons.values())),
        quality=quality(dataset),
        videos=len(set(labels.videos)),
        patients=len(set(labels.patients) - {""}),
        labelled=int(labels.annotated().sum()),
        conflicts={
            "found": len(labels.conflicts),
            "settled": sum(bool(conflict.used) for conflict in labels.conflicts),
        },
        agreement=labels.agreement,
        rows_without_file=len(labels.rows_without_file),
        files_without_row=len(labels.files_without_row),
        parts=dataset.parts(UNLABELLED, HELD_OUT),
        val_frames=int(dataset.ssl_val.sum()),
        kept_out=held_out_counts(dataset),
        classes={task: _class_counts(dataset, task) for task in labels.classes},
        flow=count_flow(dataset, reasons),
    )


def _class_counts(dataset: Dataset, task: str) -> dict[str, dict[str, int]]:
    """{class: {part: frames}}."""
    values, assigned, parts = dataset.labels.values[task], dataset.display_part(), list(dataset.parts())
    return {
        name: {part: int((values[assigned == part] == number).sum()) for part in parts}
        for number, name in enumerate(dataset.labels.classes[task])
    }


def quality(dataset: Dataset) -> dict[str, int]:
    """Count near-black and constant frames, and frames that are equal to another."""
    store = dataset.store
    videos_of = defaultdict(set)
    times: Counter[int] = Counter()
    for video, digest in store.pictures(dataset.labels.videos):
        times[digest] += 1
        videos_of[digest].add(video)
    return {
        "near_black": int((store.content_flags == NEAR_BLACK).sum()),
        "constant": int((store.content_flags == CONSTANT).sum()),
        "duplicates": sum(number - 1 for number in times.values()),
        "pictures_in_several_videos": sum(len(videos) > 1 for videos in videos_of.values()),
    }


def held_out_counts(dataset: Dataset) -> dict[str, int]:
    """Count unlabelled frames of labelled groups, which are not pretrained on where these are tested.

    Returns:
        'frames': held out of pretraining for that; 'of_other_videos': those of them of videos without labels
        (known by their patient); 'no_patient': frames to pretrain on whose patient is not known.
    """
    labels, part = dataset.labels, dataset.display_part()
    labelled, videos = labels.annotated(), np.array(labels.videos)
    held_out = (part == HELD_OUT) & np.isin(dataset.groups, dataset.groups[labelled])
    named = np.array([patient != "" for patient in labels.patients])
    unknown = ~np.isin(dataset.groups, dataset.groups[named])
    return {
        "frames": int(held_out.sum()),
        "of_other_videos": int((held_out & ~np.isin(videos, videos[labelled])).sum()),
        "no_patient": int(((part == UNLABELLED) & unknown).sum()),
    }
