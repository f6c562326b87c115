"""Exams for a reader: each patient's probabilities, their spread, and the frames that decided.

They are gathered while the frames stream through. Of each exam only its few best frames stay in memory, as
JPEG of some 10 kB, and the probabilities of the frames of its first video until there is a second one.
"""

import io
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

import numpy as np
from PIL import Image

from simclr_rhd.data.labels.vocabulary import LESION_SEPARATOR, NO_LESION
from simclr_rhd.inference.prediction.frame_reader import InputFrame
from simclr_rhd.inference.prediction.predict_files import PredictionRun, exam_key
from simclr_rhd.inference.prediction.predictions_table import Prediction, TaskPrediction
from simclr_rhd.inference.screening import ExamKey, ScreeningPrediction

MAX_EXAMS = 200  # the first ones; others are in the tables only
MAX_FRAMES = 3  # frames that decided, of each task
FRAME_RANGE = (0.1, 0.9)  # quantiles over the frames of a single video
JPEG_QUALITY = 90
VIDEOS, FRAMES, UNKNOWN = "videos", "frames", ""  # what a spread is over


@dataclass(frozen=True)
class ExamFrame:
    """A frame of an exam.

    Attributes:
        path: its name.
        jpeg: its pixels, compressed so that a reader sees no difference.
        prediction: of this frame alone.
    """

    path: str
    jpeg: bytes
    prediction: Prediction

    def pixels(self) -> np.ndarray:
        """(3, S, S) uint8."""
        picture = Image.open(io.BytesIO(self.jpeg), formats=["JPEG"]).convert("RGB")
        return np.array(picture).transpose(2, 0, 1)


@dataclass(frozen=True)
class DecidingFrame:
    """One of the frames with the highest probability of a class, or of a lesion; `index` is its number."""

    frame: ExamFrame
    name: str
    index: int
    probability: float


@dataclass(frozen=True)
class ExamTask:
    """Prediction of one task for an exam.

    Attributes:
        prediction: of the mean over all frames.
        spread: {class: (low, high)}; see `Exam.spread_over`.
        frames: with the highest probability of the predicted class, of several lesions in turn; where no
            lesion is predicted, of the lesion that is nearest to being.
    """

    prediction: TaskPrediction
    spread: dict[str, tuple[float, float]]
    frames: list[DecidingFrame]


@dataclass(frozen=True)
class ExamVideo:
    """A video of an exam, with its prediction."""

    name: str
    n_frames: int
    prediction: Prediction


@dataclass(frozen=True)
class Exam:
    """All that is known of a patient, or of a video whose patient is not known.

    Attributes:
        name: of the patient or of the video, as in the tables.
        is_patient: whether it is a patient.
        n_frames: their number.
        n_ood: those of them that are out of distribution.
        prediction: of the mean over all frames.
        tasks: {task: its prediction, spread and frames}.
        videos: in the order in which they were read.
        spread_over: VIDEOS: the lowest and the highest of the videos' means; FRAMES: the range of the middle
            80 % of the frames of a single video; UNKNOWN for a single frame.
        screening: the prediction of each screening test.
    """

    name: str
    is_patient: bool
    n_frames: int
    n_ood: int
    prediction: Prediction
    tasks: dict[str, ExamTask]
    videos: list[ExamVideo]
    spread_over: str
    screening: Sequence[ScreeningPrediction]


@dataclass
class _Gathered:
    """An exam so far: its best frames of each class, and the probabilities of the frames of one video."""

    videos: dict[str, None] = field(default_factory=dict)
    n: int = 0
    frames: dict[int, ExamFrame] = field(default_factory=dict)
    best: dict[tuple[str, str], list[tuple[float, int, str]]] = field(default_factory=dict)
    probabilities: dict[str, "array[float]"] = field(default_factory=dict)

    def add(self, frame: InputFrame, prediction: Prediction) -> None:
        """Take in one more frame."""
        self.videos[frame.video] = None
        for task, of_task in prediction.tasks.items():
            if len(self.videos) == 1:
                self.probabilities.setdefault(task, array("f")).extend(of_task.probabilities.values())
            for name, p in of_task.probabilities.items():
                candidates = [*self.best.get((task, name), ()), (p, self.n, frame.video)]
                self.best[task, name] = _best(candidates)
        if len(self.videos) > 1:
            self.probabilities.clear()
        needed = {number for best in self.best.values() for _, number, _ in best}
        if self.n in needed:
            self.frames[self.n] = ExamFrame(frame.path, _jpeg(frame.pixels), prediction)
        for number in self.frames.keys() - needed:
            del self.frames[number]
        self.n += 1


class ExamCollector:
    """Gathers exams from frames in any order.

    Args:
        max_exams: the first ones that are gathered; None for MAX_EXAMS.
    """

    def __init__(self, max_exams: int | None = None) -> None:
        self.max_exams = MAX_EXAMS if max_exams is None else max_exams
        self._gathered: dict[ExamKey, _Gathered] = {}
        self._left_out = set[ExamKey]()

    @property
    def n_left_out(self) -> int:
        """Exams beyond the first ones."""
        return len(self._left_out)

    def add(self, frame: InputFrame, prediction: Prediction) -> None:
        """Take in one more frame with its prediction."""
        key = exam_key(frame)
        if key not in self._gathered and len(self._gathered) >= self.max_exams:
            self._left_out.add(key)
            return
        self._gathered.setdefault(key, _Gathered()).add(frame, prediction)

    def exams(self, run: PredictionRun) -> list[Exam]:
        """The exams, once the run that gave the frames is over."""
        predictions = run.screening.predictions()
        return [_exam(run, key, gathered, predictions[key]) for key, gathered in self._gathered.items()]


def _best(candidates: list[tuple[float, int, str]]) -> list[tuple[float, int, str]]:
    """The best of some (probability, number of the frame, video): one a video where there are several."""
    by_probability = sorted(candidates, key=lambda candidate: (-candidate[0], candidate[1]))
    of_video: dict[str, tuple[float, int, str]] = {}
    for candidate in by_probability:
        of_video.setdefault(candidate[2], candidate)
    return (list(of_video.values()) if len(of_video) > 1 else by_probability)[:MAX_FRAMES]


def _jpeg(pixels: np.ndarray) -> bytes:
    """Compress a (3, S, S) uint8 frame, a grey one as grey."""
    grey = bool((pixels == pixels[:1]).all())
    picture = Image.fromarray(pixels[0] if grey else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def _exam(
    run: PredictionRun, key: ExamKey, gathered: _Gathered, screening: Sequence[ScreeningPrediction]
) -> Exam:
    is_patient, name = key
    mean = (run.patient_means if is_patient else run.video_means)[name]
    prediction = run.predict_mean(mean)
    means = {video: run.video_means[video] for video in gathered.videos}
    videos = [ExamVideo(video, of.n, run.predict_mean(of)) for video, of in means.items()]
    tasks = {}
    for task, of_task in prediction.tasks.items():
        chosen = _chosen_classes(run, task, of_task)
        tasks[task] = ExamTask(of_task, _spread(task, gathered, videos), _deciding(task, chosen, gathered))
    spread_over = VIDEOS if len(videos) > 1 else FRAMES if gathered.n > 1 else UNKNOWN
    return Exam(name, is_patient, mean.n, mean.ood, prediction, tasks, videos, spread_over, screening)


def _spread(task: str, gathered: _Gathered, videos: Sequence[ExamVideo]) -> dict[str, tuple[float, float]]:
    """{class: (low, high)} over several videos, or over the frames of one; none of a single frame."""
    names = list(videos[0].prediction.tasks[task].probabilities)
    if len(videos) > 1:
        of_video = [list(video.prediction.tasks[task].probabilities.values()) for video in videos]
        low, high = np.min(of_video, axis=0), np.max(of_video, axis=0)
    elif gathered.n > 1:
        of_frame = np.array(gathered.probabilities[task]).reshape(-1, len(names))
        low, high = np.quantile(of_frame, FRAME_RANGE, axis=0)
    else:
        return {}
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}


def _chosen_classes(run: PredictionRun, task: str, prediction: TaskPrediction) -> Mapping[str, int]:
    """{class whose frames decided: its number}: the predicted one, or lesions."""
    output, p = run.tasks[task], prediction.probabilities
    if not output.multilabel:
        names = [prediction.predicted]
    elif prediction.predicted != NO_LESION:
        names = prediction.predicted.split(LESION_SEPARATOR)
    else:
        ratios = np.array([p[name] for name in output.classes]) / output.prevalence
        names = [output.classes[int(ratios.argmax())]]
    return {name: output.classes.index(name) for name in names}


def _deciding(task: str, chosen: Mapping[str, int], gathered: _Gathered) -> list[DecidingFrame]:
    """The first frame of each class, then the second of each, and so on."""
    by_class = [
        [DecidingFrame(gathered.frames[number], name, index, p) for p, number, _ in gathered.best[task, name]]
        for name, index in chosen.items()
    ]
    in_turn = chain.from_iterable(zip_longest(*by_class))
    return [frame for frame in in_turn if frame is not None][:MAX_FRAMES]
