"""Contents of a report beside its figures: charts, frames, maps, and where the model looks.

Notation: n labelled frames, m of them on the maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.decoding.image import evenly_spaced
from simclr_rhd.data.labelled_set import LabelledSet, Target
from simclr_rhd.evaluation.curves import roc_and_pr_curves
from simclr_rhd.evaluation.results import RunResults, TargetResult
from simclr_rhd.evaluation.scores.samples import at_level
from simclr_rhd.evaluation.targets import annotated_rows, class_set, target_predictions
from simclr_rhd.heads.model import Heads
from simclr_rhd.report.charts.figures import efficiency_curves
from simclr_rhd.report.charts.panels import (
    Panel,
    head_panel,
    label_efficiency_panels,
    pretraining_panels,
)
from simclr_rhd.report.charts.screening import screening_panels
from simclr_rhd.report.charts.target_panels import target_panels
from simclr_rhd.report.page import embedding_viewer
from simclr_rhd.report.page.embedding_map import MAX_POINTS
from simclr_rhd.report.page.embedding_viewer import ClassMark
from simclr_rhd.report.page.gallery import ExplainedFrame, Explainer, FrameCard, Gallery
from simclr_rhd.report.page.gradcam import Logits, grad_cam
from simclr_rhd.report.page.images import jpeg
from simclr_rhd.report.page.report_frames import ReportFrames
from simclr_rhd.report.page.webpage import data_uri


@dataclass(frozen=True)
class TargetSection:
    """Contents for a target: a task, or one of its lesions.

    Attributes:
        panels: charts.
        classes: {class: frames of it}.
        failures: {"errors", "uncertain": frames}.
        explanations: frames with what speaks for the predicted class, see `gallery.Gallery.explanations`.
        marks: of each class on the maps.
        static_maps: {method: address of its map, coloured by class}.
    """

    panels: list[Panel]
    classes: dict[str, list[FrameCard]]
    failures: dict[str, list[FrameCard]]
    explanations: list[ExplainedFrame]
    marks: list[ClassMark]
    static_maps: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """Contents of `report.html` beside its tables: charts, frames, maps.

    Attributes:
        pretraining: charts.
        views: addresses of a frame and of random views of it.
        heads: {task: chart of its loss}.
        targets: {target's name: what is shown of it}.
        screening: {question: charts}.
        efficiency: charts of the label efficiency.
        identical: the leak audit's pairs that look nearly identical, and how far they are apart.
        pairs: its closest pairs, and their similarities.
        embedding_viewer: the maps, for the page's script.
        mapped: how many of how many labelled frames are on them.
        flow: the chart of the participant flow.
    """

    pretraining: list[Panel]
    views: list[str]
    heads: dict[str, Panel]
    targets: dict[str, TargetSection]
    screening: dict[str, list[Panel]]
    efficiency: list[Panel]
    identical: list[tuple[FrameCard, FrameCard, float]]
    pairs: list[tuple[FrameCard, FrameCard, float]]
    embedding_viewer: dict[str, Any] = field(default_factory=dict)
    mapped: tuple[int, int] = (0, 0)
    flow: list[Panel] = field(default_factory=list)


def mapped_rows(n: int) -> np.ndarray:
    """(m,) which of n labelled frames are on the maps."""
    return np.array(evenly_spaced(n, MAX_POINTS))


def collect_report_data(
    tested: ReportFrames,
    history: Sequence[dict[str, Any]],
    results: RunResults,
    views: tuple[np.ndarray, np.ndarray],
    explainer: Explainer,
) -> ReportData:
    """Everything that a report shows of a run, but the maps.

    Args:
        tested: the frames and their probabilities.
        history: all records of the run's epochs.
        results: of the run.
        views: a frame (s, s, 3) and random views of it (V, s, s, 3), uint8.
        explainer: see `make_explainer`.
    """
    gallery = Gallery(tested.dataset, tested.labelled_set)
    frame, random_views = views
    tasks = list(tested.labelled_set.values)
    epochs = {phase: [row for row in history if row["phase"] == phase] for phase in ("simclr", *tasks)}
    return ReportData(
        pretraining_panels(epochs["simclr"]),
        [jpeg(picture.transpose(2, 0, 1)) for picture in (frame, *random_views)],
        {task: head_panel(epochs[task]) for task in tasks if epochs[task]},
        {
            target.name: _target_section(tested, target, results.targets[target.name], gallery, explainer)
            for target in tested.labelled_set.targets()
        },
        {name: screening_panels(result) for name, result in results.screening.items()},
        label_efficiency_panels(efficiency_curves(results)),
        gallery.pairs(results.audit.near_identical.pairs),
        gallery.pairs(results.audit.closest),
    )


def _target_section(
    tested: ReportFrames, target: Target, result: TargetResult, gallery: Gallery, explainer: Explainer
) -> TargetSection:
    rows = annotated_rows(tested.labelled_set, target, "test")
    rows = rows[np.isin(target.true[rows], target.evaluable())]
    level = result.primary_level or "frame"
    predictions = target_predictions(tested.labelled_set, target, tested.probabilities, rows)
    curves = roc_and_pr_curves(at_level(predictions, level), class_set(target))
    return TargetSection(
        target_panels(result, curves, level=level),
        gallery.classes(target),
        gallery.failures(target, tested.probabilities, rows),
        gallery.explanations(target, tested.probabilities, rows, explainer),
        embedding_viewer.class_marks(len(target.classes)),
    )


def with_maps(
    report_data: ReportData, tested: ReportFrames, maps: Mapping[str, np.ndarray], rows: np.ndarray
) -> ReportData:
    """Return a copy of `report_data` with maps, {method: (m, 2)}, of (m,) rows of the labelled frames."""
    targets = {}
    for target in tested.labelled_set.targets():
        stills = {
            method: data_uri(
                embedding_viewer.static_map(points, target.true[rows], len(target.classes)), "image/png"
            )
            for method, points in maps.items()
        }
        targets[target.name] = replace(report_data.targets[target.name], static_maps=stills)
    return replace(
        report_data,
        targets=targets,
        embedding_viewer=embedding_viewer.embedding_viewer(maps, rows, tested),
        mapped=(len(rows), len(tested.labelled_set.paths)),
    )


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
    frames, rows, test_fold = dataset.store.frames, dataset.labelled(), labelled_set.test_fold()

    def explain(target: Target, at: np.ndarray, classes: np.ndarray) -> np.ndarray:
        heat = np.zeros((len(at), size, size), dtype=np.float32)
        # A lesion has one logit: what speaks for "absent" is what speaks against the lesion.
        outputs = classes if target.lesion is None else np.full_like(classes, target.lesion)
        signs = np.ones(len(classes)) if target.lesion is None else np.where(classes == 1, 1.0, -1.0)
        for fold in np.unique(test_fold[at]):
            here = np.flatnonzero(test_fold[at] == fold)
            logits = Logits(target.task, outputs[here], signs[here])
            heat[here] = grad_cam(encoders[fold], heads[fold], frames[rows[at[here]]], logits, size=size)
        return heat

    return explain
