"""Several processes: two gloo ranks compute what one process does; a rank that dies ends the others."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from rank_worker import RECIPES

from simclr_rhd.core import distributed
from simclr_rhd.core.errors import RankLost

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "--demo-patients 24 --image-size 32 --linear-epochs 5 --batch-size 32 --no-figures --no-rehearsal".split()
)
FILES = (
    "metrics.json",
    "predictions.csv",
    "split.csv",
    "rejected.csv",
    "model.pt",
    "simclr_best.pt",
    "run.json",
)


def launch(n, command, *, of_rank_1=None, **how):
    """`n` processes with the variables that torchrun sets; one may have a command of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(n),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [sys.executable, *(of_rank_1 if rank == 1 and of_rank_1 else command)],
            cwd=ROOT,
            env=os.environ
            | common
            | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(n)},
            **how,
        )
        for rank in range(n)
    ]


def torchrun(*command):
    """A command by two processes, once it has ended."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What one process found, and what each of two ranks did."""
    folder = tmp_path_factory.mktemp("ranks")
    for n, name in ((1, "one"), (2, "two")):
        for process in launch(n, ["tests/helpers/rank_worker.py", str(folder / name)]):
            assert process.wait(240) == 0
    found = torch.load(folder / "one.0"), [torch.load(folder / f"two.{rank}") for rank in range(2)]
    shutil.rmtree(folder)  # 2.7 GB
    return found


def test_the_gathered_loss_has_the_exact_gradient_of_the_whole_batch(results):
    one, two = results
    losses = [found["alone"]["loss"] for found in two]
    torch.testing.assert_close(torch.stack(losses).mean(), one["alone"]["loss"], atol=1e-6, rtol=1e-6)
    gradient = torch.cat([found["alone"]["gradient"] for found in two], dim=1) / 2  # of the mean over ranks
    torch.testing.assert_close(gradient, one["alone"]["gradient"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_ranks_equal_one_process_of_the_same_batch_for_three_steps(results, recipe):
    one, two = results
    of_one = one[recipe]
    if recipe == "bfloat16":  # which rounds each rank's sums otherwise
        for found in two:
            assert found[recipe]["losses"] == pytest.approx(of_one["losses"], abs=0.1)
            assert found[recipe]["losses"][0] == pytest.approx(of_one["losses"][0], abs=0.02)
        return
    for step in range(3):
        for found in two:
            assert found[recipe]["losses"][step] == pytest.approx(of_one["losses"][step], abs=1e-5)
        for name, gradient in of_one["gradients"][step].items():
            for found in two:
                torch.testing.assert_close(
                    found[recipe]["gradients"][step][name], gradient, atol=1e-5, rtol=1e-5, msg=name
                )
    for name, wanted in of_one["state"].items():
        for found in two:
            torch.testing.assert_close(found[recipe]["state"][name], wanted, atol=1e-5, rtol=1e-5, msg=name)


def train_command(cache, save_dir, *more):
    return ["main.py", *SMALL, "--cache-dir", str(cache), "--save-dir", str(save_dir), *more]


def untimed(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "frames_per_s")} for row in rows]


@pytest.mark.slow
def test_torchrun_with_default_flags_rehearses_and_trains_in_the_numbers_of_the_processor(tmp_path):
    """Where it has instructions for bfloat16, in these: the rehearsal goes the way of the run."""
    command = "main.py --epochs 1 --linear-epochs 2 --demo-patients 24 --no-figures".split()
    folders = ["--save-dir", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache")]
    done = torchrun(*command, *folders)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rehearsal: every stage works" in done.stdout and done.stdout.count("rehearsal:") == 1
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished"
    assert f"adamw in {record['settled']['precision']}" in done.stdout
    assert not list((tmp_path / "run").glob(".rehearsal-*"))


@pytest.mark.slow
def test_the_plan_of_minutes_is_the_leaders_at_each_rank(tmp_path):
    """Ranks with different numbers of epochs would wait for each other for ever."""
    flags = ["--minutes", "9", "--epochs", "2"]
    done = torchrun(*train_command(tmp_path / "cache", tmp_path / "run", *flags))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "finished" and record["time_plan"]["epochs"] == 2
    assert done.stdout.count("--minutes 9: planned are 2 epochs") == done.stdout.count("epoch 2/2") == 1


@pytest.mark.slow
def test_torchrun_ends_with_the_files_of_one_process(tmp_path):
    cache = tmp_path / "cache"
    more = ["--epochs", "2", "--learning-rate", "1e-5", "--optimizer", "lars"]  # rounding grows slowly there
    (one,) = launch(1, train_command(cache, tmp_path / "one", *more))
    assert one.wait(240) == 0
    done = torchrun(*train_command(cache, tmp_path / "two", *more))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr and done.stdout.count("epoch 2/2") == 1, "one process tells"
    names = [{path.name for path in (tmp_path / run).iterdir()} for run in ("one", "two")]
    assert names[0] == names[1] and set(FILES) <= names[0]
    for name in ("split.csv", "rejected.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    for one_row, two_row in zip(
        *(untimed(tmp_path / run / "history.jsonl") for run in ("one", "two")), strict=True
    ):
        if one_row["phase"] == "simclr":
            for figure in ("loss", "val_loss", "alignment", "uniformity"):
                assert two_row[figure] == pytest.approx(one_row[figure], abs=2e-3)
            assert (
                two_row["uniform"] == one_row["uniform"]
                and two_row["learning_rate"] == one_row["learning_rate"]
            )


def test_ranks_that_do_not_start_are_not_waited_for_without_end(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": "0"}
    for name, value in start.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "MAX_MEETING", timedelta(seconds=1))
    with pytest.raises(RankLost, match="1/2 clients"), distributed.process_group(torch.device("cpu")):
        pass


@pytest.mark.slow
def test_ranks_that_were_started_otherwise_are_refused(tmp_path):
    places = tmp_path / "cache", tmp_path / "run"
    commands = [train_command(*places, "--epochs", "1", *more) for more in ([], ["--temperature", "0.05"])]
    processes = launch(2, commands[0], of_rank_1=commands[1], stderr=subprocess.PIPE, text=True)
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], errors
    for printed in errors:
        assert "rank 1: this machine was started with other flags or versions: temperature 0.05" in printed
    assert not (tmp_path / "run" / "model.pt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize(("number", "within"), [(signal.SIGKILL, 30), (signal.SIGSTOP, 60)])
def test_a_rank_that_is_killed_or_falls_silent_ends_the_other_with_a_message(
    tmp_path, number, within, victim
):
    command = train_command(tmp_path / "cache", tmp_path / "run", "--epochs", "500", "--patience", "500")
    both = launch(2, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in both[0].stdout:
            if "epoch 2/500" in line:
                break
        both[victim].send_signal(number)
        started = time.monotonic()
        other = both[1 - victim]
        printed, _ = other.communicate(timeout=within)
        assert time.monotonic() - started < within and other.returncode == 1
        assert (
            f"rank {1 - victim}" in printed
            and "from the last checkpoint" in printed
            and "Traceback" not in printed
        )
    finally:
        for process in both:
            process.kill()
    assert (tmp_path / "run" / "simclr_last.pt").exists()


@pytest.mark.slow
def test_a_follower_whose_machine_is_taken_away_lets_the_leader_save(tmp_path):
    command = train_command(tmp_path / "cache", tmp_path / "run", "--epochs", "500", "--patience", "500")
    both = launch(2, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in both[0].stdout:
        if "epoch 2/500" in line:
            break
    started = time.monotonic()
    both[1].send_signal(signal.SIGTERM)
    printed = [process.communicate(timeout=20)[0] for process in both]
    assert time.monotonic() - started < 10 and [process.returncode for process in both] == [143, 143], printed
    assert torch.load(tmp_path / "run" / "simclr_last.pt", weights_only=True)["steps_done"] > 0


@pytest.mark.slow
def test_ranks_that_are_told_to_stop_save_and_go_on(tmp_path):
    command = train_command(tmp_path / "cache", tmp_path / "run", "--epochs", "4", "--patience", "9")
    both = launch(2, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in both[0].stdout:
        if "epoch 1/4" in line:
            break
    started = time.monotonic()
    for process in both:
        process.send_signal(signal.SIGTERM)
    printed = [process.communicate(timeout=20)[0] for process in both]
    assert time.monotonic() - started < 15 and [process.returncode for process in both] == [143, 143], printed
    assert "Traceback" not in "".join(printed)
    again = launch(2, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed = [process.communicate(timeout=240)[0] for process in again]
    assert [process.returncode for process in again] == [0, 0] and "resumed after epoch 1" in printed[0]
