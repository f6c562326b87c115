"""Finished runs beside each other: what was set otherwise, and which is shown to be better at what.

A difference is that of two runs which tested the same frames: both are scored on the same resamples of their
groups, so that what both find hard cancels. Runs that tested other frames have no difference, but a reason.

Notation: n tested frames annotated for a question, C classes of it.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.core.text import replace_unprintable
from simclr_rhd.evaluation.metrics import paired_differences
from simclr_rhd.report.compare.load_run import LEVELS, FinishedRun, TargetResult
from simclr_rhd.report.compare.predictions import TestPredictions
from simclr_rhd.report.summary import MIN_GROUPS

SEED = 42  # of the resamples, whatever the runs were seeded with
MAX_RUN_NAME_CHARS, RUN_NAME_PREFIX_CHARS = (
    18,
    6,
)  # characters of a run's name, and those of its beginning where it is cut
BETTER, WORSE, MAY_BE_CHANCE, TOO_FEW_GROUPS, EQUAL = (
    "better",
    "worse",
    "may be chance",
    "too few groups to tell",
    "no difference",
)

Runs = Mapping[str, FinishedRun]  # by short name; the first is the reference


@dataclass(frozen=True)
class Difference:
    """How a run stands to the reference in a question.

    Attributes:
        reason: why they cannot be compared; "" where they can.
        level: what is compared, 'video' or 'frame'.
        margin: "balanced_accuracy", the run's less the reference's, "ci95" and "same_answers", as of
            `metrics.paired_differences`.
        groups: how many groups it rests on.
        classes: how many classes count in both.
    """

    reason: str = ""
    level: str = ""
    margin: dict[str, Any] | None = None
    groups: int = 0
    classes: int = 0

    @property
    def outcome(self) -> str:
        """What the interval says: one of BETTER, WORSE, CHANCE, FEW, EQUAL; "" without a difference."""
        if self.margin is None:
            return ""
        if self.margin["same_answers"]:
            return EQUAL
        if self.groups < MIN_GROUPS or self.margin["ci95"] is None:
            return TOO_FEW_GROUPS
        low, high = self.margin["ci95"]
        return BETTER if low > 0 else WORSE if high < 0 else MAY_BE_CHANCE


Differences = Mapping[str, Mapping[str, Difference]]  # {question: {run: its difference to the first run}}


def name_runs(runs: Sequence[FinishedRun]) -> dict[str, FinishedRun]:
    """The runs by short names: their folders', with as much of the path as tells them apart."""
    paths = [_parts(run.folder) for run in runs]
    names = [path[-1] for path in paths]
    for length in range(2, max(map(len, paths)) + 1):
        often = Counter(names)
        names = [
            name if often[name] == 1 else "/".join(path[-length:])
            for name, path in zip(names, paths, strict=True)
        ]
    found: dict[str, FinishedRun] = {}
    for name, run in zip(names, runs, strict=True):
        short, number = _cut(name, MAX_RUN_NAME_CHARS), 1
        while short in found:
            number += 1
            short = f"{_cut(name, MAX_RUN_NAME_CHARS - 4)} {number}"
        found[short] = run
    return found


def _parts(folder: Path) -> list[str]:
    path = os.fsencode(os.path.abspath(folder)).decode("utf-8", "replace")
    parts = [" ".join(replace_unprintable(part).split()) or "?" for part in path.split("/") if part]
    return parts or ["/"]


def _cut(name: str, longest: int) -> str:
    """The name, with '…' for its middle where it is too long: the ends tell runs apart."""
    ending = longest - RUN_NAME_PREFIX_CHARS - 1
    return (
        name if len(name) <= longest else f"{name[:RUN_NAME_PREFIX_CHARS].rstrip()}…{name[-ending:].lstrip()}"
    )


def target_names(runs: Runs) -> list[str]:
    """What any run was tested with, in the order in which it comes up."""
    return list(dict.fromkeys(name for run in runs.values() for name in run.results))


def skipped_tasks(runs: Runs) -> dict[str, str]:
    """{task: why the first run did not learn it}, of the tasks that no run learnt."""
    asked = {parent_task(question) for question in target_names(runs)}
    skipped = {task: why for run in [*runs.values()][::-1] for task, why in run.skipped.items()}
    return {task: why for task, why in skipped.items() if task not in asked}


def parent_task(target: str) -> str:
    """The task of a question, which may be about one of its lesions."""
    return target.partition(": ")[0]


def skip_reason(run: FinishedRun, target: str) -> str:
    """Why a run did not learn the task of a question; "" where it says nothing about that."""
    return run.skipped.get(target) or run.skipped.get(parent_task(target), "")


def differing_settings(runs: Runs) -> dict[str, list[str]]:
    """{flag in its spelling: its value in each run}, where they differ; and what was settled otherwise."""
    flags = {
        _flag_name(name): row for name, row in _differing_rows([run.flags for run in runs.values()]).items()
    }
    settled = _differing_rows([run.training_settings for run in runs.values()])
    return flags | {
        f"{_flag_name(name)}, as settled": row
        for name, row in settled.items()
        if flags.get(_flag_name(name)) != row
    }


def differing_environment(runs: Runs) -> dict[str, list[str]]:
    """{'commit', 'device' or a package: its value in each run}, of those that differ."""
    return _differing_rows([run.environment for run in runs.values()], absent="-")


def _differing_rows(records: Sequence[Mapping[str, Any]], absent: str = "default") -> dict[str, list[str]]:
    names = dict.fromkeys(name for record in records for name in record)
    rows = {name: [_format_value(record, name, absent) for record in records] for name in names}
    return {name: row for name, row in rows.items() if len(set(row)) > 1}


def _format_value(record: Mapping[str, Any], name: str, absent: str) -> str:
    if name not in record:  # not known to the version that made the run
        return "-"
    value = record[name]
    if value is None or isinstance(value, bool):
        return absent if value is None else "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _flag_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def compare_runs(runs: Runs) -> Differences:
    """How all runs but the first stand to it, in every question."""
    reference, *others = runs
    return {
        question: {name: compare_target(runs[reference], runs[name], question) for name in others}
        for question in target_names(runs)
    }


def compare_target(reference: FinishedRun, run: FinishedRun, target: str) -> Difference:
    """How `run` stands to `reference` in a question."""
    first, other = reference.results.get(target), run.results.get(target)
    if first is None or other is None:
        return Difference(reason=_missing_reason(reference, run, target))
    if reason := _incomparable_reason(reference, first, run, other):
        return Difference(reason=reason)
    counting = first.evaluable & other.evaluable
    if len(counting) < 2:
        return Difference(reason="fewer than two classes can be evaluated in both")
    return _paired_difference(first, other, counting)


def _missing_reason(reference: FinishedRun, run: FinishedRun, target: str) -> str:
    """Why a question has no answers of both runs."""
    where = "in the first run" if target in reference.results else "in this run"
    where = (
        f"only {where}" if target in reference.results or target in run.results else "in neither of the two"
    )
    why = skip_reason(reference, target) or skip_reason(run, target)
    return f"{where}, skipped otherwise: {why}" if why else where


def _incomparable_reason(
    reference: FinishedRun, first: TargetResult, run: FinishedRun, other: TargetResult
) -> str:
    """Why answers to one question cannot be compared; "" if the same frames were tested."""
    both = set(first.classes) & set(other.classes)
    if len(both) < max(len(first.classes), len(other.classes)):
        return f"other classes: {_overlap(set(first.classes), set(other.classes))}"
    if reference.split_by != run.split_by:
        return f"grouped otherwise: by {reference.split_by} in the first run, by {run.split_by} in this one"
    ours, theirs = first.predictions, other.predictions
    if set(ours.paths) != set(theirs.paths):
        if set(ours.groups) != set(theirs.groups):
            return f"tested on other {run.split_by}s: {_overlap(set(ours.groups), set(theirs.groups))}"
        return f"tested on other frames: {_overlap(set(ours.paths), set(theirs.paths))}"
    order = _matching_rows(ours, theirs)
    for what, one, two in (
        ("labels differ", ours.true, theirs.true),
        ("groups differ", ours.groups, theirs.groups),
        ("videos differ", ours.videos, theirs.videos),
    ):
        if unlike := sum(a != two[b] for a, b in zip(one, order, strict=True)):
            return f"{what} on {unlike} frame{'s' * (unlike > 1)}"
    return ""


def _overlap(one: set[str], other: set[str]) -> str:
    return f"{len(one & other)} of {len(one | other)} in common"


def _matching_rows(first: TestPredictions, other: TestPredictions) -> list[int]:
    """Where each frame of `first` stands in `other`."""
    place = {path: number for number, path in enumerate(other.paths)}
    return [place[path] for path in first.paths]


def _paired_difference(first: TargetResult, other: TargetResult, evaluable: frozenset[str]) -> Difference:
    """Both have the same classes and frames, in any order; names decide, not their order."""
    answers, classes = first.predictions, first.classes
    columns = [other.classes.index(name) for name in classes]
    rows = _matching_rows(answers, other.predictions)
    theirs, held = (
        of[rows][:, columns] for of in (other.predictions.probabilities, other.predictions.prevalence)
    )
    true = np.array([classes.index(name) for name in answers.true])
    found = paired_differences(
        true,
        theirs,
        answers.probabilities,
        answers.groups,
        answers.videos,
        [""] * len(true),
        evaluable=[number for number, name in enumerate(classes) if name in evaluable],
        seed=SEED,
        prevalences=(held, answers.prevalence),
    )
    level = next((level for level in LEVELS if found[level]["balanced_accuracy"] is not None), None)
    if level is None:
        return Difference(reason="fewer than two classes are tested that can be evaluated in both")
    groups = {group for group, name in zip(answers.groups, answers.true, strict=True) if name in evaluable}
    return Difference(level=level, margin=found[level], groups=len(groups), classes=len(evaluable))
