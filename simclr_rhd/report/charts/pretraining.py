"""Pictures of the pretraining: its loss, what that stands for, and what the encoder is shown."""

import math
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from simclr_rhd.report.charts.style import (
    COLOURS,
    MARKERS,
    MUTED,
    Epochs,
    LossCurves,
    has_several_view_sizes,
    mark_view_sizes,
    plot_losses,
    save_png,
    set_epoch_axis,
)

GROWING_VIEWS_NOTE = (
    "Views grow, in pixels as marked; larger ones show more, and what is measured starts anew."
)
ANNEALING_NOTE = "From epoch {} on the learning rate falls to 0; the last epoch is kept."
AVERAGING_NOTE = (
    "What is measured after an epoch is the moving average of the weights; the training loss is that of the "
    "weights themselves."
)
DIAGNOSTICS = {
    "alignment": (
        "Alignment",
        "mean squared distance of a frame's views on the unit sphere, at best 0; lower is better.",
    ),
    "uniformity": (
        "Uniformity",
        "how alike frames are: 0 if all are, near -4 if evenly spread; lower is better.",
    ),
    "rank": ("Effective rank", "how many directions the embeddings use; higher is better."),
    "knn": (
        "kNN",
        "balanced accuracy, each training frame classified by its nearest frames of other groups; higher is "
        "better.",
    ),
}


def plot_simclr_loss(path: Path, epochs: Epochs, *, note: str) -> None:
    """Contrastive loss by epoch, beside the loss of a model that tells no frame from another.

    `epochs` are records with epoch, loss, val_loss, uniform, val_uniform and best, and where it was computed
    perfect; figures may be None. The last one marked as best is the one whose weights were kept.
    """
    bounds, footnotes = loss_bounds(epochs)
    title = "Pretraining: contrastive loss (NT-Xent)"
    plot_losses(path, title, LossCurves(epochs, "held-out", bounds), note=note, footnotes=footnotes)


def loss_bounds(epochs: Epochs) -> tuple[dict[str, float], list[str]]:
    """Bounds of the contrastive loss, {name: loss}, and sentences that explain them.

    The perfect loss is among the bounds where, as a line, it leaves the curves at least a third of the
    height; else it stands in the sentences.
    """
    bounds = {
        f"no knowledge, {part}: {epochs[-1][key]:.3f}": epochs[-1][key]
        for part, key in (("training", "uniform"), ("held-out", "val_uniform"))
        if (epochs[-1][key] or 0) > 0
    }
    footnotes = [
        "Lower is better. No knowledge: no frame differs from another; ln(2N-1) for batches of N frames."
    ]
    perfect = epochs[-1].get("perfect")
    if perfect is not None and math.isfinite(perfect):
        footnotes += [
            "Perfectly aligned and uniform: the views of a frame coincide, all frames are evenly spread."
        ]
        drawn = [*bounds.values(), *(row[key] for row in epochs for key in ("loss", "val_loss"))]
        known = [value for value in drawn if value is not None and math.isfinite(value)]
        if known and max(known) - min(*known, perfect) <= 3 * (max(known) - min(known)):
            bounds[f"perfectly aligned and uniform: {perfect:.3f}"] = perfect
        else:
            footnotes[-1] += f" The training loss would be {perfect:.3f}."
    return bounds, footnotes + epoch_notes(epochs)


def epoch_notes(epochs: Epochs) -> list[str]:
    """Sentences on how epochs differ and what was measured, where they apply."""
    falling = [row["epoch"] for row in epochs if row.get("annealing")]
    annealed = [ANNEALING_NOTE.format(falling[0])] if falling else []
    return (
        [AVERAGING_NOTE] * bool(epochs[-1].get("averaged"))
        + [GROWING_VIEWS_NOTE] * has_several_view_sizes(epochs)
        + annealed
    )


def plot_simclr_diagnostics(path: Path, epochs: Epochs, *, note: str) -> None:
    """Draw what the contrastive loss stands for, by epoch: alignment, uniformity, effective rank, neighbours.

    `epochs` are records with epoch, alignment, uniformity, rank and knn ({task: balanced accuracy}), measured
    at some epochs only; what is missing or None was not measured.
    """
    footnotes = [f"{heading}: {means}" for heading, means in DIAGNOSTICS.values()] + epoch_notes(epochs)
    title = "Pretraining: what the embeddings are like"
    with save_png(path, title, size=(10, 6.4), note=note, footnotes=footnotes) as figure:
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
        for axes, name in zip(figure.subplots(2, 2).flat, DIAGNOSTICS, strict=True):
            axes.set(title=DIAGNOSTICS[name][0])
            curves = diagnostic_curves(epochs, name)
            draw_diagnostic(axes, [row["epoch"] for row in epochs], curves)
            mark_view_sizes(axes, epochs)
            if axes.lines and any(curves):
                spacing = {"handlelength": 1.5, "columnspacing": 1, "borderaxespad": 0.2}
                axes.legend(
                    loc="lower right", bbox_to_anchor=(1, 1), ncols=len(curves), fontsize=9, **spacing
                )


def diagnostic_curves(epochs: Epochs, name: str) -> dict[str, list[float | None]]:
    """{curve: its value at each epoch} of one of DIAGNOSTICS: one curve, of kNN one for each task."""
    if name != "knn":
        return {"": [row.get(name) for row in epochs]}
    votes = [row.get("knn") or {} for row in epochs]
    tasks = dict.fromkeys(task for scores in votes for task in scores)
    return {task: [scores.get(task) for scores in votes] for task in tasks}


def plot_views(path: Path, frame: ArrayLike, views: ArrayLike, *, note: str) -> None:
    """A frame and random views of it.

    `frame` is (s, s, 3) uint8, `views` (n, s, s, 3).
    """
    shown = [np.asarray(frame), *np.asarray(views)]
    columns = 1 + -(-(len(shown) - 1) // 2)
    footnotes = (
        "Left: the whole frame as it is stored. Right: what pretraining makes of it at random; two of them, "
        "or of two frames of a video with --positives video, are a positive pair.",
    )
    with save_png(
        path, "Pretraining: views of one frame", size=(8.5, 2.1), note=note, footnotes=footnotes
    ) as figure:
        grid = figure.add_gridspec(2, columns + 1)
        places = [grid[:, :2], *(grid[n % 2, 2 + n // 2] for n in range(len(shown) - 1))]
        for place, picture in zip(places, shown, strict=True):
            axes = figure.add_subplot(place)
            axes.imshow(picture)
            axes.set_axis_off()


def draw_diagnostic(axes: Any, numbers: Sequence[int], curves: dict[str, list[float | None]]) -> None:
    """Lines through what was measured, at some epochs only; no legend."""
    style: dict[str, Any] = {"ms": 3.5, "clip_on": False}  # marks on the frame are whole
    for (name, values), colour, marker in zip(curves.items(), cycle(COLOURS), cycle(MARKERS), strict=False):
        points = np.array([numbers, values], dtype=float)  # None becomes NaN
        points = points[:, np.isfinite(points[1])]
        every = 1 + points.shape[1] // 30
        if points.size:
            axes.plot(*points, color=colour, label=name or None, marker=marker, markevery=every, **style)
    set_epoch_axis(axes, numbers)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)  # an offset would be in the title's place
    if not axes.lines:
        axes.set(yticks=[])
        axes.grid(False)
        axes.text(0.5, 0.5, "not measured", color=MUTED, ha="center", transform=axes.transAxes)
