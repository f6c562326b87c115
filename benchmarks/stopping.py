"""A run that stops by itself against a whole annealed course of as many epochs, by the probe of `versus`.

    .venv/bin/python benchmarks/stopping.py --data FOLDER|demo [--seeds 0 1 2] [--bounds 300 1000]

The run holds frames out to stop by; the whole course learns from all. With several `--bounds` the run is
repeated with other upper bounds of its epochs: what it keeps must not depend on them.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from versus import ours, protocol  # noqa: E402

from simclr_rhd.core import device as runtime  # noqa: E402
from simclr_rhd.data.dataset import Dataset  # noqa: E402

print = partial(print, flush=True)


def format_scores(scores: dict[str, list[float]]) -> str:
    """Each task's balanced accuracy, and their mean."""
    tasks = " ".join(f"{task} {np.mean(values):.3f}" for task, values in scores.items())
    return f"{tasks} macro {protocol.macro(scores):.3f}"


def train_with_early_stopping(dataset: Dataset, size: int, seed: int, bound: int) -> tuple[float, int]:
    """Macro of what the run keeps, and its epochs."""
    with tempfile.TemporaryDirectory() as folder:
        encoder, history = ours.train_with_early_stopping(
            dataset, Path(folder), size=size, seed=seed, epochs=bound
        )
    scores = protocol.evaluate_encoder(encoder, dataset, size=size)
    annealed = sum(record.annealing for record in history)
    length = f"{len(history)} epochs, of them {annealed} annealing"
    print(f"seed {seed} stops (bound {bound}): {format_scores(scores)}; {length}")
    return protocol.macro(scores), len(history)


def train_all_epochs(dataset: Dataset, size: int, seed: int, epochs: int) -> float:
    """Macro after a course planned for `epochs`, no frame held out."""
    run = ours.Pretraining(dataset, size=size, seed=seed, epochs=epochs)
    for _ in range(epochs):
        run.epoch()
    scores = protocol.evaluate_encoder(run.encoder, dataset, size=size)
    print(f"seed {seed} whole course: {format_scores(scores)}; {epochs} epochs")
    return protocol.macro(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bounds", type=int, nargs="+", default=[300])
    args = parser.parse_args()
    runtime.make_deterministic()
    with tempfile.TemporaryDirectory() as cache:
        dataset = protocol.read(args.data, Path(cache), image_size=args.size)
        differences = []
        for seed in args.seeds:
            runs = [train_with_early_stopping(dataset, args.size, seed, bound) for bound in args.bounds]
            stopped, epochs = runs[0]
            for bound, (other, length) in zip(args.bounds[1:], runs[1:], strict=True):
                print(f"seed {seed} bound {bound}: macro {other - stopped:+.3f}, {length - epochs:+d} epochs")
            differences.append(stopped - train_all_epochs(dataset, args.size, seed, epochs))
        print(f"stops - whole course: macro {protocol.interval(differences)} over {len(differences)} seeds")


if __name__ == "__main__":
    main()
