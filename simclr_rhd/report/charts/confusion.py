"""Pictures of confusion matrices: of classes that exclude one another, and of lesions.

Notation: C classes, L lesions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from simclr_rhd.report.charts.style import (
    GRID,
    Names,
    abbreviation_notes,
    save_png,
    short_names,
    whole_percent,
)

LESION_CELLS = ("found", "missed", "false\nalarm", "rightly\nabsent")


@dataclass(frozen=True)
class Heatmap:
    """A table that is drawn.

    Attributes:
        title: of the table.
        values: (rows, columns), shown by colour; none for NaN.
        texts: of the cells.
        rows: their names.
        largest: the value of the darkest colour.
    """

    title: str
    values: np.ndarray
    texts: Any
    rows: Sequence[str]
    largest: int


def plot_confusion(
    path: Path, title: str, matrix: ArrayLike, classes: Names, *, not_evaluable: Names, note: str
) -> None:
    """Draw a confusion matrix as counts and as per cent of each true class.

    `matrix` is (C, C) counts, true classes on rows and predicted ones on columns; the classes that are
    `not_evaluable` are marked.
    """
    counts = np.asarray(matrix, dtype=np.int64).reshape(len(classes), len(classes))
    totals = counts.sum(axis=1)
    ticks = _marked(classes, not_evaluable)
    counted = [f"{tick} ({total})" for tick, total in zip(ticks, totals, strict=True)]
    percent, texts = _percent(counts, totals[:, None])
    heatmaps = [
        Heatmap("count", counts, counts, ticks, max(1, counts.max())),
        Heatmap("per cent of each true class", percent, texts, counted, 100),
    ]
    footnotes = _footnotes(classes, totals, not_evaluable)
    side = max(2.2, len(classes) * (0.62 if len(classes) <= 8 else 0.48))  # inches
    size = (2 * side + 4.6, side + 1.9)
    with save_png(path, title, size=size, note=note, footnotes=footnotes) as figure:
        for axes in _draw_heatmaps(figure, heatmaps, square=True):
            axes.set(xlabel="predicted", ylabel="true")
            middles = np.arange(len(classes)) + 0.5  # of the cells
            axes.set_xticks(middles, ticks, rotation=40, ha="right", rotation_mode="anchor")


def plot_lesions(
    path: Path, counts: dict[str, ArrayLike], *, level: str, not_evaluable: Names, note: str
) -> None:
    """Draw how often each lesion is found, missed, predicted where it is not, and rightly not predicted.

    `counts` are {lesion: (2, 2) counts, true by predicted, absent first}; `level` names what is counted; the
    lesions that are `not_evaluable` are marked.
    """
    tables = np.array([np.asarray(table, dtype=np.int64) for table in counts.values()])  # (L, 2, 2)
    cells = tables[:, [1, 1, 0, 0], [1, 0, 1, 0]]  # (L, 4), as LESION_CELLS
    totals = tables.sum(axis=2)[:, [1, 1, 0, 0]]  # of present, of absent
    ticks = _marked(list(counts), not_evaluable)
    counted = [f"{tick} ({row[0]} / {row[2]})" for tick, row in zip(ticks, totals, strict=True)]
    percent, texts = _percent(cells, totals)
    heatmaps = [
        Heatmap("count", cells, cells, ticks, max(1, cells.max())),
        Heatmap("per cent (of present / of absent)", percent, texts, counted, 100),
    ]
    footnotes = [
        "Found and missed: where the lesion is present. False alarm and rightly absent: where it is not.",
        *_footnotes(list(counts), totals, not_evaluable),
    ]
    title, size = f"Lesions, each by itself: {level}", (10.5, 0.46 * len(counts) + 1.4)
    with save_png(path, title, size=size, note=note, footnotes=footnotes) as figure:
        for axes in _draw_heatmaps(figure, heatmaps):
            axes.set_xticks(np.arange(len(LESION_CELLS)) + 0.5, LESION_CELLS)


def _marked(names: Names, not_evaluable: Names) -> list[str]:
    """Short names, with '*' where they cannot be evaluated."""
    return [
        short + "*" * (name in not_evaluable) for short, name in zip(short_names(names), names, strict=True)
    ]


def _percent(counts: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, list[list[str]]]:
    """Per cent of the totals, NaN where there are none, and the same as texts."""
    percent = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
    return percent, [[whole_percent(value) for value in row] for row in percent]


def _footnotes(names: Names, totals: np.ndarray, not_evaluable: Names) -> list[str]:
    notes = ["* cannot be evaluated: not in both training and test"] * bool(not_evaluable)
    notes += ["grey: none here"] * bool((totals == 0).any())
    return notes + abbreviation_notes(short_names(names), names)


def _draw_heatmaps(figure: Any, heatmaps: Sequence[Heatmap], *, square: bool = False) -> Iterator[Any]:
    """Draw tables beside each other; yield the axes of each, whose columns are still to be named."""
    import seaborn

    for axes, of in zip(figure.subplots(1, len(heatmaps)), heatmaps, strict=True):
        seaborn.heatmap(
            of.values,
            ax=axes,
            annot=of.texts,
            fmt="",
            vmin=0,
            vmax=of.largest,
            mask=np.isnan(of.values),
            cmap="Blues",
            cbar=False,
            square=square,
            linewidths=0.6,
            linecolor="white",
        )
        axes.set(title=of.title, facecolor=GRID)
        axes.tick_params(length=0, labelsize=9)
        axes.set_yticks(np.arange(len(of.rows)) + 0.5, of.rows, rotation=0)
        yield axes
