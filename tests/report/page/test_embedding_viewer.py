import io

import numpy as np
import pytest
from PIL import Image
from untrained_run import make_dataset

from simclr_rhd.data.labelled_set import build_labelled_set
from simclr_rhd.report.page.embedding_viewer import GRID_STEPS, class_marks, embedding_viewer, static_map
from simclr_rhd.report.page.report_frames import ReportFrames

CLASSES = {"view": ["A4C", "PLAX"], "condition": ["Healthy", "MR"], "severity": ["Normal", "Definite"]}


def made(shown, points):
    dataset = make_dataset(CLASSES, patients=12, frames=2)
    cohort, rows = build_labelled_set(dataset, multilabel=False), dataset.labelled()
    tested = dataset.part[rows] == "test"
    table = {task: np.full((len(rows), 2), np.nan) for task in CLASSES}
    for of in table.values():
        of[tested] = [0.3, 0.7]
    found = embedding_viewer({"t-SNE": points}, shown, ReportFrames(dataset, cohort, table))
    return found, dataset, cohort, tested


def test_points_keep_their_shape_and_fill_the_grid():
    points = np.array([[0, 0], [4, 1], [2, 3.0]])
    found, *_ = made(np.array([0, 1, 2]), points)
    placed = np.array(found["methods"]["t-SNE"], dtype=float)
    assert np.ptp(placed[:, 0]) == GRID_STEPS and placed.min() >= 0 and placed.max() <= GRID_STEPS
    apart = [np.linalg.norm(xy[0] - xy[1]) / np.linalg.norm(xy[0] - xy[2]) for xy in (placed, points)]
    assert apart[0] == pytest.approx(apart[1], rel=1e-2)
    assert placed[2, 1] < placed[0, 1], "up is up, though a screen counts from its top"


def test_points_in_one_place_are_in_the_middle():
    found, *_ = made(np.array([0, 1, 2]), np.ones((3, 2)))
    assert found["methods"]["t-SNE"] == [[GRID_STEPS // 2] * 2] * 3


def test_what_is_told_of_a_point_is_of_its_frame():
    shown = np.array([19, 3, 11])
    found, dataset, cohort, tested = made(shown, np.random.default_rng(0).random((3, 2)))
    rows = dataset.labelled()[shown]
    assert found["lines"] == [row + 2 for row in rows] and found["parts"] == dataset.part[rows].tolist()
    view = found["targets"]["view"]
    assert view["true"] == dataset.labels.values["view"][rows].tolist()
    assert view["predicted"] == [1 if is_tested else -1 for is_tested in tested[shown]]
    assert view["p"] == [70 if is_tested else 0 for is_tested in tested[shown]]
    assert len(set(found["videos"])) == len(set(cohort.videos[shown]))


def test_the_picture_that_stands_without_a_script_has_its_marks():
    points, true = np.array([[0, 0], [1, 1], [0, 1], [1, 0.0]]), np.array([0, 1, -1, 0])
    picture = Image.open(io.BytesIO(static_map(points, true, 2)))
    assert picture.mode == "RGBA" and picture.getpixel((5, 5))[3] == 0, "clear, for dark pages"
    colours = {colour for _, colour in picture.getcolors(1 << 20)}
    assert (0x00, 0x72, 0xB2, 255) in colours and (0xE6, 0x9F, 0x00, 255) in colours
    assert static_map(points, true, 2) == static_map(points, true, 2)


def test_no_two_of_many_marks_are_alike():
    found = [(mark.colour, mark.path) for mark in class_marks(56)]
    assert len(set(found)) == 56 and {path[0] for _, path in found} == {"M"}
    assert not any("-0 " in path or "nan" in path for _, path in found)
