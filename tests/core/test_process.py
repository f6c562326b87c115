import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import main
from simclr_rhd import cli
from simclr_rhd.core import process


def test_the_file_has_the_log_from_its_first_line(tmp_path, capfd):
    process.start_log()
    try:
        process.logger.info("before the folder is known")
        process.log_to(tmp_path)
        process.logger.info("after")
        process.logger.error("wrong")
    finally:
        process.stop_log()
    lines = (tmp_path / "simclr_rhd.log").read_text().splitlines()
    assert [line.split(" ", 3)[2:] for line in lines] == [
        ["INFO", "before the folder is known"],
        ["INFO", "after"],
        ["ERROR", "wrong"],
    ]
    out, err = capfd.readouterr()
    assert "after" in out and "wrong" not in out and err.endswith("wrong\n") and "after" not in err
    assert logging.getLogger("simclr_rhd").handlers == []


def test_a_resumed_run_goes_on_with_the_file(tmp_path):
    for text in ("first", "second"):
        process.start_log()
        process.log_to(tmp_path)
        process.logger.info(text)
        process.stop_log()
    assert (tmp_path / "simclr_rhd.log").read_text().count("\n") == 2
    assert (tmp_path / "simclr_rhd.log").stat().st_mode & 0o777 == 0o600


def test_progress_in_a_file_is_a_line_now_and_then(monkeypatch, caplog):
    monkeypatch.setattr(process, "LOG_INTERVAL_S", -1)
    with caplog.at_level(logging.INFO):
        stream = process.progress(
            range(1, 4), total=3, label="here", unit="files", amount=lambda item: item, amount_unit="MB"
        )
        assert list(stream) == [1, 2, 3]
    assert len(caplog.messages) == 3
    assert re.fullmatch(r"here: 2 of 3 files, \d+ files/s, [\d.]+ MB/s, 0 s left", caplog.messages[1])


def test_names_command_no_terminal(tmp_path, capfd):
    process.start_log()
    try:
        process.log_to(tmp_path)
        process.logger.info("a\x1b[2Jb\x1b]0;title\x07c\x9bd\u202ee\tf\ng \u00e9")
        process.logger.error("%s", "\x1b[31mred\r")
    finally:
        process.stop_log()
    said = "".join(capfd.readouterr()) + (tmp_path / "simclr_rhd.log").read_text()
    assert said.count("abcde\tf\ng \u00e9\n") == 2 and said.count("red") == 2
    assert all(letter.isprintable() or letter in "\t\n" for letter in said)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ImportError("libtorch_cpu.so: failed to map segment\nfrom shared object"), 1, "cannot be loaded"),
        (ModuleNotFoundError("No module named 'umap'", name="umap"), 2, "pip install umap-learn"),
        (MemoryError(), 1, "the memory does not suffice (MemoryError); what is finished is saved"),
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
def test_what_memory_does_not_suffice_for_is_one_sentence(monkeypatch, capfd, error, status, told):
    def fail(*_):
        raise error

    monkeypatch.setattr(cli, "run", fail)
    assert main.main(["--demo-patients", "12"]) == status
    said = capfd.readouterr().err
    assert told in said and "Traceback" not in said and said.count("\n") == 1


def test_other_errors_are_reported_as_they_are(monkeypatch, capfd):
    monkeypatch.setattr(cli, "run", lambda *_: [].index(3))
    assert main.main([]) == 1
    assert "internal error" in (said := capfd.readouterr().err) and "Traceback" in said


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
