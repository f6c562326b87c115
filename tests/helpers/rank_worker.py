"""One rank, or the only process, of a short training: writes losses, gradients and weights to a file.

python rank_worker.py RECIPE OUTPUT      (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT as torchrun sets them)
"""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from small_simclr import small_simclr

from simclr_rhd.core import distributed as ranks
from simclr_rhd.runs.checkpoint import unwrap
from simclr_rhd.ssl.batches import Batches, PositiveSampler, UnlabelledSet
from simclr_rhd.ssl.config import PretrainConfig, TrainingSettings
from simclr_rhd.ssl.encoder import parallel
from simclr_rhd.ssl.loss import nt_xent
from simclr_rhd.ssl.optim import make_optimizer
from simclr_rhd.ssl.step import Step

RECIPES = {
    "plain": {},
    "video, pieces, lars": {"positives": "video", "micro_batch": 2},  # of four of a rank: four of both
    "bfloat16": {"precision": "bfloat16"},
}


def train(recipe, device):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (24, 3, 37, 37), np.uint8)
    videos = np.arange(24) // 3
    model = small_simclr(3)
    if recipe != "bfloat16":  # what is rounding in single precision grows with each step
        model.double().register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    alone = ranks.world_size() == 1
    settings = TrainingSettings(
        **RECIPES[recipe] | ({"micro_batch": 4} if "pieces" in recipe and alone else {})
    )
    model = parallel.to_devices(model, device)
    step = Step(model, PretrainConfig(image_size=32), settings, device, distributed=not alone)
    partners = PositiveSampler(np.arange(24), videos) if "video" in recipe else None
    data = UnlabelledSet(frames, np.ones(24, np.uint8), videos, np.arange(24))
    batches = Batches(data, seed=1, epoch=1, positive_sampler=partners)
    name, rate = ("lars", 0.3) if "lars" in recipe else ("adamw", 1e-3)
    optimizer = make_optimizer(step.model, name, learning_rate=rate, weight_decay=0.01)
    found = {"losses": [], "gradients": []}
    step.model.train()
    for first in (0, 8, 16):
        rows = np.arange(first, first + 8)
        if "pieces" in recipe and ranks.world_size() == 1:  # the order in which two ranks' pieces meet
            rows = rows.reshape(2, 2, 2).transpose(1, 0, 2).ravel()
        optimizer.zero_grad()
        found["losses"].append(float(step.backward(batches[ranks.shard(rows)])))
        found["gradients"].append({n: p.grad.clone() for n, p in unwrap(step.model).named_parameters()})
        optimizer.step()
    return found | {"state": unwrap(step.model).state_dict()}


def gradients_across_ranks():
    """Loss and gradient of NT-Xent alone, of this rank's rows."""
    z = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    z0, z1 = (ranks.shard(view).clone().requires_grad_() for view in z)
    loss = nt_xent(z0, z1, 0.3, gather_negatives=ranks.world_size() > 1)
    loss.backward()
    return {"loss": loss.detach(), "gradient": torch.stack([z0.grad, z1.grad])}


if __name__ == "__main__":
    cpu = torch.device("cpu")
    torch.set_num_threads(1)
    with ranks.process_group(cpu):
        torch.save(
            {"alone": gradients_across_ranks()} | {recipe: train(recipe, cpu) for recipe in RECIPES},
            f"{sys.argv[1]}.{ranks.rank()}",
        )
