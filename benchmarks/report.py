"""The report: how large it is, how long it takes, and what maps in a process of their own save.

One epoch of the built-in data (3,200 labelled frames), or of a folder, then `--runs` times
the same end of the run, once with t-SNE and UMAP beside the rest and once with both where they are wanted.

    .venv/bin/python benchmarks/report.py [--data FOLDER] [--image-size 64] [--runs 3]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("features", "heads", "comparators", "metrics", "figures", "report", "maps")
# The same program, but the maps are computed only once they are asked for, in the run's own process.
SEQUENTIAL_MAPS = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import main
from simclr_rhd.report.page import embedding_map

class SequentialMaps(embedding_map.EmbeddingWorker):
    def __init__(self, features, *, seed, rehearsal):
        self.features, self.options = features, {"seed": seed, "rehearsal": rehearsal}
    def __exit__(self, *_):
        pass
    def maps(self, timeout_s=None):
        return dict(zip(embedding_map.METHODS, embedding_map.project(self.features, **self.options)))

embedding_map.EmbeddingWorker = SequentialMaps
raise SystemExit(main.main())
"""


def seconds_after_features(command: list[str], save_dir: Path) -> float:
    """Seconds from the features to the end, by the run's own record."""
    record = save_dir / "run.json"
    if record.exists():
        facts = json.loads(record.read_text())
        record.write_text(json.dumps(facts | {"status": "unfinished", "wall_s": {}}))
    subprocess.run([*command, "--save-dir", str(save_dir)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    wall_s = json.loads(record.read_text())["wall_s"]
    return sum(wall_s[stage] for stage in STAGES)


def run() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="demo")
    parser.add_argument("--image-size", default="64")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = [
            "--data",
            options.data,
            "--image-size",
            options.image_size,
            "--cache-dir",
            str(folder / "cache"),
        ]
        flags += ["--epochs", "1", "--linear-epochs", "60", "--no-rehearsal"]
        beside = [sys.executable, "main.py", *flags]
        in_turn = [sys.executable, "-c", SEQUENTIAL_MAPS, str(ROOT), *flags]
        start = time.perf_counter()
        seconds_after_features(beside, folder / "out")
        print(f"one epoch and all that follows: {time.perf_counter() - start:.0f} s")
        pairs = [
            (seconds_after_features(beside, folder / "out"), seconds_after_features(in_turn, folder / "out"))
            for _ in range(options.runs)
        ]
        record = json.loads((folder / "out" / "run.json").read_text())
        size = (folder / "out" / "report.html").stat().st_size
        print(f"report.html of {record['counts']['labelled']} labelled frames: {size / 1e6:.2f} MB")
        for what, times in zip(("beside the rest", "in turn"), zip(*pairs, strict=True), strict=True):
            text = ", ".join(f"{seconds:.1f}" for seconds in sorted(times))
            print(f"from the features to the end, maps {what}: {statistics.median(times):.1f} s of {text}")
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"in turn ÷ beside: median {ratio:.2f}")


if __name__ == "__main__":
    run()
