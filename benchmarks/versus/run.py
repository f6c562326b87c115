"""The program beside its peers: same frames, same machine, same size, same batch; one table.

    pip install -r benchmarks/versus/requirements.txt
    python benchmarks/versus/run.py --data FOLDER --out FOLDER

Competitors: the published implementation's recipe written anew (`reference.py`), lightly 1.6 by its example
(`peer_lightly.py`), this program by its defaults (`ours.py`); raw pixels and a random encoder stand beside
them. First the rates are measured, in turn, so leave the machine alone for that; a competitor's epoch time
then turns the wall-clock budget into epochs, so that its scores do not depend on what else the machine does.
Each piece is kept in --out and not repeated; --table prints what is there.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ARMS = ("reference", "lightly", "ours")
TASKS = ("view", "condition", "severity")


def memory_of(pid: int) -> int:
    """Bytes that a process and those below it take, what they share counted once (Linux)."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):  # it ended meanwhile
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
    family, found = set(), {pid}
    while found:
        family |= found
        found = {child for child, parent in parents.items() if parent in found} - family
    total = 0
    for member in family:
        with suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def run(command: list[str]) -> tuple[str, float, int]:
    """Output, seconds and peak memory of a command."""
    begun, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.5):
                peak = max(peak, memory_of(child.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        out, err = child.communicate()
        done.set()
        watcher.join()
    if child.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{err[-3000:]}")
    return out, time.perf_counter() - begun, peak


class Pieces:
    """What was measured, kept as one JSON file for each piece."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.out, self.options = options.out, options
        (self.out / "cache").mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        return self.out / f"{name}.json"

    def known(self, name: str) -> dict | None:
        return json.loads(self.path(name).read_text()) if self.path(name).exists() else None

    def keep(self, name: str, found: dict) -> dict:
        part = self.out / f"{name}.part"
        part.write_text(json.dumps(found, indent=1))
        os.replace(part, self.path(name))
        print(f"{name}: done", flush=True)
        return found

    def of_worker(self, name: str, **told: object) -> dict:
        """A piece that a worker makes."""
        if found := self.known(name):
            return found
        told |= {"data": self.options.data, "cache": str(self.out / "cache"), "size": self.options.image_size}
        out, seconds, peak = run([sys.executable, str(HERE / "worker.py"), json.dumps(told)])
        found = json.loads(out.splitlines()[-1])
        return self.keep(name, found | {"process_s": seconds, "peak_bytes": peak})


def measure_rates(pieces: Pieces, rounds: int) -> dict[str, float]:
    """{arm: seconds of an epoch}, the median over all rounds, arms in turn."""
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for number in range(rounds):
        for arm in ARMS:
            seconds[arm] += pieces.of_worker(f"rate-{arm}-{number}", what="rate", arm=arm, epochs=2)[
                "seconds"
            ]
    for arm in ARMS:
        pieces.of_worker(f"data_rate-{arm}", what="data_rate", arm=arm)
    return {arm: statistics.median(of_arm) for arm, of_arm in seconds.items()}


def measure_end_to_end(pieces: Pieces, options: argparse.Namespace) -> None:
    """The whole work: ours three times from an empty cache, the reference once."""
    for number in range(options.rounds):
        name = f"end_to_end-ours-{number}"
        if pieces.known(name):
            continue
        folder, cache = options.out / "ours", options.out / "ours-cache"
        for old in (folder, cache):
            shutil.rmtree(old, ignore_errors=True)
        command = [sys.executable, str(ROOT / "main.py"), "--data", options.data, "--patience", "1000"]
        command += ["--image-size", str(options.image_size), "--epochs", str(options.epochs)]
        command += ["--linear-epochs", str(options.linear_epochs), "--num-workers", "1"]
        _, seconds, peak = run([*command, "--save-dir", str(folder), "--cache-dir", str(cache)])
        told = json.loads((folder / "run.json").read_text())
        metrics = json.loads((folder / "metrics.json").read_text())["tasks"]
        accuracy = {task: found["test"]["frame"]["accuracy"] for task, found in metrics.items()}
        found = {"process_s": seconds, "peak_bytes": peak, "stages": told["wall_s"], "accuracy": accuracy}
        pieces.keep(name, found | {"counts": told["counts"], "versions": told["versions"]})
    told = {"arm": "reference", "folder": str(options.out / "reference"), "epochs": options.epochs}
    told["linear_epochs"] = options.linear_epochs
    pieces.of_worker("end_to_end-reference", what="end_to_end", **told)
    pieces.of_worker("by_patient-reference", what="by_patient", **told)


def measure_scores(pieces: Pieces, options: argparse.Namespace, epoch_s: dict[str, float]) -> None:
    """The probes, at equal time and at equal epochs."""
    equal = round(options.seconds / max(epoch_s.values()))
    for seed in range(options.seeds):
        pieces.of_worker(f"untrained-{seed}", what="untrained", arm="ours", seed=seed)
        for arm in ("ours", "lightly", "reference"):
            in_time = round(options.seconds / epoch_s[arm])
            steady = arm != "ours"  # its learning rate is constant, so one run passes through both points
            also = [equal] if steady else []
            told = {"what": "score", "arm": arm, "seed": seed, "epochs": in_time, "also_after": also}
            pieces.of_worker(f"score-{arm}-{seed}", **told)
            if not steady:
                told |= {"epochs": equal}
                pieces.of_worker(f"equal-{arm}-{seed}", **told)


def macro(scores: dict[str, list[float]]) -> float:
    return float(np.mean([np.mean(scores[task]) for task in TASKS]))


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else math.nan:.3f}"


def interval(differences: list[float]) -> str:
    """Mean and 95 % interval of a difference over seeds (Student's t)."""
    from scipy.stats import t

    n = len(differences)
    half = t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / math.sqrt(n) if n > 1 else math.nan
    mean = np.mean(differences)
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


def print_scores(pieces: Pieces, options: argparse.Namespace, epoch_s: dict[str, float]) -> None:
    """The probes' tables."""
    equal = str(round(options.seconds / max(epoch_s.values())))
    found: dict[str, list[dict]] = {}
    for seed in range(options.seeds):
        if untrained := pieces.known(f"untrained-{seed}"):
            for name in ("pixels", "random"):
                found.setdefault(f"{name}", []).append(untrained[name])
        for arm in ARMS:
            run_of = pieces.known(f"score-{arm}-{seed}")
            if run_of is None:
                continue
            last = max(run_of["at"], key=int)
            label = f"{arm}, equal time ({last} epochs)"
            found.setdefault(label, []).append(run_of["at"][last]["scores"])
            same = run_of if arm != "ours" else pieces.known(f"equal-{arm}-{seed}")
            if same and equal in same["at"]:
                label = f"{arm}, equal epochs ({equal})"
                found.setdefault(label, []).append(same["at"][equal]["scores"])
    print("\n| | view (A2C/A4C) | condition | severity | macro | seeds |\n|---|---|---|---|---|---|")
    for label, seeds in found.items():
        cells = [spread([float(np.mean(one[task])) for one in seeds]) for task in TASKS]
        print(f"| {label} | {' | '.join(cells)} | {spread([macro(one) for one in seeds])} | {len(seeds)} |")
    mine = next((seeds for label, seeds in found.items() if label.startswith("ours, equal time")), None)
    if mine is None:
        return
    print(
        "\n| ours, equal time, minus | view (A2C/A4C) | condition | severity | macro |\n|---|---|---|---|---|"
    )
    for label, seeds in found.items():
        if label.startswith("ours"):
            continue
        pairs = list(zip(mine, seeds, strict=False))
        cells = [interval([float(np.mean(a[task]) - np.mean(b[task])) for a, b in pairs]) for task in TASKS]
        print(f"| {label} | {' | '.join(cells)} | {interval([macro(a) - macro(b) for a, b in pairs])} |")


def print_speed(pieces: Pieces, options: argparse.Namespace, epoch_s: dict[str, float]) -> None:
    """The tables of time, memory and reads."""
    print("\n| | epoch, s | frames/s | views alone, frames/s | peak memory | epoch against ours |")
    print("|---|---|---|---|---|---|")
    for arm in ARMS:
        some = [pieces.known(f"rate-{arm}-{number}") for number in range(options.rounds)]
        frames = some[0]["frames"]
        peak = max(one["peak_bytes"] for one in some)
        alone = (pieces.known(f"data_rate-{arm}") or {}).get("frames_per_s", math.nan)
        print(
            f"| {arm} | {epoch_s[arm]:.2f} | {frames / epoch_s[arm]:.1f} | {alone:.0f} | "
            f"{peak / 1e9:.2f} GB | {epoch_s[arm] / epoch_s['ours']:.2f} |"
        )
    theirs, mine = (
        pieces.known("end_to_end-reference"),
        [one for number in range(options.rounds) if (one := pieces.known(f"end_to_end-ours-{number}"))],
    )
    if not theirs or not mine:
        return
    median = {name: statistics.median(one["stages"][name] for one in mine) for name in mine[0]["stages"]}
    heads = median["features"] + median["heads"]  # what the reference's heads do: features are part of it
    total = statistics.median(one["process_s"] for one in mine)
    files = mine[0]["counts"]
    print("\n| end to end | reference | ours | ratio |\n|---|---|---|---|")
    rows = [
        ("pretraining, s", theirs["pretraining"], median["pretraining"]),
        ("heads with their features, s", theirs["heads"], heads),
        ("whole command, s", theirs["process_s"], total),
        ("peak memory, GB", theirs["peak_bytes"] / 1e9, max(one["peak_bytes"] for one in mine) / 1e9),
    ]
    for name, a, b in rows:
        print(f"| {name} | {a:.1f} | {b:.1f} | {a / b:.2f} |")
    print(f"\nours, stages: {median}\nours, counts: {files}\nframes read by the reference: {theirs['reads']}")
    print("accuracy as reported:", {"reference, frames apart": theirs["accuracy"]})
    if other := pieces.known("by_patient-reference"):
        print({"reference, patients apart": other["accuracy"], "ours, patients apart": mine[0]["accuracy"]})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder in the bucket's layout")
    parser.add_argument("--out", type=Path, required=True, help="where pieces are kept")
    for name, default in {
        "image-size": 64,
        "epochs": 10,
        "linear-epochs": 60,
        "seconds": 600,
        "seeds": 3,
        "rounds": 3,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", choices=("rates", "scores", "end-to-end"))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    options.data = str(Path(options.data).resolve())
    pieces = Pieces(options)
    epoch_s = measure_rates(pieces, options.rounds)
    if not options.table:
        if options.only in (None, "end-to-end"):
            measure_end_to_end(pieces, options)
        if options.only in (None, "scores"):
            measure_scores(pieces, options, epoch_s)
    print_speed(pieces, options, epoch_s)
    print_scores(pieces, options, epoch_s)


if __name__ == "__main__":
    main()
