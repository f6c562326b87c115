"""The floating-point type of the training."""

from dataclasses import replace

import pytest
import torch

from simclr_rhd.core.errors import UserError
from simclr_rhd.planning import precision
from simclr_rhd.planning.plan_training import on_this_device
from simclr_rhd.planning.precision import bfloat16_speedup, resolve_precision
from simclr_rhd.ssl.config import TrainingSettings

CPU = torch.device("cpu")


@pytest.fixture
def speedup(monkeypatch):
    """Set what the measurement gives."""
    return lambda value: monkeypatch.setattr(precision, "bfloat16_speedup", lambda: value)


@pytest.mark.parametrize(("value", "picked"), [(2.1, "bfloat16"), (1.05, "float32"), (0.04, "float32")])
def test_auto_takes_bfloat16_where_it_was_measured_to_be_faster(speedup, value, picked):
    speedup(value)
    assert resolve_precision("auto", CPU) == picked
    assert resolve_precision("float32", CPU) == "float32"


def test_bfloat16_can_be_asked_for_where_it_is_not_many_times_slower(speedup):
    speedup(0.9)
    assert resolve_precision("bfloat16", CPU) == "bfloat16"
    speedup(0.04)
    with pytest.raises(UserError, match="--precision bfloat16: this machine has no instructions"):
        resolve_precision("bfloat16", CPU)


class Slow(torch.nn.Module):
    """Stands in for the network: takes as many times longer in bfloat16 as it is told."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.precision, self.passes = factor, None, 0
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, views):
        self.passes += 1
        self.clock.now += self.factor if self.precision == torch.bfloat16 else 1.0
        return self.weight * views.mean()


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize(("factor", "found", "passes"), [(0.5, 2.0, 8), (2.5, 0.4, 8), (20.0, 0.0, 4)])
def test_the_speed_up_is_measured_and_a_slow_emulation_is_tried_once(monkeypatch, factor, found, passes):
    model, model_clock = Slow(factor), Clock()
    model.clock = model_clock
    monkeypatch.setattr(precision, "build", lambda init, seed: model)
    monkeypatch.setattr(precision, "time", model_clock)
    assert bfloat16_speedup.__wrapped__() == pytest.approx(found)
    assert model.passes == passes


def test_the_network_itself_is_measured():
    assert 0 <= bfloat16_speedup() < 20


def test_a_run_goes_on_in_the_numbers_it_began_with_or_in_those_that_can_be_used(speedup):
    began = TrainingSettings(64, None, 1e-3, 0.01, 1.0, "video", "bfloat16")
    speedup(0.9)  # usable, if not faster
    assert on_this_device(began, CPU) == began
    assert on_this_device(replace(began, precision="float32"), CPU).precision == "float32"
    assert on_this_device(replace(began, precision="float16"), CPU).precision == "float32", "from a GPU"
    speedup(0.04)
    assert on_this_device(began, CPU) == replace(began, precision="float32")


def test_gpus_of_apple_train_in_float32(speedup):
    speedup(9.0)  # of the processor
    assert resolve_precision("auto", torch.device("mps")) == "float32"
    with pytest.raises(UserError, match="--precision bfloat16"):
        resolve_precision("bfloat16", torch.device("mps"))
    settings = TrainingSettings(precision="bfloat16")
    assert on_this_device(settings, torch.device("mps")).precision == "float32"
