"""Pictures of one task: the loss of its head, its confusion matrix, and maps of the features.

Notation: n frames, C classes.
"""

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from simclr_rhd.report.charts.style import (
    COLOURS,
    GRID,
    MARKERS,
    PALE,
    Epochs,
    Names,
    abbreviation_notes,
    plot_losses,
    save_png,
    short_names,
    whole_percent,
)

MAX_HUES = 12  # more cannot be told apart


def plot_head_loss(path: Path, task: str, epochs: Epochs, *, note: str) -> None:
    """Loss of one task's linear head by epoch; records as of `style.plot_losses`."""
    footnote = (
        "Lower is better. Cross-entropy, classes weighted as --class-weights says; of lesions, yes or no."
    )
    title = f"{task.capitalize()}: loss of the linear head"
    plot_losses(path, title, epochs, held_out="validation", bounds={}, note=note, footnotes=[footnote])


def plot_confusion(
    path: Path, task: str, matrix: ArrayLike, classes: Names, *, level: str, not_evaluable: Names, note: str
) -> None:
    """Confusion matrix as counts and as per cent of each true class.

    `matrix` is (C, C) counts, true classes on rows and predicted ones on columns; `level` says what is
    counted, such as 'frames of the test part'; the classes that are `not_evaluable` are marked.
    """
    import seaborn

    counts = np.asarray(matrix, dtype=np.int64).reshape(len(classes), len(classes))
    totals = counts.sum(axis=1)
    percent = np.where(totals[:, None] > 0, 100 * counts / np.maximum(totals[:, None], 1), np.nan)
    written = [[whole_percent(value) for value in row] for row in percent]
    shorts = short_names(classes)
    ticks = [short + "*" * (name in not_evaluable) for short, name in zip(shorts, classes, strict=True)]
    counted = [f"{tick} ({total})" for tick, total in zip(ticks, totals, strict=True)]
    panels = (
        ("count", counts, counts, ticks, max(1, counts.max())),
        ("per cent of each true class", percent, written, counted, 100),
    )
    footnotes = ["* cannot be evaluated: not in both training and test"] * bool(not_evaluable)
    footnotes += ["grey: none here"] * bool((totals == 0).any()) + abbreviation_notes(shorts, classes)
    middles = np.arange(len(classes)) + 0.5  # of the cells
    side = max(2.2, len(classes) * (0.62 if len(classes) <= 8 else 0.48))  # inches
    size = (2 * side + 4.6, side + 1.9)
    look: Any = {"cmap": "Blues", "cbar": False, "square": True, "linewidths": 0.6, "linecolor": "white"}
    title = f"{task.capitalize()}: confusion matrix, {level}"
    with save_png(path, title, size=size, note=note, footnotes=footnotes) as figure:
        for axes, (title, values, cells, rows, most) in zip(figure.subplots(1, 2), panels, strict=True):
            nothing = np.isnan(values)
            seaborn.heatmap(values, ax=axes, annot=cells, fmt="", vmin=0, vmax=most, mask=nothing, **look)
            axes.set(xlabel="predicted", ylabel="true", title=title, facecolor=GRID)
            axes.tick_params(length=0, labelsize=9)
            axes.set_yticks(middles, rows, rotation=0)
            axes.set_xticks(middles, ticks, rotation=40, ha="right", rotation_mode="anchor")


def plot_embedding(
    path: Path,
    method: str,
    points: np.ndarray,
    task: str,
    labels: np.ndarray,
    classes: Names,
    videos: Names,
    *,
    parts: Names,
    left_out: int = 0,
    note: str,
) -> None:
    """A map of the features by 't-SNE' or 'UMAP', coloured by class and by video.

    `points` is (n, 2), `labels` (n,) class indices with -1 for not annotated, `videos` n names, `parts` n
    parts of the split, of which 'test' is outlined; `left_out` frames have no mark.
    """
    import seaborn

    names, video = np.unique(np.asarray(videos, dtype=str), return_inverse=True)
    hues = np.array(seaborn.color_palette("husl", min(len(names), MAX_HUES)))[video % MAX_HUES]
    turns = f", {MAX_HUES} hues in turn" if len(names) > MAX_HUES else ""
    test = np.asarray(parts) == "test"
    shorts = short_names(classes)
    size = float(np.clip(9000 / max(len(points), 1), 9, 60))  # square points of a mark
    footnotes = [
        "Each mark is one frame. Near marks look alike to the model; distances between islands say little."
    ]
    footnotes += [f"{len(points)} of {len(points) + left_out} labelled frames, evenly chosen."] * bool(
        left_out
    )
    footnotes += abbreviation_notes(shorts, classes)
    title = f"{task.capitalize()}: {method} of the frozen features"
    with save_png(path, title, size=(13, 5.5), note=note, footnotes=footnotes) as figure:
        by_class, by_video = figure.subplots(1, 2)
        _draw_class_marks(by_class, points, labels, shorts, test, size)
        by_video.scatter(*points.T, s=size, c=hues, linewidths=0)
        for axes, title in ((by_class, f"by {task}"), (by_video, f"by video ({len(names)}{turns})")):
            axes.set(xticks=[], yticks=[], title=title)
            axes.set_aspect("equal", adjustable="datalim")
            axes.spines[:].set(visible=True, color=PALE)


def _draw_class_marks(
    axes: Any, points: np.ndarray, labels: np.ndarray, shorts: Names, test: np.ndarray, size: float
) -> None:
    """Scatter by class, the most frequent undermost, with a legend beside the data that counts."""
    bare, *of_class = (np.flatnonzero(labels == number) for number in range(-1, len(shorts)))
    looks: list[dict[str, Any]] = [
        {"marker": marker, "c": colour} for marker, colour, _ in zip(cycle(MARKERS), cycle(COLOURS), shorts)
    ]
    axes.scatter(*points[bare].T, s=size / 3, c=PALE, linewidths=0)
    for rows, look in sorted(zip(of_class, looks, strict=True), key=lambda pair: -len(pair[0])):
        edges = np.where(test[rows], "black", "none").tolist()
        axes.scatter(*points[rows].T, s=size, linewidths=0.7, edgecolors=edges, **look)
    legend = [
        (f"{short} ({len(rows)})", look | {"linewidths": 0})
        for short, rows, look in zip(shorts, of_class, looks, strict=True)
    ]
    legend += [(f"not annotated ({len(bare)})", {"c": PALE, "linewidths": 0})] * bool(len(bare))
    outlined = int(test[labels >= 0].sum())
    legend += [(f"outlined: test ({outlined})", {"c": "none", "edgecolors": "black"})] * bool(outlined)
    handles = [axes.scatter([], [], s=40, **look) for _, look in legend]
    texts, place = [text for text, _ in legend], (1.01, 1)
    axes.legend(
        handles, texts, loc="upper left", bbox_to_anchor=place, ncols=1 + len(legend) // 19, fontsize=9
    )
