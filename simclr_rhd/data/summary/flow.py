"""The flow of a run's data: files, frames, labels; and what is left out on the way, with the reason."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.splits.split import UNLABELLED


@dataclass(frozen=True)
class Amount:
    """Frames, their videos, and the patients of those whose patient is known."""

    frames: int
    videos: int
    patients: int


@dataclass(frozen=True)
class DataFlow:
    """Numbers of the files of a run's data, step by step.

    Attributes:
        files: that may be frames or clips; those with a frame and those that are left out.
        left_out: files of which no frame is used, by reason.
        read_in_part: files of which only the first frames could be read.
        decoded: all frames.
        labelled: frames with a label of at least one task.
        unlabelled: the others: `pretraining`, `loss` and `unused` frames together.
        pretraining: unlabelled frames that the encoder (of the final model) is trained on.
        loss: unlabelled frames that its validation loss is measured on.
        unused: unlabelled frames of groups that are validated or tested, and so left out of pretraining.
        contradictory: {task: files whose labels contradict each other, and so are none}.
    """

    files: int
    left_out: dict[str, int]
    read_in_part: int
    decoded: Amount
    labelled: Amount
    unlabelled: Amount
    pretraining: int
    loss: int
    unused: int
    contradictory: dict[str, int]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "DataFlow":
        """Take the values that a run has put into its `run.json`."""
        amounts = {name: Amount(**record[name]) for name in ("decoded", "labelled", "unlabelled")}
        return cls(**{**record, **amounts})


def count_flow(dataset: Dataset, reasons: Mapping[str, str]) -> DataFlow:
    """Count what becomes of the files.

    Args:
        dataset: the frames.
        reasons: {rejected file: its reason, in the words of the summary}.
    """
    used, labelled = set(dataset.store.files), dataset.labels.annotated()
    left_out = {file: reason for file, reason in reasons.items() if file not in used}
    pretraining = ~labelled & (dataset.part == UNLABELLED)
    loss = ~labelled & ~pretraining & dataset.ssl_val
    contradictory = Counter(conflict.task for conflict in dataset.labels.conflicts if not conflict.used)
    return DataFlow(
        files=len(used) + len(left_out),
        left_out=dict(Counter(left_out.values())),
        read_in_part=len(reasons) - len(left_out),
        decoded=_count(dataset, np.ones(len(labelled), dtype=bool)),
        labelled=_count(dataset, labelled),
        unlabelled=_count(dataset, ~labelled),
        pretraining=int(pretraining.sum()),
        loss=int(loss.sum()),
        unused=int((~labelled & ~pretraining & ~loss).sum()),
        contradictory={task: contradictory[task] for task in dataset.labels.classes if contradictory[task]},
    )


def _count(dataset: Dataset, chosen: np.ndarray) -> Amount:
    """Count the frames of a mask (M,)."""
    rows, labels = np.flatnonzero(chosen).tolist(), dataset.labels
    patients = {labels.patients[row] for row in rows} - {""}
    return Amount(len(rows), len({labels.videos[row] for row in rows}), len(patients))
