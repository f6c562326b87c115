"""Predictions for files: per frame, per video and per patient, in constant memory.

Frames are read, classified and written in batches; of videos and patients only sums stay in memory.

Notation: C classes or lesions of a task.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.inference.prediction.frame_reader import FrameReader, InputFrame
from simclr_rhd.inference.prediction.predictions_table import (
    AddFrame,
    Prediction,
    PredictionsTable,
    ScreenedExam,
    TaskPrediction,
)
from simclr_rhd.inference.predictor import BATCH_SIZE, Model, Predictions
from simclr_rhd.inference.screening import ExamKey, ExamStream
from simclr_rhd.inference.task_output import resolve_prevalence

MAX_OOD_SHARE = 0.5  # of a video's or a patient's frames, above which it is out of distribution
PROBABILITY_DIGITS = 7  # of a probability


@dataclass
class RunningMean:
    """Sums over the frames of a video or a patient so far."""

    patient: str
    n: int = 0
    ood: int = 0
    novelty: float = 0.0
    probabilities: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, predictions: Predictions, row: int) -> None:
        """Take in one more frame."""
        self.n += 1
        self.ood += int(predictions.out_of_distribution[row])
        self.novelty += float(predictions.novelty[row])
        for task, p in predictions.probabilities.items():
            self.probabilities[task] = self.probabilities.get(task, 0.0) + p[row]

    @property
    def out_of_distribution(self) -> bool:
        """True if more than half of the frames are."""
        return self.ood > MAX_OOD_SHARE * self.n


class PredictionRun:
    """One pass over the files.

    Args:
        model: that predicts.
        reader: of the files.
        shares: {class: its share} that the probabilities shall hold for, see `resolve_prevalence`.

    Raises:
        UserError: the shares do not fit.
    """

    def __init__(self, model: Model, reader: FrameReader, shares: Mapping[str, float] | None = None) -> None:
        self.model, self.reader = model, reader
        self.prevalence_changed = bool(shares)
        self.tasks = resolve_prevalence(model.tasks, shares or {})
        self.video_means: dict[str, RunningMean] = {}
        self.patient_means: dict[str, RunningMean] = {}
        self.screening = ExamStream(model.net.screening, list(model.classes))
        self.n_frames = 0

    def write(self, out: Path, *, protected: str | None = None, on_frame: AddFrame | None = None) -> None:
        """Classify all files; write `out`, and beside it the same as JSON, the videos and the patients.

        Args:
            out: a CSV file.
            protected: a file that must not be replaced.
            on_frame: is called with each frame and its prediction.

        Raises:
            UserError: there is no frame that can be classified; nothing is written.
        """
        table = PredictionsTable(out, self.model.classes)
        table.require_writable(protected)
        with table.frames(self._json_header()) as add:
            for frames, predictions in self._iter_batches():
                for row, frame in enumerate(frames):
                    prediction = self._predict_frame(frame, predictions, row)
                    add(frame, prediction)
                    if on_frame:
                        on_frame(frame, prediction)
            rejected = self.reader.rejected
            if not self.n_frames:
                examples = "".join(f"\n  {path}: {reason}" for path, reason in rejected[:5])
                raise UserError(f"none of the {self.reader.n_files} files could be classified:{examples}")
            table.write_videos(self._predict_units(self.video_means))
            table.write_patients(self._predict_units(self.patient_means))
            table.write_screening(self.screened_exams())
            table.write_rejected(rejected)

    def screened_exams(self) -> list[ScreenedExam]:
        """All exams, once the frames are read, with the predictions of the screening tests."""
        exams = []
        for (is_patient, name), tests in self.screening.predictions().items():
            mean = (self.patient_means if is_patient else self.video_means)[name]
            exams.append(ScreenedExam(name, is_patient, mean.n, mean.out_of_distribution, tests))
        return exams

    def predict_mean(self, mean: RunningMean) -> Prediction:
        """Prediction for a video or a patient."""
        tasks = {
            task: self._predict_task(total / mean.n, task, level="video")
            for task, total in mean.probabilities.items()
        }
        return Prediction(mean.patient, mean.novelty / mean.n, mean.out_of_distribution, tasks)

    def _predict_units(self, means: Mapping[str, RunningMean]) -> Iterator[tuple[str, int, Prediction]]:
        return ((name, mean.n, self.predict_mean(mean)) for name, mean in means.items())

    def _predict_frame(self, frame: InputFrame, predictions: Predictions, row: int) -> Prediction:
        tasks = {
            task: self._predict_task(p[row], task, level="frame")
            for task, p in predictions.probabilities.items()
        }
        ood = bool(predictions.out_of_distribution[row])
        return Prediction(frame.patient, predictions.novelty[row], ood, tasks)

    def _predict_task(self, probabilities: np.ndarray, task: str, *, level: str) -> TaskPrediction:
        """Prediction from (C,) probabilities. A video's are moved after the mean over its frames."""
        own, wanted = self.model.tasks[task], self.tasks[task]
        p = probabilities[None]  # (1, C)
        moved = own.adjust(p, wanted.prevalence) if self.prevalence_changed else p
        abstained = self.model.abstains(task, p, level=level)
        return TaskPrediction(
            predicted=own.predicted(p)[0],
            probability=_rounded(wanted.confidence(moved)[0]),
            entropy=_rounded(wanted.entropy(moved)[0]),
            abstained=None if abstained is None else bool(abstained[0]),
            probabilities=dict(zip(own.classes, map(_rounded, moved[0]), strict=True)),
        )

    def _iter_batches(self) -> Iterator[tuple[list[InputFrame], Predictions]]:
        """Batches of frames with their predictions."""
        frames = iter(self.reader)
        while batch := list(islice(frames, BATCH_SIZE)):
            predictions = self.model.predict_squares(np.stack([frame.pixels for frame in batch]))
            self.n_frames += len(batch)
            self.screening.add(
                [exam_key(frame) for frame in batch],
                [frame.video for frame in batch],
                predictions.with_prevalence(),
                predictions.embeddings,
            )
            for row, frame in enumerate(batch):
                self.video_means.setdefault(frame.video, RunningMean(frame.patient)).add(predictions, row)
                if frame.patient:
                    of_patient = self.patient_means.setdefault(frame.patient, RunningMean(frame.patient))
                    of_patient.add(predictions, row)
            yield batch, predictions

    def _json_header(self) -> dict[str, object]:
        facts = self.model.facts
        return {
            "classes": facts.classes,
            "prevalence": {
                task: dict(zip(output.classes, output.prevalence.tolist(), strict=True))
                for task, output in self.tasks.items()
            },
            "synthetic": facts.synthetic,
            "trained_on": facts.trained_on,
        }


def exam_key(frame: InputFrame) -> ExamKey:
    """The exam of a frame: its patient, or its video where that is not known."""
    return (True, frame.patient) if frame.patient else (False, frame.video)


def _rounded(value: float) -> float:
    return round(float(value), PROBABILITY_DIGITS)
