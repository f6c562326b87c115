"""Charts of a target on the page: ROC, precision and recall, reliability, and abstention."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from simclr_rhd.evaluation.curves import Curve
from simclr_rhd.evaluation.results import TargetResult
from simclr_rhd.evaluation.selective import GUARANTEE
from simclr_rhd.evaluation.target_details import Calibration, CalibrationResult, SelectiveResult
from simclr_rhd.report.charts.evaluation import LINE_STYLES, draw_reliability, format_range
from simclr_rhd.report.charts.panels import TALL_PANEL_INCHES, Panel, draw_panel, with_legend
from simclr_rhd.report.charts.style import COLOURS, GRID, MAX_LABEL_CHARS, MUTED, short_names
from simclr_rhd.report.wording import format_score

MIN_CLASS_SAMPLES = 5  # samples of a class whose curve is drawn: of one or two it is a step without meaning


@dataclass(frozen=True)
class CurveKind:
    """A kind of curve over all thresholds.

    Attributes:
        title: its heading.
        caption: how to read it.
        metric: the area under it, as of the scores of a class.
        score_name: the same in words.
        axes: names of the x and the y axis.
        drawstyle: how points are joined.
        diagonal: whether guessing is a diagonal.
    """

    title: str
    caption: str
    metric: str
    score_name: str
    axes: tuple[str, str]
    drawstyle: str
    diagonal: bool = False


CURVE_KINDS = {
    "roc": CurveKind(
        "ROC",
        "Each class against the rest at every threshold; the further up and left, the better. On the dashed "
        "line lies guessing.",
        *("auroc", "AUROC", ("1 - specificity", "sensitivity"), "default"),
        diagonal=True,
    ),
    "precision-recall": CurveKind(
        "Precision and recall",
        "Of the samples predicted to be of a class, the share that is; by the share of the class that is "
        "found. The further up and right, the better.",
        *("average_precision", "average precision", ("recall", "precision"), "steps-pre"),
    ),
}


def target_panels(
    result: TargetResult, curves: Mapping[str, Mapping[str, Curve]], *, level: str
) -> list[Panel]:
    """ROC, precision-recall, reliability and abstention of a target.

    Args:
        result: of the target.
        curves: of `curves.roc_and_pr_curves`, at `level`.
        level: 'video' or 'frame'.
    """
    panels = [_curves_panel(kind, result, curves[name], level=level) for name, kind in CURVE_KINDS.items()]
    if calibration := result.calibration:
        temperatures = result.head.temperature if result.head else []
        panels += _reliability_panels(calibration, temperatures)
    if result.selective:
        panels.append(_risk_panel(result.selective, level))
    return panels


def _curves_panel(kind: CurveKind, result: TargetResult, curves: Mapping[str, Curve], *, level: str) -> Panel:
    rows = result.test[level].per_class
    shown = {name: curve for name, curve in curves.items() if rows[name].support >= MIN_CLASS_SAMPLES}
    few = f" Classes of fewer than {MIN_CLASS_SAMPLES} {level}s are left out." * (len(shown) < len(curves))
    areas = {name: format_score(rows[name][kind.metric].value) for name in shown}
    labels = [f"{short} {area}" for short, area in zip(short_names(list(shown)), areas.values(), strict=True)]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        if kind.diagonal:
            axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1)
        styles = zip(cycle(COLOURS), _line_styles(), strict=False)
        for (x, y), label, (colour, line) in zip(shown.values(), labels, styles, strict=False):
            axes.plot(
                x, y, color=colour, linestyle=line, label=label, linewidth=1.8, drawstyle=kind.drawstyle
            )
        axes.set(xlabel=kind.axes[0], ylabel=kind.axes[1])
        _set_unit_square(axes)
        if not shown:
            axes.text(0.5, 0.5, "too few samples", color=MUTED, ha="center")

    columns = 2 if max(map(len, labels), default=0) <= MAX_LABEL_CHARS else 1
    described = ", ".join(f"{name} {area}" for name, area in areas.items()) or "cannot be computed"
    return draw_panel(
        f"{kind.title} per {level} ({kind.score_name} in the legend)",
        kind.caption + few,
        f"{kind.score_name}: {described}",
        draw,
        with_legend(-(-len(labels) // columns) + 1),
    )


def _risk_panel(selective: SelectiveResult, level: str) -> Panel:
    """The risk-coverage curve (Geifman and El-Yaniv 2017, figure 1), and the thresholds' place on it."""
    of_level, aim = selective.level(level), selective.most_wrong
    coverage, risk = of_level.coverage, of_level.risk

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.axhline(aim, color=MUTED, linestyle="--", linewidth=1, label=f"{aim:.0%}, aimed at")
        curve = of_level.curve["coverage"], of_level.curve["risk"]
        axes.plot(*curve, color=COLOURS[0], linewidth=1.8, label="the most confident predictions")
        if coverage and risk is not None:
            axes.plot(coverage, risk, "D", color=COLOURS[4], markersize=7, label="the chosen threshold")
        axes.set(xlabel="share accepted", ylabel="share of these that is wrong")
        _set_unit_square(axes)

    described = (
        f"{coverage:.0%} of the tested {level}s are accepted, {risk:.0%} of these are wrong"
        if coverage and risk is not None
        else f"no tested {level} is accepted"
    )
    caption = (
        "A prediction is accepted from a confidence on of which it is proved on validation groups that "
        f"{GUARANTEE}. With it {described}."
    )
    if reasons := list(dict.fromkeys(filter(None, of_level.reasons))):
        caption += f" Nothing is proved where {'; '.join(reasons)}."
    return draw_panel(f"Abstention, per {level}", caption, described, draw, with_legend(4))


def _set_unit_square(axes: Any) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(color=GRID, linewidth=0.7)


def _line_styles() -> Iterator[str]:
    """Line styles; they change when the colours begin anew."""
    return (line for line in cycle(LINE_STYLES) for _ in COLOURS)


def _reliability_panels(calibration: CalibrationResult, temperatures: list[float]) -> Iterator[Panel]:
    before, after = calibration.before, calibration.after
    yield reliability_panel("uncalibrated", before)
    note = " Calibration has not helped on these frames." * (after.classwise_ece >= before.classwise_ece)
    yield reliability_panel(f"calibrated, T = {format_range(temperatures)} and a bias a class", after, note)


def reliability_panel(state: str, bins: Calibration, note: str = "") -> Panel:
    """Share of predictions that are right, by their confidence; `state` names the probabilities."""

    def draw(figure: Any) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        draw_reliability(above, below, bins)
        above.set(ylabel="share that is right")
        below.set(ylabel="n")

    described = "; ".join(
        f"of {count} predictions with confidence {confidence:.2f} {accuracy:.0%} are right"
        for confidence, accuracy, count in zip(bins.confidence, bins.accuracy, bins.count, strict=True)
        if count
    )
    caption = (
        "Per frame. On the dashed line, 80 of 100 predictions of confidence 0.8 are right; below it the "
        f"model is too sure. Expected calibration error {format_score(bins.ece, 3)} of the most probable "
        f"class, {format_score(bins.classwise_ece, 3)} over all classes; lower is better.{note}"
    )
    return draw_panel(f"Reliability, {state}", caption, described, draw, TALL_PANEL_INCHES)
