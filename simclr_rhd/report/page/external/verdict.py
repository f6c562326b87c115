"""The verdict on an evaluation in three sentences: what holds, what is not known, what to do next."""

from collections.abc import Sequence

from simclr_rhd.evaluation.results import TargetResult
from simclr_rhd.inference.external.results import ExternalResults
from simclr_rhd.report.findings import BETTER, compare_to_baseline
from simclr_rhd.report.page.external.sentences import EXPECTED_FOREIGN
from simclr_rhd.report.verdict import MAX_NAMED_CLASSES
from simclr_rhd.report.wording import format_count, format_interval, format_score, is_or_are, join_names


def verdict(results: ExternalResults) -> dict[str, str]:
    """{"finding", "limits", "next_steps"}: one sentence each."""
    return {
        "finding": _finding(results),
        "limits": _limits(results),
        "next_steps": _next_steps(results),
    }


def _finding(results: ExternalResults) -> str:
    targets = results.run.targets
    better = [
        name
        for name in results.scored()
        if compare_to_baseline(targets[name], "majority", targets[name].primary_level or "") == BETTER
    ]
    if not better:
        return "No task is shown to be better here than the most frequent class for all."
    shown = [f"{name} ({_balanced_accuracy(results, name, targets[name])})" for name in better]
    return (
        f"Here {join_names(shown)} {is_or_are(better)} above the most frequent class for all, by more than "
        "chance."
    )


def _balanced_accuracy(results: ExternalResults, name: str, result: TargetResult) -> str:
    level = result.primary_level or ""
    home = results.external.own_test.get(name, {}).get(level)
    beside = "" if home is None else f", {format_score(home)} in the test part of its own run"
    return f"balanced accuracy per {level} {format_interval(result.test[level]['balanced_accuracy'])}{beside}"


def _limits(results: ExternalResults) -> str:
    external, unit, parts = results.external, results.run.split.by, []
    overlap = external.overlap
    if not overlap.recorded:
        parts.append("whether the model has learnt from these frames")
    elif overlap.patients_compared < overlap.patients or not overlap.patients:
        parts.append("whether the model has learnt from other frames of these patients")
    unknown = [name for of in external.classes.values() for name in of.unknown]
    if unknown:
        parts.append(f"what the model would say of {_some(unknown)} if it had learnt them")
    absent = [name for of in external.classes.values() for name in of.only_in_model]
    if absent:
        parts.append(f"how well it finds {_some(absent)}, of which there is no frame here")
    groups = results.run.split.parts["test"]["groups"]
    parts.append(f"how other hospitals than this one, with {format_count(groups, unit)}, would come out")
    return f"It is not known {', nor '.join(parts)}."


def _some(names: Sequence[str]) -> str:
    """A few names, and how many there are beside."""
    if len(names) <= MAX_NAMED_CLASSES:
        return join_names(names)
    return f"{', '.join(names[:MAX_NAMED_CLASSES])} and {len(names) - MAX_NAMED_CLASSES} other classes"


def _next_steps(results: ExternalResults) -> str:
    external, steps = results.external, list[str]()
    if too_sure := _miscalibrated(results):
        steps.append(
            f"do not take the probabilities of {join_names(too_sure)} as they are: recalibrated ones fit "
            "better here"
        )
    novelty = external.novelty
    if novelty.known and novelty.foreign > EXPECTED_FOREIGN * novelty.frames:
        steps.append(
            f"look at the {format_count(novelty.foreign, 'frame')} unlike those learnt from (another device, "
            "or another way of saving)"
        )
    steps.append("add labelled frames of this hospital to the training, and test on a third one")
    text = "; ".join(steps)
    return f"{text[:1].upper()}{text[1:]}."


def _miscalibrated(results: ExternalResults) -> Sequence[str]:
    """Targets whose calibration error is halved by recalibration."""
    return [
        name
        for name in results.scored()
        if (of := results.run.targets[name].calibration)
        and of.after.classwise_ece < of.before.classwise_ece / 2
    ]
