"""The screening question: which classes of a task make a patient one to be sent on.

Notation: n labelled frames, C classes, L lesions.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.core.file_names import MAX_QUESTIONS
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.prevalence import prevalence_key
from simclr_rhd.data.labels.tasks.terms import NO_DISEASE
from simclr_rhd.data.labels.vocabulary import LESION_SEPARATOR, NOT_APPLICABLE, task_named

logger = logging.getLogger("simclr_rhd")

POSITIVE, NEGATIVE, NEITHER = 1, 0, -1
FLAG = "--positive"


@dataclass(frozen=True)
class ScreeningQuestion:
    """Classes of a task that are positive, and those that are negative.

    Attributes:
        task: its name.
        positive: names of classes or lesions; one of them in one frame makes a patient positive.
        negative: names of the others that count; of lesions, a frame without a positive one is negative.
        outputs: names of the columns of the task's probabilities.
        multilabel: whether these are lesions.
    """

    task: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    outputs: tuple[str, ...]
    multilabel: bool = False

    @property
    def name(self) -> str:
        """As `--positive` takes it: 'severity=Borderline RHD,Definite RHD'."""
        return f"{self.task}={','.join(self.positive)}"

    def status(self, values: np.ndarray) -> np.ndarray:
        """(n,) POSITIVE, NEGATIVE or NEITHER of frames.

        Args:
            values: (n,) class indices or (n, L) lesions, -1 = not annotated.
        """
        columns = self._columns(self.positive)
        if self.multilabel:
            known = (values[:, columns] >= 0).all(axis=1)
            return np.where(known, (values[:, columns] == 1).any(axis=1), NEITHER)
        status = np.full(len(values), NEITHER)
        status[np.isin(values, self._columns(self.negative))] = NEGATIVE
        status[np.isin(values, columns)] = POSITIVE
        return status

    def probability(self, table: Probabilities) -> np.ndarray:
        """(n,) that a frame is of a positive class, or has one of the lesions, these being independent."""
        return self._positive_share(table[self.task])

    def prevalence(self, table: Probabilities) -> np.ndarray:
        """(n,) share of positive frames that these probabilities hold for."""
        alike = 1 / 2 if self.multilabel else 1 / len(self.outputs)
        known = table.get(prevalence_key(self.task))
        return self._positive_share(np.full_like(table[self.task], alike) if known is None else known)

    def _positive_share(self, values: np.ndarray) -> np.ndarray:
        of_positive = values[:, self._columns(self.positive)]
        share: np.ndarray = 1 - (1 - of_positive).prod(axis=1) if self.multilabel else of_positive.sum(axis=1)
        return share

    def _columns(self, names: Iterable[str]) -> list[int]:
        return [self.outputs.index(name) for name in names if name in self.outputs]


def screening_questions(labelled_set: LabelledSet, flags: Sequence[str]) -> list[ScreeningQuestion]:
    """The questions that `--positive` names; without it, of each task with degrees all above normal.

    There are MAX_QUESTIONS at most; of more tasks with degrees, those of the first ones.

    Args:
        labelled_set: the labelled frames.
        flags: texts TASK=CLASS,CLASS.

    Raises:
        UserError: there is no such task or class, or no class is left to be negative.
    """
    if flags:
        questions = [_parse(labelled_set, text) for text in flags]
        return list({question.name: question for question in questions}.values())
    targets = [target for target in labelled_set.targets() if target.lesion is None]
    questions = [_degrees_above_normal(target) for target in targets]
    return [question for question in questions if question.positive][:MAX_QUESTIONS]


def log_questions(labelled_set: LabelledSet, flags: Sequence[str]) -> None:
    """Log the questions before hours are spent on a run; arguments and errors as of `screening_questions`."""
    questions = screening_questions(labelled_set, flags)
    for question in questions:
        logger.info(
            "screening: %s is positive, %s negative",
            *(question.name, ", ".join(question.negative) or "a frame without it"),
        )
    if not questions:
        logger.info("NOTICE no screening panel: no task has degrees above normal; %s names classes", FLAG)


def _degrees_above_normal(target: Target) -> ScreeningQuestion:
    """The degrees above normal; none where the scale has a normal degree that no frame is of.

    Of a scale of the user's own the lowest degree is the normal one. Classes that are no degree, such as 'Not
    Applicable', are on neither side.
    """
    degrees = [target.classes[number] for number in target.ordered()]
    negative = [name for name in degrees if name in NO_DISEASE]
    if not any(NO_DISEASE & {*scale.degrees} for scale in target.definition.scales):
        negative = degrees[:1]
    positive = [name for name in degrees if negative and name not in negative]
    return ScreeningQuestion(target.task, tuple(positive), tuple(negative), tuple(target.classes))


def _parse(labelled_set: LabelledSet, text: str) -> ScreeningQuestion:
    task, _, listed = text.partition("=")
    task, outputs = task.strip(), labelled_set.outputs()
    if task not in outputs:
        raise UserError(f"{FLAG} {text}: there is no task {task!r} here; it can be {', '.join(outputs)}")
    classes = outputs[task]
    by_lesion = labelled_set.target_values()[task].ndim == 2
    parts = {name: {name} for name in classes}  # of a class of several lesions each is named, too
    if not by_lesion and task_named(task, labelled_set.tasks).multilabel:
        parts = {name: {name, *name.split(LESION_SEPARATOR)} for name in classes}
    names = _split_names(listed, classes)
    if unknown := [name for name in names if not any(name in of for of in parts.values())]:
        raise UserError(
            f"{FLAG} {text}: {task} has no class {unknown[0]!r}; its classes are {', '.join(classes)}"
        )
    positive = tuple(name for name in classes if parts[name] & {*names})
    negative = tuple(name for name in classes if name not in (*positive, NOT_APPLICABLE))
    degrees = _degrees(labelled_set, task)
    if degrees >= {*positive}:  # what is no degree is on neither side
        negative = tuple(name for name in negative if name in degrees)
    if not positive or not (negative or by_lesion):
        raise UserError(
            f"{FLAG} {text}: wanted TASK=CLASS,CLASS with some, not all, of the classes {', '.join(classes)}"
        )
    return ScreeningQuestion(task, positive, negative, tuple(classes), by_lesion)


def _degrees(labelled_set: LabelledSet, task: str) -> set[str]:
    targets = [target for target in labelled_set.targets() if target.name == task]
    return {target.classes[number] for target in targets for number in target.ordered()}


def _split_names(text: str, classes: Sequence[str]) -> list[str]:
    """The names between commas; a class whose own name has a comma is taken whole."""
    if text.strip() in classes:
        return [text.strip()]
    return [name.strip() for name in text.split(",") if name.strip()]
