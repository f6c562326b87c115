"""`benchmarks/gpu.py`: its rows on this processor, faults that are planted, and processes that die."""

import argparse
import importlib.util
import json
import queue
import subprocess
import sys
from pathlib import Path

import pytest
from small_simclr import small_networks

from simclr_rhd.core import device as runtime
from simclr_rhd.inference import predictor as inference
from simclr_rhd.ssl.step import Step

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    spec = importlib.util.spec_from_file_location("gpu_benchmark", BENCHMARKS / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(runtime, "make_deterministic", lambda: None)  # which would change this process
    return module


def rows_of(gpu, capsys, tmp_path, names):
    """{row: its status}, computed in this process."""
    gpu.work(names, tiny=True, data=None, folder=tmp_path)
    lines = [line[1:] for line in capsys.readouterr().out.split("\n") if line.startswith("\x1e")]
    return {record["row"]: record for record in map(json.loads, lines) if "row" in record}


QUICK = ["views", "micro-batch", "inference", "gaps"]


def test_rows_hold_on_a_processor(gpu, capsys, tmp_path):
    names = ["float32", *QUICK]
    found = rows_of(gpu, capsys, tmp_path, names)
    assert list(found) == names
    assert {record["status"] for record in found.values()} == {"holds", "ran, not judged"}, found


def test_a_wrong_gradient_fails_in_its_row_alone(gpu, capsys, tmp_path, monkeypatch):
    right = Step.backward

    def wrong(self, batch):
        """In pieces the gradient lacks a third."""
        loss = right(self, batch)
        if self.micro_batch:
            for p in self.model.parameters():
                p.grad *= 2 / 3
        return loss

    monkeypatch.setattr(Step, "backward", wrong)
    with small_networks():
        found = rows_of(gpu, capsys, tmp_path, QUICK)
    assert [name for name, record in found.items() if record["status"] == "FAILED"] == ["micro-batch"]
    assert "within 3.3e-01" in found["micro-batch"]["text"]


def test_an_exception_fails_in_its_row_alone(gpu, capsys, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(inference.Model, "predict_squares", broken)
    with small_networks():
        found = rows_of(gpu, capsys, tmp_path, QUICK)
    assert [name for name, record in found.items() if record["status"] == "FAILED"] == ["inference"]
    assert found["inference"]["text"] == "RuntimeError: no kernel image is available"


class Scripted:
    """A worker that tells what it is given; an int is its exit status, None that it hangs."""

    scripts: list = []
    asked: list = []

    def __init__(self, names, options, folder):
        self.asked.append(list(names))
        self.script, self.status = [{"machine": {"device": "CPU"}, "tiny": True}, *self.scripts.pop(0)], 0

    def next(self, seconds):
        record = self.script.pop(0)
        if record is None:
            raise queue.Empty
        if isinstance(record, int):
            self.status = record
            return None
        return record

    def end(self):
        return self.status


def ended(name):
    return {"row": name, "status": "holds", "text": "", "figures": {}, "seconds": 1.0}


def supervised(gpu, monkeypatch, tmp_path, *scripts, minutes=8.0):
    monkeypatch.setattr(gpu, "Worker", Scripted)
    Scripted.scripts, Scripted.asked = list(scripts), []
    only = ["float32", "bfloat16", "float16", "views"]
    options = argparse.Namespace(minutes=minutes, only=only, tiny=True, data=None, out=tmp_path / "gpu.json")
    report = gpu.supervise(options, tmp_path)
    assert json.loads(options.out.read_text()) == report, "the file says what was found"
    return report["rows"]


def test_a_row_that_kills_its_process_fails_and_the_rest_is_done_by_another(gpu, monkeypatch, tmp_path):
    first = [{"begins": "float32"}, ended("float32"), {"begins": "bfloat16"}, -11]
    second = [{"begins": "float16"}, ended("float16"), {"begins": "views"}, ended("views"), 0]
    rows = supervised(gpu, monkeypatch, tmp_path, first, second)
    assert rows["bfloat16"]["status"] == "FAILED" and "status -11" in rows["bfloat16"]["text"]
    assert {rows[name]["status"] for name in ("float32", "float16", "views")} == {"holds"}
    assert Scripted.asked[1] == ["float16", "views"]


def test_a_gpu_that_is_lost_after_a_row_does_not_fail_the_next_one(gpu, monkeypatch, tmp_path):
    first = [{"begins": "float32"}, ended("float32"), 1]  # its process ends when it waits for the GPU
    second = [ended(name) for name in ("bfloat16", "float16", "views")] + [0]
    rows = supervised(gpu, monkeypatch, tmp_path, first, second)
    assert {record["status"] for record in rows.values()} == {"holds"} and len(rows) == 4


def test_a_row_that_hangs_fails(gpu, monkeypatch, tmp_path):
    first = [{"begins": "float32"}, None]
    second = [ended(name) for name in ("bfloat16", "float16", "views")] + [0]
    rows = supervised(gpu, monkeypatch, tmp_path, first, second)
    assert rows["float32"]["status"] == "FAILED" and "too long" in rows["float32"]["text"]
    assert rows["views"]["status"] == "holds"


def test_a_process_that_cannot_begin_does_not_go_on_for_ever(gpu, monkeypatch, tmp_path):
    rows = supervised(gpu, monkeypatch, tmp_path, [1], [1], [1], [1])
    assert {record["status"] for record in rows.values()} == {"FAILED"} and len(rows) == 4


def test_without_time_rows_are_not_run_and_named(gpu, monkeypatch, tmp_path):
    rows = supervised(gpu, monkeypatch, tmp_path, minutes=0.0)
    assert {record["status"] for record in rows.values()} == {"not run"} and len(rows) == 4


@pytest.mark.slow
def test_the_whole_command_on_a_processor(tmp_path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--tiny", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 19 and {record["status"] for record in rows.values()} <= {"holds", "ran, not judged"}
    assert "NO GPU HERE" in done.stdout
