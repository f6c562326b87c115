"""The classes of a data set as a model calls them, and those that only one side knows.

Notation: n labelled frames, C classes or lesions of a task.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from simclr_rhd.data.labelled_set import LabelledSet, lesion_names
from simclr_rhd.data.labels.vocabulary import (
    DISEASE_SUFFIX,
    LESION_SEPARATOR,
    NOT_ANNOTATED,
    NOT_APPLICABLE,
    normalize,
    task_named,
)
from simclr_rhd.evaluation.scores.records import Record

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class ClassComparison(Record):
    """The classes of a task, or its lesions, on both sides.

    Attributes:
        shared: that both know.
        only_in_model: of which this data set has no frame.
        unknown: {class that the model does not know: its "frames" and "groups" here}.
        read_as: {class here: the model's that it is taken for, see `match_without_disease`}.
    """

    shared: list[str]
    only_in_model: list[str]
    unknown: dict[str, dict[str, int]]
    read_as: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MappedTask:
    """A task of a data set in a model's classes.

    Attributes:
        classes: the model's; of a task with lesions also the conditions here, in which they stand.
        values: (n,) indices of them, -1 where not annotated, or of a class that the model does not know.
        wide_classes: the model's classes, then the unknown ones.
        wide_values: (n,) indices of them.
        unknown: (n,) bool: frames of a class or with a lesion that the model does not know; not those 'Not
            Applicable', which show nothing of a task.
        comparison: of both sides.
    """

    classes: list[str]
    values: np.ndarray
    wide_classes: list[str]
    wide_values: np.ndarray
    unknown: np.ndarray
    comparison: ClassComparison


def map_classes(
    of_model: Sequence[str], classes: Sequence[str], values: np.ndarray, groups: np.ndarray
) -> MappedTask:
    """Bring classes that exclude one another to those of a model; spellings differ in letters and digits.

    Args:
        of_model: C names.
        classes: of the data set.
        values: (n,) indices of them, -1 = not annotated.
        groups: (n,) names.
    """
    number_of = {normalize(name): number for number, name in enumerate(of_model)}
    here = [bool((values == number).any()) for number in range(len(classes))]
    unknown = [name for name, seen in zip(classes, here, strict=True) if seen and _is_new(name, number_of)]
    wide = [*of_model, *unknown]
    places = [
        number_of.get(normalize(name), wide.index(name) if name in unknown else NOT_ANNOTATED)
        for name in classes
    ]
    wide_values = np.array([*places, NOT_ANNOTATED], dtype=np.int64)[values]  # the last one is of -1
    known = np.where(wide_values < len(of_model), wide_values, NOT_ANNOTATED)
    present = set(known.tolist())
    counts = {name: _count(wide_values == wide.index(name), groups) for name in unknown}
    comparison = ClassComparison(
        [name for number, name in enumerate(of_model) if number in present],
        [name for number, name in enumerate(of_model) if number not in present],
        counts,
    )
    telling = [wide.index(name) for name in unknown if name != NOT_APPLICABLE]
    return MappedTask(list(of_model), known, wide, wide_values, np.isin(wide_values, telling), comparison)


def map_lesions(
    of_model: Sequence[str], classes: Sequence[str], values: np.ndarray, groups: np.ndarray
) -> MappedTask:
    """Bring conditions to a model's lesions; a lesion that it does not know is left out of a condition.

    Arguments as of `map_classes`.
    """
    name_of = {normalize(name): name for name in of_model}
    present = [classes[number] for number in np.unique(values[values >= 0])]
    here = lesion_names(present)
    texts = []
    for text in classes:
        parts = (name_of.get(normalize(part)) for part in text.split(LESION_SEPARATOR))
        texts.append(LESION_SEPARATOR.join(filter(None, parts)) or NOT_APPLICABLE)
    mapped = np.where(values >= 0, values + len(of_model), NOT_ANNOTATED)
    counts, unknown = {}, np.zeros(len(values), dtype=bool)
    for lesion in here:
        if _is_new(lesion, name_of):
            with_it = [
                number for number, text in enumerate(classes) if lesion in text.split(LESION_SEPARATOR)
            ]
            of_lesion = np.isin(values, with_it)
            counts[lesion], unknown = _count(of_lesion, groups), unknown | of_lesion
    spelled = {normalize(lesion) for lesion in here}
    comparison = ClassComparison(
        [name for name in of_model if normalize(name) in spelled],
        [name for name in of_model if normalize(name) not in spelled],
        counts,
    )
    all_classes = [*of_model, *texts]
    return MappedTask(all_classes, mapped, all_classes, mapped, unknown, comparison)


def _is_new(name: str, known: Mapping[str, object]) -> bool:
    return normalize(name) not in known


def _count(rows: np.ndarray, groups: np.ndarray) -> dict[str, int]:
    return {"frames": int(rows.sum()), "groups": len(np.unique(groups[rows]))}


def map_tasks(
    of_model: Mapping[str, Sequence[str]], data: LabelledSet, *, multilabel: bool
) -> dict[str, MappedTask]:
    """{task: its classes as a model calls them}, of all tasks of the model.

    Args:
        of_model: {task: its classes, or lesions}.
        data: the labelled frames, with the classes of their table.
        multilabel: whether the model predicts tasks of lists lesion by lesion.
    """
    mapped = {}
    for task, names in of_model.items():
        if task not in data.values:
            continue
        definition, classes, values = task_named(task, data.tasks), data.classes[task], data.values[task]
        if multilabel and definition.multilabel:
            mapped[task] = map_lesions(names, classes, values, data.groups)
            continue
        read_as = match_without_disease(names, classes) if definition.ordinal else {}
        for name, of_them in read_as.items():
            logger.info("NOTICE %s: %r is read as %r, as the model calls it", task, name, of_them)
        of_task = map_classes(names, [read_as.get(name, name) for name in classes], values, data.groups)
        mapped[task] = replace(of_task, comparison=replace(of_task.comparison, read_as=read_as))
    return mapped


def match_without_disease(of_model: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """{class of a data set: that of a model}, of degrees that differ in the name of the disease alone.

    A table that does not name RHD has 'Definite', one that does has 'Definite RHD'. A degree that stands on
    one side with and without it is no match.
    """
    known, bare_of_model, bare_here = (
        Counter(map(normalize, names)) for names in (of_model, *map(_without_disease, (of_model, classes)))
    )
    model_name = dict(zip(map(normalize, _without_disease(of_model)), of_model, strict=True))
    return {
        name: model_name[bare]
        for name, bare in zip(classes, map(normalize, _without_disease(classes)), strict=True)
        if normalize(name) not in known and bare_of_model[bare] == bare_here[bare] == 1
    }


def _without_disease(names: Sequence[str]) -> list[str]:
    return [name.removesuffix(DISEASE_SUFFIX) for name in names]
