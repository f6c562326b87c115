"""The page and the pictures of an evaluation on another data set."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from simclr_rhd.core.file_names import CONFUSION_MATRIX, REPORT
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.pseudonyms import redact_paths
from simclr_rhd.data.labels.vocabulary import parent_task
from simclr_rhd.evaluation.curves import roc_and_pr_curves
from simclr_rhd.evaluation.results import LEVELS, RunResults, TargetResult, TaskResult
from simclr_rhd.evaluation.scores.records import AVERAGE_METRICS, Score
from simclr_rhd.evaluation.scores.samples import at_level
from simclr_rhd.evaluation.targets import annotated_rows, class_set, target_predictions
from simclr_rhd.inference.external.overlap import overlap_sentences
from simclr_rhd.inference.external.results import ExternalDetails, ExternalResults
from simclr_rhd.report.charts.confusion import plot_confusion, plot_lesions
from simclr_rhd.report.charts.figures import draw_screening, warning_note
from simclr_rhd.report.charts.panels import Panel
from simclr_rhd.report.charts.screening import screening_panels
from simclr_rhd.report.charts.target_panels import reliability_panel, target_panels
from simclr_rhd.report.page.external.sentences import (
    calibration_sentence,
    class_sentences,
    count_sentence,
    limits,
    novelty_sentence,
    undecided_sentences,
    warnings,
)
from simclr_rhd.report.page.external.verdict import verdict
from simclr_rhd.report.page.page import confusion_table, recall_rows, record_sections
from simclr_rhd.report.page.webpage import ForestRow, write_page
from simclr_rhd.report.screening import PAGE_TEXTS
from simclr_rhd.report.summary import scored_levels, verdicts
from simclr_rhd.report.wording import format_count, format_difference, group_by_text, method_name

Panels = dict[str, list[Panel]]  # by target


def draw_pictures(save_dir: Path, results: RunResults) -> None:
    """Draw the confusion matrix of each task, and the screening panels."""
    draw_screening(save_dir, results)
    note = warning_note(results)
    for task, result in results.tasks.items():
        if result.skipped is None:
            _draw_confusion(save_dir / CONFUSION_MATRIX.format(task), task, result, note)


def _draw_confusion(path: Path, task: str, result: TaskResult, note: str) -> None:
    missing = [row["class"] for row in result.not_evaluable]
    confusions = {name: of.test["frame"].confusion for name, of in result.targets.items()}
    tested = "frames of another data set"
    if result.multilabel:
        plot_lesions(path, dict(confusions), level=tested, not_evaluable=missing, note=note)
    else:
        title = f"{task.capitalize()}: confusion matrix, {tested}"
        plot_confusion(path, title, confusions[""], result.classes, not_evaluable=missing, note=note)


def draw_panels(labelled_set: LabelledSet, table: Probabilities, results: ExternalResults) -> Panels:
    """Charts of each target that was scored: curves, abstention, and reliability before and after.

    Args:
        labelled_set: the frames, with the model's classes.
        table: the model's probabilities.
        results: of the evaluation.
    """
    return {
        target.name: _target_panels(labelled_set, target, table, results.run.targets[target.name])
        for target in labelled_set.targets()
        if target.name in results.scored()
    }


def _target_panels(
    labelled_set: LabelledSet, target: Target, table: Probabilities, result: TargetResult
) -> list[Panel]:
    level = result.primary_level or "frame"
    rows = annotated_rows(labelled_set, target, "test")
    samples = at_level(target_predictions(labelled_set, target, table, rows), level)
    curves = roc_and_pr_curves(samples.of_classes(target.evaluable()), class_set(target))
    panels = target_panels(replace(result, calibration=None), curves, level=level)
    if calibration := result.calibration:
        panels.append(reliability_panel("the model as it is", calibration.before))
        panels.append(reliability_panel("recalibrated on other groups of this data set", calibration.after))
    return panels


def write_external_page(
    save_dir: Path, results: ExternalResults, run: Mapping[str, Any], panels: Panels | None
) -> None:
    """Write `report.html`; no patient is named, and no file.

    Args:
        save_dir: its folder.
        results: of the evaluation.
        run: the content of `run.json`.
        panels: charts; None to leave them out.
    """
    targets = results.run.targets
    write_page(
        save_dir / REPORT,
        "external.html",
        metrics=results.run,
        external=results.external,
        run=record_sections(redact_paths(run, run["config"])),
        panels=panels or {},
        alarms=warnings(results),
        verdict=verdict(results),
        verdicts=verdicts(results.run),
        limits=limits(results),
        overlap=[line.removeprefix("WARNING ") for line in overlap_sentences(results.external.overlap)],
        novelty=novelty_sentence(results),
        undecided=list(undecided_sentences(results)),
        evaluations=count_sentence(results),
        targets=targets,
        targets_by_task={
            task: [name for name in targets if parent_task(name) == task] for task in results.run.tasks
        },
        levels=LEVELS,
        averages=AVERAGE_METRICS,
        name=save_dir.resolve().name,
        written=time.strftime("%Y-%m-%d"),
        screening_panels={
            name: screening_panels(result) if panels is not None else []
            for name, result in results.run.screening.items()
        },
        screening_texts=PAGE_TEXTS,
        rows={name: comparison_rows(results, name, result) for name, result in targets.items()},
        calibration_sentence=calibration_sentence,
        class_sentences=class_sentences,
        scored_levels=scored_levels,
        method_name=method_name,
        recall_rows=recall_rows,
        confusion_table=confusion_table,
        format_count=format_count,
        group_by_text=group_by_text,
    )


def comparison_rows(results: ExternalResults, name: str, result: TargetResult) -> list[ForestRow]:
    """Rows of balanced accuracy: the model as it is, what else it scores, and what it must beat."""
    level, details = result.primary_level, results.external.targets[name]
    if not level:
        return []
    rows = [ForestRow("the model as it is", result.test[level]["balanced_accuracy"], ours=True)]
    rows += _other_rows(details, level)
    home = results.external.own_test.get(name, {}).get(level)
    if home is not None:
        rows.append(ForestRow("the model in the test part of its own run", Score(home)))
    for baseline, margin in result.margins.items():
        score = Score(result.baseline_score(baseline, level).value)
        note = f"the model minus it: {format_difference(margin[level])}"
        rows.append(ForestRow(f"{method_name(baseline)} of the training", score, note=note))
    return rows


def _other_rows(details: ExternalDetails, level: str) -> list[ForestRow]:
    named: Mapping[str, Any] = {
        "recalibrated on other groups of this data set": details.recalibrated,
        "classes that it does not know counted as wrong": details.unknown_as_wrong,
    }
    return [
        ForestRow(text, levels[level]["balanced_accuracy"], ours=True)
        for text, levels in named.items()
        if levels
    ]
