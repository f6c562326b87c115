import csv
import io
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from simclr_rhd.core.files import write_rows
from simclr_rhd.data.decoding.image import letterbox
from simclr_rhd.data.demo.dataset import draw_patients, make_clip
from simclr_rhd.evaluation.checks import leakage as audit
from simclr_rhd.evaluation.checks.leakage import (
    AuditedFrames,
    Pair,
    closest_pairs,
    leak_audit_rows,
    near_duplicates,
    thumbnails,
)

SIDE = 74  # of the stored frames
PARTS = np.array(["train", "test", "unlabelled", "held-out", "test"])


def folds_of(n, k):
    rows = np.arange(n)
    return [(rows[rows % k != fold], rows[rows % k == fold]) for fold in range(k)]


def nearest_by_hand(features, folds):
    """(similarity, tested row, training row) of each tested row, one by one."""
    for train, test in folds:
        centred = features.astype(np.float64) - features[train].mean(axis=0, dtype=np.float64)
        for row in test:
            cosine = {
                other: centred[row]
                @ centred[other]
                / (np.linalg.norm(centred[row]) * np.linalg.norm(centred[other]))
                for other in train
            }
            other = max(cosine, key=cosine.get)
            yield cosine[other], row, other


def identical_by_hand(thumbs, part):
    found = []
    for row, other in product(range(len(thumbs)), repeat=2):
        if part[row] != "test" or part[other] in ("test", "held-out"):
            continue
        apart = np.sqrt(np.mean((thumbs[row].astype(np.float64) - thumbs[other]) ** 2))
        if (
            apart <= audit.MAX_GREY_DIFFERENCE
            and min(thumbs[row].std(), thumbs[other].std()) >= audit.MIN_GREY_STD
        ):
            found.append((apart, row, other))
    return sorted(found)


@pytest.fixture(scope="module")
def pictures():
    """Two frames of two patients, (H, W, 3) uint8."""
    return [make_clip(patient, "A4C", 5)[0][0] for patient in draw_patients(12)[:2]]


def jpeg(picture, **changes):
    image, stream = Image.fromarray(picture), io.BytesIO()
    image.resize(changes.get("size", image.size)).save(stream, "JPEG", quality=75)
    return np.asarray(Image.open(stream).convert("RGB"))


def thumbs_of(pictures):
    frames = np.stack([letterbox(np.ascontiguousarray(picture), SIDE) for picture in pictures])
    return thumbnails(frames, np.arange(len(frames)))


@pytest.mark.parametrize(("n", "k", "sizes"), [(31, 4, (3, 5)), (31, 31, (1_000, 10_000)), (5, 1, (2, 2))])
def test_closest_pairs_are_those_of_a_search_one_by_one(n, k, sizes, monkeypatch):
    monkeypatch.setattr(audit, "BLOCK_ROWS", sizes[0])
    monkeypatch.setattr(audit, "BLOCK_COLUMNS", sizes[1])
    features = 3 + np.random.default_rng(n).normal(size=(n, 7)).astype(np.float32)
    folds = folds_of(n, k) if k > 1 else [(np.array([3, 0, 4]), np.array([2, 1]))]
    found = closest_pairs([features] * len(folds), [str(row) for row in range(n)], folds, max_pairs=1_000)
    expected, seen = [], set()
    for value, row, other in sorted(nearest_by_hand(features, folds), reverse=True):
        if frozenset((row, other)) not in seen:
            seen.add(frozenset((row, other)))
            expected.append((value, row, other))
    assert [(pair.row, pair.other) for pair in found] == [(row, other) for _, row, other in expected]
    np.testing.assert_allclose([pair.value for pair in found], [value for value, *_ in expected], atol=1e-5)


def test_one_pair_of_two_groups_and_no_more_than_asked_for():
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    groups = np.array([f"g{row % 5}" for row in range(40)])
    folds = [(np.flatnonzero(groups != name), np.flatnonzero(groups == name)) for name in np.unique(groups)]
    found = closest_pairs([features] * len(folds), groups, folds, max_pairs=1_000)
    pairs = [frozenset((groups[pair.row], groups[pair.other])) for pair in found]
    assert len(set(pairs)) == len(pairs) <= 10 and all(len(pair) == 2 for pair in pairs)
    best = max(nearest_by_hand(features, folds))
    assert (found[0].row, found[0].other) == best[1:]
    assert closest_pairs([features] * len(folds), groups, folds, max_pairs=3) == found[:3]


def test_of_equal_frames_the_first_is_named(monkeypatch):
    monkeypatch.setattr(audit, "BLOCK_COLUMNS", 4)
    one = np.random.default_rng(0).normal(size=(1, 33)).astype(np.float32)
    features = np.concatenate([one, -one, one, -one, one, one, one])
    found = closest_pairs([features], list("abcdefg"), [(np.array([5, 4, 3, 2, 1]), np.array([6, 0]))])
    assert found == [Pair(0, 2, 1.0), Pair(6, 2, 1.0)]


def test_of_many_equal_frames_the_first_is_named():
    """Their products may differ in the last bits: a matrix product treats its last columns otherwise."""
    rng = np.random.default_rng(0)
    for n, width in product((7, 37, 203), (33, 100, 512)):
        one = rng.normal(size=(1, width)).astype(np.float32)
        features = np.concatenate([-one, *[one] * (n + 3)])
        folds = [(np.arange(n + 1), np.arange(n + 1, n + 4))]
        found = closest_pairs([features] * len(folds), np.arange(n + 4), folds)
        assert found == [Pair(row, 1, 1.0) for row in range(n + 1, n + 4)]


def test_no_training_rows_no_tested_rows_and_a_frame_at_the_mean():
    features, groups, none = np.ones((3, 4), np.float32), list("abc"), np.zeros(0, dtype=np.int64)
    assert closest_pairs([], groups, []) == []
    assert closest_pairs([features] * 2, groups, [(none, np.arange(3)), (np.arange(3), none)]) == []
    assert closest_pairs([features], groups, [(np.array([1, 2]), np.array([0]))]) == [Pair(0, 1, 0.0)]


@pytest.mark.parametrize("side", [32, 64, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_are_means_over_areas(side, channels, monkeypatch):
    monkeypatch.setattr(audit, "FRAMES_PER_READ", 2)
    frames = np.random.default_rng(side).integers(0, 256, (5, channels, side, side), np.uint8)
    rows = np.array([4, 0, 3])
    expected = F.avg_pool2d(torch.from_numpy(frames[rows]).float().mean(dim=1), side // 32).flatten(1)
    np.testing.assert_allclose(thumbnails(frames, rows), expected, atol=1e-3)


@pytest.mark.parametrize("side", [17, 74, 257])
def test_thumbnails_of_any_size_keep_the_levels(side):
    frames = np.random.default_rng(side).integers(0, 256, (2, 1, side, side), np.uint8)
    found = thumbnails(frames, np.arange(2))
    assert found.shape == (2, 1024) and found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=1), frames.mean(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(thumbnails(np.full_like(frames, 255), np.arange(2)), 255, rtol=1e-5)


def test_nearly_identical_frames_are_those_of_a_search_one_by_one(monkeypatch):
    monkeypatch.setattr(audit, "BLOCK_ROWS", 7)
    monkeypatch.setattr(audit, "BLOCK_COLUMNS", 11)
    rng = np.random.default_rng(0)
    thumbs = rng.uniform(60, 180, (6, 1024))[rng.integers(0, 6, 60)] + rng.normal(size=(60, 1))
    thumbs += rng.normal(size=(60, 1024)) * rng.uniform(0, 6, (60, 1))
    thumbs[::9] = thumbs[::9].mean() + rng.normal(size=(7, 1024))  # flat
    thumbs = thumbs.astype(np.float32)
    part = rng.choice(["train", "val", "test", "unlabelled", "held-out"], 60)
    expected = identical_by_hand(thumbs, part)
    assert 10 < len(expected) < 200
    found, total = near_duplicates(thumbs, part)
    assert total == len(expected)
    assert [(pair.row, pair.other) for pair in found] == [(row, other) for _, row, other in expected]
    np.testing.assert_allclose([pair.value for pair in found], [value for value, *_ in expected], rtol=1e-5)
    assert near_duplicates(thumbs, part, max_pairs=4) == (found[:4], total)


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(jpeg, id="as JPEG"),
        pytest.param(lambda picture: jpeg(picture, size=(64, 48)), id="of half the size"),
        pytest.param(lambda picture: picture, id="as it is"),
    ],
)
def test_a_copy_under_another_name_is_found(copy, pictures):
    first, second = pictures
    thumbs = thumbs_of([first, second, copy(second)])
    found, total = near_duplicates(thumbs, np.array(["train", "test", "unlabelled"]))
    assert total == 1 and (found[0].row, found[0].other) == (1, 2)


def test_mirrored_and_other_pictures_frames_of_one_part_and_held_out_ones_are_not(pictures):
    first, second = pictures
    thumbs = thumbs_of([first, second, second[:, ::-1], jpeg(second), jpeg(second)])
    assert near_duplicates(thumbs, PARTS) == ([], 0)
    assert near_duplicates(thumbs[:3], np.array(["test", "train", "unlabelled"])) == ([], 0)


def test_frames_that_hardly_vary_are_left_out():
    black = np.random.default_rng(0).integers(0, 4, (2, 1024)).astype(np.float32)
    assert near_duplicates(black, PARTS[:2]) == ([], 0)
    assert near_duplicates(black[:0], PARTS[:0]) == ([], 0)


def test_the_table_names_both_frames(tmp_path):
    folds = [np.array(["val", "val"]), np.array(["train", "test"])]
    frames = AuditedFrames(["a.png", "b, c.png"], np.array(["p1", "p2"]), folds, np.arange(2))
    rows = [
        *leak_audit_rows(audit.NEAREST, [Pair(1, 0, 0.98, fold=1)], frames),
        *leak_audit_rows(audit.NEAR_DUPLICATE, [Pair(1, 0, 1 / 3, fold=1)], frames),
    ]
    write_rows(tmp_path / "leak_audit.csv", audit.HEADER, rows)
    with (tmp_path / "leak_audit.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    shared = {"test_path": "b, c.png", "test_group": "p2", "other_path": "a.png", "other_group": "p1"}
    shared["other_part"] = "train"
    assert read == [
        {"kind": "nearest in feature space", **shared, "value": "0.98"},
        {"kind": "nearly identical", **shared, "value": "0.33333"},
    ]


def test_each_fold_is_audited_by_its_own_parts(pictures):
    """A tested frame's own unlabelled neighbours are held out where it is tested, and no leak."""
    first, second = pictures
    thumbs = thumbs_of([first, jpeg(first), second, second])
    groups = np.array(["p1", "p1", "p2", "p3"])
    folds = [
        np.array(["test", "held-out", "train", "unlabelled"]),
        np.array(["train", "unlabelled", "test", "unlabelled"]),
    ]
    features = [np.eye(2, 5, dtype=np.float32)] * 2
    names = [f"{number}.png" for number in range(4)]
    frames = AuditedFrames(names, groups, folds, labelled=np.array([0, 2]))
    found = audit.audit_leakage(features, thumbs, frames)
    assert found.summary.near_identical.found == found.summary.near_identical.listed == 1
    (row,) = [row for row in found.rows if row[0] == audit.NEAR_DUPLICATE]
    assert row[1:6] == ["2.png", "p2", "3.png", "p3", "unlabelled"]
    assert len(found.summary.closest) == 1 and found.summary.closest[0]["other_part"] == "train"


def test_two_tested_frames_of_two_folds_count_once_however_few_are_listed(pictures, monkeypatch):
    monkeypatch.setattr(audit.near_duplicates, "__kwdefaults__", {"max_pairs": 1})
    thumbs = thumbs_of([pictures[0]] * 4)
    folds = [np.array(["test", "test", "train", "train"]), np.array(["train", "train", "test", "test"])]
    frames = AuditedFrames(list("abcd"), np.array(["p1", "p2", "p3", "p4"]), folds, labelled=np.arange(4))
    summary = audit.audit_leakage([np.eye(4, 5, dtype=np.float32)] * 2, thumbs, frames).summary
    assert summary.near_identical.found == 4 and summary.near_identical.listed == 1
