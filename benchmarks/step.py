"""The training loop against its bare step: forward, backward and optimizer on a tensor in memory.

    python benchmarks/step.py [--image-size 64] [--batch-size 64] [--runs 5] [--steps 8]

The loop is the program's own (`Pretraining.train_epoch`): reading from a memory-mapped store, random numbers,
two views, NT-Xent, optimizer. Both run in this process in turn; the median ratio over the runs is printed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simclr_rhd import runtime
from simclr_rhd.augment import Strengths
from simclr_rhd.loss import nt_xent
from simclr_rhd.model import build
from simclr_rhd.pretrain import Pretraining
from simclr_rhd.store import stored_side


def bare_steps(model, optimizer, views, steps):
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        z0, z1 = model(views).chunk(2)
        nt_xent(z0, z1).backward()
        optimizer.step()
    return (time.perf_counter() - start) / steps


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"image-size": 64, "batch-size": 64, "runs": 5, "steps": 8}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--colour", action="store_true", help="tinted frames instead of grey ones")
    options = parser.parse_args()
    runtime.prepare_torch()
    n, side = options.batch_size * options.steps, stored_side(options.image_size)
    with tempfile.TemporaryDirectory() as folder:
        frames = np.memmap(Path(folder) / "frames.u8", np.uint8, "w+", shape=(n, 3, side, side))
        frames[:] = np.random.default_rng(0).integers(0, 256, (n, 1, side, side))
        kinds = np.full(n, 1 if options.colour else 0, dtype=np.uint8)
        run = Pretraining(
            build("random", seed=0),
            frames,
            kinds,
            batch_size=options.batch_size,
            learning_rate=1e-3,
            epochs=100,
            temperature=0.5,
            size=options.image_size,
            strengths=Strengths(0.5, 0.0, 0.4, 0.2, 0.5),
            seed=0,
            num_workers=0,
            device=torch.device("cpu"),
        )
        views = torch.randn(2 * options.batch_size, 3, options.image_size, options.image_size)
        views = views.contiguous(memory_format=torch.channels_last)
        run.train_epoch(np.arange(2 * options.batch_size), 1)
        bare_steps(run.model, run.optimizer, views, 2)
        ratios = []
        for number in range(options.runs):
            bare = bare_steps(run.model, run.optimizer, views, options.steps)
            start = time.perf_counter()
            run.train_epoch(np.arange(n), number + 2)
            loop = (time.perf_counter() - start) / options.steps
            ratios.append(bare / loop)
            print(
                f"run {number + 1}: bare {bare * 1e3:.0f} ms, loop {loop * 1e3:.0f} ms a step, "
                f"{options.batch_size / loop:.1f} frames/s, loop at {bare / loop:.1%} of the bare step"
            )
    print(
        f"median {statistics.median(ratios):.1%} ({options.image_size} px, batch {options.batch_size}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__})"
    )


if __name__ == "__main__":
    main()
