"""The outputs of one task: the class that probabilities choose, its confidence, another prevalence.

Notation: n frames, C classes or lesions of a task.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.labels.prevalence import adjust_prevalence, balanced_choice
from simclr_rhd.data.labels.vocabulary import format_label
from simclr_rhd.evaluation.selective import confidence_scores

SHARE_SUM_TOLERANCE = 0.005  # that the shares of all classes may be off 1, as they are rounded


@dataclass(frozen=True)
class TaskOutput:
    """Meaning of a task's (n, C) probabilities.

    Attributes:
        classes: names of the C classes, or lesions.
        multilabel: each is a lesion, present or not, whatever the others are.
        prevalence: (C,) shares of the classes that the probabilities hold for.
    """

    classes: list[str]
    multilabel: bool
    prevalence: np.ndarray

    def predicted(self, probabilities: np.ndarray) -> list[str]:
        """Name n classes: the balanced choice; of lesions, those at least as probable as frequent."""
        present = (probabilities >= self.prevalence).astype(int)
        values = present if self.multilabel else balanced_choice(probabilities, self.prevalence)
        return [format_label(value, self.classes) for value in values]

    def confidence(self, probabilities: np.ndarray) -> np.ndarray:
        """(n,) the probability of what is predicted; of lesions, of the least sure one."""
        if self.multilabel:
            present = probabilities >= self.prevalence
            least: np.ndarray = np.where(present, probabilities, 1 - probabilities).min(axis=1)
            return least
        return confidence_scores(probabilities, self.prevalence)

    def entropy(self, probabilities: np.ndarray) -> np.ndarray:
        """(n,) in nats, 0 where the model is sure; of lesions, the sum over them."""
        total = _negative_log_sum(probabilities)
        if self.multilabel:
            total += _negative_log_sum(1 - probabilities)
        np.maximum(total, 0, out=total)
        return total

    def adjust(self, probabilities: np.ndarray, to: np.ndarray) -> np.ndarray:
        """(n, C) probabilities for another prevalence (`adjust_prevalence`); a lesion is one of two."""
        if not self.multilabel:
            return adjust_prevalence(probabilities, self.prevalence, to)
        columns = [
            adjust_prevalence(*(np.stack([1 - x, x], axis=-1) for x in triple))
            for triple in zip(probabilities.T, self.prevalence, to, strict=True)
        ]
        return np.stack([column[:, 1] for column in columns], axis=1)


def _negative_log_sum(probabilities: np.ndarray) -> np.ndarray:
    p = np.clip(probabilities, 1e-300, 1)
    total: np.ndarray = -(p * np.log(p)).sum(axis=1)
    return total


def resolve_prevalence(tasks: Mapping[str, TaskOutput], shares: Mapping[str, float]) -> dict[str, TaskOutput]:
    """The tasks at another prevalence: some classes have a fixed share, the others keep their proportions.

    Args:
        tasks: outputs of each task.
        shares: {class: share above 0 and below 1}; a class that several tasks have is called TASK:CLASS.

    Raises:
        UserError: there is no such class, several tasks have it, or the shares of a task do not fit.
    """
    fixed_shares: dict[str, dict[int, float]] = {task: {} for task in tasks}
    for name, share in shares.items():
        task, index = _find_class(tasks, name)
        if not 0 < share < 1:
            raise UserError(f"--prevalence {name}={share:g}: wanted a share above 0 and below 1")
        if fixed_shares[task].setdefault(index, share) != share:
            raise UserError(f"--prevalence {name}={share:g}: the class has another share already")
    return {
        task: replace(output, prevalence=_with_shares(task, output, fixed_shares[task]))
        for task, output in tasks.items()
    }


def _find_class(tasks: Mapping[str, TaskOutput], name: str) -> tuple[str, int]:
    """Task and index of a class that is called CLASS or TASK:CLASS."""
    matches = []
    for task, output in tasks.items():
        bare = name if name in output.classes else name.removeprefix(f"{task}:")
        if bare in output.classes:
            matches.append((task, output.classes.index(bare)))
    if not matches:
        known = ", ".join(f"{task}:{label}" for task, output in tasks.items() for label in output.classes)
        raise UserError(f"--prevalence {name}: the model has no such class; it has {known}")
    if len(matches) > 1:
        choices = " or ".join(f"'{task}:{name}'" for task, _ in matches)
        raise UserError(f"--prevalence {name}: {len(matches)} tasks have this class; name it {choices}")
    return matches[0]


def _with_shares(task: str, output: TaskOutput, fixed_shares: Mapping[int, float]) -> np.ndarray:
    """(C,) prevalence with fixed shares, {index of a class: share}."""
    prevalence, indices = output.prevalence.copy(), list(fixed_shares)
    prevalence[indices] = list(fixed_shares.values())
    if not fixed_shares or output.multilabel:
        return prevalence
    others, total = np.setdiff1d(np.arange(len(prevalence)), indices), sum(fixed_shares.values())
    if (len(others) and total >= 1) or (not len(others) and abs(total - 1) > SHARE_SUM_TOLERANCE):
        wanted = "less than 1, as other classes are left" if len(others) else "1, as they are all"
        raise UserError(f"--prevalence: the shares of {task} add up to {total:g}; wanted {wanted}")
    if len(others):
        prevalence[others] *= (1 - total) / prevalence[others].sum()
    prevalence /= prevalence.sum()
    return prevalence
