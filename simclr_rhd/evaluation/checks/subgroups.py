"""Subgroups: the score of each value of a column, and the largest gap between two of them.

Two values are compared over the classes that both have. Their groups are drawn anew independently of each
other, as they are other patients; groups that have both values are drawn together.

Notation: n samples, C classes, G groups, R resamples.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.data.attributes.columns import sorted_values
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.evaluation.scores.bootstrap import (
    N_RESAMPLES,
    TAIL_PROBABILITY,
    difference_interval,
    each_group_once,
    percentile_interval,
    resample_counts,
    resample_sums,
)
from simclr_rhd.evaluation.scores.confusions import balanced_accuracy, sample_confusions, total_confusion
from simclr_rhd.evaluation.scores.intervals import effective_groups
from simclr_rhd.evaluation.scores.samples import Samples, at_level
from simclr_rhd.evaluation.target_details import SubgroupGap, SubgroupResult, SubgroupScore
from simclr_rhd.evaluation.targets import annotated_rows, target_predictions
from simclr_rhd.heads.cross_validation import out_of_fold

MIN_GROUPS, MIN_GROUPS_OF_CLASS = 10, 3  # of a value, below which it is not compared with others


def break_down(
    labelled_set: LabelledSet,
    ours: Sequence[Probabilities],
    levels: Mapping[str, str | None],
    *,
    seed: int,
) -> dict[str, dict[str, SubgroupResult]]:
    """{target's name: {column: results broken down by it}}; nothing without columns.

    Args:
        labelled_set: the frames, and their columns.
        ours: the K tables of our heads.
        levels: {target's name: 'video' or 'frame'}, None where it has no score.
        seed: of the bootstrap.
    """
    tested = out_of_fold(labelled_set, ours, "test")
    divided = {
        target.name: {
            column: _Subgroups.of(labelled_set, target, tested, column, level)
            for column in labelled_set.columns
        }
        for target in labelled_set.targets()
        if (level := levels[target.name])
    }
    tasks = {target.name: target.task for target in labelled_set.targets()}
    comparisons = {
        task: sum(
            len(subgroups.pairs())
            for name, columns in divided.items()
            if tasks[name] == task
            for subgroups in columns.values()
        )
        for task in tasks.values()
    }
    return {
        name: {
            column: subgroups.result(comparisons[tasks[name]], seed=seed)
            for column, subgroups in columns.items()
        }
        for name, columns in divided.items()
        if columns
    }


@dataclass(frozen=True)
class _Subgroups:
    """The tested samples of a target by the value that they have in a column."""

    target: Target
    level: str
    samples: Mapping[str, Samples]
    unknown: int

    @classmethod
    def of(
        cls, labelled_set: LabelledSet, target: Target, tested: Probabilities, column: str, level: str
    ) -> "_Subgroups":
        rows = annotated_rows(labelled_set, target, "test")
        rows = rows[np.isin(target.true[rows], target.evaluable())]
        values = labelled_set.columns[column]

        def select(value: str) -> Samples:
            here = rows[values[rows] == value]
            return at_level(target_predictions(labelled_set, target, tested, here), level)

        samples = {value: select(value) for value in sorted_values(values[rows])}
        return cls(target, level, samples, unknown=len(select("").true))

    def pairs(self) -> list[tuple[str, str, list[int]]]:
        """Pairs of values that are compared, and the classes that both have."""
        large = {value: of for value, of in self.samples.items() if not self._too_small(of)}
        return [
            (one, other, classes)
            for one, other in itertools.combinations(large, 2)
            if len(classes := sorted(set(large[one].present) & set(large[other].present))) > 1
        ]

    def result(self, comparisons: int, *, seed: int) -> SubgroupResult:
        return SubgroupResult(
            level=self.level,
            values={value: self._score(of, seed=seed) for value, of in self.samples.items()},
            unknown=self.unknown,
            comparisons=comparisons,
            gap=self._largest_gap(comparisons, seed=seed),
        )

    def _too_small(self, samples: Samples) -> str:
        if samples.n_groups < MIN_GROUPS:
            return f"{samples.n_groups} groups, {MIN_GROUPS} are needed"
        groups = {
            self.target.classes[number]: len(np.unique(samples.groups[samples.true == number]))
            for number in samples.present
        }
        if len(groups) < 2:
            return f"only {next(iter(groups))}"
        few = [f"{n} of {name}" for name, n in groups.items() if n < MIN_GROUPS_OF_CLASS]
        return f"groups: {', '.join(few)}; {MIN_GROUPS_OF_CLASS} are needed" if few else ""

    def _score(self, samples: Samples, *, seed: int) -> SubgroupScore:
        size, too_small = (len(samples.true), samples.n_groups), self._too_small(samples)
        if len(samples.present) < 2:
            return SubgroupScore(*size, None, None, too_small)
        counts = np.vstack([each_group_once(samples.n_groups), resample_counts(samples.n_groups, seed)])
        scores = balanced_accuracy(resample_sums(counts, sample_confusions(samples)), samples.present)
        n_effective = effective_groups(samples)[1]["balanced_accuracy"]
        interval = percentile_interval(scores[1:], n_effective, proportion=True)
        return SubgroupScore(*size, float(scores[0]), interval, too_small)

    def _largest_gap(self, comparisons: int, *, seed: int) -> SubgroupGap | None:
        pairs = [
            ((one, self.samples[one].of_classes(classes)), (other, self.samples[other].of_classes(classes)))
            for one, other, classes in self.pairs()
        ]
        if not pairs:
            return None
        scores = [[_score_of(samples) for _, samples in pair] for pair in pairs]
        one, other = pairs[int(np.abs(np.diff(scores, axis=1)).argmax())]
        names = [self.target.classes[number] for number in one[1].present]
        return unpaired_gap(one, other, names, seed=seed, n_comparisons=comparisons)


def _score_of(samples: Samples) -> float:
    return float(balanced_accuracy(total_confusion(samples), samples.present)[0])


def unpaired_gap(
    one: tuple[str, Samples],
    other: tuple[str, Samples],
    classes: Sequence[str],
    *,
    seed: int,
    n_comparisons: int = 1,
) -> SubgroupGap:
    """The difference of balanced accuracy between the samples of two values, with its interval.

    The interval's degrees of freedom are Welch's (1947), of the variances of both scores.

    Args:
        one: a value and its samples, of the same classes as those of the other one.
        other: another value.
        classes: names of the classes.
        seed: of the bootstrap.
        n_comparisons: differences whose intervals shall hold together with 95 % (Bonferroni).
    """
    names = {group: number for number, group in enumerate(np.union1d(one[1].groups, other[1].groups))}
    has = np.zeros((2, len(names)), dtype=bool)  # whether a group has samples of each value
    for number, (_, samples) in enumerate((one, other)):
        has[number, [names[group] for group in np.unique(samples.groups)]] = True
    counts = np.zeros((1 + N_RESAMPLES, len(names)), dtype=np.uint16)
    counts[0] = 1
    for stratum, inside in enumerate((has[0] & ~has[1], has[1] & ~has[0], has[0] & has[1])):
        if n := int(inside.sum()):
            rng = make_rng(seed, Stream.SUBGROUPS, stratum)
            counts[1:, inside] = rng.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    scores = np.array(
        [
            balanced_accuracy(resample_sums(counts[:, inside], sample_confusions(samples)), samples.present)
            for inside, (_, samples) in zip(has, (one, other), strict=True)
        ]
    )  # (2, 1 + R)
    sign = 1 if scores[0, 0] >= scores[1, 0] else -1
    differences = sign * (scores[0] - scores[1])
    n_groups = np.array([effective_groups(samples)[1]["balanced_accuracy"] for _, samples in (one, other)])
    interval = difference_interval(
        differences[1:], _welch_groups(scores[:, 1:], n_groups), tail=TAIL_PROBABILITY / n_comparisons
    )
    higher, lower = (one[0], other[0]) if sign > 0 else (other[0], one[0])
    return SubgroupGap(higher, lower, list(classes), float(differences[0]), interval)


def _welch_groups(scores: np.ndarray, n_groups: np.ndarray) -> float:
    """One more than Welch's degrees of freedom, of (2, R) resampled scores and the groups they rest on."""
    variances = np.nanvar(scores, axis=1)
    if not variances.any() or n_groups.min() <= 1:
        return float(n_groups.min())
    return 1 + float(variances.sum() ** 2 / (variances**2 / (n_groups - 1)).sum())
