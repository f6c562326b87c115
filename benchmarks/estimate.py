"""Time and peak memory by `main.py estimate` beside those of the run itself.

    .venv/bin/python benchmarks/estimate.py --data FOLDER [--image-size 96 224] [--epochs 2]

For each size, `estimate` on an empty cache folder, then the run (all epochs, figures too) as a process of
its own, whose peak the kernel keeps. The ratios foretold/measured are to be within 0.75 and 1.25.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments):
    """A command's output, seconds and peak bytes, its own and not those of its children."""
    start, peak = time.perf_counter(), 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "main.py", *arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        output.seek(0)
        text = output.read()
    assert status == 0, text
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return text, time.perf_counter() - start, peak


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="demo")
    parser.add_argument("--image-size", type=int, nargs="+", default=[96, 224])
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    for size in options.image_size:
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--data", options.data, "--image-size", str(size), "--epochs", str(options.epochs)]
            flags += ["--linear-epochs", "60", "--patience", str(options.epochs + 1)]
            flags += ["--cache-dir", f"{folder}/cache", "--save-dir", f"{folder}/models"]
            text, seconds, _ = run("estimate", *flags)
            print(f"estimate at {size} px took {seconds:.0f} s")
            foretold = json.loads(re.search(r"for programs: (\{.*\})", text)[1])
            _, wall, peak = run(*flags)
            record = json.loads(Path(folder, "models", "run.json").read_text())
            stages = record["wall_s"]
            for name, estimated, measured in (
                ("peak memory, GB", foretold["peak_bytes"] / 1e9, peak / 1e9),
                ("whole run, s", foretold["most_s"], wall),
                ("an epoch, s", foretold["epoch_s"], stages["pretraining"] / options.epochs),
            ):
                print(
                    f"{size} px, {name}: foretold {estimated:.1f}, measured {measured:.1f}, "
                    f"ratio {estimated / measured:.2f}"
                )
            print(f"{size} px, stages of the run: {stages}", flush=True)


if __name__ == "__main__":
    main()
