"""The verdict on a run in three sentences: what is good, what cannot be said, what to do next."""

from collections.abc import Sequence
from typing import Any

from simclr_rhd.report.summary import (
    BETTER,
    NOT_BETTER,
    RIVALS,
    UNSURE,
    WORSE,
    baseline,
    chance,
    figure,
    interval,
    judged,
    listed,
    results,
    standing,
)

WIDE = 0.1  # half the width of an interval that more groups should narrow
NAMED = 4  # classes in a sentence
WANTED = 10  # groups of a class; with fewer its interval is hardly narrower than that of as many trials


def verdict(metrics: dict[str, Any]) -> dict[str, str]:
    """{"good", "cannot", "next"}: one sentence each, of the content of `metrics.json`."""
    names = _sorted(metrics)
    return {
        "good": _good(metrics, names[BETTER], names[UNSURE] + names[NOT_BETTER] + names[WORSE]),
        "cannot": _cannot(metrics, names[WORSE], names[UNSURE], names[NOT_BETTER]),
        "next": _next(metrics, names[UNSURE] + names[NOT_BETTER] + names[WORSE]),
    }


def _sorted(metrics: dict[str, Any]) -> dict[str, list[str]]:
    """{how a question stands to what must be beaten, by the comparator it does worst against: questions}."""
    found: dict[str, list[str]] = {WORSE: [], NOT_BETTER: [], UNSURE: [], BETTER: []}
    for name, result in results(metrics):
        if level := judged(result):
            against = {standing(result, rival, level) for rival in RIVALS} - {None} or {UNSURE}
            found[next(how for how in found if how in against)].append(name)
    return found


def _good(metrics: dict[str, Any], shown: Sequence[str], others: Sequence[str]) -> str:
    if metrics["split"]["leaky"]:
        return "Nothing can be called good: the split is leaky, so the figures below are too high."
    found = dict(results(metrics))
    if shown:
        told = [f"{name} ({_told(found[name])})" for name in shown]
        return (
            f"On {_whose(metrics)} that the model has never seen, {listed(told)} {_is(shown)} above "
            "everything that must be beaten, by more than chance."
        )
    if not others:
        return "No task could be tested, so there is nothing to call good."
    best = max(others, key=lambda name: _above_chance(found[name]))
    result, level = found[best], judged(found[best]) or ""
    beside = [
        f"{figure(baseline(result, rival, level).get('balanced_accuracy'))} of {words}"
        for rival, words in RIVALS.items()
        if baseline(result, rival, level)
    ]
    return (
        f"{best[:1].upper()}{best[1:]} is told best, {_told(result)} where guessing has "
        f"{figure(chance(result, level))}; but nothing is shown to be better than what must be beaten, "
        f"there {listed(beside)}."
    )


def _above_chance(result: dict[str, Any]) -> float:
    level = judged(result) or ""
    return float(result["test"][level]["balanced_accuracy"]) - chance(result, level)


def _whose(metrics: dict[str, Any]) -> str:
    made = "synthetic " * bool(metrics["synthetic"])
    return f"{made}{metrics['split']['by']}s"


def _told(result: dict[str, Any]) -> str:
    level = judged(result) or ""
    return f"balanced accuracy per {level} {interval(result['test'][level], 'balanced_accuracy')}"


def _cannot(
    metrics: dict[str, Any], worse: Sequence[str], unsure: Sequence[str], unbeaten: Sequence[str]
) -> str:
    if metrics["split"]["leaky"]:
        return "How well the model would do on new patients cannot be said at all."
    parts = []
    if unbeaten:
        parts.append(f"whether training helps to tell {listed(unbeaten)} (a simpler method does as well)")
    if unsure:
        parts.append(
            f"whether {listed(unsure)} {_is(unsure)} better than a simpler method, or that is chance"
        )
    missing = _missing(metrics)
    if missing:
        parts.append(f"anything about {_some(missing)}, which too few {metrics['split']['by']}s have")
    skipped = {task: of["skipped"] for task, of in metrics["tasks"].items() if "skipped" in of}
    parts += [f"anything about {task} ({why})" for task, why in skipped.items()]
    parts.append(
        "anything about real patients, since its data are drawn by a program"
        if metrics["synthetic"]
        else "how it would do on patients of another hospital or machine"
    )
    bad = (
        f"At {listed(worse)} a simpler method is better, by more than chance; beyond that this"
        if worse
        else ""
    )
    return f"{bad or 'This'} run cannot tell {'; nor '.join(parts)}."


def _next(metrics: dict[str, Any], others: Sequence[str]) -> str:
    split, missing = metrics["split"], _missing(metrics)
    if split["leaky"]:
        return "Run it again with --group-by patient (or video), so that no patient stands on both sides."
    parts = []
    if metrics["audit"]["near_identical"]["found"]:
        parts.append("look at the pairs of frames below that may be one patient under two names")
    if missing:
        parts.append(f"label frames of at least {WANTED} {split['by']}s with {_some(missing)}")
    notes = [(result["power"], name) for name, result in results(metrics) if result["power"]["half_width"]]
    wide = [(note, name) for note, name in notes if note["half_width"] > WIDE]
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
    sentence = listed(parts)
    return f"{made}{sentence[0].lower() if made else sentence[0].upper()}{sentence[1:]}."


def _missing(metrics: dict[str, Any]) -> list[str]:
    """Classes that cannot be evaluated, of all questions."""
    return list(
        dict.fromkeys(
            f"{name}" if row["class"] in ("present", "absent") else row["class"]
            for name, result in results(metrics)
            for row in result["not_evaluable"]
        )
    )


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - NAMED} other classes"] * (len(names) > NAMED + 1)
    return listed([*names[: NAMED if more else NAMED + 1], *more])


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
