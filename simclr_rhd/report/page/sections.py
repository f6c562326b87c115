"""What a report shows beside the figures: charts, frames, maps, and what the model looks at.

Notation: n labelled frames, m of them on the maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.vocabulary import TASKS
from simclr_rhd.evaluation import curves
from simclr_rhd.evaluation.results import annotated_rows
from simclr_rhd.heads.model import Heads
from simclr_rhd.report.charts import panels
from simclr_rhd.report.charts.panels import Panel
from simclr_rhd.report.page import embedding_viewer
from simclr_rhd.report.page.embedding_map import MAX_POINTS
from simclr_rhd.report.page.gallery import Explainer, FrameCard, Gallery
from simclr_rhd.report.page.gradcam import grad_cam
from simclr_rhd.report.page.images import jpeg
from simclr_rhd.report.page.webpage import data_uri
from simclr_rhd.report.summary import label_curves, primary_level, target_results


@dataclass(frozen=True)
class TargetSection:
    """What is shown of a question: a task, or one of its lesions.

    Attributes:
        panels: charts.
        classes: {class: frames of it}.
        failures: {"errors", "uncertain": frames}.
        explained: frames with what speaks for the class said, see `gallery.Gallery.explained`.
        marks: of each class on the maps.
        stills: {method: address of its map, coloured by class}.
    """

    panels: list[Panel]
    classes: dict[str, list[FrameCard]]
    failures: dict[str, list[FrameCard]]
    explanations: dict[str, Any] | None
    marks: list[dict[str, Any]]
    static_maps: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """All of it.

    Attributes:
        pretraining: charts.
        views: addresses of a frame and of random views of it.
        heads: {task: chart of its loss}.
        targets: {target's name: what is shown of it}.
        efficiency: charts of what labels are worth.
        identical: the leak audit's pairs that look nearly identical, and how far they are apart.
        pairs: its closest pairs, and their similarities.
        atlas: the maps, for the page's script.
        mapped: how many of how many labelled frames are on them.
    """

    pretraining: list[Panel]
    views: list[str]
    heads: dict[str, Panel]
    targets: dict[str, TargetSection]
    efficiency: list[Panel]
    identical: list[tuple[FrameCard, FrameCard, float]]
    pairs: list[tuple[FrameCard, FrameCard, float]]
    atlas: dict[str, Any] = field(default_factory=dict)
    mapped: tuple[int, int] = (0, 0)


def mapped_rows(n: int) -> np.ndarray:
    """(m,) which of n labelled frames are on the maps."""
    return np.array(evenly_spaced(n, MAX_POINTS))


def collect_report_data(
    dataset: Dataset,
    labelled_set: LabelledSet,
    probabilities: Probabilities,
    history: Sequence[dict[str, Any]],
    metrics: Mapping[str, Any],
    views: tuple[np.ndarray, np.ndarray],
    explainer: Explainer,
) -> ReportData:
    """Everything that a report shows of a run, but the maps.

    Args:
        dataset: the frames.
        labelled_set: the n labelled ones.
        probabilities: the answers of the tested ones, NaN for others.
        history: all records of the run's epochs.
        metrics: the content of `metrics.json`.
        views: a frame (s, s, 3) and random views of it (V, s, s, 3), uint8.
        explainer: see `make_explainer`.
    """
    gallery, of_run, found = Gallery(dataset, labelled_set), dict(target_results(dict(metrics))), {}
    for question in labelled_set.targets():
        result, rows = of_run[question.name], annotated_rows(labelled_set, question, "test")
        rows = rows[np.isin(question.true[rows], question.evaluable())]
        level = primary_level(result) or "frame"
        answers = curves.target_curves(
            question, probabilities, rows, level, groups=labelled_set.groups, videos=labelled_set.videos
        )
        found[question.name] = TargetSection(
            panels.target_panels(result, answers, level=level),
            gallery.classes(question),
            gallery.failures(question, probabilities, rows),
            gallery.explanations(question, probabilities, rows, explainer),
            embedding_viewer.class_marks(len(question.classes)),
        )
    frame, of_it = views
    epochs = {phase: [row for row in history if row["phase"] == phase] for phase in ("simclr", *TASKS)}
    return ReportData(
        panels.pretraining_panels(epochs["simclr"]),
        [jpeg(picture.transpose(2, 0, 1)) for picture in (frame, *of_it)],
        {task: panels.head_panel(epochs[task]) for task in TASKS if epochs[task]},
        found,
        panels.label_efficiency_panels(label_curves(dict(metrics))),
        gallery.pairs(metrics["audit"]["near_identical"]["pairs"]),
        gallery.pairs(metrics["audit"]["closest"]),
    )


def with_maps(
    report_data: ReportData,
    dataset: Dataset,
    labelled_set: LabelledSet,
    probabilities: Probabilities,
    maps: Mapping[str, np.ndarray],
    rows: np.ndarray,
) -> ReportData:
    """The same with the maps, {method: (m, 2)}, of (m,) rows of the labelled frames."""
    questions = {}
    for question in labelled_set.targets():
        stills = {
            method: data_uri(
                embedding_viewer.static_map(points, question.true[rows], len(question.classes)), "image/png"
            )
            for method, points in maps.items()
        }
        questions[question.name] = replace(report_data.targets[question.name], static_maps=stills)
    found = embedding_viewer.embedding_viewer(
        maps,
        rows,
        labelled_set,
        probabilities,
        dataset.display_part()[dataset.labelled()],
        frames=dataset.store.frames,
        rows=dataset.labelled(),
        names=dataset.pseudonyms(),
    )
    return replace(report_data, targets=questions, atlas=found, mapped=(len(rows), len(labelled_set.paths)))


def make_explainer(
    dataset: Dataset,
    labelled_set: LabelledSet,
    encoders: Sequence[nn.Module],
    heads: Sequence[Heads],
    *,
    size: int,
) -> Explainer:
    """Grad-CAM of tested frames, each by the encoder and the heads that it was tested with.

    Args:
        dataset: the frames.
        labelled_set: the labelled ones.
        encoders: of each fold.
        heads: of each fold.
        size: pixels of a view's side.
    """
    frames, rows, tested_by = dataset.store.frames, dataset.labelled(), labelled_set.test_fold()

    def explain(question: Target, at: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, int]:
        heat, fields = np.zeros((len(at), size, size), dtype=np.float32), 0
        # An answer on a lesion is one number: what speaks for "absent" is what speaks against the lesion.
        outputs = classes if question.lesion is None else np.full_like(classes, question.lesion)
        signs = np.ones(len(classes)) if question.lesion is None else np.where(classes == 1, 1.0, -1.0)
        for fold in np.unique(tested_by[at]):
            here = np.flatnonzero(tested_by[at] == fold)
            heat[here], fields = grad_cam(
                encoders[fold],
                heads[fold],
                frames[rows[at[here]]],
                question.task,
                outputs[here],
                signs[here],
                size=size,
            )
        return heat, fields

    return explain
