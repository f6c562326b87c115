"""Differences between finished runs: which is shown to be better at what.

A difference is that of two runs which tested the same frames: both are scored on the same resamples of their
groups, so that what both find hard cancels. Runs that tested other frames have no difference, but a reason.

Notation: n tested frames annotated for a target, C classes of it.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simclr_rhd.core.text import replace_unprintable
from simclr_rhd.data.labels.vocabulary import parent_task
from simclr_rhd.evaluation.results import JUDGED_LEVELS, RunResults
from simclr_rhd.evaluation.scores.differences import paired_differences
from simclr_rhd.evaluation.scores.records import Margin
from simclr_rhd.evaluation.scores.samples import FramePredictions, Units
from simclr_rhd.report.compare.load_run import FinishedRun, Runs
from simclr_rhd.report.compare.predictions import TestPredictions
from simclr_rhd.report.findings import MIN_GROUPS

SEED = 42  # of the resamples, whatever the runs were seeded with
MAX_RUN_NAME_CHARS = 18
RUN_NAME_PREFIX_CHARS = 6  # characters of a name's beginning where it is cut
BETTER, WORSE = "better", "worse"
MAY_BE_CHANCE, TOO_FEW_GROUPS, EQUAL = "may be chance", "too few groups to tell", "no difference"


@dataclass(frozen=True)
class Difference:
    """A run's difference to the reference in a target.

    Attributes:
        reason: why they cannot be compared; "" where they can.
        level: what is compared, 'video' or 'frame'.
        margin: the run's balanced accuracy less the reference's; None where they cannot be compared.
        groups: how many groups it rests on.
        classes: how many classes count in both.
    """

    reason: str = ""
    level: str = ""
    margin: Margin | None = None
    groups: int = 0
    classes: int = 0

    @property
    def outcome(self) -> str:
        """BETTER, WORSE, MAY_BE_CHANCE, TOO_FEW_GROUPS or EQUAL, by the interval; "" without a difference."""
        if self.margin is None:
            return ""
        if self.margin.same_answers:
            return EQUAL
        if self.groups < MIN_GROUPS or self.margin.ci95 is None:
            return TOO_FEW_GROUPS
        low, high = self.margin.ci95
        return BETTER if low > 0 else WORSE if high < 0 else MAY_BE_CHANCE


Differences = Mapping[str, Mapping[str, Difference]]  # {target: {run: its difference to the first run}}


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
    named: dict[str, FinishedRun] = {}
    for name, run in zip(names, runs, strict=True):
        short, number = _cut(name, MAX_RUN_NAME_CHARS), 1
        while short in named:
            number += 1
            short = f"{_cut(name, MAX_RUN_NAME_CHARS - 4)} {number}"
        named[short] = run
    return named


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
    """All targets that any run was tested with, in the order in which they come up."""
    return list(dict.fromkeys(name for run in runs.values() for name in run.results.targets))


def skipped_tasks(runs: Runs) -> dict[str, str]:
    """{task: why the first run did not learn it}, of the tasks that no run learnt."""
    learnt = {parent_task(target) for target in target_names(runs)}
    skipped = {task: reason for run in [*runs.values()][::-1] for task, reason in run.results.skipped.items()}
    return {task: reason for task, reason in skipped.items() if task not in learnt}


def skip_reason(results: RunResults, target: str) -> str:
    """Reason why a run did not learn the task of a target; "" where it has none."""
    return results.skipped.get(target) or results.skipped.get(parent_task(target), "")


def compare_runs(runs: Runs) -> Differences:
    """Differences of all runs but the first to it, in every target."""
    reference, *others = runs
    return {
        target: {name: compare_target(runs[reference], runs[name], target) for name in others}
        for target in target_names(runs)
    }


def compare_target(reference: FinishedRun, run: FinishedRun, target: str) -> Difference:
    """The difference of `run` to `reference` in a target."""
    ours, theirs = reference.predictions.get(target), run.predictions.get(target)
    if ours is None or theirs is None:
        return Difference(reason=_missing_reason(reference.results, run.results, target))
    if reason := _incomparable_reason(ours, theirs, reference.results.split.by, run.results.split.by):
        return Difference(reason=reason)
    evaluable = reference.results.targets[target].evaluable & run.results.targets[target].evaluable
    if len(evaluable) < 2:
        return Difference(reason="fewer than two classes can be evaluated in both")
    return _paired_difference(ours, theirs, evaluable)


def _missing_reason(first: RunResults, other: RunResults, target: str) -> str:
    """Reason why a target has no predictions of both runs."""
    where = "in neither of the two"
    if target in first.targets or target in other.targets:
        where = f"only in {'the first' if target in first.targets else 'this'} run"
    why = skip_reason(first, target) or skip_reason(other, target)
    return f"{where}, skipped otherwise: {why}" if why else where


def _incomparable_reason(ours: TestPredictions, theirs: TestPredictions, by: str, other_by: str) -> str:
    """Reason why predictions, split by `by` and `other_by`, cannot be compared; "" if they can."""
    classes, other_classes = set(ours.classes), set(theirs.classes)
    if classes != other_classes:
        return f"other classes: {_overlap(classes, other_classes)}"
    if by != other_by:
        return f"grouped otherwise: by {by} in the first run, by {other_by} in this one"
    if set(ours.paths) != set(theirs.paths):
        if set(ours.groups) != set(theirs.groups):
            return f"tested on other {by}s: {_overlap(set(ours.groups), set(theirs.groups))}"
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
    """The row of `other` that each frame of `first` has."""
    place = {path: number for number, path in enumerate(other.paths)}
    return [place[path] for path in first.paths]


def _paired_difference(
    reference: TestPredictions, other: TestPredictions, evaluable: frozenset[str]
) -> Difference:
    """Compare predictions of the same classes and frames, in any order; names decide, not their order."""
    classes, rows = reference.classes, _matching_rows(reference, other)
    columns = [other.classes.index(name) for name in classes]
    true = np.array([classes.index(name) for name in reference.true])
    units = Units(reference.groups, reference.videos, [""] * len(true))
    probabilities, prevalence = (of[rows][:, columns] for of in (other.probabilities, other.prevalence))
    margins = paired_differences(
        FramePredictions(true, probabilities, units, prevalence),
        [FramePredictions(true, reference.probabilities, units, reference.prevalence)],
        [number for number, name in enumerate(classes) if name in evaluable],
        seed=SEED,
    )
    level = next((at for at in JUDGED_LEVELS if margins[at].balanced_accuracy is not None), None)
    if level is None:
        return Difference(reason="fewer than two classes are tested that can be evaluated in both")
    groups = {
        group for group, name in zip(reference.groups, reference.true, strict=True) if name in evaluable
    }
    return Difference(level=level, margin=margins[level], groups=len(groups), classes=len(evaluable))
