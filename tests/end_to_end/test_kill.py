"""A run that is killed, at whatever moment, leaves nothing that the next one believes."""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import main
from simclr_rhd.data.demo import dataset as demo

ROOT = Path(__file__).resolve().parents[2]
INGEST = """
import sys
from pathlib import Path
from simclr_rhd.data.config import DataConfig
from simclr_rhd.data.sources.open import open_data
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.store.store import open_store
data, cache = sys.argv[1], Path(sys.argv[2])
source = open_data(DataConfig(data=data, cache_dir=str(cache)))
print("begun", flush=True)
prefixes = ("supervised/annotated-final", "unsupervised-videos")
entries = [entry for prefix in prefixes for entry in source.files(prefix, flag="-")]
open_store(source, entries, DecodeOptions(64), cache_dir=cache)
"""


def run(data, cache, url):
    environment = os.environ | {"STORAGE_EMULATOR_HOST": url}
    return subprocess.Popen(
        [sys.executable, "-c", INGEST, data, str(cache)], cwd=ROOT, env=environment, stdout=subprocess.PIPE
    )


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_a_store_is_the_same_after_twenty_kills(tmp_path, gcs):
    demo.write_demo(tmp_path / "data", patients=12)
    gcs.upload("kill-bucket", tmp_path / "data")
    data = "gs://kill-bucket"
    whole = run(data, tmp_path / "whole", gcs.url)
    whole.stdout.readline()
    began = time.perf_counter()
    assert whole.wait(120) == 0
    seconds = time.perf_counter() - began
    rng, killed = random.Random(0), 0
    for number in range(100):
        cache = tmp_path / f"cache{number % 4}"
        process = run(data, cache, gcs.url)  # most go on where an earlier one was
        process.stdout.readline()
        time.sleep(rng.uniform(0, seconds))
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:  # it was done before: the next one starts anew
            shutil.rmtree(cache)
        if killed == 20:
            break
    assert killed == 20
    for number in range(4):
        cache = tmp_path / f"cache{number}"
        assert run(data, cache, gcs.url).wait(120) == 0
        assert contents(cache / "stores") == contents(tmp_path / "whole" / "stores")
        assert contents(cache / "objects") == contents(tmp_path / "whole" / "objects") | {
            name: found for name, found in contents(cache / "objects").items() if name.endswith(".part")
        }


TRAIN = "--demo-patients 12 --image-size 32 --epochs 4 --linear-epochs 5 --batch-size 16 --patience 9".split()
QUIET = "--no-figures --no-rehearsal --checkpoint-minutes 1e-6".split()


def train(cache, save_dir):
    command = [
        sys.executable,
        "main.py",
        *TRAIN,
        *QUIET,
        "--cache-dir",
        str(cache),
        "--save-dir",
        str(save_dir),
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def untimed(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "frames_per_s")} for row in rows]


@pytest.mark.slow
def test_a_run_ends_the_same_after_twenty_kills(tmp_path):
    """Killed after a random time of pretraining, within epochs and in the middle of a save."""
    cache, rng, killed, runs = tmp_path / "cache", random.Random(1), 0, 0
    whole = train(cache, tmp_path / "whole")
    for line in whole.stdout:
        if "adamw in " in line:
            began = time.perf_counter()
        if "pretraining: all epochs" in line:
            seconds = time.perf_counter() - began
    assert whole.wait(120) == 0
    wanted = torch.load(tmp_path / "whole" / "model.pt", weights_only=True)
    while killed < 20:
        runs += 1
        assert runs < 60
        process = train(cache, tmp_path / "run")
        if any("adamw in " in line or "resumed" in line or "finished on" in line for line in process.stdout):
            time.sleep(rng.uniform(0, seconds / 3))
            process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if killed < 20 and (tmp_path / "run" / "metrics.json").exists():
            assert same(tmp_path, wanted)
            shutil.rmtree(tmp_path / "run")
    while train(cache, tmp_path / "run").wait(120) != 0:
        pass
    assert same(tmp_path, wanted)
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.endswith(".part")]


def same(folder, wanted):
    found = torch.load(folder / "run" / "model.pt", weights_only=True)
    weights = all(
        torch.equal(found[part][name], value)
        for part in ("encoder", "heads")
        for name, value in wanted[part].items()
    )
    return weights and untimed(folder / "run" / "history.jsonl") == untimed(
        folder / "whole" / "history.jsonl"
    )


def test_a_full_disk_is_said_in_words(tmp_path, capfd):
    """No file may be larger than 50 MB: the weights fit, the optimizer's state does not."""
    folders = ["--cache-dir", str(tmp_path / "cache"), "--save-dir", str(tmp_path / "run")]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000 * 1024, before[1]))
    try:
        status = main.main([*TRAIN, *QUIET, *folders])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    errors = capfd.readouterr().err
    assert status == 1 and "File too large" in errors, errors
    assert "Traceback" not in errors and "the same command continues" in errors
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.endswith(".part")]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_the_middle_of_a_long_step_saves_and_ends_within_ten_seconds(tmp_path, number):
    """Steps of some 20 seconds, most of it in single calls that no signal interrupts."""
    words = (
        "--demo-patients 12 --image-size 224 --epochs 2 --batch-size 64 --no-figures --no-rehearsal".split()
    )
    folders = ["--cache-dir", str(tmp_path / "cache"), "--save-dir", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "main.py", *words, *folders],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if "adamw in " in line:
            break
    time.sleep(10)
    process.send_signal(number)
    began = time.monotonic()
    printed, _ = process.communicate(timeout=30)
    assert time.monotonic() - began < 10 and process.returncode == 128 + number, printed
    assert torch.load(tmp_path / "run" / "simclr_last.pt", weights_only=True)["format"]
