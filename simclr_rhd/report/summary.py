"""The results of a run in words: for the end of the log, and for the report."""

import textwrap
from collections.abc import Iterator

from simclr_rhd.data.labels.vocabulary import diagnostic_limits
from simclr_rhd.evaluation.results import LEVELS, RunResults, TargetResult
from simclr_rhd.evaluation.scores.records import Margin
from simclr_rhd.report.charts.style import short_name
from simclr_rhd.report.findings import (
    BETTER,
    MIN_GROUPS,
    NOT_BETTER,
    UNSURE,
    WORSE,
    collect_warnings,
    find_target,
)
from simclr_rhd.report.screening import screening_lines
from simclr_rhd.report.wording import (
    BASELINE_NAMES,
    MAX_COLUMNS,
    TABLE_BASELINES,
    format_difference,
    format_interval,
    format_score,
    join_names,
)
from simclr_rhd.runs.record import HeadlineScore

ROW_FORMAT = "{:<27}{:>5}{:>9} {:<17} {:<17}" + "".join(
    f"{{:>{max(7, len(baseline.column) + 2)}}}" for baseline in TABLE_BASELINES
)


def summary(results: RunResults, *, save_dir: str) -> str:
    """Text at the end of a run, at most 110 columns wide: the verdicts, then a short table."""
    by = results.split.by
    header = _row(
        "test part",
        "n",
        f"{by}s",
        "accuracy",
        "balanced accuracy",
        *(f"{baseline.column}*" for baseline in TABLE_BASELINES),
    )
    lines = [*verdicts(results), *screening_lines(results), "", header, "-" * len(header)]
    for name, result in results.targets.items():
        lines += [_scores_row(name, level, result) for level in scored_levels(result)]
    lines += [
        f"* balanced accuracy {join_names([f'of {of.description}' for of in TABLE_BASELINES])}",
        f"[95 % interval over {by}s]   - cannot be computed",
        "",
        *limitations(results),
        "",
    ]
    wrapped = [part for line in collect_warnings(results) + lines for part in _wrap(line)]
    report = f"Look at {save_dir.rstrip('/')}/report.html"  # not wrapped: a path is to be copied
    beside = "Beside it: pictures, metrics.json, predictions.csv, run.json; model.pt with its model_card.md"
    paper = "For a paper: checklist.md, filled as far as the run knows"
    return "\n".join([*wrapped, report, beside, paper])


def scored_levels(result: TargetResult) -> list[str]:
    """The levels that are shown: those that could be scored, and always per frame."""
    return [level for level in LEVELS if level == "frame" or result.test[level]["accuracy"].value is not None]


def verdicts(results: RunResults) -> list[str]:
    """For each target, plain words on what beats its baselines on the test part and what does not.

    Judged by balanced accuracy, per video where that is known, else per frame.
    """
    return [
        f"{name}: balanced accuracy per {level} {result.test[level]['balanced_accuracy'].value:.2f}"
        f"{_verdict(name, result, level)}."
        for name, result in results.targets.items()
        if (level := result.primary_level)
    ]


def headline_scores(results: RunResults) -> dict[str, HeadlineScore]:
    """{target: the balanced accuracy that `verdicts` judges}, of those that could be scored."""
    return {
        name: HeadlineScore(level, score.value, score.low, score.high)
        for name, result in results.targets.items()
        if (level := result.primary_level)
        and (score := result.test[level]["balanced_accuracy"]).value is not None
    }


def recorded_results(results: RunResults) -> dict[str, object]:
    """The part of the results that `run.json` keeps for lists of runs: `metrics.json` is long."""
    scores = {name: vars(score) for name, score in headline_scores(results).items()}
    return {"scores": scores, "split": results.split.to_json()}


def _verdict(name: str, result: TargetResult, level: str) -> str:
    """Lines on the model against each baseline, the worst first."""
    few = result.test[level].groups < MIN_GROUPS
    doubt = "too few groups are tested to tell" if few else f"that may be chance ({_interval_note(result)})"
    texts = {
        WORSE: ("is WORSE than {}, by more than chance", "and"),
        NOT_BETTER: ("does NOT beat {}", "or"),
        UNSURE: (f"is above {{}}, but {doubt}", "and"),
        BETTER: ("beats {}", "and"),
    }
    baselines: dict[str, list[str]] = {outcome: [] for outcome in texts}
    for finding in find_target(name, result):
        score = format_score(finding.score.value)
        baselines[finding.outcome].append(f"{BASELINE_NAMES[finding.baseline]} ({score})")
    parts = [
        f" {text.format(join_names(baselines[outcome], conjunction))}"
        for outcome, (text, conjunction) in texts.items()
        if baselines[outcome]
    ]
    return ";".join(parts) or " has nothing to be compared with"


def _interval_note(result: TargetResult) -> str:
    """Note on the intervals of the differences: those of a task hold together (Bonferroni)."""
    if result.comparisons == 1:
        return "95 % interval of the difference"
    return f"intervals of the task's {result.comparisons} differences that hold together with 95 %"


def _row(*cells: str) -> str:
    return ROW_FORMAT.format(*cells)


def _scores_row(name: str, level: str, result: TargetResult) -> str:
    scores = result.test[level]
    short = name if len(name) <= 15 else short_name(name.split(": ")[-1])
    return _row(
        f"{short} per {level}",
        format_score(scores.n),
        format_score(scores.groups),
        format_interval(scores["accuracy"]),
        format_interval(scores["balanced_accuracy"]),
        *(format_score(result.baseline_score(of.name, level).value) for of in TABLE_BASELINES),
    )


def limitations(results: RunResults) -> list[str]:
    """Limits of the figures: what they leave out and why, their precision, what no frame alone can tell."""
    split, noted = results.split, set[str]()
    lines = [f"{task}: skipped, {reason}" for task, reason in results.skipped.items()]
    for name, result in results.targets.items():
        if missing := result.missing_classes:
            lines.append(
                f"{name}: {len(result.classes) - len(missing)} of {len(result.classes)} classes are "
                f"evaluated; this split cannot evaluate {', '.join(missing)} (a frame of another class that "
                "is predicted to be one of these counts as wrong)"
            )
        reasons = {result.test[level].reason: level for level in LEVELS if level != "patient"}
        lines += [f"{name}: no scores per {level}, {reason}" for reason, level in reasons.items() if reason]
        task = name.split(":")[0]
        if result.test["video"]["accuracy"].value is not None and task not in noted:
            noted.add(task)  # lesions are of the same groups
            lines.append(power_note(name, result, split.by))
        lines += _optional_results(name, result)
    if split.own:
        lines.append(
            "the division into training, validation and test is that of --split or of a column SPLIT"
        )
    for task, of_task in results.tasks.items():
        lines += [f"{task}: {limit}" for limit in diagnostic_limits(of_task.classes)]
    if split.folds > 1:
        lines += [
            f"{split.name_folds()}; balanced accuracy per video of the classes that each tests: "
            + "; ".join(_fold_scores(results)),
            f"the encoder is pretrained {split.pretraining}",
        ]
    return lines


def _optional_results(name: str, result: TargetResult) -> Iterator[str]:
    """Results that flags ask for, beside the linear heads."""
    if not (level := result.primary_level):
        return
    if tuned := result.finetuned:
        yield (
            f"{name}: fine-tuned, balanced accuracy per {level} "
            f"{format_interval(tuned.test[level]['balanced_accuracy'])}, "
            f"{format_difference(tuned.margin[level])} to the linear head; "
            f"epochs kept: {', '.join(map(str, tuned.epochs_kept or []))} (0: as it was)"
        )
    ours = result.test["frame"]["balanced_accuracy"].value
    leaky = result.leak["balanced_accuracy"].value if result.leak else None
    if leaky is not None and ours is not None:
        yield (
            f"{name}: LEAKY, under a split over frames the same heads would score {leaky:.2f} per frame "
            f"instead of {ours:.2f}: a leak would raise them by {leaky - ours:+.2f}"
        )
    yield from _subgroup_gaps(name, result)
    for point in (result.label_efficiency or {}).get("simclr", []):
        yield (
            f"{name}: with {point.fraction:.0%} of the labelled groups ({point.groups:.0f} to learn "
            f"from) balanced accuracy per video {format_score(point.balanced_accuracy)}"
        )


def _subgroup_gaps(name: str, result: TargetResult) -> Iterator[str]:
    """The columns between two values of which the scores differ by more than chance."""
    for column, subgroups in (result.subgroups or {}).items():
        gap = subgroups.gap
        if gap and gap.ci95 and gap.ci95[0] > 0:
            scores = [
                f"{value} {format_score(subgroups.values[value].balanced_accuracy)}"
                for value in (gap.lower, gap.higher)
            ]
            difference = format_difference(Margin(gap.difference, gap.ci95))
            yield (
                f"{name}: it differs by {column}, by more than chance: balanced accuracy per "
                f"{subgroups.level} {join_names(scores)}, {difference} over the classes that both have "
                f"(interval for all {subgroups.comparisons} pairs of values that were compared)"
            )


def power_note(name: str, result: TargetResult, by: str) -> str:
    """Precision of an accuracy with the groups that are tested, in words."""
    note = result.power
    return (
        f"{name}: with {note.groups} {by}s an accuracy of {note.accuracy:.2f} has an interval of about "
        f"± {note.half_width:.2f}; ± 0.10 would take {note.groups_needed}"
    )


def _fold_scores(results: RunResults) -> list[str]:
    return [
        f"{name} " + " ".join(format_score(fold.balanced_accuracy) for fold in result.folds)
        for name, result in results.targets.items()
    ]


def _wrap(line: str) -> list[str]:
    return textwrap.wrap(line, MAX_COLUMNS, subsequent_indent="  ", break_on_hyphens=False) or [""]
