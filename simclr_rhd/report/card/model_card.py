"""`model_card.md`: what a model is, what it learnt from, how well it does, and what it is not for.

After Mitchell et al. 2019, "Model Cards for Model Reporting"; every figure is of the run's own records.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from simclr_rhd.core.config import flag_name
from simclr_rhd.core.logs import format_duration
from simclr_rhd.core.text import command_name
from simclr_rhd.evaluation.checks.leakage import NEAR_DUPLICATES_WARNING
from simclr_rhd.evaluation.results import RunResults
from simclr_rhd.evaluation.selective import GUARANTEE, SELECTIVE_LEVELS
from simclr_rhd.report.card.front_matter import front_matter
from simclr_rhd.report.findings import collect_warnings
from simclr_rhd.report.screening import screening_lines
from simclr_rhd.report.summary import limitations, scored_levels, verdicts
from simclr_rhd.report.verdict import verdict
from simclr_rhd.report.wording import (
    AVERAGES,
    BASELINE_NAMES,
    TABLE_BASELINES,
    format_interval,
    format_score,
)
from simclr_rhd.report.wording import escape_markdown as _escape
from simclr_rhd.report.wording import markdown_table as _table

CLASS_SCORES = ("recall", "specificity", "precision")
NOT_TESTED_ELSEWHERE = "- It has not been tested on patients of another hospital, or on another machine."
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
    "tasks",
    "condition_mode",
    "group_by",
    "folds",
    "folds_by",
    "seed",
)


def model_card(results: RunResults, run: Mapping[str, Any]) -> str:
    """The card in Markdown, behind a front matter in YAML.

    Args:
        results: of the run.
        run: the content of `run.json`.
    """
    sections = {
        "Use": _use(),
        "Data": _data(results, run),
        "Results": _scores(results),
        "Screening": _screening(results),
        "Limits": _limits(results),
        "Abstention": _abstention(results),
        "How it was made": _provenance(run),
    }
    lines = [*front_matter(results, _fingerprint(run)), *_head(results), ""]
    for title, section in sections.items():
        lines += [f"## {title}", "", *section, ""]
    return "\n".join(lines)


def _head(results: RunResults) -> Iterator[str]:
    yield "# Model card: a classifier of ultrasound frames"
    yield ""
    for alarm in collect_warnings(results):
        yield f"> **{_escape(alarm)}**"
        yield ">"
    for sentence in verdict(results).values():
        yield f"> {_escape(sentence)}"
        yield ">"
    yield ""
    tasks = [task for task in results.tasks if task not in results.skipped]
    yield (
        "A ResNet-18 encoder, pretrained by SimCLR (Chen et al. 2020) on unlabelled frames, and linear heads "
        f"on its frozen features: {_escape(', '.join(tasks))}. Probabilities are calibrated by a temperature "
        "and a bias for each class, for the prevalence of the validation groups; the predicted class is "
        "the balanced choice, whose probability is largest for its prevalence."
    )


def _use() -> Iterator[str]:
    yield (
        "- Meant for research on the screening for rheumatic heart disease, by people who can judge its "
        "predictions."
    )
    yield "- **Not a medical device. Not for diagnosis, treatment, or any decision about a patient.**"
    yield (
        "- Not for frames unlike those it has learnt from (other organs, machines, settings): `predict` "
        "marks those that it finds foreign, and misses some."
    )
    predict = f"`{command_name()} predict PATH... --model model.pt`"
    yield f'- {predict}, or `simclr_rhd.load_model("model.pt")`.'


def _data(results: RunResults, run: Mapping[str, Any]) -> Iterator[str]:
    counts, split = run["counts"], results.split
    patients = f"{counts['patients']} known patients" if counts["patients"] else "no patient known"
    apart = f"no {split.by} is both learnt from and tested on"
    if split.leaky:
        apart = "LEAKY: frames of one patient or video are both learnt from and tested on"
    yield (
        f"{counts['frames']} frames, {counts['labelled']} of them labelled, of {counts['videos']} videos; "
        f"{patients}{'; drawn by a program' * results.synthetic}. Split by {split.by}: {apart}. "
        f"The encoder was pretrained {_escape(split.pretraining)}."
    )
    for name, result in results.targets.items():
        yield from ("", f"### {_escape(name)}", "")
        columns = list(next(iter(result.groups.values()), {}))
        yield from _table(
            ["class", *(f"{split.by}s" if column == "groups" else column for column in columns)],
            [[of_class, *counts.values()] for of_class, counts in result.groups.items()],
        )


def _scores(results: RunResults) -> Iterator[str]:
    by, folds = results.split.by, results.split.folds
    yield f"On {by}s that were not learnt from; in brackets 95 % intervals over {by}s."
    if folds > 1:
        yield (
            f"They are those of {folds} folds, each tested by heads that have not seen "
            "it. model.pt has heads of its own, which learnt and chose on all labelled frames: these figures "
            "tell how well heads made so do; its own predictions there would look better."
        )
    yield ""
    rows = []
    for name, result in results.targets.items():
        for level in scored_levels(result):
            scores = result.test[level]
            rows.append(
                [
                    *(f"{name}, per {level}", format_score(scores.n)),
                    *(format_interval(scores[metric]) for metric in AVERAGES),
                    *(format_score(result.baseline_score(of.name, level).value) for of in TABLE_BASELINES),
                ]
            )
    header = ["", "n", *AVERAGES.values()]
    yield from _table([*header, *(BASELINE_NAMES[baseline.name] for baseline in TABLE_BASELINES)], rows)
    yield ""
    yield f"(The last {len(TABLE_BASELINES)} columns: balanced accuracy of what the model must beat.)"
    for name, result in results.targets.items():
        if judged := result.primary_level:
            yield from ("", f"### {_escape(name)}: each class, per {judged}", "")
            yield from _table(
                ["class", "n", "sensitivity", "specificity", "precision"],
                [
                    [of, format_score(row.support), *(format_interval(row[x]) for x in CLASS_SCORES)]
                    for of, row in result.test[judged].per_class.items()
                ],
            )


def _screening(results: RunResults) -> Iterator[str]:
    lines = screening_lines(results)
    yield from (f"- {_escape(line[:1].upper() + line[1:])}" for line in lines)
    if not lines:
        yield "No task has degrees, and no `--positive` names classes to be sent on."


def _limits(results: RunResults) -> Iterator[str]:
    for line in [*verdicts(results), *limitations(results)]:
        yield f"- {_escape(line)}"
    if n_alike := results.audit.near_identical.found:
        yield f"- {NEAR_DUPLICATES_WARNING % n_alike}."
    yield NOT_TESTED_ELSEWHERE


def _abstention(results: RunResults) -> Iterator[str]:
    yield (
        "A prediction is accepted from a confidence on of which it is proved on validation groups that "
        f"{GUARANTEE}. Where that cannot be proved, none is accepted. A frame is marked as "
        "foreign if it is farther from the training frames, in one of three ways, than 99 % of such frames "
        "are whose groups were left out: so are at most 3 % of these."
    )
    yield ""
    rows = []
    for name, result in results.targets.items():
        if result.selective is None:
            continue
        for level in SELECTIVE_LEVELS:
            selective = result.selective.level(level)
            risk = "-" if selective.risk is None else f"{selective.risk:.0%}"
            coverage = "-" if selective.coverage is None else f"{selective.coverage:.0%}"
            reasons = "; ".join(dict.fromkeys(filter(None, selective.reasons))) or "-"
            rows.append([f"{name}, per {level}", coverage, risk, reasons])
    yield from _table(["", "accepted", "of these wrong", "why nothing is proved"], rows)


def _provenance(run: Mapping[str, Any]) -> Iterator[str]:
    config = run["config"] | run.get("settled", {})
    config |= {"init": PurePath(str(config["init"])).name}  # not the folder, which may name people
    yield from _table(["setting", "value"], [[flag_name(name), config[name]] for name in CARD_SETTINGS])
    yield ""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    spent = format_duration(sum(run.get("wall_s", {}).values()))
    yield (
        f"Program at commit {_escape(str(run['commit'] or 'unknown'))}; {_escape(versions)}; "
        f"{_escape(str(run.get('device', '')))}; {spent} in all. "
        f"Fingerprint of the data: {_escape(_fingerprint(run))}."
    )


def _fingerprint(run: Mapping[str, Any]) -> str:
    return str(run.get("data", {}).get("fingerprint", "unknown"))
