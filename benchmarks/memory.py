"""Peak memory of training steps with and without pieces, each in a process of its own.

    .venv/bin/python benchmarks/memory.py [--image-size 96] [--batch-size 64 512] [--micro-batch 64]

Prints the peak of each batch size, of the largest one in pieces, and what that is of the smallest one's.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEPS = """
import sys, time, torch, numpy as np
sys.path.insert(0, {root!r})
from simclr_rhd.core import device as runtime
from simclr_rhd.planning import profiler as probe
from simclr_rhd.planning.process_memory import peak_memory
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.optim import make_optimizer
from simclr_rhd.planning.precision import resolve_precision
from simclr_rhd.ssl.step import Step
runtime.make_deterministic()
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = build("random", seed=0).to(device).train()
optimizer = make_optimizer(model, "adamw", learning_rate=1e-3, weight_decay=0.01)
settings = TrainingSettings(micro_batch={micro_batch}, precision=resolve_precision("auto", device))
step = Step(model, PretrainConfig(image_size={size}), settings, device)
for _ in range(2):
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    float(step.backward(probe.make_batch({batch}, size={size}, grey=True)))
    optimizer.step()
print(peak_memory(device), time.perf_counter() - start)
"""


def measure(size, batch, piece):
    code = STEPS.format(root=str(ROOT), size=size, batch=batch, micro_batch=piece)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    peak, seconds = map(float, done.stdout.split())
    pieces = f" in pieces of {piece}" if piece else ""
    print(f"batch {batch}{pieces}: {peak / 1e9:.2f} GB, {seconds:.1f} s a step", flush=True)
    return peak


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, nargs=2, default=[64, 512])
    parser.add_argument("--micro-batch", type=int, default=64)
    options = parser.parse_args()
    small, large = options.batch_size
    peak = measure(options.image_size, small, None)
    in_pieces = measure(options.image_size, large, options.micro_batch)
    print(f"{large} in pieces of {options.micro_batch}: {in_pieces / peak:.2f} times the memory of {small}")
    measure(options.image_size, large, None)


if __name__ == "__main__":
    main()
