from dataclasses import replace

import pytest
import torch

import main
from simclr_rhd import runtime
from simclr_rhd.errors import UserError
from simclr_rhd.settle import Settled

CPU = torch.device("cpu")


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Make it one with some instructions."""

    def has(*flags):
        monkeypatch.setattr(runtime, "CPUINFO", tmp_path / "cpuinfo")
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu sse2 avx512f {' '.join(flags)}\n")

    return has


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_a_processor_with_the_instructions_trains_in_bfloat16(processor, flag):
    processor(flag)
    assert runtime.pick_precision("auto", CPU) == "bfloat16"
    assert runtime.pick_precision("bfloat16", CPU) == "bfloat16"
    assert runtime.pick_precision("float32", CPU) == "float32"


def test_one_without_them_trains_in_float32_and_refuses_what_would_take_days(processor):
    processor()
    assert runtime.pick_precision("auto", CPU) == "float32"
    with pytest.raises(UserError, match="--precision bfloat16: this machine has no instructions"):
        runtime.pick_precision("bfloat16", CPU)


def test_where_nothing_tells_the_instructions_it_is_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "CPUINFO", tmp_path / "none")
    assert runtime.pick_precision("auto", CPU) == "float32"


def test_a_run_goes_on_in_the_numbers_it_began_with_or_in_those_that_are_there(processor):
    began = Settled(64, None, 1e-3, 0.01, 1.0, "video", "bfloat16")
    processor("avx512_bf16")
    assert main.going_on(began, CPU) == began
    assert main.going_on(replace(began, precision="float32"), CPU).precision == "float32"
    processor()
    assert main.going_on(began, CPU) == replace(began, precision="float32")
