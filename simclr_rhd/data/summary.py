"""What was taken and what was left, as counts for the record and as sentences for the log."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.decoding.decode import CONSTANT, NEAR_BLACK, OK
from simclr_rhd.data.decoding.file_types import is_frame
from simclr_rhd.data.decoding.source_files import FETCH_FAILED
from simclr_rhd.data.labels.labels import Labels
from simclr_rhd.data.labels.table import file_stem, is_only_number
from simclr_rhd.data.labels.vocabulary import TASKS
from simclr_rhd.data.sources.base import Source
from simclr_rhd.data.splits.split import HELD_OUT, UNLABELLED


def summarize(dataset: Dataset, source: Source) -> dict[str, Any]:
    """The counts of a run's data."""
    store, labels, told = dataset.store, dataset.labels, dataset.display_part()
    names = dataset.pseudonyms()  # these counts are on the page that may be sent on
    reasons = Counter(
        names.redact(re.sub("after [0-9]+ frames", "after some frames", reason).split(" (")[0])
        for _, reason in store.rejected
    )
    lost = sum(reason.startswith(FETCH_FAILED) for _, reason in store.rejected)
    return {
        "files": {
            "listed": source.listed,
            "fetched": source.fetched,
            "from_cache": source.listed - source.fetched - lost if source.remote else 0,
            "decoded": store.decoded,
            "used": len(set(store.files)),
        },
        "frames": len(store.keys),
        "rejected": dict(reasons),
        "quality": quality(dataset),
        "videos": len(set(labels.videos)),
        "patients": len(set(labels.patients) - {""}),
        "labelled": int(labels.annotated().sum()),
        "conflicts": {
            "found": len(labels.conflicts),
            "settled": sum(bool(conflict.used) for conflict in labels.conflicts),
        },
        "agreement": labels.agreement,
        "rows_without_file": len(labels.rows_without_file),
        "files_without_row": len(labels.files_without_row),
        "parts": dataset.parts(UNLABELLED, HELD_OUT),
        "watched": int(dataset.ssl_val.sum()),
        "kept_out": held_out_counts(dataset),
        "classes": {
            task: {
                name: {
                    part: int((labels.values[task][told == part] == number).sum()) for part in dataset.parts()
                }
                for number, name in enumerate(labels.classes[task])
            }
            for task in TASKS
        },
    }


def quality(dataset: Dataset) -> dict[str, int]:
    """Frames that show nothing, and frames that show the same as another."""
    store = dataset.store
    videos_of = defaultdict(set)
    times: Counter[int] = Counter()
    for video, digest, look in zip(
        dataset.labels.videos, store.digests.tolist(), store.content_flags, strict=True
    ):
        if look == OK:
            times[digest] += 1
            videos_of[digest].add(video)
    return {
        "near_black": int((store.content_flags == NEAR_BLACK).sum()),
        "constant": int((store.content_flags == CONSTANT).sum()),
        "duplicates": sum(number - 1 for number in times.values()),
        "pictures_in_several_videos": sum(len(videos) > 1 for videos in videos_of.values()),
    }


def held_out_counts(dataset: Dataset) -> dict[str, int]:
    """Unlabelled frames that are of a labelled group, and so not pretrained on where that is tested.

    Returns:
        How many 'frames' are held out of pretraining for that, how many of them are 'of_other_videos' than
        have labels (known by their patient), and how many that are pretrained on have 'no_patient'.
    """
    labels, part = dataset.labels, dataset.display_part()
    labelled, videos = labels.annotated(), np.array(labels.videos)
    held = (part == HELD_OUT) & np.isin(dataset.groups, dataset.groups[labelled])
    named = np.array([patient != "" for patient in labels.patients])
    unknown = ~np.isin(dataset.groups, dataset.groups[named])
    return {
        "frames": int(held.sum()),
        "of_other_videos": int((held & ~np.isin(videos, videos[labelled])).sum()),
        "no_patient": int(((part == UNLABELLED) & unknown).sum()),
    }


def describe(dataset: Dataset, counts: dict[str, Any]) -> list[str]:
    """The data in sentences for the log, warnings included."""
    labels, files, found = dataset.labels, counts["files"], counts["quality"]
    lines = [
        f"files: {files['listed']} listed, {files['fetched']} fetched, {files['from_cache']} from the cache, "
        f"{files['decoded']} decoded, "
        f"{files['used']} used; {len(dataset.store.rejected)} left out or not whole (rejected.csv)",
        *(f"  {reason}: {number}" for reason, number in sorted(counts["rejected"].items())),
        f"frames: {counts['frames']}, of {counts['videos']} videos; {counts['patients'] or 'no'} patients",
    ]
    if any(found.values()):
        lines.append(
            f"quality: {found['near_black']} near-black, {found['constant']} constant and "
            f"{found['duplicates']} duplicate frames"
        )
    if found["pictures_in_several_videos"]:
        lines.append(
            f"NOTICE {found['pictures_in_several_videos']} pictures stand in several videos: such videos "
            "are one group, and never on two sides of the split"
        )
    if labels.conflicts:
        lines.append(
            f"labels: {counts['conflicts']['found']} times rows of one file disagree (conflicts.csv); "
            f"{counts['conflicts']['settled']} settled, the others not annotated there"
        )
    lines += [
        f"labels: {row['task']}: {' and '.join(row['users'])} agree with Cohen's kappa "
        f"{'-' if row['kappa'] is None else format(row['kappa'], '.2f')} on {row['files']} files"
        for row in labels.agreement
    ]
    for what, names in (
        ("rows name no file, or more than one", labels.rows_without_file),
        ("files of the labelled folder have no row", labels.files_without_row),
    ):
        if names:
            more = ", ..." if len(names) > 3 else ""
            lines.append(f"labels: {len(names)} {what}: {', '.join(names[:3])}{more}")
    lines += _single_frame_lines(labels) + _numbered_name_lines(dataset.store.files, labels.videos)
    several = len(dataset.folds) > 1
    for task in TASKS:
        lines.append(class_line(dataset, task))
        if task not in dataset.tasks():
            which = "a" if several else "the"
            lines.append(f"NOTICE {task} is skipped: fewer than two classes in {which} training part")
        lines += [
            f"NOTICE {task}: {row['class']} cannot be evaluated: {row['reason']}"
            for row in dataset.not_evaluable[task]
        ]
    parts = ", ".join(
        f"{'fold ' * (several and name.isdigit())}{name} {part['frames']} frames of {part['groups']} groups"
        for name, part in counts["parts"].items()
    )
    lines.append(f"split by {dataset.split_by}: {parts}")
    out = counts["kept_out"]
    if out["frames"]:
        lines.append(
            f"held out of pretraining, since their patients are validated or tested: {out['frames']} "
            f"unlabelled frames, {out['of_other_videos']} of them of videos without any label"
        )
    if out["no_patient"] and dataset.split_by == "patient":
        lines.append(
            f"NOTICE {out['no_patient']} unlabelled frames to pretrain on have no known patient: if they "
            "are of patients that are tested, name these in a table for --patients-csv"
        )
    if dataset.leaky:
        lines.append(
            "WARNING this split is LEAKY: frames of one patient or video stand on both sides, so "
            "the scores say nothing about new patients"
        )
    return lines


def class_line(dataset: Dataset, task: str) -> str:
    """A task's classes, and how many frames of how many groups have them."""
    values = dataset.labels.values[task]
    found = [
        f"{name} {(values == number).sum()}/{len(np.unique(dataset.groups[values == number]))}"
        for number, name in enumerate(dataset.labels.classes[task])
    ]
    return f"{task} (frames/{dataset.split_by}s): {', '.join(found)}" if found else f"{task}: not annotated"


def _single_frame_lines(labels: Labels) -> list[str]:
    """A warning when file names do not seem to tell which frames are of one video."""
    frames = Counter(labels.videos)
    single = sum(number == 1 for number in frames.values())
    if len(frames) < 10 or single <= len(frames) / 2:
        return []
    return [
        f"WARNING {single} of {len(frames)} videos have a single frame. Frames are put together by their "
        "names, <video>_frame<number>: if yours are called otherwise, frames of one video may stand on "
        "both sides of the split"
    ]


def _numbered_name_lines(files: Sequence[str], videos: Sequence[str]) -> list[str]:
    """A warning of stills that lie in no folder of a clip, and whose names only number them."""
    names = [PurePosixPath(file).name for file in files]
    alone = [
        name
        for name, video in zip(names, videos, strict=True)
        if is_frame(name) and is_only_number(name) and video == file_stem(name)
    ]
    if not alone:
        return []
    return [
        f"WARNING {len(alone)} stills, such as {alone[0]}, have only a number for a name and lie in no "
        "folder of a clip: each is taken for a video of its own. Put those of one clip into a folder called "
        "as it, or name their patients: else frames of one clip may stand on both sides of the split"
    ]
