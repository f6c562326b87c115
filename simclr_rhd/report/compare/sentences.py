"""Runs compared, in words."""

import textwrap

from simclr_rhd.report.compare.differences import (
    BETTER,
    EQUAL,
    MAY_BE_CHANCE,
    TOO_FEW_GROUPS,
    WORSE,
    Difference,
    Differences,
    compare_runs,
    skipped_tasks,
)
from simclr_rhd.report.compare.load_run import Runs
from simclr_rhd.report.findings import data_warnings
from simclr_rhd.report.wording import (
    LEAKY_WARNING,
    MAX_COLUMNS,
    SYNTHETIC_WARNING,
    format_difference,
    format_interval,
    format_score,
    group_by_text,
    is_or_are,
    join_names,
)

MAX_RUNS_WITH_FIGURES = 4  # of more, a sentence with all figures would not be read


def to_text(runs: Runs) -> list[str]:
    """The verdict and a short table, in lines of at most 110 columns."""
    differences = compare_runs(runs)
    row = "  {:<18}  {:<5}  {:<17}  {:<6}  {}".format
    header = row("", "per", "balanced accuracy", "pixels*", f"difference to {next(iter(runs))}")
    sentences = filter(None, conclusions(runs, differences).values())
    lines = [*alarms(runs), *sentences, "", header, "-" * len(header)]
    for target, of_target in differences.items():
        lines.append(target)
        for name, run in runs.items():
            result = run.results.targets.get(target)
            figures = "-", "-", "-"
            if result and (level := result.primary_level):
                pixels = format_score(result.baseline_score("pixels", level).value)
                figures = level, format_interval(result.test[level]["balanced_accuracy"]), pixels
            lines.append(row(name, *figures, _short_difference(of_target.get(name))))
    lines += ["* balanced accuracy of raw pixels without a network   [95 % interval over groups]", ""]
    lines += notes(runs, differences)
    return [
        part for line in lines for part in textwrap.wrap(line, MAX_COLUMNS, subsequent_indent="  ") or [""]
    ]


def alarms(runs: Runs) -> list[str]:
    """Warnings to read before any figure."""
    return [
        f"{join_names(names)}: {text}"
        for text in (SYNTHETIC_WARNING, LEAKY_WARNING)
        if (names := [name for name, run in runs.items() if text in data_warnings(run.results)])
    ]


def conclusions(runs: Runs, differences: Differences) -> dict[str, str]:
    """{"shown", "not_shown", "incomparable"}: a sentence each, "" where there is nothing to say.

    Which run is shown to be better or worse than the first and at what; what is not shown; and what cannot be
    compared, and why.
    """
    reference, *others = runs
    shown = _shown(runs, differences)
    unsure = [
        f"{outcome}: " + "; ".join(f"{join_names(names)} at {at}" for at, names in names_by_target.items())
        for outcome in (MAY_BE_CHANCE, TOO_FEW_GROUPS, EQUAL)
        if (names_by_target := group_by_text(_targets_by_run(others, differences, outcome)))
    ]
    incomparable = group_by_text(
        {run: reasons for run in others if (reasons := _incomparable_targets(differences, run))}
    )
    sentences = {"shown": "No result could be compared.", "not_shown": "", "incomparable": ""}
    if shown:
        sentences["shown"] = shown
    elif unsure:
        sentences["shown"] = f"No run is shown to be better or worse than {reference} at anything."
    if unsure:
        sentences["not_shown"] = f"Differences to {reference} that are not shown: {'; '.join(unsure)}."
    if incomparable:
        parts = [f"{join_names(names)} at {reasons}" for reasons, names in incomparable.items()]
        sentences["incomparable"] = f"Cannot be compared with {reference}: {'; '.join(parts)}."
    return sentences


def _shown(runs: Runs, differences: Differences) -> str:
    """The sentence on runs that are better or worse than the first; "" without any."""
    reference, *others = runs
    differing = [
        run for run in others if any(of[run].outcome in (BETTER, WORSE) for of in differences.values())
    ]
    if not differing:
        return ""
    with_figures = len(differing) <= MAX_RUNS_WITH_FIGURES
    texts = {run: _better_and_worse(differences, run, figures=with_figures) for run in differing}
    leaky = any(runs[run].results.split.leaky for run in (reference, *differing))
    caveat = " as far as leaky splits can show anything," * leaky
    parts = [f"{join_names(names)} {is_or_are(names)} {text}" for text, names in group_by_text(texts).items()]
    return f"Against {reference},{caveat} {'; '.join(parts)}."


def _better_and_worse(differences: Differences, run: str, *, figures: bool) -> str:
    """Name the targets that a run is better and worse at, with the differences if `figures`."""
    parts = []
    for outcome in (BETTER, WORSE):
        targets = [
            f"{name} ({format_difference(margin)})" if figures and (margin := of[run].margin) else name
            for name, of in differences.items()
            if of[run].outcome == outcome
        ]
        parts += [f"{outcome} at {join_names(targets)}"] * bool(targets)
    return join_names(parts)


def _targets_by_run(others: list[str], differences: Differences, outcome: str) -> dict[str, str]:
    """{run: the targets that it has such a difference at}."""
    targets = {
        run: [name for name, of in differences.items() if of[run].outcome == outcome] for run in others
    }
    return {run: join_names(names) for run, names in targets.items() if names}


def _incomparable_targets(differences: Differences, run: str) -> str:
    """Name the targets that a run cannot be compared at, and why; "" where it can."""
    reasons = group_by_text({name: of[run].reason for name, of in differences.items() if of[run].reason})
    return " and at ".join(f"{join_names(names)} ({reason})" for reason, names in reasons.items())


def _short_difference(difference: Difference | None) -> str:
    if difference is None:
        return "the first run"
    if difference.margin is None:
        return "-  not comparable"
    return f"{format_difference(difference.margin)}  {difference.outcome}"


def notes(runs: Runs, differences: Differences) -> list[str]:
    """Sentences on what no run has learnt, and on what the differences cannot tell."""
    with_interval = sum(
        bool(of.margin and of.margin.ci95) for rows in differences.values() for of in rows.values()
    )
    lines = [f"{task}: skipped in all runs, {reason}." for task, reason in skipped_tasks(runs).items()]
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
            f"{join_names(compared)}: the data are not those of the first run; frames of the same name are "
            "taken to be the same pictures."
        )
    return lines
