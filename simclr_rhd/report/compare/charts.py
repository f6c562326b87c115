"""The curves of several runs over each other, as charts for a page."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from simclr_rhd.config import Config
from simclr_rhd.core.config import CONTRASTIVE_LOSS, HEAD_LOSS, TESTED_FRAMES, VIEWS, flags_that_change
from simclr_rhd.report.charts.panels import Panel, draw_panel, on_axes
from simclr_rhd.report.charts.pretraining import DIAGNOSTICS
from simclr_rhd.report.charts.style import COLOURS, MARKERS, PANEL_INCHES, set_epoch_axis
from simclr_rhd.report.compare.load_run import CurveKey, EpochCurve
from simclr_rhd.report.compare.settings import AS_USED
from simclr_rhd.report.wording import join_names

# 5 styles, 8 colours: 40 that differ
LINE_STYLES: Sequence[Any] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
LEGEND_ROW_INCHES = 0.16  # inches
DATA_SETTING = "the data"


@dataclass(frozen=True)
class Chart:
    """A figure by epoch.

    Attributes:
        title: of the chart.
        meaning: what the figure is, and whether lower or higher is better.
        scale: what changes the meaning of a value, wherever it is measured, as of `core.config.flag`.
        lower_is_better: whether lower is better.
    """

    title: str
    meaning: str
    scale: tuple[str, ...] = ()
    lower_is_better: bool = True


CHARTS = {
    "loss": Chart(
        "Pretraining: training loss",
        "contrastive loss (NT-Xent); lower is better.",
        (CONTRASTIVE_LOSS, VIEWS),
    ),
    "val_loss": Chart(
        "Pretraining: held-out loss",
        "contrastive loss on frames kept out of pretraining; lower is better.",
        (CONTRASTIVE_LOSS, VIEWS),
    ),
    "alignment": Chart(*DIAGNOSTICS["alignment"], (VIEWS,)),
    "uniformity": Chart(*DIAGNOSTICS["uniformity"], (VIEWS,)),
    "rank": Chart(*DIAGNOSTICS["rank"], lower_is_better=False),
    "knn": Chart(*DIAGNOSTICS["knn"], lower_is_better=False),
    "head": Chart(
        "validation loss of the head",
        "cross-entropy on the validation part; lower is better.",
        (HEAD_LOSS,),
    ),
}


def charts(runs: Mapping[str, Mapping[CurveKey, EpochCurve]], *, differing: Collection[str]) -> list[Panel]:
    """Panels of every figure that some run measured.

    Args:
        runs: {name of a run: {(figure, task or ''): curve}}.
        differing: settings that the runs do not share, as of `differing_settings`, and `DATA_SETTING`.
    """
    keys = list(dict.fromkeys(key for curves in runs.values() for key, curve in curves.items() if curve))
    return [
        _panel(
            CHARTS[figure], task, {name: of.get((figure, task), {}) for name, of in runs.items()}, differing
        )
        for figure in CHARTS
        for task in (task for of, task in keys if of == figure)
    ]


def _panel(chart: Chart, task: str, runs: Mapping[str, EpochCurve], differing: Collection[str]) -> Panel:
    caption = chart.meaning[0].upper() + chart.meaning[1:]
    for difference, settings in (
        ("not on one scale", flags_that_change(*chart.scale, of=Config)),
        ("measured on other frames", flags_that_change(TESTED_FRAMES, of=Config) | {DATA_SETTING}),
    ):
        if unlike := [name for name in differing if name.removesuffix(AS_USED) in settings]:
            verb = "differ" if len(unlike) > 1 else "differs"
            caption += f" Runs {difference}: {join_names(unlike)} {verb}."
    rows = -(-len(runs) // 2)
    alt_text = " ".join(
        _describe_curve(name, curve, lower_is_better=chart.lower_is_better) for name, curve in runs.items()
    )
    size = PANEL_INCHES[0], PANEL_INCHES[1] + LEGEND_ROW_INCHES * max(0, rows - 2)
    title = f"{task}: {chart.title}" if task else chart.title
    return draw_panel(title, caption, alt_text, on_axes(_draw, runs), size)


def _describe_curve(name: str, curve: EpochCurve, *, lower_is_better: bool) -> str:
    if not curve:
        return f"{name}: not measured."
    best = (min if lower_is_better else max)(curve, key=curve.__getitem__)
    first, last = min(curve), max(curve)
    points = [
        f"{point} {curve[at]:.3g} (epoch {at})"
        for point, at in (("first", first), ("last", last), ("best", best))
    ]
    return f"{name}: {', '.join(points)}."


def _draw(axes: Any, runs: Mapping[str, EpochCurve]) -> None:
    """A line for each run that has any value; of few runs and of many, no two look alike."""
    styles = zip(cycle(COLOURS), cycle(LINE_STYLES), cycle(MARKERS), strict=False)
    for place, ((name, curve), (colour, line, marker)) in enumerate(zip(runs.items(), styles, strict=False)):
        numbers = sorted(curve)
        every = 1 + len(numbers) // 10
        if numbers:
            axes.plot(
                numbers,
                [curve[number] for number in numbers],
                color=colour,
                linestyle=line,
                marker=marker,
                markevery=(place % every, every),  # so that marks of equal curves are not all in one place
                ms=3.5,
                label=name.lstrip("_") or "-",  # matplotlib leaves out names that begin with "_"
            )
    epochs = [number for curve in runs.values() for number in curve]
    set_epoch_axis(axes, [min(epochs), max(epochs)])
