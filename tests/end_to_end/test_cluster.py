"""Two machines of two processes each read one bucket, are stopped twice, and end as a run that was not."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from gcs import free_port

from simclr_rhd.data.demo import dataset as demo

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--image-size 32 --epochs 4 --linear-epochs 5 --batch-size 16 --patience 9 --precision float32 "
    "--checkpoint-minutes 1e-6 --no-figures --no-rehearsal"
).split()


class Cluster:
    """Two torchrun agents on this machine, each with a cache folder of its own.

    Args:
        folder: of the caches and of the run.
        data: a bucket.
        url: of the bucket's emulator.
    """

    def __init__(self, folder, data, url):
        self.folder, self.data, self.environment = folder, data, os.environ | {"STORAGE_EMULATOR_HOST": url}
        self.printed = []

    def start(self):
        """Start both machines; the lines of the first one are collected in `printed`."""
        port, self.printed = free_port(), []
        self.agents = [self._agent(number, port) for number in range(2)]
        threading.Thread(target=self._read, daemon=True).start()

    def _agent(self, number, port):
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "2"),
                *("--node_rank", str(number), "--master_addr", "127.0.0.1", "--master_port", str(port)),
                *("main.py", *FLAGS, "--data", self.data, "--save-dir", str(self.folder / "run")),
                *("--cache-dir", str(self.folder / f"cache{number}")),
            ],
            cwd=ROOT,
            env=self.environment | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _read(self):
        for line in self.agents[0].stdout:
            self.printed.append(line)

    def wait_for(self, happened, seconds=240):
        """Wait until `happened()`; the machines must not have ended."""
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end and self.agents[0].poll() is None, "".join(self.printed)
            time.sleep(0.02)

    def has_printed(self, text):
        return any(text in line for line in self.printed)

    def finish(self):
        """Wait until both have ended; their exit statuses."""
        return [agent.wait(300) for agent in self.agents]

    def stop(self):
        """Ask both to stop, as a scheduler does."""
        for agent in self.agents:
            agent.send_signal(signal.SIGTERM)
        assert 0 not in self.finish(), "".join(self.printed)

    def weights(self):
        return torch.load(self.folder / "run" / "model.pt", weights_only=True)

    def stores(self):
        """{file: bytes} of each machine's store."""
        assert not [*self.folder.glob("cache*/parts/*/*")]
        return [
            {path.name: path.read_bytes() for path in self.folder.glob(f"cache{number}/stores/*/*")}
            for number in range(2)
        ]


@pytest.mark.slow
def test_a_requeued_cluster_ends_with_the_weights_of_one_run_and_reads_each_object_once(tmp_path, gcs):
    demo.write_demo(tmp_path / "data", patients=12)
    clusters = []
    for name in ("whole", "requeued"):
        gcs.upload("cluster-bucket", tmp_path / "data", f"{name}/")
        (tmp_path / name).mkdir()
        clusters.append(Cluster(tmp_path / name, f"gs://cluster-bucket/{name}", gcs.url))
    whole, requeued = clusters
    whole.start()
    assert whole.finish() == [0, 0], "".join(whole.printed)

    def reads():
        return {name: n for name, n in gcs.reads.items() if name.startswith("requeued/")}

    n_objects = sum(name.startswith("whole/") for name in gcs.reads)
    gcs.delay = 0.3  # seconds: the first stop is while the bucket is read
    requeued.start()
    requeued.wait_for(lambda: len(reads()) > n_objects / 4)
    requeued.stop()
    gcs.delay = 0.0
    requeued.start()
    requeued.wait_for(lambda: requeued.has_printed("epoch 1/4"))
    requeued.stop()
    requeued.start()
    assert requeued.finish() == [0, 0], "".join(requeued.printed)
    assert requeued.has_printed("resumed after epoch")

    assert len(reads()) == n_objects and set(reads().values()) == {1}
    assert {n for name, n in gcs.reads.items() if name.startswith("whole/")} == {1}
    first, second = requeued.stores()
    assert first == second and first.keys() >= {"index.json", "names.txt"}
    found, wanted = requeued.weights(), whole.weights()
    for part in ("encoder", "heads"):
        assert found[part].keys() == wanted[part].keys()
        for name, value in wanted[part].items():
            assert torch.equal(found[part][name], value), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("places", "message"),
    [
        (("data", "nowhere"), "error: rank 1: --data {}/nowhere: does not exist"),
        (("nowhere", "data"), "error: --data {}/nowhere: does not exist"),
    ],
)
def test_an_error_of_one_machine_ends_all_with_its_message(tmp_path, places, message):
    demo.write_demo(tmp_path / "data", patients=12)
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "main.py", *FLAGS, "--data", str(tmp_path / place)),
                *("--cache-dir", str(tmp_path / f"cache{rank}"), "--save-dir", str(tmp_path / "run")),
            ],
            cwd=ROOT,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, place in enumerate(places)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], errors
    for printed in errors:
        assert message.format(tmp_path) in printed and "Traceback" not in printed
