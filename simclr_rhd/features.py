"""Frozen extraction: each labelled frame goes through the encoder once."""

import numpy as np
import torch
from torch import nn

from simclr_rhd.augment import plain_view
from simclr_rhd.shards import Frames

EXTRACTION_BATCH = 64


@torch.inference_mode()
def extract(
    encoder: nn.Module, frames: np.ndarray | Frames, rows: np.ndarray, *, size: int, device: torch.device
) -> np.ndarray:
    """Features of the plain views of some frames.

    Args:
        encoder: (B, 3, s, s) -> (B, 512); used in eval mode, its mode is put back.
        frames: (N, C, S, S) uint8 store.
        rows: (n,) which of them.
        size: s, pixels of a view's side.
        device: where the encoder is.

    Returns:
        (n, 512) float32; a frame's features do not depend on the others.
    """
    was_training = encoder.training
    encoder.eval()
    features = []
    for first in range(0, len(rows), EXTRACTION_BATCH):
        some = torch.from_numpy(frames[rows[first : first + EXTRACTION_BATCH]]).to(device)
        features.append(encoder(plain_view(some, size=size)).float().cpu())
    encoder.train(was_training)
    return torch.cat(features).numpy()
