"""`page.html`: all that a run found on one page, in one file."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simclr_rhd.data.labels.pseudonyms import redact_paths
from simclr_rhd.evaluation.metrics import AVERAGE_METRICS
from simclr_rhd.report.charts.panels import MIN_CLASS_SAMPLES
from simclr_rhd.report.charts.style import short_names
from simclr_rhd.report.page.sections import ReportData
from simclr_rhd.report.page.webpage import write_page
from simclr_rhd.report.summary import (
    LEAKY_WARNING,
    LEVELS,
    METHOD_NAMES,
    SYNTHETIC_WARNING,
    baseline_scores,
    chance_accuracy,
    format_difference,
    limitations,
    primary_level,
    target_results,
    verdicts,
)
from simclr_rhd.report.verdict import verdict

MAX_LISTED_REJECTED = 50  # files that are listed
KEYS_WRITTEN_LATER = (
    "signature",
    "summary",
    "status",
    "finished",
    "figures",
)  # of run.json, known once this is written


def write_html(
    path: Path,
    *,
    metrics: dict[str, Any],
    run: dict[str, Any],
    shown: ReportData | None,
    rejected: Sequence[tuple[str, str]],
    n_rejected: int,
) -> None:
    """Write one self-contained page: nothing is fetched; all names are escaped.

    No patient is named, and no folder outside the data.

    Args:
        path: the file to write.
        metrics: the content of `metrics.json`.
        run: the content of `run.json`.
        shown: charts, frames and maps; None to leave them out.
        rejected: names, without patients' identifiers, and reasons of the first files left out.
        n_rejected: how many were left out.
    """
    found = dict(target_results(metrics))
    write_page(
        path,
        "report.html",
        script="report.js" if shown else "",
        metrics=metrics,
        run=_facts(redact_paths(run, run["config"])),
        shown=shown,
        atlas=_script_data(shown) if shown and shown.atlas else None,
        rejected=rejected,
        n_rejected=n_rejected,
        alarms=[SYNTHETIC_WARNING] * bool(metrics["synthetic"])
        + [LEAKY_WARNING] * bool(metrics["split"]["leaky"]),
        verdict=verdict(metrics),
        verdicts=verdicts(metrics),
        limitations=limitations(metrics),
        targets=found,
        targets_by_task={
            task: [name for name in found if name.split(": ")[0] == task] for task in metrics["tasks"]
        },
        levels=LEVELS,
        averages=AVERAGE_METRICS,
        name=path.resolve().parent.name,
        written=time.strftime("%Y-%m-%d"),
        most_frequent_mistake=most_frequent_mistake,
        count_errors=count_errors,
        group_by_reason=group_by_reason,
        method_names=METHOD_NAMES,
        baseline_scores=baseline_scores,
        primary_level=primary_level,
        chance_accuracy=chance_accuracy,
        comparison_rows=comparison_rows,
        recall_rows=recall_rows,
        confusion_table=confusion_table,
        format_count=format_count,
    )


def _script_data(report_data: ReportData) -> dict[str, Any]:
    """The maps and their marks for the page's script; the sheet of thumbnails is an image of the page."""
    sheet = {name: value for name, value in report_data.atlas["sheet"].items() if name != "image"}
    marks = {name: of.marks for name, of in report_data.targets.items()}
    return report_data.atlas | {"sheet": sheet, "marks": marks}


def _facts(run: dict[str, Any]) -> dict[str, Any]:
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


def comparison_rows(result: dict[str, Any], level: str) -> list[dict[str, Any]]:
    """Rows of balanced accuracy for `macros.forest`: the model, and what it must beat."""
    rows = [forest_row("this program", result["test"][level], "balanced_accuracy") | {"ours": True}]
    if "finetuned" in result:
        tuned = result["finetuned"]
        rows.append(forest_row("fine-tuned", tuned["test"][level], "balanced_accuracy") | {"ours": True})
        rows[-1]["note"] = f"{format_difference(tuned['margin'][level])} over the linear head"
    for baseline, margin in result["margins"].items():
        row = forest_row(
            METHOD_NAMES.get(baseline, baseline),
            baseline_scores(result, baseline, level),
            "balanced_accuracy",
        )
        if (
            baseline == "majority"
        ):  # the interval of a constant answer tells only of classes that were not drawn
            row |= {"low": None, "high": None}
        rows.append(row | {"note": f"this program minus it: {format_difference(margin[level])}"})
    return rows


def recall_rows(result: dict[str, Any], level: str) -> dict[str, list[dict[str, Any]]]:
    """{class that counts, with its support: rows of sensitivity and specificity for `macros.forest`}."""
    left_out = {row["class"] for row in result["not_evaluable"]}
    found = {}
    for name, of in result["test"][level]["per_class"].items():
        if name not in left_out:
            few = f"of {format_count(of['support'], level)}: too few to tell" * (
                0 < of["support"] < MIN_CLASS_SAMPLES
            )
            found[f"{name} ({format_count(of['support'], level)})"] = [
                forest_row("sensitivity", of, "recall") | {"ours": True, "note": few},
                forest_row("specificity", of, "specificity"),
            ]
    return found


def most_frequent_mistake(result: dict[str, Any], level: str) -> str:
    """The most frequent mistake in words, "" without any: 'Normal taken for Mild, 3 of 18 videos'."""
    names, counts = result["classes"], _evaluable_confusion(result, level)
    wrong = [(n, true, said) for true, row in enumerate(counts) for said, n in enumerate(row) if true != said]
    n, true, said = max(wrong, key=lambda found: found[0])
    if not n:
        return ""
    return f"{names[true]} taken for {names[said]}, {n} of {format_count(sum(counts[true]), level)}"


def count_errors(result: dict[str, Any]) -> tuple[int, int]:
    """How many of the tested frames of a class that counts are said to be of another one, and of how many."""
    counts = _evaluable_confusion(result, "frame")
    total = sum(map(sum, counts))
    return total - sum(row[number] for number, row in enumerate(counts)), total


def _evaluable_confusion(result: dict[str, Any], level: str) -> list[list[int]]:
    """The confusion matrix, empty in the rows of classes that cannot be evaluated."""
    left_out = {row["class"] for row in result["not_evaluable"]}
    rows = zip(result["classes"], result["test"][level]["confusion"], strict=True)
    return [[0] * len(row) if name in left_out else row for name, row in rows]


def group_by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """{why figures could not be computed: which}, of {figure: why}."""
    found: dict[str, list[str]] = {}
    for what, why in reasons.items():
        found.setdefault(why, []).append(what)
    return found


def format_count(n: int, noun: str) -> str:
    """'1 video', '2 videos'."""
    return f"{n} {noun}{'s' * (n != 1)}"


def forest_row(name: str, scores: Mapping[str, Any], score: str) -> dict[str, Any]:
    """A row for `macros.forest`: a score with its interval, None where they cannot be computed."""
    low, high = (scores.get("ci95") or {}).get(score) or (None, None)
    return {"name": name, "value": scores.get(score), "low": low, "high": high, "ours": False, "note": ""}


def confusion_table(result: dict[str, Any], level: str) -> dict[str, Any]:
    """A confusion matrix for the page.

    Returns:
        {"names", "shorts", "rows": [{"total", "cells": [{"count", "share"}]}], "none": whether there is no
        sample}; shares are of the row, None where it is empty.
    """
    rows = []
    for counts in result["test"][level]["confusion"]:
        total = sum(counts)
        shares = [count / total if total else None for count in counts]
        cells = [{"count": count, "share": share} for count, share in zip(counts, shares, strict=True)]
        rows.append({"total": total, "cells": cells})
    names = list(result["classes"])
    return {
        "names": names,
        "shorts": short_names(names),
        "rows": rows,
        "none": not any(row["total"] for row in rows),
    }
