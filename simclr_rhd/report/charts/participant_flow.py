"""The flow of participants: from files to the groups that are tested, and what is left out at each step.

Item 24 of STARD-AI and item 20a of TRIPOD+AI ask for it. All lengths are in inches.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from simclr_rhd.report.charts.flow_stages import Stage
from simclr_rhd.report.charts.panels import Panel, draw_panel
from simclr_rhd.report.charts.style import INK, MUTED, PANEL_INCHES, PAPER, save_png

TITLE = "Participant flow"
CAPTION = (
    "Files, frames, patients, and the parts that they went to; dashed: what was left out on the way. "
    "participant_flow.png is the same for print."
)
PICTURE_WIDTH = 8.5
FONT_POINTS = {"picture": 9.5, "panel": 8.0}
PADDING, GAP, ARROW_GAP = 0.08, 0.12, 0.22  # inside a box; between boxes side by side; between stages
MARGIN = 0.02  # around all boxes, for half of their lines
NARROWEST_CELL = 9.5  # times the font size


@dataclass(frozen=True)
class _Box:
    """A box on the sheet: its place from the upper left corner of the sheet, and its lines, wrapped.

    Attributes:
        dashed: whether it holds what is left out.
        n_bold: how many lines, from the first on, are the heading.
    """

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]
    n_bold: int
    dashed: bool = False

    @property
    def middle(self) -> float:
        """Its height on the sheet, halfway."""
        return self.y + self.height / 2


@dataclass(frozen=True)
class FlowLayout:
    """A flow laid out on a sheet.

    Attributes:
        width: of the sheet.
        height: of the sheet.
        points: size of the font.
        rows: the boxes of each stage; the first of a row is the stage itself, or the frame around its cells.
    """

    width: float
    height: float
    points: float
    rows: tuple[tuple[_Box, ...], ...]


def lay_out(stages: Sequence[Stage], *, width: float, points: float) -> FlowLayout:
    """Lay out the stages below each other, what each leaves out on its right.

    Args:
        stages: from the first to the last.
        width: of the sheet.
        points: size of the font.
    """
    rows, y, half = [], MARGIN, (width - ARROW_GAP) / 2 - MARGIN
    for stage in stages:
        if stage.cells:
            row = _lay_out_cells(stage, y, width, points)
        else:
            whole = width - 2 * MARGIN
            row = [_box(stage.lines, MARGIN, y, half if stage.left_out else whole, points)]
            if stage.left_out:
                row.append(_box(stage.left_out, MARGIN + half + ARROW_GAP, y, half, points, dashed=True))
        rows.append(tuple(row))
        y = max(box.y + box.height for box in row) + ARROW_GAP
    return FlowLayout(width, y - ARROW_GAP + MARGIN, points, tuple(rows))


def _lay_out_cells(stage: Stage, y: float, width: float, points: float) -> list[_Box]:
    """The boxes of the parts, as many side by side as have room, inside a frame with the stage's lines."""
    room = width - 2 * MARGIN
    heading = _box(stage.lines, MARGIN, y, room, points)
    columns = int((room - GAP) / (NARROWEST_CELL * points / 72 + GAP))
    columns = max(1, min(len(stage.cells), columns))
    cell_width = (room - GAP * (columns + 1)) / columns
    cells, top = list[_Box](), y + heading.height
    for start in range(0, len(stage.cells), columns):
        line = [
            _box(cell, MARGIN + GAP + number * (cell_width + GAP), top, cell_width, points)
            for number, cell in enumerate(stage.cells[start : start + columns])
        ]
        cells += line
        top = max(box.y + box.height for box in line) + GAP
    frame = _Box(MARGIN, y, room, top - y, heading.lines, heading.n_bold)
    return [frame, *cells]


def _box(
    lines: Sequence[str], x: float, y: float, width: float, points: float, *, dashed: bool = False
) -> _Box:
    room = 0.97 * (width - 2 * PADDING)  # letters are drawn on whole pixels: a line may be a little longer
    heading = _wrap(lines[0], room, points, "bold")
    rest = [part for line in lines[1:] for part in _wrap(line, room, points, "normal")]
    height = (len(heading) + len(rest)) * _line_height(points) + 2 * PADDING
    return _Box(x, y, width, height, (*heading, *rest), len(heading), dashed)


def _line_height(points: float) -> float:
    return 1.35 * points / 72


@lru_cache(maxsize=4096)
def _text_width(text: str, points: float, weight: str) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=points, weight=weight)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of letters that the font lacks
        return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72


def _wrap(text: str, room: float, points: float, weight: str) -> list[str]:
    """The lines of a text that are at most `room` wide; a word that is wider is broken anywhere."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if _text_width(joined, points, weight) <= room:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and _text_width(lines[-1] + letter, points, weight) > room:
                lines.append("")
            lines[-1] += letter
    return lines


def draw_flow(figure: Any, layout: FlowLayout) -> None:
    """Draw a flow on an empty figure, whose drawing area is as large as the layout's sheet."""
    figure.get_layout_engine().set(w_pad=0, h_pad=0)
    axes = figure.subplots()
    axes.set(xlim=(0, layout.width), ylim=(layout.height, 0))
    axes.set_axis_off()
    for row in layout.rows:
        for box in row:
            _draw_box(axes, box, layout.points)
    for start, end in _arrows(layout):
        axes.annotate(
            "", end, start, arrowprops={"arrowstyle": "-|>", "color": MUTED, "shrinkA": 0, "shrinkB": 0}
        )


def _draw_box(axes: Any, box: _Box, points: float) -> None:
    from matplotlib.patches import Rectangle

    style = "--" if box.dashed else "-"
    axes.add_patch(
        Rectangle(
            (box.x, box.y), box.width, box.height, facecolor=PAPER, edgecolor=MUTED, linestyle=style, lw=0.9
        )
    )
    for number, line in enumerate(box.lines):
        y = box.y + PADDING + (number + 0.76) * _line_height(points)
        weight = "bold" if number < box.n_bold else "normal"
        axes.text(box.x + PADDING, y, line, fontsize=points, weight=weight, color=INK, va="baseline")


def _arrows(layout: FlowLayout) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Start and end of each arrow: from a stage to the next one, and to what it leaves out."""
    for row, following in zip(layout.rows, (*layout.rows[1:], None), strict=True):
        stage = row[0]
        for left_out in row[1:]:
            if left_out.dashed:
                y = min(stage.middle, left_out.middle)
                yield (stage.x + stage.width, y), (left_out.x, y)
        if following:
            x = MARGIN + min(stage.width, following[0].width) / 2
            yield (x, stage.y + stage.height), (x, following[0].y)


def plot_participant_flow(path: Path, stages: Sequence[Stage], *, note: str) -> None:
    """Draw the flow of participants as a picture."""
    layout = lay_out(stages, width=0.98 * PICTURE_WIDTH, points=FONT_POINTS["picture"])
    size = (PICTURE_WIDTH, layout.height + 2 * 0.08)  # `save_png` leaves 0.08 above and below
    with save_png(path, TITLE, size=size, note=note, footnotes=()) as figure:
        draw_flow(figure, layout)


def flow_panel(stages: Sequence[Stage]) -> Panel:
    """The flow of participants as a chart of the report."""
    layout = lay_out(stages, width=PANEL_INCHES[0], points=FONT_POINTS["panel"])
    texts = [
        text for of in stages for text in (*of.lines, *(", ".join(cell) for cell in of.cells), *of.left_out)
    ]
    size = (layout.width, layout.height)
    return draw_panel(TITLE, CAPTION, ". ".join(texts), lambda figure: draw_flow(figure, layout), size)
