"""The command `evaluate`: a trained model on another labelled data set."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simclr_rhd.core import file_names, logs
from simclr_rhd.core.device import describe_device, make_deterministic, resolve_device
from simclr_rhd.core.files import cache_folder, write_json, write_rows, write_text
from simclr_rhd.core.records import JsonObject
from simclr_rhd.data.sources.open import open_data
from simclr_rhd.data.summary.tables import write_conflicts, write_rejected
from simclr_rhd.evaluation.results import AuditSummary, NearDuplicates, RunResults, SplitInfo
from simclr_rhd.inference import classifier
from simclr_rhd.inference.classifier import Classifier
from simclr_rhd.inference.external.config import ExternalConfig
from simclr_rhd.inference.external.earlier_evaluations import (
    COMMAND,
    note_evaluation,
    now,
    past_evaluations,
    previous_evaluation,
    refuse_other,
)
from simclr_rhd.inference.external.external_set import wide_table
from simclr_rhd.inference.external.labelled_data import (
    ExternalData,
    check_against_training,
    read_external,
    with_tasks,
)
from simclr_rhd.inference.external.overlap import Overlap, overlap_sentences
from simclr_rhd.inference.external.predictions import external_header, external_rows
from simclr_rhd.inference.external.results import ExternalFacts, ExternalResults, ModelSource
from simclr_rhd.inference.external.scoring import (
    ExternalScores,
    ModelOutputs,
    classify_frames,
    count_foreign,
    score_external,
)
from simclr_rhd.inference.external.training_run import file_hash, own_test_evaluations, own_test_scores
from simclr_rhd.inference.screening import evaluate_tests
from simclr_rhd.report.page.external.card import extend_card
from simclr_rhd.report.page.external.page import draw_panels, draw_pictures, write_external_page
from simclr_rhd.report.page.external.sentences import summary
from simclr_rhd.report.summary import recorded_results
from simclr_rhd.runs.outputs import clear_pictures
from simclr_rhd.runs.record import RunRecord, write_config
from simclr_rhd.runs.run_dir import lock_run_dir

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class Evaluated:
    """A model, the data set that it was evaluated on, and how.

    Attributes:
        model: the model.
        source: of the model.
        data: the data set, without what the model has learnt from.
        overlap: with what the model has learnt from.
        times: of all evaluations of this model on these frames, the last one this.
        own: evaluations of these frames as the test part of the model's own run.
    """

    model: Classifier
    source: ModelSource
    data: ExternalData
    overlap: Overlap
    times: list[str]
    own: int

    def evaluations(self) -> int:
        """Number of evaluations of this model on these frames."""
        return len(self.times) + self.own


def evaluate(config: ExternalConfig, argv: Sequence[str]) -> None:
    """Score a trained model on another labelled data set.

    Args:
        config: of the evaluation.
        argv: the command line, for the record.

    Raises:
        UserError: the model, the data or the output folder do not allow it.
    """
    make_deterministic()
    device, save_dir = resolve_device(config.device), Path(config.save_dir)
    model = classifier.load(config.model)
    config = with_tasks(config, model)
    record = RunRecord(None, command=COMMAND, argv=list(argv), config=vars(config))
    record.update(device=describe_device(device))
    with lock_run_dir(save_dir):
        previous = previous_evaluation(save_dir)
        with record.stage("data"):
            evaluated = read_data(config, model, previous)
        data = evaluated.data
        if previous:
            clear_pictures(save_dir)
        logs.log_to(save_dir)
        record.write_to(save_dir / file_names.RUN_RECORD)
        write_config(save_dir / file_names.CONFIG_FILE, config)
        with record.stage("features"):
            outputs = classify_frames(model, data.store.frames, data.rows, device)
        with record.stage("scores"):
            labelled_set = data.labelled_set(multilabel=bool(model.heads.multilabel))
            scores = score_external(model, labelled_set, outputs.table, seed=config.seed)
            results = collect_results(config, evaluated, scores, outputs)
            write_results(save_dir, evaluated, results, scores, outputs)
        keep_count(config, evaluated, record)
        with record.stage("report"):
            write_report(config, results, scores, outputs, record)
        finished = time.strftime("%Y-%m-%d %H:%M:%S")
        record.update(**recorded_results(results.run), status="finished", finished=finished)
        for line in summary(results, save_dir=config.save_dir).splitlines():
            logger.info(line)


def read_data(config: ExternalConfig, model: Classifier, previous: JsonObject | None) -> Evaluated:
    """Read the data set, and compare it with what the model has learnt from.

    Raises:
        UserError: it cannot be used, or the output folder holds another evaluation.
    """
    source, cache_dir = open_data(config), cache_folder(config.cache_dir)
    folder = cache_dir if previous else Path(config.save_dir)  # the tables there are of an evaluation
    data = read_external(
        source, config, size=model.facts.image_size, rejected_csv=folder / file_names.REJECTED
    )
    data, overlap = check_against_training(data, model, config)
    for line in [*data.sentences(), *overlap_sentences(overlap)]:
        logger.log(logging.WARNING if line.startswith("WARNING") else logging.INFO, line)
    of_model = ModelSource(
        sha256=file_hash(Path(config.model)),
        version=model.facts.version,
        data=str(model.facts.trained_on.get("fingerprint", "unknown")),
        init=str(model.facts.trained_on.get("init", "")),
        screening=[test.question.name for test in model.screening],
        classes=model.facts.classes,
    )
    if previous:
        refuse_other(config, previous, of_model, data)
    past = past_evaluations(cache_dir, of_model.sha256, data.pictures(), previous)
    own = own_test_evaluations(Path(config.model), data.pictures())
    return Evaluated(model, of_model, data, overlap, [*past, now()], own)


def collect_results(
    config: ExternalConfig, evaluated: Evaluated, scores: ExternalScores, outputs: ModelOutputs
) -> ExternalResults:
    """The results of an evaluation, as `metrics.json` holds them."""
    data, model = evaluated.data, evaluated.model
    part = {"frames": len(data.rows), "groups": len(set(data.groups[data.rows].tolist()))}
    run = RunResults(
        synthetic=config.synthetic or model.facts.synthetic,
        split=SplitInfo(data.split_by, False, 1, {"test": part}, "on another data set"),
        tasks=scores.tasks,
        audit=AuditSummary([], NearDuplicates(0, 0, 0.0)),
        screening=evaluate_tests(
            config,
            model.screening,
            scores.labelled_set,
            outputs.table,
            outputs.features,
            seed=config.seed,
        ),
    )
    facts = ExternalFacts(
        model=evaluated.source,
        data=data.fingerprint,
        evaluations=evaluated.evaluations(),
        overlap=evaluated.overlap,
        classes={task: of.comparison for task, of in scores.mapped.items()},
        majority_of=scores.majority_of,
        novelty=count_foreign(outputs.novelty, data.plain(), scores.wide),
        targets=scores.details,
        own_test=own_test_scores(Path(config.model), evaluated.source.data),
        own_evaluations=evaluated.own,
    )
    return ExternalResults(run, facts)


def write_results(
    save_dir: Path,
    evaluated: Evaluated,
    results: ExternalResults,
    scores: ExternalScores,
    outputs: ModelOutputs,
) -> None:
    """Write `metrics.json`, `predictions.csv` and the tables of the data set."""
    write_rejected(evaluated.data.store, save_dir / file_names.REJECTED)
    write_conflicts(evaluated.data.labels, save_dir / file_names.CONFLICTS)
    write_json(save_dir / file_names.METRICS, results.to_json())
    padded = wide_table(outputs.table, scores.labelled_set, scores.wide)
    write_rows(
        save_dir / file_names.PREDICTIONS,
        external_header(scores.labelled_set),
        external_rows(scores.labelled_set, scores.wide, outputs.table, padded),
    )


def keep_count(config: ExternalConfig, evaluated: Evaluated, record: RunRecord) -> None:
    """Record what was evaluated on what, and how many times it was."""
    source, data = evaluated.source, evaluated.data
    note_evaluation(cache_folder(config.cache_dir), source.sha256, data.pictures(), evaluated.times)
    record.update(
        model=source.to_json(),
        data={
            "location": config.data,
            "synthetic": config.synthetic,
            "fingerprint": data.fingerprint,
            "pictures": data.pictures(),
        },
        overlap=evaluated.overlap.to_json(),
        evaluations=evaluated.evaluations(),
        evaluated=evaluated.times,
    )


def write_report(
    config: ExternalConfig,
    results: ExternalResults,
    scores: ExternalScores,
    outputs: ModelOutputs,
    record: RunRecord,
) -> None:
    """Write the pictures, `report.html`, and the model card with a section on this evaluation."""
    save_dir, panels = Path(config.save_dir), None
    if not config.no_figures:
        draw_pictures(save_dir, results.run)
        panels = draw_panels(scores.labelled_set, outputs.table, results)
    write_external_page(save_dir, results, record.facts, panels)
    card = Path(config.model).with_name(file_names.MODEL_CARD)
    if card.is_file():
        text = extend_card(card.read_text(encoding="utf-8", errors="replace"), results, record.facts)
        write_text(save_dir / file_names.MODEL_CARD, text)
    else:
        logger.info("NOTICE no %s lies beside the model, so none is written", file_names.MODEL_CARD)
