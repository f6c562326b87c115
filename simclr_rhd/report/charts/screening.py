"""Charts of the screening panel: ROC curve, decision curve, probabilities by outcome.

A band is of 95 % intervals over groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.evaluation.screening.decision_curve import DecisionPoint
from simclr_rhd.evaluation.screening.discrimination import RocCurve
from simclr_rhd.evaluation.screening.records import OperatingPoint, ScoreHistogram, ScreeningResult
from simclr_rhd.report.charts.panels import Panel, draw_panel, on_axes, with_legend
from simclr_rhd.report.charts.style import COLOURS, GRID, MUTED, PAPER, save_png
from simclr_rhd.report.wording import format_interval, join_names

NEGATIVE_COLOUR, POSITIVE_COLOUR = COLOURS[0], COLOURS[4]
POINT_MARKERS = "os^Dv"
BAND = {"color": COLOURS[0], "alpha": 0.2, "linewidth": 0}


@dataclass(frozen=True)
class _Chart:
    """A chart of a screening question.

    Attributes:
        title: its heading.
        caption: how to read it.
        alt_text: what it shows, in words.
        draw: draws it on axes.
        legend_lines: lines of its legend.
    """

    title: str
    caption: str
    alt_text: str
    draw: Callable[[Any], None]
    legend_lines: int


def screening_panels(result: ScreeningResult) -> list[Panel]:
    """The charts of a question for the page; none where there are no figures."""
    return [
        draw_panel(of.title, of.caption, of.alt_text, on_axes(of.draw), with_legend(of.legend_lines))
        for of in _charts(result)
    ]


def plot_screening(path: Path, result: ScreeningResult, *, note: str) -> None:
    """Draw the charts of a question side by side, as a picture; the result must have figures."""
    charts = _charts(result)
    footnotes = [f"{of.title}: {of.caption}" for of in charts]
    title = f"Screening by {result.task}, per {result.unit}; positive: {join_names(result.positive, 'or')}"
    with save_png(path, title, size=(4.6 * len(charts), 4.8), note=note, footnotes=footnotes) as figure:
        for axes, of in zip(figure.subplots(1, len(charts)), charts, strict=True):
            of.draw(axes)
            axes.set_title(of.title)
            axes.set_box_aspect(0.8)
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.15), fontsize=8.5)


def _charts(result: ScreeningResult) -> list[_Chart]:
    if result.roc is None or result.histogram is None:
        return []
    histogram, points = result.histogram, result.decision_curve
    return [
        _Chart(
            "ROC",
            "Sensitivity by the share of the negative that are sent on, at every threshold. Marks: the "
            "thresholds that were chosen on validation groups, on the tested ones. On the dashed line lies "
            "guessing.",
            f"AUROC {format_interval(result.auroc)}",
            partial(_draw_roc, roc=result.roc, points=result.operating_points),
            1 + len(result.operating_points),
        ),
        _Chart(
            "Decision curve",
            "Net benefit (Vickers & Elkin 2006) of sending on whoever has at least a threshold probability: "
            "true positives less false ones, weighed by what one accepts for a true one. It holds for the "
            f"share of positive {result.unit}s among the tested, "
            f"{result.n_positive / (result.n_positive + result.n_negative):.0%}.",
            _describe_decision_curve(points),
            partial(_draw_decision_curve, points=points),
            3,
        ),
        _Chart(
            "Probabilities by outcome",
            f"Tested {result.unit}s; the less the two kinds overlap, the better.",
            "; ".join(
                f"half of the {name} ones below about {_median(counts):.2f}"
                for name, counts in vars(histogram).items()
            ),
            partial(_draw_histogram, histogram=histogram, unit=result.unit),
            1,
        ),
    ]


def _draw_roc(axes: Any, *, roc: RocCurve, points: Sequence[OperatingPoint]) -> None:
    rate = roc.false_positive_rate
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1)
    axes.fill_between(rate, roc.low, roc.high, **BAND)
    axes.plot(rate, roc.sensitivity, color=COLOURS[0], linewidth=1.8, label="the model")
    for point, marker in zip(points, POINT_MARKERS, strict=False):
        sensitivity, specificity = point.rates.sensitivity.value, point.rates.specificity.value
        if sensitivity is not None and specificity is not None:
            label = f"threshold for {point.goal}"
            axes.plot(1 - specificity, sensitivity, marker, color=POSITIVE_COLOUR, ms=6, label=label)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="1 - specificity", ylabel="sensitivity")
    axes.grid(color=GRID, linewidth=0.7)


def _draw_decision_curve(axes: Any, *, points: Sequence[DecisionPoint]) -> None:
    threshold = [point.threshold for point in points]
    # None becomes NaN
    columns = [(of.model.value, of.model.low, of.model.high, of.everyone) for of in points]
    model, low, high, everyone = np.array(columns, dtype=float).T
    axes.fill_between(threshold, low, high, **BAND)
    axes.plot(threshold, model, color=COLOURS[0], linewidth=1.8, label="sent on by the model")
    axes.plot(threshold, everyone, color=COLOURS[1], linestyle="--", label="everyone sent on")
    axes.axhline(0, color=MUTED, linestyle=":", label="no one sent on")
    axes.set(xlabel="threshold probability", ylabel="net benefit")
    axes.set(xticks=[0.01, 0.05, 0.10, 0.15, 0.20])
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(color=GRID, linewidth=0.7)


def _describe_decision_curve(points: Sequence[DecisionPoint]) -> str:
    better = [point.threshold for point in points if (point.advantage.low or 0) > 0]
    between = f", from {better[0]:.0%} to {better[-1]:.0%}" if better else ""
    return f"more than both others by more than chance at {len(better)} of {len(points)} thresholds{between}"


def _draw_histogram(axes: Any, *, histogram: ScoreHistogram, unit: str) -> None:
    edges = np.linspace(0, 1, len(histogram.positive) + 1)
    bottom = np.zeros(len(histogram.positive))
    for name, colour, hatch in (("negative", NEGATIVE_COLOUR, ""), ("positive", POSITIVE_COLOUR, "///")):
        counts = getattr(histogram, name)
        style = {"color": colour, "hatch": hatch, "edgecolor": PAPER, "linewidth": 0.4}
        label = f"{name} ({sum(counts)})"
        axes.bar(edges[:-1], counts, np.diff(edges), bottom=bottom, align="edge", label=label, **style)
        bottom += counts
    axes.set(xlim=(0, 1), xlabel="probability of being positive", ylabel=f"{unit}s")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.grid(color=GRID, linewidth=0.7, axis="y")
    axes.set_axisbelow(True)


def _median(counts: Sequence[int]) -> float:
    """The upper edge of the bin, of equal ones from 0 to 1, in which half of the counts are reached."""
    place = int(np.searchsorted(np.cumsum(counts), sum(counts) / 2))
    return (1 + place) / len(counts)
