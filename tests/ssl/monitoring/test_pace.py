"""The pace of a pretraining, by a clock that the test turns."""

import logging
from types import SimpleNamespace

import pytest
import torch

from simclr_rhd.core import distributed as ranks
from simclr_rhd.core import logs
from simclr_rhd.runs.context import RunContext
from simclr_rhd.runs.record import RunRecord
from simclr_rhd.runs.time_limit import TimeLimit
from simclr_rhd.ssl.monitoring.pace import Pace
from simclr_rhd.ssl.schedule import Schedule, size_per_epoch

SIZES, EPOCH_S = (32, 64), {32: 5.0, 64: 10.0}
EPOCHS, AFTER_S = 12, 40.0
PLANNED_S = sum(EPOCH_S[size] for size in size_per_epoch(SIZES, EPOCHS))


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=30.0)
    monkeypatch.setattr(logs, "elapsed", lambda: now.s)
    return now


def make_run(tmp_path, *, spare_s=10.0, pretrainings=1):
    minutes = (30.0 + pretrainings * PLANNED_S + AFTER_S + spare_s) / 60
    return RunContext(
        tmp_path, torch.device("cpu"), RunRecord(None), limit=TimeLimit(minutes, AFTER_S, EPOCH_S)
    )


def train(pace, clock, slowness):
    """Go through the course, an epoch in `slowness(epoch)` times its planned time; when it was annealed."""
    schedule = pace.schedule
    while not schedule.is_finished():
        size = schedule.size
        seconds = slowness(schedule.epochs_done + 1) * EPOCH_S[size]
        clock.s += seconds
        schedule.end_epoch()
        pace(SimpleNamespace(seconds=seconds, size=size))
    return schedule.annealing


@pytest.mark.parametrize("slowness", [0.3, 1.0, 1.03])
def test_a_course_at_the_planned_pace_stays_as_it_is(tmp_path, clock, slowness):
    run = make_run(tmp_path)
    schedule, untouched = Schedule(EPOCHS, SIZES), Schedule(EPOCHS, SIZES)
    train(Pace(schedule, run, n_left=1), clock, lambda epoch: slowness)
    while not untouched.is_finished():
        untouched.end_epoch()
    assert schedule.state() == untouched.state() and schedule.epochs_done == EPOCHS
    assert "plan_changes" not in run.record.facts


@pytest.mark.parametrize("slowness", [lambda epoch: 1.5, lambda epoch: 3.0, lambda epoch: 1.0 + (epoch > 4)])
def test_on_a_slower_machine_the_course_is_annealed_earlier_and_ends_in_time(
    tmp_path, clock, slowness, caplog
):
    run, schedule = make_run(tmp_path), Schedule(EPOCHS, SIZES)
    logging.getLogger("simclr_rhd").propagate = True
    with caplog.at_level(logging.INFO, "simclr_rhd"):
        before, epochs = train(Pace(schedule, run, n_left=1), clock, slowness)
    assert 1 < schedule.epochs_done == before + epochs < EPOCHS
    assert run.limit.left_for_pretraining_s() > -EPOCH_S[64], "a change is known after some epochs"
    assert f"{schedule.epochs} epochs instead of" in caplog.text
    assert run.record.facts["plan_changes"][-1] in caplog.text


def test_what_follows_is_expected_to_be_as_slow(tmp_path, clock):
    run, schedule = make_run(tmp_path), Schedule(EPOCHS, SIZES)
    train(Pace(schedule, run, n_left=1), clock, lambda epoch: 1.5)
    assert 1.5 * AFTER_S <= run.limit.left_s() < 1.5 * (AFTER_S + EPOCH_S[64] + EPOCH_S[32])


def test_without_any_time_left_one_epoch_anneals_and_the_run_goes_on(tmp_path, clock):
    run, schedule = make_run(tmp_path), Schedule(EPOCHS, SIZES)
    assert train(Pace(schedule, run, n_left=1), clock, lambda epoch: 100.0) == [2, 1]
    assert schedule.epochs_done == 3


def test_the_first_epoch_of_a_process_decides_nothing(tmp_path, clock):
    """It reads the frames and takes its memory: those after it are quicker."""
    run, schedule = make_run(tmp_path), Schedule(EPOCHS, SIZES)
    train(Pace(schedule, run, n_left=1), clock, lambda epoch: 2.5 if epoch == 1 else 1.0)
    assert schedule.epochs_done == EPOCHS


def test_one_slow_epoch_at_the_beginning_does_not_decide_alone(tmp_path, clock):
    run, schedule = make_run(tmp_path, spare_s=20.0), Schedule(EPOCHS, SIZES)
    train(Pace(schedule, run, n_left=1), clock, lambda epoch: 1.4 if epoch == 2 else 1.0)
    assert schedule.epochs_done == EPOCHS


def test_one_slow_epoch_within_the_margin_changes_nothing(tmp_path, clock):
    run, schedule = make_run(tmp_path, spare_s=30.0), Schedule(EPOCHS, SIZES)
    train(Pace(schedule, run, n_left=1), clock, lambda epoch: 1.6 if epoch == 5 else 1.0)
    assert schedule.epochs_done == EPOCHS


def test_a_single_stall_costs_no_more_than_its_own_time(tmp_path, clock):
    run, schedule = make_run(tmp_path, spare_s=20 * EPOCH_S[32]), Schedule(EPOCHS, SIZES)
    train(Pace(schedule, run, n_left=1), clock, lambda epoch: 15.0 if epoch == 4 else 1.0)
    assert schedule.epochs_done == EPOCHS and "plan_changes" not in run.record.facts


def test_pretrainings_share_the_time(tmp_path, clock):
    """Each of three has a third of what is left: the first ones leave the others theirs."""
    run, lengths = make_run(tmp_path, pretrainings=3), []
    for n_left in (3, 2, 1):
        schedule = Schedule(EPOCHS, SIZES)
        train(Pace(schedule, run, n_left=n_left), clock, lambda epoch: 1.5)
        lengths.append(schedule.epochs_done)
    assert max(lengths) - min(lengths) <= 1 and max(lengths) < EPOCHS
    assert run.limit.left_for_pretraining_s() >= 0


def test_the_other_ranks_do_as_the_leader_decides(tmp_path, clock, monkeypatch):
    schedule = Schedule(EPOCHS, SIZES)
    monkeypatch.setattr(ranks, "broadcast", lambda own: 7)
    train(Pace(schedule, make_run(tmp_path), n_left=1), clock, lambda epoch: 0.1)
    assert schedule.epochs_done == 7
