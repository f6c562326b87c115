"""The labelled frames of another data set in a model's classes, as they are scored.

Notation: n labelled frames, C classes or lesions of a task.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from simclr_rhd.data.labelled_set import PRESENCE_CLASSES, LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.evaluation.screening.positives import ScreeningQuestion
from simclr_rhd.inference.external.class_mapping import MappedTask

NOT_LEARNT, NOT_HERE = "the model has learnt from no frame of it", "no frame of this data set is of it"


@dataclass(frozen=True)
class ExternalSet(LabelledSet):
    """Labelled frames of another data set, all of them tested.

    Attributes:
        learnt: {target: classes that the model has learnt}; all of a target that is not in it.
        unknown: {task: (n,) bool: frames of a class that `classes` lacks}; none of a task that is not in it.
    """

    learnt: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unknown: Mapping[str, np.ndarray] = field(default_factory=dict)

    def videos_of(self, task: str) -> np.ndarray:
        """(n,) names; "" for a video with a frame of an unknown class."""
        return self._without_unknown(task, super().videos_of(task))

    def patients_of(self, task: str) -> np.ndarray:
        """(n,) names; "" for a patient with a frame of an unknown class, which may be the highest degree."""
        return self._without_unknown(task, super().patients_of(task))

    def undecided(self, question: ScreeningQuestion) -> np.ndarray | None:
        """(n,) bool: frames that may be positive without a class that is; None where there are none.

        A frame with an unknown lesion is one without those that are asked for, unless every lesion is.
        """
        decided = question.multilabel and question.negative
        return None if decided else self.unknown.get(question.task)

    def unscored(self, task: str) -> dict[str, int]:
        """{"video", "patient": how many have a frame of an unknown class, and so no score of a task}."""
        if task not in self.unknown or self.lesions(task):
            return {}
        units = {"video": super().videos_of(task), "patient": super().patients_of(task)}
        counts = {level: len({*names[self.unknown[task]].tolist()} - {""}) for level, names in units.items()}
        return {level: n for level, n in counts.items() if n}

    def _without_unknown(self, task: str, names: np.ndarray) -> np.ndarray:
        """The names, "" where a frame of that name is of an unknown class; lesions are known one by one."""
        if task not in self.unknown or self.lesions(task):
            return names
        return np.where(np.isin(names, names[self.unknown[task]]), "", names)

    def targets(self) -> list[Target]:
        """The targets; a class counts if it is learnt and occurs here."""
        return [replace(target, not_evaluable=self._missing(target)) for target in super().targets()]

    def _missing(self, target: Target) -> list[dict[str, str]]:
        learnt = self.learnt.get(target.name, frozenset(target.classes))
        present = {target.classes[number] for number in np.unique(target.true[target.true >= 0])}
        return [
            {"class": name, "reason": NOT_LEARNT if name not in learnt else NOT_HERE}
            for name in target.classes
            if name not in learnt & present
        ]


def external_set(
    data: LabelledSet, mapped: Mapping[str, MappedTask], learnt: Mapping[str, frozenset[str]]
) -> ExternalSet:
    """The frames with the model's classes, of the tasks that have a frame of one; all are tested.

    Args:
        data: the labelled frames.
        mapped: {task: its classes as the model calls them}.
        learnt: {target: classes that the model has learnt}.
    """
    tasks = {task: of for task, of in mapped.items() if (of.values >= 0).any()}
    shared = _with_classes(
        data, {t: of.classes for t, of in tasks.items()}, {t: of.values for t, of in tasks.items()}, learnt
    )
    return replace(shared, unknown={t: of.unknown for t, of in tasks.items() if of.unknown.any()})


def wide_set(data: LabelledSet, mapped: Mapping[str, MappedTask], shared: ExternalSet) -> ExternalSet:
    """The same frames with the classes that the model does not know, which count, too."""
    tasks = list(shared.values)
    return _with_classes(
        data,
        {task: mapped[task].wide_classes for task in tasks},
        {task: mapped[task].wide_values for task in tasks},
        {},
    )


def _with_classes(
    data: LabelledSet,
    classes: dict[str, list[str]],
    values: dict[str, np.ndarray],
    learnt: Mapping[str, frozenset[str]],
) -> ExternalSet:
    return ExternalSet(
        paths=data.paths,
        videos=data.videos,
        patients=data.patients,
        groups=data.groups,
        values=values,
        classes=classes,
        folds=[np.full(len(data.paths), "test")],
        multilabel=data.multilabel,
        tasks=data.tasks,
        learnt=learnt,
    )


def wide_table(table: Probabilities, shared: LabelledSet, wide: LabelledSet) -> Probabilities:
    """Probabilities with a column of zeros for each class that the model does not know."""
    n_outputs, result = wide.n_outputs(), dict(table)
    for task, names in shared.outputs().items():
        unknown = n_outputs[task] - len(names)
        for key, filled in ((task, 0.0), (prevalence_key(task), 1.0)):  # 0 / 1 is never the largest
            result[key] = np.pad(table[key], ((0, 0), (0, unknown)), constant_values=filled)
    return result


def learnt_classes(class_frames: Mapping[str, Mapping[str, int]]) -> dict[str, frozenset[str]]:
    """{target: classes with frames in the training part} of {target: {class: frames}}."""
    return {
        target: frozenset(name for name, frames in counts.items() if frames)
        for target, counts in class_frames.items()
    }


def majority_table(labelled_set: ExternalSet, shares: Mapping[str, Mapping[str, float]]) -> Probabilities:
    """The table of the most frequent class of the training, as of `baselines.majority`.

    Args:
        labelled_set: the n frames.
        shares: {target: {class: its frames or its share in the training}}.
    """
    columns: dict[str, list[np.ndarray]] = {}
    for target in labelled_set.targets():
        counts = np.zeros(len(target.classes))
        counts[target.evaluable()] = [
            shares[target.name].get(target.classes[number], 0) for number in target.evaluable()
        ]
        whole = counts / max(counts.sum(), 1e-12)
        row = whole if target.lesion is None else whole[[PRESENCE_CLASSES.index("present")]]
        columns.setdefault(target.task, []).append(row)
    n = len(labelled_set.paths)
    return {task: np.tile(np.concatenate(rows), (n, 1)) for task, rows in columns.items()}
