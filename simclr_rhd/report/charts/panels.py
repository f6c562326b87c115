"""Charts of the report, each with a title, an explanation, and a description in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simclr_rhd.report.charts.evaluation import EfficiencyCurves, assign_line_styles, draw_efficiency
from simclr_rhd.report.charts.pretraining import DIAGNOSTICS, diagnostic_curves, draw_diagnostic, loss_bounds
from simclr_rhd.report.charts.style import PANEL_INCHES, Epochs, LossCurves, draw_losses, to_svg
from simclr_rhd.report.page.webpage import svg_uri
from simclr_rhd.report.wording import format_score

TALL_PANEL_INCHES = (PANEL_INCHES[0], 3.4)  # inches, with a legend below
LEGEND_LINE_INCHES = 0.17  # inches of a line of a legend


@dataclass(frozen=True)
class Panel:
    """A chart on the page.

    Attributes:
        title: its heading.
        caption: how to read it.
        alt_text: what it shows, in words.
        image: its address.
    """

    title: str
    caption: str
    alt_text: str
    image: str


def draw_panel(
    title: str, caption: str, alt_text: str, draw: Callable[[Any], object], size: tuple[float, float]
) -> Panel:
    """A panel of `size` inches with what `draw` puts on a figure."""
    return Panel(title, caption, alt_text, svg_uri(to_svg(draw, size=size)))


def with_legend(lines: int) -> tuple[float, float]:
    """The size in inches of a panel with a legend of some lines below."""
    return PANEL_INCHES[0], PANEL_INCHES[1] + LEGEND_LINE_INCHES * lines


def pretraining_panels(epochs: Epochs) -> list[Panel]:
    """The contrastive loss, and what it stands for; `epochs` as of `charts.pretraining`."""
    bounds, notes = loss_bounds(epochs)
    curves = LossCurves(epochs, "held-out", bounds)
    title, alt_text = "Contrastive loss (NT-Xent)", f"{_describe_losses(curves)}. {'; '.join(bounds)}"
    size = with_legend(3 + len(bounds))
    panels = [draw_panel(title, " ".join(notes), alt_text, on_axes(draw_losses, curves), size)]
    return panels + [_diagnostic_panel(epochs, name) for name in DIAGNOSTICS]


def _diagnostic_panel(epochs: Epochs, name: str) -> Panel:
    title, meaning = DIAGNOSTICS[name]
    curves, numbers = diagnostic_curves(epochs, name), [row["epoch"] for row in epochs]
    alt_text = ". ".join(
        describe_curve(list(zip(numbers, values, strict=True)), curve or title.lower())
        for curve, values in curves.items()
    )
    return draw_panel(
        title,
        meaning[0].upper() + meaning[1:],
        alt_text or "not measured",
        on_axes(draw_diagnostic, numbers, curves),
        with_legend(2 if len(curves) > 1 else 0),
    )


def head_panel(epochs: Epochs) -> Panel:
    """The loss of a task's head."""
    curves = LossCurves(epochs, "validation")
    caption = "Lower is better. Cross-entropy; the weights of the last epoch are kept."
    title, draw = "Loss of the linear head", on_axes(draw_losses, curves)
    return draw_panel(title, caption, _describe_losses(curves), draw, TALL_PANEL_INCHES)


def label_efficiency_panels(targets: Mapping[str, EfficiencyCurves]) -> list[Panel]:
    """Draw the label efficiency: one chart a target, {target: curves}."""
    styles = assign_line_styles(targets)
    caption = (
        "Balanced accuracy per video by labelled groups to learn from; bars: the range over three draws of "
        "them and, of the untrained encoder, over its draws."
    )
    return [
        draw_panel(
            f"Label efficiency: {name}",
            caption,
            _describe_efficiency(curves),
            on_axes(draw_efficiency, curves, styles),
            with_legend(1 + len(curves)),
        )
        for name, curves in targets.items()
    ]


def _describe_efficiency(curves: EfficiencyCurves) -> str:
    texts = {
        method: ", ".join(
            f"{format_score(point.balanced_accuracy)} with {point.groups:.0f} groups" for point in points
        )
        for method, points in curves.items()
    }
    return "; ".join(f"{method}: {text}" for method, text in texts.items())


def on_axes(draw: Callable[..., None], *arguments: Any) -> Callable[[Any], None]:
    """For `style.to_svg`: what is drawn on axes, on the only axes of a figure."""
    return lambda figure: draw(figure.subplots(), *arguments)


def _describe_losses(curves: LossCurves) -> str:
    parts = {"training": "loss", curves.val_name: "val_loss"}
    points = {part: [(row["epoch"], row[key]) for row in curves.epochs] for part, key in parts.items()}
    return ". ".join(describe_curve(of_part, f"{part} loss") for part, of_part in points.items())


def describe_curve(points: Sequence[tuple[float, float | None]], name: str) -> str:
    """A curve of (epoch, value) in words: its first, last, lowest and highest value."""
    known = [(epoch, value) for epoch, value in points if value is not None]
    if not known:
        return f"{name} not measured"
    lowest, highest = (end(known, key=lambda point: point[1]) for end in (min, max))
    return (
        f"{name} {known[0][1]:.3f} at epoch {known[0][0]}, {known[-1][1]:.3f} at epoch {known[-1][0]}, "
        f"lowest {lowest[1]:.3f} at epoch {lowest[0]}, highest {highest[1]:.3f} at epoch {highest[0]}"
    )
