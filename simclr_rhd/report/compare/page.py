"""Runs compared, in words and on a page; what is compared and how is in `compare`."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import REPORT, RUN_RECORD
from simclr_rhd.core.files import ensure_writable_dir
from simclr_rhd.report.compare.charts import DATA_SETTING, charts
from simclr_rhd.report.compare.differences import (
    BETTER,
    EQUAL,
    MAY_BE_CHANCE,
    TOO_FEW_GROUPS,
    WORSE,
    Difference,
    Differences,
    Runs,
    compare_runs,
    differing_environment,
    differing_settings,
    skip_reason,
    skipped_tasks,
    target_names,
)
from simclr_rhd.report.compare.load_run import FinishedRun, Score, TargetResult
from simclr_rhd.report.page.webpage import write_page
from simclr_rhd.report.summary import (
    LEAKY_WARNING,
    MAX_COLUMNS,
    SYNTHETIC_WARNING,
    format_interval,
    join_words,
)
from simclr_rhd.report.summary import format_difference as signed

MAX_RUNS_WITH_FIGURES = 4  # of more, a sentence with all figures would not be read

ForestRow = dict[str, Any]  # of the macro `forest`


def write_html(path: Path, runs: Runs) -> None:
    """Write the page, one self-contained file.

    Raises:
        UserError: it cannot be written to `path`.
    """
    if path.is_dir():
        raise UserError(f"--out {path}: is a folder; wanted a file, such as {path / 'comparison.html'}")
    if path.name == REPORT and (path.parent / RUN_RECORD).exists():
        raise UserError(f"--out {path}: is the report of a run; name another file")
    ensure_writable_dir(path.parent, flag="--out")
    try:
        _write(path, runs)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror}); name another file") from None


def _write(path: Path, runs: Runs) -> None:
    found, differing = compare_runs(runs), differing_settings(runs)
    other_data = len({run.data["fingerprint"] for run in runs.values()}) > 1
    curves = {name: run.curves for name, run in runs.items()}
    write_page(
        path,
        "compare.html",
        reference=next(iter(runs)),
        runs=describe_runs(runs),
        names=list(runs),
        alarms=alarms(runs),
        verdict=verdict(runs, found),
        any_better=any(of.outcome == BETTER for rows in found.values() for of in rows.values()),
        settings=differing,
        environment=differing_environment(runs),
        charts=charts(curves, differing=[*differing, *[DATA_SETTING] * other_data]),
        results=[target_section(runs, of, question) for question, of in found.items()],
        notes=notes(runs, found),
    )


def to_text(runs: Runs) -> list[str]:
    """The verdict and a short table, in lines of at most 110 columns."""
    found = compare_runs(runs)
    row = "  {:<18}  {:<5}  {:<17}  {:<6}  {}".format
    header = row("", "per", "balanced accuracy", "pixels*", f"difference to {next(iter(runs))}")
    lines = [*alarms(runs), *filter(None, verdict(runs, found).values()), "", header, "-" * len(header)]
    for question in target_names(runs):
        lines.append(question)
        for name, run in runs.items():
            asked = run.results.get(question)
            level = asked.level if asked else None
            pixels = _format_score(asked.pixels if asked else None, level)
            beside = _short_difference(found[question].get(name))
            lines.append(row(name, level or "-", _format_interval(asked, level), pixels, beside))
    lines += ["* balanced accuracy of raw pixels without a network   [95 % interval over groups]", ""]
    lines += notes(runs, found)
    return [
        part for line in lines for part in textwrap.wrap(line, MAX_COLUMNS, subsequent_indent="  ") or [""]
    ]


def alarms(runs: Runs) -> list[str]:
    """What must be known before any figure is believed."""
    synthetic = [name for name, run in runs.items() if run.data["synthetic"]]
    leaky = [name for name, run in runs.items() if run.leaky]
    return [
        f"{join_words(who)}: {text}"
        for who, text in ((synthetic, SYNTHETIC_WARNING), (leaky, LEAKY_WARNING))
        if who
    ]


def verdict(runs: Runs, differences: Differences) -> dict[str, str]:
    """{"shown", "not_shown", "incomparable"}: a sentence each, "" where there is nothing to say.

    Which run is shown to be better or worse than the first and at what; what is not shown; and what cannot be
    compared, and why.
    """
    reference, *others = runs
    better_or_worse = [
        run for run in others if any(of[run].outcome in (BETTER, WORSE) for of in differences.values())
    ]
    ways = {
        run: _better_and_worse(differences, run, figures=len(better_or_worse) <= MAX_RUNS_WITH_FIGURES)
        for run in better_or_worse
    }
    shown = [
        f"{join_words(who)} {'is' if len(who) == 1 else 'are'} {way}"
        for way, who in _runs_by_text(ways).items()
    ]
    unsure = [
        f"{says}: "
        + "; ".join(
            f"{join_words(who)} at {at}"
            for at, who in _runs_by_text(_targets_by_run(runs, differences, says)).items()
        )
        for says in (MAY_BE_CHANCE, TOO_FEW_GROUPS, EQUAL)
        if _targets_by_run(runs, differences, says)
    ]
    reasons = _runs_by_text({run: why for run in others if (why := _incomparable_targets(differences, run))})
    leaky = " as far as leaky splits can show anything," * any(runs[run].leaky for run in (reference, *ways))
    return {
        "shown": f"Against {reference},{leaky} {'; '.join(shown)}."
        if shown
        else f"No run is shown to be better or worse than {reference} at anything."
        if unsure
        else "No result could be compared.",
        "not_shown": f"Differences to {reference} that are not shown: {'; '.join(unsure)}." if unsure else "",
        "incomparable": f"Cannot be compared with {reference}: "
        + "; ".join(f"{join_words(who)} at {why}" for why, who in reasons.items())
        + "."
        if reasons
        else "",
    }


def _runs_by_text(texts: Mapping[str, str]) -> dict[str, list[str]]:
    """{what is said: the runs that it is said of}."""
    found: dict[str, list[str]] = {}
    for run, text in texts.items():
        found.setdefault(text, []).append(run)
    return found


def _better_and_worse(differences: Differences, run: str, *, figures: bool) -> str:
    """At what a run is better and at what worse, with the differences if `figures`."""
    ways = []
    for says in (BETTER, WORSE):
        at = {name: of[run].margin or {} for name, of in differences.items() if of[run].outcome == says}
        told = [f"{name} ({signed(margin)})" if figures else name for name, margin in at.items()]
        ways += [f"{says} at {join_words(told)}"] * bool(at)
    return join_words(ways)


def _targets_by_run(runs: Runs, differences: Differences, outcome: str) -> dict[str, str]:
    """{run: at what it has such a difference}."""
    at = {
        run: [name for name, of in differences.items() if of[run].outcome == outcome]
        for run in list(runs)[1:]
    }
    return {run: join_words(names) for run, names in at.items() if names}


def _incomparable_targets(differences: Differences, run: str) -> str:
    """At what a run cannot be compared, and why; "" where it can."""
    by_reason = _runs_by_text({name: of[run].reason for name, of in differences.items() if of[run].reason})
    return " and at ".join(f"{join_words(names)} ({reason})" for reason, names in by_reason.items())


def describe_runs(runs: Runs) -> list[dict[str, Any]]:
    """What each run was: its name, facts in words, and alarms."""
    reference = next(iter(runs))
    return [
        {"name": name, "facts": dict(_facts(run, runs[reference], reference)), "alarms": alarms({name: run})}
        for name, run in runs.items()
    ]


def _facts(run: FinishedRun, first: FinishedRun, reference: str) -> Iterator[tuple[str, str]]:
    yield "finished", run.finished
    kept = f"; the weights of epoch {run.best_epoch} were kept" if run.best_epoch else ""
    yield "pretraining", f"{run.epochs} epoch{'s' * (run.epochs > 1)}{kept}"
    same = "the same" if run.data["fingerprint"] == first.data["fingerprint"] else "other"
    yield (
        "data",
        PurePosixPath(run.data["location"]).name  # not the whole path: the page may be sent on
        + (f"; {same} frames and labels as of {reference}" if run is not first else ""),
    )
    way = f"{run.folds} folds, each group tested once" if run.folds > 1 else "one split"
    yield "tested", f"split by {run.split_by}, {way}"


def target_section(runs: Runs, differences: Mapping[str, Difference], target: str) -> dict[str, Any]:
    """Scores and differences of a question, as the page shows them."""
    asked = {name: run.results.get(target) for name, run in runs.items()}
    levels = {name: of.level if of else None for name, of in asked.items()}
    level, several = _shared_value(level for level in levels.values() if level)
    rows = [
        _row(name, of.ours if of else None, levels[name], ours=True, note=_note(runs[name], target, several))
        for name, of in asked.items()
    ]
    pixels = {name: _row(name, of.pixels, levels[name]) for name, of in asked.items() if of and levels[name]}
    alike, differ = _shared_value({**row, "name": "raw pixels"} for row in pixels.values())
    if differ:
        rows += [{"name": "Raw pixels of"}, *pixels.values()]
    elif alike:
        rows.append(alike)
    chance, chances = _shared_value(
        of.chance[at].value for name, of in asked.items() if of and (at := levels[name])
    )
    return {
        "name": target,
        "level": "" if several or not level else f" per {level}",
        "rows": rows,
        "chance": None if chances else chance,
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


def _shared_value(values: Any) -> tuple[Any, bool]:
    """The first of some values, None without any, and whether there are several that differ."""
    values = list(values)
    return (values[0] if values else None), any(value != values[0] for value in values)


def _describe_basis(difference: Difference) -> str:
    """What a difference rests on."""
    if difference.margin is None:
        return ""
    return (
        f"per {difference.level}, {difference.groups} groups, {difference.classes} classes that count in both"
    )


def _row(
    name: str, scores: Mapping[str, Score] | None, level: str | None, *, ours: bool = False, note: str = ""
) -> ForestRow:
    score = scores[level] if scores and level else Score()
    return {
        "name": name,
        "note": note,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "ours": ours,
    }


def _note(run: FinishedRun, target: str, several: bool) -> str:
    """Why a run has no score, or what it is of where the runs' levels differ."""
    asked = run.results.get(target)
    if asked is None:
        why = skip_reason(run, target)
        return f"skipped: {why}" if why else "not asked"
    if asked.level is None:
        return "fewer than two classes can be evaluated"
    return f"per {asked.level}" * several


def _format_interval(target_result: TargetResult | None, level: str | None) -> str:
    score = target_result.ours[level] if target_result and level else Score()
    around = [score.low, score.high] if score.low is not None else None
    return format_interval({"it": score.value, "ci95": {"it": around}}, "it")


def _format_score(scores: Mapping[str, Score] | None, level: str | None) -> str:
    return format_interval({"it": scores[level].value if scores and level else None}, "it")


def _short_difference(difference: Difference | None) -> str:
    if difference is None:
        return "the first run"
    if difference.margin is None:
        return "-  not comparable"
    return f"{signed(difference.margin)}  {difference.outcome}"


def notes(runs: Runs, differences: Differences) -> list[str]:
    """What no run has learnt, and what the differences cannot say."""
    with_interval = sum(
        bool(of.margin and of.margin["ci95"]) for rows in differences.values() for of in rows.values()
    )
    lines = [f"{task}: skipped in all runs, {why}." for task, why in skipped_tasks(runs).items()]
    if with_interval:
        lines.append(
            "The intervals tell how much the patients or videos that happened to be tested matter, not what "
            "another --seed would have changed: that takes several runs of each configuration."
        )
    if with_interval > 1:
        lines.append(
            f"{with_interval} differences have an interval of 95 %: of as many without any true difference, "
            f"{with_interval / 20:.1f} would be expected to exclude 0 by chance."
        )
    first = next(iter(runs.values()))
    unlike = [name for name, run in runs.items() if run.data["fingerprint"] != first.data["fingerprint"]]
    compared = [name for name in unlike if any(of[name].margin for of in differences.values())]
    if compared:
        lines.append(
            f"{join_words(compared)}: the data are not those of the first run; frames of the same name are "
            "taken to be the same pictures."
        )
    return lines
