"""The pictures and the page of a run."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import CHECKLIST, MODEL_CARD, PARTICIPANT_FLOW, REPORT
from simclr_rhd.core.files import write_text
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities
from simclr_rhd.data.summary.flow import DataFlow
from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.heads.cross_validation import FeatureSet
from simclr_rhd.heads.model import Heads
from simclr_rhd.report.card.model_card import model_card
from simclr_rhd.report.charts import figures
from simclr_rhd.report.charts.flow_stages import flow_stages
from simclr_rhd.report.charts.participant_flow import flow_panel, plot_participant_flow
from simclr_rhd.report.checklist.items import RunFacts
from simclr_rhd.report.checklist.page import checklist
from simclr_rhd.report.page import sections
from simclr_rhd.report.page.embedding_map import EmbeddingWorker, MapsMissing
from simclr_rhd.report.page.page import MAX_LISTED_REJECTED, RejectedFiles, write_report_page
from simclr_rhd.report.page.report_frames import ReportFrames
from simclr_rhd.runs.config import RunConfig
from simclr_rhd.runs.context import RunContext
from simclr_rhd.ssl.config import ViewConfig, strengths

logger = logging.getLogger("simclr_rhd")

DRAWING_MAPS_S = 6.0  # seconds that the end of a run takes once it has the maps


@dataclass(frozen=True)
class RunOutcome:
    """Outcome of a run, as far as its pictures show it.

    Attributes:
        labelled_set: the labelled frames.
        encoders: of each fold.
        heads: of each fold.
        predictions: the probabilities of the tested frames.
        history: one record per epoch.
        results: of the run.
    """

    labelled_set: LabelledSet
    encoders: Sequence[nn.Module]
    heads: Sequence[Heads]
    predictions: Probabilities
    history: list[dict[str, Any]]
    results: RunResults


def start_maps(
    encoded: FeatureSet, config: RunConfig, run: RunContext
) -> AbstractContextManager[EmbeddingWorker | None]:
    """Start t-SNE and UMAP in a process beside all else; nothing with --no-figures."""
    if config.no_figures:
        return nullcontext()
    features = encoded.final[sections.mapped_rows(len(encoded.final))]
    return EmbeddingWorker(features, seed=config.seed, rehearsal=run.is_rehearsal)


def draw_run(
    config: ViewConfig, dataset: Dataset, outcome: RunOutcome, maps: EmbeddingWorker, run: RunContext
) -> sections.ReportData:
    """Draw the pictures of a run, the maps last; the contents of its page.

    Raises:
        UserError: in the rehearsal, if the maps fail; a run is complete without them.
    """
    size, results, save_dir = config.size, outcome.results, run.save_dir
    with run.stage("figures"):
        views = figures.sample_views(dataset, size=size, augment_config=strengths(config), seed=config.seed)
        figures.draw_charts(dataset, outcome.history, results, views, save_dir=save_dir)
        stages = flow_stages(DataFlow.from_record(run.record.facts["counts"]["flow"]), results)
        plot_participant_flow(save_dir / PARTICIPANT_FLOW, stages, note=figures.warning_note(results))
    with run.stage("report"):
        explain = sections.make_explainer(
            dataset, outcome.labelled_set, outcome.encoders, outcome.heads, size=size
        )
        tested = ReportFrames(dataset, outcome.labelled_set, outcome.predictions)
        contents = sections.collect_report_data(tested, outcome.history, results, views, explain)
        contents = replace(contents, flow=[flow_panel(stages)])
    with run.stage("maps"):
        try:
            timeout_s = run.limit.left_s() - DRAWING_MAPS_S if run.limit else None
            points, rows = maps.maps(timeout_s), sections.mapped_rows(len(outcome.labelled_set.paths))
        except MapsMissing as error:
            if run.is_rehearsal:
                raise UserError(
                    f"t-SNE and UMAP cannot be computed here: {error}; --no-figures leaves the pictures out"
                ) from None
            logger.warning(
                "WARNING the report has no t-SNE and UMAP maps: %s; the rest is complete",
                error,
            )
            run.record.update(maps_missing=str(error))
            return contents
        run.record.update(maps_missing=None)  # a run that is evaluated again may have lacked them before
        figures.draw_maps(dataset, points, rows, results, save_dir=save_dir)
        return sections.with_maps(contents, tested, points, rows)


def write_report(
    save_dir: Path,
    dataset: Dataset,
    results: RunResults,
    facts: dict[str, Any],
    contents: sections.ReportData | None,
) -> None:
    """Write `report.html`, `model_card.md` and `checklist.md`.

    Args:
        save_dir: the run's folder.
        dataset: the frames.
        results: of the run.
        facts: the content of `run.json`.
        contents: of the page; None without figures.
    """
    names, rejected = dataset.pseudonyms(), dataset.store.rejected
    listed = [(names.file(path), names.redact(reason)) for path, reason in rejected[:MAX_LISTED_REJECTED]]
    left_out = RejectedFiles(listed, len(rejected))
    write_report_page(save_dir / REPORT, results, facts, contents, left_out)
    write_text(save_dir / MODEL_CARD, model_card(results, facts))
    write_text(save_dir / CHECKLIST, checklist(RunFacts(results, facts, figures=contents is not None)))
