"""Check that runs with `--minutes N` end in time, on the built-in data and an idle machine.

    .venv/bin/python benchmarks/minutes.py [--minutes 3] [--runs 5] [--cores 2]

Each run is a process of its own with an empty folder; the first one has an empty cache, too, so it draws and
decodes the frames. Aimed at: 0.8 to 1.07 times the minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
AIM = (0.8, 1.07)  # of the minutes


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, options.runs + 1):
            save_dir = Path(folder, str(number))
            command = [sys.executable, "main.py", "--data", "demo", "--minutes", f"{options.minutes:g}"]
            command += ["--cache-dir", f"{folder}/cache", "--save-dir", str(save_dir)]
            start = time.perf_counter()
            subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
            minutes = (time.perf_counter() - start) / 60
            ratios.append(minutes / options.minutes)
            record = json.loads((save_dir / "run.json").read_text())
            print(f"run {number}: {minutes:.2f} minutes, {ratios[-1]:.2f} of the time")
            for name in ("time_plan", "plan_changes", "wall_s"):
                print(f"  {name}: {record.get(name)}", flush=True)
    in_time = sum(AIM[0] <= ratio <= AIM[1] for ratio in ratios)
    print(f"{in_time} of {options.runs} runs within {AIM[0]} to {AIM[1]} of the time")
    return 0 if in_time == options.runs else 1


if __name__ == "__main__":
    raise SystemExit(main())
