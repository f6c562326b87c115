"""Style that all pictures share: the sheet, its colours, and names short enough for it.

A picture on disk has a title, below it the `note` that qualifies it ("" for none), and a foot that explains
what is abbreviated; it is written to its path, whole or not at all. A chart of the report is an SVG as wide
as a phone, whose title and explanation are the report's text. The same input gives the same bytes. Classes
differ in colour and in marker. What builds on matplotlib is imported where a picture is drawn, so that no
module of pictures costs anything to import.
"""

import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from simclr_rhd.core.files import atomic_write

Names = Sequence[str]
Epochs = Sequence[dict[str, Any]]

MAX_LABEL_CHARS = 18  # characters of a class name beside a tick
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
LABEL_ROOM = 0.12  # of the height, for labels below what is drawn
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#882255", "#999933")
MARKERS = "os^DvPX<>p*h8d"  # 14 markers, 8 colours: no two of 56 classes look alike
PALE, MUTED, ALARM, GRID = "#C8C8C8", "#595959", "#B03A00", "#E4E4E4"
INK, PAPER = "#1B1F24", "#FFFFFF"
# What each colour is for a reader whose system is dark; as far apart for colour-blind eyes as the light ones
DARK = dict(
    zip(
        COLOURS,
        ("#3D9BE9", "#F2B134", "#1FB98A", "#E39AC6", "#F0723C", "#A3DCFF", "#C0458A", "#D6D67A"),
        strict=True,
    )
) | {PALE: "#4A525B", MUTED: "#A7AFB8", ALARM: "#FF9D73", GRID: "#2E353C", INK: "#E4E7EB", PAPER: "#15181C"}
PANEL_INCHES = (3.75, 2.7)  # inches of a chart in the report: 360 pixels, the width of a phone
ABBREVIATION = re.compile(r"\(([A-Z]\w{,6}[A-Z0-9](?: Colour)?)\)$")
LESION = re.compile(r"(?i)(aortic|mitral|pulmonary|tricuspid) (?:valve )?(regurgitation|stenosis|prolapse)")


def short_name(name: str) -> str:
    """A class name in some 18 characters: its usual abbreviation where there is one, else cut."""
    name = " ".join(name.split()).lstrip("_ ")  # matplotlib drops legend entries that start with "_"
    if " + " in name:
        name = " + ".join(map(short_name, name.split(" + ")))
    elif match := ABBREVIATION.search(name):
        return match[1]
    elif match := LESION.fullmatch(name):
        return (match[1][0] + match[2][0].lower().replace("p", "vp")).upper()
    elif name.lower() == "not applicable":
        return "N/A"
    return name if len(name) <= MAX_LABEL_CHARS else name[: MAX_LABEL_CHARS - 1].rstrip() + "…"


def short_names(names: Names) -> list[str]:
    """The short name of each; those that would be alike are numbered."""
    shorts: list[str] = []
    for name in names:
        short, number = short_name(name), 1
        while short in shorts:
            number += 1
            short = f"{short_name(name)[: MAX_LABEL_CHARS - 3].rstrip()} {number}"
        shorts.append(short)
    return shorts


@contextmanager
def save_png(
    path: Path, title: str, *, size: tuple[float, float], note: str, footnotes: Names
) -> Iterator[Any]:
    """A figure to draw on, of `size` inches, with title and note above and the foot below.

    It is saved to `path` if the block ends without an error.
    """
    import matplotlib
    from matplotlib.figure import Figure

    titles = textwrap.wrap(title, int(size[0] * 8.5))
    notes = textwrap.wrap(note, int(size[0] * 12))
    feet = [line for text in footnotes for line in textwrap.wrap(text, int(size[0] * 15))]
    width, below = size[0], 0.25 + 0.165 * len(feet)  # inches, as all lengths here
    above = 0.45 + 0.24 * (len(titles) - 1)
    height = above + 0.2 * len(notes) + size[1] + below
    with matplotlib.rc_context(STYLE), warnings.catch_warnings(action="ignore", category=UserWarning):
        # a class name in a script that the font lacks is a warning for each letter
        figure: Any = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        gap = 0.08  # to the lines above and below
        rect = (0.01, (below + gap) / height, 0.98, (size[1] - 2 * gap) / height)
        figure.get_layout_engine().set(rect=rect)
        for lines, y, style in (
            (titles, height - 0.12, {"fontsize": 13, "weight": "bold"}),
            (notes, height - above + 0.03, {"color": ALARM, "weight": "bold"}),
            (feet, below - 0.1, {"color": MUTED, "fontsize": 8.5}),
        ):
            figure.text(0.15 / width, y / height, "\n".join(lines), va="top", **style)
        yield figure
        with atomic_write(path) as part:
            figure.savefig(part, format="png", metadata={"Software": None})


def to_svg(draw: Callable[[Any], object], *, size: tuple[float, float] = PANEL_INCHES) -> str:
    """A chart for the report, of `size` inches: what `draw` puts on a figure, and a legend below.

    Letters are outlines, so it looks the same everywhere; its colours follow the reader's theme.
    """
    import matplotlib
    from matplotlib.figure import Figure

    of_panel = {"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "svg.hashsalt": "simclr-rhd"}
    of_panel |= dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), INK)
    of_panel |= dict.fromkeys(("xtick.color", "ytick.color"), INK)
    with (
        matplotlib.rc_context(STYLE | of_panel),
        warnings.catch_warnings(action="ignore", category=UserWarning),
    ):
        figure: Any = Figure(figsize=size, layout="constrained", facecolor="none")
        draw(figure)
        for axes in figure.axes:
            axes.set_facecolor("none")
        if labels := figure.axes[0].get_legend_handles_labels()[1]:
            columns = 2 if max(map(len, labels)) <= MAX_LABEL_CHARS else 1
            figure.legend(loc="outside lower left", ncols=columns, fontsize=8.5, handlelength=1.8)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _with_theme_colours(stream.getvalue())


def _with_theme_colours(text: str) -> str:
    """An SVG in which the colours of `DARK` are what the reader's theme makes of them."""
    names = {light.lower(): f"--c{number}" for number, light in enumerate(DARK)}
    text = re.sub(
        "#[0-9a-f]{6}", lambda match: f"var({names[match[0]]})" if match[0] in names else match[0], text
    )
    light, dark = (
        "".join(f"{name}:{colour};" for name, colour in zip(names.values(), colours, strict=True))
        for colours in (DARK, DARK.values())
    )
    style = f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    return text[text.index("<svg") :].replace(">", ">" + style, 1)


@dataclass(frozen=True)
class LossCurves:
    """The loss by epoch: in training, and on other frames.

    Attributes:
        epochs: records with epoch, loss and val_loss (None where not known); of a pretraining the last one
            marked as best is the one whose weights were kept.
        val_name: the name of the other frames, 'held-out' or 'validation'.
        bounds: {name: loss}, drawn as dashed lines.
    """

    epochs: Epochs
    val_name: str
    bounds: Mapping[str, float] = field(default_factory=dict)


def plot_losses(path: Path, title: str, curves: LossCurves, *, note: str, footnotes: Names) -> None:
    """Draw a picture of the loss by epoch."""
    with save_png(path, title, size=(8.5, 4.8), note=note, footnotes=footnotes) as figure:
        axes = figure.subplots()
        draw_losses(axes, curves)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9)


def draw_losses(axes: Any, curves: LossCurves) -> None:
    """Draw the loss by epoch, without a legend."""
    epochs, bounds = curves.epochs, curves.bounds
    numbers = [row["epoch"] for row in epochs]
    marker = "o" if len(epochs) < 30 else ""  # one epoch makes no line
    for key, part, colour in (("loss", "training", COLOURS[0]), ("val_loss", curves.val_name, COLOURS[1])):
        curve = np.array([row[key] for row in epochs], dtype=float)  # None becomes NaN
        if np.isfinite(curve).any():
            axes.plot(numbers, curve, color=colour, label=f"{part} frames", marker=marker, ms=3.5)
    for (label, bound), colour in zip(bounds.items(), (*COLOURS[:2], MUTED), strict=False):
        axes.axhline(bound, color=colour, linestyle="--", linewidth=1.2, label=label)
        axes.update_datalim([(numbers[0], bound)])
    axes.autoscale_view()
    mark_view_sizes(axes, epochs)
    if best := [row["epoch"] for row in epochs if row.get("best")]:
        axes.axvline(best[-1], color=COLOURS[2], linestyle=":", label=f"weights kept: epoch {best[-1]}")
    axes.set(ylabel="loss")
    set_epoch_axis(axes, numbers)


def has_several_view_sizes(epochs: Epochs) -> bool:
    """Return True if the views of a pretraining were of several sizes."""
    return len({row.get("size") for row in epochs}) > 1


def mark_view_sizes(axes: Any, epochs: Epochs) -> None:
    """A line where views grow, and their sizes below all that is drawn; nothing if they are of one size."""
    if not has_several_view_sizes(epochs):
        return
    low, high = axes.get_ylim()
    axes.set_ylim(low - LABEL_ROOM * (high - low), high)
    starts = [(epochs[0]["epoch"] - 0.5, epochs[0])]
    starts += [(row["epoch"] - 0.5, row) for before, row in pairwise(epochs) if before["size"] != row["size"]]
    for number, (at, row) in enumerate(starts):
        if number:
            axes.axvline(at, color=GRID, linewidth=1.6, zorder=0)
        axes.annotate(
            f"{row['size']} px",
            (at, 0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            color=MUTED,
            fontsize=8,
        )


def set_epoch_axis(axes: Any, numbers: Sequence[int]) -> None:
    """The axis of epochs, whole numbers even if there is but one."""
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="epoch", xlim=(numbers[0] - 0.5, numbers[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.grid(color=GRID, linewidth=0.7)


def whole_percent(value: float) -> str:
    """Round to a whole per cent; only 100 % is shown as 100, only 0 % as 0."""
    return "<1" if 0 < value < 0.5 else ">99" if 99.5 <= value < 100 else f"{value:.0f}"


def abbreviation_notes(shorts: Names, names: Names) -> list[str]:
    """One line of what the short names stand for; lines may break between the entries only."""
    pairs = [f"{short} = {name}" for short, name in zip(shorts, names, strict=True) if short != name]
    return ["; ".join(pair.replace(" ", "\xa0") for pair in pairs)]
