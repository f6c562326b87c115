"""What a run found, in words: for the end of the log, and for the top of the report.

A figure that could not be computed stands as '-', never as 0.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from simclr_rhd.report.charts.style import short_name

MAX_COLUMNS = 110  # columns of the short table
LEVELS = ("patient", "video", "frame")
MIN_GROUPS = 5  # in the test part; with fewer, resampling them says next to nothing
TIE_BELOW = 0.005  # a smaller difference is 0.00 on the page
WORSE, NOT_BETTER, UNSURE, BETTER = "worse", "not better", "unsure", "better"
SHORT_BASELINE_NAMES = {
    "majority": "majority",
    "pixels": "pixels",
    "random encoder": "random",
}  # in the short table
BASELINE_NAMES = {
    "pixels": "raw pixels",
    "random encoder": "an untrained encoder",
    "imagenet encoder": "an encoder trained on ImageNet",
    "majority": "the most frequent class",
}
METHOD_NAMES = BASELINE_NAMES | {
    "simclr": "this program",
    "finetuned": "fine-tuned",
    "neighbours": "nearest neighbours of the same features",
}
SYNTHETIC_WARNING = "SYNTHETIC demo data: nothing here says anything about patients."
LEAKY_WARNING = (
    "LEAKY split: frames of one patient or video are both learnt from and tested on, so these figures are "
    "too good and say nothing about new patients."
)


def summary(metrics: dict[str, Any], *, save_dir: str) -> str:
    """What is printed at the end of a run, at most 110 columns wide: the verdicts, then a short table."""
    by = metrics["split"]["by"]
    header = _row(
        "test part",
        "n",
        f"{by}s",
        "accuracy",
        "balanced accuracy",
        *(f"{x}*" for x in SHORT_BASELINE_NAMES.values()),
    )
    lines = [*verdicts(metrics), "", header, "-" * len(header)]
    for name, result in target_results(metrics):
        levels = [
            level for level in LEVELS if level == "frame" or result["test"][level]["accuracy"] is not None
        ]
        lines += [_scores_row(name, level, result) for level in levels]
    lines += [
        "* balanced accuracy of always saying the most frequent class, of raw pixels without a network, and "
        "of the same heads on untrained encoders (the mean)",
        f"[95 % interval over {by}s]   - cannot be computed",
        "",
        *limitations(metrics),
        "",
    ]
    wrapped = [part for line in collect_warnings(metrics) + lines for part in _wrap(line)]
    look_at = f"Look at {save_dir.rstrip('/')}/report.html"  # not wrapped: a path is to be copied
    beside = "Beside it: pictures, metrics.json, predictions.csv, run.json; model.pt with its model_card.md"
    return "\n".join([*wrapped, look_at, beside])


def target_results(metrics: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and result of each question that was evaluated: a task, or one of its lesions."""
    for task, of_task in metrics["tasks"].items():
        if "lesions" in of_task:
            yield from ((f"{task}: {lesion}", result) for lesion, result in of_task["lesions"].items())
        elif "skipped" not in of_task:
            yield task, of_task


def verdicts(metrics: dict[str, Any]) -> list[str]:
    """For each question, plain words on what beats its comparators on the test part and what does not.

    Judged by balanced accuracy, per video where that is known, else per frame.
    """
    return [
        f"{name}: balanced accuracy per {level} {result['test'][level]['balanced_accuracy']:.2f}"
        f"{_verdict(result, level)}."
        for name, result in target_results(metrics)
        if (level := primary_level(result))
    ]


def collect_warnings(metrics: dict[str, Any]) -> list[str]:
    """What must be known before any figure is believed, the worst first."""
    found = [SYNTHETIC_WARNING] * bool(metrics["synthetic"]) + [LEAKY_WARNING] * bool(
        metrics["split"]["leaky"]
    )
    against = _targets_by_outcome(metrics, "pixels")
    if worse := against[WORSE]:
        found.append(
            f"WORSE THAN RAW PIXELS: {', '.join(worse)}. A logistic regression on small pictures does better "
            "there, by more than chance."
        )
    if unbeaten := against[NOT_BETTER]:
        found.append(
            f"NOT BETTER THAN RAW PIXELS: {', '.join(unbeaten)}. A logistic regression on small pictures "
            "does as well or better there."
        )
    if unsure := against[UNSURE]:
        found.append(
            f"NOT SHOWN TO BE BETTER THAN RAW PIXELS: {', '.join(unsure)}. The difference may be chance."
        )
    against = _targets_by_outcome(metrics, "random encoder")
    if unbeaten := against[WORSE] + against[NOT_BETTER]:
        found.append(
            f"NOT BETTER THAN AN UNTRAINED ENCODER: {', '.join(unbeaten)}. On these data the pretraining has "
            "not paid there."
        )
    return found


def _targets_by_outcome(metrics: dict[str, Any], baseline: str) -> dict[str, list[str]]:
    """{how the model stands to a baseline: in which questions}."""
    found: dict[str, list[str]] = {WORSE: [], NOT_BETTER: [], UNSURE: [], BETTER: []}
    for name, result in target_results(metrics):
        level = primary_level(result)
        if level and (how := compare_to_baseline(result, baseline, level)):
            found[how].append(name)
    return found


def compare_to_baseline(result: dict[str, Any], baseline: str, level: str) -> str | None:
    """How the model stands to a baseline, by the interval of their difference; None where that is not known.

    WORSE and BETTER by more than chance; else NOT_BETTER where it is equal or below, UNSURE where above.
    """
    margin = result["margins"].get(baseline, {}).get(level, {})
    if margin.get("balanced_accuracy") is None:
        return None
    bounds = margin["ci95"]  # none where the difference rests on a single group
    if bounds and result["test"][level]["groups"] >= MIN_GROUPS and (bounds[0] > 0 or bounds[1] < 0):
        return BETTER if bounds[0] > 0 else WORSE
    return UNSURE if margin["balanced_accuracy"] >= TIE_BELOW else NOT_BETTER


def primary_level(result: dict[str, Any]) -> str | None:
    """The level that is judged: per video where that is known, else per frame; None where neither is."""
    known = [level for level in ("video", "frame") if result["test"][level]["balanced_accuracy"] is not None]
    return known[0] if known else None


def format_score(value: float | None, digits: int = 2) -> str:
    """A score with `digits` decimals, a count as it is, '-' for what cannot be computed."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def format_interval(scores: dict[str, Any], name: str) -> str:
    """A score with its 95 % interval where there is one: '0.91 [0.85, 0.96]'."""
    bounds = (scores.get("ci95") or {}).get(name)
    around = f" [{format_score(bounds[0])}, {format_score(bounds[1])}]" if bounds else ""
    return format_score(scores.get(name)) + around


def format_difference(margin: dict[str, Any]) -> str:
    """A difference of balanced accuracies with its 95 % interval: '+0.05 [-0.02, +0.11]'."""
    if margin["balanced_accuracy"] is None:
        return "-"
    around = " [{:+.2f}, {:+.2f}]".format(*margin["ci95"]) if margin["ci95"] else ""
    return f"{margin['balanced_accuracy']:+.2f}{around}"


def baseline_scores(result: dict[str, Any], name: str, level: str) -> dict[str, Any]:
    """Scores of a comparator: those per frame stand at the top, the others below their level."""
    scores = result["baselines"].get(name, {})
    return scores if level == "frame" else scores.get(level, {})


def chance_accuracy(result: dict[str, Any], level: str) -> float:
    """Balanced accuracy of guessing: 1 / number of the classes that are tested and count."""
    left_out = {row["class"] for row in result["not_evaluable"]}
    rows = result["test"][level]["per_class"].items()
    return 1 / max(1, sum(row["support"] > 0 and name not in left_out for name, row in rows))


def label_curves(metrics: dict[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """{question: {who, in words: points}} of what labels are worth, where that was asked for."""
    return {
        name: {METHOD_NAMES.get(who, who): points for who, points in result["label_efficiency"].items()}
        for name, result in target_results(metrics)
        if "label_efficiency" in result
    }


def _verdict(result: dict[str, Any], level: str) -> str:
    """How the model stands to each baseline, the worst first."""
    few = result["test"][level]["groups"] < MIN_GROUPS
    doubt = "too few groups are tested to tell" if few else f"that may be chance ({_interval_note(result)})"
    told = {
        WORSE: ("is WORSE than {}, by more than chance", "and"),
        NOT_BETTER: ("does NOT beat {}", "or"),
        UNSURE: (f"is above {{}}, but {doubt}", "and"),
        BETTER: ("beats {}", "and"),
    }
    named: dict[str, list[str]] = {how: [] for how in told}
    for baseline, words in BASELINE_NAMES.items():
        if how := compare_to_baseline(result, baseline, level):
            score = baseline_scores(result, baseline, level)["balanced_accuracy"]
            named[how].append(f"{words} ({format_score(score)})")
    parts = [
        f" {text.format(join_words(named[how], joint))}" for how, (text, joint) in told.items() if named[how]
    ]
    return ";".join(parts) or " has nothing to be compared with"


def _interval_note(result: dict[str, Any]) -> str:
    """What the intervals of the differences hold: those of a task hold together (Bonferroni)."""
    number = result.get("comparisons", 1)
    if number == 1:
        return "95 % interval of the difference"
    return f"intervals of the task's {number} differences that hold together with 95 %"


def join_words(words: Sequence[str], conjunction: str = "and") -> str:
    """The words as a list: 'a, b and c'."""
    return f" {conjunction} ".join([", ".join(words[:-1])] * (len(words) > 1) + list(words[-1:]))


def _row(*cells: str) -> str:
    return "{:<30}{:>5}{:>9}  {:<18}  {:<18}{:>10}{:>8}{:>8}".format(*cells)


def _scores_row(name: str, level: str, result: dict[str, Any]) -> str:
    scores = result["test"][level]
    short = name if len(name) <= 18 else short_name(name.split(": ")[-1])
    beside = [
        format_score(baseline_scores(result, baseline, level).get("balanced_accuracy"))
        for baseline in SHORT_BASELINE_NAMES
    ]
    return _row(
        f"{short} per {level}",
        format_score(scores.get("n")),
        format_score(scores.get("groups")),
        format_interval(scores, "accuracy"),
        format_interval(scores, "balanced_accuracy"),
        *beside,
    )


def limitations(metrics: dict[str, Any]) -> list[str]:
    """What the figures leave out and why, how exact they can be, and what an encoder has seen."""
    split, noted = metrics["split"], set[str]()
    found = [f"{task}: skipped, {of['skipped']}" for task, of in metrics["tasks"].items() if "skipped" in of]
    for name, result in target_results(metrics):
        left_out = [row["class"] for row in result["not_evaluable"]]
        if left_out:
            found.append(
                f"{name}: {len(result['classes']) - len(left_out)} of {len(result['classes'])} classes are "
                f"evaluated; this split cannot evaluate {', '.join(left_out)} (a frame of another class that "
                "is said to be one of these counts as wrong)"
            )
        reasons = {result["test"][level].get("reason"): level for level in LEVELS if level != "patient"}
        found += [f"{name}: no scores per {level}, {why}" for why, level in reasons.items() if why]
        if result["test"]["video"]["accuracy"] is not None and name.split(":")[0] not in noted:
            noted.add(name.split(":")[0])  # lesions are of the same groups
            found.append(power_note(name, result, split["by"]))
        found += _optional_results(name, result)
    if split["folds"] > 1:
        found += [
            f"{split['folds']} folds; balanced accuracy per video of the classes that each tests: "
            + "; ".join(_fold_scores(metrics)),
            f"the encoder is pretrained {split['pretraining']}",
        ]
    return found


def _optional_results(name: str, result: dict[str, Any]) -> Iterator[str]:
    """What flags have asked for, beside the linear heads."""
    if not (level := primary_level(result)):
        return
    honest = result["test"]
    if "finetuned" in result:
        tuned = result["finetuned"]
        yield (
            f"{name}: fine-tuned, balanced accuracy per {level} "
            f"{format_interval(tuned['test'][level], 'balanced_accuracy')}, "
            f"{format_difference(tuned['margin'][level])} to the linear head; "
            f"epochs kept: {', '.join(map(str, tuned['epochs_kept']))} (0: as it was)"
        )
    if "leak" in result and result["leak"]["frame"]["balanced_accuracy"] is not None:
        leaky, ours = result["leak"]["frame"]["balanced_accuracy"], honest["frame"]["balanced_accuracy"]
        yield (
            f"{name}: LEAKY, under a split over frames the same heads would score {leaky:.2f} per frame "
            f"instead of {ours:.2f}: a leak would flatter them by {leaky - ours:+.2f}"
        )
    for point in result.get("label_efficiency", {}).get("simclr", []):
        yield (
            f"{name}: with {point['fraction']:.0%} of the labelled groups ({point['groups']:.0f} to learn "
            f"from) balanced accuracy per video {format_score(point['balanced_accuracy'])}"
        )


def power_note(name: str, result: dict[str, Any], by: str) -> str:
    """How exact an accuracy can be with the groups that are tested."""
    note = result["power"]
    return (
        f"{name}: with {note['groups']} {by}s an accuracy of {note['accuracy']:.2f} has an interval of about "
        f"± {note['half_width']:.2f}; ± 0.10 would take {note['groups_needed']}"
    )


def _fold_scores(metrics: dict[str, Any]) -> list[str]:
    return [
        f"{name} " + " ".join(format_score(fold["balanced_accuracy"]) for fold in result["folds"])
        for name, result in target_results(metrics)
    ]


def _wrap(line: str) -> list[str]:
    return textwrap.wrap(line, MAX_COLUMNS, subsequent_indent="  ", break_on_hyphens=False) or [""]
