import json
import sys

import pytest
from small_run import arguments, run_small

import main


def test_tensorboard_curves_can_be_read(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    more = ["--no-figures", "--no-rehearsal", "--tensorboard"]
    assert run_small(arguments(tmp_path / "cache", tmp_path / "run", *more)) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    for name in ("loss", "val_loss", "alignment", "uniformity", "rank"):
        (point,) = events.Scalars(f"simclr/{name}")
        assert point.step == 1 and point.value == pytest.approx(history[0][name], rel=1e-6)


def test_a_missing_tensorboard_is_named_at_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main.main(arguments(tmp_path / "cache", tmp_path / "run", "--tensorboard")) == 2
    printed = capfd.readouterr()
    assert "pip install tensorboard" in printed.err and "epoch 1/1" not in printed.out
