"""The charts of the report, each with a title, an explanation, and what it shows in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from simclr_rhd.evaluation.curves import Curve
from simclr_rhd.evaluation.selective import GUARANTEE
from simclr_rhd.report.charts.evaluation import (
    LINE_STYLES,
    assign_line_styles,
    draw_efficiency,
    draw_reliability,
)
from simclr_rhd.report.charts.pretraining import DIAGNOSTICS, diagnostic_curves, draw_diagnostic, loss_bounds
from simclr_rhd.report.charts.style import (
    COLOURS,
    GRID,
    MAX_LABEL_CHARS,
    MUTED,
    PANEL_INCHES,
    Epochs,
    draw_losses,
    short_names,
    to_svg,
)
from simclr_rhd.report.page.webpage import svg_uri
from simclr_rhd.report.summary import format_score

TALL_PANEL_INCHES = (PANEL_INCHES[0], 3.4)  # inches, with a legend below
MIN_CLASS_SAMPLES = 5  # samples of a class whose curve is drawn: of one or two it is a step that says nothing
LEGEND_LINE_INCHES = 0.17  # inches of a line of a legend


@dataclass(frozen=True)
class Panel:
    """A chart on the page.

    Attributes:
        title: its heading.
        caption: how to read it.
        words: what it shows, for who cannot see it.
        image: its address.
    """

    title: str
    caption: str
    alt_text: str
    image: str


def pretraining_panels(epochs: Epochs) -> list[Panel]:
    """The contrastive loss, and what it stands for; `epochs` as of `plots_pretraining`."""
    bounds, explained = loss_bounds(epochs)
    loss = to_svg(
        on_axes(draw_losses, epochs, held_out="held-out", bounds=bounds),
        size=(PANEL_INCHES[0], PANEL_INCHES[1] + LEGEND_LINE_INCHES * (3 + len(bounds))),
    )
    said = f"{_describe_losses(epochs, 'held-out')}. {'; '.join(bounds)}"
    found = [Panel("Contrastive loss (NT-Xent)", " ".join(explained), said, svg_uri(loss))]
    for name, (title, means) in DIAGNOSTICS.items():
        curves, numbers = diagnostic_curves(epochs, name), [row["epoch"] for row in epochs]
        drawn = to_svg(
            on_axes(draw_diagnostic, numbers, curves),
            size=(PANEL_INCHES[0], PANEL_INCHES[1] + LEGEND_LINE_INCHES * bool(len(curves) > 1) * 2),
        )
        said = ". ".join(
            describe_curve(list(zip(numbers, values, strict=True)), curve or title.lower())
            for curve, values in curves.items()
        )
        found.append(Panel(title, means[0].upper() + means[1:], said or "not measured", svg_uri(drawn)))
    return found


def head_panel(epochs: Epochs) -> Panel:
    """The loss of a task's head."""
    drawn = to_svg(on_axes(draw_losses, epochs, held_out="validation", bounds={}), size=TALL_PANEL_INCHES)
    said = _describe_losses(epochs, "validation")
    caption = "Lower is better. Cross-entropy; the weights of the epoch of lowest validation loss are kept."
    return Panel("Loss of the linear head", caption, said, svg_uri(drawn))


def target_panels(
    result: Mapping[str, Any], curves: Mapping[str, Mapping[str, Curve]], *, level: str
) -> list[Panel]:
    """ROC, precision-recall and reliability of a question's answers.

    Args:
        result: of the question, as in `metrics.json`.
        curves: of `curves.roc_and_pr_curves`, at `level`.
        level: 'video' or 'frame'.
    """
    scores = result["test"][level]["per_class"]
    roc, pr = (
        {name: curve for name, curve in of_kind.items() if scores[name]["support"] >= MIN_CLASS_SAMPLES}
        for of_kind in (curves["roc"], curves["precision-recall"])
    )
    few = f" Classes of fewer than {MIN_CLASS_SAMPLES} {level}s are left out." * (
        len(roc) < len(curves["roc"])
    )
    found = [
        _curves_panel(
            f"ROC per {level}",
            "Each class against the rest at every threshold; the further up and left, the better. On the "
            f"dashed line lies guessing.{few}",
            roc,
            {name: scores[name]["auroc"] for name in roc},
            axes=("1 - specificity", "sensitivity"),
            score="AUROC",
            style="default",
            diagonal=True,
        ),
        _curves_panel(
            f"Precision and recall per {level}",
            "Of the samples said to be of a class, the share that is; by the share of the class that is "
            f"found. The further up and right, the better.{few}",
            pr,
            {name: scores[name]["average_precision"] for name in pr},
            axes=("recall", "precision"),
            score="average precision",
            style="steps-pre",
        ),
    ]
    if "calibration" in result:
        found += [_reliability_panel(result, when) for when in ("before", "after")]
    if "selective" in result:
        found.append(_risk_panel(result["selective"], level))
    return found


def label_efficiency_panels(curves: Mapping[str, dict[str, list[dict[str, Any]]]]) -> list[Panel]:
    """What labels are worth: one chart a question, {question: {who: points}}."""
    looks = assign_line_styles(dict(curves))
    found = []
    for name, of_it in curves.items():
        drawn = to_svg(
            on_axes(draw_efficiency, of_it, looks),
            size=(PANEL_INCHES[0], PANEL_INCHES[1] + LEGEND_LINE_INCHES * (1 + len(of_it))),
        )
        said = "; ".join(
            f"{who}: "
            + ", ".join(
                f"{format_score(p['balanced_accuracy'])} with {p['groups']:.0f} groups" for p in points
            )
            for who, points in of_it.items()
        )
        caption = (
            "Balanced accuracy per video by labelled groups to learn from; bars: the range over three draws."
        )
        found.append(Panel(f"What labels are worth: {name}", caption, said, svg_uri(drawn)))
    return found


def on_axes(draw: Callable[..., None], *what: Any, **how: Any) -> Callable[[Any], None]:
    """For `style.to_svg`: what is drawn on axes, on the only axes of a figure."""
    return lambda page: draw(page.subplots(), *what, **how)


def _describe_losses(epochs: Epochs, held_out: str) -> str:
    curves = {"training": "loss", held_out: "val_loss"}
    points = {part: [(row["epoch"], row[key]) for row in epochs] for part, key in curves.items()}
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


def _curves_panel(
    title: str,
    caption: str,
    curves: Mapping[str, Curve],
    scores: Mapping[str, float | None],
    *,
    axes: tuple[str, str],
    score: str,
    style: str,
    diagonal: bool = False,
) -> Panel:
    names = list(curves)
    labels = [
        f"{short} {format_score(scores[name])}" for short, name in zip(short_names(names), names, strict=True)
    ]

    def draw(page: Any) -> None:
        on = page.subplots()
        if diagonal:
            on.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1)
        looks = zip(cycle(COLOURS), _line_styles(), strict=False)
        for (x, y), label, (colour, line) in zip(curves.values(), labels, looks, strict=False):
            on.plot(x, y, color=colour, linestyle=line, label=label, linewidth=1.8, drawstyle=style)
        on.set(xlabel=axes[0], ylabel=axes[1], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        on.grid(color=GRID, linewidth=0.7)
        if not curves:
            on.text(0.5, 0.5, "too few samples", color=MUTED, ha="center")

    columns = 2 if max(map(len, labels), default=0) <= MAX_LABEL_CHARS else 1
    lines = -(-len(labels) // columns)
    drawn = to_svg(draw, size=(PANEL_INCHES[0], PANEL_INCHES[1] + LEGEND_LINE_INCHES * (lines + 1)))
    said = f"{score}: " + (
        ", ".join(f"{name} {format_score(value)}" for name, value in scores.items()) or "cannot be computed"
    )
    return Panel(f"{title} ({score} in the legend)", caption, said, svg_uri(drawn))


def _risk_panel(selective: Mapping[str, Any], level: str) -> Panel:
    """The risk-coverage curve (Geifman and El-Yaniv 2017, figure 1), and the thresholds' place on it."""
    of_level, most = selective[level], selective["most_wrong"]
    coverage, risk = of_level["coverage"], of_level["risk"]

    def draw(page: Any) -> None:
        on = page.subplots()
        on.axhline(most, color=MUTED, linestyle="--", linewidth=1, label=f"{most:.0%}, aimed at")
        on.plot(*of_level["curve"].values(), color=COLOURS[0], linewidth=1.8, label="of the surest answers")
        if coverage and risk is not None:
            on.plot(coverage, risk, "D", color=COLOURS[4], markersize=7, label="the chosen threshold")
        on.set(xlabel="share answered", ylabel="share of these that is wrong")
        on.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        on.grid(color=GRID, linewidth=0.7)

    said = (
        f"{coverage:.0%} of the tested {level}s are answered, {risk:.0%} of these wrongly"
        if coverage and risk is not None
        else f"no tested {level} is answered"
    )
    caption = (
        f"An answer counts from a confidence on of which it is proved on validation groups that {GUARANTEE}. "
        f"With it {said}."
    )
    if reasons := list(dict.fromkeys(filter(None, of_level["reasons"]))):
        caption += f" Nothing is proved where {'; '.join(reasons)}."
    drawn = svg_uri(to_svg(draw, size=(PANEL_INCHES[0], PANEL_INCHES[1] + 4 * LEGEND_LINE_INCHES)))
    return Panel(f"When it should not answer, per {level}", caption, said, drawn)


def _line_styles() -> Any:
    """Line styles; they change when the colours begin anew."""
    return (line for line in cycle(LINE_STYLES) for _ in COLOURS)


def _reliability_panel(result: Mapping[str, Any], when: str) -> Panel:
    bins = result["calibration"][when]

    def draw(page: Any) -> None:
        above, below = page.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        draw_reliability(above, below, bins)
        above.set(ylabel="share that is right")
        below.set(ylabel="n")

    temperatures = result["head"]["temperature"]
    ends = dict.fromkeys(format_score(value) for value in (min(temperatures), max(temperatures)))
    how = "uncalibrated" if when == "before" else f"calibrated, T = {' to '.join(ends)} and a bias a class"
    said = "; ".join(
        f"of {count} predictions with confidence {confidence:.2f} {accuracy:.0%} are right"
        for confidence, accuracy, count in zip(
            bins["confidence"], bins["accuracy"], bins["count"], strict=True
        )
        if count
    )
    before, after = (result["calibration"][at]["classwise_ece"] for at in ("before", "after"))
    caption = (
        "Per frame. On the dashed line, 80 of 100 predictions of confidence 0.8 are right; below it the "
        f"model is too sure. Expected calibration error {format_score(bins['ece'], 3)} of the most probable "
        f"class, {format_score(bins['classwise_ece'], 3)} over all classes; lower is better."
        + " Calibration has not helped on these frames."
        * (when == "after" and after >= before)
    )
    return Panel(f"Reliability, {how}", caption, said, svg_uri(to_svg(draw, size=TALL_PANEL_INCHES)))
