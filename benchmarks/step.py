"""The training loop against its bare step: forward, backward and optimizer on a tensor in memory.

    python benchmarks/step.py [--image-size 64 96 224] [--batch-size 64] [--runs 5] [--steps 8]

The loop is the program's own (`Pretraining.train_epoch`): reading from a memory-mapped store, random numbers,
two views, NT-Xent, optimizer, the moving average, the state that a stop could save. Both run in this process,
in turn; the median ratio over the runs is printed for each size.
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
from simclr_rhd.augment import PRESETS, stored_side
from simclr_rhd.loss import nt_xent
from simclr_rhd.model import build
from simclr_rhd.optim import make_optimizer
from simclr_rhd.pretrain import Pretraining
from simclr_rhd.shards import Frames, ShardWriter
from simclr_rhd.step import Step


def bare_steps(model, optimizer, views, steps):
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        z0, z1 = model(views).chunk(2)
        nt_xent(z0, z1).backward()
        optimizer.step()
    return (time.perf_counter() - start) / steps


def make_run(folder, size, n, batch_size, kind):
    rng, side, writer = np.random.default_rng(0), stored_side(size), ShardWriter(folder)
    for _ in range(n):
        writer.append(rng.integers(0, 256, (1 if kind == 0 else 3, side, side), np.uint8), kind)
    writer.close()
    kinds = np.full(n, kind, np.uint8)
    model, cpu = build("random", seed=0), torch.device("cpu")
    return Pretraining(
        Step(model, size=size, strengths=PRESETS["standard"], temperature=0.5, device=cpu),
        make_optimizer(model, "adamw", learning_rate=1e-3, weight_decay=0.01),
        Frames(folder, kinds, side),
        kinds,
        np.arange(n),
        np.arange(n),
        batch_size=batch_size,
        learning_rate=1e-3,
        epochs=100,
        warmup_epochs=1.0,
        ema_decay=0.99,
        partners=None,
        seed=0,
        num_workers=0,
    )


def compare(folder, size, options):
    run = make_run(folder, size, options.batch_size * options.steps, options.batch_size, int(options.colour))
    views = torch.randn(2 * options.batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
    bare_steps(run.model, run.optimizer, views, 1)
    run.train_epoch()
    run.end_epoch({})
    ratios = []
    for number in range(options.runs):
        bare = bare_steps(run.model, run.optimizer, views, options.steps)
        start = time.perf_counter()
        run.train_epoch()
        run.end_epoch({})
        loop = (time.perf_counter() - start) / options.steps
        ratios.append(bare / loop)
        print(
            f"{size} px, run {number + 1}: bare {bare * 1e3:.0f} ms, loop {loop * 1e3:.0f} ms a step, "
            f"{options.batch_size / loop:.1f} frames/s, loop at {bare / loop:.1%} of the bare step",
            flush=True,
        )
    return statistics.median(ratios)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-size", type=int, nargs="+", default=[64, 96, 224])
    for name, default in {"batch-size": 64, "runs": 5, "steps": 8}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--colour", action="store_true", help="tinted frames instead of grey ones")
    options = parser.parse_args()
    runtime.prepare_torch()
    medians = {}
    for size in options.image_size:
        with tempfile.TemporaryDirectory() as folder:
            medians[size] = compare(Path(folder), size, options)
    for size, median in medians.items():
        print(f"median at {size} px: {median:.1%}")
    print(f"batch {options.batch_size}, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
