import threading
import time

import pytest

from simclr_rhd.core.threads import map_ordered


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_stand_in_the_order_of_the_items(workers):
    def slow_if_even(number):
        time.sleep(0.002 * (number % 2 == 0))
        return number

    assert list(map_ordered(slow_if_even, range(20), workers=workers)) == list(range(20))


def test_work_runs_ahead_by_a_bounded_number_of_items_and_its_threads_end():
    started, before = [], threading.active_count()
    stream = map_ordered(started.append, range(1000), workers=2)
    next(stream)
    time.sleep(0.05)
    assert 1 < len(started) <= 6
    stream.close()
    assert threading.active_count() == before and len(started) <= 6


def test_an_error_arrives_at_the_reader():
    with pytest.raises(ZeroDivisionError):
        list(map_ordered(lambda number: 1 // number, [1, 0], workers=2))
