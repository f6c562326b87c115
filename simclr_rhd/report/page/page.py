"""`report.html`: all that a run found on one page, in one file."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simclr_rhd.data.labels.pseudonyms import redact_paths
from simclr_rhd.data.labels.vocabulary import parent_task
from simclr_rhd.evaluation.checks.leakage import NEAR_DUPLICATES_WARNING
from simclr_rhd.evaluation.results import LEVELS, RunResults, TargetResult
from simclr_rhd.evaluation.scores.records import AVERAGE_METRICS, Score
from simclr_rhd.report.charts.style import short_names
from simclr_rhd.report.charts.target_panels import MIN_CLASS_SAMPLES
from simclr_rhd.report.findings import data_warnings, shortcut_warnings
from simclr_rhd.report.page.sections import ReportData
from simclr_rhd.report.page.webpage import ForestRow, write_page
from simclr_rhd.report.screening import PAGE_TEXTS
from simclr_rhd.report.summary import limitations, scored_levels, verdicts
from simclr_rhd.report.verdict import verdict
from simclr_rhd.report.wording import (
    READERS_CEILING,
    describe_readers,
    format_count,
    format_difference,
    group_by_text,
    method_name,
)

MAX_LISTED_REJECTED = 50  # files that are listed
# Keys of run.json that are known once this is written
KEYS_WRITTEN_LATER = ("signature", "summary", "status", "finished", "figures")


@dataclass(frozen=True)
class RejectedFiles:
    """Files that could not be used: names, without patients' identifiers, and reasons of the first of `n`."""

    listed: Sequence[tuple[str, str]] = ()
    n: int = 0


def write_report_page(
    path: Path,
    results: RunResults,
    run: dict[str, Any],
    shown: ReportData | None = None,
    rejected: RejectedFiles = RejectedFiles(),
) -> None:
    """Write one self-contained page: nothing is fetched; all names are escaped.

    No patient is named, and no folder outside the data.

    Args:
        path: the file to write.
        results: of the run.
        run: the content of `run.json`.
        shown: charts, frames and maps; None to leave them out.
        rejected: the files left out.
    """
    targets = results.targets
    write_page(
        path,
        "report.html",
        script="report.js" if shown else "",
        metrics=results,
        run=record_sections(redact_paths(run, run["config"])),
        shown=shown,
        embedding_viewer=_script_data(shown) if shown and shown.embedding_viewer else None,
        rejected=rejected.listed,
        n_rejected=rejected.n,
        alarms=[*data_warnings(results), *shortcut_warnings(results)],
        verdict=verdict(results),
        verdicts=verdicts(results),
        limitations=limitations(results),
        targets=targets,
        targets_by_task={
            task: [name for name in targets if parent_task(name) == task] for task in results.tasks
        },
        levels=LEVELS,
        near_duplicates_warning=NEAR_DUPLICATES_WARNING,
        averages=AVERAGE_METRICS,
        name=path.resolve().parent.name,
        written=time.strftime("%Y-%m-%d"),
        most_frequent_mistake=most_frequent_mistake,
        count_errors=count_errors,
        group_by_text=group_by_text,
        scored_levels=scored_levels,
        method_name=method_name,
        comparison_rows=comparison_rows,
        recall_rows=recall_rows,
        confusion_table=confusion_table,
        format_count=format_count,
        describe_readers=describe_readers,
        readers_ceiling=READERS_CEILING,
        screening_panels=shown.screening if shown else {},
        screening_texts=PAGE_TEXTS,
    )


def _script_data(report_data: ReportData) -> dict[str, Any]:
    """The maps and their marks for the page's script; the sheet of thumbnails is an image of the page."""
    sheet = {name: value for name, value in report_data.embedding_viewer["sheet"].items() if name != "image"}
    marks = {name: [vars(mark) for mark in of.marks] for name, of in report_data.targets.items()}
    return report_data.embedding_viewer | {"sheet": sheet, "marks": marks}


def record_sections(run: dict[str, Any]) -> dict[str, Any]:
    """The run's record, as it is shown: records by their names, all else together."""
    facts: dict[str, Any] = {"run": {}}
    for name, value in run.items():
        if name in KEYS_WRITTEN_LATER:
            continue
        if isinstance(value, Mapping):
            facts[name] = value
        else:
            facts["run"][name] = value
    return facts


def comparison_rows(result: TargetResult, level: str) -> list[ForestRow]:
    """Rows of balanced accuracy: the model, and what it must beat."""
    rows = [ForestRow("this program", result.test[level]["balanced_accuracy"], ours=True)]
    if tuned := result.finetuned:
        note = f"{format_difference(tuned.margin[level])} over the linear head"
        rows.append(ForestRow("fine-tuned", tuned.test[level]["balanced_accuracy"], ours=True, note=note))
    for baseline, margin in result.margins.items():
        score = result.baseline_score(baseline, level)
        if baseline == "majority":
            # the interval of a constant prediction comes only from classes that were not drawn
            score = Score(score.value)
        note = f"this program minus it: {format_difference(margin[level])}"
        rows.append(ForestRow(method_name(baseline), score, note=note))
    return rows


def recall_rows(result: TargetResult, level: str) -> dict[str, list[ForestRow]]:
    """{class that counts, with its support: rows of sensitivity and specificity}."""
    rows = {}
    for name, scores in result.test[level].per_class.items():
        if name not in result.missing_classes:
            samples = format_count(scores.support, level)
            few = f"of {samples}: too few to tell" * (0 < scores.support < MIN_CLASS_SAMPLES)
            rows[f"{name} ({samples})"] = [
                ForestRow("sensitivity", scores["recall"], ours=True, note=few),
                ForestRow("specificity", scores["specificity"]),
            ]
    return rows


def most_frequent_mistake(result: TargetResult, level: str) -> str:
    """The most frequent mistake in words, "" without any: 'Normal predicted as Mild, 3 of 18 videos'."""
    names, counts = result.classes, _evaluable_confusion(result, level)
    mistakes = [
        (n, true, predicted)
        for true, row in enumerate(counts)
        for predicted, n in enumerate(row)
        if true != predicted
    ]
    n, true, predicted = max(mistakes, key=lambda mistake: mistake[0])
    if not n:
        return ""
    return f"{names[true]} predicted as {names[predicted]}, {n} of {format_count(sum(counts[true]), level)}"


def count_errors(result: TargetResult) -> tuple[int, int]:
    """Tested frames of classes that count: those predicted to be of another one, and all of them."""
    counts = _evaluable_confusion(result, "frame")
    total = sum(map(sum, counts))
    return total - sum(row[number] for number, row in enumerate(counts)), total


def _evaluable_confusion(result: TargetResult, level: str) -> list[list[int]]:
    """The confusion matrix, empty in the rows of classes that cannot be evaluated."""
    rows = zip(result.classes, result.test[level].confusion, strict=True)
    return [[0 if name in result.missing_classes else int(n) for n in row] for name, row in rows]


def confusion_table(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> dict[str, Any]:
    """A confusion matrix for the page.

    Returns:
        {"names", "shorts", "rows": [{"total", "cells": [{"count", "share"}]}], "none": whether there is no
        sample}; shares are of the row, None where it is empty.
    """
    rows = []
    for counts in confusion:
        total = sum(counts)
        cells = [{"count": count, "share": count / total if total else None} for count in counts]
        rows.append({"total": total, "cells": cells})
    names = list(classes)
    return {
        "names": names,
        "shorts": short_names(names),
        "rows": rows,
        "none": not any(row["total"] for row in rows),
    }
