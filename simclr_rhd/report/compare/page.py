"""Runs compared, on a page."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from simclr_rhd.core.errors import UserError
from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.report.compare.charts import DATA_SETTING, charts
from simclr_rhd.report.compare.differences import BETTER, Difference, compare_runs, skip_reason
from simclr_rhd.report.compare.load_run import FinishedRun, Runs
from simclr_rhd.report.compare.sentences import alarms, conclusions, notes
from simclr_rhd.report.compare.settings import differing_environment, differing_settings
from simclr_rhd.report.page.webpage import ForestRow, require_page_path, write_page


def write_comparison_page(path: Path, runs: Runs) -> None:
    """Write the page, one self-contained file.

    Raises:
        UserError: it cannot be written to `path`.
    """
    require_page_path(path, flag="--out", example="comparison.html")
    try:
        _write(path, runs)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror}); name another file") from None


def _write(path: Path, runs: Runs) -> None:
    differences, differing = compare_runs(runs), differing_settings(runs)
    other_data = len({run.data["fingerprint"] for run in runs.values()}) > 1
    curves = {name: run.curves for name, run in runs.items()}
    write_page(
        path,
        "compare.html",
        reference=next(iter(runs)),
        runs=describe_runs(runs),
        names=list(runs),
        alarms=alarms(runs),
        verdict=conclusions(runs, differences),
        any_better=any(of.outcome == BETTER for rows in differences.values() for of in rows.values()),
        settings=differing,
        environment=differing_environment(runs),
        charts=charts(curves, differing=[*[DATA_SETTING] * other_data, *differing]),
        results=[target_section(runs, of, target) for target, of in differences.items()],
        notes=notes(runs, differences),
    )


def describe_runs(runs: Runs) -> list[dict[str, Any]]:
    """The name of each run, facts in words, and alarms."""
    reference = next(iter(runs))
    return [
        {"name": name, "facts": dict(_facts(run, runs[reference], reference)), "alarms": alarms({name: run})}
        for name, run in runs.items()
    ]


def _facts(run: FinishedRun, first: FinishedRun, reference: str) -> Iterator[tuple[str, str]]:
    yield "finished", run.finished
    best = f"; the weights of epoch {run.best_epoch} were kept" if run.best_epoch else ""
    yield "pretraining", f"{run.epochs} epoch{'s' * (run.epochs > 1)}{best}"
    same = "the same" if run.data["fingerprint"] == first.data["fingerprint"] else "other"
    yield (
        "data",
        PurePosixPath(run.data["location"]).name  # not the whole path: the page may be sent on
        + (f"; {same} frames and labels as of {reference}" if run is not first else ""),
    )
    split = run.results.split
    folds = f"{split.name_folds()}, each group tested once" if split.folds > 1 else "one split"
    yield "tested", f"split by {split.by}, {folds}"


def target_section(runs: Runs, differences: Mapping[str, Difference], target: str) -> dict[str, Any]:
    """Scores and differences of a target, as the page shows them."""
    results = {name: run.results.targets.get(target) for name, run in runs.items()}
    scored = {name: (of, of.primary_level) for name, of in results.items() if of and of.primary_level}
    level, several_levels = _shared_value(level for _, level in scored.values())
    rows: list[ForestRow] = [
        ForestRow(
            name,
            scored[name][0].test[scored[name][1]]["balanced_accuracy"] if name in scored else Score(),
            ours=True,
            note=_note(run, target, several_levels=several_levels),
        )
        for name, run in runs.items()
    ]
    pixels = {name: of.baseline_score("pixels", level) for name, (of, level) in scored.items()}
    shared, several_scores = _shared_value(pixels.values())
    if several_scores:
        rows += [
            ForestRow("Raw pixels of", None),
            *(ForestRow(name, score) for name, score in pixels.items()),
        ]
    elif shared:
        rows.append(ForestRow("raw pixels", shared))
    chances = [of.baseline_score("majority", level).value for of, level in scored.values()]
    chance, several_chances = _shared_value(chances)
    return {
        "name": target,
        "level": "" if several_levels or not level else f" per {level}",
        "rows": rows,
        "chance": None if several_chances else chance,
        "differences": [
            {
                "run": name,
                "margin": of.margin,
                "outcome": of.outcome or of.reason,
                "of": _describe_basis(of),
            }
            for name, of in differences.items()
        ],
    }


def _shared_value(values: Iterable[Any]) -> tuple[Any, bool]:
    """The first of some values, None without any, and whether there are several that differ."""
    values = list(values)
    return (values[0] if values else None), any(value != values[0] for value in values)


def _describe_basis(difference: Difference) -> str:
    """The basis of a difference."""
    if difference.margin is None:
        return ""
    return (
        f"per {difference.level}, {difference.groups} groups, {difference.classes} classes that count in both"
    )


def _note(run: FinishedRun, target: str, *, several_levels: bool) -> str:
    """The reason that a run has no score, or the level that it is of where the runs' levels differ."""
    result = run.results.targets.get(target)
    if result is None:
        reason = skip_reason(run.results, target)
        return f"skipped: {reason}" if reason else "not evaluated"
    if result.primary_level is None:
        return "fewer than two classes can be evaluated"
    return f"per {result.primary_level}" * several_levels
