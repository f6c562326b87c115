"""Grad-CAM (Selvaraju et al. 2017): the parts of a frame that speak for a class of a head.

Notation: B frames, s pixels of a view's side, D channels of the encoder's last block, h fields of its side.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simclr_rhd.heads.model import Heads
from simclr_rhd.ssl.augment import eval_view


@dataclass(frozen=True)
class Logits:
    """Logits of a head, one of each frame.

    Attributes:
        task: of the head.
        outputs: (B,) the class, or the lesion.
        signs: (B,) 1 for what speaks for it, -1 for what speaks against it.
    """

    task: str
    outputs: np.ndarray
    signs: np.ndarray


@torch.inference_mode()
def grad_cam(
    encoder: nn.Module,
    heads: Heads,
    frames: np.ndarray,
    logits: Logits,
    *,
    size: int,
) -> tuple[np.ndarray, int]:
    """Grad-CAM of some frames on the last block, for one logit of each.

    The features are the map's mean over its fields and the heads are linear, so the gradient of a logit is
    the same in every field, w_d / (σ_d T h²), and no backward pass is needed: there Grad-CAM is CAM (Zhou et
    al. 2016).

    Args:
        encoder: a ResNet, used in eval mode; its mode is put back.
        heads: on its features.
        frames: (B, C, S, S) uint8.
        logits: one of each frame.
        size: s.

    Returns:
        (B, s, s) float32, 0 where nothing speaks for the class, 1 where most does (all 0 where nothing at
        all); and h.
    """
    device, was_training = next(encoder.parameters()).device, encoder.training
    maps: list[Tensor] = []
    handle = encoder.get_submodule("layer4").register_forward_hook(lambda *parts: maps.append(parts[2]))
    encoder.eval()
    try:
        encoder(eval_view(torch.from_numpy(frames).to(device), size=size))
    finally:
        handle.remove()
        encoder.train(was_training)
    activations = maps[0].float().cpu()  # (B, D, h, h)
    weights = heads.get_submodule(f"linear.{logits.task}").get_parameter("weight").cpu()  # (C, D)
    slopes = weights[torch.from_numpy(logits.outputs)] / heads.std.cpu()  # (B, D), up to a positive factor
    slopes = slopes * torch.from_numpy(logits.signs).float()[:, None]
    cam = torch.einsum("bd,bdhw->bhw", slopes, activations).relu()
    cam = F.interpolate(cam[:, None], size=(size, size), mode="bicubic", antialias=False)[:, 0].clamp(min=0)
    largest = cam.amax(dim=(1, 2), keepdim=True)
    return (cam / largest.clamp(min=1e-12)).numpy(), activations.shape[-1]
