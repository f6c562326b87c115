import pytest
from pictures import (
    epochs,
    footnote_text,
    has_no_overlaps,
    is_reproducible,
    legend_labels,
    record_figures,
    size_in_inches,
)

from simclr_rhd.report.charts import pretraining as plots_pretraining


def measured(n, every=5):
    """Records with all diagnostics, the neighbours at every fifth epoch only.

    The curves bend, as in life: of points on a line Matplotlib leaves some out, by the last bits of numbers
    that NumPy 1.26 does not repeat.
    """
    records = epochs(n)
    for number, record in enumerate(records):
        left = 0.7**number
        record |= {"alignment": 0.3 + left / 2, "uniformity": 3 * left - 3, "rank": 5.0 + number**1.5}
        if number % every == 0:
            record["knn"] = {"view": 0.5, "condition": 0.4, "severity": None if number < every else 0.3}
    return records


@pytest.mark.parametrize(
    "draw",
    [plots_pretraining.plot_simclr_loss, plots_pretraining.plot_simclr_diagnostics],
    ids=["loss", "diagnostics"],
)
def test_the_same_input_gives_the_same_bytes_and_nothing_else(draw, tmp_path):
    assert is_reproducible(lambda path: draw(path, measured(7), note="demo"), tmp_path)


@pytest.mark.parametrize(
    "records",
    [
        epochs(1),
        epochs(1, val_loss=None, val_uniform=None),
        epochs(3, val_loss=float("nan"), uniform=float("nan"), best=False),
        epochs(40, loss=None, val_loss=None, uniform=None, val_uniform=None),
    ],
)
def test_losses_that_are_not_known_are_left_out(records, tmp_path):
    plots_pretraining.plot_simclr_loss(tmp_path / "simclr.png", records, note="")
    assert size_in_inches(tmp_path / "simclr.png")[0] == 8.5


def test_the_perfect_loss_is_a_line_only_where_it_does_not_squash_the_curves(tmp_path, monkeypatch):
    """The curves and the uniform values here go from 3.9 to 4.8: three times that is down to 2.1."""
    figures = record_figures(monkeypatch)
    for perfect in (2.2, 2.0, None, float("nan")):
        plots_pretraining.plot_simclr_loss(tmp_path / "simclr.png", epochs(7, perfect=perfect), note="")
    plots_pretraining.plot_simclr_loss(tmp_path / "without.png", epochs(7), note="")
    near, far, *without = figures
    label = "perfectly aligned and uniform: 2.200"
    assert label in legend_labels(near.axes[0]) and "2.200" not in footnote_text(near)
    assert near.axes[0].get_ylim()[0] < 2.2
    assert not any("perfectly" in text for text in legend_labels(far.axes[0])) and "2.000" in footnote_text(
        far
    )
    assert far.axes[0].get_ylim()[0] > 3.5
    for figure in without:
        assert "erfect" not in "".join([*legend_labels(figure.axes[0]), footnote_text(figure)])
    assert (tmp_path / "simclr.png").read_bytes() == (tmp_path / "without.png").read_bytes()


@pytest.mark.parametrize(
    "draw", [plots_pretraining.plot_simclr_loss, plots_pretraining.plot_simclr_diagnostics]
)
def test_it_is_said_where_the_average_of_the_weights_is_measured(draw, tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    for averaged in (True, False):
        draw(tmp_path / "x.png", [row | {"averaged": averaged} for row in measured(7)], note="")
    assert ["moving average" in footnote_text(figure) for figure in figures] == [True, False]


def test_the_perfect_loss_of_unknown_curves(tmp_path):
    records = epochs(2, loss=None, val_loss=None, uniform=None, val_uniform=None, perfect=1.0)
    plots_pretraining.plot_simclr_loss(tmp_path / "simclr.png", records, note="")
    assert size_in_inches(tmp_path / "simclr.png")[0] == 8.5


def test_diagnostics_are_drawn_where_measured(tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    plots_pretraining.plot_simclr_diagnostics(tmp_path / "d.png", measured(17), note="")
    *single, knn = figures[0].axes
    assert [axes.get_title(loc="left") for axes in single] == [
        "Alignment",
        "Uniformity",
        "Effective rank",
    ]
    assert [len(axes.lines[0].get_xdata()) for axes in single] == [17, 17, 17]
    assert {line.get_label(): line.get_xdata().tolist() for line in knn.lines} == {
        "view": [1, 6, 11, 16],
        "condition": [1, 6, 11, 16],
        "severity": [6, 11, 16],
    }
    assert not any(axes.texts for axes in figures[0].axes)


@pytest.mark.parametrize("n", [1, 3, 100])
def test_diagnostics_do_not_overlap(n, tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    plots_pretraining.plot_simclr_diagnostics(tmp_path / "d.png", measured(n), note="SYNTHETIC demo data")
    (figure,) = figures
    knn = figure.axes[3]
    assert has_no_overlaps(figure)
    assert not knn._left_title.get_window_extent().overlaps(knn.get_legend().get_window_extent())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"alignment": None, "uniformity": None, "rank": None, "knn": None},
        {"alignment": float("nan"), "rank": float("inf"), "knn": {}},
        {"knn": {"view": None, "severity": None}},
    ],
)
def test_diagnostics_say_what_was_not_measured(changes, tmp_path, monkeypatch):
    figures = record_figures(monkeypatch)
    plots_pretraining.plot_simclr_diagnostics(tmp_path / "d.png", epochs(3, **changes), note="")
    assert [text.get_text() for axes in figures[0].axes for text in axes.texts] == ["not measured"] * 4


def test_labels_of_view_sizes_lie_below_what_is_drawn():
    """With the least value in the first epoch of a size, where its label begins."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = [0.0, 1.0, 0.5, 0.0, 1.0, 0.7]
    epochs = [{"epoch": n + 1, "size": 32 if n < 3 else 64, "rank": x} for n, x in enumerate(values)]
    figure = Figure()
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    plots_pretraining.draw_diagnostic(axes, [row["epoch"] for row in epochs], {"": values})
    plots_pretraining.mark_view_sizes(axes, epochs)
    canvas.draw()
    lowest = axes.transData.transform((1, 0.0))[1]
    labels = [text.get_window_extent() for text in axes.texts]
    assert len(labels) == 2 and all(label.y1 < lowest and label.y0 > axes.bbox.y0 for label in labels)


def test_the_annealing_is_explained():
    rows = [{"epoch": n, "annealing": n > 4} for n in range(1, 7)]
    assert any(
        "From epoch 5 on the learning rate falls to 0" in line for line in plots_pretraining.epoch_notes(rows)
    )
    assert not any("learning rate" in line for line in plots_pretraining.epoch_notes(rows[:4]))


def test_the_last_best_epoch_is_marked(tmp_path):
    """Every improvement is a best epoch at its time; the weights kept are those of the last."""
    records = epochs(5)
    plots_pretraining.plot_simclr_loss(tmp_path / "first.png", records, note="")
    records[3]["best"] = True
    plots_pretraining.plot_simclr_loss(tmp_path / "both.png", records, note="")
    records[0]["best"] = False
    plots_pretraining.plot_simclr_loss(tmp_path / "last.png", records, note="")
    assert (tmp_path / "both.png").read_bytes() == (tmp_path / "last.png").read_bytes()
    assert (tmp_path / "first.png").read_bytes() != (tmp_path / "last.png").read_bytes()
