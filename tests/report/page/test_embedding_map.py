import numpy as np
import pytest

from simclr_rhd.report.page import embedding_map as projection
from simclr_rhd.report.page.embedding_map import EmbeddingWorker, MapsMissing, project


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


def test_what_goes_wrong_in_the_other_process_is_told_here():
    with EmbeddingWorker(np.zeros((2, 512), np.float32), seed=0) as maps:
        with pytest.raises(MapsMissing, match="ValueError: a map needs at least 3"):
            maps.maps()
    assert maps.process.exitcode is not None


def test_a_process_that_dies_is_told_of_and_one_that_is_left_is_ended():
    with EmbeddingWorker(np.zeros((400, 512), np.float32), seed=0) as maps:
        maps.process.kill()
        with pytest.raises(MapsMissing, match="ended with status -9"):
            maps.maps()
    with pytest.raises(KeyboardInterrupt), EmbeddingWorker(np.zeros((400, 512), np.float32), seed=0) as maps:
        raise KeyboardInterrupt
    assert maps.process.exitcode == -9


def test_maps_are_waited_for_no_longer_than_there_is_time():
    with EmbeddingWorker(np.zeros((400, 512), np.float32), seed=0) as maps:
        for timeout_s in (0.01, -5.0):
            with pytest.raises(MapsMissing, match="no time to wait"):
                maps.maps(timeout_s)
    assert maps.process.exitcode == -9


@pytest.mark.slow
def test_the_other_process_gives_the_same_maps():
    x = np.random.default_rng(0).normal(size=(40, 512)).astype(np.float32)
    with EmbeddingWorker(x, seed=3) as maps:
        found = maps.maps()
    assert list(found) == list(projection.METHODS)
    for ours, theirs in zip(project(x, seed=3), found.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_maps_of_a_rehearsal_are_their_start():
    x = np.random.default_rng(0).normal(size=(40, 512)).astype(np.float32)
    with EmbeddingWorker(x, seed=3, rehearsal=True) as maps:
        points = maps.maps()
    assert points["t-SNE"].shape == (40, 2) and np.isfinite(points["t-SNE"]).all()
    np.testing.assert_array_equal(points["t-SNE"], points["UMAP"])
