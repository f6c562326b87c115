"""A run's folder in a bucket, against the emulator and its faults."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_simclr import small_networks

import main
from simclr_rhd.core.errors import UserError
from simclr_rhd.data.sources.base import BucketAccess
from simclr_rhd.runs.outputs import is_output, list_outputs
from simclr_rhd.runs.remote_run_dir import ConcurrentWriteError, Mirror, open_mirror

ROOT = Path(__file__).resolve().parents[2]
NAMES = itertools.count()


@pytest.fixture
def place(gcs, monkeypatch):
    """gs://BUCKET/runs/a, empty."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    gcs.upload_faults.clear()
    bucket = f"mirror-{next(NAMES)}"
    gcs.put(bucket, "runs/b/run.json", b"of another run")
    return f"gs://{bucket}/runs/a"


def there(gcs, place):
    bucket, _, prefix = place.removeprefix("gs://").partition("/")
    blobs = gcs.client().list_blobs(bucket, prefix=prefix + "/")
    return {blob.name.removeprefix(prefix + "/"): blob.download_as_bytes() for blob in blobs}


def folder(tmp_path, name="here", **files):
    found = tmp_path / name
    found.mkdir(exist_ok=True)
    for file, content in files.items():
        (found / f"{file}.pt").write_bytes(content)
    return found


def mirror(place, found, tmp_path):
    return Mirror(place, found, BucketAccess(tmp_path / f"cache-{found.name}"))


def test_what_changed_is_brought_there_and_taken_over_elsewhere(tmp_path, gcs, place):
    here = folder(tmp_path, simclr_best=b"1", simclr_last=b"1" * 9_000_000)  # the second in pieces
    (here / "fold-2").mkdir()
    (here / "fold-2" / "simclr_best.pt").write_bytes(b"f")
    (here / "notes.txt").write_bytes(b"of the user")
    ours = mirror(place, here, tmp_path)
    ours.pull()
    ours.push()
    wanted = {"simclr_best.pt": b"1", "simclr_last.pt": b"1" * 9_000_000, "fold-2/simclr_best.pt": b"f"}
    assert there(gcs, place) == wanted
    (here / "simclr_best.pt").write_bytes(b"2")
    (here / "simclr_last.pt").unlink()
    ours.push()
    assert there(gcs, place) == {"simclr_best.pt": b"2", "fold-2/simclr_best.pt": b"f"}
    other = folder(tmp_path, "other", model=b"of an older run")
    mirror(place, other, tmp_path).pull()
    assert {name: (other / name).read_bytes() for name in list_outputs(other)} == there(gcs, place)
    assert not list((tmp_path / "cache-other").glob("objects/*/*/*[0-9]"))  # a checkpoint is not kept twice


def test_a_folder_that_was_the_last_to_write_stays_as_it_is(tmp_path, gcs, place):
    here = folder(tmp_path, simclr_last=b"1")
    mirror(place, here, tmp_path).push()
    (here / "simclr_last.pt").write_bytes(b"newer, not brought there yet")
    (here / "model.pt").write_bytes(b"new")
    again = mirror(place, here, tmp_path)
    again.pull()
    assert (here / "simclr_last.pt").read_bytes() == b"newer, not brought there yet"
    again.push()
    assert there(gcs, place)["model.pt"] == b"new"


def test_nothing_is_sent_twice(tmp_path, gcs, place):
    here = folder(tmp_path, simclr_last=b"1")
    mirror(place, here, tmp_path).push()
    again = mirror(place, here, tmp_path)
    again.pull()
    gcs.upload_faults += ["reset"] * 9
    again.push()
    assert len(gcs.upload_faults) == 9


def test_killed_between_a_file_and_the_note_of_it(tmp_path, place, monkeypatch):
    here = folder(tmp_path, simclr_last=b"1")
    first = mirror(place, here, tmp_path)
    monkeypatch.setattr(first, "_write_manifest", lambda: None)
    first.push()
    (here / "model.pt").write_bytes(b"new")
    again = mirror(place, here, tmp_path)
    again.pull()  # what is there is what is here: nobody else has written
    assert list_outputs(here) == ["model.pt", "simclr_last.pt"]


@pytest.mark.parametrize("faults", [[503], [429, 503], ["reset"], ["lost"]])
def test_faults_are_overcome(tmp_path, gcs, place, faults):
    here = folder(tmp_path, simclr_last=b"1", simclr_best=b"2")
    gcs.upload_faults += faults
    mirror(place, here, tmp_path).push()
    assert there(gcs, place) == {"simclr_last.pt": b"1", "simclr_best.pt": b"2"}


def test_a_bucket_that_refuses_does_not_stop_the_training_but_the_end_says_so(tmp_path, gcs, place, caplog):
    here = folder(tmp_path, simclr_last=b"1")
    with pytest.raises(UserError, match="access denied .403.*Storage Object Admin"):
        with open_mirror(place, here, BucketAccess(tmp_path / "cache")) as found:
            gcs.upload_faults += [403, 403]
            found.push_if_due()
    assert there(gcs, place) == {}
    with pytest.raises(KeyboardInterrupt):  # whatever the bucket says
        with open_mirror(place, here, BucketAccess(tmp_path / "cache")):
            gcs.upload_faults += [403]
            raise KeyboardInterrupt


def test_two_runs_do_not_write_to_one_place(tmp_path, place):
    one, two = (folder(tmp_path, name, simclr_last=name.encode()) for name in ("one", "two"))
    first, second = mirror(place, one, tmp_path), mirror(place, two, tmp_path)
    for of in (first, second):
        of.pull()
    first.push()
    with pytest.raises(ConcurrentWriteError, match=r"another run has written simclr_last\.pt there"):
        second.push_if_due()


def test_names_that_no_run_writes_are_left_alone(tmp_path, gcs, place):
    bucket, _, prefix = place.removeprefix("gs://").partition("/")
    gcs.put(bucket, f"{prefix}/../escape.pt", b"x")
    gcs.put(bucket, f"{prefix}/fold-1/other.pt", b"x")
    gcs.put(bucket, f"{prefix}/run.json", b"{}")
    here = folder(tmp_path)
    mirror(place, here, tmp_path).pull()
    assert [path.name for path in here.iterdir() if path.name != ".mirror.json"] == ["run.json"]
    assert (
        not is_output("../model.pt")
        and not is_output("fold-1/../model.pt")
        and is_output("fold-12/history.jsonl")
    )


def test_a_folder_that_lost_files_gets_them_back_and_takes_none_away(tmp_path, gcs, place):
    here = folder(tmp_path, simclr_last=b"1", model=b"2")
    mirror(place, here, tmp_path).push()
    (here / "model.pt").unlink()
    again = mirror(place, here, tmp_path)
    again.pull()
    again.push()
    assert (here / "model.pt").read_bytes() == b"2" and set(there(gcs, place)) == {
        "model.pt",
        "simclr_last.pt",
    }


def test_a_bucket_that_was_emptied_is_not_filled_again_by_itself(tmp_path, gcs, place):
    here = folder(tmp_path, model=b"2")
    mirror(place, here, tmp_path).push()
    bucket, _, prefix = place.removeprefix("gs://").partition("/")
    gcs.client().bucket(bucket).blob(f"{prefix}/model.pt").delete()
    with pytest.raises(UserError, match="is empty, and .* was like it once"):
        mirror(place, here, tmp_path).pull()


def test_what_was_cleared_goes_before_anything_new_arrives(tmp_path, gcs, place):
    here = folder(tmp_path, simclr_last=b"old", model=b"old")
    (here / "run.json").write_bytes(b"old")
    ours = mirror(place, here, tmp_path)
    ours.push()
    for path in list(here.glob("*.*")):
        path.unlink() if path.name != ".mirror.json" else None
    (here / "run.json").write_bytes(b"new")
    (here / "simclr_best.pt").write_bytes(b"new")
    gcs.upload_faults += [403]
    with pytest.raises(UserError, match="403"):
        ours.push()
    assert there(gcs, place) == {"run.json": b"old"}  # no checkpoint of the old run beside a new record


def test_a_second_writer_is_noticed_before_its_files_mix(tmp_path, gcs, place):
    one, two = folder(tmp_path, "one", simclr_last=b"1"), folder(tmp_path, "two", simclr_last=b"2")
    first, second = mirror(place, one, tmp_path), mirror(place, two, tmp_path)
    first.push()
    (two / "simclr_last.pt").unlink()
    (two / "model.pt").write_bytes(b"2")
    with pytest.raises(ConcurrentWriteError):
        second.push()
    assert there(gcs, place) == {"simclr_last.pt": b"1"}


TRAIN = "--demo-patients 12 --image-size 32 --epochs 3 --linear-epochs 3 --batch-size 16 --patience 9".split()
QUIET = "--no-figures --no-rehearsal --checkpoint-minutes 1e-6".split()


def test_a_whole_run_in_a_bucket_is_finished_there_and_not_repeated_elsewhere(tmp_path, gcs, place, capfd):
    words = [*TRAIN, *QUIET, *"--epochs 1 --precision float32 --save-dir".split(), place, "--cache-dir"]
    with small_networks():
        assert main.main([*words, str(tmp_path / "one")]) == 0
    assert {"model.pt", "metrics.json", "report.html", "run.json"} <= set(there(gcs, place))
    shutil.rmtree(tmp_path / "one" / "runs")
    assert main.main([*words, str(tmp_path / "one")]) == 0
    log = capfd.readouterr().out
    assert "This run was finished on" in log and f"all files are uploaded to {place}" in log


@pytest.mark.slow
def test_killed_on_machines_that_lose_their_disks_a_run_ends_with_the_same_weights(tmp_path, gcs, place):
    environment = os.environ | {"STORAGE_EMULATOR_HOST": gcs.url}

    def start(save_dir, cache):
        command = [
            sys.executable,
            "main.py",
            *TRAIN,
            *QUIET,
            "--save-dir",
            str(save_dir),
            "--cache-dir",
            str(cache),
        ]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    whole = start(tmp_path / "whole", tmp_path / "cache")
    started = seconds = 0.0
    for line in whole.stdout:
        if "adamw in " in line:
            started = time.perf_counter()
        if "pretraining: all epochs" in line:
            seconds = time.perf_counter() - started
    assert whole.wait(120) == 0
    wanted = torch.load(tmp_path / "whole" / "model.pt", weights_only=True)
    rng, killed, resumed = random.Random(2), 0, 0
    for _ in range(12):
        gcs.upload_faults += rng.sample([503, "reset", "lost", 429], 2)
        process = start(place, tmp_path / "cache")
        for line in process.stdout:
            resumed += "resumed after" in line
            if ("adamw in " in line or "resumed" in line) and killed < 5:
                time.sleep(rng.uniform(seconds / 4, seconds))
                process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        shutil.rmtree(tmp_path / "cache" / "runs")  # the machine is gone
        if process.returncode == 0:
            break
    assert process.returncode == 0 and killed >= 3 and resumed >= 1
    (tmp_path / "model.pt").write_bytes(there(gcs, place)["model.pt"])
    found = torch.load(tmp_path / "model.pt", weights_only=True)
    for part in ("encoder", "heads", "novelty"):
        for name, value in wanted[part].items():
            assert torch.equal(found[part][name], value), name
