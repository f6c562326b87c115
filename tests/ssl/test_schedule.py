import pytest

from simclr_rhd.ssl.schedule import (
    Schedule,
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


def course(schedule):
    """The sizes of the epochs to come."""
    sizes = []
    while not schedule.is_finished():
        sizes.append(schedule.size)
        schedule.end_epoch()
    return sizes


@pytest.mark.parametrize("done", [0, 3, 9])
def test_a_shortened_course_is_annealed_and_ends_at_full_size(done):
    schedule = Schedule(30, (32, 48, 64))
    for _ in range(done):
        schedule.end_epoch()
    schedule.shorten(12)
    sizes = course(schedule)
    assert schedule.epochs_done == 12 and sizes == sorted(sizes) and sizes[-2:] == [64, 64]
    assert schedule.annealing == [10, 2]
    if done == 0:
        assert sizes == size_per_epoch((32, 48, 64), 12)


def test_a_course_is_not_made_longer_and_not_changed_while_it_anneals():
    schedule = Schedule(12, (32, 64))
    schedule.shorten(40)
    assert schedule.epochs == 12
    for _ in range(10):
        schedule.end_epoch()
    schedule.shorten(11)
    assert schedule.last_epoch == 12 and len(course(schedule)) == 2


def test_a_saved_course_stays_shortened():
    schedule, again = Schedule(30, (32, 64)), Schedule(30, (32, 64))
    for _ in range(5):
        schedule.end_epoch()
    schedule.shorten(9)
    again.load_state(schedule.state(), epochs_done=5)
    assert again.epochs == 9 and course(again) == course(schedule)
    before = {name: value for name, value in Schedule(30, (32, 64)).state().items() if name != "epochs"}
    again = Schedule(30, (32, 64))
    again.load_state(before, epochs_done=0)
    assert again.epochs == 30, "a state from before courses could be shortened"
