"""The verdict on a run in three sentences: what is good, what cannot be said, what to do next."""

from collections.abc import Sequence
from typing import Any

from simclr_rhd.report.summary import (
    BASELINE_NAMES,
    BETTER,
    NOT_BETTER,
    UNSURE,
    WORSE,
    baseline_scores,
    chance_accuracy,
    compare_to_baseline,
    format_interval,
    format_score,
    join_words,
    primary_level,
    target_results,
)

WIDE_HALF_WIDTH = 0.1  # half the width of an interval that more groups should narrow
MAX_NAMED_CLASSES = 4  # classes in a sentence
MIN_GROUPS_PER_CLASS = (
    10  # groups of a class; with fewer its interval is hardly narrower than that of as many trials
)


def verdict(metrics: dict[str, Any]) -> dict[str, str]:
    """{"finding", "limits", "next_steps"}: one sentence each, of the content of `metrics.json`."""
    names = _targets_by_outcome(metrics)
    return {
        "finding": _finding(metrics, names[BETTER], names[UNSURE] + names[NOT_BETTER] + names[WORSE]),
        "limits": _limits(metrics, names[WORSE], names[UNSURE], names[NOT_BETTER]),
        "next_steps": _next_steps(metrics, names[UNSURE] + names[NOT_BETTER] + names[WORSE]),
    }


def _targets_by_outcome(metrics: dict[str, Any]) -> dict[str, list[str]]:
    """{how a question stands to what must be beaten, by the comparator it does worst against: questions}."""
    found: dict[str, list[str]] = {WORSE: [], NOT_BETTER: [], UNSURE: [], BETTER: []}
    for name, result in target_results(metrics):
        if level := primary_level(result):
            against = {compare_to_baseline(result, baseline, level) for baseline in BASELINE_NAMES} - {
                None
            } or {UNSURE}
            found[next(how for how in found if how in against)].append(name)
    return found


def _finding(metrics: dict[str, Any], shown: Sequence[str], others: Sequence[str]) -> str:
    if metrics["split"]["leaky"]:
        return "Nothing can be called good: the split is leaky, so the figures below are too high."
    found = dict(target_results(metrics))
    if shown:
        told = [f"{name} ({_format_accuracy(found[name])})" for name in shown]
        return (
            f"On {_tested_groups(metrics)} that the model has never seen, {join_words(told)} {_is(shown)} "
            "above everything that must be beaten, by more than chance."
        )
    if not others:
        return "No task could be tested, so there is nothing to call good."
    best = max(others, key=lambda name: _above_chance(found[name]))
    result, level = found[best], primary_level(found[best]) or ""
    beside = [
        f"{format_score(baseline_scores(result, baseline, level).get('balanced_accuracy'))} of {words}"
        for baseline, words in BASELINE_NAMES.items()
        if baseline_scores(result, baseline, level)
    ]
    return (
        f"{best[:1].upper()}{best[1:]} is told best, {_format_accuracy(result)} where guessing "
        f"has {format_score(chance_accuracy(result, level))}; but nothing is shown to be better than what "
        f"must be beaten, there {join_words(beside)}."
    )


def _above_chance(result: dict[str, Any]) -> float:
    level = primary_level(result) or ""
    return float(result["test"][level]["balanced_accuracy"]) - chance_accuracy(result, level)


def _tested_groups(metrics: dict[str, Any]) -> str:
    made = "synthetic " * bool(metrics["synthetic"])
    return f"{made}{metrics['split']['by']}s"


def _format_accuracy(result: dict[str, Any]) -> str:
    level = primary_level(result) or ""
    return f"balanced accuracy per {level} {format_interval(result['test'][level], 'balanced_accuracy')}"


def _limits(
    metrics: dict[str, Any], worse: Sequence[str], unsure: Sequence[str], unbeaten: Sequence[str]
) -> str:
    if metrics["split"]["leaky"]:
        return "How well the model would do on new patients cannot be said at all."
    parts = []
    if unbeaten:
        parts.append(f"whether training helps to tell {join_words(unbeaten)} (a simpler method does as well)")
    if unsure:
        parts.append(
            f"whether {join_words(unsure)} {_is(unsure)} better than a simpler method, or that is chance"
        )
    missing = _not_evaluable_classes(metrics)
    if missing:
        parts.append(
            f"anything about {_join_class_names(missing)}, which too few {metrics['split']['by']}s have"
        )
    skipped = {task: of["skipped"] for task, of in metrics["tasks"].items() if "skipped" in of}
    parts += [f"anything about {task} ({why})" for task, why in skipped.items()]
    parts.append(
        "anything about real patients, since its data are drawn by a program"
        if metrics["synthetic"]
        else "how it would do on patients of another hospital or machine"
    )
    bad = (
        f"At {join_words(worse)} a simpler method is better, by more than chance; beyond that this"
        if worse
        else ""
    )
    return f"{bad or 'This'} run cannot tell {'; nor '.join(parts)}."


def _next_steps(metrics: dict[str, Any], others: Sequence[str]) -> str:
    split, missing = metrics["split"], _not_evaluable_classes(metrics)
    if split["leaky"]:
        return "Run it again with --group-by patient (or video), so that no patient stands on both sides."
    parts = []
    if metrics["audit"]["near_identical"]["found"]:
        parts.append("look at the pairs of frames below that may be one patient under two names")
    if missing:
        classes = _join_class_names(missing)
        parts.append(f"label frames of at least {MIN_GROUPS_PER_CLASS} {split['by']}s with {classes}")
    notes = [
        (result["power"], name) for name, result in target_results(metrics) if result["power"]["half_width"]
    ]
    wide = [(note, name) for note, name in notes if note["half_width"] > WIDE_HALF_WIDTH]
    folds = min(5, sum(part["groups"] for part in split["parts"].values()))
    if wide and split["folds"] == 1 and folds >= 3:
        parts.append(f"use --folds {folds}, which tests every labelled group and narrows the intervals")
    elif wide:
        most, name = max(wide, key=lambda pair: pair[0]["groups_needed"] - pair[0]["groups"])
        more = max(1, most["groups_needed"] - most["groups"])
        parts.append(
            f"label the {name} of some {more} more {split['by']}{'s' * (more != 1)} (now {most['groups']}), "
            "for an accuracy to ± 0.10"
        )
    if not parts and others:
        parts.append("look at the failures below, and pretrain longer or on more unlabelled frames")
    if not parts:
        parts.append("test the model on frames of another hospital before anything is built on it")
    made = "On your own data: " * bool(metrics["synthetic"])
    sentence = join_words(parts)
    return f"{made}{sentence[0].lower() if made else sentence[0].upper()}{sentence[1:]}."


def _not_evaluable_classes(metrics: dict[str, Any]) -> list[str]:
    """Classes that cannot be evaluated, of all questions."""
    return list(
        dict.fromkeys(
            f"{name}" if row["class"] in ("present", "absent") else row["class"]
            for name, result in target_results(metrics)
            for row in result["not_evaluable"]
        )
    )


def _join_class_names(names: Sequence[str]) -> str:
    more = [f"{len(names) - MAX_NAMED_CLASSES} other classes"] * (len(names) > MAX_NAMED_CLASSES + 1)
    return join_words([*names[: MAX_NAMED_CLASSES if more else MAX_NAMED_CLASSES + 1], *more])


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
