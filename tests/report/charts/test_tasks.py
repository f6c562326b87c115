import numpy as np
import pytest
from pictures import AWKWARD, CONDITIONS, epochs, is_reproducible, size_in_inches

from simclr_rhd.report.charts import tasks as plots_tasks
from simclr_rhd.report.charts.tasks import MappedFrames


def draw_embedding(path, n, classes, **changes):
    rng = np.random.default_rng(n)
    frames = {
        "labels": rng.integers(-1, len(classes), n),
        "videos": [f"v{number}" for number in range(n)],
        "parts": ["test", "train"] * (n // 2) + ["val"] * (n % 2),
    }
    points, mapped = rng.normal(size=(n, 2)), MappedFrames(classes=classes, **frames | changes)
    plots_tasks.plot_embedding(path, "view", "UMAP", points, mapped, note="")


DRAWINGS = {
    "head": lambda path: plots_tasks.plot_head_loss(path, "view", epochs(7), note="SYNTHETIC demo data"),
    "embedding": lambda path: draw_embedding(path, 31, CONDITIONS),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_the_same_input_gives_the_same_bytes_and_nothing_else(draw, tmp_path):
    assert is_reproducible(draw, tmp_path)


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
    plots_tasks.plot_head_loss(tmp_path / "head.png", "severity", records, note="")
    assert size_in_inches(tmp_path / "head.png")[0] == 8.5


@pytest.mark.parametrize(
    ("n", "changes"),
    [(3, {}), (5, {"parts": ["val"] * 5}), (17, {"videos": ["one"] * 17}), (401, {})],
)
def test_embedding_of_few_and_many_videos(n, changes, tmp_path):
    draw_embedding(tmp_path / "e.png", n, AWKWARD, **changes)
    assert size_in_inches(tmp_path / "e.png")[0] == 13


def test_points_without_a_place_are_left_out(tmp_path):
    frames = MappedFrames(np.full(4, -1), ["a"], list("abcd"), ["train"] * 4)
    plots_tasks.plot_embedding(tmp_path / "e.png", "view", "t-SNE", np.full((4, 2), np.nan), frames, note="")
    assert size_in_inches(tmp_path / "e.png")[0] == 13
