"""The launchers, run against stand-ins of the schedulers: no cluster and no cloud was at hand."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from simclr_rhd.data.demo import dataset as demo

ROOT = Path(__file__).resolve().parents[1]
LAUNCHERS = ROOT / "launch"
FLAGS = ["--data", "gs://a-bucket", "--save-dir", "gs://a-bucket/runs/a b"]
RECORD_AND_WAIT = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$RECORDS/torchrun-$$"
if [[ ${UNTIL_TERM:-} ]]; then
    trap 'echo stopped > "$RECORDS/stopped-$$"; exit 143' TERM
    while :; do sleep 0.05; done
fi
"""
SRUN = """#!/usr/bin/env bash
# one task for each node, all on this machine; SIGTERM kills the tasks, as it does of SLURM's
trap 'kill -KILL "${tasks[@]}"' TERM
if [[ $1 == --cpus-per-task=* ]]; then echo "${1#*=}" > "$RECORDS/cpus"; shift; fi
for node in $(seq "$SLURM_NNODES"); do
    SLURM_NODEID=$((node - 1)) "$@" & tasks+=($!); echo $! >> "$RECORDS/tasks"
done
status=0
for task in "${tasks[@]}"; do
    wait "$task"; code=$?
    while kill -0 "$task" 2>/dev/null; do wait "$task"; code=$?; done  # a signal ends `wait` early
    [[ $code == 0 ]] || status=$code
done
exit $status
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then printf 'localhost\\nnode-2\\n'; else echo "$*" >> "$RECORDS/scontrol"; fi
"""
SCANCEL = """#!/usr/bin/env bash
echo "$*" >> "$RECORDS/scancel"
kill "-${1#--signal=}" $(cat "$RECORDS/tasks")
"""
GCLOUD = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "$RECORDS/gcloud"
while (($#)); do if [[ $1 == --config ]]; then cp "$2" "$RECORDS/job.json"; fi; shift; done
"""


@pytest.fixture
def stand_ins(tmp_path):
    """An environment in which the schedulers' commands and `torchrun` are stand-ins that keep records."""
    commands, records = tmp_path / "bin", tmp_path / "records"
    commands.mkdir()
    records.mkdir()
    texts = {"srun": SRUN, "scontrol": SCONTROL, "scancel": SCANCEL, "gcloud": GCLOUD}
    texts["torchrun"] = RECORD_AND_WAIT
    for name, text in texts.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return os.environ | {"PATH": f"{commands}:{os.environ['PATH']}", "RECORDS": str(records)}


def records(environment, pattern):
    """The records of the stand-ins, a list of lines each."""
    return [path.read_text().splitlines() for path in sorted(Path(environment["RECORDS"]).glob(pattern))]


def slurm(environment, *, nodes=2, gpus=4):
    """The environment of a job of SLURM."""
    job = {"SLURM_JOB_ID": "71234", "SLURM_JOB_NODELIST": "node-[1-2]", "SLURM_NNODES": str(nodes)}
    return environment | job | {"SLURM_GPUS_ON_NODE": str(gpus), "SLURM_CPUS_PER_TASK": "16"}


def wait_for(condition, seconds=60):
    """Wait until something is true."""
    for _ in range(int(seconds * 20)):
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def option(arguments, name):
    """The value of a flag."""
    return arguments[arguments.index(name) + 1]


def test_slurm_starts_torchrun_on_each_machine(stand_ins):
    subprocess.run(["bash", LAUNCHERS / "slurm.sbatch", *FLAGS], env=slurm(stand_ins), check=True)
    runs = records(stand_ins, "torchrun-*")
    assert len(runs) == 2 and runs[0] == runs[1]
    assert (option(runs[0], "--nnodes"), option(runs[0], "--nproc_per_node")) == ("2", "4")
    assert option(runs[0], "--rdzv_endpoint") == "localhost:31234"
    assert runs[0][-6:] == ["--no-python", "simclr-rhd", *FLAGS]
    assert records(stand_ins, "cpus") == [["16"]] and records(stand_ins, "scontrol") == []


@pytest.mark.parametrize(
    ("array", "name"),
    [({}, "71234"), ({"SLURM_ARRAY_JOB_ID": "71234", "SLURM_ARRAY_TASK_ID": "3"}, "71234_3")],
)
def test_slurm_queues_a_job_again_whose_time_is_over(stand_ins, array, name):
    environment = slurm(stand_ins) | {"UNTIL_TERM": "yes"} | array
    job = subprocess.Popen(["bash", LAUNCHERS / "slurm.sbatch", *FLAGS], env=environment)
    wait_for(lambda: len(records(stand_ins, "torchrun-*")) == 2)
    time.sleep(0.2)  # the trap of the second one
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=30) != 0
    assert len(records(stand_ins, "stopped-*")) == 2, "the processes were not asked to save"
    assert records(stand_ins, "scancel") == [[f"--signal=TERM {name}"]]
    assert records(stand_ins, "scontrol") == [[f"requeue {name}"]]


def test_slurm_does_not_queue_a_job_again_that_fails(stand_ins):
    (Path(stand_ins["PATH"].partition(":")[0]) / "torchrun").write_text("#!/bin/sh\nexit 1\n")
    done = subprocess.run(["bash", LAUNCHERS / "slurm.sbatch", *FLAGS], env=slurm(stand_ins))
    assert done.returncode == 1 and records(stand_ins, "scontrol") == []


@pytest.mark.slow
def test_a_job_of_slurm_that_is_stopped_ends_as_one_that_was_not(stand_ins, tmp_path):
    demo.write_demo(tmp_path / "data", patients=12)
    commands = Path(stand_ins["PATH"].partition(":")[0])
    starts = {"torchrun": "-m torch.distributed.run", "simclr-rhd": shlex.quote(str(ROOT / "main.py"))}
    for name, start in starts.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {start} "$@"\n')
        (commands / name).chmod(0o755)
    flags = (
        "--image-size 32 --epochs 6 --linear-epochs 5 --batch-size 16 --patience 9 --precision float32 "
        "--no-figures --no-rehearsal"
    ).split()
    weights = {}
    for name, stops in (("whole", 0), ("stopped", 2)):
        folder = tmp_path / name
        places = ["--data", tmp_path / "data", "--cache-dir", folder / "cache", "--save-dir", folder / "run"]
        log, restarts, status = folder / "run" / "simclr_rhd.log", 0, None
        while status != 0:
            environment = slurm(stand_ins, gpus=1) | {"SLURM_RESTART_COUNT": str(restarts)}
            environment |= {"OMP_NUM_THREADS": "1"}
            job = subprocess.Popen(["bash", LAUNCHERS / "slurm.sbatch", *places, *flags], env=environment)
            if restarts < stops:
                line = f"epoch {restarts + 1}/6"
                wait_for(lambda log=log, line=line: log.exists() and line in log.read_text(), 120)
                job.send_signal(signal.SIGUSR1)
            status = job.wait(timeout=240)
            (Path(stand_ins["RECORDS"]) / "tasks").unlink()
            assert (status == 0) == (restarts == stops)
            restarts += 1
        weights[name] = torch.load(folder / "run" / "model.pt", weights_only=True)
        assert ("resumed after epoch" in log.read_text()) == (stops > 0)
    assert records(stand_ins, "scontrol") == [["requeue 71234"] * 2]
    for part in ("encoder", "heads"):
        for name, value in weights["whole"][part].items():
            assert torch.equal(weights["stopped"][part][name], value), name


def test_skypilot_starts_torchrun_on_each_machine(stand_ins):
    yaml = pytest.importorskip("yaml", reason="pip install -r requirements-dev.txt")
    task = yaml.safe_load((LAUNCHERS / "skypilot.yaml").read_text())
    assert set(task) == {"name", "num_nodes", "resources", "workdir", "envs", "setup", "run"}
    machine = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "4", "SKYPILOT_NODE_RANK": "1"}
    machine |= {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"} | task["envs"]
    subprocess.run(["bash", "-euc", task["run"]], env=stand_ins | machine, check=True)
    ((*run,),) = records(stand_ins, "torchrun-*")
    assert (option(run, "--nnodes"), option(run, "--node_rank")) == ("2", "1")
    assert option(run, "--master_addr") == "10.0.0.1"
    assert run[-8:] == [
        *f"--data {machine['DATA']} --save-dir {machine['SAVE_DIR']}".split(),
        *task["envs"]["FLAGS"].split(),
    ]


@pytest.mark.parametrize("nodes", [1, 3])
def test_vertex_starts_torchrun_on_each_machine(nodes, stand_ins):
    environment = stand_ins | {"IMAGE": "a/b:c", "NODES": str(nodes), "GPUS": "2"}
    subprocess.run(["bash", LAUNCHERS / "vertex.sh", *FLAGS], env=environment, check=True)
    ((*gcloud,),) = records(stand_ins, "gcloud")
    assert gcloud[:3] == ["ai", "custom-jobs", "create"]
    job = json.loads((Path(stand_ins["RECORDS"]) / "job.json").read_text())
    pools = job["workerPoolSpecs"]
    assert [pool["replicaCount"] for pool in pools] == [1, 2][: 1 + (nodes > 1)]
    cluster = {
        f"workerpool{number}": [f"host-{number}-{i}:2222" for i in range(pool["replicaCount"])]
        for number, pool in enumerate(pools)
    }
    for number, pool in enumerate(pools):
        container = pool["containerSpec"]
        assert container["imageUri"] == "a/b:c" and pool["machineSpec"]["acceleratorCount"] == 2
        for index in range(pool["replicaCount"]):
            task = {"type": f"workerpool{number}", "index": index}
            variables = {one["name"]: one["value"] for one in container["env"]}
            variables["CLUSTER_SPEC"] = json.dumps({"cluster": cluster, "task": task})
            command = [*container["command"], *container["args"]]
            subprocess.run(command, env=stand_ins | variables, check=True)
    runs = records(stand_ins, "torchrun-*")
    assert sorted(option(run, "--node_rank") for run in runs) == [str(rank) for rank in range(nodes)]
    assert {option(run, "--master_addr") for run in runs} == {"host-0-0"}
    assert {option(run, "--nnodes") for run in runs} == {str(nodes)}
    assert all(run[-6:] == ["--no-python", "simclr-rhd", *FLAGS] for run in runs)


@pytest.mark.parametrize(
    ("flags", "nodes", "message"),
    [(["--data", "gs://a"], "2", "wanted --save-dir gs://BUCKET"), (FLAGS, "0", "NODES=0: wanted a number")],
)
def test_vertex_submits_no_job_that_cannot_keep_its_results(stand_ins, flags, nodes, message):
    command = ["bash", LAUNCHERS / "vertex.sh", *flags]
    environment = stand_ins | {"IMAGE": "a/b:c", "NODES": nodes}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and records(stand_ins, "gcloud") == []


def test_vertex_without_an_image_explains_what_is_missing(stand_ins):
    done = subprocess.run(["bash", LAUNCHERS / "vertex.sh"], env=stand_ins, capture_output=True, text=True)
    assert done.returncode != 0 and "IMAGE" in done.stderr and records(stand_ins, "gcloud") == []
