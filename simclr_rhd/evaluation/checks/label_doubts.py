"""Labels that out-of-fold predictions contradict, ranked for a second reading: `label_doubts.csv`.

A label is in doubt where heads that have not learnt from the frame's group predict another class. Doubts are
ranked by the margin of Northcutt, Jiang & Chuang 2021 (Confident Learning, JAIR 70, "prune by noise rate"):
the probability of the label less that of the predicted class. Their thresholds per class, which keep rare
classes from being doubted for their rarity alone, are here the prevalence: the margin is that of equally
frequent classes.

Notation: n labelled frames.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simclr_rhd.core.file_names import LABEL_DOUBTS, LABEL_STUDIO_CONFIG, LABEL_STUDIO_TASKS
from simclr_rhd.core.files import write_json, write_rows, write_text
from simclr_rhd.data.labelled_set import LabelledSet, Probabilities, Target
from simclr_rhd.data.labels.prevalence import adjust_prevalence
from simclr_rhd.data.labels.vocabulary import format_label
from simclr_rhd.evaluation.checks.label_studio import PreAnnotation, labelling_config, pre_annotated_tasks
from simclr_rhd.heads.cross_validation import out_of_fold

HEADER = ["rank", "path", "video", "group", "task", "label", "predicted"]
HEADER += ["p_label", "p_predicted", "margin", "fold"]

logger = logging.getLogger("simclr_rhd")


@dataclass(frozen=True)
class LabelDoubt:
    """A label and the prediction that contradicts it.

    Attributes:
        row: of the frame, among the n.
        task: of the label.
        label: the class, or the lesions, of the label table.
        predicted: the class, or the lesions, that are predicted.
        p_label: probability of the label; of several lesions, of the one that is contradicted most.
        p_predicted: probability of what is predicted in its place.
        margin: the first less the second where classes are equally frequent, in [-1, 0).
        fold: number of the fold that tests the frame, from 1.
    """

    row: int
    task: str
    label: str
    predicted: str
    p_label: float
    p_predicted: float
    margin: float
    fold: int


def find_label_doubts(
    labelled_set: LabelledSet, fold_predictions: Sequence[Probabilities]
) -> list[LabelDoubt]:
    """The doubts about tested frames, one per frame and task, the largest contradiction first.

    Labels of classes that cannot be evaluated are left out: a class that was not learnt is never predicted.

    Args:
        labelled_set: the frames.
        fold_predictions: tables of the heads of each fold.
    """
    table, folds = out_of_fold(labelled_set, fold_predictions, "test"), labelled_set.test_fold()
    doubts = []
    for task, names in labelled_set.outputs().items():
        targets = [target for target in labelled_set.targets() if target.task == task]
        margins = np.stack([_margins(target, table, folds >= 0) for target in targets])
        predicted = np.stack([target.predicted(table) for target in targets], axis=1)  # (n, targets)
        labels = labelled_set.target_values()[task]
        for row in np.flatnonzero(margins.min(axis=0) < 0).tolist():
            worst = int(margins[:, row].argmin())
            target = targets[worst]
            p = target.probabilities(table)[row]
            doubts.append(
                LabelDoubt(
                    row=row,
                    task=task,
                    label=format_label(labels[row], names),
                    predicted=format_label(predicted[row].reshape(labels[row].shape), names),
                    p_label=float(p[target.true[row]]),
                    p_predicted=float(p[predicted[row, worst]]),
                    margin=float(margins[worst, row]),
                    fold=int(folds[row]) + 1,
                )
            )
    return sorted(doubts, key=lambda doubt: doubt.margin)  # stable: equal ones in the order of the frames


def _margins(target: Target, table: Probabilities, tested: np.ndarray) -> np.ndarray:
    """(n,) margins where classes are equally frequent; 0 where nothing is contradicted, or not known."""
    counts = tested & np.isin(target.true, target.evaluable())
    prevalence = target.prevalence(table)
    p = adjust_prevalence(target.probabilities(table), prevalence, np.full_like(prevalence, 1))
    rows = np.arange(len(p))
    margins: np.ndarray = np.where(counts, p[rows, target.true] - p[rows, target.predicted(table)], 0.0)
    return margins


def doubt_rows(labelled_set: LabelledSet, doubts: Sequence[LabelDoubt]) -> Iterator[list[object]]:
    """Rows of `label_doubts.csv`, columns as HEADER."""
    for rank, doubt in enumerate(doubts, start=1):
        row = doubt.row
        yield [
            *(rank, labelled_set.paths[row], labelled_set.videos[row], labelled_set.groups[row]),
            *(doubt.task, doubt.label, doubt.predicted),
            *(doubt.p_label, doubt.p_predicted, doubt.margin, doubt.fold),
        ]


def write_label_doubts(
    save_dir: Path, labelled_set: LabelledSet, fold_predictions: Sequence[Probabilities], data: str
) -> None:
    """Write `label_doubts.csv`, and the same for Label Studio: tasks, and the configuration of its page.

    Args:
        save_dir: the run's folder.
        labelled_set: the frames.
        fold_predictions: tables of the heads of each fold.
        data: the place that --data names.
    """
    doubts = find_label_doubts(labelled_set, fold_predictions)
    write_rows(save_dir / LABEL_DOUBTS, HEADER, doubt_rows(labelled_set, doubts))
    annotations = [PreAnnotation(of.row, of.task, of.predicted, of.p_predicted) for of in doubts]
    tasks = pre_annotated_tasks(labelled_set, annotations, data)
    write_json(save_dir / LABEL_STUDIO_TASKS, tasks)
    write_text(save_dir / LABEL_STUDIO_CONFIG, labelling_config(labelled_set))
    tested = labelled_set.test_fold() >= 0
    n_labels = sum(int((values[tested] >= 0).sum()) for values in labelled_set.values.values())
    logger.info(
        "%s: predictions contradict %d of %d labels of tested frames; %d frames are in %s",
        *(LABEL_DOUBTS, len(doubts), n_labels, len(tasks), LABEL_STUDIO_TASKS),
    )
