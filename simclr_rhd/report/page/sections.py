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
from simclr_rhd.data.labels.labels import TASKS
from simclr_rhd.evaluation import curves
from simclr_rhd.evaluation.results import annotated_rows
from simclr_rhd.report.charts import panels
from simclr_rhd.report.charts.panels import Panel
from simclr_rhd.report.page import atlas
from simclr_rhd.report.page.embedding_map import MOST
from simclr_rhd.report.page.gallery import Explain, Gallery, Shot
from simclr_rhd.report.page.gradcam import grad_cam
from simclr_rhd.report.page.images import jpeg
from simclr_rhd.report.page.webpage import data_uri
from simclr_rhd.report.summary import judged, label_curves, results
from simclr_rhd.ssl.model import Heads


@dataclass(frozen=True)
class OfQuestion:
    """What is shown of a question: a task, or one of its lesions.

    Attributes:
        panels: charts.
        classes: {class: frames of it}.
        failures: {"errors", "doubts": frames}.
        explained: frames with what speaks for the class said, see `gallery.Gallery.explained`.
        marks: of each class on the maps.
        stills: {method: address of its map, coloured by class}.
    """

    panels: list[Panel]
    classes: dict[str, list[Shot]]
    failures: dict[str, list[Shot]]
    explained: dict[str, Any] | None
    marks: list[dict[str, Any]]
    stills: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """All of it.

    Attributes:
        pretraining: charts.
        views: addresses of a frame and of random views of it.
        heads: {task: chart of its loss}.
        questions: {question's name: what is shown of it}.
        efficiency: charts of what labels are worth.
        identical: the leak audit's pairs that look nearly identical, and how far they are apart.
        pairs: its closest pairs, and their similarities.
        atlas: the maps, for the page's script.
        mapped: how many of how many labelled frames are on them.
    """

    pretraining: list[Panel]
    views: list[str]
    heads: dict[str, Panel]
    questions: dict[str, OfQuestion]
    efficiency: list[Panel]
    identical: list[tuple[Shot, Shot, float]]
    pairs: list[tuple[Shot, Shot, float]]
    atlas: dict[str, Any] = field(default_factory=dict)
    mapped: tuple[int, int] = (0, 0)


def on_maps(n: int) -> np.ndarray:
    """(m,) which of n labelled frames are on the maps."""
    return np.array(evenly_spaced(n, MOST))


def gather(
    dataset: Dataset,
    cohort: LabelledSet,
    table: Probabilities,
    history: Sequence[dict[str, Any]],
    metrics: Mapping[str, Any],
    views: tuple[np.ndarray, np.ndarray],
    explain: Explain,
) -> Contents:
    """Everything that a report shows of a run, but the maps.

    Args:
        dataset: the frames.
        cohort: the n labelled ones.
        table: the answers of the tested ones, NaN for others.
        history: all records of the run's epochs.
        metrics: the content of `metrics.json`.
        views: a frame (s, s, 3) and random views of it (V, s, s, 3), uint8.
        explain: see `explainer`.
    """
    gallery, of_run, found = Gallery(dataset, cohort), dict(results(dict(metrics))), {}
    for question in cohort.targets():
        result, rows = of_run[question.name], annotated_rows(cohort, question, "test")
        rows = rows[np.isin(question.true[rows], question.evaluable())]
        level = judged(result) or "frame"
        answers = curves.target_curves(
            question, table, rows, level, groups=cohort.groups, videos=cohort.videos
        )
        found[question.name] = OfQuestion(
            panels.of_answers(result, answers, level=level),
            gallery.classes(question),
            gallery.failures(question, table, rows),
            gallery.explained(question, table, rows, explain),
            atlas.marks(len(question.classes)),
        )
    frame, of_it = views
    epochs = {phase: [row for row in history if row["phase"] == phase] for phase in ("simclr", *TASKS)}
    return Contents(
        panels.of_pretraining(epochs["simclr"]),
        [jpeg(picture.transpose(2, 0, 1)) for picture in (frame, *of_it)],
        {task: panels.of_head(epochs[task]) for task in TASKS if epochs[task]},
        found,
        panels.efficiency(label_curves(dict(metrics))),
        gallery.pairs(metrics["audit"]["near_identical"]["pairs"]),
        gallery.pairs(metrics["audit"]["closest"]),
    )


def with_maps(
    shown: Contents,
    dataset: Dataset,
    cohort: LabelledSet,
    table: Probabilities,
    maps: Mapping[str, np.ndarray],
    rows: np.ndarray,
) -> Contents:
    """The same with the maps, {method: (m, 2)}, of (m,) rows of the labelled frames."""
    questions = {}
    for question in cohort.targets():
        stills = {
            method: data_uri(atlas.still(points, question.true[rows], len(question.classes)), "image/png")
            for method, points in maps.items()
        }
        questions[question.name] = replace(shown.questions[question.name], stills=stills)
    found = atlas.atlas(
        maps,
        rows,
        cohort,
        table,
        dataset.display_part()[dataset.labelled()],
        frames=dataset.store.frames,
        rows=dataset.labelled(),
        names=dataset.pseudonyms(),
    )
    return replace(shown, questions=questions, atlas=found, mapped=(len(rows), len(cohort.paths)))


def explainer(
    dataset: Dataset, cohort: LabelledSet, encoders: Sequence[nn.Module], heads: Sequence[Heads], *, size: int
) -> Explain:
    """Grad-CAM of tested frames, each by the encoder and the heads that it was tested with.

    Args:
        dataset: the frames.
        cohort: the labelled ones.
        encoders: of each fold.
        heads: of each fold.
        size: pixels of a view's side.
    """
    frames, rows, tested_by = dataset.store.frames, dataset.labelled(), cohort.test_fold()

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
