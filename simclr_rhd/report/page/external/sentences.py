"""An evaluation on another data set in words: for the log, the page and the model card."""

import textwrap
from collections.abc import Iterator

from simclr_rhd.evaluation.results import LEVELS, TargetResult
from simclr_rhd.inference.external.class_mapping import ClassComparison
from simclr_rhd.inference.external.overlap import overlap_sentences
from simclr_rhd.inference.external.results import ExternalDetails, ExternalResults
from simclr_rhd.inference.external.training_record import OTHER_START
from simclr_rhd.report.charts.style import short_name
from simclr_rhd.report.findings import collect_warnings
from simclr_rhd.report.screening import screening_lines
from simclr_rhd.report.summary import power_note, scored_levels, verdicts
from simclr_rhd.report.wording import (
    MAX_COLUMNS,
    format_count,
    format_interval,
    format_score,
    is_or_are,
    join_names,
)

EXPECTED_FOREIGN = 0.03  # share of frames like those learnt from that are marked, at most
ROW_FORMAT = "{:<27}{:>5}{:>9} {:<17} {:<17}{:>11}{:>9}"


def summary(results: ExternalResults, *, save_dir: str) -> str:
    """Text at the end of an evaluation, at most 110 columns wide: findings, a table, and what limits them."""
    unit = results.run.split.by
    header = ROW_FORMAT.format(
        *("other data set", "n", f"{unit}s", "balanced accuracy", "recalibrated", "majority*", "at home*")
    )
    lines = [*verdicts(results.run), *screening_lines(results.run), "", header, "-" * len(header)]
    for name, result in results.run.targets.items():
        lines += [_scores_row(results, name, level, result) for level in scored_levels(result)]
    lines += [
        f"* balanced accuracy: of the most frequent class of the {results.external.majority_of}; of the "
        "model in the test part of its own run",
        f"[95 % interval over {unit}s]   - cannot be computed",
        "",
        *limits(results),
        "",
    ]
    wrapped = [part for line in [*warnings(results), *lines] for part in _wrap(line)]
    return "\n".join([*wrapped, f"Look at {save_dir.rstrip('/')}/report.html"])


def _scores_row(results: ExternalResults, name: str, level: str, result: TargetResult) -> str:
    scores, details = result.test[level], results.external.targets[name]
    short = name if len(name) <= 15 else short_name(name.split(": ")[-1])
    after = details.recalibrated[level]["balanced_accuracy"] if details.recalibrated else None
    return ROW_FORMAT.format(
        *(f"{short} per {level}", format_score(scores.n), format_score(scores.groups)),
        format_interval(scores["balanced_accuracy"]),
        format_interval(after) if after else "-",
        format_score(result.baseline_score("majority", level).value),
        format_score(results.external.own_test.get(name, {}).get(level)),
    )


def warnings(results: ExternalResults) -> list[str]:
    """Warnings to read before any figure."""
    marked = [line for line in overlap_sentences(results.external.overlap) if line.startswith("WARNING ")]
    alarms = [line.removeprefix("WARNING ") for line in marked]
    if results.external.model.init == OTHER_START:
        alarms.append(
            "the pretraining of the model began with the weights of a file: what those have learnt from is "
            "not known, and could not be compared"
        )
    return [*collect_warnings(results.run), *(f"{line[:1].upper()}{line[1:]}." for line in alarms)]


def limits(results: ExternalResults) -> list[str]:
    """Limits and precision of the figures, and other measurements, one sentence a line."""
    external, run = results.external, results.run
    lines = [f"{task}: not scored, {reason}" for task, reason in run.skipped.items()]
    for task, comparison in external.classes.items():
        lines += class_sentences(task, comparison)
    lines += _screening_missing(results)
    for name, result in run.targets.items():
        details = external.targets[name]
        lines += _not_learnt(name, result)
        lines += [f"{name}: no scores per {level}, {reason}" for level, reason in _unscored(result)]
        lines += _unknown_as_wrong(name, result, details)
        lines += _without_class(name, details)
        if result.test["video"]["accuracy"].value is not None:
            lines.append(power_note(name, result, run.split.by))
        lines += [calibration_sentence(name, result, details)]
        lines += _abstention(name, result)
    return [*lines, *undecided_sentences(results), novelty_sentence(results), count_sentence(results)]


def class_sentences(task: str, comparison: ClassComparison) -> Iterator[str]:
    """The classes of a task that only one side knows."""
    if comparison.read_as:
        read = [f"{name} as {of_model}" for name, of_model in comparison.read_as.items()]
        yield f"{task}: classes of this data set are read as the model calls them: {join_names(read)}"
    if comparison.unknown:
        counted = [
            f"{name} ({format_count(counts['frames'], 'frame')} of {format_count(counts['groups'], 'group')})"
            for name, counts in comparison.unknown.items()
        ]
        yield (
            f"{task}: the model does not know {join_names(counted)}; its scores are over what both know: "
            f"{', '.join(comparison.shared) or 'nothing'}"
        )
    if comparison.only_in_model:
        yield f"{task}: this data set has no frame of {join_names(comparison.only_in_model)}"


def _not_learnt(name: str, result: TargetResult) -> Iterator[str]:
    for row in result.not_evaluable:
        if result.test["frame"].per_class[row["class"]].support:
            yield f"{name}: {row['class']} does not count, as {row['reason']}"


def _unscored(result: TargetResult) -> list[tuple[str, str]]:
    reasons = {result.test[level].reason: level for level in LEVELS if level != "patient"}
    return [(level, reason) for reason, level in reasons.items() if reason]


def _unknown_as_wrong(name: str, result: TargetResult, details: ExternalDetails) -> Iterator[str]:
    level = result.primary_level
    if details.unknown_as_wrong and level:
        scores = details.unknown_as_wrong[level]
        yield (
            f"{name}: with the classes that the model does not know, or has not learnt, counted as wrong, "
            f"accuracy per {level} {format_interval(scores['accuracy'])}, balanced accuracy "
            f"{format_interval(scores['balanced_accuracy'])}"
        )


def _screening_missing(results: ExternalResults) -> Iterator[str]:
    questions = results.external.model.screening
    if not questions:
        yield (
            "the model has no screening tests: it is of an older version, or its tasks have no degrees above "
            "normal; a new run of the main job makes them (--positive names the classes)"
        )
    for name in questions:
        if name not in results.run.screening:
            yield f"screening, {name}: not evaluated, as no frame of this data set has a label of that task"


def _without_class(name: str, details: ExternalDetails) -> Iterator[str]:
    if details.unscored:
        counted = [format_count(n, level) for level, n in details.unscored.items()]
        yield (
            f"{name}: {join_names(counted)} with a frame of a class that the model does not know "
            f"{is_or_are(counted)} not scored as a whole, as their own class is not known"
        )


def undecided_sentences(results: ExternalResults) -> Iterator[str]:
    """The exams without a known status, as the model does not know the class of a frame."""
    for name, result in results.run.screening.items():
        if result.undecided:
            yield (
                f"screening, {name}: left out {format_count(result.undecided, result.unit)} without a "
                "positive frame, but with one of a class that the model does not know: they may be ill"
            )


def calibration_sentence(name: str, result: TargetResult, details: ExternalDetails) -> str:
    """Calibration as it is, and after recalibration."""
    if result.calibration is None or details.scaling is None:
        return f"{name}: not recalibrated, {details.not_recalibrated or 'as nothing could be scored'}"
    before, after = (of.classwise_ece for of in (result.calibration.before, result.calibration.after))
    return (
        f"{name}: class-wise calibration error per frame {format_score(before, 3)} as it is, "
        f"{format_score(after, 3)} after recalibration on other groups of this data set (temperature "
        f"{format_score(details.scaling.temperature)})"
    )


def _abstention(name: str, result: TargetResult) -> Iterator[str]:
    level = "video" if result.primary_level == "video" else "frame"
    if result.selective and result.primary_level:
        of_level = result.selective.level(level)
        if of_level.coverage is None or of_level.risk is None:
            why = f" ({of_level.reasons[0]})" if of_level.reasons[0] else ""
            yield f"{name}: by its own threshold the model accepts no {level} here{why}"
        else:
            yield (
                f"{name}: by its own threshold the model accepts {of_level.coverage:.0%} of the {level}s, "
                f"{of_level.risk:.0%} of these wrong; aimed at, where it learnt: at most "
                f"{result.selective.most_wrong:.0%}"
            )


def novelty_sentence(results: ExternalResults) -> str:
    """The share of frames that are unlike those learnt from."""
    novelty = results.external.novelty
    if not novelty.known:
        return "whether frames are unlike those learnt from is not known: the model cannot tell"
    share = novelty.foreign / max(1, novelty.frames)
    return (
        f"{novelty.foreign} of {novelty.frames} frames ({share:.0%}) are unlike those learnt from; of frames "
        f"like those it would be at most {EXPECTED_FOREIGN:.0%}"
    )


def count_sentence(results: ExternalResults) -> str:
    """The number of evaluations of this model on these frames."""
    n, own = results.external.evaluations, results.external.own_evaluations
    if n == 1:
        return (
            "this model has been evaluated on these frames once, as far as the output and cache folders show"
        )
    of_run = f" ({own} of them by its own run, whose test part they are)" if own else ""
    return (
        f"this model has been evaluated on these frames {n} times{of_run}: if it, or a threshold, was chosen "
        "by these figures, they are too good"
    )


def _wrap(line: str) -> list[str]:
    return textwrap.wrap(line, MAX_COLUMNS, subsequent_indent="  ", break_on_hyphens=False) or [""]
