"""Pictures: arrays in, PNG files out; the same input gives the same bytes.

Every picture has a title, below it the `note` that qualifies it ("" for none), and a foot that explains what
is abbreviated. It is written to `path`, whole or not at all. Classes differ in colour and in marker. What
builds on matplotlib is imported where a picture is drawn, so that this module costs nothing to import.

Notation: n frames, C classes.
"""

import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from simclr_rhd.files import replacing

Names = Sequence[str]
Epochs = Sequence[dict[str, Any]]

LONGEST = 18  # characters of a class name beside a tick
DPI = 130
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "text.parse_math": False,  # class names may hold dollar signs
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
# Okabe & Ito (2008) without black and yellow, used for outlines and too pale; two of Paul Tol's
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#882255", "#999933")
MARKERS = "os^DvPX<>p*h8d"  # 14 markers, 8 colours: no two of 56 classes look alike
PALE, MUTED, ALARM = "#C8C8C8", "#595959", "#B03A00"
HUES = 12  # more cannot be told apart
ABBREVIATION = re.compile(r"\(([A-Z]\w{,6}[A-Z0-9])\)$")
LESION = re.compile(r"(?i)(aortic|mitral|pulmonary|tricuspid) (?:valve )?(regurgitation|stenosis|prolapse)")


def short_name(name: str) -> str:
    """A class name in some 18 characters: its usual abbreviation where there is one, else cut."""
    name = " ".join(name.split()).lstrip("_ ")  # matplotlib drops legend entries that start with "_"
    if " + " in name:
        name = " + ".join(map(short_name, name.split(" + ")))
    elif found := ABBREVIATION.search(name):
        return found[1]
    elif found := LESION.fullmatch(name):
        return (found[1][0] + found[2][0].lower().replace("p", "vp")).upper()
    elif name.lower() == "not applicable":
        return "N/A"
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip() + "…"


def short_names(names: Names) -> list[str]:
    """The short name of each; those that would be alike are numbered."""
    shorts: list[str] = []
    for name in names:
        short, number = short_name(name), 1
        while short in shorts:
            number += 1
            short = f"{short_name(name)[: LONGEST - 3].rstrip()} {number}"
        shorts.append(short)
    return shorts


def simclr_loss(path: Path, epochs: Epochs, *, note: str) -> None:
    """Contrastive loss by epoch, beside the loss of a model that tells no frame from another.

    `epochs` are records with epoch, loss, val_loss, uniform, val_uniform and best, and where it was computed
    perfect; figures may be None. The last one marked as best is the one whose weights were kept. The perfect
    loss is a line where that leaves the curves at least a third of the height, else it stands in the foot.
    """
    bounds = {
        f"no knowledge, {part}: {epochs[-1][key]:.3f}": epochs[-1][key]
        for part, key in (("training", "uniform"), ("held-out", "val_uniform"))
        if (epochs[-1][key] or 0) > 0
    }
    foot = ["Lower is better. No knowledge: no frame is told from another; ln(2N-1) for batches of N frames."]
    perfect = epochs[-1].get("perfect")
    if perfect is not None and math.isfinite(perfect):
        foot += [
            "Perfectly aligned and uniform: the views of a frame coincide, all frames are evenly spread."
        ]
        drawn = [*bounds.values(), *(row[key] for row in epochs for key in ("loss", "val_loss"))]
        known = [value for value in drawn if value is not None and math.isfinite(value)]
        if known and max(known) - min(*known, perfect) <= 3 * (max(known) - min(known)):
            bounds[f"perfectly aligned and uniform: {perfect:.3f}"] = perfect
        else:
            foot[-1] += f" The training loss would be {perfect:.3f}."
    _losses(path, "Pretraining: contrastive loss (NT-Xent)", epochs, "held-out", bounds, note, foot)


def simclr_diagnostics(path: Path, epochs: Epochs, *, note: str) -> None:
    """What the contrastive loss stands for, by epoch: alignment, uniformity, effective rank and neighbours.

    `epochs` are records with epoch, alignment, uniformity, rank and knn ({task: balanced accuracy}), measured
    at some epochs only; what is missing or None was not measured.
    """
    foot = [
        "Alignment: mean squared distance of a frame's views on the unit sphere, at best 0; lower is better.",
        "Uniformity: how alike frames are: 0 if all are, near -4 if evenly spread; lower is better.",
        "Effective rank: how many directions the embeddings use; higher is better.",
        "kNN: balanced accuracy, each training frame classified by its nearest frames of other groups; "
        "higher is better.",
    ]
    knn = [row.get("knn") or {} for row in epochs]
    tasks = list(dict.fromkeys(task for scores in knn for task in scores))
    panels = [
        (title, {"": [row.get(key) for row in epochs]})
        for title, key in (
            ("alignment", "alignment"),
            ("uniformity", "uniformity"),
            ("effective rank of the embeddings", "rank"),
        )
    ]
    panels += [("kNN", {task: [scores.get(task) for scores in knn] for task in tasks})]
    title = "Pretraining: what the embeddings are like"
    with _page(path, title, size=(10, 6.4), note=note, foot=foot) as figure:
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
        for axes, (heading, curves) in zip(figure.subplots(2, 2).flat, panels, strict=True):
            axes.set(title=heading)
            _sparse_curves(axes, [row["epoch"] for row in epochs], curves)


def head_loss(path: Path, task: str, epochs: Epochs, *, note: str) -> None:
    """Loss of one task's linear head by epoch; records as of `simclr_loss`."""
    foot = "Lower is better. Cross-entropy, weighted so that each class counts alike."
    _losses(path, f"{task.capitalize()}: loss of the linear head", epochs, "validation", {}, note, [foot])


def confusion(
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
    written = [[_percent(value) for value in row] for row in percent]
    shorts = short_names(classes)
    ticks = [short + "*" * (name in not_evaluable) for short, name in zip(shorts, classes, strict=True)]
    counted = [f"{tick} ({total})" for tick, total in zip(ticks, totals, strict=True)]
    panels = (
        ("count", counts, counts, ticks, max(1, counts.max())),
        ("per cent of each true class", percent, written, counted, 100),
    )
    foot = ["* cannot be evaluated: not in both training and test"] * bool(not_evaluable)
    foot += ["grey: none here"] * bool((totals == 0).any()) + _explained(shorts, classes)
    middles = np.arange(len(classes)) + 0.5  # of the cells
    side = max(2.2, len(classes) * (0.62 if len(classes) <= 8 else 0.48))  # inches
    size = (2 * side + 4.6, side + 1.9)
    look: Any = {"cmap": "Blues", "cbar": False, "square": True, "linewidths": 0.6, "linecolor": "white"}
    title = f"{task.capitalize()}: confusion matrix, {level}"
    with _page(path, title, size=size, note=note, foot=foot) as figure:
        for axes, (title, values, cells, rows, most) in zip(figure.subplots(1, 2), panels, strict=True):
            nothing = np.isnan(values)
            seaborn.heatmap(values, ax=axes, annot=cells, fmt="", vmin=0, vmax=most, mask=nothing, **look)
            axes.set(xlabel="predicted", ylabel="true", title=title, facecolor="#E4E4E4")
            axes.tick_params(length=0, labelsize=9)
            axes.set_yticks(middles, rows, rotation=0)
            axes.set_xticks(middles, ticks, rotation=40, ha="right", rotation_mode="anchor")


def embedding(
    path: Path,
    method: str,
    points: np.ndarray,
    task: str,
    labels: np.ndarray,
    classes: Names,
    videos: Names,
    *,
    parts: Names,
    note: str,
) -> None:
    """A map of the features by 't-SNE' or 'UMAP', coloured by class and by video.

    `points` is (n, 2), `labels` (n,) class indices with -1 for not annotated, `videos` n names, `parts` n
    parts of the split, of which 'test' is outlined.
    """
    import seaborn

    names, video = np.unique(np.asarray(videos, dtype=str), return_inverse=True)
    hues = np.array(seaborn.color_palette("husl", min(len(names), HUES)))[video % HUES]
    turns = f", {HUES} hues in turn" if len(names) > HUES else ""
    test = np.asarray(parts) == "test"
    shorts = short_names(classes)
    size = float(np.clip(9000 / max(len(points), 1), 9, 60))  # square points of a mark
    foot = [
        "Each mark is one frame. Near marks look alike to the model; distances between islands say little."
    ]
    foot += _explained(shorts, classes)
    title = f"{task.capitalize()}: {method} of the frozen features"
    with _page(path, title, size=(13, 5.5), note=note, foot=foot) as figure:
        by_class, by_video = figure.subplots(1, 2)
        _class_marks(by_class, points, labels, shorts, test, size)
        by_video.scatter(*points.T, s=size, c=hues, linewidths=0)
        for axes, title in ((by_class, f"by {task}"), (by_video, f"by video ({len(names)}{turns})")):
            axes.set(xticks=[], yticks=[], title=title)
            axes.set_aspect("equal", adjustable="datalim")
            axes.spines[:].set(visible=True, color=PALE)


def views(path: Path, frame: ArrayLike, of_it: ArrayLike, *, note: str) -> None:
    """A frame and random views of it.

    `frame` is (s, s, 3) uint8, `of_it` (n, s, s, 3).
    """
    shown = [np.asarray(frame), *np.asarray(of_it)]
    columns = 1 + -(-(len(shown) - 1) // 2)
    foot = (
        "Left: the whole frame as it is stored. Right: what pretraining makes of it at random; two of them, "
        "or of two frames of a video with --positives video, are a positive pair.",
    )
    with _page(path, "Pretraining: views of one frame", size=(8.5, 2.1), note=note, foot=foot) as figure:
        grid = figure.add_gridspec(2, columns + 1)
        places = [grid[:, :2], *(grid[n % 2, 2 + n // 2] for n in range(len(shown) - 1))]
        for place, picture in zip(places, shown, strict=True):
            axes = figure.add_subplot(place)
            axes.imshow(picture)
            axes.set_axis_off()


@contextmanager
def _page(path: Path, title: str, *, size: tuple[float, float], note: str, foot: Names) -> Iterator[Any]:
    """A figure with `size` inches for the drawing, title and note above, foot below; saved if all is well."""
    import matplotlib
    from matplotlib.figure import Figure

    notes = textwrap.wrap(note, int(size[0] * 12))
    feet = [line for text in foot for line in textwrap.wrap(text, int(size[0] * 15))]
    width, below = size[0], 0.25 + 0.165 * len(feet)  # inches, as all lengths here
    height = 0.45 + 0.2 * len(notes) + size[1] + below
    with matplotlib.rc_context(STYLE), warnings.catch_warnings(action="ignore", category=UserWarning):
        # a class name in a script that the font lacks is a warning for each letter
        figure: Any = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        gap = 0.08  # to the lines above and below
        rect = (0.01, (below + gap) / height, 0.98, (size[1] - 2 * gap) / height)
        figure.get_layout_engine().set(rect=rect)
        for lines, y, look in (
            ([title], height - 0.12, {"fontsize": 13, "weight": "bold"}),
            (notes, height - 0.42, {"color": ALARM, "weight": "bold"}),
            (feet, below - 0.1, {"color": MUTED, "fontsize": 8.5}),
        ):
            figure.text(0.15 / width, y / height, "\n".join(lines), va="top", **look)
        yield figure
        with replacing(path) as part:
            figure.savefig(part, format="png", metadata={"Software": None})


def _losses(
    path: Path, title: str, epochs: Epochs, held_out: str, bounds: dict[str, float], note: str, foot: Names
) -> None:
    """Training and held-out loss, with labelled dashed lines at `bounds`."""
    numbers = [row["epoch"] for row in epochs]
    marker = "o" if len(epochs) < 30 else ""  # one epoch makes no line
    with _page(path, title, size=(8.5, 4.8), note=note, foot=foot) as figure:
        axes = figure.subplots()
        for key, part, colour in (("loss", "training", COLOURS[0]), ("val_loss", held_out, COLOURS[1])):
            losses = np.array([row[key] for row in epochs], dtype=float)  # None becomes NaN
            if np.isfinite(losses).any():
                axes.plot(numbers, losses, color=colour, label=f"{part} frames", marker=marker, ms=3.5)
        for (label, bound), colour in zip(bounds.items(), (*COLOURS[:2], MUTED), strict=False):
            axes.axhline(bound, color=colour, linestyle="--", linewidth=1.2, label=label)
            axes.update_datalim([(numbers[0], bound)])
        if best := [row["epoch"] for row in epochs if row.get("best")]:
            axes.axvline(best[-1], color=COLOURS[2], linestyle=":", label=f"weights kept: epoch {best[-1]}")
        axes.autoscale_view()
        axes.set(ylabel="loss")
        _by_epoch(axes, numbers)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9)


def _sparse_curves(axes: Any, numbers: Sequence[int], curves: dict[str, list[float | None]]) -> None:
    """Lines through what was measured, at some epochs only; their names beside the title."""
    look: dict[str, Any] = {"ms": 3.5, "clip_on": False}  # marks on the frame are whole
    for (name, values), colour, marker in zip(curves.items(), cycle(COLOURS), cycle(MARKERS), strict=False):
        points = np.array([numbers, values], dtype=float)  # None becomes NaN
        points = points[:, np.isfinite(points[1])]
        every = 1 + points.shape[1] // 30
        if points.size:
            axes.plot(*points, color=colour, label=name, marker=marker, markevery=every, **look)
    _by_epoch(axes, numbers)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)  # an offset would be in the title's place
    if not axes.lines:
        axes.set(yticks=[])
        axes.grid(False)
        axes.text(0.5, 0.5, "not measured", color=MUTED, ha="center", transform=axes.transAxes)
    elif any(curves):
        look = {"fontsize": 9, "handlelength": 1.5, "columnspacing": 1, "borderaxespad": 0.2}
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(curves), **look)


def _by_epoch(axes: Any, numbers: Sequence[int]) -> None:
    """The axis of epochs, whole numbers even if there is but one."""
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="epoch", xlim=(numbers[0] - 0.5, numbers[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.grid(color="#E4E4E4", linewidth=0.7)


def _percent(value: float) -> str:
    """A whole per cent that hides nothing: 99.7 is not all, 0.3 is not none."""
    return "<1" if 0 < value < 0.5 else ">99" if 99.5 <= value < 100 else f"{value:.0f}"


def _explained(shorts: Names, names: Names) -> list[str]:
    """One line of what the short names stand for; lines may break between the entries only."""
    pairs = [f"{short} = {name}" for short, name in zip(shorts, names, strict=True) if short != name]
    return ["; ".join(pair.replace(" ", "\xa0") for pair in pairs)]


def _class_marks(
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
