"""`predictions.csv`: one row per tested frame and task."""

from collections.abc import Iterator, Sequence
from typing import Any

from simclr_rhd.data.labelled_set import LabelledSet, Probabilities
from simclr_rhd.data.labels.prevalence import balanced_choice, prevalence_key
from simclr_rhd.data.labels.vocabulary import format_label


def prediction_header(labelled_set: LabelledSet) -> list[str]:
    """Columns of `predictions.csv`: one probability column per class or lesion of any task, and the fold."""
    names = dict.fromkeys(name for outputs in labelled_set.outputs().values() for name in outputs)
    of_row = ["path", "video", "group", "task", "true", "predicted"]
    return [*of_row, *(f"p:{name}" for name in names), "fold"]


def prediction_rows(
    labelled_set: LabelledSet, fold_predictions: Sequence[Probabilities]
) -> Iterator[list[Any]]:
    """One row per tested frame and task; `true` is empty where the frame is not annotated for the task."""
    header, outputs = prediction_header(labelled_set), labelled_set.outputs()
    targets = labelled_set.target_values()
    for row, fold in enumerate(labelled_set.test_fold()):
        for task, names in outputs.items() if fold >= 0 else ():
            probabilities = fold_predictions[fold][task][row]
            prevalence = fold_predictions[fold].get(prevalence_key(task))
            prior = None if prevalence is None else prevalence[row]
            cells = {f"p:{name}": float(p) for name, p in zip(names, probabilities, strict=True)}
            if targets[task].ndim == 2:
                predicted = (probabilities >= (0.5 if prior is None else prior)).astype(int)
            else:
                predicted = balanced_choice(probabilities[None], prior)[0]
            yield [
                *(labelled_set.paths[row], labelled_set.videos[row], labelled_set.groups[row], task),
                *(format_label(value, names) for value in (targets[task][row], predicted)),
                *(cells.get(column, "") for column in header[6:-1]),
                fold + 1,
            ]
