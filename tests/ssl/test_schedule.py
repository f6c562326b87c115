import pytest

from simclr_rhd.ssl.schedule import (
    annealed_rate_at,
    annealing_epochs,
    first_stage_epochs,
    progressive_sizes,
    size_per_epoch,
    stable_epochs,
)


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
    assert progressive_sizes(image_size) == sizes


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 10, 51, 300])
def test_every_epoch_has_a_size_none_shrinks_and_the_last_is_full(epochs):
    for sizes in ((64,), (32, 64), (32, 48, 64)):
        found = size_per_epoch(sizes, epochs)
        assert len(found) == epochs and found[-1] == 64 and found == sorted(found)
        if len(sizes) > 1:
            assert found.count(sizes[0]) == min(first_stage_epochs(sizes, epochs), stable_epochs(epochs))


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 15, 100, 300])
def test_the_annealing_has_a_fifth_of_the_epochs_before_it_and_ends_the_course(epochs):
    stable = stable_epochs(epochs)
    assert 0 <= stable < epochs and epochs - stable <= annealing_epochs(stable)
    assert epochs < 10 or 0.15 < (epochs - stable) / epochs < 0.21


def test_each_stage_has_the_same_time():
    found = size_per_epoch((32, 48, 64), 300)
    times = [found.count(size) * size**2 for size in (32, 48, 64)]
    assert max(times) / min(times) < 1.25, "the annealing takes some of the second for the last"


def test_the_learning_rate_warms_up_and_falls_to_zero():
    rates = [annealed_rate_at(step, warmup=10, annealing=(10, 90), peak=2.0) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0 and rates[55] == pytest.approx(1.0) and rates[100] == 0.0
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_rate_of_pretraining_stays_at_its_peak_until_the_annealing():
    course = [annealed_rate_at(step, warmup=4, annealing=(20, 8), peak=2.0) for step in range(29)]
    assert course[:4] == [0.5, 1.0, 1.5, 2.0] and set(course[4:21]) == {2.0}
    assert course[24] == pytest.approx(1.0) and course[28] == pytest.approx(0.0)
    assert annealed_rate_at(10**6, warmup=4, annealing=None, peak=2.0) == 2.0
    assert annealed_rate_at(0, warmup=0, annealing=(0, 1), peak=2.0) == 2.0
