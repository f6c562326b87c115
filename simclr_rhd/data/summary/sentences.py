"""The summary of a run's data in sentences for the log."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.decoding.file_types import is_frame
from simclr_rhd.data.labels.labels import Labels
from simclr_rhd.data.labels.table import file_stem, is_only_number
from simclr_rhd.data.summary.counts import DataSummary


def describe(dataset: Dataset, summary: DataSummary) -> list[str]:
    """The data in sentences for the log, warnings included."""
    labels, files = dataset.labels, summary.files
    return [
        f"files: {files['listed']} listed, {files['fetched']} fetched, {files['from_cache']} from the cache, "
        f"{files['decoded']} decoded, "
        f"{files['used']} used; {len(dataset.store.rejected)} left out or not whole (rejected.csv)",
        *(f"  {reason}: {number}" for reason, number in sorted(summary.rejected.items())),
        f"frames: {summary.frames}, of {summary.videos} videos; {summary.patients or 'no'} patients",
        *_quality_lines(summary.quality),
        *label_lines(labels, summary.conflicts),
        *_single_frame_lines(labels),
        *_numbered_name_lines(dataset.store.files, labels.videos),
        *(line for task in labels.classes for line in _task_lines(dataset, task)),
        *_split_lines(dataset, summary),
    ]


def _quality_lines(counts: dict[str, int]) -> Iterator[str]:
    if any(counts.values()):
        yield (
            f"quality: {counts['near_black']} near-black, {counts['constant']} constant and "
            f"{counts['duplicates']} duplicate frames"
        )
    if counts["pictures_in_several_videos"]:
        yield (
            f"NOTICE {counts['pictures_in_several_videos']} pictures stand in several videos: such videos "
            "are one group, and never on two sides of the split"
        )


def label_lines(labels: Labels, conflicts: dict[str, int]) -> Iterator[str]:
    """Rows of a label table that disagree, or name no file."""
    if labels.conflicts:
        yield (
            f"labels: {conflicts['found']} times rows of one file disagree (conflicts.csv); "
            f"{conflicts['settled']} settled, the others not annotated there"
        )
    for row in labels.agreement:
        kappa = "-" if row.kappa is None else format(row.kappa, ".2f")
        users = " and ".join(row.users)
        yield f"labels: {row.task}: {users} agree with Cohen's kappa {kappa} on {row.files} files"
    for problem, names in (
        ("rows name no file, or more than one", labels.rows_without_file),
        ("files of the labelled folder have no row", labels.files_without_row),
    ):
        if names:
            more = ", ..." if len(names) > 3 else ""
            yield f"labels: {len(names)} {problem}: {', '.join(names[:3])}{more}"


def _task_lines(dataset: Dataset, task: str) -> Iterator[str]:
    yield class_line(dataset, task)
    if task not in dataset.tasks():
        which = "a" if len(dataset.folds) > 1 else "the"
        yield f"NOTICE {task} is skipped: fewer than two classes in {which} training part"
    for row in dataset.not_evaluable[task]:
        yield f"NOTICE {task}: {row['class']} cannot be evaluated: {row['reason']}"


def _split_lines(dataset: Dataset, summary: DataSummary) -> Iterator[str]:
    several, held_out = len(dataset.folds) > 1, summary.kept_out
    parts = ", ".join(
        f"{'fold ' * (several and name.isdigit())}{name} {part['frames']} frames of {part['groups']} groups"
        for name, part in summary.parts.items()
    )
    yield f"split by {dataset.split_by}: {parts}"
    if names := dataset.attributes.fold_names(dataset.labels.annotated()):
        folds = ", ".join(f"{number} {name}" for number, name in enumerate(names, start=1))
        yield f"folds are the values of {dataset.attributes.fold_column}: {folds}"
    if held_out["frames"]:
        yield (
            f"held out of pretraining, since their patients are validated or tested: {held_out['frames']} "
            f"unlabelled frames, {held_out['of_other_videos']} of them of videos without any label"
        )
    if held_out["no_patient"] and dataset.split_by == "patient":
        yield (
            f"NOTICE {held_out['no_patient']} unlabelled frames to pretrain on have no known patient: if "
            "they are of patients that are tested, name these in a table for --patients-csv"
        )
    if dataset.leaky:
        yield (
            "WARNING this split is LEAKY: frames of one patient or video stand on both sides, so "
            "the scores say nothing about new patients"
        )


def class_line(dataset: Dataset, task: str) -> str:
    """A sentence on a task's classes, and how many frames of how many groups have them."""
    values = dataset.labels.values[task]
    counts = [
        f"{name} {(values == number).sum()}/{len(np.unique(dataset.groups[values == number]))}"
        for number, name in enumerate(dataset.labels.classes[task])
    ]
    return f"{task} (frames/{dataset.split_by}s): {', '.join(counts)}" if counts else f"{task}: not annotated"


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
