"""Grad-CAM (Selvaraju et al. 2017): the parts of a frame that speak for a class of a head.

Notation: B frames, s pixels of a view's side, D channels of a stage of the encoder, h fields of its side.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from simclr_rhd.heads.model import Heads
from simclr_rhd.ssl.augment import eval_view
from simclr_rhd.ssl.encoder.model import FEATURE_DIM, STAGE_DIMS, stage_maps


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
) -> np.ndarray:
    """Grad-CAM of some frames on the four stages, for one logit of each: the sum of the stages' maps.

    The features are the means of the stages' maps and the heads are linear, so the gradient of a logit is the
    same in every field, w_d / (σ_d T h²), and no backward pass is needed: there Grad-CAM is CAM (Zhou et al.
    2016). A logit less its bias is the mean of the summed map: each channel counts by its difference to its
    mean over the training frames.

    Args:
        encoder: a ResNet, used in eval mode; its mode is put back.
        heads: on its features.
        frames: (B, C, S, S) uint8.
        logits: one of each frame.
        size: s.

    Returns:
        (B, s, s) float32, 0 where nothing speaks for the class, 1 where most does (all 0 where nothing at
        all).
    """
    device, was_training = next(encoder.parameters()).device, encoder.training
    encoder.eval()
    try:
        maps = stage_maps(encoder, eval_view(torch.from_numpy(frames).to(device), size=size))
    finally:
        encoder.train(was_training)
    weights = heads.get_submodule(f"linear.{logits.task}").get_parameter("weight").cpu()  # (C, D)
    slopes = weights[torch.from_numpy(logits.outputs)] / heads.std.cpu()  # (B, D), up to a positive factor
    slopes = slopes * torch.from_numpy(logits.signs).float()[:, None]
    total = -(slopes @ heads.mean.cpu())[:, None, None].repeat(1, size, size)
    slopes = F.pad(slopes, (FEATURE_DIM - slopes.shape[1], 0))  # heads of old models see the last stage alone
    for of_stage, activations in zip(slopes.split(STAGE_DIMS, dim=1), maps, strict=True):
        cam = torch.einsum("bd,bdhw->bhw", of_stage, activations.float().cpu())[:, None]
        total += F.interpolate(cam, size=(size, size), mode="bicubic", antialias=False)[:, 0]
    total.relu_()
    return (total / total.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)).numpy()
