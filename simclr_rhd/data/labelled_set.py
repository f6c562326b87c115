"""The labelled frames as an evaluation sees them: labels, targets, folds.

Notation: n labelled frames, C classes, L lesions, K folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from simclr_rhd.core.seeding import Stream, make_rng
from simclr_rhd.data.dataset import Dataset
from simclr_rhd.data.labels.prevalence import balanced_choice, prevalence_key
from simclr_rhd.data.labels.vocabulary import (
    DEFAULT_TASKS,
    EXCLUSIVE_CLASSES,
    LESION_SEPARATOR,
    Task,
    target_name,
    task_named,
)
from simclr_rhd.data.splits.split import not_evaluable

PRESENCE_CLASSES = ["absent", "present"]  # of a lesion

# {task: (n, C) probabilities, or (n, L) of lesions}; where the classes are not taken to be equally frequent
# also {prevalence.prevalence_key(task): the same of the prevalence that they hold for}
Probabilities = dict[str, np.ndarray]


@dataclass(frozen=True)
class Target:
    """A classification target: a task, or one lesion of it; a class for each frame.

    Attributes:
        name: the task, or the task and a lesion.
        task: its name.
        lesion: number of the lesion that is present or absent; None for a choice among classes.
        classes: C names.
        true: (n,) class indices, -1 = not annotated.
        not_evaluable: classes that cannot be both learnt and tested, with the reasons.
        definition: of the task: its known classes and their order.
    """

    name: str
    task: str
    lesion: int | None
    classes: list[str]
    true: np.ndarray
    not_evaluable: list[dict[str, str]]
    definition: Task

    def probabilities(self, table: Probabilities) -> np.ndarray:
        """(n, C), from the probabilities of all tasks."""
        return self._select(table[self.task])

    def prevalence(self, table: Probabilities) -> np.ndarray:
        """(n, C) that the probabilities hold for."""
        known = table.get(prevalence_key(self.task))
        alike = np.full((len(self.true), len(self.classes)), 1 / len(self.classes))
        return alike if known is None else self._select(known)

    def predicted(self, table: Probabilities) -> np.ndarray:
        """(n,) classes: the balanced choice, see `prevalence.balanced_choice`."""
        return balanced_choice(self.probabilities(table), self.prevalence(table))

    def _select(self, values: np.ndarray) -> np.ndarray:
        return (
            values
            if self.lesion is None
            else np.stack([1 - values[:, self.lesion], values[:, self.lesion]], 1)
        )

    def evaluable(self) -> list[int]:
        """Numbers of the classes that count."""
        missing = {row["class"] for row in self.not_evaluable}
        return [number for number, name in enumerate(self.classes) if name not in missing]

    def ordered(self) -> list[int]:
        """Numbers of the classes that are degrees of one thing, the lowest first; none if they are not."""
        return self.definition.ordinal_classes(self.classes)


@dataclass(frozen=True)
class LabelledSet:
    """The labelled frames of a study.

    Attributes:
        paths: n names.
        videos: (n,) names.
        patients: (n,) names, "" where unknown.
        groups: (n,) names; a group never stands on two sides.
        values: {task: (n,) class indices, -1 = not annotated} of the tasks that can be learnt.
        classes: {task: C names}.
        folds: K times (n,) 'train', 'val' or 'test'.
        multilabel: whether tasks of lists are predicted lesion by lesion, not as exclusive classes.
        tasks: all of the run, those that cannot be learnt, too.
        columns: {column: (n,) values, "" where unknown} to break results down by.
    """

    paths: Sequence[str]
    videos: np.ndarray
    patients: np.ndarray
    groups: np.ndarray
    values: dict[str, np.ndarray]
    classes: dict[str, list[str]]
    folds: Sequence[np.ndarray]
    multilabel: bool = False
    tasks: tuple[Task, ...] = DEFAULT_TASKS
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def lesions(self, task: str) -> list[str]:
        """L names of a task that is predicted lesion by lesion, none of another."""
        by_lesion = self.multilabel and task_named(task, self.tasks).multilabel
        return lesion_names(self.classes[task]) if by_lesion else []

    def target_values(self) -> Probabilities:
        """{task: (n,) class indices}, or (n, L) 1 present, 0 absent for lesions; -1 = not annotated."""
        values = dict(self.values)
        for task, of_task in self.values.items():
            if names := self.lesions(task):
                values[task] = lesion_presence(of_task, self.classes[task], names)
        return values

    def videos_of(self, task: str) -> np.ndarray:
        """(n,) names of the videos, "" where what a whole video shows of a task is not known."""
        return np.asarray(self.videos)

    def patients_of(self, task: str) -> np.ndarray:
        """(n,) names of the patients, "" where the patient, or what it has of a task, is not known."""
        return np.asarray(self.patients)

    def outputs(self) -> dict[str, list[str]]:
        """{task: names of the columns of its table}: its classes or its lesions."""
        return {task: self.lesions(task) or self.classes[task] for task in self.values}

    def n_outputs(self) -> dict[str, int]:
        """{task: number of classes or lesions}."""
        return {task: len(names) for task, names in self.outputs().items()}

    def targets(self) -> list[Target]:
        """The targets: one a task, or one a lesion."""
        targets = []
        for task, values in self.target_values().items():
            if values.ndim == 1:
                targets.append(self._make_target(task, task, None, self.classes[task], values))
                continue
            for number, name in enumerate(self.lesions(task)):
                target = target_name(task, name)
                targets.append(self._make_target(target, task, number, PRESENCE_CLASSES, values[:, number]))
        return targets

    def evaluable_target_values(self) -> Probabilities:
        """`target_values` in which only classes that count are annotated."""
        values = {task: indices.copy() for task, indices in self.target_values().items()}
        for target in self.targets():
            of_task = values[target.task]
            column = of_task if target.lesion is None else of_task[:, target.lesion]
            column[~np.isin(column, target.evaluable())] = -1
        return values

    def with_frame_split(self, *, seed: int) -> "LabelledSet":
        """Return the frames in a leaky split over frames, with parts of the same sizes."""
        places = make_rng(seed, Stream.FRAME_SPLIT).permutation(len(self.paths))
        groups = np.array([str(number) for number in range(len(self.paths))])
        return replace(self, groups=groups, folds=[part[places] for part in self.folds])

    def _make_target(
        self, name: str, task: str, lesion: int | None, classes: list[str], true: np.ndarray
    ) -> Target:
        seen = true >= 0
        missing = not_evaluable(true[seen], classes, self.groups[seen], [part[seen] for part in self.folds])
        return Target(name, task, lesion, classes, true, missing, task_named(task, self.tasks))

    def rows(self, fold: int, part: str) -> np.ndarray:
        """Indices of the frames of a part of a fold."""
        return np.flatnonzero(self.folds[fold] == part)

    def test_fold(self) -> np.ndarray:
        """(n,) the fold that tests each frame, -1 for none."""
        tested = np.stack([part == "test" for part in self.folds])  # (K, n)
        return np.where(tested.any(axis=0), tested.argmax(axis=0), -1)


def build_labelled_set(dataset: Dataset, *, multilabel: bool) -> LabelledSet:
    """The labelled frames of a data set, with its folds."""
    rows, labels = dataset.labelled(), dataset.labels
    return LabelledSet(
        paths=[dataset.store.keys[row] for row in rows],
        videos=np.array(labels.videos)[rows],
        patients=np.array(labels.patients)[rows],
        groups=dataset.groups[rows],
        values={task: labels.values[task][rows] for task in dataset.tasks()},
        classes={task: labels.classes[task] for task in dataset.tasks()},
        folds=[fold.part[rows] for fold in dataset.folds],
        multilabel=multilabel,
        tasks=labels.tasks,
        columns=dataset.attributes.subset(rows).columns,
    )


def lesion_names(classes: Sequence[str]) -> list[str]:
    """The lesions that conditions are made of, in their order; 'Not Applicable' and 'Healthy' have none."""
    return list(
        dict.fromkeys(
            name for text in classes for name in text.split(LESION_SEPARATOR) if name not in EXCLUSIVE_CLASSES
        )
    )


def lesion_presence(values: np.ndarray, classes: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """(n,) class indices -> (n, L) int64: 1 where a lesion is present, 0 where not, -1 = not annotated."""
    of_class = np.array(
        [[name in text.split(LESION_SEPARATOR) for name in names] for text in classes], dtype=np.int64
    )
    return np.where(values[:, None] >= 0, of_class[values], -1)
