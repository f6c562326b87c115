"""Pictures of one task: the loss of its head, and maps of the features.

Notation: n frames, C classes.
"""

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.report.charts.style import (
    COLOURS,
    MARKERS,
    PALE,
    Epochs,
    LossCurves,
    Names,
    abbreviation_notes,
    plot_losses,
    save_png,
    short_names,
)

MAX_HUES = 12  # more cannot be told apart


def plot_head_loss(path: Path, task: str, epochs: Epochs, *, note: str) -> None:
    """Draw the loss of one task's linear head by epoch; records as of `style.LossCurves`."""
    footnote = "Lower is better. Cross-entropy, classes weighted by --class-weights; of lesions, yes or no."
    title = f"{task.capitalize()}: loss of the linear head"
    plot_losses(path, title, LossCurves(epochs, "validation"), note=note, footnotes=[footnote])


@dataclass(frozen=True)
class MappedFrames:
    """Frames on a map of the features.

    Attributes:
        labels: (n,) class indices, -1 for not annotated.
        classes: C names.
        videos: (n,) names.
        parts: (n,) parts of the split, of which 'test' is outlined.
        left_out: labelled frames that have no mark.
    """

    labels: np.ndarray
    classes: Names
    videos: Names | np.ndarray
    parts: Names | np.ndarray
    left_out: int = 0


def plot_embedding(
    path: Path, task: str, method: str, points: np.ndarray, frames: MappedFrames, *, note: str
) -> None:
    """Draw a map of the features by 't-SNE' or 'UMAP', (n, 2) points, coloured by class and by video."""
    import seaborn

    names, video = np.unique(np.asarray(frames.videos, dtype=str), return_inverse=True)
    hues = np.array(seaborn.color_palette("husl", min(len(names), MAX_HUES)))[video % MAX_HUES]
    turns = f", {MAX_HUES} hues in turn" if len(names) > MAX_HUES else ""
    size = float(np.clip(9000 / max(len(points), 1), 9, 60))  # square points of a mark
    footnotes = [
        "Each mark is one frame. Near marks look alike to the model; distances between islands say little."
    ]
    if frames.left_out:
        n_labelled = len(points) + frames.left_out
        footnotes.append(f"{len(points)} of {n_labelled} labelled frames, evenly chosen.")
    footnotes += abbreviation_notes(short_names(frames.classes), frames.classes)
    title = f"{task.capitalize()}: {method} of the frozen features"
    with save_png(path, title, size=(13, 5.5), note=note, footnotes=footnotes) as figure:
        class_axes, video_axes = figure.subplots(1, 2)
        _draw_class_marks(class_axes, points, frames, size)
        video_axes.scatter(*points.T, s=size, c=hues, linewidths=0)
        for axes, title in ((class_axes, f"by {task}"), (video_axes, f"by video ({len(names)}{turns})")):
            axes.set(xticks=[], yticks=[], title=title)
            axes.set_aspect("equal", adjustable="datalim")
            axes.spines[:].set(visible=True, color=PALE)


def _draw_class_marks(axes: Any, points: np.ndarray, frames: MappedFrames, size: float) -> None:
    """Scatter by class, the most frequent undermost, with a legend beside the data that counts."""
    shorts, test = short_names(frames.classes), np.asarray(frames.parts) == "test"
    bare, *of_class = (np.flatnonzero(frames.labels == number) for number in range(-1, len(shorts)))
    styles: list[dict[str, Any]] = [
        {"marker": marker, "c": colour} for marker, colour, _ in zip(cycle(MARKERS), cycle(COLOURS), shorts)
    ]
    axes.scatter(*points[bare].T, s=size / 3, c=PALE, linewidths=0)
    for rows, style in sorted(zip(of_class, styles, strict=True), key=lambda pair: -len(pair[0])):
        edges = np.where(test[rows], "black", "none").tolist()
        axes.scatter(*points[rows].T, s=size, linewidths=0.7, edgecolors=edges, **style)
    legend = [
        (f"{short} ({len(rows)})", style | {"linewidths": 0})
        for short, rows, style in zip(shorts, of_class, styles, strict=True)
    ]
    legend += [(f"not annotated ({len(bare)})", {"c": PALE, "linewidths": 0})] * bool(len(bare))
    outlined = int(test[frames.labels >= 0].sum())
    legend += [(f"outlined: test ({outlined})", {"c": "none", "edgecolors": "black"})] * bool(outlined)
    handles = [axes.scatter([], [], s=40, **style) for _, style in legend]
    texts, place = [text for text, _ in legend], (1.01, 1)
    axes.legend(
        handles, texts, loc="upper left", bbox_to_anchor=place, ncols=1 + len(legend) // 19, fontsize=9
    )
