import pytest

from simclr_rhd.stages import first, growing, planned


@pytest.mark.parametrize(
    ("image_size", "sizes"),
    [
        (224, (112, 168, 224)),
        (96, (48, 72, 96)),
        (64, (32, 48, 64)),
        (50, (32, 40, 50)),
        (40, (32, 40)),
        (32, (32,)),
        (33, (32, 33)),
    ],
)
def test_views_grow_to_full_size(image_size, sizes):
    assert growing(image_size) == sizes


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 10, 51, 300])
def test_every_epoch_has_a_size_none_shrinks_and_the_last_is_full(epochs):
    for sizes in ((64,), (32, 64), (32, 48, 64)):
        found = planned(sizes, epochs)
        assert len(found) == epochs and found[-1] == 64 and found == sorted(found)
        assert found.count(sizes[0]) == first(sizes, epochs)


def test_each_stage_has_the_same_time():
    found = planned((32, 48, 64), 300)
    times = [found.count(size) * size**2 for size in (32, 48, 64)]
    assert max(times) / min(times) < 1.05
