"""The verdict on a run in three sentences: what is good, what is not known, what to do next."""

from collections.abc import Sequence

from simclr_rhd.evaluation.checks.shortcuts import explaining_shortcuts
from simclr_rhd.evaluation.results import RunResults, TargetResult
from simclr_rhd.report.findings import BETTER, NOT_BETTER, UNSURE, WORSE, worst_outcomes
from simclr_rhd.report.wording import BASELINE_NAMES, format_interval, format_score, is_or_are, join_names

WIDE_HALF_WIDTH = 0.1  # half the width of an interval that more groups should narrow
MAX_NAMED_CLASSES = 4  # classes in a sentence
# Groups of a class; with fewer its interval is hardly narrower than that of as many trials.
MIN_GROUPS_PER_CLASS = 10


def verdict(results: RunResults) -> dict[str, str]:
    """{"finding", "limits", "next_steps"}: one sentence each."""
    targets = worst_outcomes(results)
    others = targets[UNSURE] + targets[NOT_BETTER] + targets[WORSE]
    return {
        "finding": _finding(results, targets[BETTER], others),
        "limits": _limits(results, targets),
        "next_steps": _next_steps(results, others),
    }


def _finding(results: RunResults, better: Sequence[str], others: Sequence[str]) -> str:
    if results.split.leaky:
        return "Nothing can be called good: the split is leaky, so the figures below are too high."
    targets = results.targets
    if better:
        shown = [f"{name} ({_format_accuracy(targets[name])})" for name in better]
        made = "synthetic " * results.synthetic
        return (
            f"On {made}{results.split.by}s that the model has never seen, {join_names(shown)} "
            f"{is_or_are(better)} above everything that must be beaten, by more than chance."
        )
    if not others:
        return "No task could be tested, so there is nothing to call good."
    best = max(others, key=lambda name: _above_chance(targets[name]))
    result, level = targets[best], targets[best].primary_level or ""
    beside = [
        f"{format_score(result.baseline_score(baseline, level).value)} of {name}"
        for baseline, name in BASELINE_NAMES.items()
        if baseline in result.baselines
    ]
    return (
        f"{best[:1].upper()}{best[1:]} is recognised best, {_format_accuracy(result)} where guessing "
        f"has {format_score(result.chance_accuracy(level))}; but nothing is shown to be better than what "
        f"must be beaten, there {join_names(beside)}."
    )


def _above_chance(result: TargetResult) -> float:
    level = result.primary_level or ""
    return (result.test[level]["balanced_accuracy"].value or 0.0) - result.chance_accuracy(level)


def _format_accuracy(result: TargetResult) -> str:
    level = result.primary_level or ""
    return f"balanced accuracy per {level} {format_interval(result.test[level]['balanced_accuracy'])}"


def _limits(results: RunResults, targets: dict[str, list[str]]) -> str:
    if results.split.leaky:
        return "How well the model would do on new patients is not known."
    parts = []
    if unbeaten := targets[NOT_BETTER]:
        parts.append(f"whether training helps to tell {join_names(unbeaten)} (a simpler method does as well)")
    if unsure := targets[UNSURE]:
        parts.append(
            f"whether {join_names(unsure)} {is_or_are(unsure)} better than a simpler method, or that is "
            "chance"
        )
    if missing := _not_evaluable_classes(results):
        parts.append(f"anything about {_join_class_names(missing)}, which too few {results.split.by}s have")
    parts += [f"anything about {task} ({reason})" for task, reason in results.skipped.items()]
    parts.append(
        "anything about real patients, since its data are drawn by a program"
        if results.synthetic
        else "how it would do on patients of another hospital or machine"
    )
    start = "This"
    if worse := targets[WORSE]:
        start = f"At {join_names(worse)} a simpler method is better, by more than chance; beyond that this"
    return f"{start} run does not show {'; or '.join(parts)}."


def _next_steps(results: RunResults, others: Sequence[str]) -> str:
    split = results.split
    if split.leaky and split.own:
        return "Put all frames of a patient or video into one part of the split, and run it again."
    if split.leaky:
        return "Run it again with --group-by patient (or video), so that no patient stands on both sides."
    parts = []
    if results.audit.near_identical.found:
        parts.append("look at the pairs of frames below that may be one patient under two names")
    if missing := _not_evaluable_classes(results):
        classes = _join_class_names(missing)
        parts.append(f"label frames of at least {MIN_GROUPS_PER_CLASS} {split.by}s with {classes}")
    parts += _shortcut_advice(results)
    parts += _narrowing_advice(results)
    if not parts and others:
        parts.append("look at the failures below, and pretrain longer or on more unlabelled frames")
    if not parts:
        parts.append("test the model on frames of another hospital before anything is built on it")
    made = "On your own data: " * results.synthetic
    sentence = join_names(parts)
    return f"{made}{sentence[0].lower() if made else sentence[0].upper()}{sentence[1:]}."


def _shortcut_advice(results: RunResults) -> list[str]:
    """Advice where a shortcut may explain a score: test it where the shortcut is another one."""
    explained = [name for name, result in results.targets.items() if explaining_shortcuts(result)]
    if not explained:
        return []
    if results.split.folds_by:
        return [
            f"look for what tells {join_names(explained)} beside the heart, such as the form of the sector"
        ]
    return [
        f"test {join_names(explained)} with --folds-by SITE (or DEVICE), which shows whether more than a "
        "shortcut is learnt"
    ]


def _narrowing_advice(results: RunResults) -> list[str]:
    """Advice where an accuracy's interval is wide: more folds, or more labelled groups."""
    split = results.split
    wide = [
        (result.power, name)
        for name, result in results.targets.items()
        if (result.power.half_width or 0) > WIDE_HALF_WIDTH
    ]
    if not wide:
        return []
    folds = min(5, sum(part["groups"] for part in split.parts.values()))
    if split.folds == 1 and folds >= 3:
        return [f"use --folds {folds}, which tests every labelled group and narrows the intervals"]
    note, name = max(wide, key=lambda pair: pair[0].groups_needed - pair[0].groups)
    more = max(1, note.groups_needed - note.groups)
    return [
        f"label the {name} of some {more} more {split.by}{'s' * (more != 1)} (now {note.groups}), "
        "for an accuracy to ± 0.10"
    ]


def _not_evaluable_classes(results: RunResults) -> list[str]:
    """Classes that cannot be evaluated, of all targets; of lesions the target."""
    return list(
        dict.fromkeys(
            name if of_class in ("present", "absent") else of_class
            for name, result in results.targets.items()
            for of_class in result.missing_classes
        )
    )


def _join_class_names(names: Sequence[str]) -> str:
    more = [f"{len(names) - MAX_NAMED_CLASSES} other classes"] * (len(names) > MAX_NAMED_CLASSES + 1)
    return join_names([*names[: MAX_NAMED_CLASSES if more else MAX_NAMED_CLASSES + 1], *more])
