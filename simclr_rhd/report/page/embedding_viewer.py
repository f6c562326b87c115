"""The maps of the report: the place, the class and the thumbnail of each labelled frame.

Notation: n labelled frames, m of them on the maps.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from simclr_rhd.data.labelled_set import Probabilities, Target
from simclr_rhd.report.charts.style import COLOURS, DPI, MARKERS, PALE
from simclr_rhd.report.page import images
from simclr_rhd.report.page.report_frames import ReportFrames

GRID_STEPS = 1000  # steps of a map's side
NOT_TESTED = -1


@dataclass(frozen=True)
class ClassMark:
    """The mark of a class on the maps: the number of its colour, and its outline as an SVG path."""

    colour: int
    path: str


def embedding_viewer(
    points: Mapping[str, np.ndarray], mapped: np.ndarray, tested: ReportFrames
) -> dict[str, Any]:
    """The data of the page's script, in types of JSON.

    Args:
        points: {method: (m, 2)}.
        mapped: (m,) which of the n labelled frames the points are.
        tested: the frames and their predictions.

    Returns:
        {"methods": {method: [x, y] of each point, in 0 .. GRID_STEPS}, "sheet": {"image", "side", "columns"}
        of the thumbnails, "names", "lines", "videos" (numbers), "parts", and "targets": {name: {"classes",
        "true", "predicted" (both -1 where unknown), "p": probability of the predicted class in per cent}}}.
    """
    dataset, labelled_set = tested.dataset, tested.labelled_set
    rows, names = dataset.labelled()[mapped], dataset.pseudonyms()
    image, side, columns = images.sprite(dataset.store.frames, rows)
    return {
        "methods": {method: _on_grid(xy).tolist() for method, xy in points.items()},
        "sheet": {"image": image, "side": side, "columns": columns},
        "names": [names.frame(int(row)) for row in rows],
        "lines": [names.line(int(row)) for row in rows],
        "videos": np.unique(labelled_set.videos[mapped], return_inverse=True)[1].tolist(),
        "parts": dataset.display_part()[rows].tolist(),
        "targets": {
            target.name: _target_data(target, tested.probabilities, mapped)
            for target in labelled_set.targets()
        },
    }


def _on_grid(xy: np.ndarray) -> np.ndarray:
    """(m, 2) -> (m, 2) whole numbers, one scale for both axes, centred; y grows downwards as on a screen."""
    middle = (xy.max(axis=0) + xy.min(axis=0)) / 2
    reach = max(float(np.ptp(xy, axis=0).max()), 1e-12)
    placed = (xy - middle) / reach * [1, -1]
    steps: np.ndarray = ((placed + 0.5) * GRID_STEPS).round().astype(int)
    return steps


def _target_data(target: Target, probabilities: Probabilities, mapped: np.ndarray) -> dict[str, Any]:
    p = target.probabilities(probabilities)[mapped]
    tested = np.isfinite(p).all(axis=1)
    predicted = target.predicted(probabilities)[mapped]
    confidence = np.where(tested, np.nan_to_num(p)[np.arange(len(p)), predicted], 0)
    return {
        "classes": target.classes,
        "true": target.true[mapped].tolist(),
        "predicted": np.where(tested, predicted, NOT_TESTED).tolist(),
        "p": (100 * confidence).round().astype(int).tolist(),
    }


def static_map(points: np.ndarray, true: np.ndarray, n_classes: int) -> bytes:
    """A map as a PNG with a clear background: (m, 2) points, marked by (m,) class, -1 = not annotated."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(5, 5), dpi=DPI, facecolor="none")
    axes: Any = page.add_axes((0.02, 0.02, 0.96, 0.96))
    size = float(np.clip(6000 / max(len(points), 1), 6, 40))  # square points of a mark
    axes.scatter(*points[true < 0].T, s=size / 2, c=PALE, linewidths=0)
    for number, colour, marker in zip(range(n_classes), cycle(COLOURS), cycle(MARKERS), strict=False):
        axes.scatter(*points[true == number].T, s=size, c=colour, marker=marker, linewidths=0)
    axes.set_axis_off()
    axes.set_aspect("equal", adjustable="datalim")
    stream = io.BytesIO()
    page.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def class_marks(n_classes: int) -> list[ClassMark]:
    """The mark of each class."""
    from matplotlib.markers import MarkerStyle

    marks = []
    for number, marker in zip(range(n_classes), cycle(MARKERS), strict=False):
        style = MarkerStyle(marker)
        outline = style.get_path().transformed(style.get_transform())
        marks.append(ClassMark(number % len(COLOURS), _svg_path(outline)))
    return marks


def _svg_path(path: Any) -> str:
    """A matplotlib path as the `d` of an SVG path, in which y grows downwards."""
    letters = {path.MOVETO: "M", path.LINETO: "L", path.CURVE3: "Q", path.CURVE4: "C"}
    parts = []
    for vertices, code in path.iter_segments(curves=True, simplify=False):
        numbers = (vertices.reshape(-1, 2) * [1, -1]).round(3) + 0.0  # no -0
        parts.append(
            "Z" if code == path.CLOSEPOLY else letters[code] + " ".join(f"{x:g}" for x in numbers.flat)
        )
    return "".join(parts)
