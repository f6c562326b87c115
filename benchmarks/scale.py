"""From thousands of frames to a hundred million: what stays flat, and what a run would take.

    .venv/bin/python benchmarks/scale.py simulation [--frames 10000 1000000] [--runs 3] [--only follower]
    .venv/bin/python benchmarks/scale.py paper

Simulation: stores of so many small frames (16 pixels, videos of 100 frames, 2,000 of them labelled) are
written as the program writes them. For each, processes of their own open the store and make the first steps
of a pretraining ("store"), or do all that a run does before, tables of names included ("run": the listing is
made up, so no disk or network is in it). "follower" is the second of two processes that train together: the
leader does all that a run does before, and the other gets numbers in place of names; "new follower" is the
same on two machines without a store: each decodes half of the files, and joins the parts. Time is from the
process's start, memory is its peak, before the steps and with them.

Paper: rates measured here, what the simulation found, and the assumptions printed with the table give time
and cost by machine, and what each waits for.
"""

import argparse
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SIDE, BATCH, SIZE, FRAMES_PER_VIDEO, LABELLED = 16, 64, 64, 100, 2000
FOLLOWERS = ("follower", "new follower")
SIMULATIONS = ("store", "run", *FOLLOWERS)


class SimulatedSource:
    """A source of made-up files; what is fetched is written over what was fetched before."""

    location, remote, listed, fetched = "simulated", True, 0, 0
    skipped: tuple = ()

    def __init__(self, folder, n):
        self.folder, self.n = folder, n

    def files(self, prefix, *, flag):
        from simclr_rhd.data.sources.base import FileEntry

        first, last = (0, LABELLED) if prefix == "labelled" else (LABELLED, self.n)
        return [FileEntry(f"{prefix}/{frame_name(number)}", 1, "0") for number in range(first, last)]

    def entry(self, key, *, flag="--labels-csv"):
        from simclr_rhd.data.sources.base import FileEntry

        return FileEntry(key, 1, "0")

    def fetch(self, entries):
        if len(entries) == 1 and entries[0].key == "labels.csv":
            return {"labels.csv": self.folder / "labels.csv"}, {}
        from PIL import Image

        self.fetched, paths = self.fetched + len(entries), {}
        cache = self.folder / f"fetched-{os.environ['RANK']}"
        cache.mkdir(exist_ok=True)
        for place, entry in enumerate(entries):
            paths[entry.key] = cache / f"{place}.png"
            Image.fromarray(picture(number_of(entry.key))[0]).save(paths[entry.key])
        return paths, {}


def frame_name(number):
    """The file name of a frame."""
    video, frame = divmod(number, FRAMES_PER_VIDEO)
    return f"{video:07d} hrs __[{video:07d}]_frame{frame:02d}.png"


def number_of(key):
    """Return the number in a frame's name."""
    video, frame = key.rsplit("/", 1)[1].removesuffix(".png").split(" hrs __")
    return int(video) * FRAMES_PER_VIDEO + int(frame[-2:])


def picture(number):
    """Return the (1, SIDE, SIDE) uint8 frame of a number, different for each."""
    import numpy as np

    frame = np.random.default_rng(number).integers(0, 256, (1, SIDE, SIDE), np.uint8)
    frame.flat[:8] = np.frombuffer(number.to_bytes(8, "little"), np.uint8)
    return frame


def build(folder, n):
    """A store of `n` frames and a label table, as a run over the simulated source would find them."""
    import numpy as np

    from simclr_rhd.data.decoding.decode import DecodeOptions
    from simclr_rhd.data.store import index, store
    from simclr_rhd.data.store.index_writer import IndexWriter
    from simclr_rhd.data.store.shards import ShardWriter

    classes = (
        ("A2C", "A4C"),
        ("['Mitral Valve Regurgitation']", "['Not Applicable']"),
        ("Normal", "Definite rhd"),
    )
    lines = ["FILENAME,VIEW-APP,CONDITION,SEVERITY"]
    for number in range(LABELLED):
        of_video = number // FRAMES_PER_VIDEO % 2
        lines.append(",".join([frame_name(number), *(names[of_video] for names in classes)]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    source = SimulatedSource(folder, n)
    entries = [*source.files("labelled", flag=""), *source.files("unlabelled", flag="")]
    place = store.store_path(source, entries, DecodeOptions(SIDE), cache_dir=folder)
    place.mkdir(parents=True)
    writer, rows = ShardWriter(place), np.zeros(n, index.FRAME_DTYPE)
    for number in range(n):
        writer.append(picture(number), 0)
    rows["file"], rows["number"], rows["digest"] = np.arange(n), index.STILL_NUMBER, np.arange(n)
    with IndexWriter(place) as index_writer:
        index_writer.append_names(entry.key for entry in entries)
        index_writer.append_rows(rows)
        index_writer.finish(index.Header(SIDE, {}, [], "simulated", ""), writer.finish())
    (folder / "place").write_text(str(place))


def worker(what, folder, n, start):
    """Print seconds, peak bytes and stage times of a process that opens the data and takes three steps."""
    import torch

    from simclr_rhd.core import device as runtime
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.ssl.config import TrainingSettings

    runtime.make_deterministic()
    stages, last, cpu = {"imports": time.time() - start}, time.time(), torch.device("cpu")
    settings = TrainingSettings(batch_size=BATCH, warmup_epochs=1.0, positives="frame")
    with ranks.process_group(cpu):
        data, settings = open_unlabelled(what, folder, n, settings)
        stages["data"], last = time.time() - last, time.time()
        peaks = {"before": peak_bytes()}
        three_steps(data, settings, cpu)
        stages["steps"] = time.time() - last
    peaks["all"] = peak_bytes()
    print(json.dumps({"seconds": time.time() - start, "peaks": peaks, "stages": stages}))


def open_unlabelled(what, folder, n, settings):
    """Frames to pretrain on, and the settings with the pairs that they allow, as this process gets them."""
    import numpy as np

    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.data.store import store, together
    from simclr_rhd.data.summary.counts import summarize
    from simclr_rhd.data.summary.sentences import describe
    from simclr_rhd.data.summary.tables import write_tables
    from simclr_rhd.ssl.batches import UnlabelledSet
    from simclr_rhd.ssl.pretrain import receive_data, share_data

    if what == "store":
        stored = store.read_store(Path((folder / "place").read_text()))
        videos = np.arange(n) // FRAMES_PER_VIDEO
        return UnlabelledSet(stored.frames, stored.color_modes, videos, np.arange(LABELLED, n)), settings
    if not ranks.is_main_process():
        together.open_data = lambda config: SimulatedSource(folder, n)  # there is no folder of these files
        settings, (split, *_) = receive_data(together.join_store(data_config(cache_of(folder, what))))
        return split.unlabelled, settings
    dataset = read(folder, n, cache_of(folder, what))
    for line in describe(dataset, summarize(dataset, SimulatedSource(folder, n))):
        print(line, file=sys.stderr)
    (folder / "tables").mkdir(exist_ok=True)
    write_tables(dataset, folder / "tables")
    if dataset.effective_videos() >= BATCH:
        settings = replace(settings, positives="video")
    return share_data(dataset, settings)[0].unlabelled, settings


def three_steps(data, settings, device):
    """Take the first steps of a pretraining."""
    from simclr_rhd.core import distributed as ranks
    from simclr_rhd.ssl.config import PretrainConfig
    from simclr_rhd.ssl.encoder.model import build as build_model
    from simclr_rhd.ssl.pretrain import make_trainer

    config = PretrainConfig(
        epochs=10, image_size=SIZE, view_sizes="full", ema_decay=0.99, seed=0, num_workers=1
    )
    model = build_model("random", seed=0)
    run = make_trainer(config, settings, data, model, device)
    batches = [ranks.shard(rows) for rows in run.batches(1)[:3]]
    for batch in run.load_batches(batches, 1, run.positive_sampler):
        run.step.backward(batch)
        run.optimizer.step()
        run.average.update(model)


def peak_bytes():
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cache_of(folder, what):
    """The cache folder of this process: a new one on a machine that has no store."""
    return folder if what != "new follower" else folder / f"cache-{os.environ['RANK']}"


def data_config(cache_dir):
    from simclr_rhd.data.config import DataConfig

    return DataConfig(
        labelled_prefix="labelled",
        labels_csv="labels.csv",
        unlabelled_prefix="unlabelled",
        image_size=SIZE,
        seed=0,
        cache_dir=str(cache_dir),
    )


def read(folder, n, cache_dir):
    from simclr_rhd.data import load as reading

    reading.storage_size = lambda image_size: SIDE  # small frames
    rejected = folder / "rejected.csv"
    return reading.read_dataset(SimulatedSource(folder, n), data_config(cache_dir), rejected_csv=rejected)


def measure(what, folder, n):
    """Return the report of a process; of a follower, that of the second of two."""
    for cache in folder.glob("cache-*"):
        shutil.rmtree(cache)
    if what == "new follower":
        for rank in range(2):
            (folder / f"cache-{rank}").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = 2 if what in FOLLOWERS else 1
    command = [sys.executable, __file__, "--worker", what, str(folder), str(n), str(time.time())]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = []
    for rank in range(processes):
        numbers = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        numbers["LOCAL_WORLD_SIZE"] = str(processes)
        if processes > 1:
            numbers["OMP_NUM_THREADS"] = "1"  # as torchrun does
        started.append(subprocess.Popen(command, env=os.environ | address | numbers, **pipes))
    printed = [process.communicate() for process in started]
    for process, (_, errors) in zip(started, printed, strict=True):
        if process.returncode:
            sys.exit(errors[-3000:])
    return json.loads(printed[-1][0].splitlines()[-1])


@dataclass(frozen=True)
class Report:
    """Medians of several processes that did the same.

    Attributes:
        seconds: from the process's start.
        before: bytes, the peak before the steps.
        peak: bytes, with the steps.
        stages: {name: seconds}.
    """

    seconds: float
    before: float
    peak: float
    stages: dict

    @classmethod
    def of(cls, reports):
        """Return the medians of what processes printed."""
        stages = {
            name: round(statistics.median(report["stages"][name] for report in reports), 2)
            for name in reports[0]["stages"]
        }
        before, peak = (
            statistics.median(report["peaks"][key] for report in reports) for key in ("before", "all")
        )
        return cls(statistics.median(report["seconds"] for report in reports), before, peak, stages)


def simulate(counts, runs, simulations):
    """Print time and memory of each simulation for each number of frames, and their growth."""
    with tempfile.TemporaryDirectory() as name:
        folders = {n: Path(name, str(n)) for n in counts}
        for n, folder in folders.items():
            folder.mkdir()
            build(folder, n)
        for what in simulations:
            measured = {n: [] for n in counts}
            for _ in range(runs):
                for n, folder in folders.items():
                    measured[n].append(measure(what, folder, n))
            reports = {n: Report.of(of_n) for n, of_n in measured.items()}
            for n, report in reports.items():
                print(
                    f"{what}, {n} frames: {report.seconds:.2f} s, {report.before / 1e6:.0f} MB before the "
                    f"steps, {report.peak / 1e6:.0f} MB with them; {report.stages}",
                    flush=True,
                )
            small, large = reports[counts[0]], reports[counts[-1]]
            print(
                f"{what}: time {large.seconds / small.seconds:.2f} times, "
                f"{(large.before - small.before) / 1e6:+.0f} MB before the steps, "
                f"{(large.peak - small.peak) / 1e6:+.0f} MB with them ({large.peak / small.peak:.2f} times)",
                flush=True,
            )


# assumptions, but for the first two not measured with this program
FETCHED_PER_S = 275  # files a second and process, at 40 ms round trips (by ingest.py, from an emulator)
NAME_BYTES = 350  # of memory for a frame's name, video and group, of the leader (the simulation's slope)
GPU_VIEWS_PER_S = 2800  # a second and GPU at 224 pixels in bfloat16, typical of an A100
DISK_BYTES_PER_S = 2e9  # bytes a second from a local disk
NETWORK_BYTES_PER_S = 2e9  # bytes a second that a machine receives from the others
DOLLARS_PER_REQUEST = 0.4e-6  # dollars for a file from a bucket (class B operation)
COLOUR_FRACTION = 0.1  # share of frames that keep three channels


@dataclass(frozen=True)
class Machine:
    """A kind of machine for a run.

    Attributes:
        name: in the table.
        cores: of each machine.
        gpus: of each machine.
        machines: of them.
        size: pixels of a view's side.
        dollars: an hour, of all.
        efficiency: of the GPUs together, against one alone.
        memory: bytes of each machine.
    """

    name: str
    cores: int
    gpus: int
    machines: int
    size: int
    dollars: float
    efficiency: float
    memory: float


MACHINES = (
    Machine("2 cores, 96 px", 2, 0, 1, 96, 0.1, 1.0, 8e9),
    Machine("1 GPU, 224 px", 12, 1, 1, 224, 3.7, 1.0, 85e9),
    Machine("8 GPUs, 224 px", 96, 8, 1, 224, 29.4, 0.9, 680e9),
    Machine("8 machines of 8 GPUs, 224 px", 96, 8, 8, 224, 235.0, 0.85, 680e9),
)
FRAMES_AND_EPOCHS = ((38_000, 100), (1_000_000, 100), (100_000_000, 10))  # frames, epochs


def decoded_per_core():
    """Frames of 640 x 480 (PNG, speckle) a second and core, into a store."""
    import logging

    import numpy as np
    from PIL import Image, ImageFilter

    from simclr_rhd.data.decoding.decode import DecodeOptions
    from simclr_rhd.data.decoding.image import storage_size
    from simclr_rhd.data.sources.folder import Folder
    from simclr_rhd.data.store.store import open_store

    logging.disable()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "frames")
        folder.mkdir()
        for number in range(400):
            noise = Image.fromarray(rng.integers(0, 256, (480, 640), np.uint8))
            noise.filter(ImageFilter.GaussianBlur(3)).save(folder / f"v_frame{number:03d}.png")
        source = Folder(folder, location=str(folder))
        entries = source.files("", flag="--labelled-prefix")
        start = time.perf_counter()
        open_store(source, entries, DecodeOptions(storage_size(224)), cache_dir=Path(name))
        return 400 / (time.perf_counter() - start) / os.cpu_count()


def views_per_second(size):
    """Views a second in training steps of 64 frames, the median of some."""
    import torch

    from simclr_rhd.core import device as runtime
    from simclr_rhd.planning import profiler as probe
    from simclr_rhd.planning.precision import resolve_precision
    from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
    from simclr_rhd.ssl.encoder.model import build as build_model
    from simclr_rhd.ssl.optim import make_optimizer
    from simclr_rhd.ssl.step import Step

    runtime.make_deterministic()
    model = build_model("random", seed=0).train()
    optimizer = make_optimizer(model, "adamw", learning_rate=1e-3, weight_decay=0.01)
    device = torch.device("cpu")
    settings = TrainingSettings(precision=resolve_precision("auto", device))
    step = Step(model, PretrainConfig(image_size=size), settings, device)
    batch, seconds = probe.make_batch(BATCH, size=size, grey=True), []
    for _ in range(5):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        step.backward(batch)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return 2 * BATCH / statistics.median(seconds[1:])


def print_estimates():
    """The table."""
    per_core, views = decoded_per_core(), views_per_second(96)
    print(f"measured: {per_core:.0f} frames/s and core decoded; {views:.0f} views/s at 96 px on 2 cores")
    print(
        f"assumed: {FETCHED_PER_S} files/s fetched, {GPU_VIEWS_PER_S} views/s and GPU, "
        f"{NAME_BYTES} bytes of names a frame, {DISK_BYTES_PER_S / 1e9:.0f} GB/s from disk, "
        f"{NETWORK_BYTES_PER_S / 1e9:.0f} GB/s between machines"
    )
    print("\n| frames, epochs | machine | preparing, once | an epoch | all | cost | waits for |")
    print("|---|---|---|---|---|---|---|")
    for frames, epochs in FRAMES_AND_EPOCHS:
        for machine in MACHINES:
            line = estimate_run(machine, frames, epochs, per_core=per_core, views=views)
            print(f"| {frames:,}, {epochs} | {machine.name} | {' | '.join(line)} |")


def estimate_run(machine, frames, epochs, *, per_core, views):
    """Preparing, an epoch, all, cost, and what is waited for longest."""
    from simclr_rhd.data.decoding.image import storage_size

    workers = machine.gpus * machine.machines  # each fetches and decodes its share
    fetch = frames / (FETCHED_PER_S * max(1, workers))
    decode = frames / (per_core * machine.cores * machine.machines)
    compute = 2 * frames / (workers * GPU_VIEWS_PER_S * machine.efficiency if workers else views)
    of_frame = storage_size(machine.size) ** 2 * (1 + 2 * COLOUR_FRACTION)
    received = 1 - 1 / machine.machines  # of the decoded frames: each machine keeps all
    exchange = received / NETWORK_BYTES_PER_S + received / DISK_BYTES_PER_S
    exchange += (workers > 1) * 2 / DISK_BYTES_PER_S  # parts are read, and written as one store
    exchange *= frames * of_frame
    names = frames * NAME_BYTES
    too_many = frames * of_frame > machine.memory - names  # else the system holds the frames in memory
    read = too_many * frames / machine.machines * of_frame / DISK_BYTES_PER_S
    epoch, prepare = max(compute, read), fetch + decode + exchange
    total = prepare + epochs * epoch
    parts = {
        "fetching": fetch,
        "decoding": decode,
        "sending and joining": exchange,
        "reading the disk" if read > compute else "arithmetic": epochs * epoch,
    }
    first = max(parts, key=parts.get)
    waits = f"{first} ({parts[first] / total:.0%})"
    if names > 0.5 * machine.memory:
        waits += f"; names alone need {names / 1e9:.0f} GB of {machine.memory / 1e9:.0f}: does not fit"
    cost = total / 3600 * machine.dollars + frames * DOLLARS_PER_REQUEST
    disk = f"{format_duration(prepare)}, {frames * of_frame / 1e9:,.1f} GB"
    return (
        disk,
        format_duration(epoch),
        format_duration(total),
        f"${cost:,.2f}" if cost < 100 else f"${cost:,.0f}",
        waits,
    )


def format_duration(seconds):
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("simulation", "paper"), nargs="?", default="simulation")
    parser.add_argument("--frames", type=int, nargs=2, default=[10_000, 1_000_000])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=SIMULATIONS, nargs="+", default=SIMULATIONS)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        what, folder, n, start = options.worker
        return worker(what, Path(folder), int(n), float(start))
    if options.what == "paper":
        return print_estimates()
    simulate(options.frames, options.runs, options.only)


if __name__ == "__main__":
    main()
