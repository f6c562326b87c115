import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_rhd import plots
from simclr_rhd.projection import project

CONDITIONS = [
    "Not Applicable",
    "Aortic Valve Regurgitation",
    "Mitral Valve Prolapse",
    "Mitral Valve Regurgitation",
    "Aortic Valve Regurgitation + Pulmonary Valve Regurgitation",
]
AWKWARD = [r"_an $\frac name that is far too long for any tick of any axis", "心", "<b>", "a", "a "]


def epochs(n, **changes):
    record = {"loss": 4.0, "val_loss": 3.9, "uniform": 4.8, "val_uniform": 4.6, "learning_rate": 1e-3}
    return [record | {"epoch": number + 1, "best": number == 0} | changes for number in range(n)]


def measured(n, every=5):
    """Records with all diagnostics, the neighbours at every fifth epoch only."""
    records = epochs(n)
    for number, record in enumerate(records):
        record |= {"alignment": 0.8 - number / (2 * n), "uniformity": -3 * number / n, "rank": 5.0 + number}
        if number % every == 0:
            record["knn"] = {"view": 0.5, "condition": 0.4, "severity": None if number < every else 0.3}
    return records


def drawn_on_pages(monkeypatch):
    """The figures drawn from here on, as they were when they were saved."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig

    def keep(figure, *arguments, **keywords):
        figures.append(figure)
        return save(figure, *arguments, **keywords)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def foot_of(figure):
    return figure.texts[-1].get_text()


def size_in_inches(path):
    with Image.open(path) as image:
        image.load()
        assert not {"Software", "date:create"} & set(image.info)
        return tuple(round(side / plots.DPI, 1) for side in image.size)


def draw_confusion(path, classes, matrix=None, **changes):
    matrix = np.eye(len(classes), dtype=int) if matrix is None else matrix
    keywords = {"level": "frames", "not_evaluable": [], "note": ""} | changes
    plots.confusion(path, "condition", matrix, classes, **keywords)


def draw_embedding(path, n, classes, **changes):
    rng = np.random.default_rng(n)
    labels = rng.integers(-1, len(classes), n)
    videos = changes.pop("videos", [f"v{number}" for number in range(n)])
    keywords = {"parts": ["test", "train"] * (n // 2) + ["val"] * (n % 2), "note": ""} | changes
    plots.embedding(path, "UMAP", rng.normal(size=(n, 2)), "view", labels, classes, videos, **keywords)


DRAWINGS = {
    "simclr": lambda path: plots.simclr_loss(path, epochs(7), note="SYNTHETIC demo data"),
    "diagnostics": lambda path: plots.simclr_diagnostics(path, measured(7), note="SYNTHETIC demo data"),
    "head": lambda path: plots.head_loss(path, "view", epochs(7), note="SYNTHETIC demo data"),
    "confusion": lambda path: draw_confusion(path, CONDITIONS, not_evaluable=CONDITIONS[1:2]),
    "embedding": lambda path: draw_embedding(path, 31, CONDITIONS),
}


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Parasternal Long Axis (PLAX)", "PLAX"),
        ("Parasternal short axis(PSAX)", "PSAX"),
        ("Apical Four Chamber (A4C)", "A4C"),
        ("Aortic Valve Regurgitation", "AR"),
        ("mitral valve prolapse", "MVP"),
        ("Mitral Valve Regurgitation", "MR"),
        ("Pulmonary Valve Regurgitation", "PR"),
        ("Tricuspid Regurgitation", "TR"),
        ("Aortic Valve Regurgitation + Pulmonary Valve Regurgitation", "AR + PR"),
        ("Not Applicable", "N/A"),
        ("Borderline RHD", "Borderline RHD"),
        ("Normal (as far as anybody could tell)", "Normal (as far as…"),
        ("_hidden", "hidden"),
    ],
)
def test_short_name(name, short):
    assert plots.short_name(name) == short


def test_short_names_stay_apart_and_short():
    names = [f"{'the same beginning ' * 3}{number}" for number in range(14)] + [
        "PLAX",
        "Long (PLAX)",
        "PLAX 2",
    ]
    shorts = plots.short_names(names)
    assert len(set(shorts)) == len(names)
    assert max(map(len, shorts)) <= plots.LONGEST
    assert plots.short_names(["PLAX", "PSAX"]) == ["PLAX", "PSAX"]


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_the_same_input_gives_the_same_bytes_and_nothing_else(draw, tmp_path):
    draw(tmp_path / "one.png")
    draw(tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_the_note_is_in_the_picture_and_makes_room_for_itself(tmp_path):
    for name, note in (("bare", ""), ("noted", "LEAKY frame split"), ("other", "SYNTHETIC demo data")):
        plots.head_loss(tmp_path / f"{name}.png", "view", epochs(3), note=note)
    assert size_in_inches(tmp_path / "bare.png") == (8.5, 5.7)
    assert size_in_inches(tmp_path / "noted.png") == (8.5, 5.9)
    assert (tmp_path / "noted.png").read_bytes() != (tmp_path / "other.png").read_bytes()


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
    plots.simclr_loss(tmp_path / "simclr.png", records, note="")
    plots.head_loss(tmp_path / "head.png", "severity", records, note="")
    assert size_in_inches(tmp_path / "simclr.png")[0] == size_in_inches(tmp_path / "head.png")[0] == 8.5


def test_the_last_best_epoch_is_marked(tmp_path):
    """Every improvement is a best epoch at its time; the weights kept are those of the last."""
    records = epochs(5)
    plots.head_loss(tmp_path / "first.png", "view", records, note="")
    records[3]["best"] = True
    plots.head_loss(tmp_path / "both.png", "view", records, note="")
    records[0]["best"] = False
    plots.head_loss(tmp_path / "last.png", "view", records, note="")
    assert (tmp_path / "both.png").read_bytes() == (tmp_path / "last.png").read_bytes()
    assert (tmp_path / "first.png").read_bytes() != (tmp_path / "last.png").read_bytes()


def test_the_perfect_loss_is_a_line_only_where_it_does_not_squash_the_curves(tmp_path, monkeypatch):
    """The curves and the uniform values here go from 3.9 to 4.8: three times that is down to 2.1."""
    figures = drawn_on_pages(monkeypatch)
    for perfect in (2.2, 2.0, None, float("nan")):
        plots.simclr_loss(tmp_path / "simclr.png", epochs(7, perfect=perfect), note="")
    plots.simclr_loss(tmp_path / "without.png", epochs(7), note="")
    near, far, *without = figures
    label = "perfectly aligned and uniform: 2.200"
    assert label in legend_of(near.axes[0]) and "2.200" not in foot_of(near)
    assert near.axes[0].get_ylim()[0] < 2.2
    assert not any("perfectly" in text for text in legend_of(far.axes[0])) and "2.000" in foot_of(far)
    assert far.axes[0].get_ylim()[0] > 3.5
    for figure in without:
        assert "erfect" not in "".join([*legend_of(figure.axes[0]), foot_of(figure)])
    assert (tmp_path / "simclr.png").read_bytes() == (tmp_path / "without.png").read_bytes()


def test_the_perfect_loss_of_unknown_curves(tmp_path):
    records = epochs(2, loss=None, val_loss=None, uniform=None, val_uniform=None, perfect=1.0)
    plots.simclr_loss(tmp_path / "simclr.png", records, note="")
    assert size_in_inches(tmp_path / "simclr.png")[0] == 8.5


def test_diagnostics_are_drawn_where_measured(tmp_path, monkeypatch):
    figures = drawn_on_pages(monkeypatch)
    plots.simclr_diagnostics(tmp_path / "d.png", measured(17), note="")
    *single, knn = figures[0].axes
    assert [axes.get_title(loc="left") for axes in single] == [
        "alignment",
        "uniformity",
        "effective rank of the embeddings",
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
    figures = drawn_on_pages(monkeypatch)
    plots.simclr_diagnostics(tmp_path / "d.png", measured(n), note="SYNTHETIC demo data")
    (figure,) = figures
    knn = figure.axes[3]
    parts = [axes.get_tightbbox() for axes in figure.axes]
    parts += [text.get_window_extent() for text in figure.texts]
    for number, part in enumerate(parts):
        assert figure.bbox.x0 <= part.x0 and part.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= part.y0 and part.y1 <= figure.bbox.y1
        assert not any(part.overlaps(other) for other in parts[number + 1 :])
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
    figures = drawn_on_pages(monkeypatch)
    plots.simclr_diagnostics(tmp_path / "d.png", epochs(3, **changes), note="")
    assert [text.get_text() for axes in figures[0].axes for text in axes.texts] == ["not measured"] * 4


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


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.3, "<1"), (1, "1"), (99.7, ">99"), (100, "100")])
def test_per_cent_hides_nothing(value, text):
    assert plots._percent(value) == text


@pytest.mark.parametrize(
    ("n", "changes"),
    [(3, {}), (5, {"parts": ["val"] * 5}), (17, {"videos": ["one"] * 17}), (401, {})],
)
def test_embedding_of_few_and_many_videos(n, changes, tmp_path):
    draw_embedding(tmp_path / "e.png", n, AWKWARD, **changes)
    assert size_in_inches(tmp_path / "e.png")[0] == 13


def test_points_without_a_place_are_left_out(tmp_path):
    points = np.full((4, 2), np.nan)
    plots.embedding(
        tmp_path / "e.png",
        "t-SNE",
        points,
        "view",
        np.full(4, -1),
        ["a"],
        list("abcd"),
        parts=["train"] * 4,
        note="",
    )
    assert size_in_inches(tmp_path / "e.png")[0] == 13


def test_nothing_is_left_of_a_picture_that_fails(tmp_path, monkeypatch):
    path = tmp_path / "c.png"
    path.write_bytes(b"the old one")

    def write_half(self, target, **_):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", write_half)
    with pytest.raises(OSError, match="disk full"):
        plots.head_loss(path, "view", epochs(2), note="")
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    DRAWINGS["head"](tmp_path / "h.png")
    assert dict(matplotlib.rcParams) == before


def test_importing_costs_nothing():
    heavy = {"matplotlib", "seaborn", "umap", "sklearn", "torch"}
    code = f"import sys, simclr_rhd.plots; print(*{heavy} & set(sys.modules))"
    root = Path(__file__).resolve().parents[1]
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True).stdout
        == b"\n"
    )


def test_too_few_rows_for_a_map():
    with pytest.raises(ValueError, match="at least 3"):
        project(np.zeros((2, 512), np.float32), seed=0)


@pytest.mark.slow
def test_embed_is_repeatable_finite_and_parts_what_is_apart():
    rng = np.random.default_rng(0)
    for n in (3, 4, 17):
        tsne, umap = project(rng.normal(size=(n, 512)).astype(np.float32), seed=1)
        assert tsne.shape == umap.shape == (n, 2)
        assert np.isfinite(tsne).all() and np.isfinite(umap).all()
    assert all(np.isfinite(found).all() for found in project(np.ones((9, 512), np.float32), seed=1))

    kind = np.repeat([0, 1], 30)
    features = (rng.normal(size=(60, 512)) + 8 * kind[:, None]).astype(np.float32)
    first, again, other = (project(features, seed=seed) for seed in (1, 1, 2))
    for method in (0, 1):
        np.testing.assert_array_equal(first[method], again[method])
        assert not np.array_equal(first[method], other[method])
        centres = [first[method][kind == number].mean(axis=0) for number in (0, 1)]
        nearest = np.argmin([np.linalg.norm(first[method] - centre, axis=1) for centre in centres], axis=0)
        np.testing.assert_array_equal(nearest, kind)
