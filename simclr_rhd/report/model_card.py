"""`model_card.md`: what a model is, what it learnt from, how well it does, and what it is not for.

After Mitchell et al. 2019, "Model Cards for Model Reporting"; every figure is of the run's own records.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from simclr_rhd.core.logs import format_duration
from simclr_rhd.evaluation.selective import GUARANTEE
from simclr_rhd.report.summary import (
    BASELINE_NAMES,
    LEVELS,
    baseline_scores,
    collect_warnings,
    format_interval,
    format_score,
    limitations,
    primary_level,
    target_results,
    verdicts,
)
from simclr_rhd.report.verdict import verdict

ESCAPED = {letter: "\\" + letter for letter in "\\`*_{}[]|#"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
CLASS_SCORES = ("recall", "specificity", "precision")
BASELINES = ("majority", "pixels", "random encoder")
CARD_SETTINGS = (  # settings that decide what was learnt
    "epochs",
    "batch_size",
    "temperature",
    "optimizer",
    "positives",
    "augment",
    "init",
    "image_size",
    "view_sizes",
    "linear_epochs",
    "class_weights",
    "condition_mode",
    "group_by",
    "folds",
    "seed",
)


def model_card(metrics: dict[str, Any], run: Mapping[str, Any]) -> str:
    """The card in Markdown.

    Args:
        metrics: the content of `metrics.json`.
        run: the content of `run.json`.
    """
    parts = [
        _head(metrics, run),
        _use(),
        _data(metrics, run),
        _scores(metrics),
        _limits(metrics),
        _abstention(metrics),
        _provenance(metrics, run),
    ]
    return "\n".join(line for part in parts for line in (*part, ""))


def _head(metrics: dict[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    yield "# Model card: a classifier of ultrasound frames"
    yield ""
    for alarm in collect_warnings(metrics):
        yield f"> **{_escape(alarm)}**"
        yield ">"
    said = verdict(metrics)
    for sentence in said.values():
        yield f"> {_escape(sentence)}"
        yield ">"
    yield ""
    tasks = [task for task, of in metrics["tasks"].items() if "skipped" not in of]
    yield (
        "A ResNet-18 encoder, pretrained by SimCLR (Chen et al. 2020) on unlabelled frames, and linear heads "
        f"on its frozen features: {_escape(', '.join(tasks))}. Probabilities are calibrated by a temperature "
        "and a bias for each class, for the prevalence of the validation groups; the class that is said is "
        "the balanced choice, whose probability is largest for its prevalence."
    )


def _use() -> Iterator[str]:
    yield "## Use"
    yield ""
    yield (
        "- Meant for research on the screening for rheumatic heart disease, by people who can judge its "
        "answers."
    )
    yield "- **Not a medical device. Not for diagnosis, treatment, or any decision about a patient.**"
    yield (
        "- Not for frames unlike those it has learnt from (other organs, machines, settings): `predict` "
        "marks those that it finds foreign, and misses some."
    )
    yield '- `python3 main.py predict PATH... --model model.pt`, or `simclr_rhd.load_model("model.pt")`.'


def _data(metrics: dict[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    counts, split = run["counts"], metrics["split"]
    yield "## Data"
    yield ""
    patients = f"{counts['patients']} known patients" if counts["patients"] else "no patient known"
    apart = f"no {split['by']} is both learnt from and tested on"
    if split["leaky"]:
        apart = "LEAKY: frames of one patient or video are both learnt from and tested on"
    yield (
        f"{counts['frames']} frames, {counts['labelled']} of them labelled, of {counts['videos']} videos; "
        f"{patients}{'; drawn by a program' * bool(metrics['synthetic'])}. Split by {split['by']}: {apart}. "
        f"The encoder was pretrained {_escape(split['pretraining'])}."
    )
    for name, result in target_results(metrics):
        yield ""
        yield f"### {_escape(name)}"
        yield ""
        columns = list(next(iter(result["groups"].values()), {}))
        yield from _table(
            ["class", *(f"{split['by']}s" if column == "groups" else column for column in columns)],
            [[of_class, *counts.values()] for of_class, counts in result["groups"].items()],
        )


def _scores(metrics: dict[str, Any]) -> Iterator[str]:
    by = metrics["split"]["by"]
    yield "## Results"
    yield ""
    yield f"On {by}s that were not learnt from; in brackets 95 % intervals over {by}s."
    if metrics["split"]["folds"] > 1:
        yield (
            f"They are those of {metrics['split']['folds']} folds, each tested by heads that have not seen "
            "it. model.pt has heads of its own, which learnt and chose on all labelled frames: these figures "
            "tell how well heads made so do; its own answers there would look better."
        )
    yield ""
    rows = []
    for name, result in target_results(metrics):
        for level in LEVELS:
            scores = result["test"][level]
            if level == "frame" or scores["accuracy"] is not None:
                beside = [
                    format_score(baseline_scores(result, baseline, level).get("balanced_accuracy"))
                    for baseline in BASELINES
                ]
                told = [
                    format_interval(scores, score)
                    for score in ("balanced_accuracy", "accuracy", "auroc_macro")
                ]
                rows.append([f"{name}, per {level}", format_score(scores.get("n")), *told, *beside])
    told = ["", "n", "balanced accuracy", "accuracy", "AUROC"]
    yield from _table([*told, *(BASELINE_NAMES[baseline] for baseline in BASELINES)], rows)
    yield ""
    yield "(The last three columns: balanced accuracy of what the model must beat.)"
    for name, result in target_results(metrics):
        if at := primary_level(result):
            yield ""
            yield f"### {_escape(name)}: each class, per {at}"
            yield ""
            of_class = result["test"][at]["per_class"].items()
            yield from _table(
                ["class", "n", "sensitivity", "specificity", "precision"],
                [
                    [of, format_score(row["support"]), *(format_interval(row, x) for x in CLASS_SCORES)]
                    for of, row in of_class
                ],
            )


def _limits(metrics: dict[str, Any]) -> Iterator[str]:
    yield "## Limits"
    yield ""
    for line in [*verdicts(metrics), *limitations(metrics)]:
        yield f"- {_escape(line)}"
    found = metrics["audit"]["near_identical"]["found"]
    if found:
        yield (
            f"- {found} pairs of frames in different parts look nearly identical: if they are of one "
            "patient, the scores are too high."
        )
    yield "- It has not been tested on patients of another hospital, or on another machine."


def _abstention(metrics: dict[str, Any]) -> Iterator[str]:
    yield "## When it does not answer"
    yield ""
    yield (
        f"An answer counts from a confidence on of which it is proved on validation groups that {GUARANTEE}. "
        "Where that cannot be proved, no answer counts. A frame is marked as "
        "foreign if it is farther from the training frames, in one of three ways, than 99 % of such frames "
        "are whose groups were left out: so are at most 3 % of these."
    )
    yield ""
    rows = []
    for name, result in target_results(metrics):
        for level, of in result.get("selective", {}).items():
            if level in LEVELS:
                risk = "-" if of["risk"] is None else f"{of['risk']:.0%}"
                answered = "-" if of["coverage"] is None else f"{of['coverage']:.0%}"
                why = "; ".join(dict.fromkeys(filter(None, of["reasons"]))) or "-"
                rows.append([f"{name}, per {level}", answered, risk, why])
    yield from _table(["", "answered", "of these wrong", "why nothing is proved"], rows)


def _provenance(metrics: dict[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    yield "## How it was made"
    yield ""
    config = run["config"] | run.get("settled", {})
    config |= {"init": PurePath(str(config["init"])).name}  # not the folder, which may name people
    yield from _table(
        ["setting", "value"], [[f"--{name.replace('_', '-')}", config[name]] for name in CARD_SETTINGS]
    )
    yield ""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    data = run.get("data", {}).get("fingerprint", "unknown")
    spent = format_duration(sum(run.get("wall_s", {}).values()))
    yield (
        f"Program at commit {_escape(str(run['commit'] or 'unknown'))}; {_escape(versions)}; "
        f"{_escape(str(run.get('device', '')))}; {spent} in all. "
        f"Fingerprint of the data: {_escape(str(data))}."
    )


def _table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(map(_escape, map(str, header))) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(map(_escape, map(str, row))) + " |"


def _escape(text: str) -> str:
    """Words that Markdown shows as they are, in one line."""
    shown = " ".join(text.split())
    return "".join(ESCAPED.get(letter, letter) for letter in shown)
