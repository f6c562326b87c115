from dataclasses import replace

import pytest
from a_run import make_dataset

from simclr_rhd.core.errors import UserError
from simclr_rhd.data.dataset import divide

CLASSES = {"view": ["a", "b"], "condition": ["x", "y"], "severity": ["u", "v"]}


@pytest.mark.parametrize("frames", [2, 5])
def test_videos_of_one_length_count_as_they_are(frames):
    dataset = make_dataset(CLASSES, frames=frames)
    videos = {dataset.labels.videos[row] for row in dataset.rows("unlabelled")}
    assert dataset.videos_to_pretrain() == pytest.approx(len(videos))


def test_one_long_clip_among_stills_counts_as_little_more_than_one():
    dataset = make_dataset(CLASSES, frames=4)
    rows = dataset.rows("unlabelled")
    names = ["long" if row in rows[10:] else f"still {row}" for row in range(len(dataset.part))]
    one = replace(dataset, labels=replace(dataset.labels, videos=names))
    assert len(rows) > 60 and 1 < one.videos_to_pretrain() < 2


def test_of_folds_with_encoders_of_their_own_the_fewest_count():
    dataset = make_dataset(CLASSES, folds=3)
    alone = replace(dataset, pretrained_once=False)
    ways = [dataset.in_fold(number).videos_to_pretrain() for number in range(3)]
    assert alone.videos_to_pretrain() == pytest.approx(min(dataset.videos_to_pretrain(), *ways))


def test_a_refused_split_names_what_joins_the_groups():
    dataset = make_dataset(CLASSES)
    labels = replace(dataset.labels, videos=["same" for _ in dataset.part])
    ways = {"group_by": "auto", "folds": 1, "pretrain_per_fold": False, "seed": 0}
    with pytest.raises(UserError, match="1 group.*Frames of 30 patients are called as of one video, 'same'"):
        divide(dataset.store, labels, "0", **ways)
