"""The floating-point type of the training, chosen by measuring.

A processor that has instructions for bfloat16 may gain a factor or nothing by them, and one that emulates it
loses a factor of ten and more: a step of the network itself tells.
"""

import logging
import time
from functools import cache

import torch

from simclr_rhd.core.config import AUTO
from simclr_rhd.core.errors import UserError
from simclr_rhd.ssl.encoder.model import build
from simclr_rhd.ssl.step import PRECISIONS

logger = logging.getLogger("simclr_rhd")

PROFILED_VIEWS, PROFILED_SIZE, PROFILED_ROUNDS = 32, 64, 3  # of the measured steps
MIN_SPEEDUP_AUTO = 1.15  # speed-up from which bfloat16 is taken: a smaller one may be the machine's noise
MIN_SPEEDUP_EXPLICIT = 0.5  # speed-up from which bfloat16 may be asked for


def resolve_precision(name: str, device: torch.device) -> str:
    """The floating-point type of the training, a key of `PRECISIONS`, as `--precision` asks.

    On a GPU bfloat16 where it has the instructions, else float16.

    Raises:
        UserError: the device does not have it, or would be much slower with it.
    """
    if device.type == "mps":
        if name not in (AUTO, "float32"):
            raise UserError(f"--precision {name}: was never tried on GPUs of Apple; use float32")
        return "float32"
    if name not in (AUTO, "bfloat16"):
        return name
    if can_use_bfloat16(device, min_speedup=MIN_SPEEDUP_AUTO if name == AUTO else MIN_SPEEDUP_EXPLICIT):
        return "bfloat16"
    if name == "bfloat16":
        raise UserError(
            f"--precision bfloat16: this {'GPU' if device.type == 'cuda' else 'machine'} has no instructions "
            "for it and would be many times slower; use --precision auto or float32"
        )
    return "float16" if device.type == "cuda" else "float32"


def can_use_bfloat16(device: torch.device, *, min_speedup: float = MIN_SPEEDUP_EXPLICIT) -> bool:
    """Return True if training in bfloat16 is at least `min_speedup` times as fast as in float32."""
    if device.type == "mps":
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bfloat16_speedup() >= min_speedup


@cache
def bfloat16_speedup() -> float:
    """Time of a training step in float32 to that in bfloat16 on this processor, measured in a second.

    0 where the first two steps in bfloat16 already take many times as long.
    """
    if not torch.backends.mkldnn.is_available():
        return 0.0
    model = build("random", seed=0).train()
    views = torch.randn(
        PROFILED_VIEWS, 3, PROFILED_SIZE, PROFILED_SIZE, generator=torch.Generator().manual_seed(0)
    )
    views = views.contiguous(memory_format=torch.channels_last)
    fastest = dict.fromkeys(("float32", "bfloat16"), float("inf"))
    for round_ in range(1 + PROFILED_ROUNDS):
        for name in fastest:
            model.precision = PRECISIONS[name]
            start = time.perf_counter()
            model(views).float().square().mean().backward()
            fastest[name] = min(fastest[name], time.perf_counter() - start)
        speedup = fastest["float32"] / fastest["bfloat16"]
        if round_ == 1 and speedup < MIN_SPEEDUP_EXPLICIT / 2:
            return 0.0
    logger.info("a step in bfloat16 takes %.2f of the time of one in float32 here", 1 / speedup)
    return speedup
