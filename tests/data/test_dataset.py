from dataclasses import replace

import pytest
from untrained_run import make_dataset

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.dataset import build_dataset

CLASSES = {"view": ["a", "b"], "condition": ["x", "y"], "severity": ["u", "v"]}


@pytest.mark.parametrize("frames", [2, 5])
def test_videos_of_one_length_count_as_they_are(frames):
    dataset = make_dataset(CLASSES, frames=frames)
    videos = {dataset.labels.videos[row] for row in dataset.rows("unlabelled")}
    assert dataset.effective_videos() == pytest.approx(len(videos))


def test_one_long_clip_among_stills_counts_as_little_more_than_one():
    dataset = make_dataset(CLASSES, frames=4)
    rows = dataset.rows("unlabelled")
    names = ["long" if row in rows[10:] else f"still {row}" for row in range(len(dataset.part))]
    one = replace(dataset, labels=replace(dataset.labels, videos=names))
    assert len(rows) > 60 and 1 < one.effective_videos() < 2


def test_of_folds_with_encoders_of_their_own_the_fewest_count():
    dataset = make_dataset(CLASSES, folds=3)
    alone = replace(dataset, pretrained_once=False)
    counts = [dataset.in_fold(number).effective_videos() for number in range(3)]
    assert alone.effective_videos() == pytest.approx(min(dataset.effective_videos(), *counts))


def test_a_refused_split_names_what_joins_the_groups():
    dataset = make_dataset(CLASSES)
    labels = replace(dataset.labels, videos=["same" for _ in dataset.part])
    with pytest.raises(UserError, match="1 group.*Frames of 30 patients are called as of one video, 'same'"):
        build_dataset(dataset.store, labels, "0", DataConfig(seed=0))
