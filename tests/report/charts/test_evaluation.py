from dataclasses import replace

import numpy as np
import pytest
from pictures import (
    has_no_overlaps,
    is_reproducible,
    legend_labels,
    record_figures,
)

from simclr_rhd.evaluation.scores.records import Score
from simclr_rhd.evaluation.target_details import EfficiencyPoint, Reliability
from simclr_rhd.report.charts import evaluation as plots_evaluation

LONG = "the severity of the disease as the second of three cardiologists saw it in the long axis only"
NO_BINS = Reliability(ece=None, confidence=[None] * 5, accuracy=[None] * 5, count=[0] * 5)
BINS = Reliability(
    ece=0.1234,
    confidence=[None, None, 0.5, 0.7, 0.95],
    accuracy=[None, None, 0.25, 0.7, 1.0],
    count=[0, 0, 4, 20, 40],
)


def curve(groups, **changes):
    shape = {"balanced_accuracy": 0.6, "low": 0.5, "high": 0.8}
    return [EfficiencyPoint(number / max(groups), number, **shape | changes) for number in groups]


def unknown(groups):
    return curve(groups, balanced_accuracy=None, low=None, high=None)


def draw_reliability(path, task="view", before=BINS, after=BINS):
    plots_evaluation.plot_reliability(
        path, task, before, after, temperatures=[1.5], note="SYNTHETIC demo data"
    )


def draw_efficiency(path, curves):
    plots_evaluation.plot_label_efficiency(path, curves, level="video", note="")


def draw_forest(path, rows, task="condition", chance=0.25):
    title = f"{task.capitalize()}: the model and what it must beat, frames of the test part"
    rows = [(name, Score(*figures)) for name, *figures in rows]
    plots_evaluation.plot_forest(path, title, rows, chance=chance, note="demo")


def cells_of(axes):
    return [text.get_text() for text in axes.texts]


def labels_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


DRAWINGS = {
    "reliability": draw_reliability,
    "efficiency": lambda path: draw_efficiency(path, {"view": {"SimCLR": curve([2, 9, 40])}}),
    "forest": lambda path: draw_forest(path, [("SimCLR", 0.7, 0.6, 0.8), ("raw pixels", None, None, None)]),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_the_same_input_gives_the_same_bytes_and_nothing_else(draw, tmp_path):
    assert is_reproducible(draw, tmp_path)


def test_reliability_shows_each_bin_that_is_not_empty(tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    draw_reliability(tmp_path / "r.png", after=replace(BINS, ece=None))
    before, after, bars, _ = figures[0].axes
    assert before.get_title(loc="left") == "before: ECE 0.123"
    assert after.get_title(loc="left") == "after (T = 1.50): ECE cannot be computed"
    points = before.collections[-1]
    np.testing.assert_array_equal(points.get_offsets(), [[0.5, 0.25], [0.7, 0.7], [0.95, 1.0]])
    assert (np.diff(points.get_sizes()) > 0).all()
    assert [bar.get_height() for bar in bars.patches] == BINS.count
    assert [bar.get_x() for bar in bars.patches] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize("task", ["view", LONG])
def test_reliability_without_predictions(task, tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    draw_reliability(tmp_path / "r.png", task, NO_BINS, BINS)
    assert cells_of(figures[0].axes[0]) == ["no predictions"]
    assert not cells_of(figures[0].axes[1]) and has_no_overlaps(figures[0])


def test_label_efficiency_draws_what_is_known(tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    half = [*unknown([3]), *curve([6, 12], low=None)]
    draw_efficiency(
        tmp_path / "l.png",
        {
            "view": {"SimCLR": curve([2, 9, 40]), "raw pixels": curve([2, 9, 40])},
            "condition": {"SimCLR": curve([3, 6, 12]), "raw pixels": half},
            "severity": {"SimCLR": unknown([3, 6]), "raw pixels": unknown([3, 6])},
        },
    )
    view, condition, severity = figures[0].axes
    assert (view.get_xscale(), condition.get_xscale()) == ("log", "linear")
    assert [line.get_xdata().tolist() for line in condition.lines] == [[3, 6, 12], [6, 12]]
    assert [len(bars.get_segments()) for bars in condition.collections] == [3, 0]
    assert cells_of(severity) == ["cannot be computed"]
    assert legend_labels(severity) == ["SimCLR", "raw pixels"]
    looks = {(line.get_marker(), line.get_linestyle()) for line in condition.lines}
    assert len(looks) == 2, "told apart without colour"
    assert has_no_overlaps(figures[0])


@pytest.mark.parametrize("names", [1, 7])
@pytest.mark.parametrize("tasks", [1, 2, 4])
def test_label_efficiency_of_few_and_many(names, tasks, tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    of_task = {f"{number} is a baseline with a long name": curve([7]) for number in range(names)}
    draw_efficiency(tmp_path / "l.png", {f"{number} {LONG}": of_task for number in range(tasks)})
    assert has_no_overlaps(figures[0])
    assert len(figures[0].axes[min(tasks, 3) - 1].get_legend().texts) == names


def test_forest_says_what_cannot_be_computed(tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    rows = [("SimCLR", 0.7, 0.6, 0.8), ("random encoder", None, None, None), ("pixels", 0.5, None, 0.6)]
    draw_forest(tmp_path / "f.png", rows)
    (axes,) = figures[0].axes
    (label_axes,) = axes.child_axes
    assert labels_of(axes.yaxis) == ["SimCLR", "random encoder", "pixels"]
    assert labels_of(label_axes.yaxis) == ["0.70 (0.60 to 0.80)", "cannot be computed", "0.50"]
    chance, *marks = axes.lines
    assert chance.get_xdata() == [0.25, 0.25] and cells_of(axes) == ["chance 0.25"]
    assert [(*mark.get_xdata(), *mark.get_ydata()) for mark in marks] == [(0.7, 0), (0.5, 2)]
    (bar,) = axes.collections
    np.testing.assert_allclose(bar.get_segments(), [[[0.6, 0], [0.8, 0]]])


@pytest.mark.parametrize("n", [1, 12])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_forest_of_few_and_many_long_names(n, value, tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    rows = [(f"{number}: {LONG}", value, value, value) for number in range(n)]
    draw_forest(tmp_path / "f.png", rows, task=LONG, chance=value)
    assert has_no_overlaps(figures[0])
    (axes,) = figures[0].axes
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert not any(one.overlaps(other) for one, other in zip(boxes, boxes[1:], strict=False))
    marks = [line.get_window_extent() for line in axes.lines[1:]]
    boxes = [label.get_window_extent() for label in axes.child_axes[0].get_yticklabels()]
    assert all(text.x0 - mark.x1 > 5 for mark, text in zip(marks, boxes, strict=True)), "pixels between"
