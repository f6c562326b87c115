import numpy as np
import pytest
from pictures import (
    AWKWARD,
    CONDITIONS,
    footnote_text,
    has_no_overlaps,
    is_reproducible,
    record_figures,
    size_in_inches,
)

from simclr_rhd.report.charts.confusion import plot_confusion, plot_lesions

NAMES = [*CONDITIONS, *(f"A finding whose name goes on and on, number {number}" for number in range(9))]


def draw_confusion(path, classes, matrix=None, **changes):
    matrix = np.eye(len(classes), dtype=int) if matrix is None else matrix
    keywords = {"not_evaluable": [], "note": ""} | changes
    plot_confusion(path, "Condition: confusion matrix, frames", matrix, classes, **keywords)


def draw_lesions(path, names, tables=None, **changes):
    tables = [[[30, 10], [2, 8 + number]] for number in range(len(names))] if tables is None else tables
    keywords = {"level": "frames of the test part", "not_evaluable": [], "note": ""} | changes
    plot_lesions(path, dict(zip(names, tables, strict=True)), **keywords)


def cells_of(axes):
    return [text.get_text() for text in axes.texts]


def labels_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: draw_confusion(path, CONDITIONS, not_evaluable=CONDITIONS[1:2]),
        lambda path: draw_lesions(path, CONDITIONS[1:]),
    ],
)
def test_the_same_input_gives_the_same_bytes_and_nothing_else(draw, tmp_path):
    assert is_reproducible(draw, tmp_path)


@pytest.mark.parametrize(
    "classes", [["a", "b"], AWKWARD, [f"{'long ' * 30}{number}" for number in range(14)]]
)
def test_confusion_of_few_many_and_awkward_classes(classes, tmp_path):
    draw_confusion(tmp_path / "c.png", classes, not_evaluable=classes[:1])
    width, height = size_in_inches(tmp_path / "c.png")
    assert width > height > 3


def test_confusion_without_any_frame_and_of_the_wrong_size(tmp_path):
    draw_confusion(tmp_path / "empty.png", ["a", "b"], [[0, 0], [0, 0]])
    assert (tmp_path / "empty.png").exists()
    with pytest.raises(ValueError, match="reshape"):
        draw_confusion(tmp_path / "wrong.png", ["a", "b", "c"], [[1, 0], [0, 1]])


def test_lesions_are_counted_by_what_is_there(tmp_path, monkeypatch):
    """Of 10 with the lesion 8 are found; of 400 without it one is a false alarm."""
    figures = record_figures(monkeypatch)
    tables = [[[399, 1], [2, 8]], [[5, 0], [0, 0]]]
    draw_lesions(tmp_path / "l.png", CONDITIONS[1:3], tables, not_evaluable=CONDITIONS[2:3])
    counts, percent = figures[0].axes
    assert labels_of(counts.xaxis) == ["found", "missed", "false\nalarm", "rightly\nabsent"]
    assert labels_of(counts.yaxis) == ["AR", "MVP*"]
    assert labels_of(percent.yaxis) == ["AR (10 / 400)", "MVP* (0 / 5)"]
    assert cells_of(counts) == ["8", "2", "1", "399", "0", "0", "0", "5"]
    assert cells_of(percent) == ["80", "20", "<1", ">99", "0", "100"], "none has the second"
    assert "grey: none here" in footnote_text(figures[0]) and "* cannot be evaluated" in footnote_text(
        figures[0]
    )
    assert "AR = Aortic Valve Regurgitation" in footnote_text(figures[0]).replace("\xa0", " ")


@pytest.mark.parametrize("n", [1, 4, 12])
def test_lesions_of_few_and_many(n, tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    draw_lesions(tmp_path / "l.png", NAMES[:n], note="SYNTHETIC demo data")
    assert has_no_overlaps(figures[0])
    assert "grey" not in footnote_text(figures[0])
