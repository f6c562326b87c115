"""Contents of the page of exams, as its template shows them."""

from dataclasses import dataclass

from simclr_rhd.report.page.webpage import ForestRow


@dataclass(frozen=True)
class FramePicture:
    """A frame that decided.

    Attributes:
        image: its address.
        alt_text: what it is, in words.
        name: of its file.
        label: the class, or the lesion, whose probability is high in it.
        probability: of this class.
        foreign: whether it is out of distribution.
    """

    image: str
    alt_text: str
    name: str
    label: str
    probability: float
    foreign: bool


@dataclass(frozen=True)
class HeatMap:
    """A frame, the address of the same with what speaks for its class, and whether anything does."""

    picture: FramePicture
    image: str
    has_heat: bool


@dataclass(frozen=True)
class TaskSection:
    """Contents for one task of an exam.

    Attributes:
        name: of the task.
        predicted: the class, or the lesions.
        basis: its probability, in words.
        acceptance: whether it is accepted, in words.
        rows: a bar for each class.
        caption: of the bars, with what their lines are.
        frames_title: heading of the frames.
        frames: that decided.
        heat_map: of the first of them; None where predictions mean nothing.
    """

    name: str
    predicted: str
    basis: str
    acceptance: str
    rows: list[ForestRow]
    caption: str
    frames_title: str
    frames: list[FramePicture]
    heat_map: HeatMap | None


@dataclass(frozen=True)
class PredictionRow:
    """A row of a table of exams or of videos.

    Attributes:
        name: of the exam or the video.
        n_frames: number of its frames.
        foreign: whether it is out of distribution.
        cells: predicted class, its probability and acceptance, of each task; of an exam also whether each
            screening test sends it on, the probability, and at which threshold.
    """

    name: str
    n_frames: int
    foreign: bool
    cells: list[tuple[str, float, str]]


@dataclass(frozen=True)
class ExamSection:
    """Contents for an exam.

    Attributes:
        summary: its row in the table of all exams.
        n_videos: number of its videos.
        n_foreign: its frames that are out of distribution.
        novelty: the mean of its frames; None where the model cannot tell.
        tasks: what is shown of each.
        videos: rows of the first ones; none of a single video.
        screening: answers of the screening tests, in words.
    """

    summary: PredictionRow
    n_videos: int
    n_foreign: int
    novelty: float | None
    tasks: list[TaskSection]
    videos: list[PredictionRow]
    screening: list[str]
