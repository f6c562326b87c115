"""The program beside its peers: same frames, same machine, same size, same batch; one table.

    .venv/bin/python -m pip install -r benchmarks/versus/requirements.txt
    .venv/bin/python benchmarks/versus/run.py --data FOLDER --out FOLDER

Competitors: the published implementation's recipe written anew (`reference.py`), lightly 1.6 by its example
(`peer_lightly.py`), the same on this program's pairs and views, and this program by its defaults
(`ours.py`); raw pixels, a mask and a random encoder stand beside them. First the rates are measured, in turn,
so leave the machine alone for that; a competitor's epoch time then turns the wall-clock budget into epochs,
so that its scores do not depend on what else the machine does. Each piece is kept in --out and not repeated;
--table prints what is there.
"""

import argparse
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from versus.protocol import TASKS, interval, macro, spread

from simclr_rhd.runs.record import commit
from simclr_rhd.ssl.schedule import size_per_epoch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ARMS = ("reference", "lightly", "ours")
EQUAL_EPOCHS = "equal"  # ours for as many epochs as the slowest has time for
CONTROLLED = "controlled"  # lightly's parts on our pairs and views, for as many epochs as ours
# rows of the table by the features that are judged: a peer's own are those of the last stage
PEER_ROWS, OUR_ROWS = {"last_stage": "{}", "scores": "{}, all stages"}, {"scores": "{}"}
OURS_FLOAT32 = "ours in float32"  # as the peers, where the processor has faster numbers
TIMED = (*ARMS, OURS_FLOAT32)
SIZES = ("growing", "full")  # of our views
# ours as the main job stops it, with the flags of each piece
EARLY_STOPPING = "ours, stopping by itself in that time"
EARLY_STOPPING_ARMS = {
    "stopped": (EARLY_STOPPING, ()),
    "stopped-plain": ("the same with --ema-decay 0", ("--ema-decay", "0")),
}
SCORED = ("ours", *EARLY_STOPPING_ARMS, EQUAL_EPOCHS, "lightly", CONTROLLED, "reference")
EpochSeconds = dict[str, dict[int, float]]  # {arm: {size of views: seconds of an epoch}}


def resident_bytes(pid: int) -> int:
    """Bytes that a process and those below it take, what they share counted once (Linux)."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):  # it ended meanwhile
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
    family, children = set(), {pid}
    while children:
        family |= children
        children = {child for child, parent in parents.items() if parent in children} - family
    total = 0
    for member in family:
        with suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def run(command: list[str]) -> tuple[str, float, int]:
    """Output, seconds and peak memory of a command."""
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.5):
                peak = max(peak, resident_bytes(child.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        out, err = child.communicate()
        done.set()
        watcher.join()
    if child.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{err[-3000:]}")
    return out, time.perf_counter() - start, peak


class Measurements:
    """Measured pieces, one JSON file for each."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.out, self.options = options.out, options
        (self.out / "cache").mkdir(parents=True, exist_ok=True)
        names = ("data", "image_size", "epochs", "linear_epochs", "seconds")
        fixed = {name: getattr(options, name) for name in names}
        before = self.load("options") or fixed
        if any(before[name] != value for name, value in fixed.items()):
            sys.exit(f"--out {self.out} holds pieces of {before}; name another folder for {fixed}")
        if not self.path("options").exists():
            self.keep("options", fixed)

    def path(self, name: str) -> Path:
        return self.out / f"{name}.json"

    def load(self, name: str) -> dict | None:
        return json.loads(self.path(name).read_text()) if self.path(name).exists() else None

    def commits(self) -> dict[str, int]:
        """Count the pieces of each version of the program."""
        paths = (path for path in self.out.glob("*.json") if not path.name.startswith("patients-"))
        return dict(Counter(json.loads(path.read_text()).get("commit", "unknown") for path in paths))

    def keep(self, name: str, result: dict) -> dict:
        result = result | {"commit": commit()}
        part = self.out / f"{name}.part"
        part.write_text(json.dumps(result, indent=1))
        os.replace(part, self.path(name))
        print(f"{name}: done", flush=True)
        return result

    def measure(self, name: str, **arguments: object) -> dict:
        """A piece that a worker makes."""
        if result := self.load(name):
            return result
        arguments |= {
            "data": self.options.data,
            "cache": str(self.out / "cache"),
            "size": self.options.image_size,
        }
        out, seconds, peak = run([sys.executable, str(HERE / "worker.py"), json.dumps(arguments)])
        result = json.loads(out.splitlines()[-1])
        return self.keep(name, result | {"process_s": seconds, "peak_bytes": peak})


def measure_rates(pieces: Measurements, rounds: int) -> None:
    """The seconds of epochs, arms in turn, and the views alone."""
    for number in range(rounds):
        for arm in ARMS:
            pieces.measure(f"rate-{arm}-{number}", what="rate", arm=arm, epochs=2)
        flags = ("--precision", "float32")
        pieces.measure(f"rate-{OURS_FLOAT32}-{number}", what="rate", arm="ours", epochs=2, flags=flags)
    for arm in ARMS:
        pieces.measure(f"data_rate-{arm}", what="data_rate", arm=arm)


def epoch_seconds(pieces: Measurements, rounds: int) -> EpochSeconds:
    """The median over all rounds."""
    seconds_of: dict[str, dict[int, list[float]]] = {arm: {} for arm in TIMED}
    for number in range(rounds):
        for arm in TIMED:
            measured = pieces.load(f"rate-{arm}-{number}") or {"seconds": {}}
            for size, seconds in measured["seconds"].items():
                seconds_of[arm].setdefault(int(size), []).extend(seconds)
    return {
        arm: {size: statistics.median(some) for size, some in by_size.items()}
        for arm, by_size in seconds_of.items()
    }


def epochs_within(seconds: float, epoch_s: dict[int, float]) -> int:
    """As many epochs as a budget holds, the sizes of views being those of a run of so many."""
    sizes, n = sorted(epoch_s), 1
    while sum(epoch_s[size] for size in size_per_epoch(sizes, n + 1)) <= seconds:
        n += 1
    return n


def measure_end_to_end(pieces: Measurements, options: argparse.Namespace) -> None:
    """The whole work: ours some times from an empty cache, the reference once."""
    for number, sizes in itertools.product(range(options.rounds), SIZES):
        name = f"end_to_end-{sizes}-{number}"
        if pieces.load(name):
            continue
        folder, cache = options.out / "ours", options.out / "ours-cache"
        for old in (folder, cache):
            shutil.rmtree(old, ignore_errors=True)
        command = [sys.executable, str(ROOT / "main.py"), "--data", options.data, "--view-sizes", sizes]
        command += ["--image-size", str(options.image_size), "--epochs", str(options.epochs)]
        command += ["--linear-epochs", str(options.linear_epochs), "--patience", "1000"]
        _, seconds, peak = run([*command, "--save-dir", str(folder), "--cache-dir", str(cache)])
        record = json.loads((folder / "run.json").read_text())
        metrics = json.loads((folder / "metrics.json").read_text())["tasks"]
        accuracy = {task: result["test"]["frame"]["accuracy"] for task, result in metrics.items()}
        result = {"process_s": seconds, "peak_bytes": peak, "stages": record["wall_s"], "accuracy": accuracy}
        pieces.keep(name, result | {"counts": record["counts"], "versions": record["versions"]})
    how = {"arm": "reference", "folder": str(options.out / "reference"), "epochs": options.epochs}
    how["linear_epochs"] = options.linear_epochs
    pieces.measure("end_to_end-reference", what="end_to_end", **how)
    pieces.measure("by_patient-reference", what="by_patient", **how)


def measure_scores(pieces: Measurements, options: argparse.Namespace, epoch_s: EpochSeconds) -> None:
    """The probes, at equal time and at equal epochs."""
    equal = min(epochs_within(options.seconds, of_arm) for of_arm in epoch_s.values())
    ours = epochs_within(options.seconds, epoch_s["ours"])
    for seed in range(options.seeds):
        pieces.measure(f"untrained-{seed}", what="untrained", arm="ours", seed=seed)
        for arm in options.arms:
            how = {"what": "score", "arm": arm, "seed": seed, "also_after": []}
            if arm in EARLY_STOPPING_ARMS:
                how |= {"what": "stopped", "arm": "ours", "flags": EARLY_STOPPING_ARMS[arm][1]}
                pieces.measure(f"{arm}-{seed}", **how, epochs=ours)
            elif arm == EQUAL_EPOCHS:
                pieces.measure(f"equal-ours-{seed}", **how | {"arm": "ours"}, epochs=equal)
            elif arm in (CONTROLLED, "ours"):
                pieces.measure(f"score-{arm}-{seed}", **how, epochs=ours)
            else:  # its learning rate is constant, so one run passes through both points
                how |= {"also_after": [equal], "epochs": epochs_within(options.seconds, epoch_s[arm])}
                pieces.measure(f"score-{arm}-{seed}", **how)


def tasks_of(scores: dict[str, dict[int, dict]]) -> list[str]:
    """The tasks that the data have, of whichever competitor."""
    return [task for task in TASKS if all(task in one for of in scores.values() for one in of.values())]


def header(title: str, columns: Sequence[str]) -> str:
    """The first two lines of a table."""
    return f"\n| {title} | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}"


def read_scores(pieces: Measurements, options: argparse.Namespace, epoch_s: EpochSeconds) -> dict[str, dict]:
    """{competitor: {seed: {task: scores}}} of what is there."""
    equal = str(min(epochs_within(options.seconds, of_arm) for of_arm in epoch_s.values()))
    scores: dict[str, dict[int, dict]] = {}
    for seed in range(options.seeds):
        if untrained := pieces.load(f"untrained-{seed}"):
            scores.setdefault("raw pixels", {})[seed] = untrained["pixels"]
            scores.setdefault("mask", {})[seed] = untrained["mask"]
            scores.setdefault("random encoder", {})[seed] = untrained["random"]
        for name, (label, _) in EARLY_STOPPING_ARMS.items():
            if stopped := pieces.load(f"{name}-{seed}"):
                scores.setdefault(label, {})[seed] = stopped["scores"]
        for arm in (*ARMS, CONTROLLED):
            if (run_of := pieces.load(f"score-{arm}-{seed}")) is None:
                continue
            last = max(run_of["at"], key=int)
            if arm == CONTROLLED:
                label = f"lightly on our pairs and views, as many epochs as ours ({last})"
                scores.setdefault(label, {})[seed] = run_of["at"][last]["scores"]
                continue
            peer = arm != "ours"
            same = run_of if peer else pieces.load(f"equal-{arm}-{seed}")
            for kind, row in (PEER_ROWS if peer else OUR_ROWS).items():
                label = f"{row.format(arm)}, equal time ({last} epochs)"
                scores.setdefault(label, {})[seed] = run_of["at"][last][kind]
                if same and equal in same["at"]:
                    label = f"{row.format(arm)}, equal epochs ({equal})"
                    scores.setdefault(label, {})[seed] = same["at"][equal][kind]
    return scores


def print_scores(scores: dict[str, dict]) -> None:
    """The probes' tables."""
    tasks = tasks_of(scores)
    print(header("", [*tasks, "macro", "seeds"]))
    for label, seeds in scores.items():
        cells = [spread([float(np.mean(one[task])) for one in seeds.values()]) for task in tasks]
        whole = spread([macro(one) for one in seeds.values()])
        print(f"| {label} | {' | '.join(cells)} | {whole} | {len(seeds)} |")
    for label, seeds in scores.items():
        if label == EARLY_STOPPING or label.startswith("ours, equal time"):
            print_differences(label, seeds, {name: of for name, of in scores.items() if name != label})


def print_differences(title: str, mine: dict[int, dict], others: dict[str, dict[int, dict]]) -> None:
    """Differences of one row from the others, over the seeds that both have."""
    tasks = tasks_of({title: mine, **others})
    print(header(f"{title}, minus", [*tasks, "macro"]))
    for label, seeds in others.items():
        pairs = [(mine[seed], seeds[seed]) for seed in sorted(mine.keys() & seeds.keys())]
        if not pairs:
            continue
        less = [[float(np.mean(a[task]) - np.mean(b[task])) for a, b in pairs] for task in tasks]
        cells = [interval(of_task) for of_task in (*less, [macro(a) - macro(b) for a, b in pairs])]
        print(f"| {label} | {' | '.join(cells)} |")


def print_speed(pieces: Measurements, options: argparse.Namespace, epoch_s: EpochSeconds) -> None:
    """The tables of time, memory and reads; epochs are those of views of full size."""
    print("\n| | epoch, s | frames/s | views alone, frames/s | peak memory | epoch against ours |")
    print("|---|---|---|---|---|---|")
    for arm in TIMED:
        some = [one for n in range(options.rounds) if (one := pieces.load(f"rate-{arm}-{n}"))]
        frames, peak = some[0]["frames"], max(one["peak_bytes"] for one in some)
        alone = (pieces.load(f"data_rate-{arm}") or {}).get("frames_per_s", math.nan)
        full, mine = epoch_s[arm][options.image_size], epoch_s["ours"][options.image_size]
        print(
            f"| {arm} | {full:.2f} | {frames / full:.1f} | {alone:.0f} | {peak / 1e9:.2f} GB | "
            f"{full / mine:.2f} |"
        )
    print(f"\nours, seconds of an epoch by size of views: {epoch_s['ours']}")
    theirs = pieces.load("end_to_end-reference")
    for sizes in SIZES:
        of_sizes = [one for n in range(options.rounds) if (one := pieces.load(f"end_to_end-{sizes}-{n}"))]
        if theirs and of_sizes:
            print_end_to_end(theirs, of_sizes, sizes)
    if theirs:
        print(f"\nframes read by the reference: {theirs['reads']}")
        print("accuracy as reported: reference, frames apart", theirs["accuracy"])
    if other := pieces.load("by_patient-reference"):
        print("reference, patients apart", other["accuracy"])


def print_end_to_end(theirs: dict, mine: list[dict], sizes: str) -> None:
    """The whole work, the median of ours; the reference without its start, which is this program's."""
    median = {name: statistics.median(one["stages"][name] for one in mine) for name in mine[0]["stages"]}
    whole = sum(theirs[name] for name in ("pretraining", "heads", "figures"))
    rows = [
        ("pretraining, s", theirs["pretraining"], median["pretraining"]),
        ("heads with their features, s", theirs["heads"], median["features"] + median["heads"]),
        ("all, s", whole, statistics.median(one["process_s"] for one in mine)),
        ("peak memory, GB", theirs["peak_bytes"] / 1e9, max(one["peak_bytes"] for one in mine) / 1e9),
    ]
    print(f"\n| end to end, --view-sizes {sizes} | reference | ours | ratio |\n|---|---|---|---|")
    for name, a, b in rows:
        print(f"| {name} | {a:.1f} | {b:.1f} | {a / b:.2f} |")
    print(f"\nours, stages: {median}; files: {mine[0]['counts']['files']}")
    print("accuracy as reported: ours, patients apart", mine[0]["accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder in the bucket's layout")
    parser.add_argument("--out", type=Path, required=True, help="where pieces are kept")
    defaults = {"image-size": 64, "epochs": 10, "linear-epochs": 60, "seconds": 600, "seeds": 3, "rounds": 3}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", choices=("rates", "scores", "end-to-end"))
    parser.add_argument("--arms", nargs="+", choices=SCORED, default=SCORED, help="of the scores")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    options.data = str(Path(options.data).resolve())
    pieces = Measurements(options)
    if not options.table:
        measure_rates(pieces, options.rounds)
    epoch_s = epoch_seconds(pieces, options.rounds)
    if not all(epoch_s.values()):
        sys.exit("no rates are measured yet; leave out --table")
    if not options.table and options.only in (None, "end-to-end"):
        measure_end_to_end(pieces, options)
    if not options.table and options.only in (None, "scores"):
        measure_scores(pieces, options, epoch_s)
    print_speed(pieces, options, epoch_s)
    print_scores(read_scores(pieces, options, epoch_s))
    print(f"\npieces by version of the program: {pieces.commits()}")


if __name__ == "__main__":
    main()
