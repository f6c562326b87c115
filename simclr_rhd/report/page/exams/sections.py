"""Sections of the page of exams: bars, frames and heat maps of each patient."""

import os
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from simclr_rhd.data.labels.vocabulary import LESION_SEPARATOR, NO_LESION
from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.inference.prediction.exams import (
    FRAMES,
    VIDEOS,
    DecidingFrame,
    Exam,
    ExamTask,
    ExamVideo,
)
from simclr_rhd.inference.prediction.predict_files import PredictionRun
from simclr_rhd.inference.prediction.predictions_table import Prediction
from simclr_rhd.inference.screening import ScreeningPrediction
from simclr_rhd.report.page.exams.contents import (
    ExamSection,
    FramePicture,
    HeatMap,
    PredictionRow,
    TaskSection,
)
from simclr_rhd.report.page.exams.sentences import screening_sentence
from simclr_rhd.report.page.gradcam import Logits, grad_cam
from simclr_rhd.report.page.images import jpeg, overlay_heatmap
from simclr_rhd.report.page.webpage import ForestRow
from simclr_rhd.report.wording import format_count, format_score

MAX_CLASSES, MAX_VIDEOS = 12, 30  # of an exam that are shown; all are in the tables
ACCEPTANCE = {
    True: "not accepted: not sure enough",
    False: "accepted: sure enough",
    None: "no limit known: the model has none for this task",
}
FOREIGN = "not to be believed: unlike the training frames"


def make_sections(exams: Sequence[Exam], run: PredictionRun) -> list[ExamSection]:
    """The sections of some exams of a run, in their order."""
    builder = _SectionBuilder(run, _Names(video.name for exam in exams for video in exam.videos))
    return [builder.exam(exam) for exam in exams]


class _Names:
    """Names of files without the folders that all have; the page may be sent on.

    Args:
        videos: all that are shown.
    """

    def __init__(self, videos: Iterable[str]) -> None:
        parents = [PurePosixPath(name).parent.parts for name in videos]
        self.n_shared = len(os.path.commonprefix(parents))

    def __call__(self, name: str) -> str:
        return "/".join(PurePosixPath(name).parts[self.n_shared :]) or name


class _SectionBuilder:
    """Makes sections of exams.

    Args:
        run: that is over.
        names: of files, as they are shown.
    """

    def __init__(self, run: PredictionRun, names: _Names) -> None:
        self.run, self.names = run, names

    def exam(self, exam: Exam) -> ExamSection:
        """The section of an exam."""
        title = f"Patient {exam.name}" if exam.is_patient else f"Video {self.names(exam.name)}"
        sentences = list(map(screening_sentence, exam.screening))
        videos = exam.videos[:MAX_VIDEOS] if len(exam.videos) > 1 else []
        return ExamSection(
            summary=_row(title, exam, [_screening_cell(exam, of) for of in exam.screening]),
            n_videos=len(exam.videos),
            n_foreign=exam.n_ood,
            novelty=None if np.isnan(exam.prediction.novelty) else exam.prediction.novelty,
            tasks=[self._task(exam, name, of_task) for name, of_task in exam.tasks.items()],
            videos=[_row(self.names(video.name), video) for video in videos],
            screening=[] if exam.prediction.out_of_distribution else sentences,
        )

    def _task(self, exam: Exam, name: str, of_task: ExamTask) -> TaskSection:
        prediction, pictures = of_task.prediction, [self._picture(frame) for frame in of_task.frames]
        foreign = exam.prediction.out_of_distribution
        basis = "Probability of the least sure lesion" if self.run.tasks[name].multilabel else "Probability"
        nothing_predicted = prediction.predicted == NO_LESION
        return TaskSection(
            name=name,
            predicted=prediction.predicted,
            basis=f"{basis} {format_score(prediction.probability)}",
            acceptance=_acceptance(exam.prediction, name),
            rows=self._bars(name, of_task),
            caption=_caption(exam),
            frames_title="Frames nearest to a lesion" if nothing_predicted else "Frames that decided",
            frames=pictures,
            heat_map=None if foreign else self._heat_map(name, of_task.frames[0], pictures[0]),
        )

    def _bars(self, task: str, of_task: ExamTask) -> list[ForestRow]:
        """A bar for each class in its order; of many, those of the largest probabilities."""
        output, prediction = self.run.tasks[task], of_task.prediction
        p, predicted = prediction.probabilities, [prediction.predicted]
        if output.multilabel:
            predicted = prediction.predicted.split(LESION_SEPARATOR)
        shown = [*sorted(p, key=lambda name: -p[name])[:MAX_CLASSES], *predicted]
        return [
            ForestRow(
                name,
                Score(p[name], *of_task.spread.get(name, (None, None))),
                ours=name in predicted,
                note=f"{p[name] / share:.1f} times its prevalence, {share:.2g}",
            )
            for name, share in zip(output.classes, output.prevalence.tolist(), strict=True)
            if name in shown
        ]

    def _picture(self, frame: DecidingFrame) -> FramePicture:
        name = self.names(frame.frame.path)
        return FramePicture(
            jpeg(frame.frame.pixels()),
            f"Frame {name}: {frame.name}, probability {frame.probability:.2f}",
            name,
            frame.name,
            frame.probability,
            frame.frame.prediction.out_of_distribution,
        )

    def _heat_map(self, task: str, frame: DecidingFrame, picture: FramePicture) -> HeatMap:
        """Grad-CAM of a frame for the class that it decided."""
        pixels, net = frame.frame.pixels(), self.run.model.net
        logits = Logits(task, np.array([frame.index]), np.ones(1))
        (heat,) = grad_cam(net.encoder, net.heads, pixels[None], logits, size=net.facts.image_size)
        return HeatMap(picture, overlay_heatmap(pixels, heat), bool(heat.any()))


def _screening_cell(exam: Exam, prediction: ScreeningPrediction) -> tuple[str, float, str]:
    """Decision on an exam at the first threshold."""
    if exam.prediction.out_of_distribution:
        return "-", prediction.probability, FOREIGN
    for goal, is_sent_on in prediction.sent_on.items():
        return "sent on" if is_sent_on else "not sent on", prediction.probability, f"threshold for {goal}"
    return "-", prediction.probability, "no threshold"


def _row(name: str, of: Exam | ExamVideo, more: Iterable[tuple[str, float, str]] = ()) -> PredictionRow:
    cells = [
        (of_task.predicted, of_task.probability, _acceptance(of.prediction, task))
        for task, of_task in of.prediction.tasks.items()
    ]
    return PredictionRow(name, of.n_frames, of.prediction.out_of_distribution, [*cells, *more])


def _acceptance(prediction: Prediction, task: str) -> str:
    """Acceptance of a prediction in words; never of what is unlike the training frames, however sure."""
    return FOREIGN if prediction.out_of_distribution else ACCEPTANCE[prediction.tasks[task].abstained]


def _caption(exam: Exam) -> str:
    """Caption of the bars."""
    spread = "One frame, so no spread"
    if exam.spread_over == VIDEOS:
        spread = f"Line: the lowest to the highest mean of its {len(exam.videos)} videos"
    elif exam.spread_over == FRAMES:
        spread = f"Line: the middle 80 % of its {exam.n_frames} frames"
    return f"Probability of each class, the mean of {format_count(exam.n_frames, 'frame')}. {spread}."
