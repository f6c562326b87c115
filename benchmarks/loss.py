"""NT-Xent against that of lightly 1.6: forward and backward on embeddings in memory.

    .venv/bin/python -m pip install lightly==1.6.*
    .venv/bin/python benchmarks/loss.py [--runs 7] [--dimension 128] [--seconds 0.3]

Both run in this process in turn, each for some repeats; the medians over the runs are printed. The ratio says
how many times as long lightly takes. By how much their losses and gradients differ is printed beside it.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from simclr_rhd.ssl.loss import nt_xent

ROWS = (128, 256, 512, 1024, 2048, 4096)  # 2N
TEMPERATURE = 0.5


def lightly_loss():
    try:
        from lightly.loss import NTXentLoss
    except ImportError as error:
        sys.exit(f"this compares with lightly, which is not installed ({error}): pip install lightly==1.6.*")
    return NTXentLoss(temperature=TEMPERATURE)


def project_loss(z0, z1):
    return nt_xent(z0, z1, TEMPERATURE)


def time_once(loss, z0, z1):
    """Loss and gradients, (), (N, D) and (N, D)."""
    value = loss(z0, z1)
    return value.detach(), *torch.autograd.grad(value, [z0, z1])


def seconds_each(loss, z0, z1, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        time_once(loss, z0, z1)
    return (time.perf_counter() - start) / repeats


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one run, at least three repeats")
    options = parser.parse_args()
    losses = {"project": project_loss, "lightly": lightly_loss()}
    print(f"D = {options.dimension}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("  2N   project    lightly   ratio   loss differs by   gradient by   its largest")
    for rows in ROWS:
        generator = torch.Generator().manual_seed(rows)
        z0, z1 = (
            torch.randn(rows // 2, options.dimension, generator=generator, requires_grad=True)
            for _ in range(2)
        )
        ours, theirs = (time_once(loss, z0, z1) for loss in losses.values())
        apart = [float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True)]
        largest = max(float(gradient.abs().max()) for gradient in ours[1:])
        repeats = {
            name: max(3, round(options.seconds / seconds_each(loss, z0, z1, 3)))
            for name, loss in losses.items()
        }
        taken = {name: [] for name in losses}
        for _ in range(options.runs):
            for name, loss in losses.items():
                taken[name].append(seconds_each(loss, z0, z1, repeats[name]))
        project, lightly = (statistics.median(taken[name]) for name in losses)
        print(
            f"{rows:>4} {project * 1e3:>6.2f} ms {lightly * 1e3:>7.2f} ms {lightly / project:>7.2f}"
            f" {apart[0]:>17.1e} {max(apart[1:]):>13.1e} {largest:>13.1e}"
        )


if __name__ == "__main__":
    main()
