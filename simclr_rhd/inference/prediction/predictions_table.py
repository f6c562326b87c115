"""Predictions as files: tables of frames, videos and patients, and the frames as JSON.

Notation: C classes or lesions of a task.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.files import atomic_write, to_jsonable, write_rows
from simclr_rhd.core.text import as_cell
from simclr_rhd.inference.prediction.frame_reader import InputFrame
from simclr_rhd.inference.screening import ScreeningPrediction

OUTPUT_SUFFIXES = ("json", "videos.csv", "patients.csv", "screening.csv", "rejected.csv")


@dataclass(frozen=True)
class TaskPrediction:
    """Prediction of one task.

    Attributes:
        predicted: the class, or the lesions.
        probability: of it.
        entropy: of all classes, in nats.
        abstained: whether its confidence is too low to be accepted; None where that is not known.
        probabilities: {class: probability}.
    """

    predicted: str
    probability: float
    entropy: float
    abstained: bool | None
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """Prediction for a frame, a video or a patient; the names of the fields are those of the JSON file."""

    patient: str
    novelty: float
    out_of_distribution: bool
    tasks: dict[str, TaskPrediction]


@dataclass(frozen=True)
class ScreenedExam:
    """An exam with the predictions of the screening tests.

    Attributes:
        name: of the patient or the video.
        is_patient: whether it is a patient.
        n_frames: number of its frames.
        out_of_distribution: whether it is unlike the training frames, so that the tests mean nothing.
        tests: predictions.
    """

    name: str
    is_patient: bool
    n_frames: int
    out_of_distribution: bool
    tests: Sequence[ScreeningPrediction]


AddFrame = Callable[[InputFrame, Prediction], None]


class PredictionsTable:
    """The files of one prediction: `out`, and beside it those of `OUTPUT_SUFFIXES`.

    Args:
        out: a CSV file.
        classes: {task: names of its classes, or lesions}.
    """

    def __init__(self, out: Path, classes: Mapping[str, Iterable[str]]) -> None:
        self.out = out
        self.classes = list(dict.fromkeys(name for names in classes.values() for name in names))
        self.columns = ["task", "predicted", "probability", "entropy"]
        self.columns += [f"p:{name}" for name in self.classes]
        self.columns += ["novelty", "out_of_distribution", "abstained"]

    def require_writable(self, protected: str | None) -> None:
        """Make sure that no file is a folder, or one that must not be replaced.

        Raises:
            UserError: one is.
        """
        paths = [self.out, *(sibling(self.out, suffix) for suffix in OUTPUT_SUFFIXES)]
        if blocked := [path for path in paths if path.is_dir()]:
            raise UserError(f"--out {self.out}: {blocked[0]} is a folder; name another file")
        if protected and any(path.resolve() == Path(protected).resolve() for path in paths):
            raise UserError(f"--out {self.out}: would replace {protected}, which is read; name another file")

    @contextmanager
    def frames(self, header: Mapping[str, object]) -> Iterator[AddFrame]:
        """Write the frames, one at a time, as rows and as JSON; nothing if the block raises.

        Args:
            header: members of the JSON object before "frames".
        """
        with ExitStack() as stack:
            table = csv.writer(stack.enter_context(_open_text(self.out)))
            add_record = stack.enter_context(_json_frames(sibling(self.out, "json"), header))
            table.writerow(map(as_cell, ["path", "video", "patient", *self.columns]))

            def add(frame: InputFrame, prediction: Prediction) -> None:
                for cells in self._rows(prediction):
                    row = [frame.path, frame.video, prediction.patient, *cells]
                    table.writerow(map(as_cell, row))
                add_record({"path": frame.path, "video": frame.video} | asdict(prediction))

            yield add

    def write_videos(self, videos: Iterable[tuple[str, int, Prediction]]) -> None:
        """Write (video, its number of frames, prediction)."""
        rows = (
            [name, n, prediction.patient, *cells]
            for name, n, prediction in videos
            for cells in self._rows(prediction)
        )
        self._write("videos.csv", ["video", "frames", "patient", *self.columns], rows)

    def write_patients(self, patients: Iterable[tuple[str, int, Prediction]]) -> None:
        """Write (patient, their number of frames, prediction)."""
        rows = ([name, n, *cells] for name, n, prediction in patients for cells in self._rows(prediction))
        self._write("patients.csv", ["patient", "frames", *self.columns], rows)

    def write_screening(self, rows: Sequence[ScreenedExam]) -> None:
        """Write (exam, predictions of the screening tests): the probability, and whether it is sent on."""
        goals = {goal: None for row in rows for test in row.tests for goal in test.sent_on}
        cells: Iterable[list[object]] = (
            [
                *(row.name, "patient" if row.is_patient else "video", row.n_frames, row.out_of_distribution),
                *(test.question, round(test.probability, 7)),
                *(test.sent_on.get(goal, "") for goal in goals),
            ]
            for row in rows
            for test in row.tests
        )
        header = ["exam", "of", "frames", "out_of_distribution", "question", "probability"]
        self._write("screening.csv", [*header, *(f"sent on for {goal}" for goal in goals)], cells)

    def write_rejected(self, rejected: Iterable[tuple[str, str]]) -> None:
        """Write (file, reason)."""
        self._write("rejected.csv", ["path", "reason"], rejected)

    def _write(self, suffix: str, header: list[str], rows: Iterable[Iterable[object]]) -> None:
        write_rows(sibling(self.out, suffix), header, rows, private=True)

    def _rows(self, prediction: Prediction) -> Iterator[list[object]]:
        """Cells of `columns`, a row for each task."""
        novelty = round(float(prediction.novelty), 4) if np.isfinite(prediction.novelty) else ""
        for name, task in prediction.tasks.items():
            yield [
                *(name, task.predicted, task.probability, task.entropy),
                *(task.probabilities.get(label, "") for label in self.classes),
                *(novelty, prediction.out_of_distribution),
                "" if task.abstained is None else task.abstained,
            ]


def sibling(out: Path, suffix: str) -> Path:
    """The file beside `out` with another end of its name."""
    return out.with_name(f"{out.stem}.{suffix}")


@contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    with atomic_write(path, private=True) as part, part.open("w", newline="", encoding="utf-8") as stream:
        yield stream


@contextmanager
def _json_frames(
    path: Path, header: Mapping[str, object]
) -> Iterator[Callable[[Mapping[str, object]], None]]:
    """Write one JSON object whose last member, "frames", grows while the block runs."""
    with _open_text(path) as stream:
        stream.write(json.dumps(to_jsonable(dict(header)), ensure_ascii=False)[:-1] + ', "frames": [')
        separator = "\n"

        def add(record: Mapping[str, object]) -> None:
            nonlocal separator
            stream.write(separator + json.dumps(to_jsonable(dict(record)), ensure_ascii=False))
            separator = ",\n"

        yield add
        stream.write("\n]}\n")
