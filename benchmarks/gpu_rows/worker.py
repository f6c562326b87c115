"""A process of its own for rows of `benchmarks/gpu.py`: ranks that torchrun starts, a run that is killed.

worker.py DEVICE SIZE BATCH OUT.json ranks BACKEND      BACKEND: none, gloo or nccl
worker.py DEVICE SIZE BATCH OUT.json train killed
"""

import dataclasses
import json
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from gpu_rows.bench import TINY, Bench, random_batch, train_step
from simclr_rhd.core import device as runtime
from simclr_rhd.core import distributed as ranks
from simclr_rhd.core.file_names import LAST_CHECKPOINT
from simclr_rhd.runs import checkpoint
from simclr_rhd.ssl.config import PretrainConfig
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.encoder.parallel import convert_sync_batchnorm
from simclr_rhd.ssl.fit import fit
from simclr_rhd.ssl.monitoring.epoch_record import Measurements
from simclr_rhd.ssl.optim import make_optimizer

STEPS = 3  # of a rank
EPOCHS, STEPS_PER_EPOCH, KILLED_AFTER = 2, 3, 4  # epochs; steps; step of the whole run


def run_ranks(device: torch.device, size: int, n: int, backend: str) -> dict:
    """Losses of some steps, and the norm of the first gradient; each rank has its share of the batch."""
    if device.type == "cuda":
        device = torch.device("cuda", ranks.rank() % torch.cuda.device_count())
        torch.cuda.set_device(device)
    if backend != "none":
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if backend == "nccl" else backend
        )  # as `distributed.process_group`
    model = build("random", seed=0).to(device)
    if backend != "none":
        model = convert_sync_batchnorm(model, device)
        model = nn.parallel.DistributedDataParallel(
            model, device_ids=[device] if device.type == "cuda" else None
        )
    step = Bench(device, TINY, Path()).make_step(
        model.train(), size=size, precision="float32", distributed=ranks.world_size() > 1
    )
    optimizer = make_optimizer(model, "adamw", learning_rate=1e-5, weight_decay=0.01)
    losses, gradient = [], None
    for seed in range(STEPS):
        whole = random_batch(n, size, seed=seed)
        share = n // ranks.world_size()
        losses.append(train_step(step, optimizer, whole.micro_batch(ranks.rank() * share, share)))
        if gradient is None:
            grads = [p.grad.flatten() for p in checkpoint.unwrap(model).parameters()]
            gradient = float(torch.cat(grads).norm())
    if backend != "none":
        dist.barrier()
        dist.destroy_process_group()
    return {"losses": losses, "gradient": gradient}


def run_training(device: torch.device, parent: Path, size: int, n: int, how: str) -> dict:
    """`fit` with a checkpoint after each step; 'killed' ends by SIGKILL, 'resumed' goes on from there."""
    bench, folder = Bench(device, TINY, parent), parent / ("whole" if how == "whole" else "stopped")
    folder.mkdir(exist_ok=True)
    frames = np.random.default_rng(0).integers(0, 256, (n * STEPS_PER_EPOCH, 3, size, size), np.uint8)
    run = bench.make_run(batch=n, frames=frames, size=size)
    if how == "resumed":
        run.load_state(checkpoint.load(folder / LAST_CHECKPOINT))
    first_step = len(run.history) * STEPS_PER_EPOCH + run.steps_done

    def on_saved() -> None:
        if how == "killed" and len(run.history) * STEPS_PER_EPOCH + run.steps_done >= KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)

    run.schedule.epochs = EPOCHS
    config = PretrainConfig(
        monitor="training-loss", patience=EPOCHS + 1, min_delta=0.0, checkpoint_minutes=0.0
    )
    fields = dict.fromkeys(field.name for field in dataclasses.fields(Measurements))
    unmeasured = Measurements(**fields | {"uniform": 1.0})  # what a difference of losses is a share of
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(
            run,
            lambda epoch: unmeasured,
            config,
            folder,
            on_epoch=lambda history: None,
            on_checkpoint=on_saved,
        )
    messages = [str(one.message) for one in caught]
    kernels = sorted({text.split()[0] for text in messages if "deterministic" in text})
    digest = checkpoint.digest(checkpoint.unwrap(run.model))
    return {"digest": digest, "kernels": kernels, "resumed_after_steps": first_step}


def main() -> None:
    """Do the work and write what came of it; of ranks, the first one writes."""
    device, size, n, out, what, how = sys.argv[1:]
    runtime.make_deterministic()
    given = int(size), int(n), how
    if what == "ranks":
        results = run_ranks(torch.device(device), *given)
    else:
        results = run_training(torch.device(device), Path(out).parent, *given)
    if ranks.is_main_process():
        Path(out).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
