"""From probabilities to `metrics.json` and `predictions.csv`: validation and test, with baselines beside.

Notation: n labelled frames, in the order of the probabilities.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from simclr_rhd import baselines
from simclr_rhd.dataset import Dataset
from simclr_rhd.labels import TASKS
from simclr_rhd.metrics import levels, margins
from simclr_rhd.split import PARTS


def evaluate(
    dataset: Dataset, rows: np.ndarray, probabilities: dict[str, np.ndarray], *, seed: int, synthetic: bool
) -> dict[str, Any]:
    """The content of `metrics.json`.

    Args:
        dataset: the data and its split.
        rows: (n,) indices of the labelled frames.
        probabilities: {task: (n, C)} of the tasks that were learnt.
        seed: of the bootstrap and of the pixel baseline.
        synthetic: whether the data are the built-in ones.
    """
    split = {
        "by": dataset.split_by,
        "leaky": dataset.leaky,
        "folds": 1,
        "parts": {part: dataset.of_part(part) for part in PARTS},
    }
    pixels = baselines.pixels(dataset.store.frames, rows)
    tasks = {}
    for task in TASKS:
        classes = dataset.labels.classes[task]
        if task not in probabilities:
            tasks[task] = {
                "classes": classes,
                "not_evaluable": dataset.not_evaluable[task],
                "skipped": "fewer than two classes in the training part",
            }
            continue
        tasks[task] = _task(dataset, task, rows, probabilities[task], pixels, seed=seed)
    return {"synthetic": synthetic, "split": split, "tasks": tasks}


def _task(
    dataset: Dataset, task: str, rows: np.ndarray, probabilities: np.ndarray, pixels: np.ndarray, *, seed: int
) -> dict[str, Any]:
    classes, true = dataset.labels.classes[task], dataset.labels.values[task][rows]
    missing = {row["class"] for row in dataset.not_evaluable[task]}
    evaluable = [number for number, name in enumerate(classes) if name not in missing]
    groups, videos = dataset.groups[rows], np.array(dataset.labels.videos)[rows]
    at = {part: np.flatnonzero((dataset.part[rows] == part) & (true >= 0)) for part in PARTS}

    def scored(part: str, predicted: np.ndarray) -> dict[str, Any]:
        here = at[part]
        return levels(
            true[here],
            predicted,
            classes,
            groups[here].tolist(),
            videos[here].tolist(),
            evaluable=evaluable,
            seed=seed,
        )

    train, test = at["train"], at["test"]
    comparators = {
        "majority": baselines.majority(true[train][np.isin(true[train], evaluable)], len(test), len(classes)),
        "pixels": baselines.fit_pixels(pixels[train], true[train], len(classes), pixels[test], seed=seed),
    }
    test_levels = {name: scored("test", predicted) for name, predicted in comparators.items()}
    return {
        "classes": classes,
        "not_evaluable": dataset.not_evaluable[task],
        "val": scored("val", probabilities[at["val"]]),
        "test": scored("test", probabilities[test]),
        "baselines": {
            name: found["frame"] | {"video": found["video"]} for name, found in test_levels.items()
        },
        "margins": {
            name: margins(
                true[test],
                probabilities[test],
                predicted,
                groups[test].tolist(),
                videos[test].tolist(),
                evaluable=evaluable,
                seed=seed,
            )
            for name, predicted in comparators.items()
        },
    }


def prediction_header(dataset: Dataset) -> list[str]:
    """Columns of `predictions.csv`: one probability column per class name of any task."""
    names = dict.fromkeys(name for task in TASKS for name in dataset.labels.classes[task])
    return ["path", "video", "group", "task", "true", "predicted", *(f"p:{name}" for name in names)]


def prediction_rows(
    dataset: Dataset, rows: np.ndarray, probabilities: dict[str, np.ndarray]
) -> Iterator[list[Any]]:
    """One row per test frame and task; `true` is empty where the frame is not annotated for the task."""
    header, labels = prediction_header(dataset), dataset.labels
    for index, row in enumerate(rows):
        if dataset.part[row] != "test":
            continue
        for task, table in probabilities.items():
            classes, true = labels.classes[task], labels.values[task][row]
            by_column = {f"p:{name}": float(p) for name, p in zip(classes, table[index], strict=True)}
            yield [
                dataset.store.keys[row],
                labels.videos[row],
                dataset.groups[row],
                task,
                classes[true] if true >= 0 else "",
                classes[int(table[index].argmax())],
                *(by_column.get(column, "") for column in header[6:]),
            ]
