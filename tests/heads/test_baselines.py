import numpy as np
import pytest
import torch
import torch.nn.functional as F

from simclr_rhd.heads import baselines

N = 90


@pytest.fixture
def blobs():
    """Two clouds of points, and which rows learn and which choose."""
    rng = np.random.default_rng(0)
    true = np.arange(N) % 2
    x = (rng.normal(size=(N, 40)) + 3 * true[:, None]).astype(np.float32)
    return x, true, np.arange(50), np.arange(50, 70)


def test_pixels_are_small_pictures_of_three_channels():
    frames = np.random.default_rng(0).integers(0, 256, (5, 1, 64, 64), dtype=np.uint8)
    found = baselines.pixel_features(frames, np.array([3, 1]))
    small = F.interpolate(
        torch.from_numpy(frames[[3]]).float() / 255, size=(48, 48), mode="bilinear", antialias=True
    )
    assert found.shape == (2, 48 * 48) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], small.flatten().numpy() * 3**0.5, rtol=1e-5)
    in_colour = baselines.pixel_features(np.repeat(frames, 3, axis=1), np.array([3, 1]))
    apart = [np.linalg.norm(x[0] - x[1]) for x in (found, in_colour)]
    assert apart[0] == pytest.approx(apart[1], rel=1e-5), "grey or colour, the same distances"


def test_the_mask_is_the_cells_that_are_not_black_whatever_is_in_them():
    frames = np.zeros((3, 3, 48, 48), np.uint8)
    frames[1, :, 10:20, 30:40] = np.random.default_rng(0).integers(60, 256, (3, 10, 10), dtype=np.uint8)
    frames[2, 1, 10:20, 30:40] = 60  # of one colour
    frames[:, :, 40:, :] = baselines.BLACK_LEVEL  # as dark as compression makes black
    wanted = np.zeros((24, 24), np.float32)
    wanted[5:10, 15:20] = 1
    masks = baselines.mask_features(frames, np.array([2, 0, 1]))
    assert masks.dtype == np.float32
    np.testing.assert_array_equal(masks, [wanted.ravel(), np.zeros(576), wanted.ravel()])


@pytest.mark.parametrize("make", [baselines.logistic_regression, baselines.knn])
def test_they_learn_from_training_rows_alone(blobs, make):
    x, true, train, val = blobs
    table = make(x)(true, 2, train, val)
    assert (table[70:].argmax(axis=1) == true[70:]).mean() > 0.9
    np.testing.assert_allclose(table[50:].sum(axis=1), 1)
    other = true.copy()
    other[70:] = 1 - other[70:]
    np.testing.assert_array_equal(make(x)(other, 2, train, val), table)


@pytest.mark.parametrize("make", [baselines.logistic_regression, baselines.knn])
def test_a_class_without_training_frames_has_no_probability(blobs, make):
    x, true, train, val = blobs
    table = make(x)(np.where(true == 1, 2, 0), 3, train, val)
    assert (table[:, 1] == 0).all()
    alone = make(x)(np.zeros(N, dtype=np.int64), 2, train, val)
    assert (alone[50:] == [1, 0]).all()


def test_the_penalty_is_chosen_on_validation_rows(blobs):
    """Where validation contradicts training, the strongest penalty is least wrong."""
    x, true, train, val = blobs
    wrong = true.copy()
    wrong[val] = 1 - wrong[val]
    sure = baselines.logistic_regression(x)(true, 2, train, val).max(axis=1).mean()
    unsure = baselines.logistic_regression(x)(wrong, 2, train, val).max(axis=1).mean()
    assert unsure < sure - 0.05


def test_neighbours_vote_by_cosine_and_rare_classes_have_a_say():
    x = np.array([[1.0, 0.1], [1, 0.2], [1, 0.15], [0.1, 1], [0.9, 1.0]], dtype=np.float32)
    true = np.array([0, 0, 0, 1, 0])
    table = baselines.knn(x)(true, 2, np.arange(4), np.arange(0))
    # all four training rows are neighbours of all: votes 3/4 and 1/4, divided by counts of 3 and 1
    np.testing.assert_allclose(table[4], 0.5)
    assert (table[:4] == 0).all(), "training frames would vote for themselves"


def test_majority_is_the_share_of_the_training_labels():
    table = baselines.majority(np.array([0, 0, 1, 2, 2, 2]), 3, np.arange(3), np.arange(0))
    np.testing.assert_allclose(table, np.tile([2 / 3, 1 / 3, 0], (6, 1)))


def test_answers_leave_out_what_is_not_annotated_and_ask_each_lesion():
    seen = []

    def fit(true, n_classes, train, val):
        seen.append((true[train].tolist(), true[val].tolist(), n_classes))
        return np.tile([0.25, 0.75], (len(true), 1))

    targets = {
        "view": np.array([0, -1, 1, 1]),
        "condition": np.array([[0, 1], [1, -1], [0, 0], [1, 1]]),
    }
    table = baselines.predict_baseline(
        fit, targets, {"view": 2, "condition": 2}, np.array([0, 1, 2]), np.array([3])
    )
    assert seen == [([0, 1], [1], 2), ([0, 1, 0], [1], 2), ([1, 0], [1], 2)]
    assert table["view"].shape == (4, 2) and (table["condition"] == 0.75).all()


def test_pixels_of_grey_and_coloured_frames_stand_in_one_table(monkeypatch):
    """Some are read together; those of which all are grey come with one channel."""
    monkeypatch.setattr(baselines, "FRAMES_PER_CHUNK", 4)
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (8, 1, 20, 20), np.uint8), 3, axis=1)
    coloured = rng.integers(0, 256, (5, 3, 20, 20), np.uint8)

    class Stored:
        def __getitem__(self, rows):
            found = np.concatenate([grey, coloured])[rows]
            return found[:, :1] if (rows < 8).all() else found

    found = baselines.pixel_features(Stored(), np.arange(13))
    assert found.shape == (13, 3 * 48 * 48)
    alone = baselines.pixel_features(Stored(), np.arange(8))
    assert alone.shape == (8, 48 * 48)
    distances = [np.linalg.norm(x[0] - x[1:8], axis=1) for x in (found, alone)]
    np.testing.assert_allclose(*distances, rtol=1e-5)


def test_masks_that_are_all_equal_tell_nothing():
    found = baselines.pca_features(np.ones((6, 576), np.float32), np.arange(4), seed=0)
    np.testing.assert_array_equal(found, np.zeros((6, 1)))
