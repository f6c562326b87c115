"""Pictures of how far the scores can be trusted: calibration, labels needed, baselines.

A figure that is None cannot be computed: it is left out, and where nothing else says so, the picture does.

Notation: B bins.
"""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.evaluation.target_details import EfficiencyPoint, Reliability
from simclr_rhd.report.charts.style import COLOURS, GRID, MARKERS, MUTED, PALE, PAPER, save_png

LINE_STYLES = ("-", "--", "-.", ":")
LineStyle = tuple[str, str, str]  # colour, marker and line
EfficiencyCurves = Mapping[str, Sequence[EfficiencyPoint]]  # by method
NOT_COMPUTABLE = "cannot be computed"


def plot_reliability(
    path: Path,
    task: str,
    before: Reliability,
    after: Reliability,
    *,
    temperatures: Sequence[float],
    note: str,
) -> None:
    """Draw how often a prediction is right, by its confidence, before and after the calibration.

    The B bins are of equal width on [0, 1]; `temperatures` are those of the folds.
    """
    footnotes = [
        "Confidence: the probability of the most probable class. On the dashed line 80 of 100 predictions of "
        "confidence 0.8 are right; below it the model is too sure, above it not sure enough. The larger a "
        "point, the more predictions it stands for; the bars count them.",
        "ECE, expected calibration error: the mean distance from the dashed line over all predictions; lower "
        "is better. The calibration divides the logits by a temperature T and adds a bias for each class: "
        "the most probable class may change, the predicted class is the balanced choice.",
    ]
    title = f"{task.capitalize()}: reliability of the probabilities"
    with save_png(path, title, size=(9.5, 5.6), note=note, footnotes=footnotes) as figure:
        figure.get_layout_engine().set(w_pad=0.12)
        above, below = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(4, 1))
        for axes, bars, bins, heading in (
            (above[0], below[0], before, "before"),
            (above[1], below[1], after, f"after (T = {format_range(temperatures)})"),
        ):
            error = NOT_COMPUTABLE if bins.ece is None else f"{bins.ece:.3f}"
            axes.set(title=f"{heading}: ECE {error}")
            axes.set_box_aspect(0.8)
            draw_reliability(axes, bars, bins)
        above[0].set(ylabel="share that is right")
        below[0].set(ylabel="predictions")


def format_range(values: Sequence[float]) -> str:
    """The least and the largest of some values, once where they look the same: '1.02 to 1.31'."""
    return " to ".join(dict.fromkeys(f"{value:.2f}" for value in (min(values), max(values))))


def draw_reliability(axes: Any, bars: Any, bins: Reliability) -> None:
    """The share that is right by confidence on `axes`, below it on `bars` how many predictions there are."""
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1.2)
    _calibration_marks(axes, bins)
    counts = np.asarray(bins.count)
    edges = np.linspace(0, 1, len(counts) + 1)
    bars.bar(edges[:-1], counts, np.diff(edges), align="edge", color=PALE, edgecolor=PAPER)
    bars.set(xlabel="confidence", xlim=(0, 1))


def plot_label_efficiency(path: Path, curves: dict[str, EfficiencyCurves], *, level: str, note: str) -> None:
    """Draw balanced accuracy by the number of labelled training groups, one panel a target.

    `curves` are {target: curves}; `level` is what is counted, 'video' or 'frame'.
    """
    footnotes = [
        "Each point is a head trained on some of the labelled training groups (patients, or videos where no "
        "patient is known) and tested on the same groups as all others. Bars: the range over three "
        "draws of these groups, the rarest classes' first, and of the untrained encoder over its draws; none "
        "where all come out alike. Marks of one "
        "number of groups stand side by side.",
    ]
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    styles = assign_line_styles(curves)
    names = list(styles)
    texts = [textwrap.fill(name.lstrip("_ "), 24) for name in names]  # "_" would hide it
    height = max(3.6 * rows, 1 + sum(0.12 + 0.16 * (1 + text.count("\n")) for text in texts))  # inches
    title = f"Label efficiency: balanced accuracy per {level} by number of labelled groups"
    with save_png(path, title, size=(3.3 * columns + 2.9, height), note=note, footnotes=footnotes) as figure:
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (task, of_task) in zip(panels, curves.items(), strict=False):
            axes.set(title=textwrap.fill(task.capitalize(), 28))
            draw_efficiency(axes, of_task, styles)
        for axes in panels[len(curves) :]:
            axes.set_axis_off()
        handles = [_legend_handle(panels[0], style) for style in styles.values()]
        panels[columns - 1].legend(
            handles, texts, loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=9, handlelength=3
        )


def assign_line_styles(curves: Mapping[str, EfficiencyCurves]) -> dict[str, LineStyle]:
    """{method: its line style} of all methods in {target: curves}."""
    names = dict.fromkeys(name for of_task in curves.values() for name in of_task)
    return dict(
        zip(names, zip(cycle(COLOURS), cycle(MARKERS), cycle(LINE_STYLES), strict=False), strict=False)
    )


def draw_efficiency(axes: Any, curves: EfficiencyCurves, line_styles: Mapping[str, LineStyle]) -> None:
    """Draw the curves of one target of `plot_label_efficiency`, without a legend."""
    axes.set(xlabel="training groups", ylabel="balanced accuracy", ylim=(0, 1))
    for number, (name, points) in enumerate(curves.items()):
        shift = (number - (len(curves) - 1) / 2) * min(3.5, 14 / len(curves))
        _plot_with_range(axes, name, points, line_styles[name], shift=shift)
    _set_group_axis(axes, [point.groups for points in curves.values() for point in points])


def plot_forest(
    path: Path,
    title: str,
    rows: Sequence[tuple[str, Score]],
    *,
    ours: Collection[int] = (0,),
    chance: float,
    note: str,
) -> None:
    """Draw the balanced accuracy of the model and of what it is compared with.

    `rows` are names and scores; `ours` are those of the model; `chance` is the score of a model that guesses.
    """
    footnotes = [
        "Higher is better. Bars: 95 % interval. Dashed: chance, what guessing or one class for all gives."
    ]
    names = [textwrap.fill(name, 32) for name, _ in rows]
    lines = sum(max(2, 1 + name.count("\n")) for name in names)
    places = range(len(rows))
    with save_png(path, title, size=(8.5, 0.19 * lines + 0.9), note=note, footnotes=footnotes) as figure:
        axes = figure.subplots()
        axes.axvline(chance, color=MUTED, linestyle="--", linewidth=1.2)
        for place, (_, score) in zip(places, rows, strict=True):
            colour, marker = (COLOURS[0], "D") if place in ours else (MUTED, "o")
            if score.value is not None:
                axes.plot(score.value, place, marker, color=colour, clip_on=False)
            if score.value is not None and score.interval:
                axes.hlines(place, *score.interval, color=colour, linewidth=2)
        axes.set(xlabel="balanced accuracy", xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
        axes.grid(axis="x", color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_yticks(places, names)
        above = axes.get_xaxis_transform()
        axes.text(chance, 1.02, f"chance {chance:.2f}", color=MUTED, ha="center", transform=above)
        figures = axes.secondary_yaxis("right")
        figures.set_yticks(places, [_format_interval(score) for _, score in rows])
        figures.tick_params(length=0, pad=12)
        for line in (axes.spines["left"], figures.spines["right"]):
            line.set_visible(False)


def _calibration_marks(axes: Any, bins: Reliability) -> None:
    """A point for each bin that is not empty, and its distance from the diagonal."""
    points = np.array([bins.confidence, bins.accuracy, bins.count], dtype=float)  # None becomes NaN
    confidence, accuracy, count = points[:, np.isfinite(points).all(axis=0)]
    if not count.size:
        axes.text(0.5, 0.25, "no predictions", color=MUTED, ha="center")
        return
    axes.vlines(confidence, confidence, accuracy, color=COLOURS[0], linewidth=1)
    sizes = 15 + 150 * count / count.max()  # square points
    axes.scatter(confidence, accuracy, s=sizes, color=COLOURS[0], edgecolors=PAPER, clip_on=False, zorder=3)


def _plot_with_range(
    axes: Any, name: str, points: Sequence[EfficiencyPoint], line_style: LineStyle, *, shift: float
) -> None:
    """A line through the known points, with bars, all `shift` points (1/72 inch) to the right."""
    from matplotlib.transforms import ScaledTranslation

    known = [
        (point.groups, point.balanced_accuracy, point.low, point.high)
        for point in points
        if point.balanced_accuracy is not None
    ]
    if not known:
        return
    groups, value, low, high = np.array(known, dtype=float).T  # None becomes NaN
    place = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    colour, marker, line = line_style
    shared = {"color": colour, "transform": place}
    axes.plot(groups, value, label=name, marker=marker, linestyle=line, ms=4.5, clip_on=False, **shared)
    ranged = np.isfinite(low) & np.isfinite(high)
    axes.vlines(groups[ranged], low[ranged], high[ranged], linewidth=1, alpha=0.6, **shared)


def _legend_handle(axes: Any, line_style: LineStyle) -> Any:
    """Handle of a line in the legend."""
    colour, marker, line = line_style
    return axes.plot([], [], color=colour, marker=marker, linestyle=line, ms=4.5)[0]


def _set_group_axis(axes: Any, groups: Sequence[float]) -> None:
    """The axis of group numbers, logarithmic where they span a factor of ten."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axes.grid(color=GRID, linewidth=0.7)
    if not axes.lines:
        axes.text(0.5, 0.5, NOT_COMPUTABLE, color=MUTED, ha="center", transform=axes.transAxes)
        axes.set(xticks=[])
    elif max(groups) >= 10 * min(groups) > 0:
        axes.set(xscale="log", xlim=(min(groups) / 1.3, max(groups) * 1.3))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:.0f}")
    else:
        room = 0.08 * (max(groups) - min(groups)) or 0.5
        axes.set(xlim=(min(groups) - room, max(groups) + room))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def _format_interval(score: Score) -> str:
    if score.value is None:
        return NOT_COMPUTABLE
    return f"{score.value:.2f}" + (" ({:.2f} to {:.2f})".format(*score.interval) if score.interval else "")
