import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main
from simclr_rhd import cli
from simclr_rhd.core import logs


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ImportError("libtorch_cpu.so: failed to map segment\nfrom shared object"), 1, "cannot be loaded"),
        (ModuleNotFoundError("No module named 'umap'", name="umap"), 2, "pip install umap-learn"),
        (MemoryError(), 1, "the memory does not suffice (MemoryError). A smaller"),
        (MemoryError("Unable to allocate 9 GiB"), 1, "the memory does not suffice (Unable"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
            1,
            "suffice",
        ),
        (torch.OutOfMemoryError("CUDA out of memory."), 1, "--batch-size"),
        (RuntimeError("can't start new thread"), 1, "`ulimit -v`"),
    ],
)
def test_what_memory_does_not_suffice_for_is_one_sentence(monkeypatch, capfd, error, status, message):
    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "run", fail)
    assert main.main(["--demo-patients", "12"]) == status
    printed = capfd.readouterr().err
    assert message in printed and "Traceback" not in printed and printed.count("\n") == 1


def test_other_errors_are_reported_as_they_are(monkeypatch, capfd):
    monkeypatch.setattr(cli, "run", lambda *_: [].index(3))
    assert main.main([]) == 1
    assert "internal error" in (printed := capfd.readouterr().err) and "Traceback" in printed


def test_a_limit_on_memory_is_one_sentence(tmp_path):
    command = f"ulimit -v 600000; exec {sys.executable} main.py --save-dir {tmp_path} --cache-dir {tmp_path}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=Path(main.__file__).parent,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "ulimit -v" in done.stderr and "Traceback" not in done.stderr


def stopped(*_):
    raise KeyboardInterrupt


def test_a_stop_before_anything_is_saved_promises_nothing(monkeypatch, capfd):
    monkeypatch.setattr(cli, "run", stopped)
    assert main.main(["estimate"]) == 130 and capfd.readouterr().err.endswith("  stopped\n")


def test_a_stop_of_a_run_that_has_begun_names_the_way_on(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(cli, "run", lambda *_: logs.log_to(tmp_path) or stopped())
    assert main.main(["--overwrite"]) == 130
    assert "is saved, and the same command, without --overwrite, continues" in capfd.readouterr().err
